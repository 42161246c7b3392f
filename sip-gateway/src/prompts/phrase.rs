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
    /// The meeting lets nobody else in.
    RoomLocked = "room-locked",
    /// The meeting has ended.
    RoomClosed = "room-closed",
    /// The host has removed you.
    Removed = "removed",
    /// The host did not let you in.
    Refused = "refused",
    /// You are in the waiting room.
    WaitingRoom = "waiting-room",
    /// The meeting has not started.
    NotStarted = "not-started",
    /// The service is not available.
    Unavailable = "unavailable",
    /// Goodbye.
    Goodbye = "goodbye",
    /// The meeting is being recorded.
    RecordingOn = "recording-on",
    /// The recording has stopped.
    RecordingOff = "recording-off",
    /// Your hand is raised.
    HandRaised = "hand-raised",
    /// Your hand is lowered.
    HandLowered = "hand-lowered",
    /// You have the floor.
    YourTurn = "your-turn",
    /// Nobody else is there yet.
    Alone = "alone",
    /// Before a number.
    ThereAre = "there-are",
    /// After a number.
    Participants = "participants",
    /// After a number: other people.
    Others = "others",
    /// There is one other person.
    OneOther = "one-other",
    /// Before a number that is a lower bound.
    MoreThan = "more-than",
    /// After a name: has joined.
    Entered = "entered",
    /// After a name: has left.
    Left = "left",
    /// The `#` key.
    Hash = "hash",
    /// The `*` key.
    Star = "star",
    /// 0
    Number0 = "number-0",
    /// 1
    Number1 = "number-1",
    /// 2
    Number2 = "number-2",
    /// 3
    Number3 = "number-3",
    /// 4
    Number4 = "number-4",
    /// 5
    Number5 = "number-5",
    /// 6
    Number6 = "number-6",
    /// 7
    Number7 = "number-7",
    /// 8
    Number8 = "number-8",
    /// 9
    Number9 = "number-9",
    /// 10
    Number10 = "number-10",
    /// 11
    Number11 = "number-11",
    /// 12
    Number12 = "number-12",
    /// 13
    Number13 = "number-13",
    /// 14
    Number14 = "number-14",
    /// 15
    Number15 = "number-15",
    /// 16
    Number16 = "number-16",
    /// 17
    Number17 = "number-17",
    /// 18
    Number18 = "number-18",
    /// 19
    Number19 = "number-19",
    /// 20
    Number20 = "number-20",
    /// 30
    Number30 = "number-30",
    /// 40
    Number40 = "number-40",
    /// 50
    Number50 = "number-50",
    /// 100
    Number100 = "number-100",
}

impl Phrase {
    /// The phrase that says `number`, if it is said in one piece: 0 to 20, 30, 40, 50, 100.
    #[must_use]
    pub fn number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|phrase| {
            phrase.file().strip_prefix("number-") == Some(number.to_string().as_str())
        })
    }
}
