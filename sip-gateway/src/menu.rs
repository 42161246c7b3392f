//! The voice menu of a caller who is in no room yet: language, nine digits, tries, and how it ends.
//!
//! A state machine with time as an argument: keys and answers go in, announcements and look-ups come out. It plays nothing,
//! looks up nothing and never sees who calls.
//!
//! | key | with nothing typed | with digits typed |
//! |---|---|---|
//! | `0`-`9` | begins the code, cuts the announcement short | continues it; the ninth looks it up |
//! | `#` | repeats the instructions | ends the code: fewer than nine digits is a wrong try |
//! | `*` | changes the language | erases what was typed |

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::prompts::{Language, Phrase, Say};

/// Digits of a room's code.
const DIGITS: usize = 9;

/// Wait after the first wrong code of a call; doubles with each. More slows a guesser who has many numbers to call from, less
/// is kinder to who mistyped.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Waits above this are not sat out on the line: the caller is asked to call again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Waits above this are announced, so that the silence does not sound like a broken line.
const ANNOUNCED_WAIT: Duration = Duration::from_secs(3);

/// Times a look-up is repeated because the source had to wait first (another caller of the same source may be trying too).
const LOOKUPS: u32 = 3;

/// How patient the menu is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Wrong or incomplete codes after which the call ends.
    pub tries: u32,
    /// Silence after an announcement before it is repeated; the third silence ends the call.
    pub answer: Duration,
    /// Silence after a digit before what was typed counts as complete.
    pub digit: Duration,
    /// Longest stay in the menu, whatever is typed.
    pub whole: Duration,
    /// Longest wait for a look-up.
    pub lookup: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 3,
            answer: Duration::from_secs(8),
            digit: Duration::from_secs(8),
            whole: Duration::from_secs(180),
            lookup: Duration::from_secs(10),
        }
    }
}

/// What happens to the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A key was pressed.
    Key(char),
    /// The last announcement was heard to its end.
    Announced,
    /// The look-up has an answer.
    LookedUp(Answer),
    /// [`Menu::deadline`] has passed.
    Timeout,
}

/// What the door answers to a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The room is open to the caller.
    Open,
    /// There is such a room, but no place in it.
    Full,
    /// No room has this code.
    Wrong {
        /// Time before the source's next try is looked at.
        wait: Duration,
    },
    /// The code was not looked at: too soon.
    Slowed {
        /// Time before it will be.
        wait: Duration,
    },
    /// The code was not looked at: too many wrong ones.
    LockedOut,
    /// Rooms cannot be looked up now.
    Unavailable,
}

/// What the menu wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Say this instead of what is being said; then give [`Input::Announced`].
    Announce(Vec<Say>),
    /// Say nothing more.
    Hush,
    /// Ask the door for the room with these nine digits; then give [`Input::LookedUp`].
    LookUp(String),
    /// The menu is over: the code was right, or the call is to be ended.
    Over(Outcome),
}

/// How a menu ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The code opened a room.
    Entered,
    /// Too many wrong codes in this call.
    TooManyTries,
    /// Too many wrong codes from this source.
    LockedOut,
    /// Nothing was typed, or not to the end.
    NoCode,
    /// The room is full.
    RoomFull,
    /// Rooms cannot be looked up.
    Unavailable,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 6] = [
        Self::Entered,
        Self::TooManyTries,
        Self::LockedOut,
        Self::NoCode,
        Self::RoomFull,
        Self::Unavailable,
    ];

    /// Stable name, for metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Entered => "entered",
            Self::TooManyTries => "too_many_tries",
            Self::LockedOut => "locked_out",
            Self::NoCode => "no_code",
            Self::RoomFull => "room_full",
            Self::Unavailable => "unavailable",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Waiting for keys; while the announcement plays there is no deadline.
    Listening {
        until: Option<Instant>,
    },
    /// The door was asked.
    LookingUp {
        until: Instant,
    },
    /// The door has to be asked again, not before `until`.
    Slowed {
        until: Instant,
    },
    /// A wrong code is being paid for: keys do nothing until both the announcement and the wait are over.
    Paying {
        until: Instant,
        announced: bool,
    },
    /// The last words.
    Leaving(Outcome),
    Over,
}

/// The menu of one call.
#[derive(Debug)]
pub struct Menu {
    patience: Patience,
    language: Language,
    state: State,
    /// End of the caller's time.
    end: Instant,
    digits: String,
    wrong: u32,
    silences: u32,
    lookups: u32,
    outputs: VecDeque<Output>,
}

impl Menu {
    /// Begins with the greeting.
    #[must_use]
    pub fn new(now: Instant, language: Language, patience: Patience) -> Self {
        let mut menu = Self {
            patience,
            language,
            state: State::Over,
            end: now + patience.whole,
            digits: String::with_capacity(DIGITS),
            wrong: 0,
            silences: 0,
            lookups: 0,
            outputs: VecDeque::new(),
        };
        // Media paths open with the first packets: what is said in the first half second is often lost.
        let mut greeting = vec![Say::Pause, Say::Pause];
        greeting.extend(menu.phrases(&[Phrase::Welcome]));
        greeting.extend(menu.instructions());
        menu.listen_after(greeting);
        menu
    }

    /// The language spoken now.
    #[must_use]
    pub fn language(&self) -> Language {
        self.language
    }

    /// Takes one input; drain [`poll`](Self::poll) afterwards.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Key(key) => self.key(now, key),
            Input::Announced => self.announced(now),
            Input::LookedUp(answer) => self.looked_up(now, answer),
            Input::Timeout => self.timeout(now),
        }
    }

    /// The next thing to do, or `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to give [`Input::Timeout`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Listening { until } => Some(until.map_or(self.end, |until| until.min(self.end))),
            State::LookingUp { until } | State::Slowed { until } => Some(*until),
            State::Paying { until, announced } => announced.then_some(*until),
            State::Leaving(_) | State::Over => None,
        }
    }

    fn key(&mut self, now: Instant, key: char) {
        if !matches!(self.state, State::Listening { .. }) {
            // A `#` after the ninth digit comes here: the code is being looked up already.
            return;
        }
        match key {
            '0'..='9' => {
                if self.digits.is_empty() {
                    self.outputs.push_back(Output::Hush);
                }
                self.silences = 0;
                self.digits.push(key);
                if self.digits.len() == DIGITS {
                    self.lookups = 0;
                    self.look_up(now);
                } else {
                    let until = Some(now + self.patience.digit);
                    self.state = State::Listening { until };
                }
            }
            '#' if self.digits.is_empty() => {
                let instructions = self.instructions();
                self.listen_after(instructions);
            }
            '#' => self.wrong(now, Phrase::CodeIncomplete, Duration::ZERO),
            '*' if self.digits.is_empty() => {
                self.language = self.language.other();
                let mut greeting = self.phrases(&[Phrase::Welcome]);
                greeting.extend(self.instructions());
                self.listen_after(greeting);
            }
            '*' => {
                self.digits.clear();
                let erased = self.phrases(&[Phrase::CodeErased, Phrase::EnterCode]);
                self.listen_after(erased);
            }
            _ => {}
        }
    }

    fn announced(&mut self, now: Instant) {
        match &mut self.state {
            State::Listening {
                until: until @ None,
            } => *until = Some(now + self.patience.answer),
            State::Paying { until, announced } => {
                if now >= *until {
                    self.ask_again();
                } else {
                    *announced = true;
                }
            }
            State::Leaving(outcome) => {
                let outcome = *outcome;
                self.over(outcome);
            }
            _ => {}
        }
    }

    fn looked_up(&mut self, now: Instant, answer: Answer) {
        if !matches!(self.state, State::LookingUp { .. }) {
            return;
        }
        match answer {
            Answer::Open => self.over(Outcome::Entered),
            Answer::Full => self.leave(&[Phrase::RoomFull], Outcome::RoomFull),
            Answer::Wrong { wait } => self.wrong(now, Phrase::WrongCode, wait),
            Answer::Slowed { wait } if wait > LONGEST_WAIT || self.lookups == LOOKUPS => {
                self.leave(&[Phrase::LockedOut], Outcome::LockedOut);
            }
            Answer::Slowed { wait } => {
                let wait_please = self.phrases(&[Phrase::PleaseWait]);
                self.outputs.push_back(Output::Announce(wait_please));
                self.state = State::Slowed { until: now + wait };
            }
            Answer::LockedOut => self.leave(&[Phrase::LockedOut], Outcome::LockedOut),
            Answer::Unavailable => self.leave(&[Phrase::Unavailable], Outcome::Unavailable),
        }
    }

    fn timeout(&mut self, now: Instant) {
        let reached = |until: &Instant| now >= *until;
        match &self.state {
            State::Listening { .. } if now >= self.end => {
                self.leave(&[Phrase::NothingEntered], Outcome::NoCode);
            }
            State::Listening { until: Some(until) } if reached(until) => {
                if !self.digits.is_empty() {
                    return self.wrong(now, Phrase::CodeIncomplete, Duration::ZERO);
                }
                self.silences += 1;
                if self.silences == self.patience.tries {
                    self.leave(&[Phrase::NothingEntered], Outcome::NoCode);
                } else {
                    let instructions = self.instructions();
                    self.listen_after(instructions);
                }
            }
            State::LookingUp { until } if reached(until) => {
                self.leave(&[Phrase::Unavailable], Outcome::Unavailable);
            }
            State::Slowed { until } if reached(until) => self.look_up(now),
            State::Paying {
                until,
                announced: true,
            } if reached(until) => self.ask_again(),
            _ => {}
        }
    }

    fn look_up(&mut self, now: Instant) {
        self.lookups += 1;
        self.outputs.push_back(Output::LookUp(self.digits.clone()));
        self.state = State::LookingUp {
            until: now + self.patience.lookup,
        };
    }

    fn wrong(&mut self, now: Instant, phrase: Phrase, wait: Duration) {
        self.digits.clear();
        self.wrong += 1;
        if self.wrong >= self.patience.tries {
            return self.leave(&[phrase, Phrase::TooManyTries], Outcome::TooManyTries);
        }
        let wait = if phrase == Phrase::WrongCode {
            wait.max(FIRST_WAIT * 2u32.saturating_pow(self.wrong - 1))
        } else {
            // Too few digits guess nothing.
            wait
        };
        if wait > LONGEST_WAIT {
            return self.leave(&[phrase, Phrase::LockedOut], Outcome::LockedOut);
        }
        let said = if wait > ANNOUNCED_WAIT {
            self.phrases(&[phrase, Phrase::PleaseWait])
        } else {
            self.phrases(&[phrase])
        };
        self.outputs.push_back(Output::Announce(said));
        self.state = State::Paying {
            until: now + wait,
            announced: false,
        };
    }

    fn ask_again(&mut self) {
        let again = self.phrases(&[Phrase::TryAgain]);
        self.listen_after(again);
    }

    fn listen_after(&mut self, announcement: Vec<Say>) {
        self.outputs.push_back(Output::Announce(announcement));
        self.state = State::Listening { until: None };
    }

    fn leave(&mut self, phrases: &[Phrase], outcome: Outcome) {
        self.digits.clear();
        let words = farewell(self.language, phrases);
        self.outputs.push_back(Output::Announce(words));
        self.state = State::Leaving(outcome);
    }

    fn over(&mut self, outcome: Outcome) {
        self.state = State::Over;
        self.outputs.push_back(Output::Over(outcome));
    }

    fn phrases(&self, phrases: &[Phrase]) -> Vec<Say> {
        sentences(self.language, phrases)
    }

    /// How to type a code, and in the other language how to change to it.
    fn instructions(&self) -> Vec<Say> {
        let mut said = self.phrases(&[Phrase::EnterCode]);
        said.extend(sentences(self.language.other(), &[Phrase::ChooseLanguage]));
        said
    }
}

/// Phrases one after the other, a breath after each.
#[must_use]
pub fn sentences(language: Language, phrases: &[Phrase]) -> Vec<Say> {
    let spoken = |phrase: &Phrase| [Say::Phrase(language, *phrase), Say::Pause];
    phrases.iter().flat_map(spoken).collect()
}

/// The same, and goodbye.
#[must_use]
pub fn farewell(language: Language, phrases: &[Phrase]) -> Vec<Say> {
    let mut said = sentences(language, phrases);
    said.extend([Say::Phrase(language, Phrase::Goodbye), Say::Pause]);
    said
}

#[cfg(test)]
mod tests;
