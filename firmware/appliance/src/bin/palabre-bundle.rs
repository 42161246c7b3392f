//! The build side: makes keys for development, packs and signs update bundles.

use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::io;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use palabre_appliance::arguments::{Arguments, Usage};
use palabre_appliance::bundle;
use palabre_appliance::keys::{self, Channel, PrivateKey, PublicKey};

const USAGE: &str = "\
palabre-bundle: makes update bundles

  palabre-bundle keys dev FOLDER
  palabre-bundle keys public FILE      the line for bundle-current.pub or bundle-next.pub, of a PEM file
  palabre-bundle keys check FOLDER development|release
  palabre-bundle pack --root FILE --verity FILE --uki FILE --roothash HEX
      --arch amd64|arm64 --flavour core|room --version N [--display TEXT] [--floor N]
      [--created SECONDS, or SOURCE_DATE_EPOCH] [--release] -o FILE
      (--key FILE | --signer COMMAND --public FILE)
  palabre-bundle show FILE      print a manifest, without verifying it
";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(arguments) {
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(Failed::Usage(Usage(what))) => {
            eprintln!("{what}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Err(Failed::Bundle(refused)) => {
            eprintln!("error[{}]: {refused}", refused.code());
            ExitCode::FAILURE
        }
        Err(Failed::Said(code, what)) => {
            eprintln!("error[{code}]: {what}");
            ExitCode::FAILURE
        }
    }
}

/// Why nothing was made.
enum Failed {
    Usage(Usage),
    Bundle(bundle::Refused),
    Said(&'static str, String),
}

impl From<Usage> for Failed {
    fn from(usage: Usage) -> Self {
        Self::Usage(usage)
    }
}

impl From<bundle::Refused> for Failed {
    fn from(refused: bundle::Refused) -> Self {
        Self::Bundle(refused)
    }
}

fn run(arguments: Vec<OsString>) -> Result<String, Failed> {
    let mut arguments = Arguments::new(arguments, &["--release", "--help"]);
    if arguments.flag("--help") {
        return Ok(USAGE.to_owned());
    }
    match arguments.word()?.as_deref() {
        Some("keys") => {
            let failed = |error: io::Error| Failed::Said("keys", error.to_string());
            let what = arguments.needed_word("dev, public or check")?;
            let path = PathBuf::from(arguments.needed_word("a file or folder")?);
            if what == "check" {
                let channel = match arguments.needed_word("development or release")?.as_str() {
                    "development" => Channel::Development,
                    "release" => Channel::Release,
                    _ => {
                        return Err(Usage("keys are for development or release".to_owned()).into());
                    }
                };
                arguments.end()?;
                keys::check(&path, channel).map_err(failed)?;
                return Ok(String::new());
            }
            arguments.end()?;
            match what.as_str() {
                "dev" => {
                    keys::make_for_development(&path).map_err(failed)?;
                    Ok(format!("DEVELOPMENT keys in {}\n", path.display()))
                }
                "public" => Ok(keys::public_of(&path).map_err(failed)?.line()),
                _ => Err(Usage("`keys` takes dev, public or check".to_owned()).into()),
            }
        }
        Some("pack") => pack(arguments),
        Some("show") => {
            let path = PathBuf::from(arguments.needed_word("FILE")?);
            arguments.end()?;
            let manifest = bundle::look(open(&path)?)?;
            let text = serde_json::to_string_pretty(&manifest).unwrap_or_default();
            Ok(text + "\n")
        }
        Some(other) => Err(Usage(format!("`{other}` is no command")).into()),
        None => Err(Usage("a command is needed".to_owned()).into()),
    }
}

fn pack(mut arguments: Arguments) -> Result<String, Failed> {
    let mut needed = |name: &str| arguments.needed(name);
    let paths = ["--root", "--verity", "--uki"].map(|name| needed(name).map(PathBuf::from));
    let (arch, flavour, root_hash) = (
        needed("--arch")?,
        needed("--flavour")?,
        needed("--roothash")?,
    );
    let version = number(&needed("--version")?, "--version")?;
    let out = PathBuf::from(needed("-o")?);
    let display = arguments
        .value("--display")?
        .unwrap_or_else(|| version.to_string());
    let floor = match arguments.value("--floor")? {
        Some(text) => number(&text, "--floor")?,
        None => 0,
    };
    let created = match arguments
        .value("--created")?
        .or(std::env::var("SOURCE_DATE_EPOCH").ok())
    {
        Some(text) => number(&text, "--created")?,
        None => std::time::UNIX_EPOCH
            .elapsed()
            .map_or(0, |age| age.as_secs()),
    };
    let wants_release = arguments.flag("--release");
    let signer = signer(&mut arguments)?;
    arguments.end()?;
    if !matches!(arch.as_str(), "amd64" | "arm64") {
        return Err(Usage("--arch is amd64 or arm64".to_owned()).into());
    }
    if !matches!(flavour.as_str(), "core" | "room") {
        return Err(Usage("--flavour is core or room".to_owned()).into());
    }
    let channel = signer.public().channel;
    if wants_release && channel == Channel::Development {
        let what = "a release is not signed with keys for development".to_owned();
        return Err(Failed::Said("development-key", what));
    }
    let [root, verity, uki] = paths;
    let (root, verity, uki) = (root?, verity?, uki?);
    let image = fs::read(&uki).map_err(|error| said(&uki, &error))?;
    let wanted = format!("palabre.roothash={root_hash}");
    if !image
        .windows(wanted.len())
        .any(|bytes| bytes == wanted.as_bytes())
    {
        let what = format!("{} does not boot the root {root_hash}", uki.display());
        return Err(Failed::Said("uki-root-hash", what));
    }
    let release = bundle::Release {
        arch,
        flavour,
        version,
        display,
        floor,
        created,
        channel,
        root_hash,
    };
    let [mut root, mut verity, mut uki] = [open(&root)?, open(&verity)?, open(&uki)?];
    let mut file = File::create(&out).map_err(|error| said(&out, &error))?;
    let sign = |bytes: &[u8]| signer.sign(bytes);
    bundle::pack(
        &release,
        [&mut root, &mut verity, &mut uki],
        sign,
        &mut file,
    )?;
    file.sync_all().map_err(|error| said(&out, &error))?;
    let size = file.metadata().map_or(0, |found| found.len());
    Ok(format!(
        "{}: version {version}, {size} bytes, {} key\n",
        out.display(),
        channel.name()
    ))
}

/// Who signs: a key in a file, or a command that reaches a key in a token.
enum Signer {
    File(PrivateKey, PublicKey),
    Command(String, PublicKey),
}

impl Signer {
    fn public(&self) -> &PublicKey {
        match self {
            Self::File(_, public) | Self::Command(_, public) => public,
        }
    }

    fn sign(&self, bytes: &[u8]) -> io::Result<[u8; 64]> {
        let signature = match self {
            Self::File(private, _) => private.sign(bytes),
            Self::Command(command, _) => {
                let mut child = Command::new("sh")
                    .args(["-c", command])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()?;
                // The manifest is smaller than a pipe, so this cannot block on an answer.
                let written = child.stdin.take().map(|mut input| input.write_all(bytes));
                let answer = child.wait_with_output()?;
                written.unwrap_or(Ok(()))?;
                let answer = if answer.status.success() {
                    answer.stdout
                } else {
                    Vec::new()
                };
                answer
                    .try_into()
                    .map_err(|_| io::Error::other("the signer did not answer 64 bytes"))?
            }
        };
        match self.public().verifies(bytes, &signature) {
            true => Ok(signature),
            false => Err(io::Error::other(
                "the signature does not match the public key",
            )),
        }
    }
}

fn signer(arguments: &mut Arguments) -> Result<Signer, Failed> {
    let key = arguments.value("--key")?.map(PathBuf::from);
    let command = arguments.value("--signer")?;
    let public = arguments.value("--public")?.map(PathBuf::from);
    match (key, command, public) {
        (Some(key), None, public) => {
            let private = PrivateKey::read(&key).map_err(|e| Failed::Said("key", e.to_string()))?;
            // The public half lies beside it, and says who made it.
            let beside = public.unwrap_or_else(|| key.with_extension("pub"));
            let public = read_public(&beside)?;
            let folder = key.parent().unwrap_or(Path::new("."));
            let development = folder.join("DEVELOPMENT").exists();
            let channel = if development {
                Channel::Development
            } else {
                public.channel
            };
            if private.public(channel).bytes != public.bytes {
                let what = format!(
                    "{} is not the public half of {}",
                    beside.display(),
                    key.display()
                );
                return Err(Failed::Said("key", what));
            }
            Ok(Signer::File(private, PublicKey { channel, ..public }))
        }
        (None, Some(command), Some(public)) => Ok(Signer::Command(command, read_public(&public)?)),
        _ => Err(Usage("--key, or --signer with --public, is needed".to_owned()).into()),
    }
}

fn read_public(path: &Path) -> Result<PublicKey, Failed> {
    let mut text = String::new();
    let read = open(path)?.take(4096).read_to_string(&mut text);
    read.map_err(|error| said(path, &error))?;
    PublicKey::parse(&text)
        .ok_or_else(|| Failed::Said("key", format!("{} is no public key", path.display())))
}

fn open(path: &Path) -> Result<File, Failed> {
    File::open(path).map_err(|error| said(path, &error))
}

fn said(path: &Path, error: &io::Error) -> Failed {
    Failed::Said("file", format!("{}: {error}", path.display()))
}

fn number(text: &str, name: &str) -> Result<u64, Usage> {
    text.parse()
        .map_err(|_| Usage(format!("{name} is a whole number")))
}
