//! The listeners: accept connections within limits, serve them, and stop gracefully.
//!
//! Owns the TCP sockets and each connection's task. What is answered is decided by the routers it builds.

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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower::{Service, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::timeout::TimeoutLayer;

use crate::app::App;
use crate::appliance::Appliance;
use crate::client::{OwnAddress, PeerAddress, is_in};
use crate::config::AdminConfig;
use crate::health::Health;
use crate::live::LiveRooms;
use crate::metrics::{Metrics, Source};
use crate::places::{Place, Places};
use crate::redirect::{self, Port};
use crate::store::{Store, StoreError};
use crate::tls::{Failed, Greeted, Tls, TlsError};
use crate::{api, assets, headers, health, livekit};

/// How long a client may take to send a request's headers, and to send the next request.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a request may take altogether, its body included; WebSockets count until their upgrade.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest request line and headers: LiveKit puts its token into the address.
const HEADERS_LIMIT: usize = 64 * 1024;

/// Connections at once to `http.redirect_bind`, in all and from one source. Each has one request and then ends.
const REDIRECTS: (usize, usize) = (256, 64);

/// How long to wait after `accept` failed because the system is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the HTTP plane needs of the other parts.
pub struct Parts {
    /// The open database.
    pub store: Store,
    /// The rooms open now: the engine.
    pub live: Arc<dyn LiveRooms>,
    /// The box under the program, when there is one.
    pub appliance: Option<Appliance>,
    /// The door shared with the telephone menu, so that wrong codes count together.
    pub door: Door,
    /// Where telephones are answered, when they are: told to people unless the configuration names another address.
    pub sip: Option<SocketAddr>,
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
        "the port {} of {} is taken by another program; stop that program, or set another port with the key {key}",
        .address.port(), .address.ip()
    )]
    PortTaken {
        /// Address asked for.
        address: SocketAddr,
        /// The key of the configuration that asks for it.
        key: &'static str,
    },
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address} (key {key}): {source}{}",
        palabre_engine::net::remedy(source)
    )]
    Listen {
        /// Address asked for.
        address: SocketAddr,
        /// The key of the configuration that asks for it.
        key: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// HTTPS cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The database fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The running HTTP plane. Dropping it leaves the server running.
#[derive(Debug)]
pub struct ServerHandle {
    address: SocketAddr,
    redirect_address: Option<SocketAddr>,
    is_tls: bool,
    health: Health,
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

    /// Where plain HTTP is sent to https from, if anywhere.
    pub fn redirect_address(&self) -> Option<SocketAddr> {
        self.redirect_address
    }

    /// The pages at [`address`](Self::address), without a slash at the end.
    pub fn url(&self) -> String {
        let (scheme, usual) = if self.is_tls {
            ("https", 443)
        } else {
            ("http", 80)
        };
        let mut url = format!("{scheme}://{}", self.address);
        if self.address.port() == usual {
            url.truncate(url.len() - format!(":{usual}").len());
        }
        url
    }

    /// How all parts are, as `/readyz` says it.
    pub fn health(&self) -> Health {
        self.health.clone()
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
    let tls = Tls::open(&config)?;
    let (listener, address) = listen(config.bind, "http.bind").await?;
    let redirect = match config.redirect_bind {
        Some(bind) => Some(listen(bind, "http.redirect_bind").await?),
        None => None,
    };
    let redirect_address = redirect.as_ref().map(|(_, address)| *address);
    let pages = parts.store.keys.pages().await?;
    let (stop, stopping) = watch::channel(false);
    let metrics = Metrics::new(std::mem::take(&mut parts.sources));
    let is_tls = tls.is_some();
    let app = App::new(config, parts, pages, metrics, tls, stopping.clone());
    let health = Health::of(app.clone());
    let (alive, running) = watch::channel(());
    let task = tokio::spawn(async move {
        let _alive = alive;
        let pages = accept(listener, Front::pages(&app), stopping.clone());
        let redirects = async {
            if let Some((listener, _)) = redirect {
                let front = Front::redirects(&app, Port::Of(address.port()));
                accept(listener, front, stopping).await;
            }
        };
        tokio::join!(pages, redirects);
    });
    Ok(ServerHandle {
        address,
        redirect_address,
        is_tls,
        health,
        stop,
        task,
        running,
    })
}

async fn listen(
    bind: SocketAddr,
    key: &'static str,
) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AddrInUse => ServeError::PortTaken { address: bind, key },
        _ => ServeError::Listen {
            address: bind,
            key,
            source,
        },
    };
    let listener = TcpListener::bind(bind).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// What the connections of one listener get.
#[derive(Clone)]
struct Front {
    app: App,
    /// What is answered.
    router: Router,
    /// What is answered to plain HTTP where TLS is spoken.
    plain: Router,
    tls: Option<Arc<Tls>>,
    places: Arc<Places>,
    /// Places of those on this machine. Where strangers have few, they cannot keep its health check out.
    own_places: Arc<Places>,
    per_source: usize,
}

impl Front {
    /// Of `http.bind`.
    fn pages(app: &App) -> Self {
        let places = Places::new(app.config.connections, app.metrics.connections.clone());
        Self {
            router: router(app.clone()),
            plain: guarded(redirect::router(app.clone(), Port::Same), app.clone()),
            tls: app.tls.clone(),
            own_places: Arc::clone(&places),
            places,
            per_source: app.config.connections_per_source,
            app: app.clone(),
        }
    }

    /// Of `http.redirect_bind`, when https is on `port`.
    fn redirects(app: &App, port: Port) -> Self {
        let (most, per_source) = REDIRECTS;
        let places = || Places::new(most, app.metrics.connections.clone());
        let plain = guarded(redirect::router(app.clone(), port), app.clone());
        Self {
            router: plain.clone(),
            plain,
            tls: None,
            places: places(),
            own_places: places(),
            per_source,
            app: app.clone(),
        }
    }

    async fn empty(&self) {
        self.places.empty().await;
        self.own_places.empty().await;
    }
}

/// Every route of the HTTP plane.
fn router(app: App) -> Router {
    let pages = Router::new()
        .merge(api::router(app.clone()))
        .merge(livekit::router())
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(assets::serve)
        .layer(CompressionLayer::new())
        .layer(from_fn_with_state(app.clone(), headers::secure));
    guarded(pages, app)
}

/// Limits and counts that every request is under.
fn guarded(routes: Router<App>, app: App) -> Router {
    routes
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

async fn accept(listener: TcpListener, front: Front, mut stopping: watch::Receiver<bool>) {
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
        let is_proxy = is_in(&front.app.config.trusted_proxies, peer.ip());
        let most = if is_proxy {
            usize::MAX
        } else {
            front.per_source
        };
        let places = if peer.ip().to_canonical().is_loopback() {
            &front.own_places
        } else {
            &front.places
        };
        match Places::enter(places, peer.ip(), most) {
            Ok(place) => {
                let task = connection(stream, peer, place, front.clone(), stopping.clone());
                tokio::spawn(task);
            }
            Err(full) => front.app.metrics.connection_refused(full.reason()),
        }
    }
    drop(listener);
    front.empty().await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    place: Arc<Place>,
    front: Front,
    mut stopping: watch::Receiver<bool>,
) {
    // Signalling is small messages that should leave at once.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let Ok(own) = stream.local_addr() else {
        return;
    };
    let ends = (PeerAddress(peer), OwnAddress(own));
    let Some(tls) = &front.tls else {
        return speak(stream, ends, place, front.router, stopping).await;
    };
    let greeted = tokio::select! {
        greeted = tls.greet(stream, &front.app) => greeted,
        _ = stopping.wait_for(|is_stopping| *is_stopping) => return,
    };
    match greeted {
        Ok(Greeted::Tls(stream)) => speak(*stream, ends, place, front.router, stopping).await,
        Ok(Greeted::Plain(stream)) => {
            front.app.metrics.handshake_failed(Failed::Plain.reason());
            speak(stream, ends, place, front.plain, stopping).await;
        }
        Err(failed) => front.app.metrics.handshake_failed(failed.reason()),
    }
}

/// Speaks HTTP on a connection until it ends.
async fn speak<S>(
    stream: S,
    (peer, own): (PeerAddress, OwnAddress),
    place: Arc<Place>,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (router, place) = (router.clone(), Arc::clone(&place));
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(own);
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
