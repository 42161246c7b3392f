//! Where links begin that are given to others.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use palabre_engine::addresses::of_machine;

use crate::app::App;
use crate::client::{CameTo, Client, websocket};
use crate::config::AdminConfig;
use crate::phone::told;
use crate::redirect::https;

/// Links for others than who asks.
///
/// They begin as who asks came, but for a browser on this machine: `localhost` says nothing to others.
pub(crate) struct Links {
    /// Scheme and host, without a slash at the end.
    pub(crate) origin: String,
}

impl Links {
    fn of(
        config: &AdminConfig,
        client: &Client,
        came_to: Option<IpAddr>,
        own: impl FnOnce(IpAddr) -> Vec<IpAddr>,
    ) -> Self {
        let elsewhere = match client.is_here && config.public_url.is_none() {
            true => of_network(config.bind, came_to, own),
            false => None,
        };
        Self {
            origin: elsewhere.unwrap_or_else(|| client.origin.clone()),
        }
    }

    /// The link that opens a room in a browser.
    pub(crate) fn room(&self, slug: &str) -> String {
        format!("{}/r/{slug}", self.origin)
    }

    /// Where programs connect.
    pub(crate) fn websocket(&self) -> String {
        websocket(&self.origin)
    }
}

/// The https address of pages at `bound` as others see it; none when nobody else can.
fn of_network(
    bound: SocketAddr,
    came_to: Option<IpAddr>,
    own: impl FnOnce(IpAddr) -> Vec<IpAddr>,
) -> Option<String> {
    let address = told(bound.ip(), came_to, own).filter(|address| !address.is_loopback());
    Some(match address? {
        IpAddr::V4(v4) => https(&v4.to_string(), bound.port()),
        IpAddr::V6(v6) => https(&format!("[{v6}]"), bound.port()),
    })
}

impl FromRequestParts<App> for Links {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let Ok(client) = Client::from_request_parts(parts, app).await;
        let Ok(CameTo(came_to)) = CameTo::from_request_parts(parts, app).await;
        Ok(Self::of(&app.config, &client, came_to, of_machine))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    #[test]
    fn what_this_machine_gives_to_others_leads_to_its_network() {
        let here = IpAddr::from([127, 0, 0, 1]);
        let shown = |config: &AdminConfig, peer: &str, host: &str, own: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert("host", host.parse().unwrap());
            let client = Client::of(config, peer.parse().unwrap(), &headers);
            let own = own.iter().map(|text| text.parse().unwrap()).collect();
            let of_machine = |any: IpAddr| {
                assert_eq!(any, config.bind.ip());
                own
            };
            Links::of(config, &client, Some(here), of_machine).origin
        };
        let tls = |bind: &str| AdminConfig {
            bind: bind.parse().unwrap(),
            tls_certificate: Some("c.pem".into()),
            tls_key: Some("k.pem".into()),
            ..AdminConfig::default()
        };
        let one: &[_] = &["192.0.2.7"];
        for (bind, own, origin) in [
            ("[::]:443", one, "https://192.0.2.7"),
            // The way out is the first, whatever its number.
            (
                "[::]:443",
                &["198.51.100.7", "192.0.2.7"],
                "https://198.51.100.7",
            ),
            ("[::]:8443", &["2001:db8::7"], "https://[2001:db8::7]:8443"),
            ("[::]:443", &["169.254.3.4"], "https://169.254.3.4"),
            ("192.0.2.1:443", one, "https://192.0.2.1"),
            // Nobody else can.
            ("[::]:443", &["127.0.0.1"], "https://localhost"),
            ("127.0.0.1:443", one, "https://localhost"),
        ] {
            let config = tls(bind);
            assert_eq!(shown(&config, "127.0.0.1", "localhost", own), origin);
            // Who came from elsewhere knows an address that others can use.
            let guest = shown(&config, "192.0.2.9", "box.local", own);
            assert_eq!(guest, "https://box.local");
        }
        let named = AdminConfig {
            public_url: Some("https://meet.example.org".into()),
            ..tls("[::]:443")
        };
        let origin = shown(&named, "127.0.0.1", "localhost", one);
        assert_eq!(origin, "https://meet.example.org");
        // Plain http: who knows where its people are.
        let plain = AdminConfig::default();
        let origin = shown(&plain, "127.0.0.1", "localhost:7880", one);
        assert_eq!(origin, "http://localhost:7880");
    }
}
