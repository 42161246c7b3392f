//! Who is signed in: a session cookie or a bearer token, and the slowing of wrong tries.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use palabre_engine::door::{Held, Source};

use crate::app::App;
use crate::client::Client;
use crate::problem::Problem;
use crate::store::AccountId;

/// Name of the session cookie.
pub(super) const COOKIE: &str = "palabre_session";

/// Its name over https. Browsers take a `__Host-` cookie over https only and keep it to this one host (RFC 6265bis,
/// 4.1.3.2): no plain connection and no neighbour under the same domain can plant one.
const SECURE_COOKIE: &str = "__Host-palabre_session";

fn cookie_name(client: &Client) -> &'static str {
    if client.is_secure() {
        SECURE_COOKIE
    } else {
        COOKIE
    }
}

/// Longest cookie or token text looked up.
const LONGEST: usize = 128;

/// The administrator, signed in.
pub(crate) struct Administrator(pub(crate) AccountId);

impl FromRequestParts<App> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Ok(client) = Client::from_request_parts(parts, app).await;
        signed_in(app, &client, &parts.headers)
            .await?
            .map(Self)
            .ok_or(Problem::Unauthenticated)
    }
}

/// Who is signed in, if anybody. A token that is sent must be good: a cookie does not make up for it.
pub(super) async fn signed_in(
    app: &App,
    client: &Client,
    headers: &HeaderMap,
) -> Result<Option<AccountId>, Problem> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        return match value.to_str().ok().and_then(bearer) {
            Some(text) => Ok(app.store.access.token(text).await?),
            None => Ok(None),
        };
    }
    match cookie(client, headers) {
        Some(text) => Ok(app.store.access.session(text).await?),
        None => Ok(None),
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, text) = value.split_once(' ')?;
    let text = text.trim();
    (scheme.eq_ignore_ascii_case("bearer") && text.len() <= LONGEST).then_some(text)
}

/// The text of our cookie.
pub(super) fn cookie<'a>(client: &Client, headers: &'a HeaderMap) -> Option<&'a str> {
    let wanted = cookie_name(client);
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, text)| (name == wanted && text.len() <= LONGEST).then_some(text))
}

/// `Set-Cookie` that opens a session of `seconds`; 0 takes the cookie back.
pub(super) fn set_cookie(client: &Client, text: &str, seconds: u64) -> HeaderValue {
    let name = cookie_name(client);
    let secure = if client.is_secure() { "; Secure" } else { "" };
    format!("{name}={text}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
        .parse()
        .expect("a cookie is letters and digits")
}

/// A try to sign in that has begun: wrong until said otherwise, so that a hung-up one counts too.
pub(super) struct Try<'a> {
    app: &'a App,
    source: Source,
    is_open: bool,
}

impl<'a> Try<'a> {
    /// Begins a try, unless this source is held.
    pub(super) fn begin(app: &'a App, client: &Client) -> Result<Self, Problem> {
        let source = Source::Address(client.source);
        let mut tries = app.sign_ins.lock().unwrap_or_else(PoisonError::into_inner);
        match tries.begin(Instant::now(), source.clone()) {
            Ok(()) => Ok(Self {
                app,
                source,
                is_open: true,
            }),
            Err(held) => {
                app.metrics.sign_in("held");
                Err(match held {
                    Held::Slowed { wait } => Problem::Slowed { wait },
                    Held::LockedOut { wait } => Problem::LockedOut { wait },
                })
            }
        }
    }

    /// The try was wrong: the wait before the next.
    pub(super) fn wrong(mut self) -> Duration {
        self.end_wrong()
    }

    /// The try was right.
    pub(super) fn right(mut self) {
        self.is_open = false;
        self.app.metrics.sign_in("done");
        let mut tries = self
            .app
            .sign_ins
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tries.right(self.source.clone());
    }

    /// The try could not be judged.
    pub(super) fn withdraw(mut self) {
        self.is_open = false;
        let mut tries = self
            .app
            .sign_ins
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tries.withdraw(self.source.clone());
    }

    fn end_wrong(&mut self) -> Duration {
        self.is_open = false;
        self.app.metrics.sign_in("wrong");
        let mut tries = self
            .app
            .sign_ins
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tries.wrong(Instant::now(), self.source.clone())
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.end_wrong();
        }
    }
}
