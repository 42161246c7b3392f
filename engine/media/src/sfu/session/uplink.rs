//! Tracks the peer sends: accepted, told apart by SSRC, decrypted and described for forwarding.

use std::sync::Arc;
use std::time::Instant;

use super::super::command::{CommandError, Event, Layer, ReceiveParameters};
use super::super::drops::DropReason;
use super::super::packet::{Descriptor, Packet};
use super::super::received::{Received, Role};
use super::super::reception::{Arrival, Reception};
use super::super::router::Shared;
use super::{RTT, Session, Stream, TRANSPORT_FEEDBACK, smooth};
use crate::codec::{av1, h264, vp8, vp9};
use crate::ids::{MediaKind, TrackId};
use crate::rtp::{ExtensionIds, ExtensionValues, rtx};
use crate::sfu::Codec;

impl Session {
    /// Accepts a track, or changes its parameters; whether it is new.
    pub(in crate::sfu) fn receive(
        &mut self,
        parameters: ReceiveParameters,
        limit: usize,
    ) -> Result<bool, CommandError> {
        self.extensions = merged(self.extensions, parameters.extensions);
        if let Some(place) = self.place_of(parameters.track) {
            if let Some(received) = &mut self.received[place] {
                received.update(parameters);
            }
            self.index_sources(place);
            return Ok(false);
        }
        if self.received.iter().flatten().count() >= limit {
            return Err(CommandError::TooManyTracks);
        }
        let place = self
            .received
            .iter()
            .position(Option::is_none)
            .unwrap_or_else(|| {
                self.received.push(None);
                self.received.len() - 1
            });
        self.received[place] = Some(Received::new(parameters));
        self.index_sources(place);
        Ok(true)
    }

    /// Enters the SSRCs that the description named.
    fn index_sources(&mut self, place: usize) {
        self.streams.retain(|stream| stream.place != place);
        let Some(received) = &self.received[place] else {
            return;
        };
        for (layer, source) in (0..).zip(&received.sources) {
            for (ssrc, rtx) in [(source.ssrc, false), (source.rtx_ssrc, true)] {
                if let Some(ssrc) = ssrc {
                    self.streams.retain(|stream| stream.ssrc != ssrc);
                    self.streams.push(Stream {
                        ssrc,
                        place,
                        role: Role { layer, rtx },
                    });
                }
            }
        }
    }

    pub(in crate::sfu) fn stop_receive(&mut self, track: TrackId) -> Option<Received> {
        let place = self.place_of(track)?;
        if let Some(srtp) = &mut self.srtp {
            for stream in self.streams.iter().filter(|stream| stream.place == place) {
                srtp.forget(stream.ssrc);
            }
        }
        self.streams.retain(|stream| stream.place != place);
        self.received[place].take()
    }

    fn place_of(&self, track: TrackId) -> Option<usize> {
        self.received.iter().position(|received| {
            received
                .as_ref()
                .is_some_and(|r| r.parameters.track == track)
        })
    }

    pub(in crate::sfu) fn received_mut(&mut self, track: TrackId) -> Option<&mut Received> {
        self.received
            .iter_mut()
            .flatten()
            .find(|received| received.parameters.track == track)
    }

    /// Somebody needs a key frame of a track this peer sends.
    pub(in crate::sfu) fn want_key_frame(&mut self, now: Instant, track: TrackId, layer: Layer) {
        let Some(received) = self.received_mut(track) else {
            return;
        };
        if received.parameters.kind == MediaKind::Audio || received.muted {
            return;
        }
        if let Some(layer) = received.nearest(layer) {
            let request = &mut received.sources[usize::from(layer)].key_frame;
            request.want();
            let at = request.deadline().unwrap_or(now);
            self.wake_by(at.max(now));
        }
    }

    /// Takes in one SRTP packet; what there is to forward of it.
    pub(in crate::sfu) fn ingest(
        &mut self,
        now: Instant,
        datagram: &mut [u8],
        shared: &mut Shared,
    ) -> Result<Option<Arc<Packet>>, DropReason> {
        let srtp = self.srtp.as_mut().ok_or(DropReason::NoKeys)?;
        let plain = srtp.unprotect_rtp(datagram)?;
        let packet = &datagram[..plain.len];
        let mut header = plain.header;
        let values = ExtensionValues::read(&header, packet, &self.extensions);
        if let Some(sequence) = values.transport_sequence {
            self.arrivals.insert(sequence, now);
            if self.feedback_due.is_none() {
                self.feedback_due = Some(now + TRANSPORT_FEEDBACK);
                self.wake_by(now + TRANSPORT_FEEDBACK);
            }
        }
        let known = self
            .streams
            .iter()
            .find(|stream| stream.ssrc == header.ssrc)
            .copied();
        let stream = match known {
            Some(stream) => stream,
            None => self.learn(&header, &values, shared.limits.streams)?,
        };
        let Stream { place, role, .. } = stream;
        let received = self.received[place]
            .as_mut()
            .ok_or(DropReason::UnknownStream)?;
        let parameters = &received.parameters;
        let rate = parameters.clock_rate;
        let source = &mut received.sources[usize::from(role.layer)];

        let (sequence, arrival) = if role.rtx {
            let (Some(ssrc), Some(reception)) = (source.ssrc, &mut source.reception) else {
                // A retransmission of what never came by itself: nothing to place it by.
                return Err(DropReason::UnknownStream);
            };
            if Some(header.payload_type) != parameters.rtx_payload_type {
                return Err(DropReason::PayloadType);
            }
            header = rtx::decapsulate(&header, packet, ssrc, parameters.payload_type)
                .map_err(|_| DropReason::Probe)?;
            let sequence = reception
                .extend(header.sequence)
                .ok_or(DropReason::Duplicate)?;
            // It repairs what was missing; it cannot be the newest.
            if !reception.is_late(sequence) {
                return Err(DropReason::Duplicate);
            }
            (sequence, reception.repaired(now, sequence))
        } else {
            if header.payload_type != parameters.payload_type {
                return Err(DropReason::PayloadType);
            }
            let reception = source
                .reception
                .get_or_insert_with(|| Reception::new(now, plain.index, header.timestamp));
            let bytes = header.payload_len();
            (
                plain.index,
                reception.arrive(now, plain.index, header.timestamp, bytes, rate),
            )
        };
        let reception = source.reception.as_ref().expect("it was just noted");
        match arrival {
            Arrival::InOrder => {
                if parameters.kind == MediaKind::Video
                    && let Some(at) = reception.missing.deadline(self.rtt.unwrap_or(RTT))
                {
                    self.wake = self.wake.min(at);
                }
            }
            Arrival::AfterBreak => {
                source.key_frame.want();
                self.wake = self.wake.min(now);
            }
            Arrival::Late { answer } => {
                shared.counters.recovered += 1;
                if let Some(answer) = answer.filter(|_| role.rtx) {
                    self.rtt = Some(smooth(self.rtt, answer));
                }
            }
            Arrival::Unwanted => return Err(DropReason::Duplicate),
        }

        let payload = header.payload(packet);
        let in_order = matches!(arrival, Arrival::InOrder | Arrival::AfterBreak);
        let key_frame = starts_key_frame(parameters.codec, payload);
        if key_frame && in_order {
            source.key_frame.arrived();
        }
        if let Some(level) = values.audio_level.filter(|_| !received.muted) {
            received.loudness.note(now, level);
        }
        if received.seen & (1 << role.layer) == 0 {
            received.seen |= 1 << role.layer;
            shared.events.push_back(Event::TrackActive {
                session: self.id,
                track: parameters.track,
                mid: parameters.mid,
                codec: parameters.codec,
                layers: received.seen,
            });
        }
        if received.muted {
            return Err(DropReason::Muted);
        }
        let is_vp8 = parameters.codec == Codec::Vp8;
        let descriptor = Descriptor {
            track: parameters.track,
            layer: role.layer,
            codec: parameters.codec,
            marker: header.marker,
            key_frame,
            in_order,
            epoch: source.epoch,
            vp8: if is_vp8 {
                vp8::Vp8Descriptor::parse(payload)
            } else {
                None
            },
            audio_level: values.audio_level,
            sequence,
            timestamp: header.timestamp,
            arrival: now,
            clock: reception.clock,
        };
        shared.counters.received += 1;
        shared.counters.received_bytes += payload.len() as u64;
        let packet = shared
            .pool
            .packet(descriptor, payload)
            .ok_or(DropReason::Oversize)?;
        Ok(Some(packet))
    }

    /// Finds out what a new SSRC stands for.
    fn learn(
        &mut self,
        header: &crate::rtp::RtpHeader,
        values: &ExtensionValues,
        limit: usize,
    ) -> Result<Stream, DropReason> {
        let ssrc = header.ssrc;
        let mut roles = self
            .received
            .iter()
            .enumerate()
            .filter_map(|(place, received)| {
                Some((place, received.as_ref()?.role(header, values)?))
            });
        let found = roles.next();
        // Without a media section's name two tracks with one payload type cannot be told apart.
        let ambiguous = values.mid.is_none() && roles.next().is_some();
        let Some((place, role)) = found.filter(|_| !ambiguous) else {
            // Otherwise each forged-looking stream of an honest peer would hold a replay window.
            if let Some(srtp) = &mut self.srtp {
                srtp.forget(ssrc);
            }
            return Err(DropReason::UnknownStream);
        };
        let received = self.received[place].as_mut().expect("it has a role");
        let source = &mut received.sources[usize::from(role.layer)];
        let before = if role.rtx {
            source.rtx_ssrc.replace(ssrc)
        } else {
            source.restart();
            source.ssrc.replace(ssrc)
        };
        if let Some(before) = before {
            self.streams.retain(|stream| stream.ssrc != before);
            if let Some(srtp) = &mut self.srtp {
                srtp.forget(before);
            }
        }
        if self.streams.len() >= limit {
            return Err(DropReason::TooManyStreams);
        }
        let stream = Stream { ssrc, place, role };
        self.streams.push(stream);
        Ok(stream)
    }
}

/// The ids of all sections together: within a bundle one id means one extension (RFC 8843
/// §9.1), but a section lists those it uses only.
fn merged(before: ExtensionIds, section: ExtensionIds) -> ExtensionIds {
    ExtensionIds {
        audio_level: section.audio_level.or(before.audio_level),
        mid: section.mid.or(before.mid),
        rid: section.rid.or(before.rid),
        repaired_rid: section.repaired_rid.or(before.repaired_rid),
        abs_send_time: section.abs_send_time.or(before.abs_send_time),
        transport_cc: section.transport_cc.or(before.transport_cc),
    }
}

fn starts_key_frame(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Vp8 => vp8::starts_key_frame(payload),
        Codec::Vp9 => vp9::starts_key_frame(payload),
        Codec::H264 => h264::starts_key_frame(payload),
        Codec::Av1 => av1::starts_key_frame(payload),
        Codec::Opus | Codec::G722 | Codec::Pcma | Codec::Pcmu => false,
    }
}
