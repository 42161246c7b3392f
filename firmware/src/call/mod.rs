//! `palabre call --check`: the box calls itself, by WebRTC and by telephone, and says whether sound came through.
//!
//! ```text
//!  loan ── socket in the data folder ── the running program lends a room, and says where it is
//!  talker ── Opus, 1,050 Hz ──► SFU ──► listener          hears the talker
//!                                └► mixer ──► caller      hears the talker, not itself
//!  caller ── PCMA, 650 Hz ──► mixer ──► SFU ──► listener  hears the caller
//! ```
//! Everything goes through the sockets that people use: nothing of the running program is in this process. But nobody leaves
//! the machine, so where it has a network, what the program tells guests of elsewhere is looked at too. It decides nothing
//! about what a failure means; that is the appliance's trial.

mod check;
mod ear;
mod ends;
mod failure;
mod loan;
mod place;
mod report;

use std::time::{Duration, Instant};

use self::failure::Failure;
use self::loan::Loan;
use self::place::Place;
use self::report::Report;
use crate::program::Config;

/// How long a call may take unless asked otherwise. It takes 5 s, most of it listening; in emulation some 15.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Longest that may be asked for: the room is not lent for longer.
pub(crate) const MOST_PATIENCE: Duration = palabre_admin::synthetic::LONGEST;

/// Makes one call to the running program of this configuration.
pub(crate) fn make(config: &Config, patience: Duration) -> Result<Report, Failure> {
    let start = Instant::now();
    let deadline = start + patience;
    let loan = Loan::of(&config.storage.folder, deadline)?;
    // Where the system does not tell its addresses, none is missed.
    let own = palabre_engine::addresses::of_interfaces().unwrap_or_default();
    let place = Place::of(config, &loan.lent.ways, &own)?;
    check::make(&place, &loan.lent, start, deadline)
}
