//! The keys of a caller who is in a room: which of them mean something.
//! It knows neither the call nor the room.

use std::time::{Duration, Instant};

/// How long after `*` the next key still belongs to it. More lets slow fingers finish, less forgets an accidental `*` sooner.
const SEQUENCE: Duration = Duration::from_secs(4);

/// What a caller asks for by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// `0` or `*6`: mute or unmute my microphone.
    ToggleMute,
}

/// Reads the keys of one call.
#[derive(Debug, Default)]
pub struct Keys {
    star: Option<Instant>,
}

impl Keys {
    /// Takes one key; says what it completes. A key that means nothing is forgotten.
    pub fn press(&mut self, now: Instant, key: char) -> Option<Wish> {
        let after_star = self
            .star
            .take()
            .is_some_and(|star| now.saturating_duration_since(star) <= SEQUENCE);
        match (after_star, key) {
            (_, '*') => {
                self.star = Some(now);
                None
            }
            (false, '0') | (true, '6') => Some(Wish::ToggleMute),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(keys: &str) -> usize {
        let mut state = Keys::default();
        let now = Instant::now();
        keys.chars().filter_map(|key| state.press(now, key)).count()
    }

    #[test]
    fn zero_and_star_six_toggle_the_microphone() {
        assert_eq!(wishes("0"), 1);
        assert_eq!(wishes("*6"), 1);
        assert_eq!(wishes("**6"), 1);
        assert_eq!(wishes("*60"), 2);
        assert_eq!(wishes("6"), 0);
        assert_eq!(wishes("*0"), 0);
        assert_eq!(wishes("#123456789"), 0);
    }

    #[test]
    fn a_star_is_forgotten() {
        let mut keys = Keys::default();
        let now = Instant::now();
        assert_eq!(keys.press(now, '*'), None);
        assert_eq!(keys.press(now + SEQUENCE * 2, '6'), None);
        assert_eq!(keys.press(now + SEQUENCE * 2, '0'), Some(Wish::ToggleMute));
    }
}
