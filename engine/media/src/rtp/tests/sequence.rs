//! Numbers across wraps, filters and switches: extending, renumbering, sending again.

#![allow(clippy::disallowed_methods)] // any instant will do as a test's origin

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::*;

proptest! {
    #[test]
    fn extension_follows_the_nearest(start: u16, steps in prop::collection::vec(-3000..3000i64, 1..200)) {
        let mut extender = SequenceExtender::default();
        let mut number = i64::from(extender.extend(start) as u32);
        let mut highest = number;
        for step in steps {
            number = (number + step).max(highest - 30_000).max(0);
            prop_assert_eq!(extender.peek(number as u16), number as u64);
            prop_assert_eq!(extender.extend(number as u16), number as u64);
            highest = highest.max(number);
            prop_assert_eq!(extender.highest(), Some(highest as u64));
        }
    }

    /// A source loses, reorders, repeats and is filtered and switched: no outgoing number is
    /// given twice; once everything that was lost has come late, none is missing.
    #[test]
    fn renumbering_leaves_no_gap_and_never_repeats(
        first in 0..100_000u64,
        runs in prop::collection::vec(
            (any::<u32>(), prop::collection::vec((0..10u8, 0..6usize), 1..120)), 1..5),
    ) {
        let mut renumber = Renumber::new(first);
        let mut given = Vec::new();
        for (start, packets) in runs {
            renumber.switch();
            let mut late: Vec<u64> = Vec::new();
            let mut started = false;
            for (offset, (fate, delay)) in packets.into_iter().enumerate() {
                let source = u64::from(start) + offset as u64;
                match fate {
                    // Left out on purpose, by the time it arrives in order.
                    0..3 => renumber.omit(source),
                    // Lost for now: before the first packet sent nothing can come late.
                    3..5 if started => late.push(source),
                    _ => {
                        given.push(renumber.forward(source).expect("new and newest"));
                        started = true;
                        prop_assert_eq!(renumber.forward(source), None);
                    }
                }
                if delay == 0 && let Some(source) = late.pop() {
                    given.extend(renumber.forward(source));
                    prop_assert_eq!(renumber.forward(source), None);
                }
            }
            while let Some(source) = late.pop() {
                // The stream's last packets may be lost without anyone knowing.
                given.push(renumber.forward(source).expect("in the window"));
                prop_assert_eq!(renumber.forward(source), None);
            }
        }
        let count = given.len() as u64;
        given.sort_unstable();
        given.dedup();
        prop_assert_eq!(given.len() as u64, count, "repeated");
        if let (Some(lowest), Some(highest)) = (given.first(), given.last()) {
            prop_assert_eq!(*lowest, first);
            prop_assert_eq!(*highest, first + count - 1, "gap");
        }
    }
}

#[test]
fn history_answers_within_bounds() {
    let start = Instant::now();
    let rtt = Duration::from_millis(50);
    let mut history = SendHistory::new(100);
    for sequence in 0..200u16 {
        history.insert(sequence, start, usize::from(sequence));
    }
    assert_eq!(
        history.find(71).map(|sent| sent.handle),
        None,
        "128 are kept"
    );
    assert_eq!(history.find(72).map(|sent| sent.handle), Some(72));
    assert_eq!(
        history.resend(199, start, rtt),
        Some(&199),
        "the first time at once"
    );
    assert_eq!(
        history.resend(199, start + rtt / 2, rtt),
        None,
        "still on its way"
    );
    let mut now = start + rtt;
    let mut times = 1;
    while history.resend(199, now, rtt).is_some() {
        now += rtt;
        times += 1;
    }
    assert_eq!(times, history::MAX_RESENT);
    history.forget_before(now - rtt);
    assert!(history.find(72).is_none());
    assert!(history.find(199).is_some(), "sent again lately");
    history.clear();
    assert!(history.find(199).is_none());
}

#[test]
fn numbers_inserted_between_are_not_given_to_late_packets() {
    let mut renumber = Renumber::new(100);
    assert_eq!(renumber.forward(10), Some(100));
    assert_eq!(renumber.forward(12), Some(102));
    assert_eq!(renumber.insert(), 103);
    assert_eq!(renumber.forward(11), None);
    assert_eq!(renumber.forward(14), Some(105));
    assert_eq!(renumber.forward(13), Some(104));
    // Far ahead, and just outside the window then.
    assert_eq!(renumber.forward(14 + 5000), Some(5105));
    assert_eq!(renumber.forward(14 + 5000 - 1023), Some(5105 - 1023));
    assert_eq!(renumber.forward(14 + 5000 - 1024), None);
    assert_eq!(renumber.next(), 5106);
}

#[test]
fn timestamps_continue_across_sources() {
    let mut map = TimestampMap::default();
    assert_eq!(map.map(7), 7);
    map.align(u32::MAX, 1000);
    assert_eq!(map.map(u32::MAX), 1000);
    assert_eq!(map.map(2999), 4000);
}
