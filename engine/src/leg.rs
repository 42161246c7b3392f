//! A telephone leg as the SIP gateway holds it: a line of the mixer thread plus a seat in a room.
//!
//! The audio is the mixer thread's business ([`crate::legs`]), the participant the shard's.

use std::collections::HashMap;

use palabre_media::ids::LegId;

use crate::error::JoinError;
use crate::handle::Engine;
use crate::legs::{self, LegUpdate, Prompt};

/// Who the caller is, for the participants of the room.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LegIdentity {
    /// Unique in the room.
    pub identity: String,
    /// Shown.
    pub name: String,
    /// LiveKit's `sip.*` attributes.
    pub attributes: HashMap<String, String>,
}

/// One telephone call's audio. Dropping it leaves the room and closes the leg.
#[derive(Debug)]
pub struct Leg {
    line: legs::Leg,
    engine: Engine,
}

impl Leg {
    pub(crate) fn new(line: legs::Leg, engine: Engine) -> Self {
        Self { line, engine }
    }

    /// Which leg, for logs.
    #[must_use]
    pub fn id(&self) -> LegId {
        self.line.id()
    }

    /// Plays a prompt to the caller, instead of what was playing.
    pub fn play(&self, prompt: Prompt) {
        self.line.play(prompt);
    }

    /// Stops the prompt.
    pub fn stop_playing(&self) {
        self.line.stop_playing();
    }

    /// Puts the caller into a room as a participant of kind SIP: it hears everybody, everybody
    /// hears it.
    ///
    /// # Errors
    /// [`JoinError`] when the room is unknown or full, or the leg is in a room already.
    pub async fn join(&self, room: &str, identity: LegIdentity) -> Result<(), JoinError> {
        self.engine.join_leg(self.id(), room, identity).await
    }

    /// Applies what a re-INVITE changed.
    pub fn update(&self, update: LegUpdate) {
        self.line.update(update);
    }

    /// Mutes or unmutes the caller at its own wish; everybody in the room sees it. A leg that is in no room stays as
    /// it is.
    pub fn set_muted(&self, muted: bool) {
        self.engine.mute_leg(self.id(), muted);
    }

    /// Ends the leg, leaving its room.
    pub fn close(self) {}
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.engine.close_leg(self.id());
    }
}
