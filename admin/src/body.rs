//! Bodies of requests, read up to a limit.

use axum::body::{Body, HttpBody};
use futures_util::StreamExt as _;

/// Most bytes of a refused body that are read and thrown away, so that the sender reads the answer instead
/// of a closed connection.
const DISCARD_LIMIT: usize = 1024 * 1024;

/// Why a body is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is longer than the limit.
    TooLarge,
    /// It ends before its declared length.
    Cut,
}

/// The whole body, when it has at most `limit` bytes.
pub(crate) async fn read(body: Body, limit: usize) -> Result<Vec<u8>, Unread> {
    let too_large = body.size_hint().lower() > limit as u64;
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut seen = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Unread::Cut)?;
        seen += chunk.len();
        if seen > DISCARD_LIMIT {
            break;
        }
        if seen <= limit && !too_large {
            bytes.extend_from_slice(&chunk);
        }
    }
    if too_large || seen > limit {
        return Err(Unread::TooLarge);
    }
    Ok(bytes)
}
