//! One incoming call: what it hears and when, from the first ring to the last word.
//!
//! A state machine with time as an argument. It asks for everything it needs (a port, a line, a look-up, a seat in a room) by
//! [`Output`] and is told how that went by [`Input`]; it touches neither the SIP core nor the engine.

mod look_up;
mod telling;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use palabre_engine::directory::RoomTicket;
use palabre_engine::door::{Refusal, Source};
use palabre_engine::{JoinError, LegEvent, LegIdentity, RemovedReason};

use crate::caller::Caller;
use crate::keys::{Keys, Wish};
use crate::menu::{self, Menu, Outcome, farewell, sentences};
use crate::metrics::Ended;
use crate::prompts::{Language, Phrase, Prompts, Say};
use crate::sip::{LocalMedia, Media};
use crate::speech::Speech;
pub use look_up::Found;
use telling::Why;

/// Longest wait for a line or a seat in a room: the engine answers in milliseconds, or is broken.
const ENGINE_PATIENCE: Duration = Duration::from_secs(10);

/// Longest wait for the acknowledgement of our answer with the line after it: the SIP core gives up a little earlier (64 T1).
const ANSWER_PATIENCE: Duration = Duration::from_secs(40);

/// The same key within this time by RTP and by SIP INFO is one key: some phones send both.
const SAME_KEY: Duration = Duration::from_millis(400);

/// By which way a key came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPath {
    /// RFC 4733, or heard in the sound.
    Rtp,
    /// SIP INFO.
    Info,
}

/// What happens to a call.
#[derive(Debug)]
pub enum Input {
    /// RTP ports, or `None` when all are taken.
    Bound(Option<LocalMedia>),
    /// The caller's phone acknowledged our answer: it is where it says it is.
    Confirmed,
    /// Media was negotiated, or negotiated anew.
    Media(Media),
    /// Nothing can be said before an answer: the caller offered no media, or enough is said to its source already.
    NoEarlyMedia,
    /// The line asked for is open, or cannot be.
    LineOpened(bool),
    /// Something happened on the line.
    Line(LegEvent),
    /// A key came by SIP INFO.
    Key(char),
    /// The door's answer.
    LookedUp(Result<Found, Refusal>),
    /// The engine's answer to [`Output::Join`].
    Joined(Result<(), JoinError>),
    /// The SIP core says the dialog is over: the last input.
    Ended,
    /// [`Call::deadline`] has passed.
    Timeout,
}

/// What a call wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send 180.
    Ring,
    /// Refuse with this status.
    Reject(u16),
    /// Answer.
    Accept(LocalMedia),
    /// Open media before a refusal; then give [`Input::Media`], or [`Input::NoEarlyMedia`].
    Progress(LocalMedia),
    /// End.
    HangUp,
    /// Find RTP ports; then give [`Input::Bound`].
    Bind,
    /// Open a line with this media; then give [`Input::LineOpened`].
    OpenLine(Media),
    /// Change the line's media.
    UpdateLine(Media),
    /// Ask the door; then give [`Input::LookedUp`].
    LookUp(Source, String),
    /// Take a seat; then give [`Input::Joined`].
    Join(Box<(RoomTicket, LegIdentity)>),
    /// Play this sound instead of what plays.
    Play(Arc<[i16]>),
    /// Stop what plays.
    Hush,
    /// Mute or unmute the caller's voice.
    SetMuted(bool),
    /// Close the line and free the ports.
    Close,
}

/// How a call is to be treated; the same for all.
#[derive(Debug, Clone)]
pub struct Treatment {
    /// The sounds.
    pub prompts: Arc<Prompts>,
    /// The menu's patience.
    pub patience: menu::Patience,
    /// Whether attributes hold whole numbers.
    pub show_numbers: bool,
}

#[derive(Debug)]
enum Stage {
    /// A dialled code is being looked up; the phone rings.
    LookingUp {
        until: Instant,
    },
    /// The same, but the source has to wait.
    Held {
        until: Instant,
        then: Then,
    },
    /// Why the call is refused is said by early media; then it is.
    Telling {
        until: Instant,
        why: Why,
    },
    /// Ports, media or line are awaited.
    Answering {
        until: Instant,
    },
    Menu(Menu),
    Joining {
        until: Instant,
    },
    InRoom(Keys),
    /// The last words are said.
    Leaving,
    /// Refused or hung up: only the end is awaited.
    Over,
}

/// What comes after the wait of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    LookUp,
    /// The code is wrong, and the source has paid for it.
    Tell,
    /// The same, but it is locked out: no word.
    Refuse,
}

/// One call.
#[derive(Debug)]
pub struct Call {
    treatment: Treatment,
    caller: Caller,
    language: Language,
    /// 128 bits of identity, then the call's own number for others.
    random: [u64; 3],
    /// The code that was dialled, if one was.
    code: Option<String>,
    lookups: u32,
    ticket: Option<RoomTicket>,
    stage: Stage,
    line: Line,
    /// Our answer was acknowledged.
    confirmed: bool,
    /// Negotiated before that.
    media: Option<Media>,
    speech: Speech,
    muted: bool,
    last_key: Option<(Instant, char, KeyPath)>,
    ended: Option<Ended>,
    outcome: Option<Outcome>,
    outputs: VecDeque<Output>,
}

/// How far the call's line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    None,
    Opening,
    Open,
}

impl Call {
    /// A call that just came in. `code` if the number dialled is a room's code: then there is no menu.
    #[must_use]
    pub fn new(
        now: Instant,
        treatment: Treatment,
        caller: Caller,
        language: Language,
        random: [u64; 3],
        code: Option<String>,
    ) -> Self {
        let mut call = Self {
            treatment,
            caller,
            language,
            random,
            code,
            lookups: 0,
            ticket: None,
            stage: Stage::Over,
            line: Line::None,
            confirmed: false,
            media: None,
            speech: Speech::default(),
            muted: false,
            last_key: None,
            ended: None,
            outcome: None,
            outputs: VecDeque::new(),
        };
        match &call.code {
            Some(_) => {
                call.outputs.push_back(Output::Ring);
                call.look_up(now);
            }
            None => call.answer(now),
        }
        call
    }

    /// Takes one input; drain [`poll`](Self::poll) afterwards.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Bound(ports) => self.bound(ports),
            Input::Confirmed => {
                self.confirmed = true;
                self.open_line();
            }
            Input::Media(media) => self.media(media),
            Input::NoEarlyMedia => self.told(),
            Input::LineOpened(opened) => self.line_opened(now, opened),
            Input::Line(event) => self.line_event(now, event),
            Input::Key(key) => self.key(now, key, KeyPath::Info),
            Input::LookedUp(answer) => self.looked_up(now, answer),
            Input::Joined(result) => self.joined(now, result),
            Input::Ended => self.end(),
            Input::Timeout => self.timeout(now),
        }
        self.run_menu(now);
    }

    /// The next thing to do, or `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to give [`Input::Timeout`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let stage = match &self.stage {
            Stage::LookingUp { until }
            | Stage::Held { until, .. }
            | Stage::Telling { until, .. }
            | Stage::Answering { until }
            | Stage::Joining { until } => Some(*until),
            Stage::Menu(menu) => menu.deadline(),
            Stage::InRoom(_) | Stage::Leaving | Stage::Over => None,
        };
        [stage, self.speech.deadline()].into_iter().flatten().min()
    }

    /// How the call ended, for the counters; after [`Input::Ended`].
    #[must_use]
    pub fn ended(&self) -> Ended {
        self.ended.unwrap_or(Ended::Cancelled)
    }

    /// How its menu ended, if it had one that did.
    #[must_use]
    pub fn menu_outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Ends the call at once, because the program stops.
    pub fn dismiss(&mut self) {
        match self.stage {
            Stage::Over => {}
            Stage::LookingUp { .. } | Stage::Held { .. } | Stage::Telling { .. } => {
                self.refuse(503, Ended::Dismissed);
            }
            _ => self.hang_up(Ended::Dismissed),
        }
    }

    /// Whether the caller is in a room.
    #[must_use]
    pub fn in_room(&self) -> bool {
        matches!(self.stage, Stage::InRoom(_))
    }

    fn answer(&mut self, now: Instant) {
        self.outputs.push_back(Output::Bind);
        self.stage = Stage::Answering {
            until: now + ANSWER_PATIENCE,
        };
    }

    fn bound(&mut self, ports: Option<LocalMedia>) {
        if matches!(self.stage, Stage::Telling { .. }) {
            return match ports {
                Some(local) => self.outputs.push_back(Output::Progress(local)),
                None => self.told(),
            };
        }
        if !matches!(self.stage, Stage::Answering { .. }) {
            return;
        }
        match ports {
            Some(local) => self.outputs.push_back(Output::Accept(local)),
            None => self.refuse(503, Ended::NoPort),
        }
    }

    fn media(&mut self, media: Media) {
        if self.told_wrong_code().is_some() && !self.caller.is_at(media.remote.ip()) {
            return self.told();
        }
        match self.line {
            Line::None => {
                self.media = Some(media);
                self.open_line();
            }
            // The shell applies it to the line once that is open.
            Line::Opening | Line::Open => self.outputs.push_back(Output::UpdateLine(media)),
        }
    }

    /// Opens the line when there is media and an acknowledgement. Before it nobody has proved to be at the address that the
    /// INVITE names: whoever forges one must not make us send a minute of greeting to somebody else.
    ///
    /// What is said before an acknowledgement, and to whom, is in [`telling`].
    fn open_line(&mut self) {
        let may = match self.stage {
            Stage::Telling { .. } => true,
            Stage::Answering { .. } => self.confirmed,
            _ => false,
        };
        if !may {
            return;
        }
        if let Some(media) = self.media.take() {
            self.line = Line::Opening;
            self.outputs.push_back(Output::OpenLine(media));
        }
    }

    fn line_opened(&mut self, now: Instant, opened: bool) {
        if self.line != Line::Opening {
            return;
        }
        self.line = if opened { Line::Open } else { Line::None };
        if let Stage::Telling { why, .. } = self.stage {
            return match opened {
                true => self.say(now, farewell(self.language, &[why.phrase()])),
                false => self.told(),
            };
        }
        if !matches!(self.stage, Stage::Answering { .. }) {
            return;
        }
        if !opened {
            self.hang_up(Ended::Unavailable);
        } else if self.ticket.is_some() {
            self.join(now);
        } else {
            let menu = Menu::new(now, self.language, self.treatment.patience);
            self.stage = Stage::Menu(menu);
        }
    }

    fn line_event(&mut self, now: Instant, event: LegEvent) {
        match event {
            LegEvent::Digit(key) => self.key(now, key, KeyPath::Rtp),
            LegEvent::PlayFinished => self.speech_moved(now, true),
            // Before an answer a phone need not send.
            LegEvent::MediaTimeout if matches!(self.stage, Stage::Telling { .. }) => {}
            LegEvent::MediaTimeout => self.hang_up(Ended::MediaTimeout),
            LegEvent::Muted(muted) => self.muted_by_engine(now, muted),
            LegEvent::Removed(reason) => self.removed(now, reason),
        }
    }

    /// The engine muted or unmuted the line: the echo of the caller's own key, or an organiser's doing.
    fn muted_by_engine(&mut self, now: Instant, muted: bool) {
        if !self.in_room() || self.muted == muted {
            return;
        }
        self.muted = muted;
        let phrase = if muted {
            Phrase::MutedByHost
        } else {
            Phrase::Unmuted
        };
        self.say(now, sentences(self.language, &[phrase]));
    }

    fn removed(&mut self, now: Instant, reason: RemovedReason) {
        if !matches!(self.stage, Stage::InRoom(_)) {
            return;
        }
        match reason {
            RemovedReason::Removed => self.leave(now, &[Phrase::Removed], Ended::Removed),
            RemovedReason::RoomClosed => self.leave(now, &[Phrase::RoomClosed], Ended::RoomClosed),
            RemovedReason::Shutdown => self.leave(now, &[Phrase::Unavailable], Ended::Dismissed),
            // The room's mix failed: its seat is free again, so take it.
            RemovedReason::MixFailed => self.join(now),
        }
    }

    fn key(&mut self, now: Instant, key: char, path: KeyPath) {
        let double = self.last_key.is_some_and(|(when, last, by)| {
            last == key && by != path && now.saturating_duration_since(when) < SAME_KEY
        });
        if double {
            return;
        }
        self.last_key = Some((now, key, path));
        match &mut self.stage {
            Stage::Menu(menu) => menu.handle(now, menu::Input::Key(key)),
            Stage::InRoom(keys) => match keys.press(now, key) {
                Some(Wish::ToggleMute) => {
                    self.muted = !self.muted;
                    self.outputs.push_back(Output::SetMuted(self.muted));
                    let phrase = if self.muted {
                        Phrase::Muted
                    } else {
                        Phrase::Unmuted
                    };
                    self.say(now, sentences(self.language, &[phrase]));
                }
                None => {}
            },
            _ => {}
        }
    }

    fn join(&mut self, now: Instant) {
        let ticket = self.ticket.clone().expect("a call joins by its ticket");
        let identity = self.caller.identity(
            [self.random[0], self.random[1]],
            &format!("SCL_{:016x}", self.random[2]),
            self.language,
            self.treatment.show_numbers,
        );
        self.outputs
            .push_back(Output::Join(Box::new((ticket, identity))));
        self.stage = Stage::Joining {
            until: now + ENGINE_PATIENCE,
        };
    }

    fn joined(&mut self, now: Instant, result: Result<(), JoinError>) {
        if !matches!(self.stage, Stage::Joining { .. }) {
            return;
        }
        match result {
            Ok(()) => {
                self.stage = Stage::InRoom(Keys::default());
                if self.muted {
                    self.outputs.push_back(Output::SetMuted(true));
                }
                if self.ended.replace(Ended::Joined) == Some(Ended::Joined) {
                    // Back in a room whose mix had failed: nothing to say.
                    return;
                }
                let mut said = vec![Say::JoinTone];
                said.extend(sentences(self.language, &[Phrase::Joined, Phrase::MuteKey]));
                self.say(now, said);
            }
            Err(JoinError::RoomFull { .. }) => {
                self.leave(now, &[Phrase::RoomFull], Ended::RoomFull);
            }
            Err(JoinError::RoomUnknown) => {
                self.leave(now, &[Phrase::UnknownMeeting], Ended::UnknownCode);
            }
            Err(_) => self.leave(now, &[Phrase::Unavailable], Ended::Unavailable),
        }
    }

    fn timeout(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Menu(menu) if menu.deadline().is_some_and(|deadline| now >= deadline) => {
                menu.handle(now, menu::Input::Timeout);
            }
            Stage::LookingUp { until } if now >= *until => self.refuse(503, Ended::Unavailable),
            Stage::Held { until, then } if now >= *until => match *then {
                Then::LookUp => self.look_up(now),
                Then::Tell => self.tell(now, Why::WrongCode),
                Then::Refuse => self.refuse(404, Ended::UnknownCode),
            },
            Stage::Telling { until, .. } if now >= *until => self.told(),
            Stage::Answering { until } if now >= *until => self.hang_up(Ended::NoMedia),
            Stage::Joining { until } if now >= *until => {
                self.leave(now, &[Phrase::Unavailable], Ended::Unavailable);
            }
            _ => {}
        }
        if self.speech.deadline().is_some_and(|guard| now >= guard) {
            self.speech_moved(now, false);
        }
    }

    /// Does what the menu asks, until it asks nothing more.
    fn run_menu(&mut self, now: Instant) {
        while let Stage::Menu(menu) = &mut self.stage {
            let Some(output) = menu.poll() else { return };
            self.language = menu.language();
            match output {
                menu::Output::Announce(said) => self.say(now, said),
                menu::Output::Hush => self.hush(),
                menu::Output::LookUp(code) => {
                    let source = self.caller.source();
                    self.outputs.push_back(Output::LookUp(source, code));
                }
                menu::Output::Over(outcome) => {
                    self.outcome = Some(outcome);
                    match outcome {
                        Outcome::Entered => self.join(now),
                        outcome => self.hang_up(outcome.into()),
                    }
                }
            }
        }
    }

    fn say(&mut self, now: Instant, said: Vec<Say>) {
        let sound = self.speech.begin(now, said, &self.treatment.prompts);
        self.outputs.extend(sound.map(Output::Play));
    }

    fn hush(&mut self) {
        if self.speech.stop() {
            self.outputs.push_back(Output::Hush);
        }
    }

    /// A sound ended, or `heard` is false and its time is long over.
    fn speech_moved(&mut self, now: Instant, heard: bool) {
        if heard && !self.speech.may_have_ended(now) {
            // The end of a sound that was replaced meanwhile.
            return;
        }
        match self.speech.next(now, &self.treatment.prompts) {
            Some(sound) => self.outputs.push_back(Output::Play(sound)),
            None => match &mut self.stage {
                Stage::Menu(menu) => menu.handle(now, menu::Input::Announced),
                Stage::Leaving => self.hang_up(Ended::Joined),
                Stage::Telling { .. } => self.told(),
                _ => {}
            },
        }
    }

    /// Last words, then the end.
    fn leave(&mut self, now: Instant, phrases: &[Phrase], ended: Ended) {
        self.ended = Some(ended);
        self.stage = Stage::Leaving;
        self.say(now, farewell(self.language, phrases));
    }

    fn refuse(&mut self, status: u16, ended: Ended) {
        self.ended = Some(ended);
        self.stage = Stage::Over;
        self.outputs.push_back(Output::Reject(status));
    }

    fn hang_up(&mut self, ended: Ended) {
        if matches!(self.stage, Stage::Over) {
            return;
        }
        if !matches!(self.stage, Stage::Leaving) {
            self.ended = Some(ended);
        }
        self.stage = Stage::Over;
        self.speech.stop();
        self.outputs.push_back(Output::HangUp);
    }

    fn end(&mut self) {
        self.ended.get_or_insert(match self.stage {
            Stage::LookingUp { .. } | Stage::Held { .. } => Ended::Cancelled,
            Stage::Telling { why, .. } => why.ended(),
            _ => Ended::Abandoned,
        });
        self.stage = Stage::Over;
        self.speech.stop();
        self.outputs.clear();
        self.outputs.push_back(Output::Close);
    }
}

#[cfg(test)]
mod tests;
