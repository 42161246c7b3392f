//! Data packets: from one participant to those it names, or to all.

use bytes::Bytes;
use palabre_media::sfu::Command;
use palabre_media::transport::DataChannel;
use prost::Message as _;

use super::Room;
use super::context::{Cx, ParticipantKey};
use super::packet::{PacketError, patch};
use super::participant::Participant;
use crate::proto::{self, data_packet};

/// Largest data packet, in bytes; SDKs split streams below it.
const MAX_PACKET: usize = 64 * 1024;

impl Room {
    /// A packet came on a data channel of `key`.
    pub(crate) fn data(
        &mut self,
        key: ParticipantKey,
        channel: DataChannel,
        payload: &Bytes,
        cx: &mut Cx<'_>,
    ) {
        cx.counts.data_packets_total.add(1);
        if self.route(key, channel, payload, cx).is_err() {
            cx.counts.data_packets_dropped_total.add(1);
        }
    }

    fn route(
        &mut self,
        key: ParticipantKey,
        channel: DataChannel,
        payload: &Bytes,
        cx: &mut Cx<'_>,
    ) -> Result<(), PacketError> {
        let sender = self
            .participants
            .get_mut(&key)
            .ok_or(PacketError::Forbidden)?;
        if !sender.grants.can_publish_data
            || payload.len() > MAX_PACKET
            || channel == DataChannel::DataTrack
        {
            return Err(PacketError::Forbidden);
        }
        let patched = if sender.grants.hidden {
            patch(payload, "", "")?
        } else {
            patch(payload, &sender.grants.identity, &sender.sid)?
        };
        if channel == DataChannel::Reliable
            && patched.sequence > 0
            && let Some(client) = sender.client_mut()
        {
            // A resumed client sends again what it does not know arrived.
            if patched.sequence <= client.last_sequence {
                return Ok(());
            }
            client.last_sequence = patched.sequence;
        }
        if patched.destinations.is_empty() {
            for (other, participant) in &self.participants {
                if *other != key && (!patched.metrics || participant.grants.can_subscribe_metrics) {
                    deliver(participant, channel, &patched.bytes, cx);
                }
            }
        } else {
            let mut named: Vec<ParticipantKey> = patched
                .destinations
                .iter()
                .filter_map(|identity| self.identities.get(identity).copied())
                .collect();
            named.sort_unstable();
            named.dedup();
            for other in named {
                if let Some(participant) = self.participants.get(&other) {
                    deliver(participant, channel, &patched.bytes, cx);
                }
            }
        }
        Ok(())
    }

    /// A packet of the server itself (Twirp SendData).
    #[allow(deprecated)] // old clients read the kind and the sids
    pub(super) fn server_data(&mut self, request: &proto::SendDataRequest, cx: &mut Cx<'_>) {
        let packet = proto::DataPacket {
            kind: request.kind,
            destination_identities: request.destination_identities.clone(),
            value: Some(data_packet::Value::User(proto::UserPacket {
                payload: request.data.clone(),
                topic: request.topic.clone(),
                nonce: request.nonce.clone(),
                ..Default::default()
            })),
            ..Default::default()
        };
        let bytes = Bytes::from(packet.encode_to_vec());
        let channel = if request.kind() == data_packet::Kind::Lossy {
            DataChannel::Lossy
        } else {
            DataChannel::Reliable
        };
        let everybody =
            request.destination_identities.is_empty() && request.destination_sids.is_empty();
        for participant in self.participants.values() {
            let identity = &participant.grants.identity;
            if everybody
                || request.destination_identities.contains(identity)
                || request.destination_sids.contains(&participant.sid)
            {
                deliver(participant, channel, &bytes, cx);
            }
        }
    }
}

/// Hands a packet to the connection on which we send to this participant.
fn deliver(participant: &Participant, channel: DataChannel, bytes: &Bytes, cx: &mut Cx<'_>) {
    if let Some(client) = participant.client() {
        cx.media.command(
            client.subscriber.session,
            Command::SendData {
                channel,
                payload: bytes.clone(),
            },
        );
    }
}
