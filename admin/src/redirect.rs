//! Plain HTTP where HTTPS is spoken: sends people to the https address, and tells this machine how the program is.
//!
//! Where to is written by us: `http.public_url`, or the host that was asked for, on the port where we listen. A browser of this
//! machine stays on `localhost`. Of what the client sent only a host of letters, digits and dots, and the path behind it, come
//! back to that same client.

use std::net::Ipv6Addr;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::app::App;
use crate::client::Client;
use crate::health;

/// Which port the https address has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// The one that was asked for: it speaks https, and was spoken to without.
    Same,
    /// This one.
    Of(u16),
}

/// The port of https addresses that name none.
const HTTPS: u16 = 443;

/// What plain HTTP is answered.
pub(crate) fn router(app: App, port: Port) -> Router<App> {
    let elsewhere = move |State(app): State<App>, client: Client, uri: Uri, headers: HeaderMap| async move {
        moved(&app, &client, port, &uri, &headers)
    };
    let this_machine =
        move |State(app): State<App>, client: Client, request: Request, next: Next| async move {
            match client.source.is_loopback() {
                true => next.run(request).await,
                false => moved(&app, &client, port, request.uri(), request.headers()),
            }
        };
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route_layer(from_fn_with_state(app, this_machine))
        .fallback(elsewhere)
        .layer(from_fn(once))
}

/// Nobody has a second request for this door.
async fn once(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

fn moved(app: &App, client: &Client, port: Port, uri: &Uri, headers: &HeaderMap) -> Response {
    let origin = match (&app.config.public_url, app.config.is_public_https()) {
        (Some(url), true) if !client.is_here => Some(url.clone()),
        _ => headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .and_then(|host| origin(host, port)),
    };
    // A request for `*`, or of an absolute address, has no path behind our host.
    let path = uri.path_and_query().map(PathAndQuery::as_str);
    let path = path.filter(|path| path.starts_with('/')).unwrap_or("/");
    let location = origin.and_then(|origin| HeaderValue::try_from(format!("{origin}{path}")).ok());
    let Some(location) = location else {
        let sentence = "this address speaks https; the request names no host to send you to";
        return (StatusCode::BAD_REQUEST, sentence).into_response();
    };
    let headers = [
        (header::LOCATION, location),
        // A box that goes back to plain HTTP must not be shut out by what browsers remember.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (StatusCode::PERMANENT_REDIRECT, headers).into_response()
}

/// The https address of the host in `header` (RFC 9110, 7.2), unless that is more or less than a name or an address.
fn origin(header: &str, port: Port) -> Option<String> {
    let (host, asked) = match header.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (&header[..address.len() + 2], rest)
        }
        None => header.split_at(header.find(':').unwrap_or(header.len())),
    };
    let asked = match asked.strip_prefix(':') {
        Some(digits) => Some(digits.parse::<u16>().ok()?),
        None if asked.is_empty() => None,
        None => return None,
    };
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let is_host = host.starts_with('[') || (!host.is_empty() && host.bytes().all(is_name));
    if !is_host || host.len() > 253 {
        return None;
    }
    let port = match port {
        Port::Same => asked.unwrap_or(HTTPS),
        Port::Of(port) => port,
    };
    Some(https(host, port))
}

/// An https address without a path.
pub(crate) fn https(host: &str, port: u16) -> String {
    match port {
        HTTPS => format!("https://{host}"),
        port => format!("https://{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_keeps_its_name_and_gets_the_port_of_https() {
        let cases = [
            ("box.local", Port::Of(443), "https://box.local"),
            ("box.local:80", Port::Of(443), "https://box.local"),
            ("box.local", Port::Of(7880), "https://box.local:7880"),
            ("192.0.2.1:8080", Port::Of(8443), "https://192.0.2.1:8443"),
            ("[2001:db8::1]", Port::Of(443), "https://[2001:db8::1]"),
            (
                "[2001:db8::1]:80",
                Port::Of(444),
                "https://[2001:db8::1]:444",
            ),
            ("box:7880", Port::Same, "https://box:7880"),
            ("box", Port::Same, "https://box"),
        ];
        for (header, port, wanted) in cases {
            assert_eq!(origin(header, port).as_deref(), Some(wanted), "{header}");
        }
    }

    #[test]
    fn what_is_more_than_a_host_leads_nowhere() {
        let long = "a".repeat(254);
        for header in [
            "",
            ":443",
            "a:",
            "a:b",
            "a:99999",
            "a:1:2",
            "a@evil.example",
            "user:pw@evil.example",
            "evil.example/",
            "evil.example/path",
            "evil.example?",
            "evil.example#",
            "evil.example\\",
            "a b",
            "a\tb",
            "a%2fb",
            "a,b",
            "a\"><script>",
            "é",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[evil.example]",
            "[]",
            "::1",
            long.as_str(),
        ] {
            assert_eq!(origin(header, Port::Of(443)), None, "{header}");
            assert_eq!(origin(header, Port::Same), None, "{header}");
        }
    }
}
