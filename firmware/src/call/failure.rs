//! Why a synthetic call failed: one code and one sentence.

use std::fmt;

/// A step of the call. Its code is stable: the appliance keeps it in the history of updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The running program lends a room.
    Access,
    /// Two guests join over LiveKit's WebSocket.
    Signalling,
    /// The guests' connectivity checks are answered.
    Ice,
    /// The guests' handshakes end well.
    Dtls,
    /// A guest hears the other's tone through the SFU.
    SfuSound,
    /// The telephone is answered.
    Sip,
    /// The telephone hears the guest's tone through the mixer.
    MixerSound,
    /// The telephone does not hear its own tone.
    OwnTone,
    /// A guest hears the telephone's tone through mixer and SFU.
    SipSound,
    /// Hanging up is answered.
    HangUp,
}

impl Step {
    /// Its code.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Signalling => "signalling",
            Self::Ice => "ice",
            Self::Dtls => "dtls",
            Self::SfuSound => "sfu-sound",
            Self::Sip => "sip",
            Self::MixerSound => "mixer-sound",
            Self::OwnTone => "own-tone",
            Self::SipSound => "sip-sound",
            Self::HangUp => "hang-up",
        }
    }
}

/// The step that failed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Which one.
    pub(crate) step: Step,
    /// A sentence without a full stop.
    pub(crate) sentence: String,
}

impl Failure {
    pub(crate) fn new(step: Step, sentence: impl Into<String>) -> Self {
        Self {
            step,
            sentence: sentence.into(),
        }
    }
}

impl fmt::Display for Failure {
    /// On one line, whatever the sentence quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = self.sentence.replace(char::is_control, " ");
        write!(f, "{}: {sentence}", self.step.code())
    }
}

impl std::error::Error for Failure {}
