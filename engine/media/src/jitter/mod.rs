//! Playout of one RTP audio stream: packets in as they come, steady sound out.
//!
//! Owns the packet ring, the delay estimate, the decoder and everything that hides a hole: Opus FEC,
//! Opus concealment, repeated pitch for G.711 and G.722, and small changes of length. Deterministic:
//! time is an argument. Memory is bounded by the ring (64 packets).
//!
//! ```text
//!  push -> ring -> (FEC | decode | conceal) -> shorten / lengthen -> samples -> pull, each 20 ms
//!     \-> delay estimate -> target ------------------^
//! ```

mod conceal;
mod delay;
mod ring;
mod stretch;

use std::time::Instant;

use self::conceal::Concealer;
use self::delay::{DelayEstimate, MAX_TARGET};
use self::ring::{Kind, Ring};
use crate::codec::{Decoder, LegCodec, opus};
use crate::rtp::SequenceExtender;

/// Sound is concealed for this long when nothing comes, then the stream counts as paused (microseconds).
const MAX_CONCEALED: i64 = 120_000;
/// Sound is asked for in pieces of this length (microseconds).
const TICK: i64 = 20_000;
/// Least delay: a packet is needed up to one tick before its first sample is heard.
const MIN_DELAY: i64 = TICK;
/// Playout is left alone while its delay is within these of what is wanted (microseconds): wider is
/// calmer, narrower is closer to the least delay.
const TOO_LONG: i64 = 12_000;
const TOO_SHORT: i64 = 5_000;
/// Beyond this distance from the target even voiced sound is stretched, when it repeats well.
const FAR: i64 = 60_000;
/// Least time between two changes of length, in quiet and in voiced sound (microseconds).
const QUIET_PACE: i64 = 60_000;
const VOICED_PACE: i64 = 200_000;
/// How well voiced sound must repeat to be spliced.
const LIKENESS: f32 = 0.9;
/// Mean square under which a frame is quiet whatever surrounds it: -55 dBov.
const QUIET: f32 = 3.2e-6;
/// Loss above which it pays to wait one packet longer, so that FEC is there in time.
const WORTH_FEC: f32 = 0.005;
/// A media clock that jumps this far against arrival is another stream (microseconds).
const CLOCK_JUMP: i64 = 2_000_000;
/// Packets that all come too late to be sure to be heard for this long, and by no less, are a path or a sender that is slower for good: a
/// microphone that stood still counts its samples on from there (microseconds). Lower loses less sound, higher takes no queue that
/// empties for one.
const SLOWED: i64 = 200_000;
/// As many packets at least: two comfort noises of a pause are no row.
const SLOWED_PACKETS: u32 = 4;
/// Consecutive packets older than the ring after which the sender is believed to have restarted.
const RESTART: u32 = 8;
/// Packets decoded unheard when a skipped stream is heard again: predictors need them to settle.
const WARM_UP: u64 = 3;

/// What happened to a stream since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlayoutCounts {
    /// Packets taken in.
    pub received: u64,
    /// Packets refused: duplicates, or after their time.
    pub late: u64,
    /// Packets that did not decode.
    pub broken: u64,
    /// Lost frames recovered by Opus FEC.
    pub recovered: u64,
    /// Samples handed out, at the codec's rate.
    pub played: u64,
    /// Of these, samples made up.
    pub concealed: u64,
    /// Changes of length.
    pub stretched: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing to play.
    Idle,
    /// Packets are there, their time has not come.
    Waiting,
    /// In a talkspurt.
    Playing,
}

/// A row of packets that are all too late to be sure to be heard (microseconds).
#[derive(Debug)]
struct Lag {
    /// Arrival of the first.
    since: i64,
    /// Transit of the first.
    transit: i64,
    packets: u32,
}

/// Playout of one stream.
#[derive(Debug)]
pub struct Playout {
    codec: LegCodec,
    decoder: Decoder,
    concealer: Option<Concealer>,
    ring: Ring,
    delay: DelayEstimate,
    extender: SequenceExtender,
    epoch: Option<Instant>,
    /// Last RTP timestamp and its unwrapped value.
    timestamp: Option<(u32, i64)>,
    last_transit: Option<i64>,
    too_old: u32,
    lag: Option<Lag>,
    state: State,
    /// Next sequence number to play.
    next: u64,
    /// Timestamp of the next sample to decode.
    position: i64,
    /// Length of the last packet, in samples.
    frame: usize,
    /// Decoded, not yet pulled.
    ready: Vec<f32>,
    scratch: Vec<f32>,
    /// Concealed in a row without knowing whether something is lost (microseconds).
    starved: i64,
    /// The last packet played was Opus DTX: what follows is a pause, not a hole.
    pausing: bool,
    skipping: bool,
    /// Samples to leave out of the next frame: it is partly over when a skipped stream resumes.
    trim: usize,
    loss: f32,
    energy: f32,
    last_stretch: i64,
    counts: PlayoutCounts,
}

impl Playout {
    /// Playout of a stream of `codec`.
    pub fn new(codec: LegCodec) -> Self {
        let rate = codec.sample_rate();
        Self {
            codec,
            decoder: Decoder::new(codec),
            concealer: (codec != LegCodec::Opus).then(|| Concealer::new(rate)),
            ring: Ring::new(),
            delay: DelayEstimate::new(),
            extender: SequenceExtender::default(),
            epoch: None,
            timestamp: None,
            last_transit: None,
            too_old: 0,
            lag: None,
            state: State::Idle,
            next: 0,
            position: 0,
            frame: rate as usize / 50,
            ready: Vec::new(),
            scratch: Vec::new(),
            starved: 0,
            pausing: false,
            skipping: false,
            trim: 0,
            loss: 0.0,
            energy: 0.0,
            last_stretch: 0,
            counts: PlayoutCounts::default(),
        }
    }

    /// The codec of the stream.
    pub fn codec(&self) -> LegCodec {
        self.codec
    }

    /// What happened so far.
    pub fn counts(&self) -> PlayoutCounts {
        self.counts
    }

    /// Samples at the codec's rate in one tick of 20 ms.
    pub fn tick_samples(&self) -> usize {
        self.codec.sample_rate() as usize / 50
    }

    /// A packet of coded audio.
    pub fn push(&mut self, now: Instant, sequence: u16, timestamp: u32, payload: &[u8]) {
        let sequence = self.extender.extend(sequence);
        self.store(now, sequence, timestamp, Kind::Audio, payload);
    }

    /// A packet of coded audio whose sequence number was extended before.
    pub fn push_extended(&mut self, now: Instant, sequence: u64, timestamp: u32, payload: &[u8]) {
        self.store(now, sequence, timestamp, Kind::Audio, payload);
    }

    /// An RFC 3389 comfort noise packet: the talkspurt is over.
    pub fn push_noise(&mut self, now: Instant, sequence: u16, timestamp: u32) {
        let sequence = self.extender.extend(sequence);
        self.store(now, sequence, timestamp, Kind::Noise, &[]);
    }

    /// A packet of the same stream that is not audio: its sequence number is not a hole.
    pub fn push_other(&mut self, sequence: u16) {
        let sequence = self.extender.extend(sequence);
        let timestamp = self.timestamp.map_or(0, |(_, unwrapped)| unwrapped);
        self.ring.insert(sequence, timestamp, Kind::Other, &[]);
    }

    /// Another source took over the stream: everything but the counters is forgotten.
    pub fn reset(&mut self) {
        let counts = self.counts;
        *self = Self::new(self.codec);
        self.counts = counts;
    }

    /// Lateness of packets that playout waits for, in microseconds above the fastest one.
    pub fn lateness(&self) -> u64 {
        self.lateness_awaited() as u64
    }

    /// Hands out the next 20 ms: `output` has [`Playout::tick_samples`] samples at the codec's rate.
    pub fn pull(&mut self, now: Instant, output: &mut [f32]) {
        let now = self.micros(now);
        if std::mem::take(&mut self.skipping) {
            self.pass(now);
            self.warm_up();
            self.enter(now);
        }
        while self.ready.len() < output.len() {
            self.refill(now, output.len());
        }
        output.copy_from_slice(&self.ready[..output.len()]);
        self.ready.drain(..output.len());
        self.counts.played += output.len() as u64;
    }

    /// Passes over the next 20 ms without decoding, so that a later [`Playout::pull`] is in time.
    pub fn skip(&mut self, now: Instant) {
        let now = self.micros(now);
        self.skipping = true;
        self.ready.clear();
        self.starved = 0;
        self.pass(now);
        self.state = State::Waiting;
    }

    /// Moves on to the first packet that is not due yet.
    fn pass(&mut self, now: i64) {
        while let Some(packet) = self.ring.first_from(self.next) {
            if packet.kind == Kind::Audio && self.due(self.media(packet.timestamp), now) > now {
                break;
            }
            self.next = packet.sequence + 1;
        }
    }

    fn store(&mut self, now: Instant, sequence: u64, timestamp: u32, kind: Kind, payload: &[u8]) {
        self.counts.received += 1;
        self.epoch.get_or_insert(now);
        let arrival = self.micros(now);
        let mut unwrapped = match self.timestamp {
            None => i64::from(timestamp),
            Some((last, unwrapped)) => unwrapped + i64::from(timestamp.wrapping_sub(last) as i32),
        };
        let transit = arrival - self.media(unwrapped);
        let jumped = self
            .last_transit
            .is_some_and(|last| (transit - last).abs() > CLOCK_JUMP);
        if jumped {
            // Counted anew: a clock that leaps with every packet would leave what can be counted.
            unwrapped = i64::from(timestamp);
            self.delay.reset();
            self.restart(sequence);
        }
        let media = self.media(unwrapped);
        self.timestamp = Some((timestamp, unwrapped));
        self.last_transit = Some(arrival - media);
        if !self.ring.insert(sequence, unwrapped, kind, payload) {
            self.counts.late += 1;
            self.too_old += 1;
            if self.too_old >= RESTART {
                self.ring.clear();
                self.restart(sequence);
                self.ring.insert(sequence, unwrapped, kind, payload);
            }
            return;
        }
        self.too_old = 0;
        if self.slowed(arrival, media) {
            self.delay.reset();
            self.restart(sequence);
        }
        self.delay.arrived(arrival, media);
        if sequence < self.next && self.state == State::Playing {
            self.counts.late += 1;
        }
        if self.state == State::Idle {
            self.state = State::Waiting;
            self.next = self.next.max(sequence);
        }
    }

    /// Whether this packet ends a row that shows the stream to be slower for good.
    fn slowed(&mut self, arrival: i64, media: i64) -> bool {
        let transit = arrival - media;
        // What decides is a tick, and its phase, after the arrival: nothing between may be passed over there and be in time here.
        if arrival - self.due(media, arrival) <= MAX_TARGET - 2 * TICK {
            self.lag = None;
            return false;
        }
        match &mut self.lag {
            // A queue that empties: each comes sooner than the one before.
            Some(lag) if transit >= lag.transit - TICK => {
                lag.packets += 1;
                arrival - lag.since >= SLOWED && lag.packets >= SLOWED_PACKETS
            }
            _ => {
                self.lag = Some(Lag {
                    since: arrival,
                    transit,
                    packets: 1,
                });
                false
            }
        }
    }

    fn restart(&mut self, sequence: u64) {
        self.too_old = 0;
        self.lag = None;
        self.state = State::Waiting;
        self.next = sequence;
    }

    fn micros(&self, now: Instant) -> i64 {
        self.epoch.map_or(0, |epoch| {
            i64::try_from(now.saturating_duration_since(epoch).as_micros()).unwrap_or(i64::MAX)
        })
    }

    fn media(&self, timestamp: i64) -> i64 {
        timestamp.saturating_mul(1_000_000) / i64::from(self.codec.clock_rate())
    }

    fn lateness_awaited(&self) -> i64 {
        let wait = if self.codec == LegCodec::Opus && self.loss > WORTH_FEC {
            self.span(self.frame)
        } else {
            0
        };
        (self.delay.lateness() + wait).min(MAX_TARGET)
    }

    /// Delay from the fastest arrival to the ear that a packet should have, when it can be needed
    /// `ahead` after its fastest arrival. It is needed at a tick, so what counts is the tick: the first
    /// one late enough for the lateness awaited.
    fn wanted(&self, ahead: i64) -> i64 {
        let short = self.lateness_awaited() - ahead;
        let ticks = short.div_euclid(TICK) + i64::from(short.rem_euclid(TICK) > 0);
        (ahead + ticks * TICK).max(MIN_DELAY)
    }

    /// When the sample of this media time should be heard, seen from a tick at `now`.
    fn due(&self, media: i64, now: i64) -> i64 {
        let fastest = self.delay.fastest_arrival(media);
        fastest + self.wanted(now - fastest)
    }

    /// Duration of samples at the codec's rate, in microseconds.
    fn span(&self, samples: usize) -> i64 {
        samples as i64 * 1_000_000 / i64::from(self.codec.sample_rate())
    }

    /// Samples at the codec's rate in timestamp units.
    fn units(&self, samples: usize) -> i64 {
        samples as i64 * i64::from(self.codec.clock_rate()) / i64::from(self.codec.sample_rate())
    }

    /// Timestamp units in samples at the codec's rate.
    fn samples(&self, units: i64) -> usize {
        (units.max(0) as u64 * u64::from(self.codec.sample_rate())
            / u64::from(self.codec.clock_rate())) as usize
    }

    /// Makes at least one more sample ready.
    fn refill(&mut self, now: i64, wanted: usize) {
        let missing = wanted - self.ready.len();
        match self.state {
            State::Idle => self.silence(missing),
            State::Waiting => self.wait(now, missing),
            State::Playing => self.play(now, missing),
        }
    }

    fn silence(&mut self, samples: usize) {
        let from = self.ready.len();
        self.ready.resize(from + samples, 0.0);
        if let Some(concealer) = &mut self.concealer {
            concealer.played(&mut self.ready[from..]);
        }
    }

    fn wait(&mut self, now: i64, missing: usize) {
        let Some(packet) = self.ring.first_from(self.next) else {
            self.state = State::Idle;
            return self.silence(missing);
        };
        let (sequence, timestamp, kind) = (packet.sequence, packet.timestamp, packet.kind);
        if kind != Kind::Audio {
            self.next = sequence + 1;
            return;
        }
        let heard = now + self.span(self.ready.len());
        let early = self.due(self.media(timestamp), now) - heard;
        if -early > MAX_TARGET {
            self.next = sequence + 1;
            return;
        }
        let wait = early.saturating_mul(i64::from(self.codec.sample_rate())) / 1_000_000;
        if wait > 0 {
            return self.silence(missing.min(wait as usize));
        }
        self.state = State::Playing;
        self.next = sequence;
        self.position = timestamp;
        self.starved = 0;
        self.pausing = false;
    }

    fn play(&mut self, now: i64, missing: usize) {
        if let Some(packet) = self.ring.packet(self.next) {
            match packet.kind {
                Kind::Other => self.next += 1,
                Kind::Noise => {
                    self.next += 1;
                    self.state = State::Waiting;
                }
                Kind::Audio if packet.timestamp == self.position => self.decode(now),
                Kind::Audio => {
                    // Nothing is lost, yet time passed: a pause (DTX), or the sender's clock moved.
                    self.state = State::Waiting;
                }
            }
            return;
        }
        let Some(later) = self.ring.first_from(self.next) else {
            return self.starve(missing);
        };
        let (sequence, timestamp, kind) = (later.sequence, later.timestamp, later.kind);
        if kind != Kind::Audio {
            self.next = sequence;
            return;
        }
        // What was made up while waiting stood for what is now known to be lost.
        let made_up = (self.starved * i64::from(self.codec.clock_rate()) / 1_000_000)
            .min(timestamp - self.position)
            .max(0);
        self.position += made_up;
        self.starved = 0;
        let gap = timestamp - self.position;
        let frame = self.units(self.frame);
        self.loss += 0.005 * (1.0 - self.loss);
        if gap <= 0 {
            self.next = sequence;
            self.position = timestamp;
        } else if gap > MAX_CONCEALED * i64::from(self.codec.clock_rate()) / 1_000_000 {
            self.next = sequence;
            self.state = State::Waiting;
        } else if gap <= frame {
            self.next = sequence;
            self.position = timestamp;
            let samples = self.samples(gap);
            if !self.recover(sequence, samples) {
                self.conceal(samples);
            }
        } else {
            self.position += frame;
            self.conceal(self.frame);
        }
    }

    fn starve(&mut self, missing: usize) {
        if self.pausing || self.starved >= MAX_CONCEALED {
            self.state = State::Idle;
            return self.silence(missing);
        }
        // Opus conceals in steps of 2.5 ms.
        let step = self.codec.sample_rate() as usize / 400;
        let samples = missing.div_ceil(step) * step;
        self.starved += self.span(samples);
        self.conceal(samples);
    }

    fn decode(&mut self, now: i64) {
        let mut sound = std::mem::take(&mut self.scratch);
        let packet = self.ring.packet(self.next).expect("checked by the caller");
        self.pausing = self.codec == LegCodec::Opus && opus::is_dtx(packet.payload);
        let decoded = self.decoder.decode(packet.payload, &mut sound);
        self.next += 1;
        self.loss -= 0.005 * self.loss;
        if decoded {
            self.starved = 0;
            self.frame = sound.len();
            let media = self.media(self.position);
            self.position += self.units(sound.len());
            let heard = now + self.span(self.ready.len());
            let fastest = self.delay.fastest_arrival(media);
            let excess = heard - fastest - self.wanted(now - fastest);
            if self.trim > 0 {
                sound.drain(..std::mem::take(&mut self.trim).min(sound.len() - 1));
            } else {
                self.stretch(heard, excess, &mut sound);
            }
            if let Some(concealer) = &mut self.concealer {
                concealer.played(&mut sound);
            }
            self.ready.extend_from_slice(&sound);
        } else {
            self.counts.broken += 1;
            self.position += self.units(self.frame);
            self.conceal(self.frame);
        }
        self.scratch = sound;
    }

    fn recover(&mut self, from: u64, samples: usize) -> bool {
        let (Some(decoder), Some(packet)) = (self.decoder.opus(), self.ring.packet(from)) else {
            return false;
        };
        if !opus::has_fec(packet.payload) || !samples.is_multiple_of(120) {
            return false;
        }
        let start = self.ready.len();
        self.ready.resize(start + samples, 0.0);
        let recovered = decoder
            .recover(packet.payload, &mut self.ready[start..])
            .is_ok();
        if recovered {
            self.counts.recovered += 1;
        } else {
            self.ready.truncate(start);
        }
        recovered
    }

    fn conceal(&mut self, samples: usize) {
        let start = self.ready.len();
        self.ready.resize(start + samples, 0.0);
        let output = &mut self.ready[start..];
        self.counts.concealed += samples as u64;
        if let Some(concealer) = &mut self.concealer {
            concealer.conceal(output);
        } else if let Some(decoder) = self.decoder.opus()
            && decoder.conceal(output).is_err()
        {
            output.fill(0.0);
        }
    }

    fn stretch(&mut self, heard: i64, excess: i64, sound: &mut Vec<f32>) {
        let mean = sound.iter().map(|s| s * s).sum::<f32>() / sound.len() as f32;
        self.energy += 0.02 * (mean - self.energy);
        if (-TOO_SHORT..=TOO_LONG).contains(&excess) {
            return;
        }
        let quiet = mean < QUIET || mean < 0.02 * self.energy;
        let (pace, likeness) = if quiet {
            (QUIET_PACE, 0.0)
        } else if excess.abs() > FAR {
            (VOICED_PACE, LIKENESS)
        } else {
            return;
        };
        if heard - self.last_stretch < pace {
            return;
        }
        let rate = self.codec.sample_rate();
        let changed = if excess > 0 {
            stretch::shorten(sound, rate, likeness)
        } else {
            stretch::lengthen(sound, rate, likeness)
        };
        if changed > 0 {
            self.last_stretch = heard;
            self.counts.stretched += 1;
        }
    }

    /// Begins in the middle of the packet whose time it is.
    fn enter(&mut self, now: i64) {
        self.next = self.next.saturating_sub(1);
        let Some(packet) = self.ring.packet(self.next) else {
            self.next += 1;
            return;
        };
        let (timestamp, kind) = (packet.timestamp, packet.kind);
        let late = now - self.due(self.media(timestamp), now);
        let over = late.saturating_mul(i64::from(self.codec.sample_rate())) / 1_000_000;
        if kind != Kind::Audio || !(0..self.frame as i64).contains(&over) {
            self.next += 1;
            return;
        }
        self.state = State::Playing;
        self.position = timestamp;
        self.starved = 0;
        self.pausing = false;
        self.trim = over as usize;
    }

    fn warm_up(&mut self) {
        let mut sound = std::mem::take(&mut self.scratch);
        let last = self.next.saturating_sub(1);
        for sequence in last.saturating_sub(WARM_UP)..last {
            if let Some(packet) = self.ring.packet(sequence)
                && packet.kind == Kind::Audio
            {
                self.decoder.decode(packet.payload, &mut sound);
            }
        }
        self.scratch = sound;
        if let Some(concealer) = &mut self.concealer {
            concealer.reset();
        }
    }
}

#[cfg(test)]
mod tests;
