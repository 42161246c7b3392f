//! Whether a version on trial has proved good: observations in, a verdict out.
//!
//! No clock, no socket: the program observes, this decides. A failure of the version (the program
//! does not answer, a call does not get through) sends the box back. A failure that the other
//! version would have as well (a clock without a source, a full disk) only delays the blessing:
//! going back would not cure it.

use std::time::Duration;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Check {
    /// The program says that it is ready.
    Program,
    /// A call by WebRTC and one by SIP hear their own tone.
    Call,
    /// The root can be read from its beginning to its end.
    Root,
    /// The data partition takes a write.
    Disk,
    /// The time is not before the image was made.
    Clock,
}

impl Check {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Call => "call",
            Self::Root => "root",
            Self::Disk => "disk",
            Self::Clock => "clock",
        }
    }

    /// Whether the version answers for it, not the box.
    pub fn is_of_the_version(self) -> bool {
        matches!(self, Self::Program | Self::Call | Self::Root)
    }
}

/// A check that failed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which check.
    pub check: Check,
    /// In a few words.
    pub why: String,
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Good health without a break before a version is blessed. Higher finds slower failures;
    /// updates take longer to settle.
    pub good_for: Duration,
    /// From the first observation until the version must have been good once. Slow machines need
    /// 60 s; a higher value delays the way back from a version that never comes up.
    pub grace: Duration,
    /// How long a version that was good may fail in one piece.
    pub patience: Duration,
    /// When a verdict falls in any case.
    pub deadline: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            good_for: Duration::from_secs(5 * 60),
            grace: Duration::from_secs(3 * 60),
            patience: Duration::from_secs(60),
            deadline: Duration::from_secs(15 * 60),
        }
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on observing. Good so far for this long.
    Wait(Duration),
    /// The version is good. What the box itself lacks is named.
    Bless(Option<Failure>),
    /// Go back: this check failed.
    Rollback(Failure),
}

/// A trial under way.
#[derive(Debug, Clone)]
pub struct Trial {
    policy: Policy,
    began: Option<Duration>,
    /// Since when the version, and the box with it, have been good.
    version_good: Option<Duration>,
    all_good: Option<Duration>,
    was_good: bool,
    failing_since: Option<Duration>,
    last_failure: Option<Failure>,
}

impl Trial {
    /// A trial that has not begun: it does with the first observation.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            began: None,
            version_good: None,
            all_good: None,
            was_good: false,
            failing_since: None,
            last_failure: None,
        }
    }

    /// Takes the failures found at `now`, a time since any fixed moment that never goes back.
    pub fn observe(&mut self, now: Duration, failures: &[Failure]) -> Verdict {
        let began = *self.began.get_or_insert(now);
        let age = now.saturating_sub(began);
        let of_version = failures
            .iter()
            .find(|failure| failure.check.is_of_the_version());
        if let Some(failure) = of_version {
            self.version_good = None;
            self.all_good = None;
            self.last_failure = Some(failure.clone());
            let since = *self.failing_since.get_or_insert(now);
            let failing = now.saturating_sub(since);
            let over = match self.was_good {
                true => failing >= self.policy.patience,
                false => age >= self.policy.grace,
            };
            if over || age >= self.policy.deadline {
                return Verdict::Rollback(failure.clone());
            }
            return Verdict::Wait(Duration::ZERO);
        }
        self.was_good = true;
        self.failing_since = None;
        let good = now.saturating_sub(*self.version_good.get_or_insert(now));
        let box_failure = failures.first();
        let all = match box_failure {
            Some(_) => {
                self.all_good = None;
                Duration::ZERO
            }
            None => now.saturating_sub(*self.all_good.get_or_insert(now)),
        };
        if all >= self.policy.good_for {
            return Verdict::Bless(None);
        }
        if age >= self.policy.deadline {
            if good >= self.policy.good_for {
                return Verdict::Bless(box_failure.cloned());
            }
            // It came and went: the last thing that failed is the reason.
            if let Some(failure) = &self.last_failure {
                return Verdict::Rollback(failure.clone());
            }
        }
        Verdict::Wait(all)
    }
}

/// The call that a version on trial must carry: by WebRTC and by SIP, through SFU and mixer.
pub trait SyntheticCall {
    /// Calls, listens and hangs up. An error says in a few words what was not heard.
    fn call(&mut self) -> Result<(), String>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use palabre_init::mutate::Seeded;

    fn fails(check: Check) -> Vec<Failure> {
        vec![Failure {
            check,
            why: "no".into(),
        }]
    }

    /// Observes every ten seconds from `boot` on. Answers the verdict and when it fell.
    fn run(mut at: impl FnMut(u64) -> Vec<Failure>) -> (u64, Verdict) {
        let mut trial = Trial::new(Policy::default());
        for second in (0..3600).step_by(10) {
            match trial.observe(Duration::from_secs(1000 + second), &at(second)) {
                Verdict::Wait(_) => {}
                verdict => return (second, verdict),
            }
        }
        panic!("no verdict in an hour");
    }

    #[test]
    fn five_good_minutes_bless() {
        assert_eq!(run(|_| vec![]), (300, Verdict::Bless(None)));
        // A slow start costs its own time only.
        let slow = run(|s| {
            if s < 60 {
                fails(Check::Program)
            } else {
                vec![]
            }
        });
        assert_eq!(slow, (360, Verdict::Bless(None)));
        // A break starts the minutes again.
        let broken = run(|s| if s == 200 { fails(Check::Call) } else { vec![] });
        assert_eq!(broken, (510, Verdict::Bless(None)));
    }

    #[test]
    fn what_never_works_goes_back_in_three_minutes() {
        for check in [Check::Program, Check::Call, Check::Root] {
            let (when, verdict) = run(|_| fails(check));
            assert_eq!(when, 180);
            assert!(matches!(verdict, Verdict::Rollback(failure) if failure.check == check));
        }
    }

    #[test]
    fn what_stops_working_goes_back_in_one_minute() {
        let (when, verdict) = run(|s| {
            if s >= 200 {
                fails(Check::Program)
            } else {
                vec![]
            }
        });
        assert_eq!(when, 260);
        assert!(matches!(verdict, Verdict::Rollback(_)));
    }

    #[test]
    fn what_comes_and_goes_ends_at_the_deadline() {
        let (when, verdict) = run(|s| {
            if s % 100 == 50 {
                fails(Check::Call)
            } else {
                vec![]
            }
        });
        assert_eq!(when, 900);
        assert!(matches!(verdict, Verdict::Rollback(failure) if failure.check == Check::Call));
    }

    #[test]
    fn the_box_s_own_troubles_do_not_send_it_back() {
        for check in [Check::Clock, Check::Disk] {
            let (when, verdict) = run(|_| fails(check));
            assert_eq!(when, 900);
            assert!(matches!(verdict, Verdict::Bless(Some(failure)) if failure.check == check));
        }
        // A network, and with it the time, that appears late.
        let late = run(|s| if s < 120 { fails(Check::Clock) } else { vec![] });
        assert_eq!(late, (420, Verdict::Bless(None)));
        // But they excuse nothing.
        let both = run(|_| [fails(Check::Clock), fails(Check::Program)].concat());
        assert!(
            matches!(both, (180, Verdict::Rollback(failure)) if failure.check == Check::Program)
        );
    }

    #[test]
    fn a_verdict_always_falls_and_a_failing_version_is_never_blessed() {
        let mut seeded = Seeded(8);
        for _ in 0..2_000 {
            let often = seeded.below(40) + 1;
            let mut failed = Vec::new();
            let (when, verdict) = run(|second| {
                let check =
                    [Check::Program, Check::Call, Check::Disk, Check::Clock][seeded.below(4)];
                if seeded.below(often) == 0 {
                    failed.push((second, check));
                    fails(check)
                } else {
                    vec![]
                }
            });
            assert!(when <= 900 + 300, "{when}");
            if let Verdict::Bless(_) = verdict {
                let recent = |(second, check): &(u64, Check)| {
                    check.is_of_the_version() && second + 300 > when
                };
                assert!(!failed.iter().any(recent));
            }
        }
    }
}
