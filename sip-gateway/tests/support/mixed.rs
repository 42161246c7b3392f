//! One room with the real mixer thread behind it, and no media workers: telephones hear each other as they will in the product.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use palabre_engine::directory::{BoxFuture, RoomCode, RoomTicket};
use palabre_engine::door::{Refusal, Source};
use palabre_engine::legs::{self, Command, Mesh, MixerConfig, Mixers, RoomId};
use palabre_engine::{JoinError, LegIdentity, LegParameters, LegUpdate, Prompt};
use palabre_media::ids::{TrackId, WorkerIndex};
use palabre_media::sfu::{MeshMessage, MeshTarget};
use palabre_sip::call::Found;
use palabre_sip::rooms::{Line, Opened, Rooms};

const ROOM: RoomId = RoomId(1);

/// A mesh with nobody else in it.
struct Alone;

impl Mesh for Alone {
    fn index(&self) -> WorkerIndex {
        WorkerIndex(0)
    }

    fn receive(&mut self) -> Option<MeshMessage> {
        None
    }

    fn send(&mut self, _: MeshTarget, _: MeshMessage) {}

    fn flush(&mut self) {}
}

/// The room and its mixer thread, which ends with the last handle.
#[derive(Clone)]
pub(crate) struct Mixed {
    mixers: Mixers,
    tracks: Arc<AtomicU64>,
}

impl Mixed {
    pub(crate) fn start() -> Self {
        let (mixers, commands) = Mixers::new(50);
        legs::start(MixerConfig::default(), &mixers, commands, Alone, |_| ()).expect("a thread");
        mixers.send(Command::OpenRoom {
            room: ROOM,
            talkers: 4,
        });
        Self {
            mixers,
            tracks: Arc::default(),
        }
    }
}

impl Rooms for Mixed {
    type Line = MixedLine;

    fn look_up(&self, _: Source, _: String) -> BoxFuture<'static, Result<Found, Refusal>> {
        let ticket = RoomTicket {
            room: "mixed".into(),
            title: "Mixed".into(),
            code: RoomCode::parse("123456789").unwrap(),
            max_participants: None,
        };
        Box::pin(async {
            Ok(Found {
                ticket,
                full: false,
            })
        })
    }

    fn lines(&self) -> usize {
        self.mixers.limit()
    }

    fn open_line(&self, parameters: LegParameters) -> BoxFuture<'static, Opened<MixedLine>> {
        let opened = self.mixers.open_leg(parameters);
        let house = self.clone();
        Box::pin(async move {
            let (leg, events) = opened?;
            Ok((MixedLine { leg, house }, events))
        })
    }
}

pub(crate) struct MixedLine {
    leg: legs::Leg,
    house: Mixed,
}

impl Line for MixedLine {
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
        let leg = self.leg.id();
        self.house.mixers.send(Command::SetLegMuted { leg, muted });
    }

    fn join(&self, _: RoomTicket, _: LegIdentity) -> BoxFuture<'static, Result<(), JoinError>> {
        let track = TrackId(self.house.tracks.fetch_add(1, Ordering::Relaxed) + 1);
        let leg = self.leg.id();
        self.house.mixers.send(Command::JoinRoom {
            leg,
            room: ROOM,
            track,
        });
        Box::pin(async { Ok(()) })
    }
}
