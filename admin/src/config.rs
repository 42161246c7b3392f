//! Keys of the HTTP plane.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use palabre_engine::settings::{RawValue, Setting, Span};

palabre_engine::settings! {
    /// HTTP: the pages, the administration and LiveKit clients, all on one port.
    pub struct AdminConfig {
        /// Address and port that browsers and applications connect to.
        pub bind: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7880)),
        /// PEM file of the certificate and, after it, of those that issued it. With `tls_key` beside it, `bind` speaks
        /// HTTPS. Read again when it changes: a renewal needs no restart.
        pub tls_certificate: Option<PathBuf> = None,
        /// PEM file of the certificate's private key, without a passphrase.
        pub tls_key: Option<PathBuf> = None,
        /// Address and port that send whoever comes by plain HTTP to the https address; unset = none. Nothing else is
        /// served there, but /healthz, /readyz and /metrics to this machine.
        pub redirect_bind: Option<SocketAddr> = None,
        /// What people type to reach the box from outside, such as "https://meet.example.org".
        /// Unset: links repeat the address the person used, or, for a browser on this machine, one of its network.
        pub public_url: Option<String> = None,
            where |url| url.as_deref().is_none_or(is_origin), "http:// or https:// and a host, without a path",
        /// Addresses or networks of reverse proxies whose X-Forwarded-* headers are believed.
        /// Anybody listed here can pretend to be any caller.
        pub trusted_proxies: Vec<Network> = Vec::new(),
        /// Who may read /metrics.
        pub metrics_from: Vec<Network> = Network::loopback(),
        /// Telephone number of the box, as shown to people; unset = not shown.
        pub phone_number: Option<String> = None,
        /// SIP address of the box, as shown to people. Unset: where calls are taken, at the address of this machine that the
        /// person reached; not shown when none are.
        pub sip_address: Option<String> = None,
        /// How long an administrator stays signed in.
        pub session_lifetime: Span = Span::from_secs(12 * 3600),
            where |span| *span >= Span::from_secs(60), "at least 1 min",
        /// How long a person has between the join page and the room; also the life of the tokens that
        /// are renewed while in the room. Longer rides out longer interruptions; shorter ends stolen tokens sooner.
        pub join_token_lifetime: Span = Span::from_secs(600),
            where |span| *span >= Span::from_secs(60), "at least 1 min",
        /// HTTP and WebSocket connections at once. Each costs about 100 KiB; one participant holds one or two.
        pub connections: usize = 4096, where |n| (16..=1_000_000).contains(n), "between 16 and 1,000,000",
        /// Connections at once from one address, trusted proxies excepted: an office behind one address needs two a person.
        pub connections_per_source: usize = 1024, where |n| (8..=1_000_000).contains(n), "between 8 and 1,000,000",
    }
}

impl AdminConfig {
    /// Whether `bind` speaks HTTPS.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls_certificate.is_some() && self.tls_key.is_some()
    }

    /// Whether the box is reached by https from outside, by a proxy's TLS if not by ours.
    pub(crate) fn is_public_https(&self) -> bool {
        let url = self.public_url.as_deref();
        url.is_some_and(|url| url.starts_with("https://"))
    }
}

palabre_engine::settings! {
    /// The appliance Palabre runs on, when it runs on one.
    pub struct ApplianceConfig {
        /// Socket of the box's own service, which updates, restarts and sets up the machine.
        /// Unset: this is a machine of your own, and Palabre leaves it alone.
        pub socket: Option<PathBuf> = None,
        /// What the image says of itself: its version names the copies of the database made before it.
        pub image: PathBuf = PathBuf::from("/usr/lib/palabre/image.json"),
        /// How long all rooms must have been empty before a planned restart begins. Longer waits for people
        /// who lost their connection; shorter finds the end of a busy day's meetings.
        pub empty_before_restart: Span = Span::from_secs(60),
        /// How long before a restart that ends their meeting people are told of it. Longer lets them finish a
        /// sentence, or a decision; shorter has the box back sooner.
        pub notice_before_restart: Span = Span::from_secs(30),
    }
}

/// Whether `url` is a scheme and a host, perhaps a port, and nothing else.
fn is_origin(url: &str) -> bool {
    let host = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b))
    })
}

/// An address, or a network such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// This machine only.
    pub fn loopback() -> Vec<Self> {
        vec![
            Self {
                address: IpAddr::from([127, 0, 0, 0]),
                prefix: 8,
            },
            Self {
                address: IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
                prefix: 128,
            },
        ]
    }

    /// Whether `address` belongs to it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing
                    .checked_shr(32 - u32::from(self.prefix))
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing
                    .checked_shr(128 - u32::from(self.prefix))
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

/// The text is no address and no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadNetwork;

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| BadNetwork)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.trim().parse().map_err(|_| BadNetwork)?,
            None => longest,
        };
        if prefix > longest {
            return Err(BadNetwork);
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Setting for Network {
    fn read(value: &RawValue) -> Result<Self, String> {
        match value {
            RawValue::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
        .ok_or_else(|| {
            format!(
                "expected an address or a network in quotes, such as \"192.0.2.1\" or \"10.0.0.0/8\", found {}",
                value.kind()
            )
        })
    }

    fn write(&self) -> String {
        format!("\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palabre_engine::settings::{Rejected, Section};

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("::/0", "2001:db8::1", true),
        ];
        for (network, address, is_in) in cases {
            let network: Network = network.parse().unwrap();
            assert_eq!(
                network.contains(address.parse().unwrap()),
                is_in,
                "{network} {address}"
            );
            assert_eq!(
                Network::read(&RawValue::Text(network.to_string())),
                Ok(network)
            );
        }
        for wrong in ["10.0.0.0/33", "::/129", "host", "10.0.0.0/-1", ""] {
            assert_eq!(wrong.parse::<Network>(), Err(BadNetwork), "{wrong}");
        }
    }

    #[test]
    fn a_public_url_is_an_origin() {
        let mut config = AdminConfig::default();
        let mut set = |url: &str| config.set("public_url", &RawValue::Text(url.to_owned()));
        assert_eq!(set("https://meet.example.org"), Ok(()));
        assert_eq!(set("http://192.0.2.1:7880"), Ok(()));
        for wrong in [
            "meet.example.org",
            "https://",
            "https://a/b",
            "https://a\r\nb",
            "ftp://a",
        ] {
            assert!(matches!(set(wrong), Err(Rejected::Invalid(_))), "{wrong}");
        }
    }
}
