//! Waits until nobody is in a meeting: the restart after a stick must not end one.
//!
//! The program is asked by what it counts for everybody (`/metrics`), which it tells this machine
//! without a password. One that does not answer serves nobody who could be waited for.

use std::io;
use std::time::{Duration, Instant};

use palabre_appliance::arguments::{Arguments, Usage};

use super::installation::is_being_written;
use super::plain_http::{Url, is_ok};
use super::{Failed, Places};

/// How long the program may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes. A page of metrics has some 20 kB.
const MOST: usize = 1 << 20;
/// Looks in a row without an answer after which nobody is waited for. Lower takes a program that
/// starts anew, to which people come back, for one that is gone.
const SILENT: u32 = 3;
/// Between two looks. Lower sees a short meeting that higher misses.
const EVERY: Duration = Duration::from_secs(5);
/// How long rooms must have been empty when somebody was there. Less cuts off who loads the page
/// again; it is what the page's own restart waits (`appliance.empty_before_restart`).
const EMPTY_FOR: Duration = Duration::from_secs(60);
/// How many people are in rooms, telephones included.
const PEOPLE: &str = "palabre_engine_participants ";

/// What `wait-for-meetings` was told.
pub(crate) struct Wait {
    url: Url,
    every: Duration,
    empty_for: Duration,
}

impl Wait {
    pub(crate) fn from(arguments: &mut Arguments) -> Result<Self, Usage> {
        let url = arguments.value("--url")?;
        let url = url.unwrap_or_else(|| "http://127.0.0.1:80/metrics".to_owned());
        Ok(Self {
            url: Url::parse(&url)?,
            every: arguments.seconds("--every", EVERY)?,
            empty_for: arguments.seconds("--empty-for", EMPTY_FOR)?,
        })
    }

    /// Returns when a restart ends no meeting. `say` gets what whoever stands in front of the box
    /// should know meanwhile.
    pub(crate) fn run(self, places: &Places, mut say: impl FnMut(&str)) -> Result<String, Failed> {
        let (mut silent, mut empty_since, mut waits) = (0, None, false);
        loop {
            match self.people() {
                Ok(0) => {
                    silent = 0;
                    let since = *empty_since.get_or_insert_with(Instant::now);
                    let is_empty = !waits || since.elapsed() >= self.empty_for;
                    if is_empty && !is_being_written(places) {
                        return Ok(String::new());
                    }
                }
                Ok(people) => {
                    (silent, empty_since) = (0, None);
                    if !std::mem::replace(&mut waits, true) {
                        say(&format!(
                            "This takes effect once nobody is in a meeting any more ({people} now). At once: page \"The box\", Restart."
                        ));
                        say(&format!(
                            "Ce sera fait quand plus personne ne sera en réunion ({people} actuellement). Sans attendre : page « Le boîtier », Redémarrage."
                        ));
                    }
                }
                Err(error) => {
                    silent += 1;
                    eprintln!("the program does not say who is in a meeting: {error}");
                    if silent >= SILENT {
                        return Ok("Palabre does not answer: nobody is waited for. / Palabre ne répond pas : on n'attend personne.\n".to_owned());
                    }
                }
            }
            std::thread::sleep(self.every);
        }
    }

    fn people(&self) -> io::Result<u64> {
        let answer = self.url.get(MOST, ANSWER)?;
        let unclear = || io::Error::other("it answers something else");
        if !is_ok(&answer) {
            return Err(unclear());
        }
        let answer = String::from_utf8_lossy(&answer);
        let count = answer.lines().find_map(|line| line.strip_prefix(PEOPLE));
        count
            .and_then(|count| count.trim().parse().ok())
            .ok_or_else(unclear)
    }
}
