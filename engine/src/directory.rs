//! Which room a code or a link opens: the one question the page and the telephone ask of the store.
//!
//! Owns the nine-digit [`RoomCode`], the [`RoomTicket`] it is exchanged for, and the [`Directory`]
//! trait that `admin` implements. It counts no wrong tries: that is [`crate::door`].

use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The nine digits that open a room from every door: page, telephone, SIP room system.
///
/// Shown three by three (`123 456 789`). Never starts with zero, so that a spreadsheet or a telephone
/// keeps all nine digits. `Debug` hides the digits: a code in a log would be a key left in the lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomCode([u8; Self::DIGITS]);

impl RoomCode {
    /// Digits in a code. More would be safer and harder to type on a telephone; nine leaves a guesser
    /// one chance in 900 million per try and per room.
    pub const DIGITS: usize = 9;

    /// Longest text worth reading as a code: nine digits, each with a separator around it.
    const LONGEST_TEXT: usize = 64;

    /// Reads nine digits, with or without separators (space, no-break space, `-`, `.`).
    ///
    /// # Errors
    /// [`RoomCodeError`] when the text is anything else, or starts with zero.
    pub fn parse(text: &str) -> Result<Self, RoomCodeError> {
        if text.len() > Self::LONGEST_TEXT {
            return Err(RoomCodeError);
        }
        let mut digits = [0u8; Self::DIGITS];
        let mut length = 0;
        for letter in text.chars() {
            match letter {
                '0'..='9' => {
                    *digits.get_mut(length).ok_or(RoomCodeError)? = letter as u8;
                    length += 1;
                }
                ' ' | '\u{a0}' | '\u{202f}' | '-' | '.' => {}
                _ => return Err(RoomCodeError),
            }
        }
        if length != Self::DIGITS || digits[0] == b'0' {
            return Err(RoomCodeError);
        }
        Ok(Self(digits))
    }

    /// Draws a code, each of the 900 million equally likely.
    ///
    /// `random` fills the slice with bytes of the operating system's generator.
    pub fn draw(random: &mut dyn FnMut(&mut [u8])) -> Self {
        const FIRST: u32 = 100_000_000;
        const COUNT: u32 = 900_000_000;
        // Draws above the largest multiple of COUNT are thrown away: taking them modulo would favour low codes.
        const LIMIT: u32 = u32::MAX - (u32::MAX % COUNT);
        loop {
            let mut bytes = [0u8; 4];
            random(&mut bytes);
            let draw = u32::from_le_bytes(bytes);
            if draw < LIMIT {
                let mut left = FIRST + draw % COUNT;
                let mut digits = [0u8; Self::DIGITS];
                for digit in digits.iter_mut().rev() {
                    *digit = b'0' + (left % 10) as u8;
                    left /= 10;
                }
                return Self(digits);
            }
        }
    }

    /// The nine digits, without separators.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a code holds ASCII digits only")
    }

    /// The digits as people read them: `123 456 789`.
    pub fn grouped(&self) -> String {
        let digits = self.as_str();
        format!("{} {} {}", &digits[0..3], &digits[3..6], &digits[6..9])
    }
}

impl fmt::Debug for RoomCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomCode(…)")
    }
}

/// The text is not a room code: it must hold nine digits, the first of them 1 to 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a room code has nine digits and does not start with zero")]
pub struct RoomCodeError;

/// What a code or a link is exchanged for: the right to enter one room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomTicket {
    /// The room's name in the LiveKit protocol: its random id, never its code.
    pub room: String,
    /// What people call the room.
    pub title: String,
    /// The code that opens the room today, for the parts that show or speak it.
    pub code: RoomCode,
    /// Most participants at once; `None` when only the machine limits them.
    pub max_participants: Option<u32>,
}

/// Where rooms are looked up. Implemented by `admin` on its store, handed to the other parts by `firmware`.
pub trait Directory: Send + Sync {
    /// The room this code opens now, or `None` when it opens none.
    fn room_by_code(
        &self,
        code: &RoomCode,
    ) -> BoxFuture<'_, Result<Option<RoomTicket>, DirectoryError>>;

    /// The room whose join link carries this slug. A directory without links knows none.
    fn room_by_slug(
        &self,
        slug: &str,
    ) -> BoxFuture<'_, Result<Option<RoomTicket>, DirectoryError>> {
        let _ = slug;
        Box::pin(async { Ok(None) })
    }
}

/// The directory could not answer; whether the room exists is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the room directory does not answer: {cause}")]
pub struct DirectoryError {
    /// What failed, for the operator's log. Holds no code, name or address.
    pub cause: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_code_is_read_with_the_separators_people_type() {
        let code = RoomCode::parse("123456789").unwrap();
        for text in [
            "123 456 789",
            "123-456-789",
            "123.456.789",
            "123\u{a0}456\u{202f}789",
        ] {
            assert_eq!(RoomCode::parse(text), Ok(code));
        }
        assert_eq!(code.grouped(), "123 456 789");
    }

    #[test]
    fn what_is_not_nine_digits_is_refused() {
        let long = "1".repeat(70_000);
        for text in [
            "",
            "12345678",
            "1234567890",
            "012345678",
            "12345678a",
            "١٢٣٤٥٦٧٨٩",
            &long,
        ] {
            assert_eq!(RoomCode::parse(text), Err(RoomCodeError));
        }
    }

    #[test]
    fn debug_output_hides_the_digits() {
        let code = RoomCode::parse("123456789").unwrap();
        assert!(!format!("{code:?}").contains(char::is_numeric));
    }

    #[test]
    fn a_draw_outside_the_even_range_is_drawn_again() {
        let mut draws = [u32::MAX, 3_600_000_000, 0].into_iter();
        let code = RoomCode::draw(&mut |bytes| {
            bytes.copy_from_slice(&draws.next().unwrap().to_le_bytes());
        });
        assert_eq!(code.as_str(), "100000000");
        assert!(draws.next().is_none());
    }

    proptest! {
        #[test]
        fn a_drawn_code_is_read_back(draw in 0u32..3_600_000_000) {
            let code = RoomCode::draw(&mut |bytes| bytes.copy_from_slice(&draw.to_le_bytes()));
            prop_assert_eq!(RoomCode::parse(code.as_str()), Ok(code));
            prop_assert_eq!(RoomCode::parse(&code.grouped()), Ok(code));
        }

        #[test]
        fn any_text_is_refused_or_read(text in ".*") {
            let _ = RoomCode::parse(&text);
        }
    }
}
