//! Which encodings of a track a section's sender will send: by rid (RFC 8853, RFC 8851) or,
//! with older senders, by SSRC (RFC 5576).

use super::Encoding;
use super::sdp::Section;
use crate::rtp::{Label, Rid};
use crate::sfu::command::MAX_LAYERS;

/// The encodings a section's sender will send (RFC 8853, RFC 8851, RFC 5576).
pub(super) fn encodings(section: &Section<'_>) -> Vec<Encoding> {
    let rids = rids(section);
    if !rids.is_empty() {
        return rids
            .into_iter()
            .map(|rid| Encoding {
                rid: Some(rid),
                ..Encoding::default()
            })
            .collect();
    }
    let group = |semantics: &'static str| {
        section.values("ssrc-group").filter_map(move |value| {
            let sources = value.strip_prefix(semantics)?.strip_prefix(' ')?;
            sources
                .split_ascii_whitespace()
                .map(|source| source.parse().ok())
                .collect()
        })
    };
    let repair = |ssrc: u32| {
        group("FID").find_map(|pair: Vec<u32>| match pair[..] {
            [primary, repair] if primary == ssrc => Some(repair),
            _ => None,
        })
    };
    let single = || {
        let grouped = group("FID").find_map(|pair: Vec<u32>| pair.first().copied());
        let listed = || sources(section).next();
        grouped.or_else(listed)
    };
    // SIM is the older form of simulcast: lowest quality first.
    let layers: Vec<u32> = group("SIM")
        .next()
        .unwrap_or_else(|| single().into_iter().collect());
    let found: Vec<Encoding> = layers
        .into_iter()
        .take(MAX_LAYERS)
        .map(|ssrc| Encoding {
            rid: None,
            ssrc: Some(ssrc),
            rtx_ssrc: repair(ssrc),
        })
        .collect();
    if found.is_empty() {
        vec![Encoding::default()]
    } else {
        found
    }
}

/// SSRCs named by `a=ssrc`, with repeats.
pub(super) fn sources(section: &Section<'_>) -> impl Iterator<Item = u32> {
    section
        .values("ssrc")
        .filter_map(|value| value.split(' ').next()?.parse().ok())
}

/// Identifiers of the encodings sent, lowest quality first.
fn rids(section: &Section<'_>) -> Vec<Rid> {
    let declared = |rid: &Rid| {
        section.values("rid").any(|value| {
            let mut words = value.split_ascii_whitespace();
            words.next() == Some(rid.as_str()) && words.next() == Some("send")
        })
    };
    let simulcast = section.values("simulcast").next().and_then(|value| {
        let mut words = value.split_ascii_whitespace();
        words.by_ref().find(|word| *word == "send")?;
        words.next()
    });
    // Alternatives are separated by commas, the first being preferred; a tilde says paused.
    let mut rids: Vec<Rid> = Vec::new();
    for stream in simulcast.unwrap_or_default().split(';').take(MAX_LAYERS) {
        let rid = stream.split(',').next().unwrap_or_default();
        let rid = Label::read(rid.strip_prefix('~').unwrap_or(rid).as_bytes());
        rids.extend(rid.filter(|rid| declared(rid) && !rids.contains(rid)));
    }
    // LiveKit's clients name quarter, half and full size, in either order.
    let rank = |rid: &Rid| {
        ["q", "h", "f"]
            .iter()
            .position(|name| *name == rid.as_str())
    };
    if rids.iter().all(|rid| rank(rid).is_some()) {
        rids.sort_by_key(|rid| rank(rid));
    }
    rids
}
