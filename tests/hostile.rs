//! A member who holds valid keys and sends nonsense: everything behind authentication, with others in the room.

use std::collections::HashMap;
use std::time::Duration;

use palabre_media::ids::{MediaKind, TrackId};
use palabre_media::rtp::rtcp::{Feedback, RtcpWriter};
use palabre_media::sfu::{Command, DropReason};
use palabre_media::transport::{DatagramKind, classify};
use palabre_tests::call::Call;
use palabre_tests::endpoint::Publication;
use palabre_tests::netsim::{Loss, Path, Random};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

const fn video(track: u64, layers: u8) -> Publication {
    Publication {
        track: TrackId(track),
        kind: MediaKind::Video,
        layers,
    }
}

const fn audio(track: u64) -> Publication {
    Publication {
        track: TrackId(track),
        kind: MediaKind::Audio,
        layers: 1,
    }
}

/// What the hostile member publishes, and an honest one.
const HIS: [Publication; 3] = [video(7, 3), video(6, 1), audio(9)];
const HERS: [Publication; 2] = [video(8, 1), audio(10)];

/// Packets one member forges.
const FORGED: usize = 20_000;

/// Changes a packet in one to four places: flips and values at borders, in every other one also cuts, repeats and inserts,
/// after which its lengths are wrong.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    let whole = random.chance(0.5);
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let end = at + random.below((bytes.len() - at) as u64 + 1) as usize;
        match if whole {
            4 + random.below(5)
        } else {
            random.below(9)
        } {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.word() as u8),
            2 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            3 => drop(bytes.drain(at..end)),
            kind => {
                // The header and what follows it more often than the picture.
                let at = if random.chance(0.7) { at % 40 } else { at };
                let value = match kind {
                    4..=6 => bytes.get(at).map(|byte| byte ^ (1 << random.below(8))),
                    7 => Some([0, 1, 0x7F, 0x80, 0xFF][random.below(5) as usize]),
                    _ => Some(random.word() as u8),
                };
                if let (Some(byte), Some(value)) = (bytes.get_mut(at), value) {
                    *byte = value;
                }
            }
        }
        bytes.truncate(1_400);
    }
}

/// RTCP that an honest endpoint of the simulator has no use for.
fn rare_control(media: u32) -> Vec<Vec<u8>> {
    let parties = Feedback { sender: 7, media };
    let compound = |write: &dyn Fn(&mut RtcpWriter<'_>)| {
        let mut buffer = vec![0; 400];
        let mut writer = RtcpWriter::new(&mut buffer);
        write(&mut writer);
        let len = writer.len();
        buffer.truncate(len);
        buffer
    };
    let [a, b, c, d] = media.to_be_bytes();
    vec![
        compound(&|w| w.goodbye(&[media, 7]).expect("there is room")),
        compound(&|w| w.canonical_name(7, "nobody").expect("there is room")),
        compound(&|w| w.fir(7, media, 3).expect("there is room")),
        compound(&|w| w.pli(parties).expect("there is room")),
        compound(&|w| w.nack(parties, 0..64).expect("there is room")),
        // Transport-wide feedback: five packets from number 1, a run and its deltas.
        vec![
            0x8F, 205, 0, 6, 0, 0, 0, 7, a, b, c, d, 0, 1, 0, 5, 0, 0, 9, 0, 0x20, 5, 4, 4, 4, 4,
            4, 0,
        ],
        // REMB: 1 Mbit/s for one stream.
        vec![
            0x8F, 206, 0, 5, 0, 0, 0, 7, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1, 0x0B, 0xD0, 0x90,
            a, b, c, d,
        ],
        // Extended reports, which nobody asked for.
        vec![0x80, 207, 0, 3, 0, 0, 0, 7, 4, 0, 0, 1, 0, 0, 0, 0],
    ]
}

/// Memory of this process in bytes.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("pages in memory");
    pages * 4_096
}

fn forged_packets_hurt_nobody_else(seed: u64) {
    let clean = || Path::clean(10 * MS);
    let lossy = Path {
        loss: Loss::Independent(0.05),
        ..clean()
    };
    let mut random = Random::new(seed);
    let mut call = Call::new(2, seed);
    let mallory = call.join(0, clean(), lossy);
    let alice = call.join(0, clean(), clean());
    let near = call.join(0, clean(), clean());
    let far = call.join(1, clean(), clean());
    for (member, publications) in [(mallory, &HIS[..]), (alice, &HERS[..])] {
        for publication in publications {
            call.command(member, Command::Receive(publication.receive_parameters()));
            let now = call.now;
            call.members[member].endpoint.publish(now, *publication);
        }
    }
    // Everybody subscribes to everything of others; the SSRCs of her streams, by listener.
    let mut streams = Vec::new();
    let mut listen = |call: &mut Call, member: usize| {
        for (at, publication) in HERS.iter().chain(&HIS).enumerate() {
            let is_hers = at < HERS.len();
            if member == mallory && !is_hers {
                continue;
            }
            let subscription = (100 * member + at) as u64;
            let parameters = publication.send_parameters(subscription, true);
            if is_hers && member != mallory {
                streams.push((member, *publication, parameters.ssrc, call.now));
            }
            call.command(member, Command::Send(parameters));
        }
    };
    for member in [mallory, near, far] {
        listen(&mut call, member);
    }

    // What he sends while he still behaves is what he mutates later.
    call.members[mallory].endpoint.plain = Some(Vec::new());
    call.run(5 * SECOND);
    let endpoint = &mut call.members[mallory].endpoint;
    for publication in HIS {
        for layer in 0..publication.layers {
            endpoint.enable(publication.track, layer, false);
        }
    }
    let honest = endpoint.plain.take().expect("it was asked for");
    let (control, media): (Vec<_>, Vec<_>) = honest
        .into_iter()
        .partition(|plain| classify(plain) == DatagramKind::Rtcp);
    let mut control: Vec<Vec<u8>> = control;
    let her_picture = 100 * HERS[0].track.0 as u32 + 1;
    let to_mallory = 0x1000_0000 + 2 * (100 * mallory as u32);
    for ssrc in [her_picture, to_mallory, 701, 711, 901] {
        control.extend(rare_control(ssrc));
    }
    let mut next: HashMap<u32, u64> = HashMap::new();
    for plain in &media {
        let ssrc = u32::from_be_bytes(plain[8..12].try_into().expect("a header"));
        let number = u64::from(u16::from_be_bytes([plain[2], plain[3]]));
        let last = next.entry(ssrc).or_default();
        *last = number.max(*last);
    }

    let (mut forged, mut rtp, mut halfway) = (0, 0, 0);
    while forged < FORGED {
        let endpoint = &mut call.members[mallory].endpoint;
        let sent = if random.chance(0.4) {
            let mut plain = control[random.below(control.len() as u64) as usize].clone();
            if random.chance(0.3) {
                plain.extend(&control[random.below(control.len() as u64) as usize]);
            }
            mutate(&mut random, &mut plain);
            endpoint.forge_rtcp(&plain)
        } else {
            let mut plain = media[random.below(media.len() as u64) as usize].clone();
            let original: [u8; 4] = plain[8..12].try_into().expect("a header");
            mutate(&mut random, &mut plain);
            if plain.len() < 12 {
                continue;
            }
            if random.chance(0.9) {
                plain[0] = plain[0] & 0x3F | 0x80;
            }
            if random.chance(0.9) {
                plain[8..12].copy_from_slice(&original);
            }
            let ssrc = u32::from_be_bytes(plain[8..12].try_into().expect("a header"));
            let number = next.entry(ssrc).or_default();
            // A number used before is refused as a replay, and one far ahead cannot be told from one far behind: nearly all are
            // the next, some a long way ahead.
            *number += match random.below(200) {
                0 => random.below(2_000),
                1..5 => random.below(500),
                _ => 1,
            };
            let rollovers = (*number >> 16) as u32;
            if random.chance(0.97) {
                plain[2..4].copy_from_slice(&(*number as u16).to_be_bytes());
            } else {
                let index = u64::from(rollovers) << 16
                    | u64::from(u16::from_be_bytes([plain[2], plain[3]]));
                if (*number..*number + 32_768).contains(&index) {
                    *number = index;
                }
            }
            let sent = endpoint.forge_rtp(&plain, rollovers);
            rtp += u64::from(sent);
            sent
        };
        forged += usize::from(sent);
        if forged % 20 == 0 {
            call.run(20 * MS);
            call.events.clear();
            // What the test itself remembers of his streams is not the router's memory.
            call.members[mallory].endpoint.incoming.clear();
            for member in [near, far] {
                let hers = |ssrc: &u32| streams.iter().any(|(_, _, own, _)| own == ssrc);
                let incoming = &mut call.members[member].endpoint.incoming;
                incoming.retain(|ssrc, _| hers(ssrc));
            }
        }
        if forged == FORGED / 2 {
            halfway = memory();
        }
    }
    let grown = memory().saturating_sub(halfway);
    assert!(grown < 24 << 20, "{grown} bytes more in the second half");

    // Somebody new, and then nobody may have lost anything of hers.
    let late = call.join(1, clean(), clean());
    let mut listen = |call: &mut Call, member: usize| {
        for (at, publication) in HERS.iter().enumerate() {
            let parameters = publication.send_parameters((100 * member + at) as u64, true);
            streams.push((member, *publication, parameters.ssrc, call.now));
            call.command(member, Command::Send(parameters));
        }
    };
    listen(&mut call, late);
    call.run(5 * SECOND);
    for (member, publication, ssrc, since) in streams {
        let incoming = &call.members[member].endpoint.incoming[&ssrc];
        let none: [u64; 0] = [];
        assert_eq!(incoming.holes(call.now), none, "member {member}");
        let seconds = (call.now - since).as_secs_f64();
        let (got, rate) = match publication.kind {
            MediaKind::Video => (incoming.frames().len(), 30.0),
            MediaKind::Audio => (incoming.packets.len(), 50.0),
        };
        assert!(
            got as f64 > 0.97 * rate * (seconds - 0.5),
            "member {member}: {got} of {publication:?} in {seconds} s"
        );
    }
    let counters = call.routers[0].counters();
    let unread = counters.dropped_for(DropReason::Authentication)
        + counters.dropped_for(DropReason::Replayed)
        + counters.dropped_for(DropReason::Old)
        + counters.dropped_for(DropReason::TooManyStreams);
    assert!(
        unread < rtp / 4,
        "of {rtp} packets the router looked at too few: {:?}",
        counters.dropped().collect::<Vec<_>>()
    );
    // He may ask for pictures as often as he likes: she is not asked more often for it.
    let asked = call.members[alice].endpoint.key_frames_asked;
    assert!(asked < 100, "{asked} key frames were asked of her");
}

#[test]
fn forged_rtp_and_rtcp_with_valid_keys_hurt_nobody_else() {
    for seed in 1..=2 {
        forged_packets_hurt_nobody_else(seed);
    }
}
