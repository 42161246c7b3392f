//! [`WebRtcTransport`]: the three protocols joined.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::certificate::Certificate;
use super::dtls::{DtlsOutput, DtlsServer};
use super::ice::IceLite;
use super::sctp::{Sctp, SctpOutput};
use super::{
    CloseReason, DataChannel, DatagramKind, DatagramRefusal, IceCredentials, RemoteParameters,
    SendDataError, Transport, TransportConfig, TransportEvent, TransportOutput, classify,
};

/// The server's end of one WebRTC peer connection: ICE-lite, DTLS 1.2 passive, SCTP.
///
/// Memory: about 12 KiB idle after its handshake, plus what data channels queue.
pub struct WebRtcTransport {
    ice: IceLite,
    dtls: DtlsServer,
    sctp: Sctp,
    outputs: VecDeque<TransportOutput>,
    is_closed: bool,
}

impl WebRtcTransport {
    /// A transport whose peer has [`TransportConfig::ice_timeout`] for its first check.
    pub fn new(now: Instant, certificate: Certificate, config: TransportConfig) -> Self {
        Self {
            ice: IceLite::new(now, config.local, config.ice_timeout),
            dtls: DtlsServer::new(certificate),
            sctp: Sctp::new(config.data, config.max_message_size, config.max_queued),
            outputs: VecDeque::new(),
            is_closed: false,
        }
    }

    fn handle_stun(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), DatagramRefusal> {
        let answer = self.ice.handle(now, from, datagram)?;
        self.outputs.push_back(TransportOutput::Datagram {
            to: from,
            bytes: answer.bytes.into(),
        });
        if let Some(remote) = answer.selected {
            self.event(TransportEvent::IceConnected { remote });
        }
        Ok(())
    }

    fn event(&mut self, event: TransportEvent) {
        self.outputs.push_back(TransportOutput::Event(event));
    }

    /// Carries what one protocol wants from the next until all are quiet.
    fn settle(&mut self, now: Instant) {
        loop {
            if let Some(output) = self.dtls.outputs.pop_front() {
                match output {
                    DtlsOutput::Datagram(bytes) => self.send(bytes),
                    DtlsOutput::Connected(keying, profile) => {
                        self.event(TransportEvent::DtlsConnected { keying, profile });
                    }
                    DtlsOutput::Application(packet) => self.sctp.handle(now, packet),
                    DtlsOutput::Closed(reason) => self.end(reason),
                }
            } else if let Some(output) = self.sctp.outputs.pop_front() {
                match output {
                    SctpOutput::Packet(packet) => self.dtls.send(now, &packet),
                    SctpOutput::Open(channel) => self.event(TransportEvent::DataOpen(channel)),
                    SctpOutput::Data(channel, payload) => {
                        self.event(TransportEvent::Data { channel, payload });
                    }
                }
            } else {
                return;
            }
        }
    }

    /// Sends to the selected address; a datagram without one is lost like any other.
    fn send(&mut self, bytes: Bytes) {
        if let Some(to) = self.ice.selected() {
            self.outputs
                .push_back(TransportOutput::Datagram { to, bytes });
        }
    }

    fn end(&mut self, reason: CloseReason) {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.event(TransportEvent::Closed(reason));
        }
    }
}

impl Transport for WebRtcTransport {
    fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        _to: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), DatagramRefusal> {
        if self.is_closed {
            return Err(DatagramRefusal::Closed);
        }
        match classify(datagram) {
            DatagramKind::Stun => self.handle_stun(now, from, datagram),
            DatagramKind::Dtls if !self.ice.is_valid(from) => {
                Err(DatagramRefusal::DtlsUnknownAddress)
            }
            DatagramKind::Dtls => {
                let outcome = self.dtls.handle(now, datagram);
                self.settle(now);
                outcome
            }
            DatagramKind::Rtp | DatagramKind::Rtcp | DatagramKind::Other => {
                Err(DatagramRefusal::NotTransport)
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.is_closed {
            return;
        }
        self.dtls.handle_timeout(now);
        self.sctp.handle_timeout(now);
        self.settle(now);
        if !self.is_closed && self.ice.is_timed_out(now) {
            self.dtls.close();
            self.dtls.outputs.clear();
            self.end(CloseReason::IceTimeout);
        }
    }

    fn poll(&mut self) -> Option<TransportOutput> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        if self.is_closed {
            return None;
        }
        [
            Some(self.ice.deadline()),
            self.dtls.deadline(),
            self.sctp.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn set_remote(&mut self, now: Instant, remote: RemoteParameters) {
        if !self.is_closed {
            self.ice.set_remote(&remote.ice);
            self.dtls.set_fingerprint(remote.fingerprint);
            self.settle(now);
        }
    }

    fn restart_ice(&mut self, now: Instant, local: IceCredentials, remote: Option<IceCredentials>) {
        self.ice.restart(now, local, remote.as_ref());
    }

    fn send_data(
        &mut self,
        now: Instant,
        channel: DataChannel,
        payload: &[u8],
    ) -> Result<(), SendDataError> {
        if self.is_closed || !self.dtls.is_connected() {
            return Err(SendDataError::NotOpen);
        }
        let outcome = self.sctp.send(now, channel, payload);
        self.settle(now);
        outcome
    }

    fn remote(&self) -> Option<SocketAddr> {
        self.ice.selected()
    }

    fn close(&mut self, now: Instant) {
        if self.is_closed {
            return;
        }
        self.sctp.close(now);
        self.settle(now);
        self.dtls.close();
        self.settle(now);
        self.end(CloseReason::Local);
    }
}

#[cfg(test)]
mod tests;
