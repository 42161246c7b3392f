use super::*;

fn decibel(mean_square: f64) -> f64 {
    10.0 * mean_square.max(1e-12).log10()
}

/// Mean squares of 20 ms frames, full scale = 1.
fn frames(samples: &[i16], rate: usize) -> Vec<f64> {
    let square = |s: &i16| (f64::from(*s) / 32_768.0).powi(2);
    samples
        .chunks(rate / 50)
        .map(|frame| frame.iter().map(square).sum::<f64>() / frame.len() as f64)
        .collect()
}

/// Energy between `low` and `high` hertz as a share of all energy, by a plain DFT on 20 ms frames.
fn share(samples: &[i16], rate: usize, low: usize, high: usize) -> f64 {
    let (mut inside, mut all) = (0.0, 0.0);
    for frame in samples.chunks_exact(rate / 50) {
        for bin in 0..rate / 100 {
            let step = std::f64::consts::TAU * bin as f64 / frame.len() as f64;
            let (mut re, mut im) = (0.0, 0.0);
            for (n, sample) in frame.iter().enumerate() {
                re += f64::from(*sample) * (step * n as f64).cos();
                im += f64::from(*sample) * (step * n as f64).sin();
            }
            let energy = re * re + im * im;
            all += energy;
            if (low..=high).contains(&(bin * 50)) {
                inside += energy;
            }
        }
    }
    inside / all
}

#[test]
fn every_phrase_of_the_list_has_words_in_both_languages() {
    let words: serde_json::Value =
        serde_json::from_str(include_str!("../../prompts/phrases.json")).expect("JSON");
    let words = words.as_object().expect("an object");
    assert_eq!(words.len(), Phrase::ALL.len());
    for phrase in Phrase::ALL {
        for language in Language::ALL {
            let text = words[phrase.file()][language.code()].as_str();
            assert!(text.is_some_and(|text| !text.is_empty()), "{phrase:?}");
        }
    }
}

#[test]
fn every_recording_is_at_telephone_level_and_trimmed() {
    for language in Language::ALL {
        for phrase in Phrase::ALL.iter().copied() {
            let (samples, rate) = wav::read(phrase.shipped(language)).expect("a WAV file");
            let what = format!("{language:?} {phrase:?}");
            assert_eq!(rate, 16_000, "{what}");
            let seconds = samples.len() as f64 / f64::from(rate);
            assert!((0.2..7.0).contains(&seconds), "{what}: {seconds} s");

            let frames = frames(&samples, rate as usize);
            let loudest = frames.iter().copied().fold(0.0, f64::max);
            // 45 dB under the loudest frame is silence, as in generate.mjs.
            let spoken = |mean_square: &&f64| **mean_square > loudest / 31_623.0;
            let speech: Vec<f64> = frames.iter().filter(spoken).copied().collect();
            let level = decibel(speech.iter().sum::<f64>() / speech.len() as f64);
            assert!((-24.0..=-22.0).contains(&level), "{what}: {level:.1} dB");
            let peak = samples.iter().map(|s| s.unsigned_abs()).max().unwrap();
            let peak = decibel((f64::from(peak) / 32_768.0).powi(2));
            assert!(peak <= -5.9, "{what}: peak {peak:.1} dB");

            let lead = frames.iter().position(|f| *f > loudest / 31_623.0).unwrap();
            let tail = frames
                .iter()
                .rev()
                .position(|f| *f > loudest / 31_623.0)
                .unwrap();
            assert!(
                lead <= 3 && tail <= 6,
                "{what}: {lead} and {tail} silent frames"
            );
        }
    }
}

#[test]
fn phrases_keep_their_energy_inside_the_telephone_band() {
    for language in Language::ALL {
        for phrase in [Phrase::EnterCode, Phrase::WrongCode, Phrase::LockedOut] {
            let (samples, rate) = wav::read(phrase.shipped(language)).expect("a WAV file");
            let share = share(&samples, rate as usize, 200, 3_800);
            assert!(share > 0.8, "{language:?} {phrase:?}: {share:.2}");
        }
    }
}

#[test]
fn a_sound_is_made_once_and_shared() {
    let prompts = Prompts::shipped();
    let say = Say::Phrase(Language::French, Phrase::EnterCode);
    let sound = prompts.sound(say);
    let (samples, _) = wav::read(Phrase::EnterCode.shipped(Language::French)).expect("a WAV file");
    assert_eq!(sound.len(), samples.len() * 3);
    assert!(Arc::ptr_eq(&sound, &prompts.sound(say)));
    let sound = prompts.sound(Say::JoinTone);
    assert_eq!(sound.len(), 13_440);
    assert!(sound.iter().all(|sample| sample.unsigned_abs() <= 2_900));
}

#[test]
fn the_operators_recordings_replace_the_shipped_ones() {
    let folder = std::env::temp_dir().join(format!("palabre-prompts-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("fr")).unwrap();
    let own = Phrase::Goodbye.shipped(Language::English);
    std::fs::write(folder.join("fr/welcome.wav"), own).unwrap();
    let prompts = Prompts::with_folder(&folder).expect("usable");
    let shipped = Prompts::shipped();
    assert_eq!(
        prompts.sound(Say::Phrase(Language::French, Phrase::Welcome)),
        shipped.sound(Say::Phrase(Language::English, Phrase::Goodbye)),
    );
    assert_eq!(
        prompts.sound(Say::Phrase(Language::English, Phrase::Welcome)),
        shipped.sound(Say::Phrase(Language::English, Phrase::Welcome)),
    );
    std::fs::write(folder.join("fr/welcome.wav"), b"not sound").unwrap();
    let error = Prompts::with_folder(&folder)
        .expect_err("refused")
        .to_string();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(
        error.contains("welcome.wav") && error.contains("sip.prompts"),
        "{error}"
    );
}
