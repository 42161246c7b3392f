//! How loud a track is, for speaking indications: smoothed, with onset and silence told apart.

use super::command::Level;
use crate::rtp::AudioLevel;

/// Packets at least this loud count as voice, in -dBov (LiveKit's default).
const THRESHOLD: u8 = 35;

/// Share of voice packets in an interval that makes it active, in percent.
const ACTIVE_SHARE: u32 = 40;

/// Weight of the newest interval: about two intervals shape the level. A higher value reacts
/// faster and flickers more.
const WEIGHT: f32 = 2.0 / 3.0;

/// Level changes below this are not reported, in dB.
const STEP: u8 = 3;

/// Loudness of one track.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loudness {
    packets: u32,
    voiced: u32,
    /// Sum of amplitudes of voice packets, full scale 1.
    amplitude: f32,
    smoothed: f32,
    reported: Option<Level>,
}

impl Loudness {
    pub(super) fn note(&mut self, level: AudioLevel) {
        self.packets += 1;
        if level.level <= THRESHOLD {
            self.voiced += 1;
            self.amplitude += Level(level.level).linear();
        }
    }

    /// Ends an interval; the level when it changed enough to be told.
    pub(super) fn interval(&mut self) -> Option<Level> {
        let active = self.voiced > 0 && self.voiced * 100 >= self.packets * ACTIVE_SHARE;
        let amplitude = if active {
            self.amplitude / self.voiced as f32
        } else {
            0.0
        };
        (self.packets, self.voiced, self.amplitude) = (0, 0, 0.0);
        self.smoothed += (amplitude - self.smoothed) * WEIGHT;
        let level = (self.smoothed > Level(THRESHOLD).linear())
            .then(|| Level((-20.0 * self.smoothed.log10()).round().clamp(0.0, 126.0) as u8));
        match (self.reported, level) {
            (None, None) => None,
            (Some(before), Some(level)) if before.0.abs_diff(level.0) < STEP => None,
            (_, level) => {
                self.reported = level;
                Some(level.unwrap_or(Level::SILENT))
            }
        }
    }

    /// The track ends or is muted: silence, when something else was told before.
    pub(super) fn silence(&mut self) -> Option<Level> {
        let reported = self.reported.is_some();
        *self = Loudness::default();
        reported.then_some(Level::SILENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(loudness: &mut Loudness, levels: &[u8]) -> Option<Level> {
        for &level in levels {
            loudness.note(AudioLevel { voice: true, level });
        }
        loudness.interval()
    }

    #[test]
    fn a_speaker_is_told_once_and_silence_is_told_once() {
        let mut loudness = Loudness::default();
        assert_eq!(interval(&mut loudness, &[127; 20]), None);
        let level = interval(&mut loudness, &[20; 20]).unwrap();
        assert!(
            level.is_active() && (20..=24).contains(&level.0),
            "{level:?}"
        );
        interval(&mut loudness, &[20; 20]);
        assert_eq!(interval(&mut loudness, &[20; 20]), None);
        let told: Vec<_> = (0..6)
            .filter_map(|_| interval(&mut loudness, &[127; 20]))
            .collect();
        assert_eq!(told.last(), Some(&Level::SILENT));
        assert_eq!(told.iter().filter(|level| !level.is_active()).count(), 1);
    }

    #[test]
    fn clicks_and_quiet_rooms_are_no_speakers() {
        let mut loudness = Loudness::default();
        let mut clicks = [127; 20];
        clicks[..7].fill(5);
        assert_eq!(
            interval(&mut loudness, &clicks),
            None,
            "35 % of the packets"
        );
        clicks[7] = 5;
        assert!(
            interval(&mut loudness, &clicks).is_some(),
            "40 % of the packets"
        );
        let mut quiet = Loudness::default();
        assert_eq!(interval(&mut quiet, &[36; 20]), None);
    }

    #[test]
    fn a_muted_speaker_goes_quiet_at_once() {
        let mut loudness = Loudness::default();
        assert_eq!(loudness.silence(), None);
        interval(&mut loudness, &[10; 20]);
        assert_eq!(loudness.silence(), Some(Level::SILENT));
        assert_eq!(loudness.silence(), None);
    }
}
