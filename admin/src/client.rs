//! Who is asking: the address a request really comes from, the address it was sent to, and the one it came to.
//!
//! `X-Forwarded-*` is believed from trusted proxies only.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};

use crate::app::App;
use crate::config::{AdminConfig, Network};

/// The socket's other end, put into each request by the listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

/// The socket's own end, put into each request by the listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnAddress(pub(crate) SocketAddr);

/// The address of this machine that the request came to, when it came over a socket.
pub(crate) struct CameTo(pub(crate) Option<IpAddr>);

impl<S: Sync> FromRequestParts<S> for CameTo {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let own = parts.extensions.get::<OwnAddress>();
        // A listener of both kinds sees IPv4 as a part of IPv6.
        Ok(Self(own.map(|own| own.0.ip().to_canonical())))
    }
}

/// Who is asking.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Client {
    /// The nearest address that is no trusted proxy.
    pub(crate) source: IpAddr,
    /// Where people reach us, which links repeat: scheme and host, without a slash at the end.
    pub(crate) origin: String,
    /// Where this one does, which is another place for [`Client::is_here`].
    reached: String,
    /// A browser on this machine that asked for `localhost`, where we speak https ourselves: the screen of a room's box, which
    /// may know of no other address than that one. A proxy on this machine is no browser, by what it says of itself.
    pub(crate) is_here: bool,
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What proxies add, one or another of them (RFC 7239, RFC 9110, 7.6.3).
const PROXIED: [HeaderName; 5] = [
    header::FORWARDED,
    header::VIA,
    FORWARDED_FOR,
    FORWARDED_PROTO,
    FORWARDED_HOST,
];

impl Client {
    pub(crate) fn of(config: &AdminConfig, peer: IpAddr, headers: &HeaderMap) -> Self {
        let is_trusted =
            |address: IpAddr| config.trusted_proxies.iter().any(|n| n.contains(address));
        let mut source = peer.to_canonical();
        let through_proxy = is_trusted(source);
        if through_proxy {
            // Each proxy appends whom it heard: from the right, the first that is no proxy of ours is the
            // asker; whatever stands left of it was written by the asker.
            let hops = headers.get_all(FORWARDED_FOR).into_iter().rev();
            let hops = hops
                .filter_map(|value| value.to_str().ok())
                .flat_map(|v| v.rsplit(','));
            for hop in hops {
                let Ok(address) = hop.trim().parse::<IpAddr>() else {
                    break;
                };
                source = address.to_canonical();
                if !is_trusted(source) {
                    break;
                }
            }
        }
        let asked = || {
            let forwarded = |name| through_proxy.then(|| text(headers, &name)).flatten();
            let scheme = match forwarded(FORWARDED_PROTO) {
                Some("https") => "https",
                Some(_) => "http",
                None if config.is_tls() => "https",
                None => "http",
            };
            let host = forwarded(FORWARDED_HOST).or_else(|| text(headers, &header::HOST));
            let host = host.filter(|host| is_host(host)).map(str::to_owned);
            format!(
                "{scheme}://{}",
                host.unwrap_or_else(|| config.bind.to_string())
            )
        };
        let is_here = config.is_tls()
            && peer.to_canonical().is_loopback()
            && PROXIED.iter().all(|name| !headers.contains_key(name))
            && text(headers, &header::HOST).is_some_and(is_localhost);
        let (origin, reached) = match &config.public_url {
            Some(url) if is_here => (url.clone(), asked()),
            Some(url) => (url.clone(), url.clone()),
            None => (asked(), asked()),
        };
        Self {
            source,
            origin,
            reached,
            is_here,
        }
    }

    /// Whether the person's connection is encrypted.
    pub(crate) fn is_secure(&self) -> bool {
        self.origin.starts_with("https://")
    }

    /// Where this one's WebSockets go.
    pub(crate) fn websocket_origin(&self) -> String {
        websocket(&self.reached)
    }

    /// Whether the request may be carried out although a browser sent it: it comes from our own page, or
    /// from no page at all.
    pub(crate) fn is_same_origin(&self, headers: &HeaderMap) -> bool {
        if let Some(site) = text(headers, &HeaderName::from_static("sec-fetch-site")) {
            return matches!(site, "same-origin" | "none");
        }
        match headers.get(header::ORIGIN) {
            Some(origin) => origin.to_str().is_ok_and(|origin| origin == self.reached),
            // Browsers name the origin of every such request from another site.
            None => true,
        }
    }
}

/// The same place for WebSockets.
pub(crate) fn websocket(origin: &str) -> String {
    origin.replacen("http", "ws", 1)
}

/// Whether `address` is in one of the networks.
pub(crate) fn is_in(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn is_localhost(host: &str) -> bool {
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost")
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 255
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
}

impl FromRequestParts<App> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let peer = parts
            .extensions
            .get::<PeerAddress>()
            .map(|peer| peer.0.ip());
        // Without a socket there is nobody to slow down: one source for all such requests.
        let peer = peer.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        Ok(Self::of(&app.config, peer, &parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn config() -> AdminConfig {
        AdminConfig {
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            ..AdminConfig::default()
        }
    }

    fn source(peer: &str, pairs: &[(&'static str, &str)]) -> String {
        Client::of(&config(), peer.parse().unwrap(), &headers(pairs))
            .source
            .to_string()
    }

    #[test]
    fn only_a_trusted_proxy_says_who_is_behind_it() {
        let claim = [("x-forwarded-for", "203.0.113.7")];
        assert_eq!(source("198.51.100.1", &claim), "198.51.100.1");
        assert_eq!(source("10.0.0.1", &claim), "203.0.113.7");
        assert_eq!(source("::ffff:10.0.0.1", &claim), "203.0.113.7");
        // What the asker wrote itself stands on the left, and is not believed.
        assert_eq!(
            source(
                "10.0.0.1",
                &[("x-forwarded-for", "1.2.3.4, 203.0.113.7, 10.0.0.9")]
            ),
            "203.0.113.7"
        );
        assert_eq!(
            source(
                "10.0.0.1",
                &[
                    ("x-forwarded-for", "1.2.3.4"),
                    ("x-forwarded-for", "203.0.113.7")
                ]
            ),
            "203.0.113.7"
        );
        assert_eq!(
            source("10.0.0.1", &[("x-forwarded-for", "1.2.3.4, nonsense")]),
            "10.0.0.1"
        );
        assert_eq!(source("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn links_repeat_the_address_the_person_used() {
        let origin = |peer: &str, pairs: &[(&'static str, &str)]| {
            Client::of(&config(), peer.parse().unwrap(), &headers(pairs)).origin
        };
        assert_eq!(
            origin("1.1.1.1", &[("host", "box.local:7880")]),
            "http://box.local:7880"
        );
        let forwarded = [
            ("host", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "meet.example.org"),
        ];
        assert_eq!(origin("10.0.0.1", &forwarded), "https://meet.example.org");
        assert_eq!(origin("1.1.1.1", &forwarded), "http://127.0.0.1");
        assert_eq!(
            origin("1.1.1.1", &[("host", "evil/\"<x>")]),
            "http://127.0.0.1:7880"
        );
        let config = AdminConfig {
            public_url: Some("https://a.example".into()),
            ..config()
        };
        let client = Client::of(&config, IpAddr::from([1, 1, 1, 1]), &headers(&forwarded));
        assert_eq!(client.origin, "https://a.example");
        assert_eq!(client.websocket_origin(), "wss://a.example");
        assert!(client.is_secure());
    }

    #[test]
    fn with_tls_of_our_own_the_origin_is_https() {
        let config = AdminConfig {
            tls_certificate: Some("c.pem".into()),
            tls_key: Some("k.pem".into()),
            ..config()
        };
        let client = |peer: &str, pairs: &[(&'static str, &str)]| {
            Client::of(&config, peer.parse().unwrap(), &headers(pairs))
        };
        let person = client("1.1.1.1", &[("host", "box.local")]);
        assert_eq!(person.origin, "https://box.local");
        assert!(person.is_secure());
        let ours = headers(&[("host", "box.local"), ("origin", "https://box.local")]);
        assert!(person.is_same_origin(&ours));
        let plain = headers(&[("host", "box.local"), ("origin", "http://box.local")]);
        assert!(!person.is_same_origin(&plain));
        // Whoever comes through a proxy may still have come to it in plain text.
        let through = [("host", "box.local"), ("x-forwarded-proto", "http")];
        assert!(!client("10.0.0.1", &through).is_secure());
    }

    #[test]
    fn a_browser_on_this_machine_stays_there_and_links_lead_elsewhere() {
        let config = AdminConfig {
            tls_certificate: Some("c.pem".into()),
            tls_key: Some("k.pem".into()),
            public_url: Some("https://meet.example.org".into()),
            ..config()
        };
        let client = |config: &AdminConfig, peer: &str, pairs: &[(&'static str, &str)]| {
            Client::of(config, peer.parse().unwrap(), &headers(pairs))
        };
        for (peer, host) in [("127.0.0.1", "localhost"), ("::1", "Localhost:443")] {
            let screen = client(&config, peer, &[("host", host)]);
            assert!(screen.is_here && screen.is_secure());
            assert_eq!(screen.origin, "https://meet.example.org");
            assert_eq!(screen.websocket_origin(), format!("wss://{host}"));
            let of_page = |origin: &str| headers(&[("host", host), ("origin", origin)]);
            assert!(screen.is_same_origin(&of_page(&format!("https://{host}"))));
            assert!(!screen.is_same_origin(&of_page("https://evil.example")));
        }
        // Another machine, another name, a proxy on this machine.
        for (peer, pairs) in [
            ("192.0.2.1", vec![("host", "localhost")]),
            ("127.0.0.1", vec![("host", "127.0.0.1")]),
            ("127.0.0.1", vec![("host", "localhost.evil.example")]),
            ("127.0.0.1", vec![]),
            (
                "127.0.0.1",
                vec![("host", "localhost"), ("x-forwarded-for", "192.0.2.1")],
            ),
            (
                "127.0.0.1",
                vec![("host", "localhost"), ("via", "1.1 proxy")],
            ),
            (
                "127.0.0.1",
                vec![("host", "localhost"), ("forwarded", "for=192.0.2.1")],
            ),
        ] {
            let other = client(&config, peer, &pairs);
            assert!(!other.is_here, "{peer} {pairs:?}");
            assert_eq!(other.websocket_origin(), "wss://meet.example.org");
        }
        // Who speaks https here is a proxy of this machine, whose people are elsewhere.
        let behind = AdminConfig {
            tls_certificate: None,
            tls_key: None,
            ..config
        };
        let proxied = client(&behind, "127.0.0.1", &[("host", "localhost:7880")]);
        assert_eq!(proxied.websocket_origin(), "wss://meet.example.org");
    }

    #[test]
    fn requests_of_other_sites_are_told_apart() {
        let is_same = |pairs: &[(&'static str, &str)]| {
            let mut all = vec![("host", "box:7880")];
            all.extend_from_slice(pairs);
            let headers = headers(&all);
            Client::of(&config(), IpAddr::from([1, 1, 1, 1]), &headers).is_same_origin(&headers)
        };
        assert!(is_same(&[]));
        assert!(is_same(&[("origin", "http://box:7880")]));
        assert!(is_same(&[
            ("sec-fetch-site", "same-origin"),
            ("origin", "http://box:7880")
        ]));
        assert!(!is_same(&[("origin", "http://box:7881")]));
        assert!(!is_same(&[("origin", "https://evil.example")]));
        assert!(!is_same(&[("origin", "null")]));
        assert!(!is_same(&[("sec-fetch-site", "cross-site")]));
        assert!(!is_same(&[
            ("sec-fetch-site", "same-site"),
            ("origin", "http://box:7880")
        ]));
    }
}
