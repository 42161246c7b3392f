//! Who calls, and how much of it the others in the room may see: never the whole telephone number.

use std::collections::HashMap;
use std::net::IpAddr;

use palabre_engine::LegIdentity;
use palabre_engine::door::Source;

use crate::prompts::Language;
use crate::sip::{Invite, Party};

/// Longest name shown, in letters.
const LONGEST_NAME: usize = 40;

/// Longest number kept: E.164 has 15 digits, exchanges add prefixes.
const LONGEST_NUMBER: usize = 24;

/// The person at the other end of a call. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Caller {
    through: IpAddr,
    trusted: bool,
    /// Digits, perhaps with `+` before; `None` when hidden or not a number.
    number: Option<String>,
    name: Option<String>,
    anonymous: bool,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Caller(…)")
    }
}

impl Caller {
    /// Who an INVITE says it is; `trunks` are the addresses whose word about that is believed.
    #[must_use]
    pub fn of(invite: &Invite, trunks: &[IpAddr]) -> Self {
        let through = invite.flow.remote.ip().to_canonical();
        let trusted = trunks.iter().any(|trunk| trunk.to_canonical() == through);
        let party = match &invite.asserted {
            Some(asserted) if trusted => asserted,
            _ => &invite.from,
        };
        Self::new(party, invite.anonymous, through, trusted)
    }

    fn new(party: &Party, anonymous: bool, through: IpAddr, trusted: bool) -> Self {
        let nobody = party.user.is_empty() || party.user.eq_ignore_ascii_case("anonymous");
        let anonymous = anonymous || nobody;
        let number = number(&party.user);
        let name = match &number {
            Some(_) => None,
            None => Some(shown(party.name.as_deref().unwrap_or(&party.user))),
        };
        Self {
            through,
            trusted,
            number,
            name: name.filter(|name| !name.is_empty() && !anonymous),
            anonymous,
        }
    }

    /// Somebody who calls from a documentation address.
    #[cfg(test)]
    pub(crate) fn test(party: &Party) -> Self {
        Self::new(party, false, IpAddr::from([192, 0, 2, 9]), false)
    }

    /// For whom wrong codes are counted: the number, if it comes from somebody who would know, else the address. Anybody
    /// else could write another number with each call.
    #[must_use]
    pub fn source(&self) -> Source {
        if self.trusted {
            Source::Caller {
                through: self.through,
                number: self.number.clone().unwrap_or_default(),
            }
        } else {
            Source::Address(self.through)
        }
    }

    /// Whether media may go to `address` before the caller has proved to be there: it is where the call came from, or a trunk
    /// says so.
    #[must_use]
    pub fn is_at(&self, address: IpAddr) -> bool {
        self.trusted || address.to_canonical() == self.through
    }

    /// The number as others see it, such as `06 .. .. .. 42`.
    #[must_use]
    pub fn masked(&self) -> Option<String> {
        self.number
            .as_deref()
            .filter(|_| !self.anonymous)
            .map(masked)
    }

    /// What people in the room read.
    #[must_use]
    pub fn display_name(&self, language: Language) -> String {
        let telephone = match language {
            Language::French => "Téléphone",
            Language::English => "Telephone",
        };
        if let Some(masked) = self.masked() {
            return format!("{telephone} {masked}");
        }
        match (&self.name, language) {
            (Some(name), _) => format!("{telephone} ({name})"),
            (None, Language::French) => format!("{telephone} (numéro masqué)"),
            (None, Language::English) => format!("{telephone} (hidden number)"),
        }
    }

    /// The participant this caller becomes. `random` is unguessable: who knew an identity could push its owner out by
    /// joining under it.
    #[must_use]
    pub fn identity(
        &self,
        random: [u64; 2],
        call: &str,
        language: Language,
        show_numbers: bool,
    ) -> LegIdentity {
        let number = match &self.number {
            Some(number) if show_numbers && !self.anonymous => Some(number.clone()),
            _ => self.masked(),
        };
        let mut attributes = HashMap::from([
            ("sip.callID".to_owned(), call.to_owned()),
            ("sip.callStatus".to_owned(), "active".to_owned()),
        ]);
        if let Some(number) = number {
            attributes.insert("sip.phoneNumber".to_owned(), number);
        }
        // For the page, which says the rest of the name in the language of whoever looks.
        if let Some(caller) = self.masked().or_else(|| self.name.clone()) {
            attributes.insert("palabre.caller".to_owned(), caller);
        }
        LegIdentity {
            identity: format!("sip_{:016x}{:016x}", random[0], random[1]),
            name: self.display_name(language),
            attributes,
        }
    }
}

/// The user part as a telephone number: digits, perhaps with `+` before.
fn number(user: &str) -> Option<String> {
    let (plus, rest) = match user.strip_prefix('+') {
        Some(rest) => ("+", rest),
        None => ("", user),
    };
    // RFC 3966 parameters, and its visual separators.
    let rest = rest.split(';').next().unwrap_or_default();
    let digits: String = rest
        .chars()
        .filter(|letter| !matches!(letter, ' ' | '-' | '.' | '(' | ')'))
        .take(LONGEST_NUMBER + 1)
        .collect();
    let valid = (2..=LONGEST_NUMBER).contains(&digits.len())
        && digits.bytes().all(|digit| digit.is_ascii_digit());
    valid.then(|| format!("{plus}{digits}"))
}

/// Hides all but the beginning, which says what kind of number it is, and the last two digits.
fn masked(number: &str) -> String {
    let last = &number[number.len() - 2..];
    let digits = number.trim_start_matches('+').len();
    let french = ["+33", "0033"]
        .iter()
        .find_map(|prefix| number.strip_prefix(prefix))
        .or_else(|| number.strip_prefix("33").filter(|rest| rest.len() == 9))
        .or_else(|| number.strip_prefix('0'))
        .filter(|rest| rest.len() == 9 && !rest.starts_with('0'));
    match french {
        Some(rest) => format!("0{} .. .. .. {last}", &rest[..1]),
        None if digits >= 7 => format!(
            "{} .. .. {last}",
            &number[..if number.starts_with('+') { 3 } else { 2 }]
        ),
        None => format!(".. {last}"),
    }
}

/// A name fit to be shown: one line, no control or direction characters, not too long.
fn shown(name: &str) -> String {
    let plain = |letter: &char| {
        !letter.is_control()
            && !matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let name: String = name.chars().filter(plain).take(LONGEST_NAME).collect();
    name.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THROUGH: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));

    fn party(user: &str) -> Party {
        Party {
            user: user.into(),
            ..Party::default()
        }
    }

    fn caller(user: &str) -> Caller {
        Caller::new(&party(user), false, THROUGH, false)
    }

    fn name(user: &str) -> String {
        caller(user).display_name(Language::French)
    }

    #[test]
    fn numbers_are_masked() {
        for user in [
            "0612345642",
            "+33612345642",
            "0033612345642",
            "33612345642",
            "06.12.34-56 42",
        ] {
            assert_eq!(name(user), "Téléphone 06 .. .. .. 42", "{user}");
        }
        assert_eq!(name("+442079460042"), "Téléphone +44 .. .. 42");
        assert_eq!(name("2079460042"), "Téléphone 20 .. .. 42");
        assert_eq!(name("4242"), "Téléphone .. 42");
        assert_eq!(
            name("+33612345642;phone-context=x"),
            "Téléphone 06 .. .. .. 42"
        );
    }

    #[test]
    fn who_is_no_number_is_shown_by_name() {
        assert_eq!(name("alice"), "Téléphone (alice)");
        assert_eq!(name("anonymous"), "Téléphone (numéro masqué)");
        assert_eq!(name(""), "Téléphone (numéro masqué)");
        let mut alice = party("alice");
        alice.name = Some("Ali\u{202e}ce\r\n".into());
        let shown = |anonymous| {
            Caller::new(&alice, anonymous, THROUGH, false).display_name(Language::English)
        };
        assert_eq!(shown(false), "Telephone (Alice)");
        assert_eq!(shown(true), "Telephone (hidden number)");
    }

    #[test]
    fn wrong_codes_count_for_the_number_only_when_a_trunk_says_it() {
        assert!(caller("0612345642").source() == Source::Address(THROUGH));
        let known = Caller::new(&party("0612345642"), false, THROUGH, true);
        let number = "0612345642".into();
        let through = THROUGH;
        assert!(known.source() == Source::Caller { through, number });
    }

    #[test]
    fn attributes_hold_the_whole_number_only_when_asked() {
        let caller = caller("0612345642");
        let hidden = caller.identity([1, 2], "call", Language::French, false);
        assert_eq!(hidden.attributes["sip.phoneNumber"], "06 .. .. .. 42");
        assert_eq!(hidden.identity, "sip_00000000000000010000000000000002");
        let whole = caller.identity([1, 2], "call", Language::French, true);
        assert_eq!(whole.attributes["sip.phoneNumber"], "0612345642");
        assert_eq!(whole.attributes["sip.callID"], "call");
        assert_eq!(whole.attributes["palabre.caller"], "06 .. .. .. 42");
        let nobody = Caller::new(&party("0612345642"), true, THROUGH, false);
        let nobody = nobody.identity([1, 2], "c", Language::French, true);
        assert!(!nobody.attributes.contains_key("sip.phoneNumber"));
        assert!(!nobody.attributes.contains_key("palabre.caller"));
        let alice = Caller::new(&party("alice"), false, THROUGH, false);
        let alice = alice.identity([1, 2], "c", Language::French, false);
        assert_eq!(alice.attributes["palabre.caller"], "alice");
        assert!(!format!("{caller:?}").contains("42"));
    }

    proptest! {
        #[test]
        fn no_user_part_panics_or_shows_through(user in "\\PC{0,60}", digits in "\\+?[0-9]{5,24}") {
            prop_assert!(name(&user).chars().count() <= LONGEST_NAME + 20);
            let shown = name(&digits).chars().filter(char::is_ascii_digit).count();
            prop_assert!(shown <= 4, "{}", name(&digits));
        }
    }
}
