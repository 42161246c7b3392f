//! Room operations of the server API: asked by name, answered once, though the asker may be gone.

use tokio::sync::oneshot;

use super::{Clock, Shard};
use crate::error::RoomError;
use crate::legs::RoomId;
use crate::proto::{self, DisconnectReason};
use crate::room::{Cx, Room};

pub(crate) type Reply<T> = oneshot::Sender<Result<T, RoomError>>;

/// Room operations of the server API.
#[derive(Debug)]
pub(crate) enum Ask {
    CreateRoom(Box<proto::CreateRoomRequest>, Reply<proto::Room>),
    ListRooms(Vec<String>, oneshot::Sender<Vec<proto::Room>>),
    DeleteRoom(String, Reply<()>),
    ListParticipants(String, Reply<Vec<proto::ParticipantInfo>>),
    Participant {
        room: String,
        identity: String,
        reply: Reply<proto::ParticipantInfo>,
    },
    RemoveParticipant {
        room: String,
        identity: String,
        reply: Reply<()>,
    },
    MuteTrack {
        room: String,
        identity: String,
        track: String,
        muted: bool,
        reply: Reply<proto::TrackInfo>,
    },
    UpdateParticipant(
        Box<proto::UpdateParticipantRequest>,
        Reply<proto::ParticipantInfo>,
    ),
    UpdateRoomMetadata {
        room: String,
        metadata: String,
        reply: Reply<proto::Room>,
    },
    SendData(Box<proto::SendDataRequest>, Reply<()>),
}

impl Shard {
    pub(super) fn ask(&mut self, clock: Clock, ask: Ask) {
        match ask {
            Ask::CreateRoom(request, reply) => {
                let _ = reply.send(self.create_room(clock, &request));
            }
            Ask::ListRooms(names, reply) => {
                let mut rooms: Vec<proto::Room> = self
                    .rooms
                    .values()
                    .filter(|room| names.is_empty() || names.contains(&room.name))
                    .map(Room::info)
                    .collect();
                rooms.sort_by(|a, b| {
                    (a.creation_time_ms, &a.name).cmp(&(b.creation_time_ms, &b.name))
                });
                let _ = reply.send(rooms);
            }
            Ask::DeleteRoom(name, reply) => {
                let deleted = self.numbered(&name).map(|room| {
                    self.close_room(clock, room, DisconnectReason::RoomDeleted);
                });
                let _ = reply.send(deleted);
            }
            Ask::ListParticipants(room, reply) => {
                self.ask_room(clock, &room, reply, |room, _| Ok(room.everybody()));
            }
            Ask::Participant {
                room,
                identity,
                reply,
            } => self.ask_room(clock, &room, reply, |room, _| {
                room.participant_info(&identity)
            }),
            Ask::RemoveParticipant {
                room,
                identity,
                reply,
            } => self.ask_room(clock, &room, reply, |room, cx| room.expel(&identity, cx)),
            Ask::MuteTrack {
                room,
                identity,
                track,
                muted,
                reply,
            } => self.ask_room(clock, &room, reply, |room, cx| {
                room.mute_from_afar(&identity, &track, muted, cx)
            }),
            Ask::UpdateParticipant(request, reply) => {
                let name = request.room.clone();
                self.ask_room(clock, &name, reply, |room, cx| {
                    room.update_participant(*request, cx)
                });
            }
            Ask::UpdateRoomMetadata {
                room,
                metadata,
                reply,
            } => self.ask_room(clock, &room, reply, |room, cx| {
                room.set_metadata(metadata, cx)
            }),
            Ask::SendData(request, reply) => {
                let name = request.room.clone();
                self.ask_room(clock, &name, reply, |room, cx| {
                    room.send_data(&request, cx);
                    Ok(())
                });
            }
        }
    }

    fn create_room(
        &mut self,
        clock: Clock,
        request: &proto::CreateRoomRequest,
    ) -> Result<proto::Room, RoomError> {
        if self.stopped {
            return Err(RoomError::Stopping);
        }
        crate::room::check_room(&request.name, &request.metadata)?;
        let limit = self.config.rooms.max_open;
        let number = match self.names.get(&request.name) {
            Some(number) => *number,
            None => self
                .open_room(clock, &request.name, request)
                .ok_or(RoomError::TooManyRooms { limit })?,
        };
        Ok(self.rooms[&number].info())
    }

    fn ask_room<T>(
        &mut self,
        clock: Clock,
        name: &str,
        reply: Reply<T>,
        answer: impl FnOnce(&mut Room, &mut Cx<'_>) -> Result<T, RoomError>,
    ) {
        let answer = self.numbered(name).and_then(|room| {
            self.with_room(clock, room, answer)
                .unwrap_or(Err(RoomError::RoomUnknown))
        });
        // The asker may have gone.
        let _ = reply.send(answer);
    }

    fn numbered(&self, name: &str) -> Result<RoomId, RoomError> {
        self.names.get(name).copied().ok_or(RoomError::RoomUnknown)
    }
}
