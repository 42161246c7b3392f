//! What can be said on the telephone, and in which languages. The words are in `prompts/phrases.json`, their sound beside it.

use palabre_engine::settings::{RawValue, Setting};

/// A language of the prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Language {
    /// `fr`
    #[default]
    French,
    /// `en`
    English,
}

impl Language {
    /// Every language there are prompts in.
    pub const ALL: [Self; 2] = [Self::French, Self::English];

    /// The one a caller changes to.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::French => Self::English,
            Self::English => Self::French,
        }
    }

    /// ISO 639-1 code, also the name of its folder.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::French => "fr",
            Self::English => "en",
        }
    }
}

impl Setting for Language {
    fn read(value: &RawValue) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|language| *value == RawValue::Text(language.code().to_owned()))
            .ok_or_else(|| "expected a language, \"fr\" or \"en\"".to_owned())
    }

    fn write(&self) -> String {
        format!("\"{}\"", self.code())
    }
}

macro_rules! phrases {
    ($($(#[doc = $doc:literal])* $name:ident = $file:literal,)*) => {
        /// One recorded phrase.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Phrase {
            $($(#[doc = $doc])* $name,)*
        }

        impl Phrase {
            /// Every phrase.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Name of its file, without `.wav`.
            #[must_use]
            pub fn file(self) -> &'static str {
                match self { $(Self::$name => $file,)* }
            }

            /// The recording that ships with the program, a WAV file.
            pub(super) fn shipped(self, language: Language) -> &'static [u8] {
                match (language, self) {
                    $(
                        (Language::French, Self::$name) =>
                            include_bytes!(concat!("../../prompts/fr/", $file, ".wav")),
                        (Language::English, Self::$name) =>
                            include_bytes!(concat!("../../prompts/en/", $file, ".wav")),
                    )*
                }
            }
        }
    };
}

phrases! {
    /// Welcome.
    Welcome = "welcome",
    /// Enter the nine digit code, then hash.
    EnterCode = "enter-code",
    /// For this language, press star.
    ChooseLanguage = "language",
    /// The digits typed so far were thrown away.
    CodeErased = "code-erased",
    /// The code has nine digits.
    CodeIncomplete = "code-incomplete",
    /// Nothing was typed.
    NothingEntered = "nothing-entered",
    /// The code matches no meeting.
    WrongCode = "wrong-code",
    /// Please try again.
    TryAgain = "try-again",
    /// Too many tries in this call.
    TooManyTries = "too-many-tries",
    /// Too many wrong codes from this source.
    LockedOut = "locked-out",
    /// Unknown meeting.
    UnknownMeeting = "unknown-meeting",
    /// Please wait.
    PleaseWait = "please-wait",
    /// You are in the meeting.
    Joined = "joined",
    /// Zero mutes and unmutes.
    MuteKey = "mute-key",
    /// You are muted.
    Muted = "muted",
    /// You are unmuted.
    Unmuted = "unmuted",
    /// The host has muted you.
    MutedByHost = "muted-by-host",
    /// The meeting is full.
    RoomFull = "room-full",
    /// The meeting has ended.
    RoomClosed = "room-closed",
    /// The host has removed you.
    Removed = "removed",
    /// The service is not available.
    Unavailable = "unavailable",
    /// Goodbye.
    Goodbye = "goodbye",
}
