//! The SCTP association inside DTLS and the data channels on it (RFC 8831).
//!
//! Always waits for the peer's INIT: the DTLS client of every WebRTC implementation sends one.
//! Opens channels on odd streams, as the DTLS server must (RFC 8832 §6).

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sctp_proto::{
    Association, AssociationHandle, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Ppid, ReliabilityType, ServerConfig, StreamEvent, StreamId,
    TransportConfig as SctpConfig,
};

use super::dcep::{Limit, Message, Reliability};
use super::{DataChannel, DataChannelPolicy, SendDataError};

/// The association knows no addresses: the path below it changes without its notice.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

/// User bytes in one DATA chunk: SCTP adds 28 and DTLS 37, so a datagram stays below 1,200.
const CHUNK: u32 = 1120;

/// Bytes of received messages held for reassembly, which is also the window we announce.
const RECEIVE_BUFFER: u32 = 256 * 1024;

/// Streams a peer may use. LiveKit clients use three; each costs some hundred bytes.
const MAX_STREAMS: usize = 32;

/// Retransmission timeouts in ms. Lower recovers sooner from loss, higher spares slow links
/// (RFC 9260 §16 says 1,000; libwebrtc uses 400).
const RTO_INITIAL: u64 = 500;
const RTO_MIN: u64 = 300;
const RTO_MAX: u64 = 5_000;

pub(super) struct Sctp {
    policy: DataChannelPolicy,
    max_message_size: usize,
    max_queued: usize,
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    is_established: bool,
    /// Of the INIT that began the association.
    initiate_tag: Option<u32>,
    streams: Vec<ChannelStream>,
    /// What the association calls for; drained by the owner.
    pub(super) outputs: VecDeque<SctpOutput>,
}

/// A stream that carries a channel we serve.
#[derive(Debug)]
struct ChannelStream {
    id: StreamId,
    channel: DataChannel,
    is_open: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum SctpOutput {
    Packet(Bytes),
    Open(DataChannel),
    Data(DataChannel, Bytes),
}

impl Sctp {
    pub(super) fn new(
        policy: DataChannelPolicy,
        max_message_size: usize,
        max_queued: usize,
    ) -> Self {
        Self {
            policy,
            max_message_size,
            max_queued,
            endpoint: endpoint(max_message_size),
            association: None,
            is_established: false,
            initiate_tag: None,
            streams: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    pub(super) fn handle(&mut self, now: Instant, packet: Bytes) {
        if self.policy == DataChannelPolicy::None {
            return;
        }
        if let Some(tag) = initiate_tag(&packet) {
            if self.initiate_tag != Some(tag) {
                // A new association replaces the old one and its endpoint, which would
                // otherwise remember every INIT a peer ever sent.
                self.forget_association();
                self.endpoint = endpoint(self.max_message_size);
                self.initiate_tag = Some(tag);
            } else if self.is_established {
                // A late copy of the first INIT (RFC 9260 §5.2.2): `sctp-proto` would close.
                return;
            }
        }
        match self.endpoint.handle(now, PEER, None, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(association))) => {
                self.association = Some((handle, association));
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                if let Some((known, association)) = &mut self.association
                    && *known == handle
                {
                    association.handle_event(event);
                }
            }
            None => {}
        }
        self.drain(now);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            if let Some((_, association)) = &mut self.association {
                association.handle_timeout(now);
            }
            self.drain(now);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.association
            .as_ref()
            .and_then(|(_, association)| association.poll_timeout())
    }

    pub(super) fn send(
        &mut self,
        now: Instant,
        channel: DataChannel,
        payload: &[u8],
    ) -> Result<(), SendDataError> {
        if payload.len() > self.max_message_size {
            let (size, limit) = (payload.len(), self.max_message_size);
            return Err(SendDataError::TooLarge { size, limit });
        }
        let stream = self
            .streams
            .iter()
            .find(|stream| stream.channel == channel && stream.is_open)
            .ok_or(SendDataError::NotOpen)?;
        let Some((_, association)) = &mut self.association else {
            return Err(SendDataError::NotOpen);
        };
        let mut stream = association
            .stream(stream.id)
            .map_err(|_| SendDataError::NotOpen)?;
        let queued = stream
            .buffered_amount()
            .map_err(|_| SendDataError::NotOpen)?;
        let limit = match channel {
            DataChannel::Reliable => self.max_queued,
            // What is late is worthless: a short queue drops it here instead of delivering it late.
            DataChannel::Lossy | DataChannel::DataTrack => {
                (self.max_queued / 8).max(self.max_message_size)
            }
        };
        if queued + payload.len() > limit {
            return Err(SendDataError::QueueFull);
        }
        // An empty message is one zero byte under its own identifier (RFC 8831 §6.6).
        let (bytes, ppid) = if payload.is_empty() {
            (&[0][..], Ppid::BinaryEmpty)
        } else {
            (payload, Ppid::Binary)
        };
        stream
            .write_with_ppi(bytes, ppid)
            .map_err(|_| SendDataError::NotOpen)?;
        self.drain(now);
        Ok(())
    }

    /// Aborts the association, telling the peer.
    pub(super) fn close(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            let _ = association.close();
            while let Some(transmit) = association.poll_transmit(now) {
                self.outputs
                    .extend(packets(transmit.payload).map(SctpOutput::Packet));
            }
        }
        self.forget_association();
    }

    /// Ready for a new INIT.
    fn forget_association(&mut self) {
        self.association = None;
        self.is_established = false;
        self.initiate_tag = None;
        self.streams.clear();
    }

    fn drain(&mut self, now: Instant) {
        let mut is_lost = false;
        while let Some((_, association)) = &mut self.association {
            let Some(event) = association.poll() else {
                break;
            };
            match event {
                Event::Connected => self.handle_established(),
                Event::AssociationLost { .. } | Event::HandshakeFailed { .. } => is_lost = true,
                Event::Stream(StreamEvent::Opened { id }) => {
                    // The id comes again as Readable; accepting only empties the queue.
                    let _ = association.accept_stream();
                    self.read(id);
                }
                Event::Stream(StreamEvent::Readable { id }) => self.read(id),
                Event::Stream(StreamEvent::Finished { id } | StreamEvent::Stopped { id, .. }) => {
                    self.streams.retain(|stream| stream.id != id);
                }
                _ => {}
            }
        }
        if let Some((_, association)) = &mut self.association {
            if association.stream_ids().len() > MAX_STREAMS {
                let _ = association.close();
                is_lost = true;
            }
            while let Some(transmit) = association.poll_transmit(now) {
                self.outputs
                    .extend(packets(transmit.payload).map(SctpOutput::Packet));
            }
            if is_lost {
                self.forget_association();
            }
        }
    }

    fn handle_established(&mut self) {
        if std::mem::replace(&mut self.is_established, true)
            || self.policy != DataChannelPolicy::Open
        {
            return;
        }
        let Some((_, association)) = &mut self.association else {
            return;
        };
        for (id, channel) in (1..).step_by(2).zip(DataChannel::ALL) {
            let reliability = reliability_of(channel);
            let open = Message::Open {
                reliability,
                label: channel.label().as_bytes(),
            }
            .write();
            if let Ok(mut stream) = association.open_stream(id, Ppid::Binary)
                && stream.write_with_ppi(&open, Ppid::Dcep).is_ok()
            {
                apply(&mut stream, reliability);
                self.streams.push(ChannelStream {
                    id,
                    channel,
                    is_open: false,
                });
            }
        }
    }

    fn read(&mut self, id: StreamId) {
        loop {
            let Some((_, association)) = &mut self.association else {
                return;
            };
            let Ok(mut stream) = association.stream(id) else {
                return;
            };
            let Ok(Some(chunks)) = stream.read_sctp() else {
                return;
            };
            let mut message = vec![0; chunks.len()];
            if chunks.read(&mut message).is_err() {
                return;
            }
            match chunks.ppi {
                Ppid::Dcep => self.handle_dcep(id, &message),
                Ppid::Binary | Ppid::String => self.deliver(id, message.into()),
                Ppid::BinaryEmpty | Ppid::StringEmpty => self.deliver(id, Bytes::new()),
                Ppid::Unknown => {}
            }
        }
    }

    fn deliver(&mut self, id: StreamId, payload: Bytes) {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) else {
            return;
        };
        let channel = stream.channel;
        // A message may overtake the acknowledgement (RFC 8832 §6).
        if !std::mem::replace(&mut stream.is_open, true) {
            self.outputs.push_back(SctpOutput::Open(channel));
        }
        self.outputs.push_back(SctpOutput::Data(channel, payload));
    }

    fn handle_dcep(&mut self, id: StreamId, message: &[u8]) {
        let Some((_, association)) = &mut self.association else {
            return;
        };
        match Message::parse(message) {
            Some(Message::Ack) => {
                if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id)
                    && !std::mem::replace(&mut stream.is_open, true)
                {
                    self.outputs.push_back(SctpOutput::Open(stream.channel));
                }
            }
            Some(Message::Open { reliability, label }) => {
                let Ok(mut stream) = association.stream(id) else {
                    return;
                };
                let is_known_stream = self.streams.iter().any(|stream| stream.id == id);
                match DataChannel::from_label(label) {
                    Some(channel) if !is_known_stream => {
                        if stream
                            .write_with_ppi(&Message::Ack.write(), Ppid::Dcep)
                            .is_ok()
                        {
                            apply(&mut stream, reliability);
                            self.streams.push(ChannelStream {
                                id,
                                channel,
                                is_open: true,
                            });
                            self.outputs.push_back(SctpOutput::Open(channel));
                        }
                    }
                    // A repeated OPEN changes nothing.
                    Some(_) => {}
                    None => {
                        let _ = stream.close();
                    }
                }
            }
            None => {
                // RFC 8832 §6: a malformed message closes the channel.
                self.streams.retain(|stream| stream.id != id);
                if let Ok(mut stream) = association.stream(id) {
                    let _ = stream.close();
                }
            }
        }
    }
}

fn endpoint(max_message_size: usize) -> Endpoint {
    let limit = u32::try_from(max_message_size).unwrap_or(u32::MAX);
    let transport = SctpConfig::default()
        .with_max_receive_buffer_size(RECEIVE_BUFFER.max(limit.saturating_mul(2)))
        .with_max_send_message_size(limit)
        .with_max_receive_message_size(limit)
        .with_rto_initial_ms(RTO_INITIAL)
        .with_rto_min_ms(RTO_MIN)
        .with_rto_max_ms(RTO_MAX);
    let mut server = ServerConfig::new();
    server.transport = Arc::new(transport);
    let mut config = EndpointConfig::new();
    config.max_payload_size(CHUNK);
    Endpoint::new(Arc::new(config), Some(Arc::new(server)))
}

/// The initiate tag of a packet whose first chunk is INIT (RFC 9260 §3.3.2).
fn initiate_tag(packet: &[u8]) -> Option<u32> {
    const INIT: u8 = 1;
    let tag = packet.get(16..20)?;
    (packet[12] == INIT).then(|| u32::from_be_bytes([tag[0], tag[1], tag[2], tag[3]]))
}

fn packets(payload: Payload) -> impl Iterator<Item = Bytes> {
    match payload {
        Payload::RawEncode(packets) => packets,
        Payload::PartialDecode(_) => Vec::new(),
    }
    .into_iter()
}

fn reliability_of(channel: DataChannel) -> Reliability {
    match channel {
        DataChannel::Reliable => Reliability {
            unordered: false,
            limit: Limit::Never,
        },
        DataChannel::Lossy | DataChannel::DataTrack => Reliability {
            unordered: true,
            limit: Limit::Retransmissions(0),
        },
    }
}

fn apply(stream: &mut sctp_proto::Stream<'_>, reliability: Reliability) {
    let (kind, value) = match reliability.limit {
        Limit::Never => (ReliabilityType::Reliable, 0),
        Limit::Retransmissions(count) => (ReliabilityType::Rexmit, count),
        Limit::Milliseconds(time) => (ReliabilityType::Timed, time),
    };
    let _ = stream.set_reliability_params(reliability.unordered, kind, value);
}
