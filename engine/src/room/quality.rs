//! How good each participant's link is, told about every five seconds.

use std::time::Duration;

use palabre_media::sfu::Quality;

use super::Room;
use super::context::{Cx, ParticipantKey};
use super::participant::{LinkQuality, Participant};
use crate::proto::signal_response::Message;
use crate::proto::{self, ConnectionQuality};

/// How often `connection_quality` is sent.
const QUALITY_INTERVAL: Duration = Duration::from_secs(5);

/// Score of a link of which nothing bad is known.
const BEST: f32 = 4.5;

impl LinkQuality {
    /// The worse of the two: it is what the participant suffers from.
    fn score(&self) -> f32 {
        let known = [self.uplink, self.downlink].into_iter().flatten();
        known.fold(BEST, f32::min)
    }

    fn grade(&self) -> ConnectionQuality {
        grade(self.score())
    }
}

/// A score of 1 to 4.5 from loss (0 to 1), jitter and round trip: the shape of the E-model
/// (ITU-T G.107) with the penalties of a codec that conceals loss.
fn score(loss: f32, jitter: Duration, rtt: Duration) -> f32 {
    let delay = rtt.as_secs_f32() * 500.0 + jitter.as_secs_f32() * 2_000.0;
    let delay_penalty = if delay < 160.0 {
        delay / 40.0
    } else {
        (delay - 120.0) / 10.0
    };
    let loss_penalty = 95.0 * loss / (loss + 0.15);
    let rating = (93.2 - delay_penalty - loss_penalty).clamp(0.0, 93.2);
    (1.0 + rating * 3.5 / 93.2).clamp(1.0, 4.5)
}

fn grade(score: f32) -> ConnectionQuality {
    match score {
        s if s >= 4.0 => ConnectionQuality::Excellent,
        s if s >= 3.0 => ConnectionQuality::Good,
        _ => ConnectionQuality::Poor,
    }
}

impl Room {
    /// A worker measured one of a participant's connections.
    pub(crate) fn quality(&mut self, key: ParticipantKey, quality: &Quality) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let Some(client) = participant.client() else {
            return;
        };
        let is_downlink = client.subscriber.session == quality.session;
        let link = if is_downlink {
            quality.downlink
        } else {
            quality.uplink
        };
        // A link that carries nothing any more says nothing of the other.
        let score = (link.packets > 0)
            .then(|| score(link.loss, link.jitter, quality.rtt.unwrap_or_default()));
        let known = &mut participant.quality;
        let before = known.grade();
        if is_downlink {
            known.downlink = score;
        } else {
            known.uplink = score;
        }
        known.told &= known.grade() == before;
    }

    /// Sends to each client its own quality and the changes of the others'.
    pub(super) fn quality_tick(&mut self, cx: &mut Cx<'_>) {
        if cx.now.duration_since(self.quality_at) < QUALITY_INTERVAL {
            return;
        }
        self.quality_at = cx.now;
        let seen = self.participants.values().filter(|p| !p.grants.hidden);
        let news: Vec<(ParticipantKey, proto::ConnectionQualityInfo)> = seen
            .filter(|p| !p.quality.told)
            .map(|p| (p.key, quality_info(p)))
            .collect();
        for participant in self.participants.values() {
            let Some(connection) = participant.connection() else {
                continue;
            };
            let mut updates = vec![quality_info(participant)];
            let others = news.iter().filter(|(key, _)| *key != participant.key);
            updates.extend(others.map(|(_, info)| info.clone()));
            cx.send(
                connection,
                Message::ConnectionQuality(proto::ConnectionQualityUpdate { updates }),
            );
        }
        for participant in self.participants.values_mut() {
            participant.quality.told = true;
        }
    }
}

fn quality_info(participant: &Participant) -> proto::ConnectionQualityInfo {
    let lost = participant
        .client()
        .is_some_and(|client| client.signal_lost.is_some() || client.media_lost.is_some());
    proto::ConnectionQualityInfo {
        participant_sid: participant.sid.clone(),
        quality: if lost {
            ConnectionQuality::Lost
        } else {
            participant.quality.grade()
        } as i32,
        score: if lost {
            0.0
        } else {
            participant.quality.score()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_link_is_excellent_and_loss_lowers_it_step_by_step() {
        let ms = Duration::from_millis;
        assert_eq!(
            grade(score(0.0, ms(2), ms(30))),
            ConnectionQuality::Excellent
        );
        assert_eq!(grade(score(0.05, ms(20), ms(60))), ConnectionQuality::Good);
        assert_eq!(grade(score(0.4, ms(80), ms(400))), ConnectionQuality::Poor);
    }
}
