//! What the gateway needs of the rest of the program, as two small traits: rooms to look up, lines to open and seats to take.
//! [`EngineRooms`] is the real thing; tests bring their own.

use std::sync::Arc;
use std::time::Duration;

use palabre_engine::directory::{BoxFuture, RoomTicket};
use palabre_engine::door::{Door, Refusal, Source};
use palabre_engine::{
    Direction, Engine, Grants, JoinError, JoinRequest, Leg, LegCodec, LegError, LegEvent,
    LegIdentity, LegParameters, LegUpdate, Prompt, proto,
};
use tokio::sync::mpsc;

use crate::call::Found;
use crate::sip;

/// Identity under which is asked whether one more may come in. No caller has one so short: whoever is there already under it
/// would not be counted.
const CALLER: &str = "sip_";

/// Where calls go.
pub trait Rooms: Send + Sync + 'static {
    /// The sound of one call.
    type Line: Line;

    /// Asks the door for the room with this code.
    fn look_up(&self, source: Source, code: String) -> BoxFuture<'static, Result<Found, Refusal>>;

    /// Most lines open at once.
    fn lines(&self) -> usize;

    /// Opens a line on bound ports; its events come by the channel.
    fn open_line(&self, parameters: LegParameters) -> BoxFuture<'static, Opened<Self::Line>>;
}

/// A line and its events, or why there is none.
pub type Opened<L> = Result<(L, mpsc::Receiver<LegEvent>), LegError>;

/// The sound of one call. Dropping it leaves the room and closes the sockets.
pub trait Line: Send + Sync + 'static {
    /// Plays a sound instead of what plays.
    fn play(&self, sound: Prompt);
    /// Stops what plays.
    fn stop_playing(&self);
    /// Applies renegotiated media.
    fn update(&self, update: LegUpdate);
    /// Mutes or unmutes the caller's voice.
    fn set_muted(&self, muted: bool);
    /// Takes a seat in the room.
    fn join(
        &self,
        ticket: RoomTicket,
        identity: LegIdentity,
    ) -> BoxFuture<'static, Result<(), JoinError>>;
}

/// The engine's rooms behind the one door.
#[derive(Clone)]
pub struct EngineRooms {
    engine: Engine,
    door: Door,
}

impl EngineRooms {
    /// `door` is the one the page uses too, so that wrong tries count once.
    #[must_use]
    pub fn new(engine: Engine, door: Door) -> Self {
        Self { engine, door }
    }
}

impl Rooms for EngineRooms {
    type Line = EngineLine;

    fn look_up(&self, source: Source, code: String) -> BoxFuture<'static, Result<Found, Refusal>> {
        let Self { engine, door } = self.clone();
        Box::pin(async move {
            let ticket = door.open(source, &code).await?;
            let check = JoinRequest {
                room: ticket.room.clone(),
                grants: Grants {
                    identity: CALLER.to_owned(),
                    room: ticket.room.clone(),
                    room_join: true,
                    ..Grants::default()
                },
                opens_room: true,
                ..JoinRequest::default()
            };
            // Whatever else stands in the way is said by voice.
            let full = matches!(
                engine.check_join(check).await,
                Err(JoinError::RoomFull { .. })
            );
            Ok(Found { ticket, full })
        })
    }

    fn lines(&self) -> usize {
        self.engine.leg_limit()
    }

    fn open_line(&self, parameters: LegParameters) -> BoxFuture<'static, Opened<EngineLine>> {
        let engine = self.engine.clone();
        Box::pin(async move {
            let (leg, events) = engine.open_leg(parameters).await?;
            let leg = Arc::new(leg);
            Ok((EngineLine { leg, engine }, events))
        })
    }
}

/// A leg of the engine.
pub struct EngineLine {
    leg: Arc<Leg>,
    engine: Engine,
}

impl Line for EngineLine {
    fn play(&self, sound: Prompt) {
        self.leg.play(sound);
    }

    fn stop_playing(&self) {
        self.leg.stop_playing();
    }

    fn update(&self, update: LegUpdate) {
        self.leg.update(update);
    }

    fn set_muted(&self, muted: bool) {
        self.leg.set_muted(muted);
    }

    fn join(
        &self,
        ticket: RoomTicket,
        identity: LegIdentity,
    ) -> BoxFuture<'static, Result<(), JoinError>> {
        let (leg, engine) = (self.leg.clone(), self.engine.clone());
        Box::pin(async move {
            // Whoever comes first opens the room, be it a telephone. Opening an open room changes nothing.
            let request = proto::CreateRoomRequest {
                name: ticket.room.clone(),
                max_participants: ticket.max_participants.unwrap_or(0),
                ..Default::default()
            };
            if let Err(error) = engine.create_room(request).await {
                tracing::debug!(%error, "a call could not open its room");
            }
            leg.join(&ticket.room, identity).await
        })
    }
}

/// Negotiated media as the engine wants it.
#[must_use]
pub fn leg_parameters(
    media: &sip::Media,
    rtp: std::net::UdpSocket,
    rtcp: Option<std::net::UdpSocket>,
) -> LegParameters {
    LegParameters {
        rtp,
        // The engine answers where RTCP is expected: on the RTP port when the peer wants both there.
        rtcp: rtcp.filter(|_| !media.rtcp_mux),
        remote: known(media.remote),
        remote_rtcp: known(media.remote_rtcp).filter(|_| !media.rtcp_mux),
        codec: media.codec.into(),
        payload_type: media.payload_type,
        receive_payload_type: media.receive_payload_type,
        telephone_event: media
            .telephone_event
            .map(|t| (t.receive_payload_type, t.clock_rate)),
        packet_time: Duration::from_millis(media.ptime.into()),
        direction: direction(media.direction),
    }
}

/// Renegotiated media as a change of the line.
#[must_use]
pub fn leg_update(media: &sip::Media) -> LegUpdate {
    LegUpdate {
        remote: known(media.remote),
        remote_rtcp: known(media.remote_rtcp).filter(|_| !media.rtcp_mux),
        codec: Some((media.codec.into(), media.payload_type)),
        receive_payload_type: Some(media.receive_payload_type),
        packet_time: Some(Duration::from_millis(media.ptime.into())),
        telephone_event: Some(
            media
                .telephone_event
                .map(|t| (t.receive_payload_type, t.clock_rate)),
        ),
        direction: Some(direction(media.direction)),
    }
}

/// An old-style hold says "send to nowhere", which our own machine would take for itself. During a call the address before
/// it stays good for the resume.
fn known(address: std::net::SocketAddr) -> Option<std::net::SocketAddr> {
    (!address.ip().is_unspecified() && address.port() != 0).then_some(address)
}

impl From<sip::Codec> for LegCodec {
    fn from(codec: sip::Codec) -> Self {
        match codec {
            sip::Codec::Opus => Self::Opus,
            sip::Codec::G722 => Self::G722,
            sip::Codec::Pcma => Self::Pcma,
            sip::Codec::Pcmu => Self::Pcmu,
        }
    }
}

fn direction(direction: sip::Direction) -> Direction {
    match direction {
        sip::Direction::SendRecv => Direction::SendReceive,
        sip::Direction::SendOnly => Direction::SendOnly,
        sip::Direction::RecvOnly => Direction::ReceiveOnly,
        sip::Direction::Inactive => Direction::Inactive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palabre_engine::directory::{DirectoryError, RoomCode};
    use palabre_engine::door::Patience;
    use palabre_engine::{Directory, EngineConfig};

    const CODE: &str = "123456789";

    /// One room, without a limit of its own.
    struct Unlimited;

    impl Directory for Unlimited {
        fn room_by_code(
            &self,
            code: &RoomCode,
        ) -> BoxFuture<'_, Result<Option<RoomTicket>, DirectoryError>> {
            let ticket = RoomTicket {
                room: "room".into(),
                title: "Budget".into(),
                code: *code,
                max_participants: None,
            };
            Box::pin(async { Ok(Some(ticket)) })
        }
    }

    fn leg_on_loopback() -> LegParameters {
        let socket = || std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        LegParameters {
            rtp: socket(),
            rtcp: None,
            remote: socket().local_addr().ok(),
            remote_rtcp: None,
            codec: LegCodec::Pcma,
            payload_type: 8,
            receive_payload_type: 8,
            telephone_event: None,
            packet_time: Duration::from_millis(20),
            direction: Direction::SendReceive,
        }
    }

    #[tokio::test]
    async fn a_room_full_by_the_boxs_own_limit_is_full_before_the_answer() {
        let mut config = EngineConfig::default();
        config.media.bind = "127.0.0.1:0".parse().expect("an address");
        config.media.workers = Some(1);
        config.rooms.max_participants = 1;
        let engine = Engine::start(config, Arc::new(Unlimited)).expect("a free port");
        let door = Door::new(Arc::new(Unlimited), Patience::default());
        let rooms = EngineRooms::new(engine.clone(), door);
        let source = || Source::Address(std::net::IpAddr::from([192, 0, 2, 9]));
        let found = rooms.look_up(source(), CODE.into()).await.expect("a room");
        assert!(!found.full);
        let (line, _events) = rooms.open_line(leg_on_loopback()).await.expect("a line");
        let identity = LegIdentity {
            identity: "sip_1".into(),
            ..LegIdentity::default()
        };
        let joined = line.join(found.ticket, identity).await;
        assert_eq!(joined, Ok(()));
        let found = rooms.look_up(source(), CODE.into()).await.expect("a room");
        assert!(found.full);
        drop(line);
        engine.shutdown().await;
    }

    #[test]
    fn a_call_that_comes_in_on_hold_has_no_address() {
        let text = "v=0\r\no=- 1 1 IN IP4 203.0.113.5\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
                    m=audio 5000 RTP/AVP 8\r\n";
        let mut session = sip::sdp::Session::new(7);
        session.set_local(sip::LocalMedia {
            rtp: "192.0.2.1:40000".parse().expect("an address"),
            rtcp_port: Some(40_001),
        });
        let peer = std::net::IpAddr::from([203, 0, 113, 5]);
        let answer = session.answer(text.as_bytes(), &sip::MediaPolicy::default(), peer);
        let (_, media) = answer.expect("PCMA is known");
        let socket = || std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let leg = leg_parameters(&media, socket(), Some(socket()));
        assert_eq!((leg.remote, leg.remote_rtcp), (None, None));
        assert_eq!(leg.direction, Direction::ReceiveOnly);
    }

    #[test]
    fn each_direction_gets_its_number_and_packets_the_peers_length() {
        let text = "v=0\r\no=- 1 1 IN IP4 203.0.113.5\r\ns=-\r\nc=IN IP4 203.0.113.5\r\nt=0 0\r\n\
                    m=audio 5000 RTP/AVP 97 98\r\na=rtpmap:97 opus/48000/2\r\n\
                    a=rtpmap:98 telephone-event/48000\r\na=ptime:40\r\n";
        let mut session = sip::sdp::Session::new(7);
        session.set_local(sip::LocalMedia {
            rtp: "192.0.2.1:40000".parse().expect("an address"),
            rtcp_port: None,
        });
        let policy = sip::MediaPolicy::default();
        session.offer(&policy);
        let peer = std::net::IpAddr::from([203, 0, 113, 5]);
        let media = session.accept(text.as_bytes(), &policy, peer);
        let media = media.expect("both have Opus");
        let rtp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let leg = leg_parameters(&media, rtp, None);
        assert_eq!((leg.payload_type, leg.receive_payload_type), (97, 111));
        assert_eq!(leg.telephone_event, Some((110, 48_000)));
        assert_eq!(leg.packet_time, Duration::from_millis(40));
        let update = leg_update(&media);
        assert_eq!(update.codec, Some((LegCodec::Opus, 97)));
        assert_eq!(update.receive_payload_type, Some(111));
        assert_eq!(update.telephone_event, Some(Some((110, 48_000))));
        assert_eq!(update.packet_time, Some(leg.packet_time));
    }
}
