//! One track forwarded to one session: choosing, renumbering, rewriting, sealing, and sending
//! again what was lost.
//!
//! The inner loop of the program: a forwarded packet costs one header write, one payload
//! copy and one seal, and allocates nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::{WallClock, units};
use super::command::{Layer, SendParameters};
use super::egress::Egress;
use super::layers::{Gate, Passage};
use super::packet::{ClockMapping, Descriptor, Packet};
use super::picture::PictureContinuity;
use super::template::{HeaderTemplate, HeaderValues};
use super::train::Trains;
use crate::codec::vp8::Vp8Counters;
use crate::ids::MediaKind;
use crate::rtp::rtcp::{ReportBlock, SenderReport};
use crate::rtp::{AbsSendTime, Renumber, SendHistory, TimestampMap, rtx};

/// Packets of video kept for sending again. A higher value answers later NACKs (256 is 0.9 s
/// at 2.5 Mbit/s) and holds that many shared payloads of a track.
const VIDEO_HISTORY: usize = 256;

/// Packets of sound kept for sending again: 1.3 s of 20 ms packets.
const AUDIO_HISTORY: usize = 64;

/// Packets up to this length are not padded: they are sound, or the end of a frame, and gain
/// nothing by joining a train.
const PAD_ABOVE: usize = 300;

/// Packet lengths are rounded up to a multiple of this by padding: encoders cut a frame into
/// packets that differ by a byte, and only equal ones share a train.
const PAD_TO: usize = 4;

/// Shortest time between two answers for one packet, however short the round trip is said to
/// be: a lower value lets a peer that asks twice be answered twice.
const MIN_RESEND_INTERVAL: Duration = Duration::from_millis(20);

/// Packets sent again in one flush at most. A peer that lost more asks again; a higher value
/// repairs a longer gap at once, and lets one feedback packet make a larger burst.
const MAX_RESENT_AT_ONCE: u32 = 64;

/// Shortest time between two answers for one packet, when the round trip is not known.
const RESEND_INTERVAL: Duration = Duration::from_millis(30);

/// A forwarding of one track to one session.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) parameters: SendParameters,
    pub(super) gate: Gate,
    template: HeaderTemplate,
    /// The peer has reported on the stream, so it knows which section it belongs to.
    acknowledged: bool,
    renumber: Renumber,
    offset: TimestampMap,
    newest: Option<Newest>,
    tail: Option<Box<Tail>>,
    picture: PictureContinuity,
    history: SendHistory<Resendable>,
    next_rtx: u64,
    budget: ResendBudget,
    packets: u32,
    octets: u32,
    /// What the peer last reported.
    pub(super) reported: Option<ReportBlock>,
    /// Packets and bytes since the last quality report.
    pub(super) interval: (u64, u64),
}

/// The newest packet sent, from which the timeline continues.
#[derive(Clone, Copy, Debug)]
struct Newest {
    timestamp: u32,
    /// Its timestamp at the source, on which `clock` is.
    source: u32,
    sequence: u64,
    arrival: Instant,
    clock: ClockMapping,
}

/// Where a packet goes in the outgoing stream.
#[derive(Clone, Copy, Debug)]
struct Place {
    index: u64,
    timestamp: u32,
    counters: Vp8Counters,
}

/// The source before the current one, as it stood at the change.
#[derive(Clone, Debug)]
struct Tail {
    from: (Layer, u16),
    /// Its newest number sent on.
    end: u64,
    renumber: Renumber,
    offset: TimestampMap,
    picture: PictureContinuity,
}

/// What it takes to write a packet again, bit for bit if need be: under one SRTP index there
/// must never be two different packets (RFC 7714 §8.2).
#[derive(Clone, Debug)]
struct Resendable {
    packet: Arc<Packet>,
    index: u64,
    timestamp: u32,
    sent: AbsSendTime,
    transport_sequence: u16,
    counters: Vp8Counters,
    padding: u8,
    with_mid: bool,
}

/// How many packets were sent again since the last flush.
#[derive(Debug, Default)]
struct ResendBudget {
    round: u64,
    spent: u32,
}

impl ResendBudget {
    /// Whether one more may be sent again in this flush round.
    fn is_left(&mut self, round: u64) -> bool {
        if self.round != round {
            *self = Self { round, spent: 0 };
        }
        self.spent < MAX_RESENT_AT_ONCE
    }
}

/// Shortest time between two answers for one packet: a round trip, in which the first may still
/// be on its way.
fn resend_interval(rtt: Option<Duration>) -> Duration {
    rtt.unwrap_or(RESEND_INTERVAL).max(MIN_RESEND_INTERVAL)
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forwarded {
    Sent,
    Withheld,
    /// It cannot start before a key frame of its encoding.
    AwaitsKeyFrame,
}

impl Subscription {
    pub(super) fn new(parameters: SendParameters) -> Self {
        let capacity = match parameters.kind {
            MediaKind::Audio => AUDIO_HISTORY,
            MediaKind::Video => VIDEO_HISTORY,
        };
        Subscription {
            gate: Gate::new(parameters.kind, parameters.max_layer),
            template: HeaderTemplate::new(&parameters, true),
            acknowledged: false,
            // Below 2^15, so that losing the first packets cannot be taken for a roll-over
            // (RFC 3711 §3.3.1). SRTP makes a secret start needless.
            renumber: Renumber::new(1 + u64::from(parameters.ssrc & 0x3FFF)),
            offset: TimestampMap::default(),
            newest: None,
            tail: None,
            picture: PictureContinuity::default(),
            history: SendHistory::new(capacity),
            next_rtx: 1,
            budget: ResendBudget::default(),
            packets: 0,
            octets: 0,
            reported: None,
            interval: (0, 0),
            parameters,
        }
    }

    /// Sends `packet` on, if it is for this subscription. `active`: encodings that arrive.
    pub(super) fn forward(
        &mut self,
        now: Instant,
        packet: &Arc<Packet>,
        active: u8,
        egress: &mut Egress,
        trains: &mut Trains,
    ) -> Forwarded {
        // Before the keys are there nothing may pass the gate: the first packet through it
        // must reach the peer.
        if !egress.is_ready() {
            return Forwarded::Withheld;
        }
        let descriptor = &packet.descriptor;
        let before = self.gate.source();
        let place = match self.gate.pass(descriptor, active) {
            Passage::Forward => self.place(packet),
            Passage::Switch => {
                self.switch(packet, before);
                self.place(packet)
            }
            passage => match self.tail_place(descriptor) {
                None if passage == Passage::Await => return Forwarded::AwaitsKeyFrame,
                place => place,
            },
        };
        let Some(Place {
            index,
            timestamp,
            counters,
        }) = place
        else {
            return Forwarded::Withheld;
        };
        let transport_sequence = match self.template.has_transport_cc() {
            true => egress.next_transport_sequence(),
            false => 0,
        };
        let bare = self.template.len() + packet.payload().len();
        let sent = Resendable {
            packet: Arc::clone(packet),
            index,
            timestamp,
            sent: egress.abs_send_time(now),
            transport_sequence,
            counters,
            padding: padding(bare, egress.segment(trains)),
            with_mid: !self.acknowledged,
        };
        self.write(&sent, egress, trains);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload().len() as u32);
        self.interval.0 += 1;
        self.interval.1 += packet.payload().len() as u64;
        self.history.insert(index as u16, now, sent);
        Forwarded::Sent
    }

    /// Where a packet of the current source goes; `None`: nowhere.
    fn place(&mut self, packet: &Packet) -> Option<Place> {
        let descriptor = &packet.descriptor;
        if packet.payload().is_empty() {
            // A probe's padding: not worth a number.
            self.renumber.omit(descriptor.sequence);
            return None;
        }
        let index = self.renumber.forward(descriptor.sequence)?;
        let timestamp = self.offset.map(descriptor.timestamp);
        if descriptor.in_order {
            self.newest = Some(Newest {
                timestamp,
                source: descriptor.timestamp,
                sequence: descriptor.sequence,
                arrival: descriptor.arrival,
                clock: descriptor.clock,
            });
        }
        let counters = match &descriptor.vp8 {
            Some(vp8) => self.picture.counters(vp8),
            None => Vp8Counters::default(),
        };
        Some(Place {
            index,
            timestamp,
            counters,
        })
    }

    /// Where a late packet of the source before the current one goes: into the number kept free
    /// for it, so that the peer is not left asking for it in vain.
    fn tail_place(&mut self, descriptor: &Descriptor) -> Option<Place> {
        let tail = self.tail.as_mut()?;
        let is_its = tail.from == (descriptor.layer, descriptor.epoch)
            && !descriptor.in_order
            && descriptor.sequence < tail.end
            && !self.gate.paused;
        if !is_its {
            return None;
        }
        let index = tail.renumber.forward(descriptor.sequence)?;
        let counters = match &descriptor.vp8 {
            Some(vp8) => tail.picture.counters(vp8),
            None => Vp8Counters::default(),
        };
        Some(Place {
            index,
            timestamp: tail.offset.map(descriptor.timestamp),
            counters,
        })
    }

    /// The peer lacks packet `sequence`. False: it is gone, or was sent again just now.
    pub(super) fn resend(
        &mut self,
        now: Instant,
        sequence: u16,
        rtt: Option<Duration>,
        egress: &mut Egress,
        trains: &mut Trains,
    ) -> bool {
        if !self.budget.is_left(trains.round()) {
            return false;
        }
        let interval = resend_interval(rtt);
        let Some(sent) = self.history.resend(sequence, now, interval).cloned() else {
            return false;
        };
        self.budget.spent += 1;
        match (self.parameters.rtx_ssrc, self.parameters.rtx_payload_type) {
            (Some(ssrc), Some(payload_type)) => {
                self.write_rtx(now, &sent, ssrc, payload_type, egress, trains);
            }
            _ => self.write(&sent, egress, trains),
        }
        true
    }

    fn write(&self, sent: &Resendable, egress: &mut Egress, trains: &mut Trains) {
        let with_mid;
        let template = if sent.with_mid != self.acknowledged {
            &self.template
        } else {
            // Sent before the peer acknowledged the section and asked for after: rare.
            with_mid = HeaderTemplate::new(&self.parameters, sent.with_mid);
            &with_mid
        };
        let payload = sent.packet.payload();
        let header = template.len();
        let padding = usize::from(sent.padding);
        let len = header + payload.len() + padding;
        egress.rtp(trains, len, sent.index, |packet| {
            template.write(
                packet,
                &HeaderValues {
                    payload_type: self.parameters.payload_type,
                    ssrc: self.parameters.ssrc,
                    marker: sent.packet.descriptor.marker,
                    sequence: sent.index as u16,
                    timestamp: sent.timestamp,
                    sent: sent.sent,
                    transport_sequence: sent.transport_sequence,
                    audio_level: sent.packet.descriptor.audio_level,
                    padded: padding != 0,
                },
            );
            write_payload(&mut packet[header..], sent);
            if let [zeros @ .., count] = &mut packet[len - padding..] {
                zeros.fill(0);
                *count = padding as u8;
            }
        });
    }

    fn write_rtx(
        &mut self,
        now: Instant,
        sent: &Resendable,
        ssrc: u32,
        payload_type: u8,
        egress: &mut Egress,
        trains: &mut Trains,
    ) {
        let index = self.next_rtx;
        self.next_rtx += 1;
        let transport_sequence = match self.template.has_transport_cc() {
            true => egress.next_transport_sequence(),
            false => 0,
        };
        let header = self.template.len();
        let payload_start = header + rtx::OVERHEAD;
        let len = payload_start + sent.packet.payload().len();
        let now_sent = egress.abs_send_time(now);
        egress.rtp(trains, len, index, |packet| {
            self.template.write(
                packet,
                &HeaderValues {
                    payload_type,
                    ssrc,
                    marker: sent.packet.descriptor.marker,
                    sequence: index as u16,
                    timestamp: sent.timestamp,
                    sent: now_sent,
                    transport_sequence,
                    audio_level: sent.packet.descriptor.audio_level,
                    padded: false,
                },
            );
            packet[header..payload_start].copy_from_slice(&rtx::osn(sent.index as u16));
            write_payload(&mut packet[payload_start..], sent);
        });
    }

    /// Continues numbers, timestamps and picture counters across a change of source: `packet`
    /// is the first of the new one.
    fn switch(&mut self, packet: &Packet, before: Option<(Layer, u16)>) {
        let descriptor = &packet.descriptor;
        if let (Some(from), Some(newest)) = (before, &self.newest) {
            self.tail = Some(Box::new(Tail {
                from,
                end: newest.sequence,
                renumber: self.renumber.clone(),
                offset: self.offset,
                picture: self.picture,
            }));
        }
        let rate = self.parameters.clock_rate;
        let outgoing = match &self.newest {
            None => self.parameters.ssrc,
            Some(newest) => {
                // Where the old source's timeline stood when this packet was sampled...
                let elapsed = units(
                    descriptor.arrival.saturating_duration_since(newest.arrival),
                    rate,
                );
                let sampled = descriptor.clock.instant_of(descriptor.timestamp, rate);
                let before = newest.clock.instant_of(newest.source, rate);
                let step = match (sampled, before) {
                    (Some(sampled), Some(before)) => {
                        units(sampled.saturating_duration_since(before), rate)
                    }
                    _ => 0,
                };
                // ...unless that contradicts the arrivals by more than a second.
                let step = if step == 0 || step.abs_diff(elapsed) > rate {
                    elapsed
                } else {
                    step
                };
                // Two frames never share a timestamp: at least a tenth of a frame apart.
                newest.timestamp.wrapping_add(step.max(rate / 300))
            }
        };
        self.offset.align(descriptor.timestamp, outgoing);
        self.renumber.switch();
        if let Some(vp8) = &descriptor.vp8 {
            self.picture.switch(vp8);
        }
    }

    /// Pauses, resumes or caps the stream.
    pub(super) fn set(&mut self, paused: bool, max_layer: Layer) {
        self.gate.set(paused, max_layer);
    }

    /// The peer reported on the stream.
    pub(super) fn reported(&mut self, block: ReportBlock) {
        self.reported = Some(block);
        if !self.acknowledged {
            self.acknowledged = true;
            self.template = HeaderTemplate::new(&self.parameters, false);
        }
    }

    /// A sender report for now; `None` before the first packet.
    pub(super) fn sender_report(&self, now: Instant, wall: &WallClock) -> Option<SenderReport> {
        let newest = self.newest.as_ref()?;
        let source = newest.clock.timestamp_at(now, self.parameters.clock_rate);
        Some(SenderReport {
            ssrc: self.parameters.ssrc,
            ntp: wall.ntp(now),
            rtp_timestamp: self.offset.map(source),
            packets: self.packets,
            octets: self.octets,
        })
    }

    /// Lets go of packets too old to be asked for again.
    pub(super) fn forget_before(&mut self, instant: Instant) {
        self.history.forget_before(instant);
    }
}

fn write_payload(to: &mut [u8], sent: &Resendable) {
    let payload = sent.packet.payload();
    let to = &mut to[..payload.len()];
    to.copy_from_slice(payload);
    if let Some(vp8) = &sent.packet.descriptor.vp8 {
        vp8.patch(to, sent.counters);
    }
}

/// Padding that makes a packet of `len` bytes fit a train whose packets have `segment` bytes.
fn padding(len: usize, segment: Option<usize>) -> u8 {
    if len <= PAD_ABOVE {
        return 0;
    }
    let rounded = len.next_multiple_of(PAD_TO);
    let joined = segment.filter(|segment| (rounded..=rounded + PAD_TO).contains(segment));
    (joined.unwrap_or(rounded) - len) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flush_sends_so_many_again_and_the_next_as_many() {
        let mut budget = ResendBudget::default();
        for round in [1, 2, 3] {
            let mut sent = 0;
            while budget.is_left(round) {
                budget.spent += 1;
                sent += 1;
            }
            assert_eq!(sent, MAX_RESENT_AT_ONCE);
        }
    }

    #[test]
    fn a_packet_is_answered_once_in_a_round_trip_and_never_more_often_than_each_20_ms() {
        let ms = Duration::from_millis;
        for (rtt, interval) in [(None, 30), (Some(0), 20), (Some(3), 20), (Some(80), 80)] {
            assert_eq!(resend_interval(rtt.map(ms)), ms(interval));
        }
    }
}
