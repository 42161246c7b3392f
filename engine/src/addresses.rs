//! This machine's addresses, and which of them clients are told to reach the media port at.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::config::MediaConfig;

/// Addresses of the machine's own told at most, beside loopback. Each more costs every connection a
/// line in its descriptions and a connectivity check; fewer leave out networks of a machine on many.
const MOST: usize = 8;

/// How long addresses are told before they are read again, though the system has said nothing of a
/// change: it does not of one of routes, and in a sandbox of none. Longer asks it less often,
/// shorter sooner puts the network that now has the way out first.
const REMEMBERED: Duration = Duration::from_secs(5);

/// What the system says of interfaces and of their addresses (rtnetlink(7): `RTMGRP_LINK`,
/// `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR`).
const CHANGES: u32 = 0x1 | 0x10 | 0x100;

/// Addresses of all interfaces that are up, but for the machine's own loopback, in the system's
/// order.
///
/// # Errors
/// When the system does not tell them: they come from a netlink socket, which a sandbox may forbid.
pub fn of_interfaces() -> io::Result<Vec<IpAddr>> {
    let addresses = nix::ifaddrs::getifaddrs()?
        .filter(|entry| {
            entry.flags.contains(InterfaceFlags::IFF_UP)
                && !entry.flags.contains(InterfaceFlags::IFF_LOOPBACK)
        })
        .filter_map(|entry| {
            let address = entry.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect();
    Ok(addresses)
}

/// Whether other machines can reach this address without knowing on which of their interfaces.
#[must_use]
pub fn is_reachable(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(is_link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// What clients are told, which follows the machine's addresses unless the configuration names some.
pub(crate) struct Announced {
    /// Those of the configuration, which stay.
    named: Vec<SocketAddr>,
    /// The port at all of the machine's own, when those are told.
    any: Option<SocketAddr>,
    addresses: Vec<SocketAddr>,
    until: Instant,
    /// Has something to read when the machine's addresses have changed.
    changes: Option<OwnedFd>,
}

impl Announced {
    /// For the media port at `local`.
    pub(crate) fn new(media: &MediaConfig, local: SocketAddr, now: Instant) -> Self {
        let is_any = |address: &SocketAddr| address.ip().is_unspecified();
        let (any, named): (Vec<_>, Vec<_>) = media.announced.iter().partition(|one| is_any(one));
        let tells_own = !any.is_empty() || named.is_empty();
        let any = (tells_own && is_any(&local)).then_some(local);
        let mut named = named;
        // Bound to one address, the machine's own are that one.
        if tells_own && any.is_none() && !named.contains(&local) {
            named.push(local);
        }
        // Before they are read: what changes in between is then heard of.
        let changes = any.and_then(|_| subscribe().ok());
        let addresses = match any {
            Some(any) => told(&named, any),
            None => named.clone(),
        };
        Self {
            named,
            any,
            addresses,
            until: now + REMEMBERED,
            changes,
        }
    }

    /// Most preferred first.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Reads them again when the system says so or it is time; says whether they have changed.
    pub(crate) fn refresh(&mut self, now: Instant) -> bool {
        let Some(any) = self.any else {
            return false;
        };
        let is_told = self.changes.as_ref().is_some_and(take);
        if !is_told && now < self.until {
            return false;
        }
        self.until = now + REMEMBERED;
        let before = std::mem::replace(&mut self.addresses, told(&self.named, any));
        self.addresses != before
    }
}

/// A socket that the system tells of changes; reading it never waits.
fn subscribe() -> nix::Result<OwnedFd> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, CHANGES))?;
    Ok(netlink)
}

/// Takes what the system has told; whether there was anything. What it says is not looked at, only
/// that it did; so is that it could not say everything (`ENOBUFS`).
fn take(changes: &OwnedFd) -> bool {
    let mut taken = false;
    loop {
        // One message a read, the rest of it is dropped.
        match recv(changes.as_raw_fd(), &mut [0], MsgFlags::empty()) {
            Ok(1..) | Err(Errno::ENOBUFS) => taken = true,
            Err(Errno::EINTR) => {}
            Ok(0) | Err(_) => return taken,
        }
    }
}

/// Those of the configuration, and behind them the machine's own.
fn told(named: &[SocketAddr], any: SocketAddr) -> Vec<SocketAddr> {
    let mut all = named.to_vec();
    all.extend(own(any).into_iter().filter(|own| !named.contains(own)));
    all
}

/// The machine's own, for a port that is bound to all of them.
fn own(any: SocketAddr) -> Vec<SocketAddr> {
    let with_port = |address| SocketAddr::new(address, any.port());
    of_machine(any.ip()).into_iter().map(with_port).collect()
}

/// Where others reach what is bound to `any` address of this machine: at most eight, that of the way
/// out first. Loopback is last, and alone on a machine without a network.
#[must_use]
pub fn of_machine(any: IpAddr) -> Vec<IpAddr> {
    // Where they are not told, those of the routes do for most machines.
    let interfaces = of_interfaces().unwrap_or_default();
    choose(any, &of_default_routes(), &interfaces)
}

/// Addresses from which this machine would send far away, for each family that it can: the system
/// is asked for its route to addresses of documentation (RFC 5737, RFC 3849), where nothing is sent.
fn of_default_routes() -> Vec<IpAddr> {
    let far: [(IpAddr, IpAddr); 2] = [
        (
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::new(192, 0, 2, 1).into(),
        ),
        (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        ),
    ];
    far.into_iter()
        .filter_map(|(any, far)| {
            let socket = UdpSocket::bind((any, 0)).ok()?;
            socket.connect((far, 9)).ok()?;
            Some(socket.local_addr().ok()?.ip())
        })
        .collect()
}

/// Which addresses to tell when the port is bound to `any`: those of default routes first, since most
/// clients come that way, and those of all interfaces, since a machine may have no default route or
/// several networks.
fn choose(any: IpAddr, routes: &[IpAddr], interfaces: &[IpAddr]) -> Vec<IpAddr> {
    let all = || {
        let all = routes.iter().chain(interfaces).copied();
        all.filter(|address| any.is_ipv6() || address.is_ipv4())
    };
    let mut chosen = first(all().filter(|address| is_reachable(*address)));
    if chosen.is_empty() {
        // Of IPv6, such an address says nothing without its interface.
        chosen =
            first(all().filter(|address| matches!(address, IpAddr::V4(v4) if v4.is_link_local())));
    }
    // Clients on this machine, and machines without a network.
    chosen.push(Ipv4Addr::LOCALHOST.into());
    chosen
}

/// As many as are told, each once.
fn first(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut chosen = Vec::new();
    for address in addresses {
        if chosen.len() < MOST && !chosen.contains(&address) {
            chosen.push(address);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use palabre_tests::network;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

    fn ips(text: &str) -> Vec<IpAddr> {
        let words = text.split_whitespace();
        words.map(|word| word.parse().unwrap()).collect()
    }

    #[test]
    fn every_network_is_told_once_and_the_way_out_first() {
        for (any, routes, interfaces, told) in [
            // Without a network.
            (V6, "", "", ""),
            (V4, "", "fe80::1", ""),
            (V6, "", "fe80::1", ""),
            // A network without a way out: the case of an isolated one.
            (V6, "", "10.0.0.5 fe80::1", "10.0.0.5"),
            (V4, "", "10.0.0.5", "10.0.0.5"),
            // Two networks, one with a way out, which is not the first.
            (
                V6,
                "192.168.1.2",
                "10.0.0.5 192.168.1.2",
                "192.168.1.2 10.0.0.5",
            ),
            // The system gives no interfaces.
            (V6, "192.168.1.2", "", "192.168.1.2"),
            // Both families, and what only one of them has.
            (
                V6,
                "10.0.0.5 2a01::5",
                "10.0.0.5 203.0.113.9 2a01::5 fd00::5 fe80::5",
                "10.0.0.5 2a01::5 203.0.113.9 fd00::5",
            ),
            (
                V4,
                "10.0.0.5 2a01::5",
                "10.0.0.5 203.0.113.9 2a01::5 fd00::5",
                "10.0.0.5 203.0.113.9",
            ),
            (V6, "", "fd00::5 fe80::5", "fd00::5"),
            // What a machine gives itself counts when nothing else does.
            (V6, "", "169.254.3.4 fe80::5", "169.254.3.4"),
            (V6, "169.254.3.4", "169.254.3.4 10.0.0.5", "10.0.0.5"),
            (V4, "", "169.254.3.4 fd00::5", "169.254.3.4"),
            // What is no address of a machine.
            (V6, "", "127.0.0.2 0.0.0.0 224.0.0.1 ::1 :: ff02::1", ""),
        ] {
            let chosen = choose(any, &ips(routes), &ips(interfaces));
            let expected = ips(&format!("{told} 127.0.0.1"));
            assert_eq!(chosen, expected, "{any}, {routes}, {interfaces}");
        }
    }

    #[test]
    fn a_machine_on_many_networks_tells_the_first() {
        let many: Vec<IpAddr> = (1..=20).map(|net| IpAddr::from([10, 0, net, 1])).collect();
        let chosen = choose(V4, &many[19..], &many);
        assert_eq!(chosen.len(), MOST + 1);
        assert_eq!(chosen[..2], [many[19], many[0]]);
        assert_eq!(chosen[MOST], IpAddr::from([127, 0, 0, 1]));
    }

    #[test]
    fn what_is_configured_stays() {
        let now = Instant::now();
        let mut media = MediaConfig::default();
        let local = "192.0.2.1:7880".parse().unwrap();
        let mut announced = Announced::new(&media, local, now);
        assert_eq!(announced.addresses(), [local]);
        assert!(!announced.refresh(now + 2 * REMEMBERED));
        media.announced = vec!["203.0.113.1:7881".parse().unwrap()];
        let mut announced = Announced::new(&media, "[::]:7880".parse().unwrap(), now);
        assert_eq!(announced.addresses(), media.announced);
        assert!(!announced.refresh(now + 2 * REMEMBERED));
        assert_eq!(announced.addresses(), media.announced);
        media.announced.push("[::]:7880".parse().unwrap());
        let announced = Announced::new(&media, local, now);
        assert_eq!(announced.addresses(), [media.announced[0], local]);
    }

    #[test]
    fn what_is_configured_may_stand_before_the_machines_own() {
        std::thread::spawn(|| {
            if !network::isolated() {
                return;
            }
            let router = "203.0.113.1:7881".parse().unwrap();
            let own = SocketAddr::new(network::HOST.parse().unwrap(), 7880);
            let loopback = "127.0.0.1:7880".parse().unwrap();
            let media = MediaConfig {
                announced: vec!["[::]:7880".parse().unwrap(), own, router],
                ..MediaConfig::default()
            };
            let now = Instant::now();
            let mut announced = Announced::new(&media, "[::]:7880".parse().unwrap(), now);
            assert_eq!(announced.addresses(), [own, router, loopback]);
            network::address("192.168.7.1/24");
            assert!(announced.refresh(now));
            let late = "192.168.7.1:7880".parse().unwrap();
            assert_eq!(announced.addresses(), [own, router, late, loopback]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn networks_without_a_way_out_are_told_and_late_ones_too() {
        std::thread::spawn(|| {
            if !network::isolated() {
                return;
            }
            network::without_way_out();
            assert!(of_default_routes().is_empty());
            let now = Instant::now();
            let any = "[::]:7880".parse().unwrap();
            let mut announced = Announced::new(&MediaConfig::default(), any, now);
            let told = |addresses: &str| -> Vec<SocketAddr> {
                let with_port = |address| SocketAddr::new(address, 7880);
                ips(addresses).into_iter().map(with_port).collect()
            };
            assert_eq!(
                announced.addresses(),
                told(&format!("{} 127.0.0.1", network::HOST))
            );
            assert!(!announced.refresh(now));
            network::address("192.168.7.1/24");
            assert!(announced.refresh(now));
            let both = told(&format!("{} 192.168.7.1 127.0.0.1", network::HOST));
            assert_eq!(announced.addresses(), both);
            assert!(!announced.refresh(now));
            // Where the system says nothing of changes, it is asked for them.
            announced.changes = None;
            // One with a way out comes first.
            network::address("fd77::1/64");
            assert!(!announced.refresh(now));
            assert!(announced.refresh(now + 2 * REMEMBERED));
            let all = told(&format!("fd77::1 {} 192.168.7.1 127.0.0.1", network::HOST));
            assert_eq!(announced.addresses(), all);
        })
        .join()
        .unwrap();
    }
}
