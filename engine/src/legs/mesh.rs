//! The mixer thread's place in the mesh of media workers, as it needs it.

use palabre_media::ids::WorkerIndex;
use palabre_media::sfu::{MeshMessage, MeshTarget};

/// One member of the mesh. [`crate::net::MeshMember`] is it; tests bring their own.
pub trait Mesh: Send {
    /// Its index: what watchers and sources are known by.
    fn index(&self) -> WorkerIndex;
    /// The next message, if any.
    fn receive(&mut self) -> Option<MeshMessage>;
    /// Sends to one member or to every other.
    fn send(&mut self, target: MeshTarget, message: MeshMessage);
    /// Wakes the receivers of what was sent.
    fn flush(&mut self);
}

impl Mesh for crate::net::MeshMember {
    fn index(&self) -> WorkerIndex {
        self.index()
    }

    fn receive(&mut self) -> Option<MeshMessage> {
        self.receive()
    }

    fn send(&mut self, target: MeshTarget, message: MeshMessage) {
        self.send(target, message);
    }

    fn flush(&mut self) {
        self.flush();
    }
}
