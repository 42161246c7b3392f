//! Tracks the peer gets: subscriptions by place and by SSRC.

use super::super::command::{CommandError, SendParameters};
use super::super::forward::Subscription;
use super::Session;
use crate::ids::{SubscriptionId, TrackId};

impl Session {
    /// Starts a subscription; its place.
    pub(in crate::sfu) fn send(
        &mut self,
        parameters: SendParameters,
        limit: usize,
    ) -> Result<usize, CommandError> {
        if self.sent.iter().flatten().count() >= limit {
            return Err(CommandError::TooManySubscriptions);
        }
        let place = self
            .sent
            .iter()
            .position(Option::is_none)
            .unwrap_or_else(|| {
                self.sent.push(None);
                self.sent.len() - 1
            });
        self.sent_by_ssrc.insert(parameters.ssrc, place);
        self.sent[place] = Some(Subscription::new(parameters));
        Ok(place)
    }

    pub(in crate::sfu) fn subscription_place(&self, subscription: SubscriptionId) -> Option<usize> {
        self.sent.iter().position(|sent| {
            sent.as_ref()
                .is_some_and(|sent| sent.parameters.subscription == subscription)
        })
    }

    /// Ends the subscription at `place`; its track.
    pub(in crate::sfu) fn stop_send(&mut self, place: usize) -> Option<TrackId> {
        let subscription = self.sent[place].take()?;
        self.sent_by_ssrc.remove(&subscription.parameters.ssrc);
        Some(subscription.parameters.track)
    }

    pub(super) fn sent_mut(&mut self, ssrc: u32) -> Option<&mut Subscription> {
        let place = *self.sent_by_ssrc.get(&ssrc)?;
        self.sent[place].as_mut()
    }
}
