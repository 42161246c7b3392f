//! What the box says of its versions and slots, told in the language asked for.
//!
//! The box keeps sentences in English. Those that it is known to begin so have a code and a sentence
//! in each language here; whatever else it says stays as it is, without a code.

use palabre_appliance::history::What;

use crate::problem::{Language, said_by_the_box};

/// A reason of the box.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Stable name, when it is known.
    pub(super) code: Option<String>,
    /// In the language asked for when there is a code, else in English.
    pub(super) why: String,
    /// What the box itself said, when that is not `why`.
    pub(super) cause: Option<String>,
}

/// Code, and the sentence in English and French.
type Sentence = (&'static str, &'static str, &'static str);

impl Told {
    /// Of an event.
    pub(super) fn of_event(what: What, why: String, language: Language) -> Self {
        match what {
            // A refusal is kept as its code and the box's own sentence.
            What::Refused | What::SettingsRefused => match why.split_once(": ") {
                Some((code, cause)) => Self {
                    code: Some(code.replace('-', "_")),
                    why: said_by_the_box(code, language).1.to_owned(),
                    cause: Some(cause.to_owned()),
                },
                None => Self::unknown(why),
            },
            // What proved good may have lacked something that the version does not answer for.
            What::Bad | What::Good => match trial(&why) {
                Some(sentence) => Self {
                    cause: Some(why),
                    ..Self::said(sentence, language)
                },
                None => Self::unknown(why),
            },
            _ => Self::unknown(why),
        }
    }

    /// Why a slot starts next, or does not.
    pub(super) fn of_slot(why: String, language: Language) -> Self {
        let Some((version, rest)) = of_version(&why) else {
            return match slot(&why) {
                Some(sentence) => Self::said(sentence, language),
                None => Self::unknown(why),
            };
        };
        match slot(rest) {
            Some(sentence) => {
                let told = Self::said(sentence, language);
                Self {
                    why: told.why.replace("{version}", version),
                    ..told
                }
            }
            None => Self::unknown(why),
        }
    }

    fn said((code, english, french): Sentence, language: Language) -> Self {
        let why = match language {
            Language::English => english,
            Language::French => french,
        };
        Self {
            code: Some(code.to_owned()),
            why: why.to_owned(),
            cause: None,
        }
    }

    fn unknown(why: String) -> Self {
        Self {
            code: None,
            why,
            cause: None,
        }
    }
}

/// `version 12 is newer`: the number, and what comes after it.
fn of_version(why: &str) -> Option<(&str, &str)> {
    let (version, rest) = why.strip_prefix("version ")?.split_once(' ')?;
    let is_number = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some((version, rest))
}

/// Why a slot is what it is; after the number where the box names another version.
fn slot(words: &str) -> Option<Sentence> {
    Some(match words {
        "nothing is installed here" => (
            "slot_empty",
            "Nothing is installed here.",
            "Rien n'est installé ici.",
        ),
        "an installation was cut short here" => (
            "slot_incomplete",
            "An installation was cut short here.",
            "Une installation a été interrompue ici.",
        ),
        "every try to start it failed" => (
            "slot_failed",
            "Every try to start it failed.",
            "Toutes les tentatives de démarrage ont échoué.",
        ),
        "it was chosen" => ("slot_chosen", "It was chosen.", "Elle a été choisie."),
        "it is the newest that has not failed" => (
            "slot_newest",
            "It is the newest that has not failed.",
            "C'est la plus récente qui n'a pas échoué.",
        ),
        "was chosen instead" => (
            "slot_other_chosen",
            "Version {version} was chosen instead.",
            "La version {version} a été choisie à la place.",
        ),
        "is newer" => (
            "slot_older",
            "Version {version} is newer.",
            "La version {version} est plus récente.",
        ),
        "is newer, but its slot is gone" => (
            "slot_other_gone",
            "Version {version} is newer, but its slot is gone.",
            "La version {version} est plus récente, mais son emplacement a disparu.",
        ),
        "no version can start" => (
            "slot_none",
            "No version can start.",
            "Aucune version ne peut démarrer.",
        ),
        _ => return None,
    })
}

/// Why a trial failed, or what a box lacked whose version proved good.
fn trial(why: &str) -> Option<Sentence> {
    if why.starts_with("it ended ") && why.contains(" tries without a report") {
        return Some((
            "trial_silent",
            "Its tries ended without a report: it did not start, hung, or its system is damaged.",
            "Ses tentatives ont pris fin sans un mot : elle n'a pas démarré, s'est figée, ou son système est abîmé.",
        ));
    }
    if why.starts_with("it was started ") && why.contains(" times in a row and never served") {
        return Some(match why.ends_with("neither is marked bad") {
            false => (
                "trial_never_served",
                "It was started several times in a row and never served; the other version was started instead.",
                "Elle a été démarrée plusieurs fois de suite sans jamais servir ; l'autre version a pris sa place.",
            ),
            true => (
                "trial_neither_served",
                "Both versions were started several times in a row before one served: what failed was probably not a version. Neither is marked bad.",
                "Les deux versions ont été démarrées plusieurs fois de suite avant que l'une serve : la panne ne vient sans doute pas d'une version. Aucune n'est déclarée mauvaise.",
            ),
        });
    }
    let (check, said) = why.split_once(": ")?;
    match check {
        "program" => Some((
            "trial_program",
            "The program did not answer, or was not ready.",
            "Le programme ne répondait pas, ou n'était pas prêt.",
        )),
        "call" => call(said),
        "disk" => Some((
            "trial_disk",
            "The data partition of the box could not be written.",
            "La partition des données du boîtier n'a pas pu être écrite.",
        )),
        "root" => Some((
            "trial_root",
            "Not all of the version could be read from the disk.",
            "La version n'a pas pu être lue en entier sur le disque.",
        )),
        "clock" => Some((
            "trial_clock",
            "The clock of the box was wrong.",
            "L'heure du boîtier était fausse.",
        )),
        _ => None,
    }
}

/// Why the trial's call failed: the step is a word of the program that calls.
fn call(said: &str) -> Option<Sentence> {
    if said.starts_with("the call hung ") {
        return Some((
            "trial_call_hung",
            "The trial call did not end in time.",
            "L'appel d'essai ne s'est pas terminé à temps.",
        ));
    }
    if said.starts_with("the call failed (") {
        return Some((
            "trial_call",
            "The trial call failed without a reason.",
            "L'appel d'essai a échoué sans donner de raison.",
        ));
    }
    let (step, _) = said.strip_prefix("the call failed: ")?.split_once(": ")?;
    Some(match step {
        "access" => (
            "trial_access",
            "The program lent no room for the trial call.",
            "Le programme n'a pas prêté de salle pour l'appel d'essai.",
        ),
        "signalling" => (
            "trial_signalling",
            "The guests of the trial call could not join their room.",
            "Les invités de l'appel d'essai n'ont pas pu rejoindre leur salle.",
        ),
        "ice" => (
            "trial_ice",
            "The guests of the trial call got no answer at the box's port for sound and video.",
            "Les invités de l'appel d'essai n'ont pas eu de réponse sur le port du son et de l'image.",
        ),
        "dtls" => (
            "trial_dtls",
            "The guests of the trial call could not agree on encryption with the box.",
            "Les invités de l'appel d'essai n'ont pas pu convenir d'un chiffrement avec le boîtier.",
        ),
        "sfu-sound" => (
            "trial_sfu_sound",
            "In the trial call, a guest did not hear the other one.",
            "Pendant l'appel d'essai, un invité n'a pas entendu l'autre.",
        ),
        "sip" => (
            "trial_sip",
            "In the trial call, the telephone was not answered.",
            "Pendant l'appel d'essai, le téléphone n'a pas eu de réponse.",
        ),
        "mixer-sound" => (
            "trial_mixer_sound",
            "In the trial call, the telephone did not hear the guest.",
            "Pendant l'appel d'essai, le téléphone n'a pas entendu l'invité.",
        ),
        "own-tone" => (
            "trial_own_tone",
            "In the trial call, the telephone heard itself.",
            "Pendant l'appel d'essai, le téléphone s'est entendu lui-même.",
        ),
        "sip-sound" => (
            "trial_sip_sound",
            "In the trial call, a guest did not hear the telephone.",
            "Pendant l'appel d'essai, un invité n'a pas entendu le téléphone.",
        ),
        "hang-up" => (
            "trial_hang_up",
            "In the trial call, hanging up was not answered.",
            "Pendant l'appel d'essai, le raccroché n'a pas eu de réponse.",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use palabre_appliance::health::Check;

    use super::*;

    fn told(what: What, why: &str, language: Language) -> Told {
        Told::of_event(what, why.to_owned(), language)
    }

    #[test]
    fn what_was_refused_is_told_by_its_code_in_the_language_asked_for() {
        let why = "stick-line: line 3 of palabre.toml";
        let line = told(What::SettingsRefused, why, Language::French);
        assert_eq!(line.code.as_deref(), Some("stick_line"));
        assert!(line.why.starts_with("Une ligne de palabre.toml"));
        assert_eq!(line.cause.as_deref(), Some("line 3 of palabre.toml"));
        let why = "version-failed: version 2 failed on this box before";
        let failed = told(What::Refused, why, Language::English);
        assert_eq!(failed.code.as_deref(), Some("version_failed"));
        assert!(failed.why.starts_with("This version failed"));
        // The names of sections are those of the file, in every language.
        let taken = told(What::SettingsTaken, "[network] [time]", Language::French);
        assert_eq!(taken, Told::unknown("[network] [time]".to_owned()));
    }

    #[test]
    fn why_a_trial_failed_is_told_in_both_languages() {
        let steps = [
            "access",
            "signalling",
            "ice",
            "dtls",
            "sfu-sound",
            "sip",
            "mixer-sound",
            "own-tone",
            "sip-sound",
            "hang-up",
        ];
        let mut reasons: Vec<String> = steps
            .iter()
            .map(|step| format!("call: the call failed: {step}: silence"))
            .collect();
        for check in [Check::Program, Check::Root, Check::Disk, Check::Clock] {
            reasons.push(format!("{}: it answers: no", check.name()));
        }
        reasons.push(format!("{}: the call hung for 60 s", Check::Call.name()));
        for why in [
            "call: the call failed (exit status: 3)",
            "it ended 3 tries without a report: it did not start, hung, or its root is damaged",
            "it was started 3 times in a row and never served: it did not start; version 1 was started instead",
            "it was started 3 times in a row and never served: it did not start; version 1 was started instead, which had failed likewise before: neither is marked bad",
        ] {
            reasons.push(why.to_owned());
        }
        let mut codes = HashSet::new();
        for why in &reasons {
            let english = told(What::Bad, why, Language::English);
            let french = told(What::Bad, why, Language::French);
            assert_ne!(english.why, french.why, "{why}");
            for one in [&english, &french] {
                assert!(one.why.ends_with('.'), "{why}");
                assert_eq!(one.cause.as_ref(), Some(why));
            }
            assert_eq!(english.code, french.code);
            assert!(codes.insert(english.code.expect(why)), "{why}");
        }
    }

    #[test]
    fn why_a_slot_starts_next_or_not_is_told_in_both_languages() {
        let mut codes = HashSet::new();
        for why in [
            "nothing is installed here",
            "an installation was cut short here",
            "every try to start it failed",
            "it was chosen",
            "it is the newest that has not failed",
            "version 12 was chosen instead",
            "version 12 is newer",
            "version 12 is newer, but its slot is gone",
            "no version can start",
        ] {
            let of = |language| Told::of_slot(why.to_owned(), language);
            let (english, french) = (of(Language::English), of(Language::French));
            assert_ne!(english.why, french.why, "{why}");
            for one in [&english, &french] {
                assert!(one.why.ends_with('.'), "{why}");
                assert_eq!(one.why.contains("12"), why.contains("12"), "{why}");
            }
            assert!(codes.insert(english.code.expect(why)), "{why}");
        }
    }

    #[test]
    fn words_that_nobody_knows_stay_as_they_are() {
        for why in [
            "",
            "somebody said so",
            "call: the call failed: telepathy: silence",
            "call: no program to call with",
            "gravity: none",
            "version 2 is newer",
        ] {
            let kept = told(What::Bad, why, Language::French);
            assert_eq!(kept, Told::unknown(why.to_owned()));
        }
        for why in [
            "version 2 is older",
            "version two is newer",
            "version is newer",
        ] {
            let kept = Told::of_slot(why.to_owned(), Language::French);
            assert_eq!(kept, Told::unknown(why.to_owned()));
        }
        let named = Told::of_slot("version 12 is newer".to_owned(), Language::French);
        assert_eq!(named.code.as_deref(), Some("slot_older"));
        assert_eq!(named.why, "La version 12 est plus récente.");
    }
}
