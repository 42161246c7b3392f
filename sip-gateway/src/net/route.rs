//! Which of this machine's addresses a peer sees: what Via, Contact and SDP must say when we listen on all of them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// How long a route is remembered. Longer asks the system less often, shorter follows a changed network sooner: as long as the
/// engine remembers the addresses that browsers are told.
const REMEMBERED: Duration = Duration::from_secs(5);

/// Peers remembered. Above it all are forgotten, which costs one system call each.
const PEERS: usize = 4_096;

/// Routes asked for so far.
#[derive(Debug, Default)]
pub(super) struct Routes {
    known: HashMap<IpAddr, (IpAddr, Instant)>,
}

impl Routes {
    /// Our concrete address towards `peer`, when we listen on `bound`; `None` when there is no way back to it.
    pub(super) fn local(
        &mut self,
        now: Instant,
        bound: SocketAddr,
        peer: SocketAddr,
    ) -> Option<SocketAddr> {
        if !bound.ip().is_unspecified() {
            return Some(bound);
        }
        if let Some((local, until)) = self.known.get(&peer.ip())
            && now < *until
        {
            return Some(SocketAddr::new(*local, bound.port()));
        }
        let local = towards(bound.ip(), peer)?;
        if self.known.len() >= PEERS {
            self.known.clear();
        }
        self.known.insert(peer.ip(), (local, now + REMEMBERED));
        Some(SocketAddr::new(local, bound.port()))
    }
}

/// The address as people write it: IPv4 comes to an IPv6 socket in IPv6 clothes.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The address as a socket bound to `bound` wants it.
pub(super) fn dressed(address: SocketAddr, bound: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) if bound.is_ipv6() => {
            SocketAddr::new(v4.to_ipv6_mapped().into(), address.port())
        }
        _ => address,
    }
}

/// The source address the system would use: connecting a datagram socket sends nothing, and chooses it.
fn towards(any: IpAddr, peer: SocketAddr) -> Option<IpAddr> {
    let bound = SocketAddr::new(any, 0);
    let socket = UdpSocket::bind(bound).ok()?;
    socket.connect(dressed(peer, bound)).ok()?;
    let local = socket.local_addr().ok()?.ip().to_canonical();
    (!local.is_unspecified()).then_some(local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_concrete_address_stays_and_a_wildcard_is_resolved() {
        let mut routes = Routes::default();
        let now = Instant::now();
        let peer = "127.0.0.9:5060".parse().unwrap();
        let concrete = "127.0.0.1:5060".parse().unwrap();
        assert_eq!(routes.local(now, concrete, peer), Some(concrete));
        let any = "0.0.0.0:5070".parse().unwrap();
        let local = routes.local(now, any, peer).expect("loopback is routed");
        assert!(local.ip().is_loopback() && local.port() == 5_070);
        assert_eq!(routes.local(now, any, peer), Some(local));
        let any = "[::]:5070".parse().unwrap();
        let mut routes = Routes::default();
        let local = routes.local(now, any, peer).expect("loopback is routed");
        assert!(local.is_ipv4(), "{local}");
        assert!(dressed(local, any).is_ipv6());
        assert_eq!(canonical(dressed(local, any)), local);
    }
}
