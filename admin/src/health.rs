//! `/healthz`: the program runs. `/readyz`: it can do its work. `/metrics`: how much of it.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::timeout;

use crate::app::App;
use crate::client::{Client, is_in};

/// Said of a part that does its work.
const OK: &str = "ok";

/// How long a part may take to answer before it counts as down.
const PATIENCE: Duration = Duration::from_secs(2);

/// State of the parts; each is `ok` or `down`.
#[derive(Serialize)]
struct Ready {
    database: &'static str,
    engine: &'static str,
    server: &'static str,
    #[serde(flatten)]
    others: BTreeMap<&'static str, &'static str>,
}

pub(crate) async fn alive() -> &'static str {
    "ok"
}

pub(crate) async fn ready(State(app): State<App>) -> Response {
    let ready = look(&app).await;
    let status = match ready.is_all() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(ready)).into_response()
}

/// Asks every part, all at once.
async fn look(app: &App) -> Ready {
    let (database, engine) =
        tokio::join!(store_answers(app), timeout(PATIENCE, app.live.answers()));
    let server = !*app.stop.borrow();
    let word = |is_ok: bool| if is_ok { OK } else { "down" };
    Ready {
        database: word(database),
        engine: word(engine == Ok(true)),
        server: word(server),
        others: app
            .readiness
            .iter()
            .map(|(part, is_running)| (*part, word(is_running())))
            .collect(),
    }
}

impl Ready {
    fn is_all(&self) -> bool {
        let own = [self.database, self.engine, self.server];
        own.iter()
            .chain(self.others.values())
            .all(|word| *word == OK)
    }
}

/// What `/readyz` would say, without asking by HTTP. Cheap to clone.
#[derive(Clone)]
pub struct Health(App);

impl Health {
    pub(crate) fn of(app: App) -> Self {
        Self(app)
    }

    /// Whether every part can do its work now. Takes 2 s at most.
    pub async fn is_ready(&self) -> bool {
        look(&self.0).await.is_all()
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Health(…)")
    }
}

pub(crate) async fn metrics(State(app): State<App>, client: Client) -> Response {
    if !is_in(&app.config.metrics_from, client.source) {
        let sentence = "metrics are shown to the networks of the key http.metrics_from only";
        return (StatusCode::FORBIDDEN, sentence).into_response();
    }
    let expires = app.tls.as_ref().and_then(|tls| tls.valid_until());
    let page = app
        .metrics
        .page(app.door.counts(), store_answers(&app).await, expires);
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        page,
    )
        .into_response()
}

async fn store_answers(app: &App) -> bool {
    matches!(timeout(PATIENCE, app.store.check()).await, Ok(Ok(())))
}
