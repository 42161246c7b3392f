//! Coming in: participants and telephone legs, and the rooms that open for them.

use palabre_media::ids::LegId;

use super::{Clock, ConnectionId, Shard};
use crate::error::JoinError;
use crate::handle::JoinRequest;
use crate::leg::LegIdentity;
use crate::legs::RoomId;
use crate::proto;

impl Shard {
    pub(super) fn join(
        &mut self,
        clock: Clock,
        connection: ConnectionId,
        mut request: JoinRequest,
    ) -> Result<(), JoinError> {
        self.check_request(&mut request)?;
        let grants = &request.grants;
        let options = grants.room_config.as_deref().map(options);
        let room = self.room_to_join(clock, &request.room, options, self.may_open(&request))?;
        self.with_room(clock, room, |room, cx| room.join(connection, request, cx))
            .unwrap_or(Err(JoinError::RoomFailed))
    }

    /// Whether a join would be let in now; nothing changes.
    pub(super) fn check_join(&self, mut request: JoinRequest) -> Result<(), JoinError> {
        self.check_request(&mut request)?;
        match self.names.get(&request.room) {
            Some(number) => self.rooms[number].check_join(&request, &self.config.rooms),
            None if !self.may_open(&request) => Err(JoinError::RoomUnknown),
            None => self.check_one_more(),
        }
    }

    /// What can be refused without asking the room. The attributes become part of the grants.
    fn check_request(&self, request: &mut JoinRequest) -> Result<(), JoinError> {
        if self.stopped {
            return Err(JoinError::Stopping);
        }
        let grants = &mut request.grants;
        if !grants.room_join || (!grants.room.is_empty() && grants.room != request.room) {
            return Err(JoinError::NotAllowed);
        }
        crate::room::add_attributes(grants, std::mem::take(&mut request.attributes))?;
        crate::room::check(&request.room, grants)?;
        if request.reconnect.is_some() && !self.names.contains_key(&request.room) {
            return Err(JoinError::NothingToResume);
        }
        Ok(())
    }

    /// Whether this join may open its room.
    fn may_open(&self, request: &JoinRequest) -> bool {
        self.config.rooms.auto_create || request.grants.room_create || request.opens_room
    }

    fn check_one_more(&self) -> Result<(), JoinError> {
        let limit = self.config.rooms.max_open;
        if self.rooms.len() >= limit as usize {
            return Err(JoinError::TooManyRooms { limit });
        }
        Ok(())
    }

    pub(super) fn join_leg(
        &mut self,
        clock: Clock,
        leg: LegId,
        name: &str,
        identity: LegIdentity,
    ) -> Result<(), JoinError> {
        if self.stopped {
            return Err(JoinError::Stopping);
        }
        let create = self.config.rooms.auto_create;
        let room = self.room_to_join(clock, name, None, create)?;
        self.with_room(clock, room, |room, cx| room.join_leg(leg, identity, cx))
            .unwrap_or(Err(JoinError::RoomFailed))
    }

    /// The open room of this name, or a new one where joining may open it.
    fn room_to_join(
        &mut self,
        clock: Clock,
        name: &str,
        options: Option<proto::CreateRoomRequest>,
        create: bool,
    ) -> Result<RoomId, JoinError> {
        if let Some(room) = self.names.get(name) {
            return Ok(*room);
        }
        if !create {
            return Err(JoinError::RoomUnknown);
        }
        let limit = self.config.rooms.max_open;
        self.open_room(clock, name, &options.unwrap_or_default())
            .ok_or(JoinError::TooManyRooms { limit })
    }
}

/// How a room is to be made, as a token says it.
fn options(config: &proto::RoomConfiguration) -> proto::CreateRoomRequest {
    proto::CreateRoomRequest {
        empty_timeout: config.empty_timeout,
        departure_timeout: config.departure_timeout,
        max_participants: config.max_participants,
        metadata: config.metadata.clone(),
        ..Default::default()
    }
}
