//! What a person dials to reach the box.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use palabre_engine::addresses::{is_reachable, of_machine};

/// The SIP URI (RFC 3261, 19.1) of a gateway that takes calls at `bound`, for somebody who came to
/// the address `came_to` of this machine, or of whom nothing is known.
///
/// A gateway on all addresses has none of its own. The one that this person reached is right for
/// them; else it is one of the network, and loopback on a machine without any. The machine is asked
/// each time: its addresses come and go.
#[must_use]
pub fn sip_uri(bound: SocketAddr, came_to: Option<IpAddr>) -> String {
    let address = told(bound.ip(), came_to, of_machine).unwrap_or(Ipv4Addr::LOCALHOST.into());
    format!("sip:reunion@{}", SocketAddr::new(address, bound.port()))
}

/// The address at which others reach what is bound to `bound`, which may be any; none on a machine
/// without a network. `own` are those of the machine, most preferred first.
pub(crate) fn told(
    bound: IpAddr,
    came_to: Option<IpAddr>,
    own: impl FnOnce(IpAddr) -> Vec<IpAddr>,
) -> Option<IpAddr> {
    let any = match bound.is_unspecified() {
        true => bound,
        false => return Some(bound),
    };
    let is_heard = |address: &IpAddr| any.is_ipv6() || address.is_ipv4();
    // An address that a machine gave itself (RFC 3927) says enough to who reached it.
    let is_of_network = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_unspecified(),
        IpAddr::V6(_) => is_reachable(*address),
    };
    came_to
        .filter(|address| is_heard(address) && is_of_network(address))
        .or_else(|| {
            let mut all = own(any).into_iter();
            all.find(|address| is_heard(address) && is_of_network(address))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_its_own_is_told_to_everybody() {
        for (bound, uri) in [
            ("127.0.0.1:5060", "sip:reunion@127.0.0.1:5060"),
            ("192.0.2.10:5070", "sip:reunion@192.0.2.10:5070"),
            ("[2001:db8::1]:5060", "sip:reunion@[2001:db8::1]:5060"),
        ] {
            let came_to = Some(IpAddr::from([198, 51, 100, 7]));
            assert_eq!(sip_uri(bound.parse().unwrap(), came_to), uri);
        }
    }

    #[test]
    fn a_gateway_on_all_addresses_tells_the_one_that_was_reached() {
        for (any, came_to, own, expected) in [
            ("0.0.0.0", "10.0.2.15", "192.0.2.1", "10.0.2.15"),
            ("0.0.0.0", "169.254.3.4", "192.0.2.1", "169.254.3.4"),
            // The screen of the box itself, and a proxy beside it.
            (
                "0.0.0.0",
                "127.0.0.1",
                "fe80::5 2001:db8::5 10.0.0.5",
                "10.0.0.5",
            ),
            // A page by IPv6, telephones by IPv4.
            ("0.0.0.0", "2001:db8::5", "2001:db8::5 10.0.0.5", "10.0.0.5"),
            ("::", "2001:db8::5", "10.0.0.5", "2001:db8::5"),
            // It says nothing without its interface.
            ("::", "fe80::5", "fe80::5 10.0.0.5", "10.0.0.5"),
            // Two machines on a cable, without anything that gives addresses.
            ("0.0.0.0", "127.0.0.1", "169.254.3.4", "169.254.3.4"),
            // A machine without a network.
            ("0.0.0.0", "127.0.0.1", "127.0.0.1", ""),
            ("::", "::1", "fe80::5 127.0.0.1", ""),
        ] {
            let ip = |text: &str| text.parse::<IpAddr>().unwrap();
            let own = |_| own.split_whitespace().map(ip).collect();
            let address = told(ip(any), Some(ip(came_to)), own);
            assert_eq!(address, expected.parse().ok(), "{any}, {came_to}");
        }
        let own = |_| vec![IpAddr::from([10, 0, 0, 5])];
        let anybody = told(Ipv4Addr::UNSPECIFIED.into(), None, own);
        assert_eq!(anybody, Some(IpAddr::from([10, 0, 0, 5])));
    }
}
