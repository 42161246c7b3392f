use proptest::prelude::*;

use super::*;

/// A menu with a clock of its own, and what it has asked for.
struct Caller {
    now: Instant,
    menu: Menu,
    outputs: Vec<Output>,
}

impl Caller {
    fn new() -> Self {
        let now = Instant::now();
        let menu = Menu::new(now, Language::French, Patience::default());
        let mut caller = Self {
            now,
            menu,
            outputs: Vec::new(),
        };
        caller.drain();
        caller
    }

    /// In the greeting, outputs forgotten.
    fn greeted() -> Self {
        let mut caller = Self::new();
        caller.outputs.clear();
        caller
    }

    fn drain(&mut self) {
        while let Some(output) = self.menu.poll() {
            self.outputs.push(output);
        }
    }

    fn give(&mut self, input: Input) {
        self.menu.handle(self.now, input);
        self.drain();
    }

    fn type_keys(&mut self, keys: &str) {
        keys.chars().for_each(|key| self.give(Input::Key(key)));
    }

    /// Lets the menu's own deadline pass; returns how long that took.
    fn wait(&mut self) -> Duration {
        let deadline = self.menu.deadline().expect("something to wait for");
        let waited = deadline.saturating_duration_since(self.now);
        self.now = deadline;
        self.give(Input::Timeout);
        waited
    }

    fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Phrases of the last announcement.
    fn said(&mut self) -> Vec<Phrase> {
        let last = self
            .take()
            .into_iter()
            .rev()
            .find_map(|output| match output {
                Output::Announce(said) => Some(said),
                _ => None,
            });
        let phrase = |say: &Say| match say {
            Say::Phrase(_, phrase) => Some(*phrase),
            _ => None,
        };
        last.expect("an announcement")
            .iter()
            .filter_map(phrase)
            .collect()
    }

    fn wrong(&mut self) {
        self.type_keys("123456789");
        self.give(Input::LookedUp(Answer::Wrong {
            wait: Duration::ZERO,
        }));
    }
}

#[test]
fn the_greeting_says_how_to_type_and_in_the_other_language_how_to_change() {
    let mut caller = Caller::new();
    let outputs = caller.take();
    let [Output::Announce(said)] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    let phrases: Vec<&Say> = said.iter().filter(|say| **say != Say::Pause).collect();
    assert_eq!(
        phrases,
        [
            &Say::Phrase(Language::French, Phrase::Welcome),
            &Say::Phrase(Language::French, Phrase::EnterCode),
            &Say::Phrase(Language::English, Phrase::ChooseLanguage),
        ]
    );
    assert_eq!(said[0], Say::Pause);
}

#[test]
fn nine_digits_open_the_room_and_cut_the_greeting_short() {
    let mut caller = Caller::greeted();
    caller.type_keys("123456789#");
    assert_eq!(
        caller.take(),
        [Output::Hush, Output::LookUp("123456789".into())]
    );
    caller.give(Input::LookedUp(Answer::Open));
    assert_eq!(caller.take(), [Output::Over(Outcome::Entered)]);
    caller.type_keys("1#*");
    caller.give(Input::Announced);
    caller.give(Input::LookedUp(Answer::Open));
    assert_eq!(caller.take(), []);
    assert_eq!(caller.menu.deadline(), None);
}

#[test]
fn star_changes_the_language_and_later_erases() {
    let mut caller = Caller::greeted();
    caller.type_keys("*");
    assert_eq!(caller.menu.language(), Language::English);
    let outputs = caller.take();
    assert!(matches!(&outputs[..], [Output::Announce(said)]
        if said[0] == Say::Phrase(Language::English, Phrase::Welcome)
        && said.contains(&Say::Phrase(Language::French, Phrase::ChooseLanguage))));
    caller.type_keys("12*");
    assert_eq!(caller.said(), [Phrase::CodeErased, Phrase::EnterCode]);
    assert_eq!(caller.menu.language(), Language::English);
    caller.type_keys("987654321");
    assert!(caller.take().contains(&Output::LookUp("987654321".into())));
}

#[test]
fn hash_alone_repeats_the_instructions_at_no_cost() {
    let mut caller = Caller::greeted();
    for _ in 0..10 {
        caller.type_keys("#");
        assert_eq!(caller.said(), [Phrase::EnterCode, Phrase::ChooseLanguage]);
    }
    caller.type_keys("123456789");
    assert!(caller.take().contains(&Output::LookUp("123456789".into())));
}

#[test]
fn three_wrong_codes_end_the_call_and_each_costs_more_time() {
    let mut caller = Caller::greeted();
    caller.wrong();
    assert_eq!(caller.said(), [Phrase::WrongCode]);
    caller.type_keys("123456789");
    assert_eq!(caller.take(), [], "keys do nothing while the caller pays");
    caller.give(Input::Announced);
    assert_eq!(caller.take(), [], "the wait is not over");
    assert_eq!(caller.wait(), Duration::from_secs(1));
    assert_eq!(caller.said(), [Phrase::TryAgain]);
    caller.wrong();
    caller.take();
    caller.now += Duration::from_secs(1);
    caller.give(Input::Announced);
    assert_eq!(caller.wait(), Duration::from_secs(1), "two seconds in all");
    caller.take();
    caller.wrong();
    assert_eq!(
        caller.said(),
        [Phrase::WrongCode, Phrase::TooManyTries, Phrase::Goodbye]
    );
    caller.type_keys("123456789");
    assert_eq!(caller.take(), []);
    caller.give(Input::Announced);
    assert_eq!(caller.take(), [Output::Over(Outcome::TooManyTries)]);
}

#[test]
fn the_doors_wait_is_sat_out_and_announced_when_long() {
    let mut caller = Caller::greeted();
    caller.type_keys("123456789");
    caller.give(Input::LookedUp(Answer::Wrong {
        wait: Duration::from_secs(16),
    }));
    assert_eq!(caller.said(), [Phrase::WrongCode, Phrase::PleaseWait]);
    caller.give(Input::Announced);
    assert_eq!(caller.wait(), Duration::from_secs(16));
    assert_eq!(caller.said(), [Phrase::TryAgain]);
    caller.type_keys("123456789");
    caller.give(Input::LookedUp(Answer::Wrong {
        wait: Duration::from_secs(900),
    }));
    assert_eq!(
        caller.said(),
        [Phrase::WrongCode, Phrase::LockedOut, Phrase::Goodbye]
    );
    caller.give(Input::Announced);
    assert_eq!(caller.take(), [Output::Over(Outcome::LockedOut)]);
}

#[test]
fn a_code_that_came_too_soon_is_looked_up_again_by_itself() {
    let mut caller = Caller::greeted();
    caller.type_keys("123456789");
    let slowed = Input::LookedUp(Answer::Slowed {
        wait: Duration::from_secs(4),
    });
    caller.take();
    caller.give(slowed);
    assert_eq!(caller.said(), [Phrase::PleaseWait]);
    assert_eq!(caller.wait(), Duration::from_secs(4));
    assert_eq!(caller.take(), [Output::LookUp("123456789".into())]);
    caller.give(slowed);
    caller.wait();
    caller.take();
    caller.give(slowed);
    assert_eq!(
        caller.said(),
        [Phrase::LockedOut, Phrase::Goodbye],
        "not for ever"
    );
    let mut caller = Caller::greeted();
    caller.type_keys("123456789");
    caller.give(Input::LookedUp(Answer::Slowed {
        wait: Duration::from_secs(31),
    }));
    assert_eq!(caller.said(), [Phrase::LockedOut, Phrase::Goodbye]);
}

#[test]
fn each_refusal_has_its_last_words() {
    for (answer, phrase, outcome) in [
        (Answer::Full, Phrase::RoomFull, Outcome::RoomFull),
        (Answer::LockedOut, Phrase::LockedOut, Outcome::LockedOut),
        (
            Answer::Unavailable,
            Phrase::Unavailable,
            Outcome::Unavailable,
        ),
    ] {
        let mut caller = Caller::greeted();
        caller.type_keys("123456789");
        caller.give(Input::LookedUp(answer));
        assert_eq!(caller.said(), [phrase, Phrase::Goodbye]);
        assert_eq!(caller.menu.deadline(), None);
        caller.give(Input::Announced);
        assert_eq!(caller.take(), [Output::Over(outcome)]);
    }
}

#[test]
fn an_incomplete_code_is_a_try_that_costs_no_wait() {
    let mut caller = Caller::greeted();
    caller.type_keys("1234#");
    assert_eq!(caller.said(), [Phrase::CodeIncomplete]);
    caller.give(Input::Announced);
    assert_eq!(caller.said(), [Phrase::TryAgain]);
    caller.type_keys("12");
    assert_eq!(caller.wait(), Patience::default().digit);
    assert_eq!(caller.said(), [Phrase::CodeIncomplete]);
    caller.give(Input::Announced);
    caller.type_keys("1#");
    assert_eq!(
        caller.said(),
        [
            Phrase::CodeIncomplete,
            Phrase::TooManyTries,
            Phrase::Goodbye
        ]
    );
}

#[test]
fn silence_repeats_the_instructions_then_ends_the_call() {
    let mut caller = Caller::greeted();
    for _ in 0..2 {
        caller.give(Input::Announced);
        assert_eq!(caller.wait(), Patience::default().answer);
        assert_eq!(caller.said(), [Phrase::EnterCode, Phrase::ChooseLanguage]);
    }
    caller.give(Input::Announced);
    caller.wait();
    assert_eq!(caller.said(), [Phrase::NothingEntered, Phrase::Goodbye]);
    caller.give(Input::Announced);
    assert_eq!(caller.take(), [Output::Over(Outcome::NoCode)]);
}

#[test]
fn nobody_stays_in_the_menu_for_ever() {
    let mut caller = Caller::greeted();
    let start = caller.now;
    while !caller.outputs.contains(&Output::Over(Outcome::NoCode)) {
        assert!(caller.now - start <= Patience::default().whole);
        caller.now += Duration::from_secs(3);
        caller.give(Input::Timeout);
        caller.type_keys("1*#*");
        caller.give(Input::Announced);
    }
}

#[test]
fn a_door_that_never_answers_ends_the_call() {
    let mut caller = Caller::greeted();
    caller.type_keys("123456789");
    assert_eq!(caller.wait(), Patience::default().lookup);
    assert_eq!(caller.said(), [Phrase::Unavailable, Phrase::Goodbye]);
    caller.give(Input::LookedUp(Answer::Open));
    assert_eq!(caller.take(), [], "too late");
}

fn any_input() -> impl Strategy<Value = Input> {
    let wait = (0u64..60).prop_map(Duration::from_secs);
    let answer = prop_oneof![
        Just(Answer::Open),
        Just(Answer::Full),
        wait.clone().prop_map(|wait| Answer::Wrong { wait }),
        wait.prop_map(|wait| Answer::Slowed { wait }),
        Just(Answer::LockedOut),
        Just(Answer::Unavailable),
    ];
    prop_oneof![
        8 => proptest::char::range('0', '9').prop_map(Input::Key),
        2 => any::<char>().prop_map(Input::Key),
        2 => prop_oneof![Just('*'), Just('#'), Just('A')].prop_map(Input::Key),
        2 => Just(Input::Announced),
        1 => Just(Input::Timeout),
        1 => answer.prop_map(Input::LookedUp),
    ]
}

proptest! {
    /// Whatever comes in, in whatever order: only whole codes are looked up, the end comes once, and nothing after it.
    #[test]
    fn no_order_of_inputs_breaks_the_menu(inputs in proptest::collection::vec((any_input(), 0u64..12_000), 0..300)) {
        let mut caller = Caller::greeted();
        let mut over = false;
        for (input, pause) in inputs {
            caller.now += Duration::from_millis(pause);
            caller.give(input);
            for output in caller.take() {
                prop_assert!(!over, "{output:?} after the end");
                match output {
                    Output::LookUp(digits) => {
                        prop_assert!(digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit()));
                    }
                    Output::Announce(said) => prop_assert!(!said.is_empty()),
                    Output::Over(_) => over = true,
                    Output::Hush => {}
                }
            }
        }
    }
}
