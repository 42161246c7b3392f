//! One peer connection: transport, keys, timers; tracks received are `uplink`, tracks sent
//! `downlink`, RTCP `reports`.
//!
//! Everything is addressed by SSRC, never by searching media sections. Which session gets a
//! datagram and which subscriptions a packet is the router's business.

mod downlink;
mod reports;
mod uplink;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::clock::PeerClock;
use super::command::Event;
use super::egress::Egress;
use super::forward::Subscription;
use super::received::{Received, Role};
use super::router::Shared;
use crate::ids::SessionId;
use crate::rtp::ExtensionIds;
use crate::rtp::twcc::Arrivals;
use crate::srtp::{self, SrtpReceiver};
use crate::transport::{CloseReason, Transport, TransportEvent, TransportOutput};

/// How often transport-wide feedback is sent while packets arrive. A lower value lets the
/// sender's estimator react sooner at one packet each.
const TRANSPORT_FEEDBACK: Duration = Duration::from_millis(60);

/// How often sender and receiver reports are sent.
const REPORTS: Duration = Duration::from_secs(1);

/// Round trip assumed until one is measured.
const RTT: Duration = Duration::from_millis(80);

/// Packets sent longer ago than this are not kept for sending again.
const HISTORY: Duration = Duration::from_secs(3);

/// Addresses one peer may be reached from at a time (candidates of one browser, old and new).
const ADDRESSES: usize = 8;

/// One peer connection.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) transport: Box<dyn Transport + Send>,
    pub(super) egress: Egress,
    srtp: Option<SrtpReceiver>,
    /// Addresses that passed a check with this session's password, oldest first.
    pub(super) addresses: Vec<SocketAddr>,
    /// Names under which checks find this session: the current one and those before a restart.
    pub(super) ufrags: Vec<String>,
    /// Tracks the peer sends.
    pub(super) received: Vec<Option<Received>>,
    streams: Vec<Stream>,
    extensions: ExtensionIds,
    arrivals: Arrivals,
    feedback_due: Option<Instant>,
    clock: PeerClock,
    /// Tracks the peer gets.
    pub(super) sent: Vec<Option<Subscription>>,
    /// From an SSRC we send under to its place in `sent`.
    sent_by_ssrc: HashMap<u32, usize>,
    rtt: Option<Duration>,
    reports_due: Instant,
    quality_due: Instant,
    /// When something is next due; never later than that.
    pub(super) wake: Instant,
    pub(super) closed: Option<CloseReason>,
}

/// What an SSRC we receive stands for.
#[derive(Clone, Copy, Debug)]
struct Stream {
    ssrc: u32,
    place: usize,
    role: Role,
}

impl Session {
    pub(super) fn new(
        now: Instant,
        id: SessionId,
        ufrag: String,
        transport: Box<dyn Transport + Send>,
    ) -> Self {
        Session {
            id,
            transport,
            egress: Egress::new(now),
            srtp: None,
            addresses: Vec::new(),
            ufrags: vec![ufrag],
            received: Vec::new(),
            streams: Vec::new(),
            extensions: ExtensionIds::default(),
            arrivals: Arrivals::new(now),
            feedback_due: None,
            clock: PeerClock::default(),
            sent: Vec::new(),
            sent_by_ssrc: HashMap::new(),
            rtt: None,
            reports_due: now + REPORTS,
            quality_due: now + super::QUALITY_INTERVAL,
            wake: now,
            closed: None,
        }
    }

    pub(super) fn wake_by(&mut self, at: Instant) {
        self.wake = self.wake.min(at);
    }

    /// Remembers that `address` belongs to this peer; the one it replaces, if any.
    pub(super) fn add_address(&mut self, address: SocketAddr) -> Option<SocketAddr> {
        if self.addresses.contains(&address) {
            return None;
        }
        self.addresses.push(address);
        if self.addresses.len() <= ADDRESSES {
            return None;
        }
        let in_use = self.transport.remote();
        let oldest = self
            .addresses
            .iter()
            .position(|address| Some(*address) != in_use);
        oldest.map(|oldest| self.addresses.remove(oldest))
    }

    /// Takes everything the transport has to say.
    pub(super) fn poll_transport(&mut self, now: Instant, shared: &mut Shared) {
        while let Some(output) = self.transport.poll() {
            match output {
                TransportOutput::Datagram { to, bytes } => {
                    self.egress.datagram(&mut shared.trains, to, &bytes);
                }
                TransportOutput::Event(event) => self.transport_event(now, event, shared),
            }
        }
        if let Some(deadline) = self.transport.deadline() {
            self.wake_by(deadline);
        }
    }

    fn transport_event(&mut self, now: Instant, event: TransportEvent, shared: &mut Shared) {
        let session = self.id;
        match event {
            TransportEvent::IceConnected { remote } => self.egress.set_destination(remote),
            TransportEvent::DtlsConnected { keying, profile } => {
                let (sender, receiver) =
                    srtp::contexts(profile, &keying).expect("keying is the profile's");
                self.egress.set_keys(sender);
                self.srtp = Some(receiver);
                self.reports_due = now + REPORTS;
                shared
                    .events
                    .push_back(Event::Connected { session, profile });
            }
            TransportEvent::DataOpen(channel) => {
                shared
                    .events
                    .push_back(Event::DataOpen { session, channel });
            }
            TransportEvent::Data { channel, payload } => {
                shared.events.push_back(Event::Data {
                    session,
                    channel,
                    payload,
                });
            }
            TransportEvent::Closed(reason) => self.closed = Some(reason),
        }
    }

    /// Does everything that is due, and sets the next [`Self::wake`].
    pub(super) fn run(&mut self, now: Instant, shared: &mut Shared) {
        if self.transport.deadline().is_some_and(|at| at <= now) {
            self.transport.handle_timeout(now);
        }
        self.poll_transport(now, shared);
        if self.srtp.is_some() {
            self.feedback(now, shared);
        }
        if now >= self.quality_due {
            self.quality_due = now + super::QUALITY_INTERVAL;
            let quality = self.quality();
            shared.events.push_back(Event::Quality(quality));
        }
        let rtt = self.rtt.unwrap_or(RTT);
        let tracks = self
            .received
            .iter()
            .flatten()
            .filter_map(|r| r.deadline(rtt))
            .min();
        let deadlines = [
            self.transport.deadline(),
            self.srtp.is_some().then_some(self.reports_due),
            Some(self.quality_due),
            self.feedback_due,
            tracks,
        ];
        let next = deadlines
            .into_iter()
            .flatten()
            .min()
            .expect("quality is always due");
        // A deadline in the past would spin: what was due has just been done.
        self.wake = next.max(now + Duration::from_millis(1));
    }
}

/// RFC 6298 §2 in spirit: an eighth of each new sample.
fn smooth(before: Option<Duration>, sample: Duration) -> Duration {
    match before {
        None => sample,
        Some(before) => (before * 7 + sample) / 8,
    }
}
