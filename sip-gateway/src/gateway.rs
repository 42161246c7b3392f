//! All calls of the box: joins the SIP core to the calls, and both to the shell.
//!
//! Sans-IO: what happens goes in through [`Gateway::handle`] with the time, what is to be done comes out of [`Gateway::poll`].
//! It decides which calls are taken and whether a dialled number is a code; what one call hears is [`call`](crate::call).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use palabre_engine::LegIdentity;
use palabre_engine::directory::{RoomCode, RoomTicket};
use palabre_engine::door::Source;

use crate::call::{self, Call, Treatment};
use crate::caller::Caller;
use crate::config::SipConfig;
use crate::metrics::{Ended, Metrics};
use crate::prompts::{Language, Prompts};
use crate::sip::{self, DialogId, Endpoint, Event, Invite, Media, Random};

/// Callers from one source that are told at once, before any acknowledgement, that a code is wrong; others get the refusal
/// without words. More speaks to more phones behind one address that misdial in the same seconds; fewer sends less to a
/// stranger whose address is forged.
const TOLD_AT_ONCE: usize = 2;

/// What happens to the gateway.
#[derive(Debug)]
pub enum Input<'a> {
    /// For the SIP core.
    Sip(sip::Input<'a>),
    /// For one call.
    Call(DialogId, call::Input),
    /// [`Gateway::deadline`] has passed.
    Timeout,
}

/// What the gateway wants done.
#[derive(Debug, Clone)]
pub enum Output {
    /// Of the network. Never [`sip::Output::Event`].
    Sip(sip::Output),
    /// Bind ports for a call on this address; then give [`call::Input::Bound`].
    Bind(DialogId, IpAddr),
    /// Open the call's line on its ports; then give [`call::Input::LineOpened`].
    OpenLine(DialogId, Media),
    /// Change the media of the call's line, at once or when it opens.
    UpdateLine(DialogId, Media),
    /// Ask the door; then give [`call::Input::LookedUp`].
    LookUp(DialogId, Source, String),
    /// Take a seat; then give [`call::Input::Joined`].
    Join(DialogId, Box<(RoomTicket, LegIdentity)>),
    /// Play on the call's line.
    Play(DialogId, Arc<[i16]>),
    /// Stop playing.
    Hush(DialogId),
    /// Mute or unmute the caller.
    SetMuted(DialogId, bool),
    /// Close the line and forget the ports: the call is over.
    Close(DialogId),
}

impl Output {
    /// The call it is for; none for what goes to the network.
    #[must_use]
    pub fn call(&self) -> Option<DialogId> {
        match self {
            Self::Sip(_) => None,
            Self::Bind(id, _)
            | Self::OpenLine(id, _)
            | Self::UpdateLine(id, _)
            | Self::LookUp(id, ..)
            | Self::Join(id, _)
            | Self::Play(id, _)
            | Self::Hush(id)
            | Self::SetMuted(id, _)
            | Self::Close(id) => Some(*id),
        }
    }
}

/// Every call of one SIP address.
#[derive(Debug)]
pub struct Gateway {
    config: SipConfig,
    endpoint: Endpoint,
    random: Random,
    treatment: Treatment,
    calls: HashMap<DialogId, Active>,
    /// When which call wants [`call::Input::Timeout`]; a call is here at most once.
    deadlines: BTreeSet<(Instant, DialogId)>,
    outputs: VecDeque<Output>,
    metrics: Metrics,
    in_rooms: usize,
    stopping: bool,
    /// The call that the input in hand is about, for [`Gateway::recover`].
    at: Option<DialogId>,
}

#[derive(Debug)]
struct Active {
    call: Call,
    /// Our address towards this caller.
    local: IpAddr,
    deadline: Option<Instant>,
    in_room: bool,
}

impl Gateway {
    /// A gateway without calls. `seed` is fresh OS randomness.
    #[must_use]
    pub fn new(config: SipConfig, prompts: Arc<Prompts>, seed: [u8; 32], metrics: Metrics) -> Self {
        let mut random = Random::new(seed);
        let mut core_seed = [0; 32];
        for word in core_seed.chunks_exact_mut(8) {
            word.copy_from_slice(&random.draw().to_le_bytes());
        }
        Self {
            endpoint: Endpoint::new(config.endpoint(), Random::new(core_seed)),
            random,
            treatment: Treatment {
                prompts,
                patience: config.menu_patience(),
                show_numbers: config.show_numbers,
            },
            config,
            calls: HashMap::new(),
            deadlines: BTreeSet::new(),
            outputs: VecDeque::new(),
            metrics,
            in_rooms: 0,
            stopping: false,
            at: None,
        }
    }

    /// Takes one input; drain [`poll`](Self::poll) afterwards, then wait for input or [`deadline`](Self::deadline).
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.at = None;
        match input {
            Input::Sip(input) => self.endpoint.handle(now, input),
            Input::Call(id, input) => {
                if self.calls.contains_key(&id) {
                    self.give(now, id, input);
                } else if matches!(input, call::Input::LineOpened(true)) {
                    // The caller hung up while the line was being opened.
                    self.outputs.push_back(Output::Close(id));
                }
            }
            Input::Timeout => {
                if self.endpoint.deadline().is_some_and(|due| now >= due) {
                    self.endpoint.handle(now, sip::Input::Timeout);
                }
                while let Some(&(due, id)) = self.deadlines.first()
                    && now >= due
                {
                    self.deadlines.pop_first();
                    if let Some(active) = self.calls.get_mut(&id) {
                        active.deadline = None;
                        self.give(now, id, call::Input::Timeout);
                    }
                }
            }
        }
        self.drain_endpoint(now);
        self.count();
    }

    fn count(&self) {
        self.metrics.tables(
            self.calls.len(),
            self.in_rooms,
            self.endpoint.dialogs(),
            self.endpoint.transactions(),
        );
        self.metrics.core(&self.endpoint.counters());
    }

    /// After a panic in [`handle`](Self::handle): ends the call the input was about, if it had reached one.
    pub fn recover(&mut self, now: Instant) {
        if let Some(id) = self.at.take() {
            self.abandon(now, id);
        }
    }

    /// Ends a call that a bug has left in no state to go on: nothing more is said to the caller than BYE, or 480.
    pub fn abandon(&mut self, now: Instant, id: DialogId) {
        // First, so that its end below finds nobody to tell.
        if let Some(active) = self.calls.remove(&id) {
            self.forget_deadline(id, active.deadline);
            self.in_rooms -= usize::from(active.in_room);
            self.metrics.ended(Ended::Failed);
        }
        self.outputs.push_back(Output::Close(id));
        // The bug may have cost the dialog too.
        let _ = self.endpoint.hang_up(now, id);
        self.drain_endpoint(now);
        self.count();
    }

    /// The next thing to do, in order, or `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to give [`Input::Timeout`], if nothing else comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let call = self.deadlines.first().map(|(due, _)| *due);
        [self.endpoint.deadline(), call].into_iter().flatten().min()
    }

    /// Ends every call and takes no more.
    pub fn shut_down(&mut self, now: Instant) {
        self.stopping = true;
        let ids: Vec<DialogId> = self.calls.keys().copied().collect();
        for id in ids {
            if let Some(active) = self.calls.get_mut(&id) {
                active.call.dismiss();
                self.run(now, id);
            }
        }
        self.drain_endpoint(now);
    }

    /// Whether the last BYE is answered: nothing is left to do after [`shut_down`](Self::shut_down).
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.calls.is_empty() && self.endpoint.dialogs() == 0
    }

    fn drain_endpoint(&mut self, now: Instant) {
        while let Some(output) = self.endpoint.poll() {
            match output {
                sip::Output::Event(event) => self.event(now, event),
                output => self.outputs.push_back(Output::Sip(output)),
            }
        }
    }

    fn event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Invite(invite) => self.invite(now, &invite),
            Event::Media { dialog, media } => self.give(now, dialog, call::Input::Media(media)),
            Event::Digit { dialog, digit, .. } => self.give(now, dialog, call::Input::Key(digit)),
            Event::Ended { dialog, .. } => {
                self.give(now, dialog, call::Input::Ended);
                if let Some(active) = self.calls.remove(&dialog) {
                    self.forget_deadline(dialog, active.deadline);
                    let ended = active.call.ended();
                    self.metrics.ended(ended);
                    tracing::info!(call = ?dialog, result = ended.name(), "a call ended");
                    if let Some(outcome) = active.call.menu_outcome() {
                        self.metrics.menu(outcome);
                    }
                }
            }
            Event::Confirmed { dialog } => self.give(now, dialog, call::Input::Confirmed),
            // Nobody is dialled from here yet.
            Event::Ringing { .. } | Event::Answered { .. } => {}
        }
    }

    fn invite(&mut self, now: Instant, invite: &Invite) {
        let id = invite.dialog;
        self.metrics.invite();
        if self.stopping {
            // The dialog may have ended already: then there is nobody to refuse.
            let _ = self.endpoint.reject(now, id, 503);
            return;
        }
        let caller = Caller::of(invite, &self.config.trunks);
        let language = spoken(invite.accept_language.as_deref(), self.config.language);
        let random = std::array::from_fn(|_| self.random.draw());
        let code = self.dialled_code(&invite.dialled);
        let treatment = self.treatment.clone();
        let active = Active {
            call: Call::new(now, treatment, caller, language, random, code),
            local: invite.flow.local.ip(),
            deadline: None,
            in_room: false,
        };
        self.calls.insert(id, active);
        self.at = Some(id);
        self.run(now, id);
    }

    /// The code in a dialled number, unless it is one of our own numbers.
    fn dialled_code(&self, dialled: &str) -> Option<String> {
        let code = RoomCode::parse(dialled).ok()?;
        let own = |number: &String| RoomCode::parse(number) == Ok(code);
        (!self.config.numbers.iter().any(own)).then(|| code.as_str().to_owned())
    }

    fn give(&mut self, now: Instant, id: DialogId, input: call::Input) {
        if let Some(active) = self.calls.get_mut(&id) {
            self.at = Some(id);
            active.call.handle(now, input);
            self.run(now, id);
        }
    }

    /// Does what a call asks, until it asks nothing more.
    fn run(&mut self, now: Instant, id: DialogId) {
        while let Some(active) = self.calls.get_mut(&id) {
            let Some(output) = active.call.poll() else {
                let in_room = active.call.in_room();
                if in_room != std::mem::replace(&mut active.in_room, in_room) {
                    self.in_rooms = if in_room {
                        self.in_rooms + 1
                    } else {
                        self.in_rooms - 1
                    };
                }
                let deadline = active.call.deadline();
                if deadline != active.deadline {
                    let before = std::mem::replace(&mut active.deadline, deadline);
                    self.forget_deadline(id, before);
                    self.deadlines.extend(deadline.map(|due| (due, id)));
                }
                return;
            };
            let local = active.local;
            let output = match output {
                // The dialog may have ended with its event still in the core's queue: then these do nothing.
                call::Output::Ring => {
                    let _ = self.endpoint.ring(now, id);
                    continue;
                }
                call::Output::Reject(status) => {
                    let _ = self.endpoint.reject(now, id, status);
                    continue;
                }
                call::Output::HangUp => {
                    let _ = self.endpoint.hang_up(now, id);
                    continue;
                }
                call::Output::Accept(mut media) => {
                    if let Some(address) = self.config.advertise {
                        media.rtp.set_ip(address);
                    }
                    if let Ok(Some(media)) = self.endpoint.accept(now, id, media) {
                        active.call.handle(now, call::Input::Media(media));
                    }
                    continue;
                }
                call::Output::Progress(mut media) => {
                    if let Some(address) = self.config.advertise {
                        media.rtp.set_ip(address);
                    }
                    let told = active.call.told_wrong_code();
                    let input = if told.is_some_and(|source| self.told(&source) > TOLD_AT_ONCE) {
                        call::Input::NoEarlyMedia
                    } else {
                        match self.endpoint.progress(now, id, media) {
                            Ok(Some(media)) => call::Input::Media(media),
                            Ok(None) | Err(_) => call::Input::NoEarlyMedia,
                        }
                    };
                    if let Some(active) = self.calls.get_mut(&id) {
                        active.call.handle(now, input);
                    }
                    continue;
                }
                call::Output::Bind => Output::Bind(id, local),
                call::Output::OpenLine(media) => Output::OpenLine(id, media),
                call::Output::UpdateLine(media) => Output::UpdateLine(id, media),
                call::Output::LookUp(source, code) => Output::LookUp(id, source, code),
                call::Output::Join(join) => Output::Join(id, join),
                call::Output::Play(sound) => Output::Play(id, sound),
                call::Output::Hush => Output::Hush(id),
                call::Output::SetMuted(muted) => Output::SetMuted(id, muted),
                call::Output::Close => Output::Close(id),
            };
            self.outputs.push_back(output);
        }
    }

    /// Calls from `source` that are being told of a wrong code.
    fn told(&self, source: &Source) -> usize {
        let calls = self.calls.values();
        calls
            .filter(|active| active.call.told_wrong_code().as_ref() == Some(source))
            .count()
    }

    fn forget_deadline(&mut self, id: DialogId, deadline: Option<Instant>) {
        if let Some(due) = deadline {
            self.deadlines.remove(&(due, id));
        }
    }
}

/// The first language of an Accept-Language header that we speak.
fn spoken(accept: Option<&str>, default: Language) -> Language {
    accept
        .unwrap_or_default()
        .split(',')
        .take(16)
        .find_map(|range| {
            let tag = range.split([';', '-']).next()?.trim();
            Language::ALL
                .into_iter()
                .find(|language| language.code().eq_ignore_ascii_case(tag))
        })
        .unwrap_or(default)
}

#[cfg(test)]
mod tests;
