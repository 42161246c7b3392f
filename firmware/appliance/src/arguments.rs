//! The arguments of the two programs: commands, options with a value, flags. Nothing is guessed.

use std::ffi::OsString;
use std::time::Duration;

/// What the command line gets wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Usage(pub String);

/// Arguments that are taken one by one; [`Arguments::end`] refuses what is left.
#[derive(Debug)]
pub struct Arguments {
    options: Vec<(String, Option<String>)>,
    words: std::collections::VecDeque<Result<String, Usage>>,
}

impl Arguments {
    /// Reads `given`, where `flags` are the options without a value.
    pub fn new(given: Vec<OsString>, flags: &[&str]) -> Self {
        let mut arguments = Self {
            options: Vec::new(),
            words: std::collections::VecDeque::new(),
        };
        let mut given = given.into_iter().map(|word| {
            word.into_string()
                .map_err(|word| Usage(format!("{} is not text", word.display())))
        });
        while let Some(word) = given.next() {
            match word {
                Ok(name) if flags.contains(&name.as_str()) => arguments.options.push((name, None)),
                Ok(name) if name.len() > 1 && name.starts_with('-') => match given.next() {
                    Some(Ok(value)) => arguments.options.push((name, Some(value))),
                    Some(Err(usage)) => arguments.words.push_back(Err(usage)),
                    None => arguments
                        .words
                        .push_back(Err(Usage(format!("{name} needs a value")))),
                },
                other => arguments.words.push_back(other),
            }
        }
        arguments
    }

    /// The next word that is no option.
    pub fn word(&mut self) -> Result<Option<String>, Usage> {
        self.words.pop_front().transpose()
    }

    /// The next word, which must be there.
    pub fn needed_word(&mut self, what: &str) -> Result<String, Usage> {
        self.word()?
            .ok_or_else(|| Usage(format!("{what} is missing")))
    }

    /// Whether a flag was given.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.options.len();
        self.options
            .retain(|(given, value)| given != name || value.is_some());
        self.options.len() < before
    }

    /// The value of an option, which may be given once.
    pub fn value(&mut self, name: &str) -> Result<Option<String>, Usage> {
        let Some(at) = self.options.iter().position(|(given, _)| given == name) else {
            return Ok(None);
        };
        let (_, value) = self.options.remove(at);
        if self.options.iter().any(|(given, _)| given == name) {
            return Err(Usage(format!("{name} is given twice")));
        }
        Ok(value)
    }

    /// The value of an option that must be given.
    pub fn needed(&mut self, name: &str) -> Result<String, Usage> {
        self.value(name)?
            .ok_or_else(|| Usage(format!("{name} is missing")))
    }

    /// A number of seconds, from 1 to 3600; `usual` when it is not given.
    pub fn seconds(&mut self, name: &str, usual: Duration) -> Result<Duration, Usage> {
        match self.value(name)?.map(|text| text.parse()) {
            None => Ok(usual),
            Some(Ok(seconds @ 1..=3600)) => Ok(Duration::from_secs(seconds)),
            Some(_) => Err(Usage(format!(
                "{name} is a number of seconds from 1 to 3600"
            ))),
        }
    }

    /// Refuses what nobody took.
    pub fn end(&mut self) -> Result<(), Usage> {
        if let Some(word) = self.word()? {
            return Err(Usage(format!("`{word}` is not understood")));
        }
        match self.options.first() {
            Some((name, _)) => Err(Usage(format!("{name} is not understood here"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Arguments {
        Arguments::new(text.split(' ').map(OsString::from).collect(), &["--json"])
    }

    #[test]
    fn everything_is_taken_or_refused() {
        let mut arguments = given("status --json --disk /dev/vda");
        assert_eq!(arguments.needed_word("command").unwrap(), "status");
        assert!(arguments.flag("--json") && !arguments.flag("--json"));
        assert_eq!(
            arguments.value("--disk").unwrap().as_deref(),
            Some("/dev/vda")
        );
        assert_eq!(arguments.value("--disk"), Ok(None));
        assert_eq!(arguments.end(), Ok(()));
        assert!(given("status more").end().is_err());
        assert!(given("--wrong x").end().is_err());
        assert!(given("--disk").word().is_err());
        assert!(given("--disk a --disk b").value("--disk").is_err());
        assert!(given("x").needed("--disk").is_err());
    }
}
