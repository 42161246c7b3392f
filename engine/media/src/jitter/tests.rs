use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::codec::g711;

#[allow(clippy::disallowed_methods)] // where a test's clock begins
fn start() -> Instant {
    Instant::now()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as f64 / (1u64 << 31) as f64
    }
}

/// Speech-like sound: voiced syllables with pauses, at any rate.
fn speech(rate: u32, seconds: usize) -> Vec<f32> {
    let mut phase = 0.0f64;
    (0..rate as usize * seconds)
        .map(|n| {
            let t = n as f64 / f64::from(rate);
            phase += (130.0 + 25.0 * (t * 2.1).sin()) / f64::from(rate);
            let syllable = 0.3 + 0.7 * (t * 4.0 * std::f64::consts::PI).sin().max(0.0);
            let phrase = if t % 3.0 < 2.4 { 1.0 } else { 0.0 };
            let voice: f64 = (1..10)
                .map(|h| (phase * f64::from(h) * std::f64::consts::TAU).sin() / f64::from(h))
                .sum();
            (0.2 * syllable * phrase * voice) as f32
        })
        .collect()
}

struct Trace {
    /// Fraction of packets lost.
    loss: f64,
    /// Lateness of a packet in ms, by its number and a random value in 0..1.
    lateness: fn(usize, f64) -> f64,
}

struct Outcome {
    concealed: f64,
    /// Mean delay above the fastest packet, in ms, over the last ten seconds.
    delay: f64,
    counts: PlayoutCounts,
    sound: Vec<f32>,
}

/// Runs a minute of a call over a network in a few milliseconds of ours.
fn run(codec: LegCodec, seconds: usize, trace: &Trace) -> Outcome {
    let rate = codec.sample_rate();
    let frame = rate as usize / 50;
    let sound = speech(rate, seconds);
    let mut encoder = opus::Encoder::new(opus::Quality::default());
    let mut random = Random(42);
    let t0 = start();
    let mut arrivals: BTreeMap<(u64, usize), Vec<u8>> = BTreeMap::new();
    for (n, samples) in sound.chunks_exact(frame).enumerate() {
        let payload = match codec {
            LegCodec::Opus => encoder.encode(samples.try_into().unwrap()).to_vec(),
            LegCodec::Pcma => samples
                .iter()
                .map(|s| g711::linear_to_alaw((s * 32767.0) as i16))
                .collect(),
            _ => unreachable!("not traced"),
        };
        let lost = random.next() < trace.loss;
        let late = (trace.lateness)(n, random.next());
        if !lost {
            let at = 50_000 + n as u64 * 20_000 + (late * 1000.0) as u64;
            arrivals.insert((at, n), payload);
        }
    }
    let mut playout = Playout::new(codec);
    let mut output = vec![0.0; frame];
    let mut heard = Vec::new();
    let (mut delay, mut delays) = (0.0, 0.0);
    // Ticks race arrivals at the worst phase: just before a packet of no lateness.
    for tick in 0..(seconds * 50) as u64 {
        let now = 49_000 + tick * 20_000;
        while let Some(entry) = arrivals.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((at, n), payload) = entry.remove_entry();
            let (sequence, timestamp) = (
                65_000 + n as u32,
                (n * 160) as u32 * (codec.clock_rate() / 8_000),
            );
            playout.push(
                t0 + Duration::from_micros(at),
                sequence as u16,
                timestamp.wrapping_sub(50_000),
                &payload,
            );
        }
        playout.pull(t0 + Duration::from_micros(now), &mut output);
        heard.extend_from_slice(&output);
        if tick + 500 > seconds as u64 * 50 && playout.state == State::Playing {
            let head = playout.media(playout.position) - playout.span(playout.ready.len());
            delay += (now + 20_000) as f64
                - (50_000.0 - 0.0)
                - (head as f64 - playout.media(i64::from(0u32.wrapping_sub(50_000))) as f64);
            delays += 1.0;
        }
    }
    let counts = playout.counts();
    Outcome {
        concealed: counts.concealed as f64 / counts.played as f64,
        delay: delay / delays / 1000.0,
        counts,
        sound: heard,
    }
}

#[test]
fn a_perfect_line_costs_the_least_delay_and_conceals_nothing() {
    for codec in [LegCodec::Opus, LegCodec::Pcma] {
        let outcome = run(
            codec,
            20,
            &Trace {
                loss: 0.0,
                lateness: |_, _| 0.0,
            },
        );
        assert_eq!(outcome.counts.concealed, 0, "{codec:?}");
        assert_eq!(outcome.counts.late, 0);
        assert!(
            (19.0..26.0).contains(&outcome.delay),
            "{codec:?} {}",
            outcome.delay
        );
    }
}

#[test]
fn pcma_comes_out_as_it_went_in() {
    let outcome = run(
        LegCodec::Pcma,
        6,
        &Trace {
            loss: 0.0,
            lateness: |_, _| 0.0,
        },
    );
    let expected: Vec<f32> = speech(8_000, 6)
        .iter()
        .map(|s| {
            f32::from(g711::alaw_to_linear(g711::linear_to_alaw(
                (s * 32767.0) as i16,
            ))) / 32768.0
        })
        .collect();
    // 20 ms of delay and the millisecond between tick and packet.
    let shift = (0..400).find(|&d| outcome.sound[d..d + 40_000] == expected[..40_000]);
    assert_eq!(shift, Some(168));
}

#[test]
fn two_percent_loss_and_thirty_milliseconds_of_jitter() {
    let trace = Trace {
        loss: 0.02,
        lateness: |_, r| r * 30.0,
    };
    let outcome = run(LegCodec::Opus, 60, &trace);
    assert!(outcome.concealed < 0.01, "{:?}", outcome.counts);
    assert!(outcome.counts.recovered > 20, "{:?}", outcome.counts);
    // p97 of the jitter is 29 ms, the tick costs 10 in the mean and 20 here; a packet more is waited for FEC.
    assert!(outcome.delay < 29.0 + 20.0 + 20.0, "{}", outcome.delay);

    let outcome = run(LegCodec::Pcma, 60, &trace);
    assert!(outcome.concealed < 0.04, "{:?}", outcome.counts);
    assert!(outcome.delay < 29.0 + 20.0, "{}", outcome.delay);
}

#[test]
fn delay_comes_back_after_a_burst_of_jitter() {
    // Ten seconds with 150 ms of jitter, then a good line.
    let burst = |n: usize, r: f64| {
        if (500..1000).contains(&n) {
            r * 150.0
        } else {
            r * 5.0
        }
    };
    let outcome = run(
        LegCodec::Opus,
        60,
        &Trace {
            loss: 0.0,
            lateness: burst,
        },
    );
    assert!(outcome.concealed < 0.02, "{:?}", outcome.counts);
    assert!(outcome.counts.stretched > 5);
    assert!(outcome.delay < 70.0, "{}", outcome.delay);
    // The last ten seconds are as prompt as a line that was always good.
    let quiet = run(
        LegCodec::Opus,
        60,
        &Trace {
            loss: 0.0,
            lateness: |_, r| r * 5.0,
        },
    );
    assert!(quiet.delay < 30.0, "{}", quiet.delay);
}

#[test]
fn a_network_that_slows_down_for_good_is_followed() {
    let outcome = run(
        LegCodec::Pcma,
        30,
        &Trace {
            loss: 0.0,
            lateness: |n, _| if n > 300 { 120.0 } else { 0.0 },
        },
    );
    assert!(outcome.concealed < 0.01, "{:?}", outcome.counts);
}

/// Ticks without a sound from `second` on, in speech that never pauses for longer than 0.6 s.
fn silent(outcome: &Outcome, second: usize) -> usize {
    let heard = outcome.sound.chunks_exact(960).skip(second * 50);
    heard.filter(|tick| tick.iter().all(|s| *s == 0.0)).count()
}

#[test]
fn a_sender_that_stood_still_is_heard_again_soon() {
    // Its clock counts samples, and took none for a while: from then on all is so much later.
    for lateness in [
        (|n, _| if n > 300 { 300.0 } else { 0.0 }) as fn(usize, f64) -> f64,
        |n, _| if n > 300 { 700.0 } else { 0.0 },
        |n, _| if n > 300 { 808.0 } else { 0.0 },
        |n, _| if n > 300 { 812.0 } else { 0.0 },
        |n, _| if n > 300 { 816.0 } else { 0.0 },
        |n, _| if n > 300 { 819.0 } else { 0.0 },
        |n, _| if n > 300 { 900.0 } else { 0.0 },
        |n, _| if n > 300 { 1_900.0 } else { 0.0 },
        |n, r| {
            if n > 300 {
                1_200.0 + r * 60.0
            } else {
                r * 60.0
            }
        },
    ] {
        let trace = Trace {
            loss: 0.0,
            lateness,
        };
        let outcome = run(LegCodec::Opus, 20, &trace);
        let stood = lateness(301, 0.0) / 20.0;
        let silent = silent(&outcome, 6) as f64;
        assert!(
            silent < stood + 25.0,
            "{silent} ticks without a sound after {stood} of standing still: {:?}",
            outcome.counts
        );
    }
}

#[test]
fn a_slower_sender_is_heard_wherever_the_tick_falls() {
    let at = |t0: Instant, ms: u64| t0 + Duration::from_millis(ms);
    let loud = [g711::linear_to_alaw(8_000); 160];
    for slower in [770, 780, 790, 800, 805, 810, 815, 820, 830] {
        for phase in 0..20 {
            let t0 = start();
            let mut playout = Playout::new(LegCodec::Pcma);
            let mut output = vec![0.0; 160];
            let (mut sent, mut silent) = (0u64, 0);
            for tick in 0..500u64 {
                let now = tick * 20 + phase;
                let arrival = |n: u64| n * 20 + if n > 150 { slower } else { 0 };
                while arrival(sent) <= now {
                    playout.push(at(t0, arrival(sent)), sent as u16, sent as u32 * 160, &loud);
                    sent += 1;
                }
                playout.pull(at(t0, now), &mut output);
                silent += u32::from(tick > 150 && output.iter().all(|s| *s == 0.0));
            }
            assert!(
                silent < 75,
                "{silent} ticks without a sound, {slower} ms slower, {phase} ms after a packet that is not"
            );
        }
    }
}

#[test]
fn a_queue_that_empties_is_no_slower_sender() {
    // The network holds everything back for 2 s, then lets it through at twice its pace.
    let outcome = run(
        LegCodec::Opus,
        30,
        &Trace {
            loss: 0.0,
            lateness: |n, _| match n {
                300.. => (1_900.0 - (n - 300) as f64 * 10.0).max(0.0),
                _ => 0.0,
            },
        },
    );
    // Taken for a slower sender, what waits would be heard, and all after it later for long.
    assert!(outcome.delay < 200.0, "{}", outcome.delay);
}

#[test]
fn comfort_noise_that_comes_late_is_no_row() {
    let t0 = start();
    let mut playout = Playout::new(LegCodec::Pcma);
    let mut output = vec![0.0; 160];
    let loud = [g711::linear_to_alaw(8_000); 160];
    for n in 0..150u16 {
        let now = t0 + Duration::from_millis(u64::from(n) * 20);
        playout.push(now, n, u32::from(n) * 160, &loud);
        playout.pull(now, &mut output);
    }
    // One every 300 ms of a pause, each 900 ms late.
    let mut rows = Vec::new();
    for n in [165u16, 180, 195, 210] {
        let now = t0 + Duration::from_millis(u64::from(n) * 20 + 900);
        playout.push(now, n, u32::from(n) * 160, &loud);
        rows.push(playout.lag.as_ref().map(|lag| lag.packets));
    }
    assert_eq!(rows, [Some(1), Some(2), Some(3), None]);
}

#[test]
fn any_order_any_numbers_no_panic_and_bounded_memory() {
    for codec in [
        LegCodec::Opus,
        LegCodec::G722,
        LegCodec::Pcma,
        LegCodec::Pcmu,
    ] {
        let mut random = Random(9);
        let mut playout = Playout::new(codec);
        let t0 = start();
        let mut output = vec![0.0; playout.tick_samples()];
        for step in 0..20_000u64 {
            let now = t0 + Duration::from_millis(step * 5);
            let near = random.next() < 0.7;
            let sequence = if near {
                step as u16
            } else {
                (random.next() * 65_536.0) as u16
            };
            let timestamp = if near {
                step as u32 * 160
            } else {
                (random.next() * 4_294_967_296.0) as u32
            };
            let length = (random.next() * 300.0) as usize;
            let payload: Vec<u8> = (0..length).map(|_| (random.next() * 256.0) as u8).collect();
            match (random.next() * 10.0) as u8 {
                0 => playout.push_noise(now, sequence, timestamp),
                1 => playout.push_other(sequence),
                2 => playout.skip(now),
                3 if step % 97 == 0 => playout.reset(),
                _ => playout.push(now, sequence, timestamp, &payload),
            }
            if step % 4 == 0 {
                playout.pull(now, &mut output);
                assert!(output.iter().all(|s| s.is_finite()));
                assert!(playout.ready.len() <= opus::MAX_PACKET_SAMPLES + 2_000);
            }
        }
    }
}

#[test]
fn a_clock_that_leaps_with_every_packet_leaves_no_number() {
    for codec in [LegCodec::Opus, LegCodec::G722, LegCodec::Pcma] {
        for leap in [0x7fff_ffff_u32, 0x8000_0001] {
            let mut playout = Playout::new(codec);
            let t0 = start();
            let mut output = vec![0.0; playout.tick_samples()];
            let mut timestamp = 0u32;
            for n in 0..10_000u64 {
                let now = t0 + Duration::from_millis(n * 20);
                // The second of each pair is refused as a duplicate, and leaps all the same.
                for _ in 0..2 {
                    timestamp = timestamp.wrapping_add(leap);
                    playout.push(now, n as u16, timestamp, &[0; 80]);
                }
                match n % 3 {
                    0 => playout.skip(now),
                    _ => playout.pull(now, &mut output),
                }
            }
        }
    }
}

#[test]
fn a_pause_is_silence_not_concealment() {
    let t0 = start();
    let at = |ms: u64| t0 + Duration::from_millis(ms);
    let mut playout = Playout::new(LegCodec::Pcma);
    let mut output = vec![0.0; 160];
    let loud = [g711::linear_to_alaw(8_000); 160];
    let mut sequence = 0u16;
    for tick in 0..200u64 {
        // 1 s of sound, comfort noise, 2 s of nothing, sound again with contiguous numbers.
        if !(50..150).contains(&tick) {
            playout.push(at(tick * 20), sequence, tick as u32 * 160, &loud);
            sequence += 1;
        } else if tick == 50 {
            playout.push_noise(at(tick * 20), sequence, tick as u32 * 160);
            sequence += 1;
        }
        playout.pull(at(tick * 20 + 1), &mut output);
        if (55..150).contains(&tick) {
            assert!(output.iter().all(|&s| s == 0.0), "{tick}");
        }
    }
    assert_eq!(playout.counts().concealed, 0);
    assert!(output[80] > 0.2);
}

#[test]
fn a_skipped_stream_is_heard_in_time_when_wanted() {
    let t0 = start();
    let at = |ms: u64| t0 + Duration::from_millis(ms);
    let mut encoder = opus::Encoder::new(opus::Quality::default());
    let sound = speech(48_000, 4);
    let (mut always, mut later) = (Playout::new(LegCodec::Opus), Playout::new(LegCodec::Opus));
    let (mut a, mut b) = (vec![0.0; 960], vec![0.0; 960]);
    let (mut power, mut error) = (0.0f32, 0.0f32);
    for (n, frame) in sound.chunks_exact(960).enumerate() {
        let packet = encoder.encode(frame.try_into().unwrap()).to_vec();
        let now = at(n as u64 * 20);
        always.push_extended(now, n as u64, n as u32 * 960, &packet);
        later.push_extended(now, n as u64, n as u32 * 960, &packet);
        let tick = at(n as u64 * 20 + 3);
        always.pull(tick, &mut a);
        if n < 100 {
            later.skip(tick);
        } else {
            later.pull(tick, &mut b);
            if n > 103 {
                power += a.iter().map(|s| s * s).sum::<f32>();
                error += a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
            }
        }
    }
    assert!(power > 10.0, "{power}");
    assert!(error < 0.01 * power, "{error} {power}");
}
