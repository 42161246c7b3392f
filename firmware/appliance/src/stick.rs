//! What a stick asks for, in a `palabre.toml` with these sections, and those of the program ([`crate::program`]):
//!
//! ```toml
//! [network]
//! address = "192.0.2.10/24"      # or: dhcp = true
//! gateway = "192.0.2.1"
//! dns = ["192.0.2.53"]
//! vlan = 20
//! interface = "enp1s0"           # when the box has several
//!
//! [time]
//! ntp = ["ntp.example.org"]
//! zone = "Europe/Paris"          # of windows for restarts; UTC when absent
//!
//! [certificate]
//! chain = "box.pem"              # on the same stick
//! key = "box.key"
//! ```
//!
//! Strict: what is not understood is refused with its line, and nothing of the file is applied.
//! Values are checked one by one, because they end up in files of systemd.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bundle::printable;
use crate::program::{Http, Media, Sip, VARIABLES};

/// The longest `palabre.toml`, and the longest certificate, in bytes.
pub const MAX_FILE: u64 = 64 * 1024;
/// The longest that is said of a mistake, in characters: a list of keys fits, and a screen holds it.
const MAX_WHAT: usize = 300;
/// The most servers in one list.
const MAX_SERVERS: usize = 8;
/// The file of systemd that makes the device of a VLAN, below `/run`.
pub(crate) const VLAN: &str = "systemd/network/10-palabre-vlan.netdev";
/// Every file for systemd that settings become, below `/run`.
pub(crate) const FILES: [&str; 5] = [
    VLAN,
    "systemd/network/11-palabre-vlan.network",
    "systemd/network/10-palabre.network",
    "systemd/timesyncd.conf.d/10-palabre.conf",
    VARIABLES,
];

/// What a stick asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stick {
    /// The network.
    pub network: Option<Network>,
    /// The time.
    pub time: Option<Time>,
    /// The certificate.
    pub certificate: Option<Certificate>,
    /// How the program's pages are reached.
    pub http: Option<Http>,
    /// How its media are.
    pub media: Option<Media>,
    /// How its telephones are.
    pub sip: Option<Sip>,
}

/// `[network]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = NetworkSettings))]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Whether the network gives the address. The default unless there is one.
    pub dhcp: Option<bool>,
    /// A fixed address, with the length of its network's prefix.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "192.0.2.10/24"))]
    pub address: Option<Address>,
    /// The router.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "192.0.2.1"))]
    pub gateway: Option<IpAddr>,
    /// Name servers, at most 8.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>, example = json!(["192.0.2.53"])))]
    pub dns: Vec<IpAddr>,
    /// IEEE 802.1Q identifier, 1 to 4094.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u16>, minimum = 1, maximum = 4094))]
    pub vlan: Option<Vlan>,
    /// The port to use; every wired one when absent.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "enp1s0"))]
    pub interface: Option<Interface>,
}

/// `[time]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = TimeSettings))]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// Servers of NTP, names or addresses, at most 8. Without one those that DHCP names are asked.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>, example = json!(["ntp.example.org"])))]
    pub ntp: Vec<Host>,
    /// Time zone of the people around the box, by its IANA name; UTC when absent.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "Europe/Paris"))]
    pub zone: Option<Zone>,
}

/// `[certificate]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// A PEM file with the certificate and its chain.
    pub chain: Beside,
    /// A PEM file with its private key.
    pub key: Beside,
}

/// An address and the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Bits of the network.
    pub prefix: u8,
}

/// A VLAN identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Vlan(pub u16);

/// The name of a network port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Interface(pub String);

/// A host name or address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Host(pub String);

/// The name of a file that lies beside `palabre.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Beside(pub String);

/// A time zone that this program knows, by its IANA name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Zone(pub String);

impl Zone {
    /// Minutes since midnight there, at this moment (seconds since 1970).
    pub fn minute_of_day(&self, unix: i64) -> Option<u16> {
        let zone = jiff::tz::TimeZone::get(&self.0).ok()?;
        let there = zone.to_datetime(jiff::Timestamp::from_second(unix).ok()?);
        u16::try_from(60 * i32::from(there.hour()) + i32::from(there.minute())).ok()
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/_+-".contains(&b);
        let good = (1..=40).contains(&text.len()) && text.bytes().all(plain);
        match good && jiff::tz::TimeZone::get(&text).is_ok() {
            true => Ok(Self(text)),
            false => Err(refused("a time zone such as \"Europe/Paris\"")),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{}/{}", self.ip, self.prefix))
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let read = || {
            let (ip, prefix) = text.split_once('/')?;
            let (ip, prefix): (IpAddr, u8) = (ip.parse().ok()?, prefix.parse().ok()?);
            let most = if ip.is_ipv4() { 32 } else { 128 };
            let usable = !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback();
            (usable && (1..=most).contains(&prefix)).then_some(Self { ip, prefix })
        };
        read().ok_or_else(|| refused("an address with its prefix, such as \"192.0.2.10/24\""))
    }
}

impl<'de> Deserialize<'de> for Vlan {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let id = u16::deserialize(from)?;
        let known = (1..=4094).contains(&id);
        known
            .then_some(Self(id))
            .ok_or_else(|| refused("a VLAN from 1 to 4094"))
    }
}

impl<'de> Deserialize<'de> for Interface {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let good =
            (1..=15).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('.');
        good.then_some(Self(text))
            .ok_or_else(|| refused("the name of a network port"))
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:".contains(&b);
        let good =
            (1..=253).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-');
        good.then_some(Self(text))
            .ok_or_else(|| refused("a host name or an address"))
    }
}

impl<'de> Deserialize<'de> for Beside {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let plain = |c: char| !c.is_control() && !"/\\:".contains(c);
        let good =
            (1..=100).contains(&text.len()) && text.chars().all(plain) && !text.starts_with('.');
        good.then_some(Self(text))
            .ok_or_else(|| refused("the name of a file on the same stick"))
    }
}

pub(crate) fn refused<E: serde::de::Error>(wanted: &str) -> E {
    E::custom(format_args!("expected {wanted}"))
}

/// Why a stick is refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each sentence says it")]
pub enum Refused {
    #[error("palabre.toml, line {line}: {what}")]
    Line { line: usize, what: String },
    #[error("palabre.toml, [network]: {0}")]
    Network(&'static str),
    #[error("palabre.toml, [time]: at most 8 servers, and one at least or a zone")]
    Servers,
    #[error("palabre.toml: at most {most} entries in `{key}`")]
    List { key: &'static str, most: usize },
    #[error("{0} is longer than 64 KiB, or no text")]
    File(String),
    #[error("{0} is no PEM {1}")]
    Pem(String, &'static str),
    #[error(
        "the key in {key} cannot serve the certificate in {chain}: they do not belong together, or one is damaged"
    )]
    Pair { chain: String, key: String },
    #[error("{0}: {1}")]
    Io(String, io::Error),
}

impl Refused {
    /// A word for programs, which never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Line { .. } => "stick-line",
            Self::Network(_) => "stick-network",
            Self::Servers => "stick-servers",
            Self::List { .. } => "stick-list",
            Self::File(_) => "stick-file",
            Self::Pem(..) | Self::Pair { .. } => "stick-certificate",
            Self::Io(..) => "provision-io",
        }
    }

    /// What the history keeps of it: no name, no address and no value of the file.
    pub fn told(&self) -> String {
        match self {
            Self::Line { line, .. } => format!("line {line} of palabre.toml"),
            Self::Network(what) => (*what).to_owned(),
            Self::Servers | Self::List { .. } => self.to_string(),
            Self::File(_) => "a file is longer than 64 KiB, or no text".to_owned(),
            Self::Pem(_, what) => format!("a file is no PEM {what}"),
            Self::Pair { .. } => "key and certificate do not belong together".to_owned(),
            Self::Io(_, error) => error.kind().to_string(),
        }
    }
}

impl Stick {
    /// Reads a `palabre.toml`.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        if text.len() as u64 > MAX_FILE {
            return Err(Refused::File("palabre.toml".to_owned()));
        }
        let stick: Self = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..start]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1;
            // A key of the file comes back in it, and the console shows it.
            let what = printable(&error.message().replace('\n', ", "), MAX_WHAT);
            Refused::Line { line, what }
        })?;
        if let Some(network) = &stick.network {
            network.check()?;
        }
        if let Some(time) = &stick.time {
            time.check()?;
        }
        stick.http.as_ref().map_or(Ok(()), Http::check)?;
        stick.media.as_ref().map_or(Ok(()), Media::check)?;
        stick.sip.as_ref().map_or(Ok(()), Sip::check)?;
        Ok(stick)
    }

    /// Names of the sections it has, as the file writes them.
    pub fn sections(&self) -> Vec<&'static str> {
        let sections = [
            ("[network]", self.network.is_some()),
            ("[time]", self.time.is_some()),
            ("[certificate]", self.certificate.is_some()),
            ("[http]", self.http.is_some()),
            ("[media]", self.media.is_some()),
            ("[sip]", self.sip.is_some()),
        ];
        let there = sections.into_iter().filter(|(_, is_there)| *is_there);
        there.map(|(name, _)| name).collect()
    }

    /// The same with the sections of `kept` that it does not name.
    pub(crate) fn over(self, kept: Self) -> Self {
        Self {
            network: self.network.or(kept.network),
            time: self.time.or(kept.time),
            certificate: self.certificate.or(kept.certificate),
            http: self.http.or(kept.http),
            media: self.media.or(kept.media),
            sip: self.sip.or(kept.sip),
        }
    }

    /// The files for systemd that do what the stick asks: path below `/run`, content.
    pub fn files(&self) -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        if let Some(network) = &self.network {
            network.files(&mut files);
        }
        if let Some(time) = self.time.as_ref().filter(|time| !time.ntp.is_empty()) {
            let servers: Vec<&str> = time.ntp.iter().map(|host| host.0.as_str()).collect();
            files.push((
                PathBuf::from("systemd/timesyncd.conf.d/10-palabre.conf"),
                format!("[Time]\nNTP={}\n", servers.join(" ")),
            ));
        }
        let variables = [
            self.http.as_ref().map(Http::variables),
            self.media.as_ref().map(Media::variables),
            self.sip.as_ref().map(Sip::variables),
        ];
        let variables: String = variables.into_iter().flatten().collect();
        if !variables.is_empty() {
            files.push((PathBuf::from(VARIABLES), variables));
        }
        files
    }
}

impl Time {
    /// Refuses what says nothing, or too much.
    pub fn check(&self) -> Result<(), Refused> {
        let says_nothing = self.ntp.is_empty() && self.zone.is_none();
        match says_nothing || self.ntp.len() > MAX_SERVERS {
            true => Err(Refused::Servers),
            false => Ok(()),
        }
    }
}

impl Network {
    /// Refuses what contradicts itself.
    pub fn check(&self) -> Result<(), Refused> {
        let Some(address) = self.address else {
            if self.dhcp == Some(false) {
                return Err(Refused::Network("`dhcp = false` needs an `address`"));
            }
            if self.gateway.is_some() {
                return Err(Refused::Network("a `gateway` needs an `address`"));
            }
            return self.check_lists();
        };
        if self.dhcp == Some(true) {
            return Err(Refused::Network(
                "`dhcp = true` and an `address` exclude each other",
            ));
        }
        if self
            .gateway
            .is_some_and(|gateway| gateway.is_ipv4() != address.ip.is_ipv4())
        {
            return Err(Refused::Network(
                "`gateway` and `address` are of different kinds",
            ));
        }
        if self.gateway == Some(address.ip) {
            return Err(Refused::Network("`gateway` is the box itself"));
        }
        self.check_lists()
    }

    fn check_lists(&self) -> Result<(), Refused> {
        match self.dns.len() <= MAX_SERVERS {
            true => Ok(()),
            false => Err(Refused::Network("at most 8 `dns` servers")),
        }
    }

    fn files(&self, files: &mut Vec<(PathBuf, String)>) {
        let folder = Path::new("systemd/network");
        let port = match &self.interface {
            Some(Interface(name)) => format!("Name={name}\n"),
            None => "Type=ether\nKind=!*\n".to_owned(),
        };
        let mut addressing = match self.address {
            Some(Address { ip, prefix }) => {
                format!("DHCP=no\nLinkLocalAddressing=ipv6\nAddress={ip}/{prefix}\n")
            }
            None => "DHCP=yes\n".to_owned(),
        };
        if let Some(gateway) = self.gateway {
            addressing.push_str(&format!("Gateway={gateway}\n"));
        }
        for server in &self.dns {
            addressing.push_str(&format!("DNS={server}\n"));
        }
        let network = match self.vlan {
            None => format!("[Match]\n{port}\n[Network]\n{addressing}"),
            Some(Vlan(id)) => {
                files.push((
                    PathBuf::from(VLAN),
                    format!("[NetDev]\nName=palabre-vlan\nKind=vlan\n\n[VLAN]\nId={id}\n"),
                ));
                files.push((
                    folder.join("11-palabre-vlan.network"),
                    format!("[Match]\nName=palabre-vlan\n\n[Network]\n{addressing}"),
                ));
                format!(
                    "[Match]\n{port}\n[Network]\nVLAN=palabre-vlan\nDHCP=no\nLinkLocalAddressing=no\n"
                )
            }
        };
        files.push((folder.join("10-palabre.network"), network));
    }
}

#[cfg(test)]
#[path = "stick_tests.rs"]
pub(crate) mod tests;
