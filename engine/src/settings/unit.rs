//! Types whose text carries the unit, so that no key needs it in its name.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The text is not a number followed by a known unit, or is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadUnit;

/// Splits `"2.5 Mbit/s"` into 2.5 and the unit; negative and non-finite numbers are refused.
fn number_and_unit(text: &str) -> Result<(f64, &str), BadUnit> {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .ok_or(BadUnit)?;
    let number: f64 = text[..end].parse().map_err(|_| BadUnit)?;
    if !number.is_finite() {
        return Err(BadUnit);
    }
    Ok((number, text[end..].trim()))
}

/// A duration: `"20 ms"`, `"90 s"`, `"10 min"`, `"12 h"`, `"30 days"`; at most 100 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

impl Span {
    /// Whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
    /// Whole milliseconds.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }
    /// The same, as the standard library's type.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

const SPAN_UNITS: [(&str, u64); 5] = [
    ("days", 86_400_000),
    ("h", 3_600_000),
    ("min", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl FromStr for Span {
    type Err = BadUnit;
    fn from_str(text: &str) -> Result<Self, BadUnit> {
        const LONGEST: f64 = 100.0 * 366.0 * 86_400_000.0;
        let (number, unit) = number_and_unit(text)?;
        let unit = if unit == "day" { "days" } else { unit };
        let (_, scale) = SPAN_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or(BadUnit)?;
        let milliseconds = number * *scale as f64;
        if milliseconds > LONGEST {
            return Err(BadUnit);
        }
        Ok(Self::from_millis(milliseconds.round() as u64))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis() as u64;
        let (unit, scale) = SPAN_UNITS
            .iter()
            .find(|(_, scale)| milliseconds >= *scale && milliseconds.is_multiple_of(*scale))
            .unwrap_or(&("ms", 1));
        write!(f, "{} {unit}", milliseconds / scale)
    }
}

/// A bit rate: `"24 kbit/s"`, `"2.5 Mbit/s"`; factors are decimal, as in telecommunications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bitrate(u64);

impl Bitrate {
    /// From bits per second.
    #[must_use]
    pub const fn from_bps(bits_per_second: u64) -> Self {
        Self(bits_per_second)
    }
    /// In bits per second.
    #[must_use]
    pub const fn bps(self) -> u64 {
        self.0
    }
}

const RATE_UNITS: [(&str, u64); 4] = [
    ("Gbit/s", 1_000_000_000),
    ("Mbit/s", 1_000_000),
    ("kbit/s", 1_000),
    ("bit/s", 1),
];

impl FromStr for Bitrate {
    type Err = BadUnit;
    fn from_str(text: &str) -> Result<Self, BadUnit> {
        scaled(text, &RATE_UNITS).map(Self)
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, &RATE_UNITS)
    }
}

/// An amount of data: `"4 KiB"`, `"10 MiB"`; factors are binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataSize(u64);

impl DataSize {
    /// From bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl FromStr for DataSize {
    type Err = BadUnit;
    fn from_str(text: &str) -> Result<Self, BadUnit> {
        scaled(text, &SIZE_UNITS).map(Self)
    }
}

impl fmt::Display for DataSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, &SIZE_UNITS)
    }
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Result<u64, BadUnit> {
    let (number, unit) = number_and_unit(text)?;
    let (_, scale) = units
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(BadUnit)?;
    let value = number * *scale as f64;
    if value > 1e15 {
        return Err(BadUnit);
    }
    Ok(value.round() as u64)
}

fn write_scaled(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let (unit, scale) = units
        .iter()
        .find(|(_, scale)| value >= *scale && value.is_multiple_of(*scale))
        .or(units.last())
        .expect("every table of units has a base unit");
    write!(f, "{} {unit}", value / scale)
}

/// UDP ports, both ends included: `"20000-29999"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// # Errors
    /// [`BadUnit`] when `first` is 0 or above `last`.
    pub const fn new(first: u16, last: u16) -> Result<Self, BadUnit> {
        if first == 0 || first > last {
            return Err(BadUnit);
        }
        Ok(Self { first, last })
    }
    /// Lowest port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }
    /// Highest port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }
}

impl FromStr for PortRange {
    type Err = BadUnit;
    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let (first, last) = text.trim().split_once('-').ok_or(BadUnit)?;
        let port = |t: &str| t.trim().parse::<u16>().map_err(|_| BadUnit);
        Self::new(port(first)?, port(last)?)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_are_read_in_every_unit() {
        for (text, milliseconds) in [
            ("20 ms", 20),
            ("1.5s", 1_500),
            ("10 min", 600_000),
            ("12 h", 43_200_000),
            ("1 day", 86_400_000),
            ("30 days", 2_592_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Span::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            "20",
            "ms",
            "-1 s",
            "1 year",
            "1e9 days",
            "999999999999 days",
            "1..2 s",
        ] {
            assert_eq!(text.parse::<Span>(), Err(BadUnit), "{text}");
        }
    }

    #[test]
    fn rates_are_decimal_and_sizes_binary() {
        assert_eq!("2.5 Mbit/s".parse(), Ok(Bitrate::from_bps(2_500_000)));
        assert_eq!("4 KiB".parse(), Ok(DataSize::from_bytes(4_096)));
        assert_eq!("4 kB".parse::<DataSize>(), Err(BadUnit));
        assert_eq!(Bitrate::from_bps(24_000).to_string(), "24 kbit/s");
        assert_eq!(DataSize::from_bytes(0).to_string(), "0 B");
    }

    #[test]
    fn a_port_range_is_not_empty() {
        assert_eq!("5000-5999".parse(), PortRange::new(5000, 5999));
        for text in ["0-5", "6-5", "5", "5-70000", "a-b"] {
            assert_eq!(text.parse::<PortRange>(), Err(BadUnit), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(n in 0u64..1_000_000_000_000) {
            prop_assert_eq!(Span::from_millis(n).to_string().parse(), Ok(Span::from_millis(n)));
            prop_assert_eq!(Bitrate::from_bps(n).to_string().parse(), Ok(Bitrate::from_bps(n)));
            prop_assert_eq!(DataSize::from_bytes(n).to_string().parse(), Ok(DataSize::from_bytes(n)));
        }
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Span>();
            let _ = text.parse::<Bitrate>();
            let _ = text.parse::<DataSize>();
            let _ = text.parse::<PortRange>();
        }
    }
}
