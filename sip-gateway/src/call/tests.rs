use palabre_engine::directory::RoomCode;
use proptest::prelude::*;

use super::look_up::LONGEST_HOLD;
use super::*;
use crate::sip::{Codec, Direction, Party};

/// A call with a clock of its own, and what it has asked for.
struct Phone {
    now: Instant,
    call: Call,
    asked: Vec<Output>,
    prompts: Arc<Prompts>,
}

fn media() -> Media {
    let remote = "192.0.2.9:4000".parse().unwrap();
    Media {
        codec: Codec::Pcma,
        payload_type: 8,
        receive_payload_type: 8,
        telephone_event: None,
        direction: Direction::SendRecv,
        remote,
        remote_rtcp: "192.0.2.9:4001".parse().unwrap(),
        rtcp_mux: false,
        ptime: 20,
        opus_fec: false,
    }
}

fn ports() -> LocalMedia {
    LocalMedia {
        rtp: "192.0.2.1:20000".parse().unwrap(),
        rtcp_port: Some(20_001),
    }
}

fn found(full: bool) -> Input {
    Input::LookedUp(Ok(Found {
        ticket: RoomTicket {
            room: "room".into(),
            title: "Budget".into(),
            code: RoomCode::parse("123456789").unwrap(),
            max_participants: None,
        },
        full,
    }))
}

fn unknown(wait: u64) -> Input {
    Input::LookedUp(Err(Refusal::Unknown {
        wait: Duration::from_secs(wait),
    }))
}

impl Phone {
    fn dials(code: Option<&str>) -> Self {
        let now = Instant::now();
        let prompts = Arc::new(Prompts::shipped());
        let party = Party {
            user: "0612345642".into(),
            ..Party::default()
        };
        let treatment = Treatment {
            prompts: prompts.clone(),
            patience: menu::Patience::default(),
            show_numbers: false,
        };
        let caller = Caller::test(&party);
        let code = code.map(str::to_owned);
        let call = Call::new(now, treatment, caller, Language::French, [1, 2, 3], code);
        let mut phone = Self {
            now,
            call,
            asked: Vec::new(),
            prompts,
        };
        phone.drain();
        phone
    }

    /// Answered, with a line, at the first word of the menu.
    fn in_menu() -> Self {
        let mut phone = Self::dials(None);
        assert_eq!(phone.take(), [Output::Bind]);
        phone.give(Input::Bound(Some(ports())));
        assert_eq!(phone.take(), [Output::Accept(ports())]);
        phone.give(Input::Media(media()));
        assert_eq!(
            phone.take(),
            [],
            "nothing is sent to who has not acknowledged"
        );
        phone.give(Input::Confirmed);
        assert_eq!(phone.take(), [Output::OpenLine(media())]);
        phone.give(Input::LineOpened(true));
        phone
    }

    fn in_room() -> Self {
        let mut phone = Self::in_menu();
        phone.keys("123456789#");
        phone.give(found(false));
        phone.give(Input::Joined(Ok(())));
        phone.asked.clear();
        phone
    }

    fn drain(&mut self) {
        while let Some(output) = self.call.poll() {
            self.asked.push(output);
        }
    }

    fn give(&mut self, input: Input) {
        self.call.handle(self.now, input);
        self.drain();
    }

    fn keys(&mut self, keys: &str) {
        for key in keys.chars() {
            self.now += Duration::from_millis(300);
            self.give(Input::Line(LegEvent::Digit(key)));
        }
    }

    fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.asked)
    }

    /// What the sounds played are, in order.
    fn said(&self, outputs: &[Output]) -> Vec<Say> {
        let every = Language::ALL
            .into_iter()
            .flat_map(|language| {
                Phrase::ALL
                    .iter()
                    .map(move |phrase| Say::Phrase(language, *phrase))
            })
            .chain([Say::Pause, Say::JoinTone]);
        let name = |sound: &Arc<[i16]>| {
            every
                .clone()
                .find(|say| Arc::ptr_eq(sound, &self.prompts.sound(*say)))
        };
        let played = outputs.iter().filter_map(|output| match output {
            Output::Play(sound) => name(sound),
            _ => None,
        });
        played.collect()
    }

    /// Lets each sound end in its time, until nothing more is played; returns everything asked for meanwhile.
    fn listen(&mut self) -> Vec<Output> {
        let mut all = self.take();
        let mut last = all.clone();
        while let Some(Output::Play(sound)) =
            last.iter().rev().find(|o| matches!(o, Output::Play(_)))
        {
            self.now += Duration::from_micros(sound.len() as u64 * 1_000 / 48);
            self.give(Input::Line(LegEvent::PlayFinished));
            last = self.take();
            all.extend(last.clone());
        }
        all
    }

    fn phrases(&mut self) -> Vec<Phrase> {
        let all = self.listen();
        let phrase = |say: Say| match say {
            Say::Phrase(Language::French, phrase) => Some(phrase),
            _ => None,
        };
        self.said(&all).into_iter().filter_map(phrase).collect()
    }

    fn wait(&mut self) {
        self.now = self.call.deadline().expect("something to wait for");
        self.give(Input::Timeout);
    }

    fn end(&mut self) -> Ended {
        self.give(Input::Ended);
        assert_eq!(self.take(), [Output::Close]);
        assert_eq!(self.call.deadline(), None);
        self.call.ended()
    }
}

#[test]
fn a_caller_types_the_code_and_is_in_the_room() {
    let mut phone = Phone::in_menu();
    let greeting = phone.listen();
    assert!(
        phone
            .said(&greeting)
            .contains(&Say::Phrase(Language::French, Phrase::EnterCode))
    );
    phone.keys("123456789#");
    let outputs = phone.take();
    assert!(
        matches!(&outputs[..], [Output::LookUp(_, code)] if code == "123456789"),
        "{outputs:?}"
    );
    phone.give(found(false));
    let outputs = phone.take();
    let [Output::Join(join)] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    let (ticket, identity) = &**join;
    assert_eq!(ticket.room, "room");
    assert_eq!(identity.name, "Téléphone 06 .. .. .. 42");
    assert_eq!(identity.identity, "sip_00000000000000010000000000000002");
    assert_eq!(identity.attributes["sip.callID"], "SCL_0000000000000003");
    phone.give(Input::Joined(Ok(())));
    assert!(phone.call.in_room());
    let outputs = phone.listen();
    let said = phone.said(&outputs);
    assert_eq!(
        said[..2],
        [Say::JoinTone, Say::Phrase(Language::French, Phrase::Joined)]
    );
    assert_eq!(phone.end(), Ended::Joined);
    assert_eq!(phone.call.menu_outcome(), Some(Outcome::Entered));
}

#[test]
fn a_key_cuts_the_greeting_short() {
    let mut phone = Phone::in_menu();
    phone.take();
    phone.keys("1");
    assert_eq!(phone.take(), [Output::Hush]);
    phone.give(Input::Line(LegEvent::PlayFinished));
    phone.now += Duration::from_secs(1);
    phone.give(Input::Line(LegEvent::PlayFinished));
    assert_eq!(phone.take(), [], "nothing is being said");
}

#[test]
fn the_end_of_a_replaced_sound_is_not_taken_for_the_new_ones() {
    let mut phone = Phone::in_menu();
    phone.take();
    phone.keys("*");
    phone.take();
    phone.give(Input::Line(LegEvent::PlayFinished));
    assert_eq!(phone.take(), [], "the new sound has only begun");
    let again = phone.call.deadline();
    phone.now += Duration::from_secs(1);
    phone.give(Input::Line(LegEvent::PlayFinished));
    assert!(
        phone
            .take()
            .iter()
            .any(|output| matches!(output, Output::Play(_)))
    );
    assert!(again.is_some());
}

#[test]
fn a_line_that_never_says_a_sound_ended_does_not_stall_the_menu() {
    let mut phone = Phone::in_menu();
    let mut plays = 0;
    for _ in 0..100 {
        plays += phone
            .take()
            .iter()
            .filter(|o| matches!(o, Output::Play(_)))
            .count();
        phone.wait();
        if phone.asked.contains(&Output::HangUp) {
            break;
        }
    }
    assert!(phone.take().contains(&Output::HangUp) && plays > 10);
    assert_eq!(phone.end(), Ended::NoCode);
}

#[test]
fn a_dialled_code_needs_no_menu() {
    let mut phone = Phone::dials(Some("123456789"));
    let outputs = phone.take();
    assert!(matches!(&outputs[..], [Output::Ring, Output::LookUp(_, code)] if code == "123456789"));
    phone.give(found(false));
    assert_eq!(phone.take(), [Output::Bind]);
    phone.give(Input::Bound(Some(ports())));
    phone.give(Input::Media(media()));
    phone.give(Input::Confirmed);
    phone.give(Input::LineOpened(true));
    assert!(matches!(phone.take().last(), Some(Output::Join(_))));
    phone.give(Input::Joined(Ok(())));
    assert_eq!(phone.phrases(), [Phrase::Joined, Phrase::MuteKey]);
    assert_eq!(phone.end(), Ended::Joined);
}

#[test]
fn a_wrong_dialled_code_is_told_before_the_refusal() {
    for wait in [0, 4] {
        let mut phone = Phone::dials(Some("123456789"));
        phone.take();
        let start = phone.now;
        phone.give(unknown(wait));
        if wait > 0 {
            assert_eq!(phone.take(), [], "first it waits");
            phone.wait();
            assert_eq!(phone.now - start, Duration::from_secs(wait));
        }
        assert_eq!(phone.take(), [Output::Bind]);
        assert!(phone.call.told_wrong_code().is_some());
        phone.give(Input::Bound(Some(ports())));
        assert_eq!(phone.take(), [Output::Progress(ports())]);
        phone.give(Input::Media(media()));
        assert_eq!(phone.take(), [Output::OpenLine(media())]);
        phone.give(Input::LineOpened(true));
        let outputs = phone.listen();
        assert_eq!(outputs.last(), Some(&Output::Reject(404)));
        let said = phone.said(&outputs);
        assert_eq!(said[0], Say::Phrase(Language::French, Phrase::WrongCode));
        assert_eq!(phone.call.told_wrong_code(), None);
        assert_eq!(phone.end(), Ended::UnknownCode);
    }
}

#[test]
fn a_wrong_code_is_not_told_to_who_is_locked_out_or_elsewhere() {
    let mut phone = Phone::dials(Some("123456789"));
    phone.take();
    let start = phone.now;
    phone.give(unknown(900));
    assert_eq!(phone.take(), []);
    phone.wait();
    assert_eq!(phone.now - start, LONGEST_HOLD);
    assert_eq!(phone.take(), [Output::Reject(404)]);

    // The sound would go to an address that the call did not come from.
    let mut elsewhere = media();
    elsewhere.remote = "192.0.2.77:4000".parse().unwrap();
    for input in [Input::NoEarlyMedia, Input::Media(elsewhere)] {
        let mut phone = Phone::dials(Some("123456789"));
        phone.give(unknown(0));
        phone.give(Input::Bound(Some(ports())));
        phone.take();
        phone.give(input);
        assert_eq!(phone.take(), [Output::Reject(404)]);
        assert_eq!(phone.end(), Ended::UnknownCode);
    }
}

#[test]
fn a_dialled_code_that_came_too_soon_is_looked_up_again() {
    let mut phone = Phone::dials(Some("123456789"));
    let slowed = |wait| {
        Input::LookedUp(Err(Refusal::Slowed {
            wait: Duration::from_secs(wait),
        }))
    };
    for _ in 0..2 {
        phone.take();
        phone.give(slowed(4));
        assert_eq!(phone.take(), []);
        phone.wait();
        assert!(matches!(&phone.asked[..], [Output::LookUp(..)]));
    }
    phone.take();
    phone.give(slowed(4));
    assert_eq!(phone.take(), [Output::Reject(480)]);
    assert_eq!(phone.end(), Ended::LockedOut);
}

#[test]
fn each_refusal_before_the_answer_has_its_status() {
    let locked = Refusal::LockedOut {
        wait: Duration::from_secs(9),
    };
    let broken = Refusal::Unavailable(palabre_engine::directory::DirectoryError {
        cause: String::new(),
    });
    for (answer, status, ended) in [
        (Input::LookedUp(Err(locked)), 480, Ended::LockedOut),
        (Input::LookedUp(Err(broken)), 503, Ended::Unavailable),
        (
            Input::LookedUp(Err(Refusal::Malformed)),
            404,
            Ended::UnknownCode,
        ),
    ] {
        let mut phone = Phone::dials(Some("123456789"));
        phone.take();
        phone.give(answer);
        assert_eq!(phone.take(), [Output::Reject(status)]);
        assert_eq!(phone.end(), ended);
    }
    let mut phone = Phone::dials(Some("123456789"));
    phone.take();
    phone.wait();
    assert_eq!(
        phone.take(),
        [Output::Reject(503)],
        "a door that never answers"
    );
    let mut phone = Phone::dials(None);
    phone.take();
    phone.give(Input::Bound(None));
    assert_eq!(phone.take(), [Output::Reject(503)]);
    assert_eq!(phone.end(), Ended::NoPort);
}

#[test]
fn who_dials_the_code_of_a_full_room_is_told_before_the_refusal() {
    let mut phone = Phone::dials(Some("123456789"));
    phone.take();
    phone.give(found(true));
    assert_eq!(phone.take(), [Output::Bind]);
    phone.give(Input::Bound(Some(ports())));
    assert_eq!(phone.take(), [Output::Progress(ports())]);
    phone.give(Input::Media(media()));
    assert_eq!(phone.take(), [Output::OpenLine(media())]);
    phone.give(Input::LineOpened(true));
    phone.give(Input::Line(LegEvent::MediaTimeout));
    let outputs = phone.listen();
    assert_eq!(outputs.last(), Some(&Output::Reject(486)));
    let said = phone.said(&outputs);
    assert_eq!(said[0], Say::Phrase(Language::French, Phrase::RoomFull));
    assert_eq!(phone.end(), Ended::RoomFull);
    // Whatever keeps it from being told, the answer is the same.
    for missing in [
        vec![Input::Bound(None)],
        vec![Input::Bound(Some(ports())), Input::NoEarlyMedia],
        vec![
            Input::Bound(Some(ports())),
            Input::Media(media()),
            Input::LineOpened(false),
        ],
        vec![Input::Bound(Some(ports())), Input::Timeout],
    ] {
        let mut phone = Phone::dials(Some("123456789"));
        phone.give(found(true));
        for input in missing {
            match input {
                Input::Timeout => phone.wait(),
                input => phone.give(input),
            }
        }
        assert_eq!(phone.take().last(), Some(&Output::Reject(486)));
        assert_eq!(phone.end(), Ended::RoomFull);
    }
}

#[test]
fn a_room_that_filled_up_meanwhile_is_told_by_voice() {
    for (error, phrase, ended) in [
        (
            JoinError::RoomFull { limit: 2 },
            Phrase::RoomFull,
            Ended::RoomFull,
        ),
        (
            JoinError::RoomUnknown,
            Phrase::UnknownMeeting,
            Ended::UnknownCode,
        ),
        (JoinError::Stopping, Phrase::Unavailable, Ended::Unavailable),
    ] {
        let mut phone = Phone::in_menu();
        phone.keys("123456789");
        phone.give(found(false));
        phone.take();
        phone.give(Input::Joined(Err(error)));
        let outputs = phone.listen();
        assert_eq!(outputs.last(), Some(&Output::HangUp));
        let said = phone.said(&outputs);
        assert_eq!(said[0], Say::Phrase(Language::French, phrase));
        assert!(said.contains(&Say::Phrase(Language::French, Phrase::Goodbye)));
        assert_eq!(phone.end(), ended);
    }
}

#[test]
fn keys_mute_and_unmute_and_the_caller_is_told() {
    let mut phone = Phone::in_room();
    phone.keys("0");
    assert_eq!(phone.asked[0], Output::SetMuted(true));
    assert_eq!(phone.phrases(), [Phrase::Muted]);
    phone.keys("*6");
    assert_eq!(phone.asked[0], Output::SetMuted(false));
    assert_eq!(phone.phrases(), [Phrase::Unmuted]);
}

#[test]
fn who_is_muted_by_the_host_is_told_and_can_unmute() {
    let mut phone = Phone::in_room();
    phone.give(Input::Line(LegEvent::Muted(true)));
    assert_eq!(phone.phrases(), [Phrase::MutedByHost]);
    phone.keys("0");
    assert_eq!(phone.asked[0], Output::SetMuted(false));
    assert_eq!(phone.phrases(), [Phrase::Unmuted]);
    phone.give(Input::Line(LegEvent::Muted(false)));
    assert_eq!(phone.take(), [], "the echo of its own key");
}

#[test]
fn a_key_sent_both_ways_counts_once() {
    let mut phone = Phone::in_room();
    phone.keys("0");
    phone.give(Input::Key('0'));
    assert_eq!(phone.phrases(), [Phrase::Muted]);
    phone.now += Duration::from_secs(1);
    phone.give(Input::Key('0'));
    assert_eq!(
        phone.phrases(),
        [Phrase::Unmuted],
        "and INFO alone counts too"
    );
}

#[test]
fn who_is_put_out_is_told_why() {
    for (reason, phrase, ended) in [
        (RemovedReason::Removed, Phrase::Removed, Ended::Removed),
        (
            RemovedReason::RoomClosed,
            Phrase::RoomClosed,
            Ended::RoomClosed,
        ),
    ] {
        let mut phone = Phone::in_room();
        phone.give(Input::Line(LegEvent::Removed(reason)));
        let outputs = phone.listen();
        assert_eq!(
            phone.said(&outputs)[0],
            Say::Phrase(Language::French, phrase)
        );
        assert_eq!(outputs.last(), Some(&Output::HangUp));
        assert_eq!(phone.end(), ended);
    }
}

#[test]
fn a_failed_mix_is_joined_again_without_a_word_and_still_muted() {
    let mut phone = Phone::in_room();
    phone.keys("0");
    phone.phrases();
    phone.give(Input::Line(LegEvent::Removed(RemovedReason::MixFailed)));
    assert!(matches!(&phone.take()[..], [Output::Join(_)]));
    phone.give(Input::Joined(Ok(())));
    assert_eq!(phone.take(), [Output::SetMuted(true)]);
}

#[test]
fn silence_of_the_network_ends_the_call() {
    let mut phone = Phone::in_room();
    phone.give(Input::Line(LegEvent::MediaTimeout));
    assert_eq!(phone.take(), [Output::HangUp]);
    assert_eq!(phone.end(), Ended::MediaTimeout);
}

#[test]
fn hold_reaches_the_line_whatever_the_stage() {
    let mut held = media();
    held.direction = Direction::RecvOnly;
    let mut phone = Phone::in_room();
    phone.give(Input::Media(held.clone()));
    assert_eq!(phone.take(), [Output::UpdateLine(held)]);
}

#[test]
fn an_offerless_call_opens_its_line_with_the_ack() {
    let mut phone = Phone::dials(None);
    phone.give(Input::Bound(Some(ports())));
    phone.take();
    phone.give(Input::Confirmed);
    phone.give(Input::Media(media()));
    assert_eq!(phone.take(), [Output::OpenLine(media())]);
    let mut phone = Phone::dials(None);
    phone.give(Input::Bound(Some(ports())));
    phone.take();
    phone.wait();
    assert_eq!(phone.take(), [Output::HangUp], "no media ever came");
    assert_eq!(phone.end(), Ended::NoMedia);
}

#[test]
fn every_end_closes_the_line() {
    let mut answered = Phone::in_menu();
    answered.take();
    assert_eq!(answered.end(), Ended::Abandoned);
    let mut ringing = Phone::dials(Some("123456789"));
    ringing.take();
    assert_eq!(ringing.end(), Ended::Cancelled);
    let mut stopped = Phone::in_room();
    stopped.call.dismiss();
    stopped.drain();
    assert_eq!(stopped.take(), [Output::HangUp]);
    assert_eq!(stopped.end(), Ended::Dismissed);
    let mut failed = Phone::dials(None);
    failed.give(Input::Bound(Some(ports())));
    failed.give(Input::Media(media()));
    failed.give(Input::Confirmed);
    failed.take();
    failed.give(Input::LineOpened(false));
    assert_eq!(failed.take(), [Output::HangUp]);
    assert_eq!(failed.end(), Ended::Unavailable);
}

fn any_input() -> impl Strategy<Value = Input> {
    let key = prop_oneof![Just('*'), Just('#'), proptest::char::range('0', '9')];
    let wait = (0u64..60).prop_map(Duration::from_secs);
    prop_oneof![
        2 => any::<bool>().prop_map(|free| Input::Bound(free.then(ports))),
        2 => Just(()).prop_map(|()| Input::Media(media())),
        2 => Just(()).prop_map(|()| Input::Confirmed),
        1 => Just(()).prop_map(|()| Input::NoEarlyMedia),
        2 => any::<bool>().prop_map(Input::LineOpened),
        12 => key.clone().prop_map(|key| Input::Line(LegEvent::Digit(key))),
        2 => key.prop_map(Input::Key),
        6 => Just(()).prop_map(|()| Input::Line(LegEvent::PlayFinished)),
        1 => any::<bool>().prop_map(|muted| Input::Line(LegEvent::Muted(muted))),
        1 => Just(()).prop_map(|()| Input::Line(LegEvent::MediaTimeout)),
        1 => Just(()).prop_map(|()| Input::Line(LegEvent::Removed(RemovedReason::MixFailed))),
        1 => Just(()).prop_map(|()| Input::Line(LegEvent::Removed(RemovedReason::Removed))),
        2 => any::<bool>().prop_map(found),
        1 => wait.prop_map(|wait| Input::LookedUp(Err(Refusal::Unknown { wait }))),
        2 => Just(()).prop_map(|()| Input::Joined(Ok(()))),
        1 => Just(()).prop_map(|()| Input::Joined(Err(JoinError::RoomUnknown))),
        4 => Just(()).prop_map(|()| Input::Timeout),
    ]
}

proptest! {
    /// Whatever comes in, in whatever order: one refusal or one hang-up at most, nothing after it, and a line opened once.
    #[test]
    fn no_order_of_inputs_breaks_a_call(
        direct in any::<bool>(),
        inputs in proptest::collection::vec((any_input(), 0u64..4_000), 0..120),
    ) {
        let mut phone = Phone::dials(direct.then_some("123456789"));
        let (mut over, mut lines) = (false, 0);
        for (input, pause) in inputs {
            phone.now += Duration::from_millis(pause);
            phone.give(input);
            for output in phone.take() {
                match output {
                    Output::Reject(_) | Output::HangUp => {
                        prop_assert!(!over);
                        over = true;
                    }
                    Output::OpenLine(_) => lines += 1,
                    // The peer may renegotiate until it hears of the end.
                    Output::UpdateLine(_) => {}
                    output => prop_assert!(!over, "{output:?} after the end"),
                }
            }
        }
        prop_assert!(lines <= 1);
        phone.take();
        phone.end();
    }
}
