//! What browsers are told about every page: what it may load, use and reveal.

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::app::App;
use crate::client::Client;

/// Camera, microphone and screen for our own pages; nothing that a meeting does not need.
const PERMISSIONS: &str = "camera=(self), microphone=(self), display-capture=(self), autoplay=(self), \
    fullscreen=(self), speaker-selection=(self), picture-in-picture=(self), screen-wake-lock=(self), \
    geolocation=(), payment=(), usb=(), serial=(), bluetooth=(), midi=()";

/// For how long browsers are told to use https alone (RFC 6797). Where a proxy ends TLS, its operator has taken that upon
/// himself: a year.
const BEHIND_PROXY: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// With a certificate of our own that somebody issued. Browsers let nobody past a bad certificate of such a host: a box
/// whose certificate expires, or that a factory reset gives a self-signed one, would be shut for as long as this. Over
/// plain HTTP it serves nothing but the way to https, so that more would gain little.
const ISSUED: HeaderValue = HeaderValue::from_static("max-age=86400");

/// With a certificate that nobody issued. Browsers heed it only where the certificate was installed by hand, and such a
/// box has a new one after a factory reset: nobody is to be shut out for longer than a reset takes.
const SELF_SIGNED: HeaderValue = HeaderValue::from_static("max-age=300");

/// Adds the security headers.
pub(crate) async fn secure(
    State(app): State<App>,
    client: Client,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    // Everything comes from us; blobs are the camera preview and the media workers; nobody frames us.
    let policy = format!(
        "default-src 'self'; connect-src 'self' {}; img-src 'self' data: blob:; media-src 'self' blob:; \
         worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'",
        client.websocket_origin()
    );
    let policy = HeaderValue::from_str(&policy).expect("an origin is letters, digits and -._:[]");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    let constant = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // A join link must not travel to other sites in the Referer header.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("permissions-policy"), PERMISSIONS),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in constant {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if client.is_secure() {
        let value = match &app.tls {
            None => BEHIND_PROXY,
            Some(tls) if tls.is_self_signed() => SELF_SIGNED,
            Some(_) => ISSUED,
        };
        headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
    }
    response
}
