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
    // Of a room that cannot exist: the answer costs nothing, but each shard must give it.
    let asked = app.live.list_rooms(vec![String::new()]);
    let (database, engine) = tokio::join!(store_answers(&app), timeout(PATIENCE, asked));
    let engine = matches!(engine, Ok(Ok(_))) && app.live.is_alive();
    let server = !*app.stop.borrow();
    let word = |is_ok: bool| if is_ok { "ok" } else { "down" };
    let others: BTreeMap<_, _> = app
        .readiness
        .iter()
        .map(|(part, is_running)| (*part, is_running()))
        .collect();
    let body = Ready {
        database: word(database),
        engine: word(engine),
        server: word(server),
        others: others
            .iter()
            .map(|(part, is_ok)| (*part, word(*is_ok)))
            .collect(),
    };
    let all_others = others.values().all(|is_ok| *is_ok);
    let status = match database && engine && server && all_others {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
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
