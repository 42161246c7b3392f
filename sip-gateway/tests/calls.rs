//! The gateway in front of foreign telephones: baresip and SIPp over real sockets, in a network of their own. The rooms behind
//! it only hum: what is tested is the telephone side.

mod support;

use std::time::Duration;

use palabre_engine::door::{Door, Patience};
use palabre_engine::proto::participant_info::Kind;
use palabre_engine::{Direction, Engine, EngineConfig};
use palabre_sip::EngineRooms;
use palabre_sip::metrics::Ended;
use palabre_sip::sip::Codec;
use palabre_sip::{Sip, SipConfig};
use std::sync::Arc;
use support::baresip::{Baresip, TONE};
use support::directory::{OneRoom, ROOM};
use support::mixed::Mixed;
use support::network::{HOST, isolated};
use support::rooms::{CODE, HUM, Humming};
use support::sound::{loudness, purity};
use support::{installed, sipp, until};
use tokio::runtime::Runtime;

/// A gateway on every address of the namespace, its rooms, and the runtime both live in.
struct House {
    sip: Option<Sip>,
    rooms: Humming,
    runtime: Runtime,
}

impl House {
    fn open(change: impl FnOnce(&mut SipConfig, &mut Humming)) -> Self {
        let mut config = SipConfig {
            bind: "0.0.0.0:5060".parse().unwrap(),
            ..SipConfig::default()
        };
        let mut rooms = Humming::default();
        change(&mut config, &mut rooms);
        let runtime = runtime();
        let sip = runtime
            .block_on(Sip::start(config, rooms.clone()))
            .expect("a free port");
        Self {
            sip: Some(sip),
            rooms,
            runtime,
        }
    }

    fn sip(&self) -> &Sip {
        self.sip.as_ref().expect("running")
    }

    fn ended(&self, ended: Ended) -> u64 {
        self.sip().metrics().calls(ended)
    }

    fn shut_down(&mut self) {
        let sip = self.sip.take().expect("running");
        self.runtime.block_on(sip.shut_down());
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn ready(programs: &[&str]) -> bool {
    programs.iter().all(|program| installed(program)) && isolated()
}

fn uri(user: &str) -> String {
    format!("sip:{user}@{HOST}")
}

#[test]
fn a_telephone_hears_the_menu_types_the_code_and_talks() {
    if !ready(&["baresip"]) {
        return;
    }
    let house = House::open(|_, _| {});
    let mut phone = Baresip::start("menu");
    let (answer, why) = phone.dial(&uri("reunion"));
    assert_eq!(answer, "CALL_ESTABLISHED", "{why}");
    let greeting = ["fr/welcome", "fr/enter-code", "en/language"];
    let heard = phone.hears_prompts(0, &greeting, 25);
    phone.keys("*");
    let greeting = ["en/welcome", "en/enter-code", "fr/language"];
    phone.hears_prompts(heard, &greeting, 25);
    phone.keys(&format!("{CODE}#"));
    let line = house.rooms.line(0);
    until("the caller is in the room", 5, || {
        line.lock().unwrap().room.is_some()
    });
    {
        let state = line.lock().unwrap();
        let (room, identity) = state.room.clone().unwrap();
        assert_eq!(room, "hum");
        assert_eq!(identity.name, "Telephone (menu)");
        assert!(identity.identity.starts_with("sip_") && identity.identity.len() == 36);
        assert_eq!(state.keys, format!("*{CODE}#"));
    }
    until(
        "the announcements are over and the room is heard",
        15,
        || {
            let heard = phone.heard();
            let last = &heard[heard.len().saturating_sub(8_000)..];
            purity(last, 8_000, HUM) > 0.9
        },
    );
    let heard = line.lock().unwrap().heard.clone();
    let last = &heard[heard.len() - 4_000..];
    assert!(
        purity(last, 8_000, TONE) > 0.9,
        "the phone's tone reaches the line"
    );
    assert_eq!(house.sip().metrics().in_rooms_now(), 1);

    phone.keys("0");
    until("muted", 3, || line.lock().unwrap().muted);
    phone.keys("*6");
    until("unmuted", 3, || !line.lock().unwrap().muted);

    phone.hold();
    until("held", 5, || {
        line.lock().unwrap().direction == Direction::ReceiveOnly
    });
    phone.resume();
    until("resumed", 5, || {
        line.lock().unwrap().direction == Direction::SendReceive
    });

    phone.hang_up();
    until("the line is closed", 5, || line.lock().unwrap().closed);
    until("the call is counted", 5, || house.ended(Ended::Joined) == 1);
}

#[test]
fn a_dialled_code_needs_no_menu_and_a_wrong_one_is_told_and_refused_late() {
    if !ready(&["baresip"]) {
        return;
    }
    let house = House::open(|_, rooms| rooms.wait = Duration::from_secs(2));
    let mut phone = Baresip::start("direct");
    let start = std::time::Instant::now();
    let (answer, why) = phone.dial(&uri("987-654-321"));
    assert_eq!(answer, "CALL_CLOSED");
    assert!(why.contains("404"), "{why}");
    assert!(start.elapsed() >= Duration::from_secs(2));
    // It was told so before the refusal, by early media.
    phone.heard_prompts(0..usize::MAX, &["fr/wrong-code", "fr/goodbye"]);
    let (answer, why) = phone.dial(&uri("123-456-789"));
    assert_eq!(answer, "CALL_ESTABLISHED", "{why}");
    let line = house.rooms.line(1);
    until("the caller is in the room", 5, || {
        line.lock().unwrap().room.is_some()
    });
    phone.hang_up();
    until("both calls are counted", 5, || {
        house.ended(Ended::Joined) == 1 && house.ended(Ended::UnknownCode) == 1
    });
}

#[test]
fn three_wrong_codes_by_key_end_the_call() {
    if !ready(&["baresip"]) {
        return;
    }
    let house = House::open(|_, _| {});
    let mut phone = Baresip::start("wrong");
    let (answer, why) = phone.dial(&uri("reunion"));
    assert_eq!(answer, "CALL_ESTABLISHED", "{why}");
    let line = house.rooms.line(0);
    // What else was said is checked afterwards: the menu would speak again if the next code came late.
    let first = phone.waits_for(0, "fr/welcome", 15);
    phone.keys("987654321");
    let second = phone.waits_for(first, "fr/try-again", 20);
    phone.keys("987654321");
    let third = phone.waits_for(second, "fr/try-again", 20);
    phone.keys("987654321");
    phone.wait(&["CALL_CLOSED"], 30);
    for answer in [first..second, second..third] {
        phone.heard_prompts(answer, &["fr/wrong-code", "fr/try-again"]);
    }
    phone.heard_prompts(
        third..usize::MAX,
        &["fr/wrong-code", "fr/too-many-tries", "fr/goodbye"],
    );
    until("counted", 5, || house.ended(Ended::TooManyTries) == 1);
    assert!(line.lock().unwrap().closed);
}

#[test]
fn a_telephone_calls_over_tcp() {
    if !ready(&["baresip"]) {
        return;
    }
    let house = House::open(|_, _| {});
    let mut phone = Baresip::start("tcp");
    let (answer, why) = phone.dial(&format!("{};transport=tcp", uri(CODE)));
    assert_eq!(answer, "CALL_ESTABLISHED", "{why}");
    let line = house.rooms.line(0);
    until("the caller is in the room", 5, || {
        line.lock().unwrap().room.is_some()
    });
    phone.hang_up();
    until("counted", 5, || house.ended(Ended::Joined) == 1);
}

#[test]
fn a_stopping_gateway_hangs_up() {
    if !ready(&["baresip"]) {
        return;
    }
    let mut house = House::open(|_, _| {});
    let mut phone = Baresip::start("stop");
    let (answer, why) = phone.dial(&uri(CODE));
    assert_eq!(answer, "CALL_ESTABLISHED", "{why}");
    house.shut_down();
    phone.wait(&["CALL_CLOSED"], 5);
}

fn sipp_calls(transport: &str) {
    if !ready(&["sipp"]) {
        return;
    }
    const CALLS: u32 = 200;
    let house = House::open(|config, _| config.calls_per_source = 500);
    assert_eq!(sipp::uac("reunion", CALLS, 50, transport), CALLS);
    until("every call is forgotten", 5, || {
        house.sip().metrics().calls_now() == 0
    });
    assert_eq!(house.ended(Ended::Abandoned), u64::from(CALLS));
    assert_eq!(house.rooms.count(), CALLS as usize);
    until("every line is closed", 5, || {
        (0..CALLS as usize).all(|n| house.rooms.line(n).lock().unwrap().closed)
    });
    assert_eq!(
        sipp::uac(CODE, 50, 50, transport),
        50,
        "straight into the room"
    );
    until("counted", 5, || house.ended(Ended::Joined) == 50);
}

#[test]
fn sipp_calls_over_udp_all_succeed() {
    sipp_calls("u1");
}

#[test]
fn sipp_calls_over_tcp_all_succeed() {
    sipp_calls("t1");
}

/// Share of the energy of the last second that is at `hertz`.
fn share(phone: &Baresip, hertz: f64) -> f64 {
    let heard = phone.heard();
    let last = &heard[heard.len().saturating_sub(phone.rate() as usize)..];
    purity(last, phone.rate(), hertz)
}

/// Two telephones, two codecs, one room with the real mixer: each hears the other and never itself, mute and hold work.
fn two_telephones(one: Codec, other: Codec) {
    const LOW: f64 = 440.0;
    const HIGH: f64 = 1_000.0;
    if !ready(&["baresip"]) {
        return;
    }
    let runtime = runtime();
    let config = SipConfig {
        bind: "0.0.0.0:5060".parse().unwrap(),
        ..SipConfig::default()
    };
    let sip = runtime
        .block_on(Sip::start(config, Mixed::start()))
        .expect("a free port");
    let mut low = Baresip::speaking("low", one, LOW);
    let mut high = Baresip::speaking("high", other, HIGH);
    let (answer, why) = low.dial(&uri("reunion"));
    assert_eq!(answer, "CALL_ESTABLISHED", "{why}");
    until("the greeting is heard", 10, || {
        let heard = low.heard();
        let second = low.rate() as usize;
        heard.len() > 2 * second && loudness(&heard[second..]) > -35.0
    });
    low.keys(&format!("{CODE}#"));
    until("the keys opened the room", 5, || {
        sip.metrics().in_rooms_now() == 1
    });
    let (answer, why) = high.dial(&uri(CODE));
    assert_eq!(answer, "CALL_ESTABLISHED", "{why}");
    until("each hears only the other", 25, || {
        share(&low, HIGH) > 0.95 && share(&high, LOW) > 0.95
    });
    for _ in 0..5 {
        // The next third of a second, as soon as it has been heard.
        let (seen_low, seen_high) = (low.heard().len(), high.heard().len());
        until("more is heard", 10, || {
            low.heard().len() >= seen_low + low.rate() as usize / 3
                && high.heard().len() >= seen_high + high.rate() as usize / 3
        });
        let (own_low, own_high) = (share(&low, LOW), share(&high, HIGH));
        assert!(
            own_low < 1e-4 && own_high < 1e-4,
            "own voice: {own_low} {own_high}"
        );
    }
    low.keys("0");
    until("the muted is not heard", 10, || share(&high, LOW) < 0.01);
    low.keys("*6");
    until("the unmuted is heard again", 10, || {
        share(&high, LOW) > 0.95
    });
    let received = || {
        let samples = sip.metrics().samples();
        let name = "palabre_sip_messages_received_total";
        let found = samples.iter().find(|sample| sample.name == name);
        found.expect("a figure").value
    };
    let before = received();
    high.hold();
    until("the hold is asked and acknowledged", 10, || {
        received() >= before + 2
    });
    high.resume();
    until("the resumed hears and is heard", 10, || {
        share(&low, HIGH) > 0.95 && share(&high, LOW) > 0.95
    });
    high.hang_up();
    until("one is left", 5, || sip.metrics().in_rooms_now() == 1);
    low.hang_up();
    until("nobody is left", 5, || sip.metrics().calls_now() == 0);
    runtime.block_on(sip.shut_down());
}

#[test]
fn opus_and_pcma_hear_each_other() {
    two_telephones(Codec::Opus, Codec::Pcma);
}

#[test]
fn g722_and_pcmu_hear_each_other() {
    two_telephones(Codec::G722, Codec::Pcmu);
}

/// The whole engine: callers are participants of kind SIP whom a host mutes and removes, a full room is busy, and a room can
/// be closed over their heads.
#[test]
fn callers_are_participants_of_the_engine() {
    if !ready(&["baresip"]) {
        return;
    }
    let runtime = runtime();
    let engine = runtime
        .block_on(async { Engine::start(EngineConfig::default(), Arc::new(OneRoom)) })
        .expect("the engine starts");
    let door = Door::new(Arc::new(OneRoom), Patience::default());
    let config = SipConfig {
        bind: "0.0.0.0:5060".parse().unwrap(),
        ..SipConfig::default()
    };
    let rooms = EngineRooms::new(engine.clone(), door);
    let sip = runtime
        .block_on(Sip::start(config, rooms))
        .expect("a free port");
    let participants = || {
        runtime
            .block_on(engine.list_participants(ROOM))
            .unwrap_or_default()
    };

    let mut first = Baresip::speaking("0612345642", Codec::Opus, 440.0);
    let mut second = Baresip::speaking("second", Codec::Pcma, 1_000.0);
    let mut third = Baresip::start("third");
    for phone in [&mut first, &mut second] {
        let (answer, why) = phone.dial(&uri(CODE));
        assert_eq!(answer, "CALL_ESTABLISHED", "{why}");
    }
    until("both are there with their voices", 10, || {
        let all = participants();
        all.len() == 2 && all.iter().all(|one| one.tracks.len() == 1)
    });
    let all = participants();
    let caller = all
        .iter()
        .find(|one| one.name == "Téléphone 06 .. .. .. 42")
        .expect("masked");
    assert_eq!(caller.kind(), Kind::Sip);
    assert_eq!(caller.attributes["sip.phoneNumber"], "06 .. .. .. 42");
    assert!(caller.attributes["sip.callID"].starts_with("SCL_"));
    until("each hears the other", 25, || {
        share(&first, 1_000.0) > 0.95 && share(&second, 440.0) > 0.95
    });

    let (answer, why) = third.dial(&uri(CODE));
    assert_eq!(answer, "CALL_CLOSED");
    assert!(why.contains("486"), "{why}");
    // It was told so before the refusal, by early media.
    third.heard_prompts(0..usize::MAX, &["fr/room-full", "fr/goodbye"]);

    // By the menu it is told so before the call ends.
    let busy = sip.metrics().calls(Ended::RoomFull);
    let mut fourth = Baresip::start("fourth");
    let (answer, why) = fourth.dial(&uri("reunion"));
    assert_eq!(answer, "CALL_ESTABLISHED", "{why}");
    let heard = fourth.hears_prompts(0, &["fr/welcome"], 15);
    fourth.keys(&format!("{CODE}#"));
    fourth.wait(&["CALL_CLOSED"], 20);
    fourth.heard_prompts(heard..usize::MAX, &["fr/room-full", "fr/goodbye"]);
    until("counted", 5, || {
        sip.metrics().calls(Ended::RoomFull) == busy + 1
    });
    assert_eq!(participants().len(), 2);

    let track = caller.tracks[0].sid.clone();
    let muted = || {
        participants()
            .iter()
            .any(|one| one.tracks.iter().any(|track| track.muted))
    };
    runtime
        .block_on(engine.mute_published_track(ROOM, &caller.identity, &track, true))
        .expect("a host may mute");
    until("the muted is not heard", 10, || {
        share(&second, 440.0) < 0.01
    });
    assert!(muted());
    first.keys("0");
    until(
        "the caller unmutes itself, and the room sees it",
        10,
        || !muted(),
    );
    until("and is heard", 10, || share(&second, 440.0) > 0.95);

    runtime
        .block_on(engine.remove_participant(ROOM, &caller.identity))
        .expect("a host may remove");
    first.wait(&["CALL_CLOSED"], 15);
    until("one is left", 5, || participants().len() == 1);
    runtime
        .block_on(engine.delete_room(ROOM))
        .expect("a room can be closed");
    second.wait(&["CALL_CLOSED"], 15);
    until("both are counted", 5, || {
        sip.metrics().calls(Ended::Removed) == 1 && sip.metrics().calls(Ended::RoomClosed) == 1
    });
    runtime.block_on(async {
        sip.shut_down().await;
        engine.shutdown().await;
    });
}
