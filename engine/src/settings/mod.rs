//! Configuration without a parser in every crate: a part declares its keys once, with
//! [`settings!`](crate::settings!), and gets the struct, its defaults, its checks and its
//! commented page of `palabre.toml` from that one declaration.
//!
//! This module never reads a file or the environment: the program hands in values.

mod unit;

pub use unit::{Bitrate, DataSize, PortRange, Span};

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// A value as it stands in the file or in an environment variable, before its type is known.
#[derive(Clone, Debug, PartialEq)]
pub enum RawValue {
    /// A quoted string; also every environment override.
    Text(String),
    /// A bare integer.
    Integer(i64),
    /// A bare number with a fraction.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// `[ ... ]`
    List(Vec<RawValue>),
}

impl RawValue {
    /// What this is, in the words of an error message.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Bool(_) => "a boolean",
            Self::List(_) => "a list",
        }
    }
}

/// A type that a key can have.
pub trait Setting: Sized {
    /// Reads the value.
    ///
    /// # Errors
    /// A sentence that says what was expected, for the operator.
    fn read(value: &RawValue) -> Result<Self, String>;
    /// Writes the value as TOML, so that [`Setting::read`] gives it back.
    fn write(&self) -> String;
}

/// One key of a section, as `palabre config` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Name in the file.
    pub name: &'static str,
    /// What it does, one line an element, from the field's documentation.
    pub doc: &'static [&'static str],
    /// Value in force, as TOML; `None` when the key is unset.
    pub value: Option<String>,
}

/// Why a value was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// The section has no key of that name.
    UnknownKey,
    /// The value cannot be used; the sentence says why.
    Invalid(String),
}

/// A section of `palabre.toml`; implemented by [`settings!`](crate::settings!).
pub trait Section {
    /// What the section is for, one line an element.
    fn doc(&self) -> &'static [&'static str];
    /// Its keys, in the order of the file, with the values in force.
    fn keys(&self) -> Vec<Key>;
    /// Sets one key.
    ///
    /// # Errors
    /// [`Rejected`], with nothing changed.
    fn set(&mut self, key: &str, value: &RawValue) -> Result<(), Rejected>;
}

/// Declares one section of `palabre.toml`: documented keys with a type and a default.
///
/// A default of `None` (with a type `Option<T>`) is a key that is unset unless written.
/// A check after `where` refuses values out of bounds with its sentence.
///
/// ```
/// palabre_engine::settings! {
///     /// The mixer.
///     pub struct Mix {
///         /// How many voices are mixed at once: more costs a decode each, fewer cuts people off.
///         pub talkers: usize = 4, where |n| (2..=16).contains(n), "between 2 and 16",
///     }
/// }
/// assert_eq!(Mix::default().talkers, 4);
/// ```
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $sdoc:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                pub $field:ident : $ty:ty = $default:expr
                $(, where |$arg:ident| $check:expr, $sentence:literal)?
                ,
            )*
        }
    ) => {
        $(#[doc = $sdoc])*
        #[derive(Clone, Debug, PartialEq)]
        #[allow(unreachable_pub)]
        pub struct $name {
            $(
                $(#[doc = $doc])*
                pub $field: $ty,
            )*
        }
        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
        impl $crate::settings::Section for $name {
            fn doc(&self) -> &'static [&'static str] {
                &[$($sdoc),*]
            }
            fn keys(&self) -> Vec<$crate::settings::Key> {
                vec![$($crate::settings::Key {
                    name: stringify!($field),
                    doc: &[$($doc),*],
                    value: $crate::settings::shown(&self.$field),
                }),*]
            }
            fn set(
                &mut self,
                key: &str,
                value: &$crate::settings::RawValue,
            ) -> Result<(), $crate::settings::Rejected> {
                match key {
                    $(stringify!($field) => {
                        let read = <$ty as $crate::settings::Setting>::read(value)
                            .map_err($crate::settings::Rejected::Invalid)?;
                        $(
                            let check = |$arg: &$ty| -> bool { $check };
                            if !check(&read) {
                                return Err($crate::settings::Rejected::Invalid(
                                    format!("must be {}", $sentence),
                                ));
                            }
                        )?
                        self.$field = read;
                        Ok(())
                    })*
                    _ => Err($crate::settings::Rejected::UnknownKey),
                }
            }
        }
    };
}

/// A value as TOML, or `None` for an unset optional key (which writes nothing).
#[doc(hidden)]
pub fn shown<T: Setting>(value: &T) -> Option<String> {
    let text = value.write();
    (!text.is_empty()).then_some(text)
}

fn expected(what: &str, value: &RawValue) -> String {
    format!("expected {what}, found {}", value.kind())
}

/// Quotes `text` as a TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl Setting for bool {
    fn read(value: &RawValue) -> Result<Self, String> {
        match value {
            RawValue::Bool(b) => Ok(*b),
            RawValue::Text(t) if t == "true" => Ok(true),
            RawValue::Text(t) if t == "false" => Ok(false),
            _ => Err(expected("true or false", value)),
        }
    }
    fn write(&self) -> String {
        self.to_string()
    }
}

macro_rules! integer_setting {
    ($($ty:ty),*) => {$(
        impl Setting for $ty {
            fn read(value: &RawValue) -> Result<Self, String> {
                let range = || format!("must be a whole number from {} to {}", <$ty>::MIN, <$ty>::MAX);
                match value {
                    RawValue::Integer(n) => <$ty>::try_from(*n).map_err(|_| range()),
                    RawValue::Text(t) => t.trim().parse().map_err(|_| range()),
                    _ => Err(expected("a whole number", value)),
                }
            }
            fn write(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
integer_setting!(u8, u16, u32, u64, usize);

impl Setting for String {
    fn read(value: &RawValue) -> Result<Self, String> {
        match value {
            RawValue::Text(t) => Ok(t.clone()),
            _ => Err(expected("a string in quotes", value)),
        }
    }
    fn write(&self) -> String {
        quoted(self)
    }
}

macro_rules! text_setting {
    ($($ty:ty: $what:literal),* $(,)?) => {$(
        impl Setting for $ty {
            fn read(value: &RawValue) -> Result<Self, String> {
                match value {
                    RawValue::Text(t) => t.trim().parse().map_err(|_| format!("expected {}", $what)),
                    _ => Err(expected($what, value)),
                }
            }
            fn write(&self) -> String {
                quoted(&self.to_string())
            }
        }
    )*};
}
text_setting! {
    IpAddr: "an IP address in quotes, such as \"192.0.2.10\"",
    SocketAddr: "an address and port in quotes, such as \"127.0.0.1:7880\" or \"[::]:7880\"",
    Span: "a duration with its unit in quotes, such as \"20 ms\", \"90 s\", \"10 min\", \"12 h\" or \"30 days\"",
    Bitrate: "a rate with its unit in quotes, such as \"24 kbit/s\" or \"2.5 Mbit/s\"",
    DataSize: "a size with its unit in quotes, such as \"4 KiB\" or \"10 MiB\"",
    PortRange: "a range of ports in quotes, such as \"20000-29999\"",
}

impl Setting for PathBuf {
    fn read(value: &RawValue) -> Result<Self, String> {
        match value {
            RawValue::Text(t) if !t.is_empty() => Ok(PathBuf::from(t)),
            _ => Err(expected("a path in quotes", value)),
        }
    }
    fn write(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(value: &RawValue) -> Result<Self, String> {
        T::read(value).map(Some)
    }
    fn write(&self) -> String {
        self.as_ref().map(Setting::write).unwrap_or_default()
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read(value: &RawValue) -> Result<Self, String> {
        match value {
            RawValue::List(items) => items.iter().map(T::read).collect(),
            // The environment has no lists: items are separated by commas.
            RawValue::Text(t) => t
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| T::read(&RawValue::Text(item.to_owned())))
                .collect(),
            _ => Err(expected("a list", value)),
        }
    }
    fn write(&self) -> String {
        let items: Vec<String> = self.iter().map(Setting::write).collect();
        format!("[{}]", items.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::settings! {
        /// A section.
        pub struct Sample {
            /// How long.
            pub wait: Span = Span::from_secs(5),
            /// How many.
            pub talkers: usize = 4, where |n| (2..=16).contains(n), "between 2 and 16",
            /// Who.
            pub names: Vec<String> = vec!["a \"b\"".to_owned()],
            /// Where, if anywhere.
            pub bind: Option<SocketAddr> = None,
        }
    }

    #[test]
    fn a_default_written_out_reads_back() {
        let sample = Sample::default();
        let keys = sample.keys();
        assert_eq!(keys[0].value.as_deref(), Some("\"5 s\""));
        assert_eq!(keys[2].value.as_deref(), Some(r#"["a \"b\""]"#));
        assert_eq!(keys[3].value, None);
        assert_eq!(keys[0].doc, &[" How long."]);
    }

    #[test]
    fn a_value_out_of_bounds_is_refused_and_changes_nothing() {
        let mut sample = Sample::default();
        assert_eq!(
            sample.set("talkers", &RawValue::Integer(17)),
            Err(Rejected::Invalid("must be between 2 and 16".to_owned()))
        );
        assert_eq!(sample.talkers, 4);
        assert_eq!(sample.set("talkers", &RawValue::Text("16".into())), Ok(()));
        assert_eq!(sample.talkers, 16);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let mut sample = Sample::default();
        assert_eq!(
            sample.set("talker", &RawValue::Integer(3)),
            Err(Rejected::UnknownKey)
        );
    }

    #[test]
    fn the_environment_can_give_a_list() {
        let mut sample = Sample::default();
        sample
            .set("names", &RawValue::Text("x, y,".into()))
            .expect("a list");
        assert_eq!(sample.names, ["x", "y"]);
    }
}
