//! Where the running program is reached from its own machine: what it says of itself, and what the configuration says of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use palabre_admin::synthetic::Ways;
use palabre_call::{Fingerprint, Site, fingerprint};
use palabre_engine::addresses::is_reachable;
use palabre_engine::config::MediaConfig;
use palabre_sip::config;
use palabre_sip::sip::Codec;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::failure::{Failure, Step};
use crate::program::Config;

/// Codecs the telephone would use, the first that the program takes: the one every exchange has, first.
const CODECS: [Codec; 4] = [Codec::Pcma, Codec::Pcmu, Codec::G722, Codec::Opus];

/// Where the telephone calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Telephone {
    pub(crate) address: SocketAddr,
    pub(crate) codec: Codec,
    /// The address that the program must name, of another network: sound is sought where its SIP is.
    pub(crate) advertised: Option<IpAddr>,
}

/// Every door of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) site: Site,
    /// Other machines can reach this one, and the program must tell guests where: nobody told it what to tell.
    pub(crate) is_on_network: bool,
    /// What it must tell guests, when somebody told it what to tell.
    pub(crate) announced: Vec<SocketAddr>,
    /// `None` when telephones cannot call.
    pub(crate) telephone: Option<Telephone>,
}

impl Place {
    /// On a machine whose interfaces have the addresses `own`.
    pub(crate) fn of(config: &Config, ways: &Ways, own: &[IpAddr]) -> Result<Self, Failure> {
        let media = &config.engine.media;
        let from = match media.bind.ip() {
            IpAddr::V6(own) if !own.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        // What is announced may be reachable from outside only.
        let is_hidden = !media.announced.is_empty() && media.bind.port() != 0;
        let telephone = match ways.sip {
            Some(bound) => Some(Telephone {
                address: reachable(bound),
                codec: codec(&config.sip.codecs)?,
                advertised: config.sip.advertise,
            }),
            None if config.sip.enabled => {
                return Err(Failure::new(
                    Step::Sip,
                    "the program runs without telephone, although sip.enabled is true",
                ));
            }
            None => None,
        };
        Ok(Self {
            site: Site {
                http: reachable(ways.http),
                certificate: certificate(config)?,
                media: is_hidden.then(|| reachable(media.bind)),
                from,
            },
            is_on_network: is_on_network(media, own),
            announced: named(media),
            telephone,
        })
    }
}

/// What guests are told whatever the machine's own addresses are.
fn named(media: &MediaConfig) -> Vec<SocketAddr> {
    let all = media.announced.iter().copied();
    all.filter(|address| !address.ip().is_unspecified())
        .collect()
}

fn is_on_network(media: &MediaConfig, own: &[IpAddr]) -> bool {
    let bound = media.bind.ip();
    let serves = |own: &IpAddr| is_reachable(*own) && (bound.is_ipv6() || own.is_ipv4());
    let tells_own =
        media.announced.is_empty() || media.announced.iter().any(|a| a.ip().is_unspecified());
    tells_own && bound.is_unspecified() && own.iter().any(serves)
}

/// The certificate that the program must show: the one it is configured to, however young.
fn certificate(config: &Config) -> Result<Option<Fingerprint>, Failure> {
    let Some(path) = &config.http.tls_certificate else {
        return Ok(None);
    };
    let read = CertificateDer::from_pem_file(path);
    let certificate = read.map_err(|error| {
        let path = path.display();
        Failure::new(
            Step::Access,
            format!("{path} holds no certificate: {error}"),
        )
    })?;
    Ok(Some(fingerprint(&certificate)))
}

/// The address at which this machine reaches what listens on `bound`.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(own) if own.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(own) if own.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        own => own,
    };
    SocketAddr::new(ip, bound.port())
}

fn codec(taken: &[config::Codec]) -> Result<Codec, Failure> {
    let mut known = CODECS.into_iter();
    known
        .find(|codec| taken.contains(&config::Codec(*codec)))
        .ok_or_else(|| Failure::new(Step::Sip, "sip.codecs names no codec"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn ways(http: &str, sip: Option<&str>) -> Ways {
        Ways {
            http: address(http),
            sip: sip.map(address),
        }
    }

    #[test]
    fn a_box_on_all_its_addresses_is_called_on_loopback() {
        let mut config = Config::default();
        config.engine.media.bind = address("0.0.0.0:7880");
        let place = Place::of(&config, &ways("0.0.0.0:80", Some("0.0.0.0:5060")), &[]).unwrap();
        assert_eq!(place.site.http, address("127.0.0.1:80"));
        assert_eq!(place.site.media, None);
        assert_eq!(place.site.from, IpAddr::from([127, 0, 0, 1]));
        let telephone = place.telephone.unwrap();
        assert_eq!(telephone.address, address("127.0.0.1:5060"));
        assert_eq!(telephone.codec, Codec::Pcma);
        assert_eq!(telephone.advertised, None);
        assert_eq!(place.announced, []);
        let six = Place::of(&config, &ways("[::]:80", Some("192.0.2.1:5060")), &[]).unwrap();
        assert_eq!(six.site.http, address("[::1]:80"));
        assert_eq!(six.telephone.unwrap().address, address("192.0.2.1:5060"));
    }

    #[test]
    fn what_only_others_can_reach_is_not_all_that_is_tried() {
        let mut config = Config::default();
        config.engine.media.bind = address("0.0.0.0:7880");
        config.engine.media.announced = vec![address("203.0.113.1:7880")];
        config.sip.advertise = Some(IpAddr::from([203, 0, 113, 1]));
        config.sip.codecs = vec![config::Codec(Codec::Opus), config::Codec(Codec::Pcmu)];
        let place = Place::of(&config, &ways("127.0.0.1:80", Some("0.0.0.0:5060")), &[]).unwrap();
        assert_eq!(place.site.media, Some(address("127.0.0.1:7880")));
        let telephone = place.telephone.unwrap();
        assert_eq!(telephone.advertised, config.sip.advertise);
        assert_eq!(place.announced, config.engine.media.announced);
        assert_eq!(telephone.codec, Codec::Pcmu);
    }

    #[test]
    fn others_are_expected_where_there_is_a_network_and_no_word_on_it() {
        let is_expected = |bind: &str, announced: &[&str], own: &[&str]| {
            let media = MediaConfig {
                bind: address(bind),
                announced: announced.iter().map(|text| address(text)).collect(),
                ..MediaConfig::default()
            };
            let own: Vec<IpAddr> = own.iter().map(|text| text.parse().unwrap()).collect();
            is_on_network(&media, &own)
        };
        assert!(is_expected("[::]:7880", &[], &["fe80::1", "10.0.0.5"]));
        assert!(is_expected("[::]:7880", &[], &["fd00::5"]));
        assert!(is_expected("0.0.0.0:7880", &[], &["10.0.0.5"]));
        assert!(!is_expected("0.0.0.0:7880", &[], &["fd00::5"]));
        assert!(!is_expected("[::]:7880", &[], &["fe80::1", "169.254.3.4"]));
        assert!(!is_expected("[::]:7880", &[], &[]));
        assert!(!is_expected("127.0.0.1:7880", &[], &["10.0.0.5"]));
        let told = ["203.0.113.1:7880"];
        assert!(!is_expected("[::]:7880", &told, &["10.0.0.5"]));
        let both = ["203.0.113.1:7880", "[::]:7880"];
        assert!(is_expected("[::]:7880", &both, &["10.0.0.5"]));
        let media = MediaConfig {
            announced: both.map(address).to_vec(),
            ..MediaConfig::default()
        };
        assert_eq!(named(&media), [address("203.0.113.1:7880")]);
    }

    #[test]
    fn a_telephone_that_should_be_there_is_missed() {
        let mut config = Config::default();
        let without = ways("127.0.0.1:80", None);
        assert_eq!(
            Place::of(&config, &without, &[]).unwrap_err().step,
            Step::Sip
        );
        config.sip.enabled = false;
        assert_eq!(Place::of(&config, &without, &[]).unwrap().telephone, None);
    }
}
