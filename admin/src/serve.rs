//! The listener: accepts connections within limits, serves them, and stops gracefully.
//!
//! Owns the TCP socket and each connection's task. What is answered is decided by the router it builds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use palabre_engine::door::Door;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower::{Service, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::timeout::TimeoutLayer;

use crate::app::App;
use crate::client::{PeerAddress, is_in};
use crate::config::AdminConfig;
use crate::live::LiveRooms;
use crate::metrics::{Metrics, Source};
use crate::places::{Place, Places};
use crate::store::{Store, StoreError};
use crate::{api, assets, headers, health, livekit};

/// How long a client may take to send a request's headers, and to send the next request.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a request may take altogether, its body included; WebSockets count until their upgrade.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest request line and headers: LiveKit puts its token into the address.
const HEADERS_LIMIT: usize = 64 * 1024;

/// How long to wait after `accept` failed because the system is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the HTTP plane needs of the other parts.
pub struct Parts {
    /// The open database.
    pub store: Store,
    /// The rooms open now: the engine.
    pub live: Arc<dyn LiveRooms>,
    /// The door shared with the telephone menu, so that wrong codes count together.
    pub door: Door,
    /// Counters of the other parts.
    pub sources: Vec<Source>,
    /// Parts that may end on their own, by name, each with whether it runs: `/readyz` asks them.
    pub readiness: Vec<Readiness>,
}

/// Name of a part, as `/readyz` calls it, and whether that part runs now.
pub type Readiness = (&'static str, Box<dyn Fn() -> bool + Send + Sync>);

/// The HTTP plane did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Another program has the port.
    #[error(
        "the port {} of {} is taken by another program; stop that program, or set another port with the key http.bind",
        .address.port(), .address.ip()
    )]
    PortTaken {
        /// Address asked for.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address} (key http.bind): {source}")]
    Listen {
        /// Address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The running HTTP plane. Dropping it leaves the server running.
#[derive(Debug)]
pub struct ServerHandle {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    /// Closed when the task has ended, by whatever cause.
    running: watch::Receiver<()>,
}

impl ServerHandle {
    /// Where it listens: the configured address, with the port the system chose when that was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Completes when the listener has ended, by [`shutdown`](Self::shutdown) or by a bug.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut running = self.running.clone();
        // Nothing is ever sent: the only change is the end.
        async move { while running.changed().await.is_ok() {} }
    }

    /// Accepts nobody any more, lets requests under way finish, closes WebSockets (1001) and returns when
    /// all is closed, or after `grace`, whichever comes first.
    pub async fn shutdown(self, grace: Duration) {
        self.stop.send_replace(true);
        let aborter = self.task.abort_handle();
        if tokio::time::timeout(grace, self.task).await.is_err() {
            aborter.abort();
        }
    }
}

/// Listens and serves until shut down.
///
/// # Errors
/// [`ServeError`]; nothing is left running then.
pub async fn serve(config: AdminConfig, mut parts: Parts) -> Result<ServerHandle, ServeError> {
    let listener = TcpListener::bind(config.bind)
        .await
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::AddrInUse => ServeError::PortTaken {
                address: config.bind,
            },
            _ => ServeError::Listen {
                address: config.bind,
                source,
            },
        })?;
    let address = listener.local_addr().map_err(|source| ServeError::Listen {
        address: config.bind,
        source,
    })?;
    let pages = parts.store.keys.pages().await?;
    let (stop, stopping) = watch::channel(false);
    let metrics = Metrics::new(std::mem::take(&mut parts.sources));
    let app = App::new(config, parts, pages, metrics, stopping.clone());
    let router = router(app.clone());
    let (alive, running) = watch::channel(());
    let task = tokio::spawn(async move {
        let _alive = alive;
        accept(listener, app, router, stopping).await;
    });
    Ok(ServerHandle {
        address,
        stop,
        task,
        running,
    })
}

/// Every route of the HTTP plane.
fn router(app: App) -> Router {
    Router::new()
        .merge(api::router(app.clone()))
        .merge(livekit::router())
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(assets::serve)
        .layer(CompressionLayer::new())
        .layer(from_fn_with_state(app.clone(), headers::secure))
        .layer(CatchPanicLayer::new())
        .layer(TimeoutLayer::with_status_code(
            axum::http::StatusCode::REQUEST_TIMEOUT,
            REQUEST_TIMEOUT,
        ))
        .layer(from_fn_with_state(app.clone(), measure))
        .with_state(app)
}

/// Counts and times every request by its route pattern, which carries no id.
async fn measure(State(app): State<App>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    // Methods of one's own invention would each make a new series.
    let method = match request.method().as_str() {
        method @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH") => {
            method.to_owned()
        }
        _ => "other".to_owned(),
    };
    let response = next.run(request).await;
    let route = route.as_deref().unwrap_or("pages");
    app.metrics
        .request(&method, route, response.status().as_u16(), start.elapsed());
    response
}

async fn accept(
    listener: TcpListener,
    app: App,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let places = Places::new(app.config.connections, app.metrics.connections.clone());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|is_stopping| *is_stopping) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // The connection broke before it was accepted, or descriptors ran out: both pass.
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let is_proxy = is_in(&app.config.trusted_proxies, peer.ip());
        let most = if is_proxy {
            usize::MAX
        } else {
            app.config.connections_per_source
        };
        match Places::enter(&places, peer.ip(), most) {
            Ok(place) => {
                let task = connection(stream, peer, place, router.clone(), stopping.clone());
                tokio::spawn(task);
            }
            Err(full) => app.metrics.connection_refused(full.reason()),
        }
    }
    drop(listener);
    places.empty().await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    place: Arc<Place>,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    // Signalling is small messages that should leave at once.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (router, place) = (router.clone(), Arc::clone(&place));
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(PeerAddress(peer));
            // A WebSocket keeps the place after the HTTP connection has become it.
            request.extensions_mut().insert(place);
            let mut router = router;
            let router = ServiceExt::<Request>::ready(&mut router).await?;
            router.call(request).await
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_buf_size(HEADERS_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let stopped = async {
        stopping
            .wait_for(|is_stopping| *is_stopping)
            .await
            .map(drop)
    };
    tokio::select! {
        // A broken connection is the client's affair.
        _ = connection.as_mut() => return,
        _ = stopped => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
