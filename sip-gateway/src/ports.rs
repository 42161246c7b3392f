//! RTP ports: pairs out of the configured range, from a random start so that strangers cannot aim at the next call.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use palabre_engine::settings::PortRange;

/// Most pairs tried for one call before it is refused. More finds the last free ones, less spends less on a full box.
const TRIES: u32 = 200;

/// A call's sockets.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) rtp: UdpSocket,
    pub(crate) rtcp: UdpSocket,
}

/// Binds an even port for RTP and the one above it for RTCP (RFC 3550 §11). `draw` is a random number.
pub(crate) fn bind(address: IpAddr, range: PortRange, draw: u64) -> Option<Pair> {
    // An even port is the first of a pair.
    let first = u32::from(range.first()).next_multiple_of(2);
    let pairs = (u32::from(range.last()) + 1).saturating_sub(first) / 2;
    if pairs == 0 {
        return None;
    }
    let start = (draw % u64::from(pairs)) as u32;
    (0..pairs.min(TRIES)).find_map(|step| {
        let port = first + (start + step) % pairs * 2;
        let port = u16::try_from(port).expect("inside a range of ports");
        pair(address, port).ok()
    })
}

fn pair(address: IpAddr, port: u16) -> io::Result<Pair> {
    let open = |port| {
        let socket = UdpSocket::bind(SocketAddr::new(address, port))?;
        socket.set_nonblocking(true)?;
        Ok::<_, io::Error>(socket)
    };
    Ok(Pair {
        rtp: open(port)?,
        rtcp: open(port + 1)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn pairs_are_even_neighbours_inside_the_range() {
        let range = PortRange::new(21_001, 21_010).unwrap();
        let pairs: Vec<Pair> = std::iter::from_fn(|| bind(HERE, range, 3)).collect();
        assert_eq!(pairs.len(), 4, "21002 to 21009");
        for pair in &pairs {
            let rtp = pair.rtp.local_addr().unwrap().port();
            assert!(rtp.is_multiple_of(2) && (21_002..=21_008).contains(&rtp));
            assert_eq!(pair.rtcp.local_addr().unwrap().port(), rtp + 1);
        }
        drop(pairs);
        assert!(bind(HERE, range, u64::MAX).is_some(), "free again");
        assert!(bind(HERE, PortRange::new(21_001, 21_002).unwrap(), 0).is_none());
        assert!(bind(HERE, PortRange::new(65_534, 65_535).unwrap(), 7).is_some());
    }
}
