//! The floor: the same datagrams to as many sockets, from a process that does nothing else.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use palabre_call::DATAGRAM;
use palabre_engine::net::socket::MediaSocket;
use palabre_media::sfu::Train;

use crate::farm::{Farm, LOOK};
use crate::load::process::cpu_time;
use crate::{INTERVAL, Shape, Spent};

/// Measures this program again, which only sends.
pub(crate) fn floor(
    farm: &mut Farm,
    how: &str,
    shape: Shape,
    size: usize,
    viewers: usize,
    window: Duration,
) -> Spent {
    let sinks: Vec<UdpSocket> = (0..viewers)
        .map(|_| {
            let sink = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
            sink.set_nonblocking(true).expect("sockets can");
            sink
        })
        .collect();
    let ports = sinks
        .iter()
        .map(|sink| sink.local_addr().expect("it is bound").port().to_string());
    let own = std::env::current_exe().expect("a bench knows its own path");
    let mut child = Sender(
        Command::new(own)
            .args([
                "--floor",
                how,
                &shape.burst().to_string(),
                &size.to_string(),
            ])
            .args(ports)
            .spawn()
            .expect("this program starts"),
    );
    let mut read = |span: Duration| {
        let end = Instant::now() + span;
        let (mut count, mut buffer) = (0, [0; DATAGRAM]);
        while Instant::now() < end {
            for sink in &sinks {
                while sink.recv_from(&mut buffer).is_ok() {
                    count += 1;
                }
            }
            // The guests stay; nothing is published meanwhile.
            farm.look(Instant::now());
            std::thread::sleep(LOOK);
        }
        count
    };
    read(Duration::from_millis(500));
    let (start, before) = (Instant::now(), cpu_time(child.0.id()));
    let packets = read(window);
    let (cpu, window) = (
        cpu_time(child.0.id()).saturating_sub(before),
        start.elapsed(),
    );
    child.stop();
    let name = match how {
        "sendto" => "bare sendto",
        _ => "bare sendmmsg with trains",
    };
    Spent {
        name: format!("{shape:?}: {name}"),
        packets,
        cpu,
        window,
        lost: 0,
        threads: String::new(),
    }
}

/// A child that does not outlive its parent's panic.
pub(crate) struct Sender(Child);

impl Sender {
    pub(crate) fn stop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sends until it is killed: `HOW BURST SIZE PORT...`.
pub(crate) fn send_for_nothing(arguments: &[String]) {
    let number = |at: usize| arguments[at].parse::<usize>().expect("a number");
    let (burst, size) = (number(1), number(2));
    let addresses: Vec<SocketAddr> = arguments[3..]
        .iter()
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port"))))
        .collect();
    let bytes = vec![0x55; burst * size];
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut batched = MediaSocket::open(local, 1).expect("loopback has free ports");
    let single = UdpSocket::bind(local).expect("loopback has free ports");
    let mut due = Instant::now();
    loop {
        if arguments[0] == "trains" {
            batched[0].send(addresses.iter().map(|to| Train {
                to: *to,
                segment: size,
                bytes: &bytes,
            }));
        } else {
            for to in &addresses {
                for datagram in bytes.chunks(size) {
                    let _ = single.send_to(datagram, to);
                }
            }
        }
        due += INTERVAL * burst as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}
