//! What a good call was like, as one line of JSON.

use std::time::Duration;

use serde::Serialize;

/// The parts between guests. Times are from the start of the call.
pub(crate) struct Webrtc {
    pub(crate) joined: Duration,
    pub(crate) connected: Duration,
    pub(crate) heard: Duration,
    pub(crate) level: f64,
}

/// The parts with the telephone.
pub(crate) struct Called {
    pub(crate) answered: Duration,
    pub(crate) heard: Duration,
    pub(crate) ended: Duration,
    /// What the telephone hears of the guest.
    pub(crate) level: f64,
    /// What it hears of itself.
    pub(crate) own: f64,
    /// What the guest hears of it.
    pub(crate) level_to_webrtc: f64,
}

/// The report. Times are milliseconds from the start, levels decibels below a full-scale sine.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    webrtc: WebrtcLine,
    sip: SipLine,
    ended_ms: u64,
}

#[derive(Debug, Serialize)]
struct WebrtcLine {
    joined_ms: u64,
    connected_ms: u64,
    heard_ms: u64,
    level_dbfs: f64,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum SipLine {
    Called {
        answered_ms: u64,
        heard_ms: u64,
        ended_ms: u64,
        level_dbfs: f64,
        own_dbfs: f64,
        level_to_webrtc_dbfs: f64,
    },
    Skipped(&'static str),
}

impl Report {
    pub(crate) fn new(webrtc: Webrtc, telephone: Option<Called>, ended: Duration) -> Self {
        Self {
            webrtc: WebrtcLine {
                joined_ms: ms(webrtc.joined),
                connected_ms: ms(webrtc.connected),
                heard_ms: ms(webrtc.heard),
                level_dbfs: tenths(webrtc.level),
            },
            sip: match telephone {
                Some(called) => SipLine::Called {
                    answered_ms: ms(called.answered),
                    heard_ms: ms(called.heard),
                    ended_ms: ms(called.ended),
                    level_dbfs: tenths(called.level),
                    own_dbfs: tenths(called.own),
                    level_to_webrtc_dbfs: tenths(called.level_to_webrtc),
                },
                None => SipLine::Skipped("skipped: sip.enabled is false"),
            },
            ended_ms: ms(ended),
        }
    }

    /// The line.
    pub(crate) fn line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("a report is plain values");
        line.push('\n');
        line
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn tenths(level: f64) -> f64 {
    (level * 10.0).round() / 10.0
}
