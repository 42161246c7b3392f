//! Micro benches against physical limits, all in one process.
//!
//! What is compared runs interleaved and is timed in CPU time of the thread, so that a noisy
//! machine disturbs both sides alike: ratios are to be trusted more than nanoseconds.
#![allow(clippy::print_stdout)] // a bench prints its table

use std::fmt::Write;
use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Repetitions of each case; the median is reported. Higher rides out more noise.
const REPETITIONS: usize = 9;

/// CPU time of one repetition. Higher hides the clock's granularity better.
const REPETITION: Duration = Duration::from_millis(20);

/// CPU time this thread has used.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

/// One thing to measure: `run` does `units` of work each time it is called.
pub struct Case<'a> {
    name: String,
    units: u32,
    run: Box<dyn FnMut() + 'a>,
}

impl<'a> Case<'a> {
    /// `run` does one unit of work; what it returns is kept from being optimised away.
    pub fn new<R>(name: impl Into<String>, run: impl FnMut() -> R + 'a) -> Self {
        Self::batch(name, 1, run)
    }

    /// `run` does `units` of work, e.g. forwards one packet to as many subscribers.
    pub fn batch<R>(name: impl Into<String>, units: u32, mut run: impl FnMut() -> R + 'a) -> Self {
        let run = Box::new(move || {
            black_box(run());
        });
        Case {
            name: name.into(),
            units,
            run,
        }
    }
}

/// Nanoseconds of CPU time for each unit of work.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// The case's name.
    pub name: String,
    /// Of the fastest repetition.
    pub min: f64,
    /// Of the middle one.
    pub median: f64,
}

/// Whether `cargo bench` runs this, and not somebody who only wants to see it work: then every
/// case runs once and the figures mean nothing.
pub fn is_measuring() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Measures the cases interleaved: a repetition of each, then the next of each.
pub fn measure(mut cases: Vec<Case<'_>>) -> Vec<Measurement> {
    let (repetitions, duration) = if is_measuring() {
        (REPETITIONS, REPETITION)
    } else {
        (1, Duration::ZERO)
    };
    let rounds: Vec<u32> = cases
        .iter_mut()
        .map(|case| rounds_in(duration, case))
        .collect();
    let mut samples = vec![Vec::with_capacity(repetitions); cases.len()];
    for _ in 0..repetitions {
        for ((case, rounds), samples) in cases.iter_mut().zip(&rounds).zip(&mut samples) {
            let start = thread_time();
            for _ in 0..*rounds {
                (case.run)();
            }
            let spent = thread_time().saturating_sub(start);
            let units = f64::from(*rounds) * f64::from(case.units);
            samples.push(spent.as_nanos() as f64 / units);
        }
    }
    let measured = cases.into_iter().zip(samples).map(|(case, mut samples)| {
        samples.sort_by(f64::total_cmp);
        Measurement {
            name: case.name,
            min: samples[0],
            median: samples[samples.len() / 2],
        }
    });
    measured.collect()
}

/// How many runs of a case take `duration`, found by doubling.
fn rounds_in(duration: Duration, case: &mut Case<'_>) -> u32 {
    let mut rounds = 1u32;
    loop {
        let start = thread_time();
        for _ in 0..rounds {
            (case.run)();
        }
        let spent = thread_time().saturating_sub(start);
        if spent >= duration || rounds >= 1 << 30 {
            return rounds;
        }
        rounds *= 2;
    }
}

/// A table of measurements, each with its ratio to the first: the limit it is held against.
pub fn table(title: &str, measurements: &[Measurement]) -> String {
    let mut text = String::new();
    let width = measurements.iter().map(|m| m.name.len()).max().unwrap_or(0);
    writeln!(text, "{title}").expect("writing to a string");
    writeln!(
        text,
        "  {:width$}  {:>9} {:>9} {:>6}",
        "", "min ns", "median ns", "ratio"
    )
    .expect("writing to a string");
    let limit = measurements.first().map_or(1.0, |limit| limit.median);
    for Measurement { name, min, median } in measurements {
        let ratio = median / limit;
        writeln!(
            text,
            "  {name:width$}  {min:>9.1} {median:>9.1} {ratio:>5.2}x"
        )
        .expect("writing to a string");
    }
    text
}

/// Measures and prints: the usual body of a bench.
pub fn compare(title: &str, cases: Vec<Case<'_>>) -> Vec<Measurement> {
    let measurements = measure(cases);
    println!("{}", table(title, &measurements));
    measurements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_runs_and_is_reported_in_order() {
        let (mut first, mut second) = (0u32, 0u32);
        let measured = measure(vec![
            Case::new("first", || first += 1),
            Case::batch("second", 10, || second += 1),
        ]);
        assert_eq!(
            measured.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(),
            ["first", "second"]
        );
        assert!(measured.iter().all(|m| m.min <= m.median));
        assert!(first >= 2 && second >= 2);
    }

    #[test]
    fn a_table_is_relative_to_its_first_row() {
        let row = |name: &str, median| Measurement {
            name: name.into(),
            min: 1.0,
            median,
        };
        let text = table("title", &[row("limit", 100.0), row("ours", 125.0)]);
        assert!(text.contains("limit") && text.contains("1.00x"));
        assert!(
            text.lines()
                .nth(3)
                .is_some_and(|line| line.ends_with("1.25x")),
            "{text}"
        );
    }

    #[test]
    fn thread_time_grows_with_work() {
        let start = thread_time();
        let mut rounds = 0u64;
        while thread_time() == start {
            rounds = black_box(rounds + 1);
        }
        assert!(thread_time() > start);
    }
}
