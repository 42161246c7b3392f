//! The calls' sockets, lines and questions to the rest of the program: what takes time runs in tasks, its answer comes back by
//! the gateway's queue.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use palabre_engine::directory::RoomTicket;
use palabre_engine::door::{Refusal, Source};
use palabre_engine::settings::PortRange;
use palabre_engine::{JoinError, LegEvent, LegIdentity};
use tokio::sync::mpsc;

use super::FromOutside;
use crate::call::{Found, Input};
use crate::ports::{self, Pair};
use crate::rooms::{Line, Opened, Rooms, leg_parameters, leg_update};
use crate::sip::{DialogId, LocalMedia, Media};

/// What a call's tasks report.
pub(crate) enum LineEvent<L> {
    Opened(DialogId, Opened<L>),
    Heard(DialogId, LegEvent),
    LookedUp(DialogId, Result<Found, Refusal>),
    Joined(DialogId, Result<(), JoinError>),
}

/// What one call holds.
struct Held<L> {
    pair: Option<Pair>,
    line: Option<L>,
    /// Media changed while the line was being opened.
    pending: Option<Media>,
}

impl<L> Default for Held<L> {
    fn default() -> Self {
        Self {
            pair: None,
            line: None,
            pending: None,
        }
    }
}

/// What all calls hold.
pub(super) struct Lines<R: Rooms> {
    held: HashMap<DialogId, Held<R::Line>>,
    range: PortRange,
    rooms: Arc<R>,
    events: mpsc::Sender<FromOutside<R::Line>>,
}

impl<R: Rooms> Lines<R> {
    pub(super) fn new(
        range: PortRange,
        rooms: Arc<R>,
        events: mpsc::Sender<FromOutside<R::Line>>,
    ) -> Self {
        Self {
            held: HashMap::new(),
            range,
            rooms,
            events,
        }
    }

    /// Binds a call's ports.
    pub(super) fn bind(&mut self, call: DialogId, address: IpAddr) -> Input {
        let mut draw = [0; 8];
        // Without randomness the search begins at the first port: still correct, only easier to foresee.
        let _ = aws_lc_rs::rand::fill(&mut draw);
        let pair = ports::bind(address, self.range, u64::from_le_bytes(draw));
        let local = pair.as_ref().and_then(|pair| {
            Some(LocalMedia {
                rtp: pair.rtp.local_addr().ok()?,
                rtcp_port: Some(pair.rtcp.local_addr().ok()?.port()),
            })
        });
        self.held.entry(call).or_default().pair = pair;
        Input::Bound(local)
    }

    pub(super) fn open(&mut self, call: DialogId, media: Media) {
        let pair = self.held.get_mut(&call).and_then(|held| held.pair.take());
        let pair = pair.expect("a line is opened once, on ports bound before");
        let opening = self
            .rooms
            .open_line(leg_parameters(&media, pair.rtp, Some(pair.rtcp)));
        let events = self.events.clone();
        tokio::spawn(async move {
            let opened = LineEvent::Opened(call, opening.await);
            // Refused only when the gateway's task has ended, and with it the call.
            let _ = events.send(FromOutside::Line(opened)).await;
        });
    }

    pub(super) fn look_up(&self, call: DialogId, source: Source, code: String) {
        let looking = self.rooms.look_up(source, code);
        let events = self.events.clone();
        tokio::spawn(async move {
            let found = LineEvent::LookedUp(call, looking.await);
            let _ = events.send(FromOutside::Line(found)).await;
        });
    }

    pub(super) fn join(&self, call: DialogId, (ticket, identity): (RoomTicket, LegIdentity)) {
        let Some(line) = self.line(call) else { return };
        let joining = line.join(ticket, identity);
        let events = self.events.clone();
        tokio::spawn(async move {
            let joined = LineEvent::Joined(call, joining.await);
            let _ = events.send(FromOutside::Line(joined)).await;
        });
    }

    pub(super) fn update(&mut self, call: DialogId, media: Media) {
        if let Some(held) = self.held.get_mut(&call) {
            match &held.line {
                Some(line) => line.update(leg_update(&media)),
                None => held.pending = Some(media),
            }
        }
    }

    pub(super) fn play(&self, call: DialogId, sound: Arc<[i16]>) {
        if let Some(line) = self.line(call) {
            line.play(sound);
        }
    }

    pub(super) fn hush(&self, call: DialogId) {
        if let Some(line) = self.line(call) {
            line.stop_playing();
        }
    }

    pub(super) fn set_muted(&self, call: DialogId, muted: bool) {
        if let Some(line) = self.line(call) {
            line.set_muted(muted);
        }
    }

    pub(super) fn close(&mut self, call: DialogId) {
        self.held.remove(&call);
    }

    /// What the call is to be told of a report.
    pub(super) fn moved(&mut self, event: LineEvent<R::Line>) -> Option<(DialogId, Input)> {
        match event {
            LineEvent::Heard(call, event) => Some((call, Input::Line(event))),
            LineEvent::LookedUp(call, found) => Some((call, Input::LookedUp(found))),
            LineEvent::Joined(call, joined) => Some((call, Input::Joined(joined))),
            LineEvent::Opened(call, Err(error)) => {
                tracing::warn!(%error, "a call got no line");
                Some((call, Input::LineOpened(false)))
            }
            LineEvent::Opened(call, Ok((line, heard))) => {
                // A call that ended meanwhile drops its line here.
                let held = self.held.get_mut(&call)?;
                if let Some(media) = held.pending.take() {
                    line.update(leg_update(&media));
                }
                held.line = Some(line);
                tokio::spawn(forward(call, heard, self.events.clone()));
                Some((call, Input::LineOpened(true)))
            }
        }
    }

    fn line(&self, call: DialogId) -> Option<&R::Line> {
        self.held.get(&call)?.line.as_ref()
    }
}

/// Carries a line's events to the gateway's task until the line is closed.
async fn forward<L>(
    call: DialogId,
    mut heard: mpsc::Receiver<LegEvent>,
    events: mpsc::Sender<FromOutside<L>>,
) {
    while let Some(event) = heard.recv().await {
        let heard = LineEvent::Heard(call, event);
        if events.send(FromOutside::Line(heard)).await.is_err() {
            return;
        }
    }
    // The line is gone: if the call is not, nothing will ever be heard on it.
    let silent = LineEvent::Heard(call, LegEvent::MediaTimeout);
    let _ = events.send(FromOutside::Line(silent)).await;
}
