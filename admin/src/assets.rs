//! The pages, embedded in the program when it was built, and how browsers may keep them.
//!
//! `build.rs` puts the built pages (and a gzip beside each that gains by it) into `OUT_DIR/web`. An address
//! that names no file gets the start page, which shows the right screen.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "$OUT_DIR/web"]
struct Web;

/// Start page of all screens.
const START: &str = "index.html";

/// Files whose name carries a hash of their content never change.
const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// Other files are asked for again each time, and answered 304 while they are the same.
const ASK: HeaderValue = HeaderValue::from_static("no-cache");

/// Serves a file of the pages, or the start page.
pub(crate) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if method != Method::GET && method != Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let is_file = path
        .rsplit('/')
        .next()
        .is_some_and(|last| last.contains('.'));
    if path.is_empty() && !wants_page(&headers) {
        // What LiveKit's clients and load balancers expect of `GET /`.
        return "OK".into_response();
    }
    if let Some(file) = Web::get(path).filter(|_| !path.ends_with(".gz")) {
        return answer(path, file, &headers);
    }
    let is_service = ["api/", "rtc/", "twirp/"]
        .iter()
        .any(|prefix| path.starts_with(prefix));
    match Web::get(START) {
        Some(file) if !is_file && !is_service => answer(START, file, &headers),
        _ => (StatusCode::NOT_FOUND, "not found").into_response(),
    }
}

fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

fn answer(path: &str, file: EmbeddedFile, headers: &HeaderMap) -> Response {
    let hash: String = file.metadata.sha256_hash()[..16]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let tag = HeaderValue::from_str(&format!("\"{hash}\"")).expect("hexadecimal digits");
    let keep = if path.starts_with("assets/") {
        FOREVER
    } else {
        ASK
    };
    let is_kept = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|known| {
            known
                .split(',')
                .any(|one| one.trim().trim_start_matches("W/") == tag)
        });
    let mut response = if is_kept {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let gzip = takes_gzip(headers)
            .then(|| Web::get(&format!("{path}.gz")))
            .flatten();
        let is_gzip = gzip.is_some();
        let mut response = Body::from(gzip.unwrap_or(file).data).into_response();
        let kind = HeaderValue::from_static(content_type(path));
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if is_gzip {
            let gzip = HeaderValue::from_static("gzip");
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, gzip);
        }
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.insert(header::CACHE_CONTROL, keep);
    headers.insert(
        header::VARY,
        HeaderValue::from_static("accept-encoding, accept"),
    );
    response
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let is_gzip = parts
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            is_gzip
                && parts
                    .next()
                    .is_none_or(|quality| !matches!(quality, "q=0" | "q=0.0"))
        })
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "wav" => "audio/wav",
        _ => "application/octet-stream",
    }
}
