//! Seeded mutation of everything a peer can send: nothing panics, nothing grows, and what is read can be printed and read.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use super::super::event::{ConnectionId, Input, Protocol};
use super::super::sdp::{MediaPolicy, Session};
use super::super::{Config, Endpoint, Message, Random};
use super::harness::*;
use super::torture::corpus;

/// Changes one to four places: a byte, a cut, a doubled run, a run of another seed, a telling character.
fn mutate(random: &mut Random, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + random.below(4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = random.below(bytes.len() as u64) as usize;
        let end = (at + 1 + random.below(40) as usize).min(bytes.len());
        match random.below(6) {
            0 => bytes[at] = random.draw() as u8,
            1 => drop(bytes.drain(at..end)),
            2 => {
                let run = bytes[at..end].to_vec();
                bytes.splice(at..at, run);
            }
            3 => {
                let from = random.below(other.len() as u64) as usize;
                let to = (from + 1 + random.below(60) as usize).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            4 => {
                const TELLING: &[u8] = b"\r\n\r\n<>\"\\;,:=%@[]/ \t\0\xff0-9z\xc3\xa9";
                bytes[at] = TELLING[random.below(TELLING.len() as u64) as usize];
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

/// Messages of a real call, both ways.
fn traffic() -> Vec<Bytes> {
    let mut net = Net::new(Config::default(), 3);
    net.keep_sent = true;
    let caller = net.dial(Protocol::Udp);
    net.run(Duration::from_secs(1));
    let called = super::super::DialogId(1);
    net.nodes[1]
        .endpoint
        .accept(net.now, called, local(5000))
        .unwrap();
    net.run(Duration::from_secs(1));
    net.nodes[0]
        .endpoint
        .redirect(net.now, caller, super::super::Direction::SendOnly)
        .unwrap();
    net.run(Duration::from_secs(1));
    net.nodes[1].endpoint.hang_up(net.now, called).unwrap();
    net.run(Duration::from_secs(1));
    net.sent
}

#[test]
fn mutated_messages_neither_panic_nor_stay() {
    let mut seeds: Vec<Bytes> = corpus()
        .into_iter()
        .map(|(_, _, bytes)| bytes.into())
        .collect();
    seeds.extend(traffic());
    let mut random = Random::new([42; 32]);
    let mut bench = Bench::new(Config::default());
    let mut read = 0u32;
    for round in 0..30_000u32 {
        // A fresh standing call now and then, so that mutated requests find a dialog.
        if round % 500 == 0 {
            let text = request("INVITE", "", 1, &format!("r{round}"), TYPE, SDP);
            bench.send(&text.replace("call-1", &format!("call-{round}")));
            let dialog = bench.invited();
            if let Ok(Some(_)) = bench.endpoint.accept(bench.now, dialog, local(5000)) {
                let reply = bench.drain().pop().expect("a 200").print();
                seeds.push(reply);
            }
            if seeds.len() > 250 {
                seeds.truncate(150);
            }
        }
        let seed = &seeds[random.below(seeds.len() as u64) as usize];
        let other = &seeds[random.below(seeds.len() as u64) as usize];
        let bytes = mutate(&mut random, seed, other);
        if let Ok(message) = Message::parse(bytes.clone().into())
            && message.fault().is_none()
        {
            read += 1;
            let printed = message.print();
            assert_eq!(
                Message::parse(printed).expect("printed messages are read"),
                message,
                "{}",
                String::from_utf8_lossy(&bytes)
            );
        }
        let replies = bench.bytes(&bytes);
        assert!(
            replies.len() <= 4,
            "{} bytes made {} messages",
            bytes.len(),
            replies.len()
        );
        bench.wait(Duration::from_millis(20));
        bench.events.truncate(0);
    }
    assert!(
        read > 5_000,
        "only {read} of the mutants could be read: the test would show nothing"
    );
    assert!(bench.endpoint.transactions() <= Config::default().limits.transactions);
    // All that came in goes out again once nobody says anything more.
    bench.wait(Duration::from_secs(3_000_000));
    assert!(
        bench.endpoint.transactions() == 0,
        "{:?}",
        bench.endpoint.counters()
    );
}

#[test]
fn mutated_streams_neither_panic_nor_stay() {
    let seeds = traffic();
    let mut random = Random::new([43; 32]);
    let mut endpoint = Endpoint::new(Config::default(), Random::new([1; 32]));
    let now = std::time::Instant::now();
    for round in 0..3_000u64 {
        let connection = ConnectionId::Accepted(round);
        endpoint.handle(
            now,
            Input::Connected {
                connection,
                protocol: Protocol::Tcp,
                from: address("198.51.100.7:9"),
                to: address("192.0.2.1:5060"),
            },
        );
        for _ in 0..random.below(6) {
            let seed = &seeds[random.below(seeds.len() as u64) as usize];
            let other = &seeds[random.below(seeds.len() as u64) as usize];
            let bytes = mutate(&mut random, seed, other);
            for piece in bytes.chunks(1 + random.below(900) as usize) {
                endpoint.handle(
                    now,
                    Input::Stream {
                        connection,
                        bytes: piece,
                    },
                );
            }
        }
        endpoint.handle(now, Input::Closed { connection });
        while endpoint.poll().is_some() {}
    }
    assert!(
        endpoint.counters().broken_streams > 100 && endpoint.counters().requests > 100,
        "{:?}",
        endpoint.counters()
    );
}

#[test]
fn mutated_descriptions_neither_panic_nor_pass_unread() {
    let video = "m=video 6000 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n";
    let audio = "m=audio 5000 RTP/AVP 0 8 9 97 101\r\na=rtpmap:97 opus/48000/2\r\na=fmtp:97 useinbandfec=1\r\na=rtpmap:101 telephone-event/8000\r\na=rtcp:5001 IN IP4 203.0.113.5\r\na=ptime:20\r\na=maxptime:150\r\na=sendrecv\r\n";
    let head = "v=0\r\no=- 1 1 IN IP4 203.0.113.5\r\ns=-\r\nc=IN IP4 203.0.113.5\r\nt=0 0\r\n";
    let seeds = [
        format!("{head}{audio}"),
        format!("{head}{video}{audio}"),
        format!("{head}a=sendonly\r\n{audio}{video}"),
    ];
    let policy = MediaPolicy::default();
    let mut random = Random::new([44; 32]);
    let peer: IpAddr = "203.0.113.5".parse().unwrap();
    let mut agreed = 0;
    for _ in 0..30_000 {
        let seed = seeds[random.below(3) as usize].as_bytes();
        let other = seeds[random.below(3) as usize].as_bytes();
        let bytes = mutate(&mut random, seed, other);
        let mut session = Session::new(random.draw());
        session.set_local(local(4000));
        assert_eq!(
            Session::check(&bytes, &policy).is_ok(),
            session.clone().answer(&bytes, &policy, peer).is_ok()
        );
        if let Ok((answer, _)) = session.answer(&bytes, &policy, peer) {
            agreed += 1;
            let lines = |text: &[u8]| {
                String::from_utf8_lossy(text)
                    .split('\n')
                    .filter(|line| line.starts_with("m="))
                    .count()
            };
            assert_eq!(
                lines(answer.as_bytes()),
                lines(&bytes),
                "{answer}\n---\n{}",
                String::from_utf8_lossy(&bytes)
            );
            session.offer(&policy);
        }
        let mut caller = Session::new(1);
        caller.set_local(local(4000));
        caller.offer(&policy);
        let _ = caller.accept(&bytes, &policy, peer);
    }
    assert!(agreed > 3_000, "{agreed}");
}
