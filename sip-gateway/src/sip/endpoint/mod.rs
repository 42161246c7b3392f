//! The endpoint: one home for the tables of connections, transactions and dialogs, and their one clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::event::{Dial, DialogId, Flow, Input, Output};
use super::limits::Limits;
use super::random::Random;
use super::sdp::{Direction, LocalMedia, Media, MediaPolicy};

/// Settings of an [`Endpoint`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Text of the Server and User-Agent headers.
    pub product: String,
    /// Host written in Via and Contact instead of the address of the flow: behind a 1:1 NAT, or a name.
    pub host: Option<String>,
    /// Codecs.
    pub media: MediaPolicy,
    /// Table bounds.
    pub limits: Limits,
    /// RTT estimate T1 (RFC 3261 §17.1.1.1). Lower repairs losses sooner, higher spares slow links.
    pub t1: Duration,
    /// How long a call may ring before it is refused with 480.
    pub ring: Duration,
    /// Smallest session interval we accept (RFC 4028 Min-SE, at least 90 s).
    pub min_session: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            product: "Palabre".into(),
            host: None,
            media: MediaPolicy::default(),
            limits: Limits::default(),
            t1: Duration::from_millis(500),
            ring: Duration::from_secs(180),
            min_session: Duration::from_secs(90),
        }
    }
}

/// The dialog is over, or not in a state where this can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the call has ended, or cannot do this now")]
pub struct NoSuchDialog;

/// A SIP user agent for many calls. See the module for its contract with the shell.
#[derive(Debug)]
pub struct Endpoint {
    config: Config,
    random: Random,
    outputs: VecDeque<Output>,
}

impl Endpoint {
    /// An endpoint without calls. `random` from the OS.
    pub fn new(config: Config, random: Random) -> Self {
        Endpoint {
            config,
            random,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input. Drain [`poll`](Self::poll) afterwards, then wait for input or [`deadline`](Self::deadline).
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        let _ = (now, input);
    }

    /// The next thing to do, in order, or `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to give [`Input::Timeout`], if nothing else comes before.
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Sends 180 Ringing.
    pub fn ring(&mut self, now: Instant, dialog: DialogId) -> Result<(), NoSuchDialog> {
        let _ = (now, dialog);
        Err(NoSuchDialog)
    }

    /// Answers 200 with our SDP. Returns the media to start now, or `None` if the caller offered nothing: then
    /// [`Event::Media`](super::Event::Media) comes with the ACK.
    pub fn accept(
        &mut self,
        now: Instant,
        dialog: DialogId,
        local: LocalMedia,
    ) -> Result<Option<Media>, NoSuchDialog> {
        let _ = (now, dialog, local);
        Err(NoSuchDialog)
    }

    /// Refuses an unanswered call: 404, 486, 503, 603... [`Event::Ended`](super::Event::Ended) follows.
    pub fn reject(
        &mut self,
        now: Instant,
        dialog: DialogId,
        status: u16,
    ) -> Result<(), NoSuchDialog> {
        let _ = (now, dialog, status);
        Err(NoSuchDialog)
    }

    /// Ends a call whatever its state: CANCEL, BYE, or 480 if it still waits for our answer.
    /// [`Event::Ended`](super::Event::Ended) with [`Ending::HungUp`](super::Ending::HungUp) comes at once; what is left to say to the peer is said by the core.
    pub fn hang_up(&mut self, now: Instant, dialog: DialogId) -> Result<(), NoSuchDialog> {
        let _ = (now, dialog);
        Err(NoSuchDialog)
    }

    /// Offers another direction by re-INVITE (hold: [`Direction::SendOnly`], resume: [`Direction::SendRecv`]).
    pub fn redirect(
        &mut self,
        now: Instant,
        dialog: DialogId,
        direction: Direction,
    ) -> Result<(), NoSuchDialog> {
        let _ = (now, dialog, direction);
        Err(NoSuchDialog)
    }

    /// Calls somebody: INVITE with our offer. Progress comes as [`Event::Ringing`](super::Event::Ringing),
    /// [`Event::Media`](super::Event::Media), [`Event::Answered`](super::Event::Answered), [`Event::Ended`](super::Event::Ended).
    /// Refused when the table of dialogs is full or a text holds a line break.
    pub fn dial(
        &mut self,
        now: Instant,
        dial: &Dial,
        local: LocalMedia,
    ) -> Result<DialogId, NoSuchDialog> {
        let _ = (now, dial, local, &mut self.random, &self.config);
        Err(NoSuchDialog)
    }

    /// The flow over which requests of a dialog go now.
    pub fn flow(&self, dialog: DialogId) -> Option<Flow> {
        let _ = dialog;
        None
    }

    /// Dialogs now, early ones included.
    pub fn dialogs(&self) -> usize {
        0
    }

    /// Transactions now, of both kinds.
    pub fn transactions(&self) -> usize {
        0
    }
}
