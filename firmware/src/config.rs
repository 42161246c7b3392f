//! `palabre.toml`: reads it, lets the environment override it, and prints its commented form.
//!
//! What the keys are is declared by the parts themselves (see `palabre_engine::settings`);
//! this file only finds the section and says where a mistake stands.

use palabre_engine::settings::{RawValue, Rejected, Section, Setting};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// Environment variables that start so override the file: `PALABRE__SIP__BIND`.
pub(crate) const ENVIRONMENT_PREFIX: &str = "PALABRE__";

palabre_engine::settings! {
    /// Where Palabre keeps what it must not lose.
    pub struct Storage {
        /// Folder of the database and of what people store. Created when absent, readable by the
        /// program's own user only. A relative path counts from the folder the program starts in.
        pub folder: PathBuf = PathBuf::from("data"),
    }
}

/// The default level: ours at info; of the libraries that handle what peers send, nothing or errors only, for they know
/// nothing of our promise to log no address.
const QUIET: &str = "info,is=off,dimpl=off,sctp_proto=off,tungstenite=off,hyper=error,\
                     hyper_util=error,tower_http=error,axum=error,sqlx=error";

palabre_engine::settings! {
    /// What the program writes to its standard error.
    pub struct Log {
        /// How much: "error", "warn", "info", "debug" or "trace", or per part, as in
        /// "info,palabre_sip=debug". What Palabre itself writes at "info" and above holds no name,
        /// number or address. The libraries named here may write what a peer sent, or a slow
        /// statement with what it stores: keep them quiet unless you look for a fault.
        pub level: Level = Level(QUIET.to_owned()),
    }
}

/// How much is written, or how much of which part: the directives of `tracing`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Level(String);

impl Level {
    const NAMES: [&'static str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Refuses what `tracing` would not understand, and what it would take for the name of a part: a
    /// level written wrong would silence everything.
    fn check(text: &str) -> Result<(), String> {
        for directive in text.split(',').map(str::trim).filter(|d| !d.is_empty()) {
            let level = directive
                .rsplit_once('=')
                .map_or(directive, |(_, level)| level);
            if !Self::NAMES.contains(&level.to_ascii_lowercase().as_str()) {
                let unknown = unknown("level", level, &Self::NAMES);
                return Err(format!("names an {unknown}"));
            }
        }
        tracing_subscriber::EnvFilter::try_new(text)
            .map(drop)
            .map_err(|error| format!("is not understood: {error}"))
    }
}

impl Setting for Level {
    fn read(value: &RawValue) -> Result<Self, String> {
        let text = String::read(value)?;
        Self::check(&text)?;
        Ok(Self(text))
    }

    fn write(&self) -> String {
        self.0.write()
    }
}

/// A mistake in the configuration, with its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    /// File and line, or the environment variable.
    pub place: String,
    /// What is wrong and what to write instead.
    pub sentence: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.sentence)
    }
}

impl std::error::Error for ConfigError {}

/// The sections of the file, by name, in its order.
pub(crate) type Sections<'a> = [(&'static str, &'a mut dyn Section)];

/// Applies the text of a `palabre.toml`; `name` is how errors call the file.
///
/// # Errors
/// [`ConfigError`] for the first thing that is not understood; sections may then be half set.
pub(crate) fn apply_file(
    text: &str,
    name: &str,
    sections: &mut Sections<'_>,
) -> Result<(), ConfigError> {
    let line = |offset: usize| {
        1 + text.as_bytes()[..offset.min(text.len())]
            .iter()
            .filter(|b| **b == b'\n')
            .count()
    };
    let error = |span: Option<std::ops::Range<usize>>, sentence: String| ConfigError {
        place: match span {
            Some(span) => format!("{name}, line {}", line(span.start)),
            None => name.to_owned(),
        },
        sentence,
    };
    let document = toml_edit::Document::parse(text)
        .map_err(|e| error(e.span(), e.message().trim().to_owned()))?;
    let root = document.as_table();
    for (section_name, item) in root.iter() {
        let span = root.key(section_name).and_then(|key| key.span());
        let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
        let Some((_, section)) = sections.iter_mut().find(|(name, _)| *name == section_name) else {
            return Err(error(span, unknown("section", section_name, &names)));
        };
        let Some(table) = item.as_table_like() else {
            return Err(error(
                span,
                format!(
                    "`{section_name}` is a section: write `[{section_name}]`, then its keys below"
                ),
            ));
        };
        for (key, item) in table.iter() {
            let span = table.key(key).and_then(|key| key.span());
            let value = item.as_value().and_then(raw).ok_or_else(|| {
                error(
                    span.clone(),
                    format!("`{key}` takes a simple value, not a table or a date"),
                )
            })?;
            set(section_name, *section, key, &value).map_err(|sentence| error(span, sentence))?;
        }
    }
    Ok(())
}

/// Applies the variables that start with [`ENVIRONMENT_PREFIX`].
///
/// # Errors
/// [`ConfigError`] naming the variable.
pub(crate) fn apply_environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
    sections: &mut Sections<'_>,
) -> Result<(), ConfigError> {
    for (variable, value) in variables {
        // What is not text cannot be ours.
        let (Ok(variable), Ok(value)) = (variable.into_string(), value.into_string()) else {
            continue;
        };
        let Some(path) = variable.strip_prefix(ENVIRONMENT_PREFIX) else {
            continue;
        };
        let error = |sentence: String| ConfigError {
            place: format!("environment variable {variable}"),
            sentence,
        };
        let path = path.to_ascii_lowercase();
        let Some((section_name, key)) = path.split_once("__") else {
            return Err(error(format!("expected {ENVIRONMENT_PREFIX}SECTION__KEY")));
        };
        let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
        let Some((_, section)) = sections.iter_mut().find(|(name, _)| *name == section_name) else {
            return Err(error(unknown("section", section_name, &names)));
        };
        set(section_name, *section, key, &RawValue::Text(value)).map_err(error)?;
    }
    Ok(())
}

/// The commented file with the values in force.
#[must_use]
pub(crate) fn print(sections: &Sections<'_>) -> String {
    let mut out = String::from(
        "# Palabre's configuration. Every key is optional. What stands here is in force: the defaults, unless a file or\n\
         # the environment says otherwise. An environment variable overrides a key: PALABRE__SECTION__KEY.\n",
    );
    for (name, section) in sections {
        out.push('\n');
        comment(&mut out, section.doc());
        out.push_str(&format!("[{name}]\n"));
        for key in section.keys() {
            comment(&mut out, key.doc);
            match key.value {
                Some(value) => out.push_str(&format!("{} = {value}\n", key.name)),
                None => out.push_str(&format!("# {} is not set\n", key.name)),
            }
        }
    }
    out
}

fn comment(out: &mut String, lines: &[&str]) {
    for line in lines {
        out.push('#');
        out.push_str(line);
        out.push('\n');
    }
}

fn set(
    section_name: &str,
    section: &mut dyn Section,
    key: &str,
    value: &RawValue,
) -> Result<(), String> {
    section.set(key, value).map_err(|rejected| match rejected {
        Rejected::Invalid(sentence) => format!("`{section_name}.{key}` {sentence}"),
        Rejected::UnknownKey => {
            let names: Vec<&str> = section.keys().iter().map(|k| k.name).collect();
            unknown(&format!("key in [{section_name}]"), key, &names)
        }
    })
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .min();
    match nearest {
        Some((distance, candidate)) if distance <= 1 + name.len() / 3 => {
            format!("unknown {what}: `{name}`; did you mean `{candidate}`?")
        }
        _ => format!("unknown {what}: `{name}`; it has {}", known.join(", ")),
    }
}

fn raw(value: &toml_edit::Value) -> Option<RawValue> {
    Some(match value {
        toml_edit::Value::String(s) => RawValue::Text(s.value().clone()),
        toml_edit::Value::Integer(n) => RawValue::Integer(*n.value()),
        toml_edit::Value::Float(n) => RawValue::Float(*n.value()),
        toml_edit::Value::Boolean(b) => RawValue::Bool(*b.value()),
        toml_edit::Value::Array(items) => {
            RawValue::List(items.iter().map(raw).collect::<Option<_>>()?)
        }
        toml_edit::Value::Datetime(_) | toml_edit::Value::InlineTable(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(run: impl FnOnce(&mut Sections<'_>) -> T) -> (T, Storage, Log) {
        let (mut storage, mut log) = (Storage::default(), Log::default());
        let result = run(&mut [("storage", &mut storage), ("log", &mut log)]);
        (result, storage, log)
    }

    #[test]
    fn keys_are_read_and_the_environment_wins() {
        let (result, storage, log) = with(|sections| {
            apply_file(
                "[storage]\nfolder = \"/var/lib/palabre\"\n[log]\nlevel = \"warn\"\n",
                "palabre.toml",
                sections,
            )?;
            let variables = [("PALABRE__LOG__LEVEL", "debug"), ("HOME", "/")];
            apply_environment(
                variables
                    .iter()
                    .map(|(k, v)| (OsString::from(k), OsString::from(v))),
                sections,
            )
        });
        assert_eq!(result, Ok(()));
        assert_eq!(storage.folder, PathBuf::from("/var/lib/palabre"));
        assert_eq!(log.level.as_str(), "debug");
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_key() {
        let (result, ..) =
            with(|s| apply_file("# c\n[storage]\n\nfodler = \"x\"\n", "palabre.toml", s));
        let error = result.expect_err("a refusal");
        assert_eq!(error.place, "palabre.toml, line 4");
        assert_eq!(
            error.sentence,
            "unknown key in [storage]: `fodler`; did you mean `folder`?"
        );
    }

    #[test]
    fn an_unknown_section_and_a_wrong_type_are_refused_with_their_line() {
        let (result, ..) = with(|s| apply_file("[zzzzzz]\n", "f", s));
        assert_eq!(
            result.expect_err("a refusal").sentence,
            "unknown section: `zzzzzz`; it has storage, log"
        );
        let (result, ..) = with(|s| apply_file("[log]\nlevel = 3\n", "f", s));
        let error = result.expect_err("a refusal");
        assert_eq!(
            error.to_string(),
            "f, line 2: `log.level` expected a string in quotes, found an integer"
        );
    }

    #[test]
    fn a_level_written_wrong_is_refused_with_its_line_and_the_nearest() {
        let refused = |level: &str| {
            let text = format!("[log]\nlevel = \"{level}\"\n");
            let (result, ..) = with(|s| apply_file(&text, "f", s));
            result.err().map(|error| error.to_string())
        };
        assert_eq!(
            refused("inof").as_deref(),
            Some("f, line 2: `log.level` names an unknown level: `inof`; did you mean `info`?")
        );
        assert!(refused("info,palabre_sip=debgu").is_some_and(|e| e.contains("`debug`")));
        assert!(refused("palabre_sip").is_some_and(|e| e.contains("it has off, error")));
        assert!(refused("info,[=debug").is_some());
        for level in ["warn", "INFO", "info,palabre_sip=trace", QUIET, "off"] {
            assert_eq!(refused(level), None, "{level}");
        }
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let (result, ..) = with(|s| apply_file("[log]\nlevel = \n", "f", s));
        assert!(
            result
                .expect_err("a refusal")
                .place
                .starts_with("f, line 2"),
            "its line"
        );
    }

    #[test]
    fn the_printed_file_reads_back_unchanged() {
        let (text, ..) = with(|sections| print(sections));
        let (result, storage, log) = with(|sections| apply_file(&text, "printed", sections));
        assert_eq!(result, Ok(()));
        assert_eq!((storage, log), (Storage::default(), Log::default()));
    }

    #[test]
    fn an_environment_variable_that_fits_nothing_is_refused() {
        for name in [
            "PALABRE__NOTHING",
            "PALABRE__LOG__LEVLE",
            "PALABRE__LGO__LEVEL",
        ] {
            let (result, ..) = with(|s| {
                apply_environment([(OsString::from(name), OsString::from("x"))].into_iter(), s)
            });
            assert!(
                result.expect_err("a refusal").place.contains(name),
                "{name}"
            );
        }
    }
}
