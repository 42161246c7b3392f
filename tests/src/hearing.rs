//! What a party must hear, and must not: checked on what it wrote down.

// What was measured is for whoever reads the log, when all is well too.
#![allow(clippy::print_stdout)]

use crate::peer::Peer;
use crate::sound::{Dbfs, Leak, Recording};

/// Level of a party's tone.
pub const PLAYED: Dbfs = -12.0;
/// A tone counts as heard when codecs, mixing and the limiter took no more than this.
pub const LOST: Dbfs = 18.0;
/// A party's own tone, or one that must be gone, stays this far below what is heard.
const APART: Dbfs = 40.0;
/// From the notice that somebody is muted or has left until a telephone falls silent: what is still
/// in jitter buffers and in the telephone's own queue on a busy machine, in seconds.
const SILENCED_WITHIN: f64 = 1.5;

/// How often a party is listened to before its gaps are the product's fault: a browser that had too little of a busy machine
/// plays with gaps for seconds. More forgives more gaps, and takes longer to fail; a leak or a missing tone is never forgiven,
/// and of a recording with a line too short to be told from chance nothing counts.
const LISTENED: usize = 6;

/// Windows in which a leak would have been seen before a tone is said to be absent: two and a half seconds, half of which each
/// shares with the next. More finds a leak that comes and goes, and takes longer where the sound has gaps.
const CLEAR: usize = 8;

/// A party hears everything it must and nothing of what it must not. `listen` is asked again until [`CLEAR`] windows without a
/// gap have shown each tone absent: a leak could hide in the others.
///
/// # Panics
/// With every level measured, when a tone is missing, when one leaks, or when the recordings have too many gaps.
pub fn assert_hears(who: &str, wanted: &[u32], own: &[u32], listen: impl FnMut() -> Recording) {
    assert_hears_at(PLAYED, who, wanted, own, listen);
}

/// The same of tones played at another level.
///
/// # Panics
/// As [`assert_hears`].
pub fn assert_hears_at(
    played: Dbfs,
    who: &str,
    wanted: &[u32],
    own: &[u32],
    mut listen: impl FnMut() -> Recording,
) {
    let mut said = String::new();
    let mut clear = vec![0; own.len()];
    for _ in 0..LISTENED {
        let heard = listen().last(3.0);
        let levels: Vec<(u32, Dbfs)> = wanted
            .iter()
            .map(|hz| (*hz, heard.tone(f64::from(*hz)).round()))
            .collect();
        let quietest = levels.iter().map(|(_, level)| *level).fold(0.0, f64::min);
        let limit = quietest - APART;
        let found: Vec<Leak> = own.iter().map(|hz| heard.leak(*hz, wanted)).collect();
        let leaks: Vec<(u32, Dbfs, Dbfs, usize, usize)> = own
            .iter()
            .zip(&found)
            .map(|(hz, leak)| {
                let hidden = leak.hidden(limit);
                (
                    *hz,
                    leak.level().round(),
                    leak.lasting(2).round(),
                    hidden,
                    leak.lines.len(),
                )
            })
            .collect();
        said = format!(
            "{who}: hears {levels:?}; of what it must not: (Hz, dBFS, lasting, windows spoilt, of) {leaks:?}"
        );
        println!("{said}");
        heard.keep(who);
        let leaking = found.iter().any(|leak| leak.exceeds(limit));
        assert!(!leaking, "a tone leaks: {said}");
        assert!(quietest > played - LOST, "a tone is missing: {said}");
        for (clear, leak) in clear.iter_mut().zip(&found) {
            *clear += leak.clear(limit);
        }
        if clear.iter().all(|clear| *clear >= CLEAR) {
            return;
        }
    }
    panic!(
        "too many gaps, or a faint line: {clear:?} windows of {LISTENED} recordings would show a leak; the last: {said}"
    );
}

/// What a party has of somebody who is muted: none of these tones. No sample at all is silence too, and is said so.
///
/// # Panics
/// When one of them is there, or could be in the gaps of what `listen` gave.
pub fn assert_silent(who: &str, tones: &[u32], mut listen: impl FnMut() -> Option<Recording>) {
    let mut clear = vec![0; tones.len()];
    for _ in 0..LISTENED {
        let heard = listen().map(|heard| heard.last(3.0));
        let Some(heard) = heard.filter(|heard| !heard.samples.is_empty()) else {
            println!("{who}: not one sample");
            return;
        };
        heard.keep(who);
        let limit = PLAYED - LOST - APART;
        for (clear, hertz) in clear.iter_mut().zip(tones) {
            let leak = heard.leak(*hertz, &[]);
            let hidden = leak.hidden(limit);
            println!(
                "{who}: {hertz} Hz at {:.0} dBFS, {hidden} of {} windows spoilt",
                leak.level(),
                leak.lines.len()
            );
            assert!(
                !leak.exceeds(limit),
                "{who}: {hertz} Hz at {:.1} dBFS",
                leak.level()
            );
            *clear += leak.clear(limit);
        }
        if clear.iter().all(|clear| *clear >= CLEAR) {
            return;
        }
    }
    panic!(
        "{who}: too many gaps, or a faint line: {clear:?} windows of {LISTENED} recordings would show a leak"
    );
}

/// Listens to a line on which `gone` was just silenced: it may end within a second and a half, and from
/// there on nothing of it may be heard. What a telephone starved by a busy machine had still to decode when it was
/// silenced does not count: that left the product before, which itself never catches up more than 0.2 s.
///
/// # Panics
/// When it is heard for longer, or as [`assert_hears`].
pub fn assert_silenced(who: &str, wanted: &[u32], own: u32, gone: u32, phone: &mut Peer) {
    let (heard, behind) = phone.hear_line_behind(3_500 + (SILENCED_WITHIN * 1_000.0) as u64);
    let end = heard.ends(gone, PLAYED - LOST);
    let said = format!("{who}: {gone} Hz was heard for {end:.2} s more, {behind:.2} s behind");
    println!("{said}");
    heard.keep(&format!("{who}, at once"));
    assert!(end - behind < SILENCED_WITHIN, "{said}");
    // Of one that was behind, the end may reach into what must be without it.
    let mut first = (end < SILENCED_WITHIN).then_some(heard);
    assert_hears(who, wanted, &[own, gone], || {
        first.take().unwrap_or_else(|| phone.hear_line(3_500))
    });
}

/// Listens until a telephone has been told what it is told on joining: a message is spoken over the
/// others, and a voice has every frequency.
///
/// # Panics
/// When it is still spoken after half a minute.
pub fn told(phone: &mut Peer) {
    /// Of a message the pitch is 10 dB louder; what Opus makes there of three tones is 10 dB quieter.
    const CALM: Dbfs = -34.0;
    /// Longer than the pause between two sentences.
    const PAUSE: u64 = 2_500;
    let mut voices = Vec::new();
    while voices.len() < 12 {
        let voice = phone.hear_line(PAUSE).voice().round();
        if voice < CALM {
            println!("a telephone has been told: {voices:?}, then {voice} dBFS");
            return;
        }
        voices.push(voice);
    }
    panic!("the line is never calm: {voices:?} dBFS");
}
