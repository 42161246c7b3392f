//! A code asked of the door: for a dialled one the phone rings meanwhile, for one typed the menu goes on.

use std::time::{Duration, Instant};

use palabre_engine::directory::RoomTicket;
use palabre_engine::door::Refusal;

use super::{Call, ENGINE_PATIENCE, Output, Stage, Then, Why};
use crate::menu::{self, Answer};
use crate::metrics::Ended;

/// Longest a caller's phone rings because of wrong codes before it is refused.
pub(super) const LONGEST_HOLD: Duration = Duration::from_secs(30);

/// Times a dialled code is looked up when the source has to wait first.
const LOOKUPS: u32 = 3;

/// What the door said of a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The right to enter the room.
    pub ticket: RoomTicket,
    /// Whether the room has no place left.
    pub full: bool,
}

impl Call {
    pub(super) fn look_up(&mut self, now: Instant) {
        self.lookups += 1;
        let code = self.code.clone().unwrap_or_default();
        let source = self.caller.source();
        self.outputs.push_back(Output::LookUp(source, code));
        self.stage = Stage::LookingUp {
            until: now + ENGINE_PATIENCE,
        };
    }

    pub(super) fn looked_up(&mut self, now: Instant, answer: Result<Found, Refusal>) {
        match &mut self.stage {
            Stage::Menu(menu) => {
                let answer = match answer {
                    Ok(found) if found.full => Answer::Full,
                    Ok(found) => {
                        self.ticket = Some(found.ticket);
                        Answer::Open
                    }
                    Err(Refusal::Malformed) => Answer::Wrong {
                        wait: Duration::ZERO,
                    },
                    Err(Refusal::Unknown { wait }) => Answer::Wrong { wait },
                    Err(Refusal::Slowed { wait }) => Answer::Slowed { wait },
                    Err(Refusal::LockedOut { .. }) => Answer::LockedOut,
                    Err(Refusal::Unavailable(_)) => Answer::Unavailable,
                };
                menu.handle(now, menu::Input::LookedUp(answer));
            }
            Stage::LookingUp { .. } => match answer {
                Ok(found) if found.full => self.tell(now, Why::RoomFull),
                Ok(found) => {
                    self.ticket = Some(found.ticket);
                    self.answer(now);
                }
                Err(Refusal::Malformed) => self.refuse(404, Ended::UnknownCode),
                Err(Refusal::Unknown { wait }) if wait.is_zero() => {
                    self.tell(now, Why::WrongCode);
                }
                Err(Refusal::Unknown { wait }) => {
                    let (wait, then) = match wait <= LONGEST_HOLD {
                        true => (wait, Then::Tell),
                        false => (LONGEST_HOLD, Then::Refuse),
                    };
                    let until = now + wait;
                    self.stage = Stage::Held { until, then };
                }
                Err(Refusal::Slowed { wait }) if wait <= LONGEST_HOLD && self.lookups < LOOKUPS => {
                    let until = now + wait;
                    let then = Then::LookUp;
                    self.stage = Stage::Held { until, then };
                }
                Err(Refusal::Slowed { .. } | Refusal::LockedOut { .. }) => {
                    self.refuse(480, Ended::LockedOut);
                }
                Err(Refusal::Unavailable(_)) => self.refuse(503, Ended::Unavailable),
            },
            _ => {}
        }
    }
}
