//! What the box's kernel settings buy: trains as one piece (`UDP_SEGMENT`, `UDP_GRO`), and room in the socket's buffer.
//!
//! Trains: sent to one socket over loopback and taken from it again, with both, with one of them and with neither. A network
//! card that cuts trains itself saves more than loopback shows.
//! Buffer: a burst comes while the thread that reads is not given a processor; what does not fit is lost.
//!
//! `cargo bench -p palabre-benches --bench offload`
#![allow(clippy::print_stdout)] // a bench prints its table

use std::net::{SocketAddr, UdpSocket};

use palabre_benches::{Case, compare};
use palabre_engine::net::socket::{MediaSocket, ReceiveBatch};
use palabre_media::sfu::Train;

/// Bytes of a full-size video packet on the wire.
const DATAGRAM: usize = 1_124;

/// Datagrams on their way at a time: fewer than the smallest buffer holds.
const IN_FLIGHT: usize = 64;

/// More than any of the buffers holds.
const BURST: usize = 20_000;

fn main() {
    for train in [1, 4, 8] {
        let mut pairs = [(true, true), (true, false), (false, true), (false, false)]
            .map(|(cut, joined)| Pair::new(train, cut, joined));
        let names = [
            "sent and taken as trains",
            "sent as trains, taken one by one",
            "sent one by one, joined by the kernel",
            "one by one",
        ];
        let cases = pairs
            .iter_mut()
            .zip(names)
            .map(|(pair, name)| Case::batch(name, IN_FLIGHT as u32, || pair.run()));
        compare(
            &format!("datagrams over loopback, trains of {train}"),
            cases.collect(),
        );
    }
    buffers();
}

/// A socket that sends and one that receives.
struct Pair {
    from: MediaSocket,
    to: MediaSocket,
    train: usize,
    bytes: Vec<u8>,
    batch: ReceiveBatch,
}

impl Pair {
    fn new(train: usize, cut: bool, joined: bool) -> Self {
        let (mut from, mut to) = (socket(), socket());
        if !cut {
            from.disable_offload();
        }
        if !joined {
            to.disable_coalescing();
        }
        let bytes = vec![0; train * DATAGRAM];
        let batch = ReceiveBatch::default();
        Self {
            from,
            to,
            train,
            bytes,
            batch,
        }
    }

    fn run(&mut self) {
        let to = self.to.local();
        let trains = (0..IN_FLIGHT / self.train).map(|_| Train {
            to,
            segment: DATAGRAM,
            bytes: &self.bytes,
        });
        let sent = self.from.send(trains);
        assert_eq!(sent.datagrams, IN_FLIGHT as u64);
        let mut taken = 0;
        while taken < IN_FLIGHT {
            self.to
                .receive(&mut self.batch)
                .expect("loopback does not fail");
            let came = self.batch.datagrams().count();
            assert!(came > 0, "loopback hands over at once");
            taken += came;
        }
    }
}

/// How much of a burst each kind of socket keeps.
fn buffers() {
    println!("a burst of {BURST} datagrams of {DATAGRAM} B, nobody reads");
    let plain = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
    plain.set_nonblocking(true).expect("a socket of ours");
    fill(plain.local_addr().expect("it is bound"));
    let mut kept = 0;
    while plain.recv(&mut [0; DATAGRAM]).is_ok() {
        kept += 1;
    }
    println!("  the kernel's usual buffer  {kept:>6} kept");
    let ours = socket();
    fill(ours.local());
    let (mut kept, mut batch) = (0, ReceiveBatch::default());
    while ours.receive(&mut batch).expect("loopback does not fail") > 0 {
        kept += batch.datagrams().count();
    }
    let limit = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap_or_default();
    println!(
        "  the media socket's         {kept:>6} kept (net.core.rmem_max {}; the box sets 8388608)",
        limit.trim()
    );
}

fn fill(to: SocketAddr) {
    let from = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
    for _ in 0..BURST {
        from.send_to(&[0; DATAGRAM], to).expect("loopback takes it");
    }
}

fn socket() -> MediaSocket {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut sockets = MediaSocket::open(address, 1).expect("loopback has free ports");
    sockets.remove(0)
}
