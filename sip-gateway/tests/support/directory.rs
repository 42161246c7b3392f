//! One room behind the real door.

use palabre_engine::Directory;
use palabre_engine::directory::{BoxFuture, DirectoryError, RoomCode, RoomTicket};

/// Name of the room that [`CODE`](super::rooms::CODE) opens.
pub(crate) const ROOM: &str = "room-1";

/// The directory that knows it, with places for two.
pub(crate) struct OneRoom;

impl Directory for OneRoom {
    fn room_by_code(
        &self,
        code: &RoomCode,
    ) -> BoxFuture<'_, Result<Option<RoomTicket>, DirectoryError>> {
        let code = *code;
        Box::pin(async move {
            Ok((code.as_str() == super::rooms::CODE).then(|| RoomTicket {
                room: ROOM.into(),
                title: "Budget".into(),
                code,
                max_participants: Some(2),
            }))
        })
    }
}
