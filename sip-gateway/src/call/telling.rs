//! Words before a refusal: a dialled call hears, by early media, why it is refused.
//!
//! The few seconds that say why a call is refused go before any acknowledgement. To hear of a full room one has to know its
//! code. Anybody can dial a wrong code, so four things keep its sentence from being aimed at a stranger: the INVITE must
//! offer media; the sound goes only to the address that the INVITE came from, or to where a trunk says; each costs the
//! source a wrong try at the door, and who is slowed or locked out there hears nothing; and the gateway speaks to few at
//! once from one source ([`Gateway`](crate::gateway::Gateway)). A stranger whose address is forged so gets three sentences
//! of 40 KB, then one in each wait of the door: about a thousand a day.

use std::time::{Duration, Instant};

use palabre_engine::door::Source;

use super::{Call, Output, Stage};
use crate::metrics::Ended;
use crate::prompts::Phrase;

/// Longest time a caller hears why the call is refused: the words take about four seconds.
const TELL_PATIENCE: Duration = Duration::from_secs(20);

/// Why a dialled call is refused in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    RoomFull,
    WrongCode,
}

impl Why {
    pub(super) fn phrase(self) -> Phrase {
        match self {
            Self::RoomFull => Phrase::RoomFull,
            Self::WrongCode => Phrase::WrongCode,
        }
    }

    pub(super) fn status(self) -> u16 {
        match self {
            Self::RoomFull => 486,
            Self::WrongCode => 404,
        }
    }

    pub(super) fn ended(self) -> Ended {
        match self {
            Self::RoomFull => Ended::RoomFull,
            Self::WrongCode => Ended::UnknownCode,
        }
    }
}

impl Call {
    /// Says why, by early media, then refuses. All that keeps it from being said ends in [`told`](Self::told) at once.
    pub(super) fn tell(&mut self, now: Instant, why: Why) {
        self.outputs.push_back(Output::Bind);
        let until = now + TELL_PATIENCE;
        self.stage = Stage::Telling { until, why };
    }

    /// The end of a call that is refused in words, said or not.
    pub(super) fn told(&mut self) {
        if let Stage::Telling { why, .. } = self.stage {
            self.speech.stop();
            self.refuse(why.status(), why.ended());
        }
    }

    /// Who is being told, before any acknowledgement, that a code is wrong; `None` for every other call.
    #[must_use]
    pub fn told_wrong_code(&self) -> Option<Source> {
        let told = matches!(
            self.stage,
            Stage::Telling {
                why: Why::WrongCode,
                ..
            }
        );
        told.then(|| self.caller.source())
    }
}
