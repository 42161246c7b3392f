//! A restart that waits: until nobody is in a room, or for a window of the night.
//!
//! One that ends meetings is announced in every room, as a data message of the box with the topic
//! `palabre.restart`: `{"seconds": 30}`, or `{"seconds": null}` when it is called off. Clients come
//! back by themselves: the end of the program tells them to (`SERVER_SHUTDOWN`, reconnect).
//!
//! The plan is a file, so that it outlives the program. It holds for this start of the machine only:
//! whatever restarts the machine has done what was planned.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use palabre_appliance::history::replace;
use palabre_appliance::service::Request;
use palabre_engine::proto;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{Appliance, participants};
use crate::live::LiveRooms;
use crate::problem::{ApplianceProblem, Problem};

/// Between two looks at the rooms while a restart is planned. Lower sees a short meeting that higher
/// misses; both only delay.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Topic of the data message that announces a restart.
const TOPIC: &str = "palabre.restart";

/// Between two looks for uploads that nobody goes on with.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// When to restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum When {
    /// Once whoever is in a room has been told.
    Now,
    /// As soon as nobody has been in a room for a while.
    Idle,
    /// The same, between two times of day.
    Window {
        from: Minute,
        to: Minute,
        /// In the last minute of the window, whoever is in a room.
        force: bool,
    },
}

/// A minute of the day, `HH:MM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Minute(u16);

/// Minutes of a day.
const DAY: u16 = 24 * 60;

impl Minute {
    /// Of the minutes since midnight.
    pub(crate) fn new(since_midnight: u16) -> Self {
        Self(since_midnight % DAY)
    }

    /// Minutes from here to `later`, past midnight when need be.
    fn until(self, later: Self) -> u16 {
        (later.0 + DAY - self.0) % DAY
    }
}

impl FromStr for Minute {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let plain = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        let two = |text: &str, below: u16| match plain(text) {
            true => text.parse::<u16>().ok().filter(|n| *n < below),
            false => None,
        };
        let (hour, minute) = text.split_once(':').ok_or(())?;
        let hour = two(hour, 24).ok_or(())?;
        two(minute, 60).map(|m| Self(60 * hour + m)).ok_or(())
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Serialize for Minute {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Minute {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let read = text.parse();
        read.map_err(|()| serde::de::Error::custom("expected a time of day such as \"22:30\""))
    }
}

impl When {
    /// Whether the time has come, at `now` o'clock.
    fn has_come(self, now: Minute, is_empty: bool) -> bool {
        match self {
            Self::Now => true,
            Self::Idle => is_empty,
            Self::Window { from, to, force } => {
                let (into, length) = (from.until(now), from.until(to));
                into < length && (is_empty || (force && into + 1 == length))
            }
        }
    }
}

/// How long people are waited for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience {
    /// How long rooms must have been empty.
    pub(super) empty_for: Duration,
    /// Between telling people and the restart.
    pub(super) notice: Duration,
}

/// The plan, in its file.
#[derive(Debug)]
pub(crate) struct Schedule {
    file: PathBuf,
    patience: Patience,
    state: Mutex<State>,
    /// Wakes who keeps watch.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    planned: Option<Plan>,
    /// The box has been told, or is being told, to restart: nothing calls that off.
    is_begun: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Plan {
    /// Which start of the machine it is for.
    boot: String,
    when: When,
}

impl Schedule {
    pub(super) fn new(file: &Path, patience: Patience) -> Self {
        let kept = std::fs::read(file).ok();
        let planned = kept.and_then(|text| serde_json::from_slice(&text).ok());
        Self {
            file: file.to_owned(),
            patience,
            state: Mutex::new(State {
                planned,
                is_begun: false,
            }),
            changed: watch::Sender::new(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan(&self) -> Option<Plan> {
        self.state().planned.clone()
    }

    /// What is planned for `boot`, this start of the machine.
    pub(crate) fn planned(&self, boot: &str) -> Option<When> {
        let plan = self.plan().filter(|plan| plan.boot == boot);
        plan.map(|plan| plan.when)
    }

    /// Plans a restart in this start of the machine, or none.
    pub(crate) fn set(&self, boot: &str, when: Option<When>) -> Result<(), Problem> {
        self.keep(&mut self.state(), boot, when)
    }

    /// Plans no restart, unless it has begun.
    pub(crate) fn cancel(&self) -> Result<(), Problem> {
        let mut state = self.state();
        match state.is_begun {
            true => Err(ApplianceProblem::Restarting.into()),
            false => self.keep(&mut state, "", None),
        }
    }

    /// From here on nothing calls the restart off. Not when it was of `plan`, and that is planned no more.
    fn begin(&self, plan: Option<&Plan>) -> bool {
        let mut state = self.state();
        let is_due = plan.is_none() || state.planned.as_ref() == plan;
        state.is_begun |= is_due;
        is_due
    }

    /// The box refused.
    fn stay(&self) {
        self.state().is_begun = false;
    }

    fn keep(&self, state: &mut State, boot: &str, when: Option<When>) -> Result<(), Problem> {
        let plan = when.map(|when| Plan {
            boot: boot.to_owned(),
            when,
        });
        let kept = match &plan {
            Some(plan) => {
                let text = serde_json::to_vec(plan).expect("a plan is plain data");
                replace(&self.file, &text, 0o600)
            }
            None => match std::fs::remove_file(&self.file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            },
        };
        kept.map_err(|error| {
            tracing::error!(%error, "the planned restart cannot be kept");
            Problem::Unavailable
        })?;
        // One that is planned after it has begun is another.
        state.is_begun &= plan.is_none();
        state.planned = plan;
        self.changed.send_replace(());
        Ok(())
    }
}

/// Looks at the rooms while a restart is planned, and restarts when its time has come.
pub(super) async fn keep_watch(appliance: &Appliance, live: &dyn LiveRooms) {
    let schedule = appliance.restart();
    let mut changed = schedule.changed.subscribe();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sweep = interval(SWEEP_EVERY);
    let mut empty_since = None;
    // When people have been told long enough.
    let mut told_until: Option<Instant> = None;
    loop {
        let plan = schedule.plan();
        tokio::select! {
            _ = changed.changed() => {
                empty_since = None;
                if told_until.take().is_some() {
                    announce(live, None).await;
                }
                look.reset_immediately();
            }
            _ = sweep.tick() => {
                if let Err(error) = appliance.uploads().forget_old() {
                    tracing::error!(%error, "old uploads cannot be removed");
                }
            }
            () = sleep_until(told_until.unwrap_or_else(Instant::now)), if told_until.is_some() => {
                told_until = None;
                if let Some(plan) = plan
                    && !begin(appliance, &plan).await
                {
                    announce(live, None).await;
                }
            }
            _ = look.tick(), if plan.is_some() && told_until.is_none() => {
                let Some(plan) = plan else { continue };
                // A silent engine or box is asked again: the plan stays.
                let Ok(present) = participants(live).await else { continue };
                empty_since = match present {
                    0 => empty_since.or_else(|| Some(Instant::now())),
                    _ => None,
                };
                let is_empty = empty_since.is_some_and(|since| since.elapsed() >= schedule.patience.empty_for);
                if !matches!(has_come(appliance, &plan, is_empty).await, Ok(true)) {
                    continue;
                }
                match present {
                    // Nobody was told of it.
                    0 => {
                        begin(appliance, &plan).await;
                    }
                    _ => {
                        announce(live, Some(schedule.patience.notice)).await;
                        told_until = Some(Instant::now() + schedule.patience.notice);
                    }
                }
            }
        }
    }
}

/// Whether the box would restart for this plan now.
async fn has_come(appliance: &Appliance, plan: &Plan, is_empty: bool) -> Result<bool, Problem> {
    // Times of day are asked of the box only when they can matter.
    let minute = match plan.when {
        When::Now | When::Idle => Minute::new(0),
        When::Window { .. } => Minute::new(appliance.time().await?.minute_of_day()),
    };
    if !plan.when.has_come(minute, is_empty) {
        return Ok(false);
    }
    let boot = appliance.status().await?.boot;
    if boot != plan.boot {
        appliance.restart().set(&boot, None)?;
        return Ok(false);
    }
    // Nobody is told of a restart that the box would refuse.
    Ok(!appliance.progress().await?.is_running())
}

/// Restarts the machine, and tells whether it does. What the box refuses now it may do later: the plan stays.
async fn begin(appliance: &Appliance, plan: &Plan) -> bool {
    if !appliance.restart().begin(Some(plan)) {
        return false;
    }
    tracing::info!("the planned restart begins");
    if let Err(problem) = appliance.tell(&Request::Restart).await {
        appliance.restart().stay();
        tracing::warn!(code = %problem.code(), "the planned restart did not begin");
        return false;
    }
    // A plan that cannot be forgotten is of this start of the machine, and ends with it.
    if let Err(problem) = appliance.restart().set(&plan.boot, None) {
        tracing::warn!(code = %problem.code(), "the restart that begins is planned still");
    }
    true
}

/// Restarts the machine, whatever is planned.
pub(crate) async fn restart_at_once(appliance: &Appliance) -> Result<(), Problem> {
    appliance.restart().begin(None);
    let appliance = appliance.clone();
    // Whoever asked may go away meanwhile; what the box answers counts all the same.
    let told = tokio::spawn(async move {
        let told = appliance.tell(&Request::Restart).await;
        told.inspect_err(|_| appliance.restart().stay())
    });
    // It ends before its time when the program ends, or by a panic, which has said so.
    told.await.unwrap_or(Err(Problem::Unavailable))
}

/// Tells everybody in a room that the box restarts, or that it does not after all.
async fn announce(live: &dyn LiveRooms, within: Option<Duration>) {
    let seconds = within.map(|time| time.as_secs());
    let data = serde_json::json!({ "seconds": seconds }).to_string();
    let Ok(rooms) = live.list_rooms(Vec::new()).await else {
        return;
    };
    for room in rooms.into_iter().filter(|room| room.num_participants > 0) {
        let request = proto::SendDataRequest {
            room: room.name,
            data: data.clone().into_bytes(),
            kind: proto::data_packet::Kind::Reliable.into(),
            topic: Some(TOPIC.to_owned()),
            ..Default::default()
        };
        // A room that has just closed has nobody to tell.
        let _ = live.send_data(request).await;
    }
}

#[cfg(test)]
mod tests {
    use palabre_appliance::service::{Answer, Refusal, Reply};
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::UnixListener;

    use super::*;
    use crate::config::ApplianceConfig;

    fn minute(text: &str) -> Minute {
        text.parse().unwrap()
    }

    #[test]
    fn times_of_day_are_read_as_they_are_written() {
        for text in ["00:00", "07:05", "23:59"] {
            assert_eq!(minute(text).to_string(), text);
        }
        for wrong in [
            "24:00",
            "7:05",
            "07:60",
            "0705",
            "",
            ":",
            "+1:00",
            "07:5",
            "٠٧:٠٥",
        ] {
            assert!(wrong.parse::<Minute>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_window_may_pass_midnight_and_ends() {
        for (from, to, now, is_in) in [
            ("22:00", "05:00", "21:59", false),
            ("22:00", "05:00", "22:00", true),
            ("22:00", "05:00", "00:00", true),
            ("22:00", "05:00", "04:59", true),
            ("22:00", "05:00", "05:00", false),
            ("01:00", "02:00", "01:30", true),
            ("01:00", "02:00", "12:00", false),
        ] {
            let window = |force| When::Window {
                from: minute(from),
                to: minute(to),
                force,
            };
            let now = minute(now);
            assert_eq!(
                window(false).has_come(now, true),
                is_in,
                "{from} {to} {now}"
            );
            assert!(!window(false).has_come(now, false));
            let last = now == minute("04:59");
            assert_eq!(window(true).has_come(now, false), last, "{from} {to} {now}");
        }
    }

    #[test]
    fn a_plan_is_of_one_start_of_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("restart.json");
        let window = When::Window {
            from: minute("22:00"),
            to: minute("05:00"),
            force: true,
        };
        let kept = || Schedule::new(&file, Patience::default());
        let schedule = kept();
        assert_eq!(schedule.planned("one"), None);
        schedule.set("one", Some(window)).unwrap();
        let again = kept();
        assert_eq!(again.planned("one"), Some(window));
        assert_eq!(again.planned("two"), None);
        again.set("one", None).unwrap();
        again.set("one", None).unwrap();
        assert_eq!(kept().planned("one"), None);
        std::fs::write(&file, "half a li").unwrap();
        assert_eq!(kept().planned("one"), None);
    }

    #[test]
    fn a_restart_that_has_begun_is_not_called_off() {
        let folder = tempfile::tempdir().unwrap();
        let schedule = Schedule::new(&folder.path().join("restart.json"), Patience::default());
        schedule.set("one", Some(When::Idle)).unwrap();
        let plan = schedule.plan().unwrap();
        schedule.cancel().unwrap();
        assert!(!schedule.begin(Some(&plan)), "it was called off");
        schedule.cancel().unwrap();

        schedule.set("one", Some(When::Idle)).unwrap();
        assert!(schedule.begin(Some(&plan)));
        let late = schedule.cancel().unwrap_err();
        assert_eq!(late.code(), "restarting");
        assert_eq!(schedule.plan().as_ref(), Some(&plan));
        schedule.stay();
        schedule.cancel().unwrap();
        assert_eq!(schedule.plan(), None);

        assert!(schedule.begin(None), "nobody planned it");
        schedule.set("one", None).unwrap();
        schedule.cancel().unwrap_err();
        schedule.set("one", Some(When::Idle)).unwrap();
        schedule.cancel().unwrap();
    }

    #[tokio::test]
    async fn a_restart_at_once_is_not_called_off_while_the_box_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("box.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let config = ApplianceConfig {
            socket: Some(socket),
            ..ApplianceConfig::default()
        };
        let appliance = Appliance::new(&config, folder.path()).unwrap().unwrap();
        let refused = Reply::Refused(Refusal {
            code: "installing".to_owned(),
            what: "an installation is running".to_owned(),
        });
        for (reply, restarts, stays) in [
            (&refused, false, true),
            (&refused, false, false),
            (&Reply::Answer(Answer::Done), true, true),
        ] {
            let planned = appliance.restart().set("one", Some(When::Idle));
            planned.unwrap();
            let at_once = appliance.clone();
            let told = tokio::spawn(async move { restart_at_once(&at_once).await });
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            stream.read_line(&mut String::new()).await.unwrap();
            let late = appliance.restart().cancel().unwrap_err();
            assert_eq!(late.code(), "restarting");
            if !stays {
                told.abort();
            }
            stream.write_all(reply.line().as_bytes()).await.unwrap();
            // Once it has been read.
            let end = stream.read_line(&mut String::new()).await.unwrap();
            assert_eq!(end, 0);
            match told.await {
                Ok(told) => assert!(stays && told.is_ok() == restarts),
                Err(gone) => assert!(gone.is_cancelled() && !stays),
            }
            assert_eq!(appliance.restart().cancel().is_err(), restarts);
        }
    }
}
