//! The audio mixer of one room: everybody's sound in, one mix out per codec, and N-1 for who talks.
//!
//! ```text
//!  SFU tracks (Opus) -+                                   +-> shared limiter -> one encode per codec -> listeners
//!  telephone legs  ---+-> select K -> decode -> sum ------+
//!                                                         +-> minus self, copied encoder -> each talking leg
//! ```
//! Sans-IO: packets and `now` in, datagrams and Opus packets out through a [`Sink`], one [`Mixer::tick`]
//! each 20 ms. It owns neither sockets nor the list of rooms.

mod branch;
mod limiter;
mod line;
mod packetizer;
mod resample;
mod select;

use std::time::Instant;

use self::branch::Branch;
pub use self::line::{Line, LineDrop, LineParameters, StreamStart, Voice};
use self::select::Candidate;
use crate::codec::{LegCodec, opus};
use crate::ids::{LegId, TrackId};
use crate::jitter::Playout;

/// Bounds of [`MixerParameters::talkers`].
pub const MIN_TALKERS: usize = 2;
/// Above 16 nobody tells voices apart, and each costs a decode and an encode.
pub const MAX_TALKERS: usize = 16;
/// A talker who fell silent goes back to the shared mix at a pause, or after this many ticks (2 s).
const RETURN_TICKS: u32 = 100;
/// A track without a packet for this many ticks is silent (DTX, loss, gone).
const STALE_TICKS: u8 = 5;
/// Gain change per sample of the 10 ms crossfade.
const FADE_STEP: f32 = 1.0 / 480.0;

/// How a room is mixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixerParameters {
    /// How many are heard at once, clamped to 2..=16. More lets more voices through and costs about
    /// 25 us of decoding and, for each talking leg, one encode more per tick.
    pub talkers: usize,
    /// How Opus is spoken to legs and for legs.
    pub quality: opus::Quality,
}

impl Default for MixerParameters {
    fn default() -> Self {
        Self {
            talkers: 4,
            quality: opus::Quality::default(),
        }
    }
}

/// Where a tick's results go.
pub trait Sink {
    /// An RTP datagram for a leg.
    fn send(&mut self, leg: LegId, datagram: &[u8]);
    /// A packet of the leg's voice for the SFU.
    fn voice(&mut self, leg: LegId, voice: Voice<'_>);
    /// A key found in the leg's sound.
    fn digit(&mut self, leg: LegId, key: char);
    /// The leg's prompt was played to its end.
    fn play_finished(&mut self, leg: LegId);
}

/// What a mixer did since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MixerCounts {
    /// Ticks.
    pub ticks: u64,
    /// Frames of SFU tracks decoded (or concealed).
    pub decoded: u64,
    /// Ticks in which a leg was served by its own mix.
    pub own_mixes: u64,
    /// Times somebody was let in.
    pub selections: u64,
}

#[derive(Debug)]
struct Track {
    id: TrackId,
    playout: Playout,
    muted: bool,
    candidate: Candidate,
    gain: f32,
    /// Loudest level announced since the last tick, in -dBov.
    announced: Option<u8>,
    /// The sender announces levels (RFC 6464), so it needs no decoding to be judged.
    announces: bool,
    stale: u8,
    frame: Box<[f32; 960]>,
    pulled: bool,
    /// The frame is part of this tick's sum.
    heard: bool,
}

#[derive(Debug)]
struct Seat {
    id: LegId,
    line: Line,
    candidate: Candidate,
    gain: f32,
    watched: bool,
    /// The leg's part of this tick's sum.
    part: Option<Box<[f32; 960]>>,
}

/// One room's mixer.
#[derive(Debug)]
pub struct Mixer {
    parameters: MixerParameters,
    tracks: Vec<Track>,
    seats: Vec<Seat>,
    shared: Branch,
    sum: Box<[f32; 960]>,
    scratch: Vec<(f32, usize)>,
    counts: MixerCounts,
}

impl Mixer {
    /// An empty room.
    pub fn new(parameters: MixerParameters) -> Self {
        let parameters = MixerParameters {
            talkers: parameters.talkers.clamp(MIN_TALKERS, MAX_TALKERS),
            ..parameters
        };
        Self {
            parameters,
            tracks: Vec::new(),
            seats: Vec::new(),
            shared: Branch::new(parameters.quality),
            sum: Box::new([0.0; 960]),
            scratch: Vec::new(),
            counts: MixerCounts::default(),
        }
    }

    /// What it did so far.
    pub fn counts(&self) -> MixerCounts {
        self.counts
    }

    /// Adds an Opus track of the SFU; again is ignored.
    pub fn add_track(&mut self, track: TrackId) {
        if self.tracks.iter().any(|t| t.id == track) {
            return;
        }
        self.tracks.push(Track {
            id: track,
            playout: Playout::new(LegCodec::Opus),
            muted: false,
            candidate: Candidate::default(),
            gain: 0.0,
            announced: None,
            announces: false,
            stale: STALE_TICKS,
            frame: Box::new([0.0; 960]),
            pulled: false,
            heard: false,
        });
    }

    /// Forgets a track.
    pub fn remove_track(&mut self, track: TrackId) {
        self.tracks.retain(|t| t.id != track);
    }

    /// The track's source began anew: what was received of it no longer counts.
    pub fn restart_track(&mut self, track: TrackId) {
        if let Some(track) = self.tracks.iter_mut().find(|t| t.id == track) {
            track.playout.reset();
        }
    }

    /// A muted track is silent at once.
    pub fn set_track_muted(&mut self, track: TrackId, muted: bool) {
        if let Some(track) = self.tracks.iter_mut().find(|t| t.id == track) {
            track.muted = muted;
        }
    }

    /// The room's tracks.
    pub fn tracks(&self) -> impl Iterator<Item = TrackId> + '_ {
        self.tracks.iter().map(|t| t.id)
    }

    /// Seats a leg. It goes on from where its line is; the shared mix reaches it at the next pause.
    pub fn add_leg(&mut self, id: LegId, line: Line) {
        self.seats.push(Seat {
            id,
            line,
            candidate: Candidate::default(),
            gain: 0.0,
            watched: false,
            part: None,
        });
    }

    /// Takes a leg out, its line unharmed.
    pub fn remove_leg(&mut self, id: LegId) -> Option<Line> {
        let position = self.seats.iter().position(|s| s.id == id)?;
        let seat = self.seats.swap_remove(position);
        let mut line = seat.line;
        if line.own.is_none() {
            line.own = Some(self.shared.fork(line.parameters().codec));
        }
        Some(line)
    }

    /// The line of a leg.
    pub fn line_mut(&mut self, id: LegId) -> Option<&mut Line> {
        self.seats
            .iter_mut()
            .find(|s| s.id == id)
            .map(|s| &mut s.line)
    }

    /// The legs in the room.
    pub fn legs(&self) -> impl Iterator<Item = LegId> + '_ {
        self.seats.iter().map(|s| s.id)
    }

    /// Whether somebody watches the leg's voice in the SFU.
    pub fn set_watched(&mut self, id: LegId, watched: bool) {
        if let Some(seat) = self.seats.iter_mut().find(|s| s.id == id) {
            seat.watched = watched;
        }
    }

    /// A packet of an SFU track; `level` is RFC 6464's, in -dBov, when the sender tells it.
    pub fn track_packet(
        &mut self,
        now: Instant,
        track: TrackId,
        sequence: u64,
        timestamp: u32,
        level: Option<u8>,
        payload: &[u8],
    ) {
        let Some(track) = self.tracks.iter_mut().find(|t| t.id == track) else {
            return;
        };
        track.stale = 0;
        track.announces = level.is_some();
        if let Some(level) = level {
            track.announced = Some(track.announced.map_or(level, |l| l.min(level)));
        }
        track
            .playout
            .push_extended(now, sequence, timestamp, payload);
    }

    /// Mixes and sends 20 ms.
    pub fn tick(&mut self, now: Instant, sink: &mut impl Sink) {
        self.counts.ticks += 1;
        self.listen(now, sink);
        self.choose();
        self.add_up(now);
        self.part_ways();
        self.shared.feed(&self.sum);
        self.answer(sink);
        for seat in &mut self.seats {
            if seat.watched {
                seat.line.speak(seat.id, sink);
            }
        }
    }

    /// Levels of this tick: announced, or measured on what is decoded for that.
    fn listen(&mut self, now: Instant, sink: &mut impl Sink) {
        for track in &mut self.tracks {
            track.pulled = false;
            track.stale = track.stale.saturating_add(1);
            let announced = track.announced.take();
            if track.muted || track.stale > STALE_TICKS {
                track.candidate.level(-127.0);
            } else if track.announces {
                if let Some(level) = announced {
                    track.candidate.level(-f32::from(level));
                }
            } else {
                track.pull(now, &mut self.counts);
                track.candidate.level(dbov(&track.frame[..]));
            }
            if track.muted {
                track.candidate.silence();
                track.gain = 0.0;
            }
        }
        for seat in &mut self.seats {
            seat.line.hear(seat.id, now, sink);
            seat.candidate.level(seat.line.level());
        }
    }

    fn choose(&mut self) {
        let tracks = self.tracks.iter_mut().map(|t| &mut t.candidate);
        let seats = self.seats.iter_mut().map(|s| &mut s.candidate);
        self.counts.selections += select::select(
            self.parameters.talkers,
            tracks.chain(seats),
            &mut self.scratch,
        );
    }

    fn add_up(&mut self, now: Instant) {
        self.sum.fill(0.0);
        for track in &mut self.tracks {
            track.heard = track.candidate.chosen() || track.gain > 0.0;
            if track.heard {
                track.pull(now, &mut self.counts);
                track.gain = fade(&mut track.frame, track.gain, track.candidate.chosen());
                add(&mut self.sum, &track.frame);
            } else if !track.pulled {
                track.playout.skip(now);
            }
        }
        for seat in &mut self.seats {
            if seat.candidate.chosen() || seat.gain > 0.0 {
                let part = seat.part.get_or_insert_with(|| Box::new([0.0; 960]));
                part.copy_from_slice(seat.line.frame());
                seat.gain = fade(part, seat.gain, seat.candidate.chosen());
                add(&mut self.sum, part);
            } else {
                seat.part = None;
            }
        }
    }

    /// Legs that must hear something of their own go on from the shared mix's state before this tick.
    fn part_ways(&mut self) {
        for seat in &mut self.seats {
            let line = &mut seat.line;
            if seat.part.is_none() && line.prompt_tick().is_none() {
                line.own_idle = line.own_idle.saturating_add(1);
                continue;
            }
            line.own_idle = 0;
            if line.own.is_none() {
                line.own = Some(self.shared.fork(line.parameters().codec));
            }
        }
    }

    /// Every leg gets the shared mix, or its own when it talks, is spoken to, or has not come back yet.
    fn answer(&mut self, sink: &mut impl Sink) {
        let pause = self.shared.is_silent();
        for n in 0..self.seats.len() {
            let own_mix = self.seats[n].part.is_some().then(|| self.without(n));
            let seat = &mut self.seats[n];
            let (id, line) = (seat.id, &mut seat.line);
            if line.own_idle > 0 && (pause || line.own_idle >= RETURN_TICKS) {
                line.own = None;
            }
            if line.own.is_none() {
                let payload = self.shared.payload(line.parameters().codec);
                line.send(id, payload, sink);
                continue;
            }
            self.counts.own_mixes += 1;
            let mut mix = own_mix.unwrap_or(*self.sum);
            if let Some(prompt) = line.prompt_tick() {
                add(&mut mix, prompt);
            }
            if let Some(own) = &mut line.own {
                own.feed(&mix);
            }
            line.send_own(id, sink);
        }
    }

    /// The sum without one seat: added up again in the same order rather than subtracted, so that it
    /// is, bit for bit, the sum there would be if the seat were silent.
    fn without(&self, seat: usize) -> [f32; 960] {
        let mut mix = [0.0; 960];
        for track in self.tracks.iter().filter(|t| t.heard) {
            add(&mut mix, &track.frame);
        }
        for (n, other) in self.seats.iter().enumerate() {
            if let Some(part) = &other.part
                && n != seat
            {
                add(&mut mix, part);
            }
        }
        mix
    }
}

impl Track {
    fn pull(&mut self, now: Instant, counts: &mut MixerCounts) {
        if !std::mem::replace(&mut self.pulled, true) {
            self.playout.pull(now, &mut self.frame[..]);
            counts.decoded += 1;
        }
    }
}

/// Mean power in dBov: 0 is a full-scale square wave (RFC 6464 §3), -127 the floor.
fn dbov(samples: &[f32]) -> f32 {
    let power = samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32;
    (10.0 * power.max(1e-13).log10()).max(-127.0)
}

fn add(sum: &mut [f32; 960], part: &[f32; 960]) {
    for (sum, sample) in sum.iter_mut().zip(part) {
        *sum += sample;
    }
}

/// Moves the gain towards 1 or 0 over 10 ms; returns where it ended.
fn fade(frame: &mut [f32; 960], from: f32, chosen: bool) -> f32 {
    let (target, step) = if chosen {
        (1.0, FADE_STEP)
    } else {
        (0.0, -FADE_STEP)
    };
    if from == target {
        if !chosen {
            frame.fill(0.0);
        }
        return from;
    }
    let mut gain = from;
    for sample in frame.iter_mut() {
        gain = (gain + step).clamp(0.0, 1.0);
        *sample *= gain;
    }
    gain
}

#[cfg(test)]
mod tests;
