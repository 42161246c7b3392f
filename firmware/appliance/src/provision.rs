//! How a box gets its name, its network, its time and its certificate before anybody can ask it.
//!
//! A room without DHCP gives them on a USB stick (`stick`). What one left is read more leniently
//! later (`kept`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use crate::bundle::hex;
use crate::certificate::{fingerprint, first_block, pin, self_signed, serves};
use crate::history::replace;
use crate::kept;
use crate::pair;
use crate::program::VARIABLES;
pub use crate::stick::{
    Address, Beside, Certificate, Host, Interface, Network, Refused, Stick, Time, Vlan, Zone,
};
use crate::stick::{FILES, MAX_FILE, VLAN};

/// The name of a box: `palabre-` and the last four letters or digits of its serial number, or of
/// `machine_id` when `serials` holds none that means something.
pub fn host_name(serials: &[String], machine_id: &str) -> String {
    const MEANINGLESS: [&str; 7] = [
        "tobefilledbyoem",
        "defaultstring",
        "systemserialnumber",
        "notspecified",
        "notapplicable",
        "none",
        "invalid",
    ];
    let plain = |text: &str| -> String {
        text.chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .collect()
    };
    let meaning = |text: &String| {
        let repeated = text.bytes().all(|b| b == text.as_bytes()[0]);
        text.len() >= 4
            && !repeated
            && !MEANINGLESS.contains(&text.as_str())
            && text != "123456789"
            && text != "0123456789"
    };
    let serial = serials.iter().map(|text| plain(text)).find(meaning);
    let source = serial.unwrap_or_else(|| plain(machine_id));
    let end = &source[source.len().saturating_sub(4)..];
    match end.is_empty() {
        true => "palabre".to_owned(),
        false => format!("palabre-{end}"),
    }
}

/// Where a machine keeps its serial number, below `/`.
pub fn serials(root: &Path) -> Vec<String> {
    [
        "sys/class/dmi/id/product_serial",
        "sys/class/dmi/id/board_serial",
        "proc/device-tree/serial-number",
    ]
    .iter()
    .filter_map(|path| fs::read_to_string(root.join(path)).ok())
    .collect()
}

/// Below `/run`: settings with the network that is tried, while one is. What runs is then not what is kept. Gone when it was
/// confirmed, went back, or gave way to a stick's.
pub const TRIED: &str = "palabre/network.tried";

/// Where provisioning writes.
#[derive(Debug, Clone)]
pub struct Places {
    /// Replaces `/` when the machine is looked at.
    pub root: PathBuf,
    /// `/run`.
    pub run: PathBuf,
    /// `/var/lib/palabre`.
    pub state: PathBuf,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The name of the box.
    pub host: String,
    /// Of the certificate in force.
    pub fingerprint: Option<String>,
    /// Whether a stick was applied.
    pub stick: bool,
    /// Names of the sections that the stick brought.
    pub sections: Vec<&'static str>,
    /// Whether the program's variables are others than before. It reads them at its start only.
    pub program_changed: bool,
    /// Whether the device of a VLAN may be there that is no longer asked for: it would keep its number.
    pub vlan_outlived: bool,
    /// What of the kept settings is not understood, by name: a newer version may have written it.
    pub passed_over: Vec<String>,
}

/// A stick that is in the box.
#[derive(Debug, Clone, Copy)]
pub struct Plugged<'a> {
    /// Where it is mounted.
    pub folder: &'a Path,
    /// Whether it was in when the box started. It is passed over then when it was the last that was
    /// taken: what the administrator has set since must outlive a restart.
    pub left_in: bool,
}

/// What a stick brings, read and checked as a whole.
struct Brought {
    asked: Stick,
    pair: Option<(String, String)>,
    digest: String,
}

impl Brought {
    /// What is on the stick that is mounted at `folder`; nothing without a `palabre.toml`.
    fn read(folder: &Path) -> Result<Option<Self>, Refused> {
        let text = match read(&folder.join("palabre.toml")) {
            Err(Refused::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            other => other?,
        };
        let asked = Stick::parse(&text)?;
        let pair = match &asked.certificate {
            Some(wanted) => Some(checked(folder, wanted)?),
            None => None,
        };
        let (chain, key) = pair.as_ref().map_or(("", ""), |(chain, key)| (chain, key));
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in [&text, chain, key] {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hex(hash.finish().as_ref());
        Ok(Some(Self {
            asked,
            pair,
            digest,
        }))
    }
}

/// The certificate beside a `palabre.toml` and its key, which must belong together.
fn checked(folder: &Path, wanted: &Certificate) -> Result<(String, String), Refused> {
    let (Beside(chain_name), Beside(key_name)) = (&wanted.chain, &wanted.key);
    let (chain, key) = (
        read(&folder.join(chain_name))?,
        read(&folder.join(key_name))?,
    );
    if first_block(&chain, "CERTIFICATE").is_none() {
        return Err(Refused::Pem(chain_name.clone(), "certificate"));
    }
    if first_block(&key, "PRIVATE KEY").is_none() {
        return Err(Refused::Pem(key_name.clone(), "private key"));
    }
    if !serves(&chain, &key) {
        return Err(Refused::Pair {
            chain: chain_name.clone(),
            key: key_name.clone(),
        });
    }
    Ok((chain, key))
}

/// Provisions the box: from `stick` when it has a `palabre.toml`, and from what was kept in all that
/// this does not name. Safe to run at every start.
pub fn provision(
    places: &Places,
    stick: Option<Plugged<'_>>,
    created: u64,
) -> Result<Done, Refused> {
    let machine_id = fs::read_to_string(places.root.join("etc/machine-id")).unwrap_or_default();
    let host = host_name(&serials(&places.root), &machine_id);
    let last = places.state.join("stick.sha256");
    // Everything is read and checked before anything is written.
    let brought = match stick {
        Some(Plugged { folder, left_in }) => Brought::read(folder)?.filter(|brought| {
            !left_in || read(&last).unwrap_or_default().trim_end() != brought.digest
        }),
        None => None,
    };
    let file = places.state.join("box.toml");
    let alone = kept::alone(&places.state)
        .map_err(|error| Refused::Io(places.state.display().to_string(), error))?;
    let (kept, passed_over) = kept::read(&read(&file).unwrap_or_default());
    let (asked, mut certificate) = match &brought {
        Some(Brought { asked, pair, .. }) => (asked.clone().over(kept), pair.clone()),
        None => (kept, None),
    };
    // First what a full disk refuses: what is not kept is not put in force.
    if brought.is_some() {
        // It is no longer what was taken last, even if the power goes before this one is taken whole.
        remove(&last)?;
        let text = toml::to_string(&asked)
            .map_err(|error| Refused::Io(file.display().to_string(), io::Error::other(error)))?;
        write(&file, &text, 0o600)?;
    }
    drop(alone);
    let mut in_force = asked;
    // A stick says nothing of a network that is tried meanwhile, unless it brings one: that is what was wanted last.
    let brings_network = matches!(&brought, Some(brought) if brought.asked.network.is_some());
    if brought.is_some() && !brings_network {
        let tried = read(&places.run.join(TRIED)).unwrap_or_default();
        let tried = Stick::parse(&tried).unwrap_or_default().network;
        in_force.network = tried.or(in_force.network);
    }
    let vlan = || read(&places.run.join(VLAN)).ok();
    let variables = || read(&places.run.join(VARIABLES)).ok();
    let (vlan_before, variables_before) = (vlan(), variables());
    apply(&places.run, &in_force)?;
    if brings_network {
        remove(&places.run.join(TRIED))?;
    }
    let vlan_outlived = vlan_before.is_some() && vlan_before != vlan();
    write(
        &places.run.join("palabre/hostname"),
        &format!("{host}\n"),
        0o644,
    )?;
    let tls = places.state.join(pair::FOLDER);
    pair::tidy(&places.state).map_err(|error| Refused::Io(tls.display().to_string(), error))?;
    let (chain_path, key_path) = (tls.join("certificate.pem"), tls.join("key.pem"));
    // A pair that a bad disk has spoiled would keep the pages from starting, and nobody could mend it.
    let is_kept = || matches!((read(&chain_path), read(&key_path)), (Ok(chain), Ok(key)) if serves(&chain, &key));
    if certificate.is_none() && !is_kept() {
        let made = self_signed(&host, created);
        certificate =
            Some(made.map_err(|error| Refused::Io("certificate".into(), io::Error::other(error)))?);
    }
    match certificate {
        Some((chain, key)) => put_certificate(places, &chain, &key)?,
        None => show_certificate(places, &read(&chain_path).unwrap_or_default())?,
    }
    // The last of all: a stick that a power cut kept from being taken whole is taken again.
    if let Some(brought) = &brought {
        write(&last, &format!("{}\n", brought.digest), 0o600)?;
    }
    let sections = brought.as_ref().map(|brought| brought.asked.sections());
    Ok(Done {
        host,
        fingerprint: fingerprint(&read(&chain_path).unwrap_or_default()),
        stick: brought.is_some(),
        sections: sections.unwrap_or_default(),
        program_changed: variables_before != variables(),
        vlan_outlived,
        passed_over,
    })
}

/// Puts a certificate that was checked in the place of the one that is there.
pub fn put_certificate(places: &Places, chain: &str, key: &str) -> Result<(), Refused> {
    let tls = places.state.join(pair::FOLDER);
    pair::replace(&places.state, chain, key)
        .map_err(|error| Refused::Io(tls.display().to_string(), error))?;
    show_certificate(places, chain)
}

/// Tells the console the fingerprint of the certificate, and the screen of a room which key to trust.
fn show_certificate(places: &Places, chain: &str) -> Result<(), Refused> {
    for (name, shown) in [("fingerprint", fingerprint(chain)), ("pin", pin(chain))] {
        let line = shown.unwrap_or_default() + "\n";
        write(&places.run.join("palabre").join(name), &line, 0o644)?;
    }
    Ok(())
}

/// Writes the files of systemd that do what is asked, below `run`, and takes away those that do not.
pub fn apply(run: &Path, asked: &Stick) -> Result<(), Refused> {
    let files = asked.files();
    let unwanted = FILES.map(Path::new);
    for path in unwanted
        .iter()
        .filter(|path| files.iter().all(|(wanted, _)| wanted != *path))
    {
        remove(&run.join(path))?;
    }
    for (path, content) in files {
        // systemd itself reads the program's, as root; the others are for its services.
        let mode = if path == Path::new(VARIABLES) {
            0o600
        } else {
            0o644
        };
        write(&run.join(path), &content, mode)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Refused> {
    use std::io::Read;
    let name = path.display().to_string();
    let file = fs::File::open(path).map_err(|error| Refused::Io(name.clone(), error))?;
    let mut text = String::new();
    match file.take(MAX_FILE + 1).read_to_string(&mut text) {
        Ok(length) if length as u64 <= MAX_FILE => Ok(text),
        Ok(_) => Err(Refused::File(name)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(Refused::File(name)),
        Err(error) => Err(Refused::Io(name, error)),
    }
}

fn remove(path: &Path) -> Result<(), Refused> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Refused::Io(path.display().to_string(), error))
        }
        _ => Ok(()),
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Refused> {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all);
    written
        .and_then(|()| replace(path, text.as_bytes(), mode))
        .map_err(|error| Refused::Io(path.display().to_string(), error))
}

#[cfg(test)]
#[path = "provision_tests.rs"]
mod tests;
