//! The `[sip]` section of `palabre.toml`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use palabre_engine::settings::{PortRange, RawValue, Setting, Span};

use crate::prompts::Language;
use crate::sip;

palabre_engine::settings! {
    /// Telephones: the SIP address they call and the voice menu they hear.
    pub struct SipConfig {
        /// Whether telephones can call at all.
        pub enabled: bool = true,
        /// Address and port for SIP, on UDP and TCP. A trunk expects port 5060. "0.0.0.0:5060" listens on every
        /// network card; then check that only your trunk and your phones reach the port.
        pub bind: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 5060)),
        /// Address that phones and trunks use to reach this machine, when it stands behind a router that translates
        /// addresses one to one. Unset: the address each call arrives on.
        pub advertise: Option<IpAddr> = None,
        /// UDP ports for the sound of calls; each call takes two. Open them in the firewall.
        pub rtp_ports: PortRange = PortRange::new(16_384, 24_383).expect("first below last"),
        where |ports| u32::from(ports.last()) > u32::from(ports.first()).next_multiple_of(2),
            "an even port and the one above it",
        /// Sound codecs, best first: "opus", "g722", "pcma", "pcmu".
        pub codecs: Vec<Codec> = vec![
            Codec(sip::Codec::Opus),
            Codec(sip::Codec::G722),
            Codec(sip::Codec::Pcma),
            Codec(sip::Codec::Pcmu),
        ],
        where |codecs| !codecs.is_empty(), "at least one codec",
        /// Addresses of your trunks and exchanges. What they say about the caller's number is believed, and wrong codes
        /// are counted for each number; wrong codes from anywhere else are counted for each address.
        pub trunks: Vec<IpAddr> = Vec::new(),
        /// Numbers by which your trunks reach this box, when they have nine digits and could be taken for a room's code.
        pub numbers: Vec<String> = Vec::new(),
        /// Most calls at once. Each takes about 0.1 MiB; a full box answers 503.
        pub calls: usize = 500,
        where |calls| (1..=100_000).contains(calls), "between 1 and 100000",
        /// Most calls at once from one address, so that one misbehaving phone does not take all lines. A trunk needs as
        /// many as it has lines.
        pub calls_per_source: usize = 250,
        where |calls| (1..=100_000).contains(calls), "between 1 and 100000",
        /// Language of the menu until the caller presses star: "fr" or "en". A phone that asks for a language gets it.
        pub language: Language = Language::French,
        /// Folder of your own recordings, fr/*.wav and en/*.wav, in place of the shipped ones of the same name.
        pub prompts: Option<PathBuf> = None,
        /// Wrong codes after which a call ends. Fewer slows guessing, more forgives typing.
        pub tries: u32 = 3,
        where |tries| (1..=10).contains(tries), "between 1 and 10",
        /// Silence after which the menu repeats itself, and the longest pause between two digits of a code. Longer helps
        /// who types slowly.
        pub patience: Span = Span::from_secs(8),
        where |wait| (2..=60).contains(&wait.duration().as_secs()), "between 2 s and 60 s",
        /// Longest stay in the menu.
        pub menu: Span = Span::from_secs(180),
        where |wait| (20..=3_600).contains(&wait.duration().as_secs()), "between 20 s and 1 h",
        /// Whether programs connected to a meeting learn callers' whole numbers. When false they learn what everybody
        /// sees: "06 .. .. .. 42".
        pub show_numbers: bool = false,
        /// Most SIP connections over TCP at once, and from one address.
        pub connections: usize = 1_024,
        where |n| (1..=65_536).contains(n), "between 1 and 65536",
        /// The same from one address.
        pub connections_per_source: usize = 64,
        where |n| (1..=65_536).contains(n), "between 1 and 65536",
        /// A TCP connection on which nothing came for so long is closed. Phones send keep-alives each minute or two.
        pub idle: Span = Span::from_secs(600),
        where |wait| (10..=86_400).contains(&wait.duration().as_secs()), "between 10 s and 24 h",
    }
}

/// A codec by its name in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec(pub sip::Codec);

const CODECS: [(&str, sip::Codec); 4] = [
    ("opus", sip::Codec::Opus),
    ("g722", sip::Codec::G722),
    ("pcma", sip::Codec::Pcma),
    ("pcmu", sip::Codec::Pcmu),
];

impl Setting for Codec {
    fn read(value: &RawValue) -> Result<Self, String> {
        CODECS
            .iter()
            .find(|(name, _)| *value == RawValue::Text((*name).to_owned()))
            .map(|(_, codec)| Self(*codec))
            .ok_or_else(|| "expected \"opus\", \"g722\", \"pcma\" or \"pcmu\"".to_owned())
    }

    fn write(&self) -> String {
        let (name, _) = CODECS
            .iter()
            .find(|(_, codec)| *codec == self.0)
            .expect("every codec has a name");
        format!("\"{name}\"")
    }
}

impl SipConfig {
    /// How patient the voice menu is.
    #[must_use]
    pub fn menu_patience(&self) -> crate::menu::Patience {
        crate::menu::Patience {
            tries: self.tries,
            answer: self.patience.duration(),
            digit: self.patience.duration(),
            whole: self.menu.duration(),
            lookup: Duration::from_secs(10),
        }
    }

    /// Settings of the SIP core.
    #[must_use]
    pub fn endpoint(&self) -> sip::Config {
        sip::Config {
            host: self.advertise.map(|address| match address {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("[{v6}]"),
            }),
            media: sip::MediaPolicy {
                codecs: self.codecs.iter().map(|codec| codec.0).collect(),
                ..sip::MediaPolicy::default()
            },
            limits: sip::Limits {
                dialogs: self.calls,
                dialogs_per_source: self.calls_per_source,
                connections: self.connections,
                connections_per_source: self.connections_per_source,
                ..sip::Limits::default()
            },
            ..sip::Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palabre_engine::settings::{Rejected, Section};

    #[test]
    fn defaults_read_back_as_written() {
        let config = SipConfig::default();
        let mut read = SipConfig::default();
        for key in config.keys() {
            let Some(value) = key.value else { continue };
            let value = match value.strip_prefix('[') {
                Some(list) => list.trim_end_matches(']').replace('"', ""),
                None => value.trim_matches('"').to_owned(),
            };
            let set = read.set(key.name, &RawValue::Text(value.clone()));
            assert_eq!(set, Ok(()), "{} = {value}", key.name);
        }
        assert_eq!(read, config);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut config = SipConfig::default();
        for (key, value) in [
            ("codecs", "g729"),
            ("codecs", ""),
            ("language", "de"),
            ("tries", "0"),
            ("rtp_ports", "5000-5000"),
            ("rtp_ports", "5001-5002"),
            ("rtp_ports", "65535-65535"),
            ("patience", "8"),
        ] {
            let set = config.set(key, &RawValue::Text(value.into()));
            assert!(matches!(set, Err(Rejected::Invalid(_))), "{key} = {value}");
        }
        assert_eq!(config, SipConfig::default());
    }
}
