//! The program `palabre`: reads its configuration, joins the parts, and nothing else.
//!
//! ```text
//! palabre [--config FILE]          runs; FILE defaults to palabre.toml when there is one
//! palabre config [--config FILE]   prints the commented configuration in force
//! palabre call --check             calls the running program and says whether sound came through
//! ```

mod call;
mod config;
mod program;
mod supervisor;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use palabre_engine::settings::Span;
use program::Config;

const USAGE: &str = "\
palabre: meetings by browser and by telephone, on your own box

  palabre [--config FILE]          run; FILE defaults to palabre.toml when there is one
  palabre config [--config FILE]   print the commented configuration in force
  palabre call --check [--config FILE] [--timeout 30s]
                                   call the program that runs with this configuration, by WebRTC and by
                                   SIP; prints what was heard, or the step that failed, and why
  palabre --version                print the version
  palabre --help                   print this

Environment variables override the file: PALABRE__SECTION__KEY=value.
";

/// Shortest time for a call: one that can be made at all.
const SHORTEST: Duration = Duration::from_secs(1);

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Run,
    PrintConfig,
    /// A synthetic call that may take so long.
    Call(Duration),
    Version,
    Help,
}

fn main() -> ExitCode {
    let (asked, file) = match arguments(std::env::args().skip(1)) {
        Ok(parsed) => parsed,
        Err(sentence) => return fail(&format!("{sentence}\n\n{USAGE}")),
    };
    match asked {
        Asked::Help => return print(USAGE),
        Asked::Version => return print(concat!("palabre ", env!("CARGO_PKG_VERSION"), "\n")),
        Asked::Run | Asked::PrintConfig | Asked::Call(_) => {}
    }
    let mut config = match read(file) {
        Ok(config) => config,
        Err(sentence) => return fail(&sentence),
    };
    if asked == Asked::PrintConfig {
        return print(&config::print(&config.sections()));
    }
    if let Asked::Call(patience) = asked {
        return match call::make(&config, patience) {
            Ok(report) => print(&report.line()),
            // Its code comes first: the appliance reads it.
            Err(failure) => complain(&failure.to_string()),
        };
    }
    let filter = tracing_subscriber::EnvFilter::new(config.log.level.as_str());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are for people; a journal or a file keeps them as noise.
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start threads: {error}")),
    };
    match runtime.block_on(program::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure.to_string()),
    }
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<(Asked, Option<PathBuf>), String> {
    let mut asked = Asked::Run;
    let mut file = None;
    let (mut checks, mut patience) = (false, None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "config" => asked = Asked::PrintConfig,
            "call" => asked = Asked::Call(call::PATIENCE),
            "--check" => checks = true,
            "--timeout" => match words.next().map(|text| text.parse::<Span>()) {
                Some(Ok(span)) if (SHORTEST..=call::MOST_PATIENCE).contains(&span.duration()) => {
                    patience = Some(span.duration());
                }
                _ => return Err("--timeout takes a time from 1s to 120s, such as 30s".to_owned()),
            },
            "--version" | "-V" => asked = Asked::Version,
            "--help" | "-h" | "help" => asked = Asked::Help,
            "--config" | "-c" => match words.next() {
                Some(path) => file = Some(PathBuf::from(path)),
                None => return Err("--config takes the path of a file".to_owned()),
            },
            other => return Err(format!("unknown argument: {other}")),
        }
    }
    match (&mut asked, checks) {
        (Asked::Call(time), true) => *time = patience.unwrap_or(*time),
        (Asked::Call(_), false) => return Err("palabre call needs --check".to_owned()),
        (_, true) => return Err("--check belongs to palabre call".to_owned()),
        (_, false) if patience.is_some() => {
            return Err("--timeout belongs to palabre call".to_owned());
        }
        (_, false) => {}
    }
    Ok((asked, file))
}

/// The defaults, then the file, then the environment.
fn read(file: Option<PathBuf>) -> Result<Config, String> {
    let mut config = Config::default();
    let path = match file {
        Some(path) => Some(path),
        None => Some(PathBuf::from("palabre.toml")).filter(|path| path.exists()),
    };
    if let Some(path) = path {
        let name = path.display().to_string();
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("cannot read {name}: {e}"))?;
        config::apply_file(&text, &name, &mut config.sections()).map_err(|e| e.to_string())?;
    }
    config::apply_environment(std::env::vars_os(), &mut config.sections())
        .map_err(|e| e.to_string())?;
    Ok(config)
}

#[allow(clippy::print_stdout)]
fn print(text: &str) -> ExitCode {
    print!("{text}");
    ExitCode::SUCCESS
}

fn fail(sentence: &str) -> ExitCode {
    complain(&format!("palabre: {sentence}"))
}

#[allow(clippy::print_stderr)]
fn complain(line: &str) -> ExitCode {
    eprintln!("{line}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<(Asked, Option<PathBuf>), String> {
        arguments(words.iter().map(|w| (*w).to_owned()))
    }

    #[test]
    fn the_command_line_is_read() {
        assert_eq!(parse(&[]), Ok((Asked::Run, None)));
        assert_eq!(
            parse(&["config", "--config", "a.toml"]),
            Ok((Asked::PrintConfig, Some(PathBuf::from("a.toml"))))
        );
        assert_eq!(parse(&["--version"]), Ok((Asked::Version, None)));
        assert!(parse(&["--config"]).is_err());
        assert!(parse(&["serve"]).is_err_and(|e| e.contains("serve")));
        let call = |words: &[&str]| parse(&[&["call"][..], words].concat());
        assert_eq!(call(&["--check"]), Ok((Asked::Call(call::PATIENCE), None)));
        assert_eq!(
            call(&["--check", "--timeout", "90s", "--config", "a.toml"]),
            Ok((
                Asked::Call(Duration::from_secs(90)),
                Some(PathBuf::from("a.toml"))
            ))
        );
        for wrong in [
            &["--timeout", "30s"][..],
            &[],
            &["--check", "--timeout"],
            &["--check", "--timeout", "0s"],
            &["--check", "--timeout", "1h"],
            &["--check", "--timeout", "30"],
        ] {
            assert!(call(wrong).is_err(), "{wrong:?}");
        }
        assert!(parse(&["--check"]).is_err() && parse(&["--timeout", "5s"]).is_err());
    }

    #[test]
    fn the_default_configuration_prints_and_reads_back() {
        let mut config = Config::default();
        let text = config::print(&config.sections());
        let mut again = Config::default();
        config::apply_file(&text, "printed", &mut again.sections())
            .expect("what we print, we read");
        assert_eq!(config::print(&again.sections()), text);
        for section in [
            "[storage]",
            "[log]",
            "[http]",
            "[media]",
            "[rooms]",
            "[mixer]",
            "[sip]",
            "[appliance]",
        ] {
            assert!(text.contains(section), "{section}");
        }
        assert!(text.contains("talkers = 4"));
    }
}
