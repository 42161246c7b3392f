//! What both sides of the negotiation are tried with, and descriptions damaged at random.
//!
//! `answerer` is given offers of publishers, `offerer` answers of subscribers; `offers` writes
//! both as browsers and SDKs do.

mod answerer;
mod offerer;
mod offers;

use offers::{CHROMIUM, Client};

use super::answer::TrackPolicy;
use super::*;
use crate::mutate::{Random, mutate};
use crate::rtp::Label;

fn local() -> LocalParameters {
    LocalParameters {
        ice: IceCredentials::from_random(&std::array::from_fn(|i| i as u8)),
        fingerprint: Fingerprint(std::array::from_fn(|i| i as u8)),
        candidates: vec![
            Candidate {
                address: "192.0.2.1:7880".parse().unwrap(),
                protocol: CandidateProtocol::Udp,
            },
            Candidate {
                address: "[2001:db8::1]:7880".parse().unwrap(),
                protocol: CandidateProtocol::TcpPassive,
            },
        ],
    }
}

fn mid(text: &str) -> Mid {
    Label::read(text.as_bytes()).unwrap()
}

fn publisher_offer() -> String {
    CHROMIUM.describe(&[
        offers::application("0"),
        offers::chromium_audio("1", "strm", "mic-cid"),
        offers::chromium_simulcast("2", "strm", "cam-cid"),
    ])
}

fn track(number: u32, codec: Codec) -> SendTrack {
    SendTrack {
        codec,
        stream_id: format!("PA_alice|TR_{number}"),
        track_id: format!("TR_{number}"),
        ssrc: 1000 + number,
        rtx_ssrc: (codec != Codec::Opus).then_some(2000 + number),
    }
}

const SUBSCRIBER: Client = Client {
    setup: "active",
    ..CHROMIUM
};

fn default_policy(_: &str) -> TrackPolicy {
    TrackPolicy::default()
}

#[test]
fn mutated_descriptions_do_no_harm() {
    let mut random = Random::new(0x5DB);
    let offer = publisher_offer();
    for _ in 0..20_000 {
        // A cut out of the middle keeps the mutator's short reach on interesting lines.
        let mut bytes = offer.clone().into_bytes();
        let at = random.below(bytes.len());
        let end = (at + 200).min(bytes.len());
        let mut part = bytes[at..end].to_vec();
        mutate(&mut random, &mut part);
        bytes.splice(at..end, part);
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(answer) = Answerer::new(1).answer(&text, &local(), &default_policy) {
            sdp::Description::parse(&answer.sdp).expect("our own text is well-formed");
        }
    }
    let mut offerer = Offerer::new(1);
    offerer.add(track(1, Codec::Opus)).unwrap();
    offerer.add(track(2, Codec::Vp8)).unwrap();
    let (_, offer) = offerer.offer(&local()).unwrap();
    let answer = offers::chromium_answer(&SUBSCRIBER, &offer);
    for _ in 0..20_000 {
        let mut bytes = answer.clone().into_bytes();
        mutate(&mut random, &mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut offerer = offerer.clone();
        if offerer.answer(0, &text).is_ok() {
            offerer.offer(&local()).expect("nothing outstanding");
        }
    }
}
