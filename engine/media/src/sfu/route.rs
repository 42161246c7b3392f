//! Who gets the packets of one track on this worker and beyond, and who sends them.

use super::command::MAX_LAYERS;
use super::keyframe::KeyFrameRequest;
use super::layers::Activity;
use crate::ids::WorkerIndex;

/// Members of a mesh at most: one bit each.
pub(super) const MAX_MEMBERS: u8 = 64;

/// One track's ways.
#[derive(Debug, Default)]
pub(super) struct Route {
    /// (session, subscription) on this worker.
    pub(super) subscribers: Vec<(usize, usize)>,
    /// Members of the mesh with subscribers, one bit each. Kept also while we do not have the
    /// source: it may appear later.
    watchers: u64,
    /// The session that sends the track, when it is ours.
    pub(super) source: Option<usize>,
    pub(super) activity: Activity,
    /// Key frames asked of a source elsewhere.
    pub(super) requests: [KeyFrameRequest; MAX_LAYERS],
}

impl Route {
    pub(super) fn watch(&mut self, member: WorkerIndex) {
        if member.0 < MAX_MEMBERS {
            self.watchers |= 1 << member.0;
        }
    }

    pub(super) fn unwatch(&mut self, member: WorkerIndex) {
        if member.0 < MAX_MEMBERS {
            self.watchers &= !(1 << member.0);
        }
    }

    pub(super) fn watchers(&self) -> impl Iterator<Item = WorkerIndex> + use<> {
        let mut rest = self.watchers;
        std::iter::from_fn(move || {
            let member = rest.trailing_zeros();
            rest &= rest.checked_sub(1)?;
            Some(WorkerIndex(member as u8))
        })
    }

    /// Whether nobody needs to remember the track.
    pub(super) fn is_unused(&self) -> bool {
        self.subscribers.is_empty() && self.watchers == 0 && self.source.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_and_go() {
        let mut route = Route::default();
        assert!(route.is_unused());
        for member in [63, 0, 5, 5, 200] {
            route.watch(WorkerIndex(member));
        }
        route.unwatch(WorkerIndex(5));
        assert_eq!(
            route.watchers().collect::<Vec<_>>(),
            [WorkerIndex(0), WorkerIndex(63)]
        );
        assert!(!route.is_unused());
    }
}
