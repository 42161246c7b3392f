//! Printing session descriptions: the lines answers and offers share.

use std::fmt::Write;

use super::LocalParameters;

/// A description being written. Lines end in CRLF (RFC 8866 §5).
pub(super) struct Printer {
    text: String,
}

impl Printer {
    /// The session part, up to and including attributes for all sections.
    pub(super) fn start(session_id: u64, version: u64, bundle: &[String]) -> Self {
        let mut printer = Printer {
            text: String::with_capacity(2048),
        };
        printer.line(format_args!("v=0"));
        // RFC 9429 §5.2.1: the identifier fits a signed 64-bit number.
        let session_id = session_id & (i64::MAX as u64);
        printer.line(format_args!("o=- {session_id} {version} IN IP4 127.0.0.1"));
        printer.line(format_args!("s=-"));
        printer.line(format_args!("t=0 0"));
        printer.line(format_args!("a=ice-lite"));
        if !bundle.is_empty() {
            printer.line(format_args!("a=group:BUNDLE {}", bundle.join(" ")));
        }
        printer.line(format_args!("a=msid-semantic: WMS *"));
        printer
    }

    pub(super) fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.text.write_fmt(line).expect("writing to a string");
        self.text.push_str("\r\n");
    }

    /// `m=` and the `c=` of trickled candidates (RFC 8840 §4.1.1).
    pub(super) fn media(&mut self, media: &str, port: u16, protocol: &str, formats: &str) {
        self.line(format_args!("m={media} {port} {protocol} {formats}"));
        self.line(format_args!("c=IN IP4 0.0.0.0"));
    }

    /// Our end of the transport; candidates only where the bundle's transport is described.
    pub(super) fn transport(&mut self, local: &LocalParameters, setup: &str, candidates: bool) {
        self.line(format_args!("a=ice-ufrag:{}", local.ice.ufrag));
        self.line(format_args!("a=ice-pwd:{}", local.ice.pwd));
        self.line(format_args!("a=fingerprint:sha-256 {}", local.fingerprint));
        self.line(format_args!("a=setup:{setup}"));
        if candidates {
            for (index, candidate) in local.candidates.iter().enumerate() {
                self.line(format_args!("a={}", candidate.to_attribute(index)));
            }
            self.line(format_args!("a=end-of-candidates"));
        }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}
