//! Ears: how loud a tone is in what a peer wrote down.

use palabre_media::tone;
pub use palabre_media::tone::{Dbfs, SILENCE};

/// 16-bit mono PCM as a peer recorded it.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Samples a second.
    pub rate: u32,
    /// The sound.
    pub samples: Vec<i16>,
}

/// Length of one look for a leak, in seconds: shorter sees shorter leaks, longer tells nearer tones apart.
const LEAK_WINDOW: f64 = 0.5;

/// How far a line must stand above what surrounds it, in decibels, to be a tone and not a click. Noise
/// stands 6 dB above its median in one window of 16, and 12 dB in one of 65,000.
const STANDS_OUT: Dbfs = 12.0;

/// How far above the limit a tone that is in one window alone must be to count, in decibels. What G.711 makes of many steady tones
/// has lines of its own, faint and gone in the next window: nine of them at -32 dBFS made one at -71. Less takes those for a
/// leak; more misses one that is as faint as it is short.
const ALONE: Dbfs = 10.0;

/// Windows in a row that a tone must be in to count where the sound has gaps. A decoder bridges a gap by repeating a few
/// milliseconds, which is a line at every multiple of one over them, for as long as the gap: as each window shares a half with the
/// next, a short one is in two. Less takes a starved browser for a leak; more asks for another recording more often.
const OUTLASTS_A_GAP: usize = 3;

/// What was found of a tone that must not be there.
#[derive(Clone, Debug, Default)]
pub struct Leak {
    /// Level in each window, [`SILENCE`] where it is no tone.
    pub lines: Vec<Dbfs>,
    /// Level there of each window in which nothing stands out: silence, or a click over everything.
    pub splash: Vec<Dbfs>,
}

impl Leak {
    /// The loudest window in which it is a tone.
    #[must_use]
    pub fn level(&self) -> Dbfs {
        self.lasting(1)
    }

    /// The loudest `windows` in a row in which it is one: the quietest of them.
    #[must_use]
    pub fn lasting(&self, windows: usize) -> Dbfs {
        let quietest = |run: &[Dbfs]| run.iter().copied().fold(Dbfs::INFINITY, f64::min);
        self.lines
            .windows(windows)
            .map(quietest)
            .fold(SILENCE, f64::max)
    }

    /// Whether the tone is there above `limit`: for longer than a window, or loud enough to be heard in one. Where the sound has
    /// gaps, only for longer than a gap makes lines: of a shorter one the next recording has to be without.
    #[must_use]
    pub fn exceeds(&self, limit: Dbfs) -> bool {
        if self.hidden(limit) > 0 {
            return self.lasting(OUTLASTS_A_GAP) > limit;
        }
        self.lasting(2) > limit || self.level() > limit + ALONE
    }

    /// Windows in which a tone above `limit` would have been seen, and was not. None at all where there is a line that may be
    /// chance: the next recording has to be without it.
    #[must_use]
    pub fn clear(&self, limit: Dbfs) -> usize {
        if self.level() > limit {
            return 0;
        }
        self.lines.len() - self.hidden(limit)
    }

    /// Windows whose clicks are louder than `limit`: they could hide a leak.
    #[must_use]
    pub fn hidden(&self, limit: Dbfs) -> usize {
        self.splash.iter().filter(|level| **level > limit).count()
    }
}

impl Recording {
    /// From little-endian bytes.
    #[must_use]
    pub fn from_bytes(rate: u32, bytes: &[u8]) -> Self {
        let samples = bytes
            .chunks_exact(2)
            .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        Self { rate, samples }
    }

    /// The last `seconds`, where what came before (a prompt, a ramp) is not the subject.
    #[must_use]
    pub fn last(&self, seconds: f64) -> Self {
        let wanted = (seconds * f64::from(self.rate)) as usize;
        let from = self.samples.len().saturating_sub(wanted);
        Self {
            rate: self.rate,
            samples: self.samples[from..].to_vec(),
        }
    }

    /// Writes the recording where a person can listen to it: `target/artefacts/<name>.wav`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn keep(&self, name: &str) -> std::path::PathBuf {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/artefacts");
        std::fs::create_dir_all(&folder).expect("an artefact folder");
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let path = folder.join(format!("{name}.wav"));
        write_wav(&path, self.rate, &self.samples);
        path
    }

    /// Length in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate)
    }

    /// Level of a sine of `hertz` that must be there: the median over one-second windows, so that
    /// one dropout of a busy machine does not hide a tone.
    #[must_use]
    pub fn tone(&self, hertz: f64) -> Dbfs {
        let levels = self.levels(hertz);
        levels.get(levels.len() / 2).copied().unwrap_or(SILENCE)
    }

    /// What there is of a sine of `hertz` that must not be there, beside those `playing`.
    ///
    /// A voice that leaks is a line in the spectrum: it stands above what surrounds it. A gap or a
    /// click, which a busy machine makes in any recording, is as loud beside `hertz` as at it: such
    /// a window cannot show a leak, and is counted instead.
    #[must_use]
    pub fn leak(&self, hertz: u32, playing: &[u32]) -> Leak {
        let around: Vec<f64> = [-90.0, -75.0, -60.0, 60.0, 75.0, 90.0]
            .iter()
            .map(|off| f64::from(hertz) + off)
            .filter(|near| {
                playing
                    .iter()
                    .all(|hz| (f64::from(*hz) - near).abs() >= 50.0)
            })
            .collect();
        assert!(
            around.len() >= 3,
            "{hertz} Hz is too near to {playing:?} to be told apart"
        );
        let window = (LEAK_WINDOW * f64::from(self.rate)) as usize;
        let mut leak = Leak::default();
        let mut from = 0;
        while from + window <= self.samples.len() {
            let chunk = &self.samples[from..from + window];
            let level = self.sine(chunk, f64::from(hertz));
            let mut beside: Vec<Dbfs> = around.iter().map(|hz| self.bin(chunk, *hz)).collect();
            beside.sort_by(f64::total_cmp);
            if level > beside[beside.len() / 2] + STANDS_OUT {
                leak.lines.push(level);
            } else {
                leak.lines.push(SILENCE);
                leak.splash.push(level);
            }
            from += window / 2;
        }
        leak
    }

    /// The loudest line between 100 and 340 Hz in any 250 ms: the pitch of a voice. No party plays a
    /// tone there, so this is a spoken message, whatever the tones are.
    #[must_use]
    pub fn voice(&self) -> Dbfs {
        self.samples
            .chunks_exact(self.rate as usize / 4)
            .flat_map(|chunk| {
                (100..=340)
                    .step_by(6)
                    .map(|hertz| self.bin(chunk, f64::from(hertz)))
            })
            .fold(SILENCE, f64::max)
    }

    /// Seconds from the beginning to where a sine of `hertz` was heard last above `level`; 0 when it
    /// never was.
    #[must_use]
    pub fn ends(&self, hertz: u32, level: Dbfs) -> f64 {
        let window = self.rate as usize / 20;
        self.samples
            .chunks_exact(window)
            .rposition(|chunk| self.bin(chunk, f64::from(hertz)) > level)
            .map_or(0.0, |last| (last + 1) as f64 * 0.05)
    }

    /// From `seconds` on.
    #[must_use]
    pub fn after(&self, seconds: f64) -> Self {
        let from = ((seconds * f64::from(self.rate)) as usize).min(self.samples.len());
        Self {
            rate: self.rate,
            samples: self.samples[from..].to_vec(),
        }
    }

    /// Levels of a sine in each second, quietest first.
    fn levels(&self, hertz: f64) -> Vec<Dbfs> {
        let window = self.rate as usize;
        let mut levels: Vec<Dbfs> = self
            .samples
            .chunks(window)
            .filter(|chunk| chunk.len() == window || self.samples.len() < window)
            .map(|chunk| self.sine(chunk, hertz))
            .collect();
        levels.sort_by(f64::total_cmp);
        levels
    }

    /// The loudest of a few near frequencies, which allows for clock drift.
    fn sine(&self, samples: &[i16], hertz: f64) -> Dbfs {
        [-0.4, 0.0, 0.4]
            .iter()
            .map(|off| self.bin(samples, hertz + off))
            .fold(SILENCE, f64::max)
    }

    fn bin(&self, samples: &[i16], hertz: f64) -> Dbfs {
        tone::level(linear(samples), hertz, self.rate)
    }

    /// Root mean square level of everything.
    #[must_use]
    pub fn loudness(&self) -> Dbfs {
        tone::loudness(linear(&self.samples))
    }
}

fn linear(samples: &[i16]) -> impl ExactSizeIterator<Item = f32> + '_ {
    samples.iter().map(|sample| f32::from(*sample) / 32_768.0)
}

/// Writes 16-bit mono PCM as WAV.
///
/// # Panics
/// When the file cannot be written.
pub fn write_wav(path: &std::path::Path, rate: u32, samples: &[i16]) {
    let length = u32::try_from(samples.len() * 2).expect("minutes of sound, not hours");
    let mut out = Vec::with_capacity(44 + samples.len() * 2);
    out.extend_from_slice(b"RIFF");
    out.extend_from_slice(&(36 + length).to_le_bytes());
    out.extend_from_slice(b"WAVEfmt ");
    out.extend_from_slice(&16u32.to_le_bytes());
    out.extend_from_slice(&1u16.to_le_bytes());
    out.extend_from_slice(&1u16.to_le_bytes());
    out.extend_from_slice(&rate.to_le_bytes());
    out.extend_from_slice(&(rate * 2).to_le_bytes());
    out.extend_from_slice(&2u16.to_le_bytes());
    out.extend_from_slice(&16u16.to_le_bytes());
    out.extend_from_slice(b"data");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    std::fs::write(path, out).expect("a sound file can be written");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(rate: u32, tones: &[(f64, f64)]) -> Recording {
        let samples = (0..rate * 2)
            .map(|i| {
                let t = f64::from(i) / f64::from(rate);
                let v: f64 = tones
                    .iter()
                    .map(|(hertz, level)| level * (std::f64::consts::TAU * hertz * t).sin())
                    .sum();
                (v * 32_767.0) as i16
            })
            .collect();
        Recording { rate, samples }
    }

    #[test]
    fn a_tone_is_measured_and_its_neighbour_is_not() {
        let heard = sine(48_000, &[(440.0, 0.25), (1_000.0, 0.025)]);
        assert!(
            (heard.tone(440.0) + 12.0).abs() < 0.5,
            "{}",
            heard.tone(440.0)
        );
        assert!(
            (heard.tone(1_000.0) + 32.0).abs() < 0.5,
            "{}",
            heard.tone(1_000.0)
        );
        assert!(heard.tone(620.0) < -75.0, "{}", heard.tone(620.0));
    }

    #[test]
    fn a_short_leak_is_seen() {
        // 60 ms of a voice at full level, and two seconds of one 38 dB below.
        for (hertz, level, from, to) in [(1_010, 0.25, 60_000, 62_880), (1_010, 0.003, 0, 96_000)] {
            let mut heard = sine(48_000, &[(440.0, 0.25)]);
            let leak = sine(48_000, &[(f64::from(hertz), level)]);
            for (sample, more) in heard.samples[from..to]
                .iter_mut()
                .zip(&leak.samples[from..to])
            {
                *sample += more;
            }
            let found = heard.leak(hertz, &[440]);
            assert!(found.level() > -52.0, "{found:?}");
            let other = heard.leak(1_700, &[440]);
            assert!(other.level() < -60.0, "{other:?}");
        }
    }

    #[test]
    fn a_faint_line_of_one_window_is_no_leak_and_one_that_lasts_is() {
        // Of 11 windows of 500 ms; one alone has the whole line when it begins and ends with it.
        let with = |level: f64, from: usize, to: usize| {
            let mut heard = sine(48_000, &[(440.0, 0.25)]);
            let line = sine(48_000, &[(1_010.0, level)]);
            for (sample, more) in heard.samples[from..to]
                .iter_mut()
                .zip(&line.samples[from..to])
            {
                *sample += more;
            }
            heard.leak(1_010, &[440])
        };
        // -60 dBFS, of which a window that has a tenth of it shows -80.
        let faint = with(0.001, 24_000, 26_400);
        assert!(faint.level() > -82.0, "{faint:?}");
        let lasting = with(0.001, 0, 96_000);
        assert!(lasting.lasting(2) > -61.0, "{lasting:?}");
        assert!(lasting.exceeds(-62.0) && !lasting.exceeds(-59.0));
        // In one window, by hand: faint it is a chance, loud it is a voice.
        let once = |level| Leak {
            lines: [vec![SILENCE; 10], vec![level]].concat(),
            splash: vec![SILENCE; 10],
        };
        assert!(!once(-71.0).exceeds(-73.0));
        assert_eq!(
            (once(-71.0).clear(-73.0), once(-74.0).clear(-73.0)),
            (0, 11)
        );
        assert!(once(-62.0).exceeds(-73.0));
    }

    #[test]
    fn a_line_among_gaps_is_listened_to_again_and_one_that_lasts_is_a_leak() {
        // Alone it would be loud enough; what gaps leave in the next window may be as loud.
        let among = |windows: usize| Leak {
            lines: [vec![-52.0; windows], vec![SILENCE; 11 - windows]].concat(),
            splash: vec![-55.0; 11 - windows],
        };
        for windows in [1, 2] {
            assert!(!among(windows).exceeds(-63.0), "{windows}");
            assert_eq!(among(windows).clear(-63.0), 0, "{windows}");
        }
        assert!(among(3).exceeds(-63.0));
        // A click, and a bridged gap: what was last heard, again and again.
        let mut bridged = sine(48_000, &[(1_010.0, 0.07)]);
        bridged.samples[20_000..20_040].fill(20_000);
        let repeated = 48_000 * 3 / 620;
        for sample in 60_100..68_740 {
            bridged.samples[sample] = bridged.samples[sample - repeated];
        }
        let found = bridged.leak(620, &[1_010]);
        assert!(
            found.hidden(-63.0) > 0 && found.level() > -63.0 + ALONE,
            "{found:?}"
        );
        assert!(!found.exceeds(-63.0), "{found:?}");
        assert_eq!(found.clear(-63.0), 0);
        // A voice that lasts, beside the click.
        let mut voice = sine(48_000, &[(1_010.0, 0.07), (620.0, 0.0015)]);
        voice.samples[20_000..20_040].fill(20_000);
        let found = voice.leak(620, &[1_010]);
        assert!(found.hidden(-63.0) > 0 && found.exceeds(-63.0), "{found:?}");
    }

    #[test]
    fn a_gap_is_no_leak_and_is_counted() {
        let mut heard = sine(48_000, &[(440.0, 0.25), (1_700.0, 0.25)]);
        heard.samples[60_100..62_020].fill(0);
        let found = heard.leak(620, &[440, 1_700]);
        assert!(found.level() < -70.0, "{found:?}");
        assert!((1..=2).contains(&found.hidden(-70.0)), "{found:?}");
        assert_eq!(found.clear(-70.0), found.lines.len() - found.hidden(-70.0));
    }

    #[test]
    fn a_voice_is_told_from_tones() {
        let mut heard = sine(48_000, &[(400.0, 0.25), (1_010.0, 0.25)]);
        assert!(heard.voice() < -70.0, "{}", heard.voice());
        let pitch = sine(48_000, &[(212.0, 0.05)]);
        for (sample, more) in heard.samples[60_000..70_000].iter_mut().zip(&pitch.samples) {
            *sample += more;
        }
        assert!(heard.voice() > -35.0, "{}", heard.voice());
    }

    #[test]
    fn the_end_of_a_tone_is_found() {
        let mut heard = sine(48_000, &[(440.0, 0.25)]);
        heard.samples[57_600..].fill(0);
        let end = heard.ends(440, -45.0);
        assert!((end - 1.2).abs() < 0.051, "{end}");
        assert_eq!(heard.after(end).ends(440, -45.0), 0.0);
        assert_eq!(heard.ends(900, -45.0), 0.0);
    }

    #[test]
    fn silence_is_silent() {
        let heard = Recording {
            rate: 8_000,
            samples: vec![0; 8_000],
        };
        assert_eq!(heard.tone(440.0), SILENCE);
        assert_eq!(heard.loudness(), SILENCE);
    }
}
