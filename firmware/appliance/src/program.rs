//! What a stick sets of the program: those keys of its own `palabre.toml` that depend on where the box stands, by the same names.
//!
//! ```toml
//! [http]
//! public_url = "https://meet.example.org"   # what people type, when it is not the box's address
//! phone_number = "+33 1 99 00 00 00"        # as shown to people
//! sip_address = "sip:meet@example.org"      # as shown to people
//! metrics_from = ["192.0.2.70"]             # who may read /metrics; the box itself always may
//! trusted_proxies = ["192.0.2.80"]
//!
//! [media]
//! announced = ["203.0.113.1:7880"]          # beside its own: that of a router that translates addresses
//!
//! [sip]
//! trunks = ["192.0.2.60"]
//! numbers = ["199000000"]
//! advertise = "203.0.113.1"                 # behind a router that translates addresses
//! ```
//!
//! They reach the program as variables of its environment, in a file that systemd reads at its start. All other keys are the
//! image's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::stick::{Refused, refused};

/// The file with the variables, below `/run`.
pub(crate) const VARIABLES: &str = "palabre/settings.env";
/// The most entries in one list. A box has one trunk or two, and few who measure it.
const MOST: usize = 32;
/// The box's own addresses, in the program's `media.announced`.
const OWN: &str = "[::]:0";

/// `[http]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// What people type to reach the box.
    pub public_url: Option<Origin>,
    /// Its telephone number, as shown to people.
    pub phone_number: Option<Shown>,
    /// Its SIP address, as shown to people.
    pub sip_address: Option<Shown>,
    /// Who may read `/metrics`, at most 32; the box itself always may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics_from: Vec<Block>,
    /// Proxies that are believed when they say who asks, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<Block>,
}

/// `[media]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Media {
    /// Addresses and ports that guests are told beside the box's own, at most 32.
    #[serde(default)]
    pub announced: Vec<Port>,
}

/// `[sip]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sip {
    /// Addresses of trunks and exchanges, at most 32.
    #[serde(default)]
    pub trunks: Vec<Trunk>,
    /// Numbers of nine digits by which trunks reach the box, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<Number>,
    /// The address that telephones are told instead of the box's own.
    pub advertise: Option<Advertised>,
}

/// `https://` and a host of at most 253 bytes, perhaps a port (RFC 6454): a box speaks nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Origin(String);

/// An address and a port that others can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Port(SocketAddr);

/// The address of a trunk or an exchange, which may be at the other end of a cable; telephones come by IPv4 only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Trunk(Ipv4Addr);

/// The IPv4 address by which others reach the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Advertised(Ipv4Addr);

/// A line of 1 to 100 plain characters that people are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Shown(String);

/// A number of nine digits that a trunk calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Number(String);

/// An address, or a block of them such as `192.0.2.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    address: IpAddr,
    prefix: u8,
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let host = text.strip_prefix("https://");
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b);
        let good =
            host.is_some_and(|host| (1..=253).contains(&host.len()) && host.bytes().all(plain));
        good.then_some(Self(text))
            .ok_or_else(|| refused("https:// and a host, without a path"))
    }
}

/// Whether one other machine can have it.
fn is_of_machine(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(is_broadcast || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

/// Whether other machines can reach it without knowing on which of their networks.
fn is_reachable(address: IpAddr) -> bool {
    let is_near = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    is_of_machine(address) && !is_near
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let port: Option<SocketAddr> = String::deserialize(from)?.parse().ok();
        // The name of a network of ours says nothing to guests.
        let is_scoped =
            |port: &SocketAddr| matches!(port, SocketAddr::V6(v6) if v6.scope_id() != 0);
        let good = port.filter(|port| {
            is_reachable(port.ip().to_canonical()) && port.port() != 0 && !is_scoped(port)
        });
        good.map(Self).ok_or_else(|| {
            refused("an address that guests can reach, and a port: \"203.0.113.1:7880\"")
        })
    }
}

impl<'de> Deserialize<'de> for Trunk {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let address: Option<Ipv4Addr> = String::deserialize(from)?.parse().ok();
        let good = address.filter(|address| is_of_machine(IpAddr::V4(*address)));
        good.map(Self)
            .ok_or_else(|| refused("an IPv4 address such as \"192.0.2.60\""))
    }
}

impl<'de> Deserialize<'de> for Advertised {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let address: Option<Ipv4Addr> = String::deserialize(from)?.parse().ok();
        let good = address.filter(|address| is_reachable(IpAddr::V4(*address)));
        good.map(Self).ok_or_else(|| {
            refused("an IPv4 address that telephones can reach, such as \"203.0.113.1\"")
        })
    }
}

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b" +().-@:;=_".contains(&b);
        let good =
            (1..=100).contains(&text.len()) && text.bytes().all(plain) && text.trim() == text;
        good.then_some(Self(text))
            .ok_or_else(|| refused("a number or an address in plain letters, 100 at most"))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let good = text.len() == 9 && text.bytes().all(|b| b.is_ascii_digit());
        good.then_some(Self(text))
            .ok_or_else(|| refused("a number of nine digits"))
    }
}

impl Serialize for Block {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{}/{}", self.address, self.prefix))
    }
}

impl<'de> Deserialize<'de> for Block {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let read = || {
            let (address, prefix) = match text.split_once('/') {
                Some((address, prefix)) => (address, Some(prefix)),
                None => (text.as_str(), None),
            };
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let prefix: u8 = prefix.map_or(Some(most), |prefix| prefix.parse().ok())?;
            (prefix <= most).then_some(Self { address, prefix })
        };
        read().ok_or_else(|| refused("an address, or a block such as \"192.0.2.0/24\""))
    }
}

/// Refuses a list of more than [`MOST`].
fn bounded<T>(list: &[T], key: &'static str) -> Result<(), Refused> {
    match list.len() <= MOST {
        true => Ok(()),
        false => Err(Refused::List { key, most: MOST }),
    }
}

/// A variable that sets a key; none for an empty list. No value has a quote, a backslash or a line's end: see the types.
fn variable<T: Serialize>(key: &str, list: &[T]) -> Option<String> {
    let items = list.iter().map(|item| {
        let value = serde_json::to_value(item).unwrap_or_default();
        value.as_str().unwrap_or_default().to_owned()
    });
    let items: Vec<String> = items.collect();
    (!items.is_empty()).then(|| format!("PALABRE__{key}=\"{}\"\n", items.join(",")))
}

impl Http {
    pub(crate) fn check(&self) -> Result<(), Refused> {
        bounded(&self.metrics_from, "metrics_from")?;
        bounded(&self.trusted_proxies, "trusted_proxies")
    }

    pub(crate) fn variables(&self) -> String {
        let own = [
            Block {
                address: IpAddr::from([127, 0, 0, 0]),
                prefix: 8,
            },
            Block {
                address: IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
                prefix: 128,
            },
        ];
        // Whoever else may: the box asks there whether people are in meetings.
        let measured = match self.metrics_from.is_empty() {
            true => Vec::new(),
            false => [own.as_slice(), &self.metrics_from].concat(),
        };
        let all = [
            variable("HTTP__PUBLIC_URL", self.public_url.as_slice()),
            variable("HTTP__PHONE_NUMBER", self.phone_number.as_slice()),
            variable("HTTP__SIP_ADDRESS", self.sip_address.as_slice()),
            variable("HTTP__METRICS_FROM", &measured),
            variable("HTTP__TRUSTED_PROXIES", &self.trusted_proxies),
        ];
        all.into_iter().flatten().collect()
    }
}

impl Media {
    pub(crate) fn check(&self) -> Result<(), Refused> {
        bounded(&self.announced, "announced")
    }

    pub(crate) fn variables(&self) -> String {
        // Guests in the building come by no router, and the screen of a room reaches nothing else.
        let own = OWN.parse().map(Port);
        let all: Vec<Port> = self.announced.iter().copied().chain(own).collect();
        let is_set = !self.announced.is_empty();
        is_set
            .then(|| variable("MEDIA__ANNOUNCED", &all))
            .flatten()
            .unwrap_or_default()
    }
}

impl Sip {
    pub(crate) fn check(&self) -> Result<(), Refused> {
        bounded(&self.trunks, "trunks")?;
        bounded(&self.numbers, "numbers")
    }

    pub(crate) fn variables(&self) -> String {
        let all = [
            variable("SIP__TRUNKS", &self.trunks),
            variable("SIP__NUMBERS", &self.numbers),
            variable("SIP__ADVERTISE", self.advertise.as_slice()),
        ];
        all.into_iter().flatten().collect()
    }
}
