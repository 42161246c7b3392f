//! What an administrator sets: the network, on trial; time; the certificate. And how full the disk is.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use palabre_appliance::certificate;
use palabre_appliance::history::replace;
use palabre_appliance::kept;
use palabre_appliance::provision::{self, Network, Stick, TRIED, Time, apply};
use palabre_appliance::service::{NetworkState, Port, Storage, TimeState, Tried};

use super::Service;
use crate::system::{delete_vlan, system, systemctl};
use crate::{Failed, Places};

/// A network that is tried, and until when.
pub(super) struct Trial {
    network: Network,
    until: Instant,
}

/// Where the administrator's settings are kept, and how they are put in force.
struct Settings<'a>(&'a Places);

impl Settings<'_> {
    fn file(&self) -> PathBuf {
        // The state of updates is one folder of the state of the box.
        self.0.state.with_file_name("box.toml")
    }

    fn mark(&self) -> PathBuf {
        self.0.run.join(TRIED)
    }

    /// What is kept, as far as it is understood, as at the start of the box.
    fn kept(&self) -> Stick {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        kept::read(&text).0
    }

    /// Others who change what is kept wait while this is open.
    fn alone(&self) -> Result<fs::File, Failed> {
        let folder = self.file().with_file_name("");
        kept::alone(&folder)
            .map_err(|error| Failed::said("settings", format!("{}: {error}", folder.display())))
    }

    fn keep(&self, settings: &Stick) -> Result<(), Failed> {
        let text = toml::to_string(settings).map_err(|error| Failed::said("settings", error))?;
        let file = self.file();
        let made = file.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| replace(&file, text.as_bytes(), 0o600))
            .map_err(|error| Failed::said("settings", format!("{}: {error}", file.display())))
    }

    fn apply(&self, settings: &Stick) -> Result<(), Failed> {
        apply(&self.0.run, settings).map_err(|refused| Failed::said(refused.code(), refused))
    }

    /// Puts a network in force. `before` is the one that was.
    fn enter(&self, settings: &Stick, before: Option<&Network>) -> Result<(), Failed> {
        self.apply(settings)?;
        let vlan = |network: Option<&Network>| network.and_then(|network| network.vlan);
        if vlan(before).is_some() && vlan(before) != vlan(settings.network.as_ref()) {
            delete_vlan();
        }
        system("networkctl", &["reload"])
    }
}

impl Service {
    fn settings(&self) -> Settings<'_> {
        Settings(&self.places)
    }

    /// A stick that brought a network ended the trial: its network is in force, and kept.
    pub(super) fn forget_replaced(&self, trial: &mut Option<Trial>) {
        if trial.is_some() && !self.settings().mark().exists() {
            *trial = None;
        }
    }

    /// After a start: a network that was tried when the service ended was not confirmed.
    pub(super) fn settle(&self) {
        let settings = self.settings();
        let mark = settings.mark();
        if let Ok(text) = fs::read_to_string(&mark) {
            let tried = Stick::parse(&text).unwrap_or_default();
            self.back(tried.network.as_ref());
        }
    }

    fn back(&self, tried: Option<&Network>) {
        let settings = self.settings();
        let done = settings.enter(&settings.kept(), tried);
        let _ = fs::remove_file(settings.mark());
        match done {
            Ok(()) => {
                eprintln!("the network that was tried is not confirmed; the one before is back")
            }
            Err(Failed::Said { code, what }) => eprintln!("error[{code}]: {what}"),
            Err(Failed::Usage(_)) => {}
        }
    }

    pub(super) fn network(&self) -> Result<NetworkState, Failed> {
        let tried = self.trial().as_ref().map(|trial| {
            let left = trial.until.saturating_duration_since(Instant::now());
            Tried {
                network: trial.network.clone(),
                seconds_left: left.as_secs(),
            }
        });
        Ok(NetworkState {
            kept: self.settings().kept().network.unwrap_or_default(),
            tried,
            ports: ports()?,
        })
    }

    /// Puts a network in force until it is confirmed, or `confirm_within` has passed.
    pub(super) fn try_network(self: &Arc<Self>, network: Network) -> Result<(), Failed> {
        network
            .check()
            .map_err(|refused| Failed::said("network-invalid", refused))?;
        let settings = self.settings();
        let kept = settings.kept();
        let tried = Stick {
            network: Some(network.clone()),
            ..kept.clone()
        };
        let text = toml::to_string(&tried).map_err(|error| Failed::said("settings", error))?;
        let until = Instant::now() + self.confirm_within;
        let mut trial = self.trial();
        // A trial that cannot be marked is not begun, and the one before goes on.
        replace(&settings.mark(), text.as_bytes(), 0o600)
            .map_err(|error| Failed::said("settings", error))?;
        let before = trial.replace(Trial { network, until });
        let before = before.map_or(kept.network, |trial| Some(trial.network));
        let entered = settings.enter(&tried, before.as_ref());
        drop(trial);
        let service = Arc::clone(self);
        let thread = std::thread::Builder::new().name("network".to_owned());
        let watched = thread.spawn(move || service.wait_for_confirmation(until));
        if let (Ok(()), Ok(_)) = (&entered, &watched) {
            return Ok(());
        }
        self.revert_network()?;
        entered?;
        watched
            .map(drop)
            .map_err(|error| Failed::said("system", error))
    }

    fn wait_for_confirmation(&self, until: Instant) {
        let mut trial = self.trial();
        // A later trial has a later end, and a thread of its own.
        while trial.as_ref().is_some_and(|trial| trial.until == until) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let tried = trial.take();
                self.back(tried.map(|trial| trial.network).as_ref());
                return;
            }
            let waited = self.confirmed.wait_timeout(trial, left);
            trial = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            self.forget_replaced(&mut trial);
        }
    }

    pub(super) fn confirm_network(&self) -> Result<(), Failed> {
        let mut trial = self.trial();
        let Some(tried) = trial.as_ref() else {
            return Err(Failed::said("network-not-tried", "no network is tried now"));
        };
        let settings = self.settings();
        let alone = settings.alone()?;
        let kept = settings.kept();
        settings.keep(&Stick {
            network: Some(tried.network.clone()),
            ..kept
        })?;
        drop(alone);
        *trial = None;
        let _ = fs::remove_file(settings.mark());
        self.confirmed.notify_all();
        Ok(())
    }

    pub(super) fn revert_network(&self) -> Result<(), Failed> {
        let mut trial = self.trial();
        let Some(tried) = trial.take() else {
            return Err(Failed::said("network-not-tried", "no network is tried now"));
        };
        self.back(Some(&tried.network));
        self.confirmed.notify_all();
        Ok(())
    }

    pub(super) fn time(&self) -> TimeState {
        let confirmed = self.places.run.join("systemd/timesync/synchronized");
        TimeState {
            kept: self.settings().kept().time.unwrap_or_default(),
            is_synchronised: confirmed.exists(),
            now: now(),
        }
    }

    pub(super) fn set_time(&self, time: Time) -> Result<(), Failed> {
        let says_nothing = time == Time::default();
        if !says_nothing {
            let checked = time.check();
            checked.map_err(|refused| Failed::said("time-invalid", refused))?;
        }
        let settings = self.settings();
        let alone = settings.alone()?;
        let kept = Stick {
            time: (!says_nothing).then_some(time),
            ..settings.kept()
        };
        settings.keep(&kept)?;
        drop(alone);
        // A network that is tried stays in force, and must not go back while this is written.
        let trial = self.trial();
        let network = trial.as_ref().map(|trial| trial.network.clone());
        settings.apply(&Stick {
            network: network.or(kept.network.clone()),
            ..kept
        })?;
        drop(trial);
        systemctl(&["try-restart", "systemd-timesyncd.service"])
    }

    fn provision_places(&self) -> provision::Places {
        provision::Places {
            root: self.places.root.clone(),
            run: self.places.run.clone(),
            state: self.settings().file().with_file_name(""),
        }
    }

    pub(super) fn certificate(&self) -> Option<certificate::Facts> {
        let path = self.provision_places().state.join("tls/certificate.pem");
        certificate::facts(&fs::read_to_string(path).ok()?)
    }

    pub(super) fn set_certificate(&self, chain: &str, key: &str) -> Result<(), Failed> {
        certificate::check(chain, key, now())
            .map_err(|refused| Failed::said(refused.code(), refused))?;
        self.put_certificate(chain, key)
    }

    pub(super) fn self_sign(&self) -> Result<(), Failed> {
        let host = fs::read_to_string(self.places.run.join("palabre/hostname"));
        let host = host.unwrap_or_else(|_| "palabre".to_owned());
        let created = self.places.image().map_or(0, |image| image.created);
        let made = certificate::self_signed(host.trim(), created);
        let (chain, key) = made.map_err(|error| Failed::said("certificate", error))?;
        self.put_certificate(&chain, &key)
    }

    fn put_certificate(&self, chain: &str, key: &str) -> Result<(), Failed> {
        provision::put_certificate(&self.provision_places(), chain, key)
            .map_err(|refused| Failed::said(refused.code(), refused))
    }

    pub(super) fn storage(&self) -> Result<Storage, Failed> {
        let state = self.provision_places().state;
        let disk = rustix::fs::statvfs(&state)
            .map_err(|error| Failed::said("storage", format!("{}: {error}", state.display())))?;
        Ok(Storage {
            bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
            bytes_free: disk.f_bavail.saturating_mul(disk.f_frsize),
            files: disk.f_files,
            files_free: disk.f_favail,
        })
    }
}

/// How long a network has for its confirmation, unless told otherwise: time to type an address, sign
/// in and press a button. Longer leaves a box that lost its way unreachable for longer.
pub(super) const CONFIRM_WITHIN: Duration = Duration::from_secs(120);

fn now() -> u64 {
    std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |age| age.as_secs())
}

/// The network ports but the machine's own, with their addresses.
fn ports() -> Result<Vec<Port>, Failed> {
    let found = nix::ifaddrs::getifaddrs().map_err(|error| Failed::said("network", error))?;
    let mut ports: Vec<Port> = Vec::new();
    for entry in found {
        if entry
            .flags
            .contains(nix::net::if_::InterfaceFlags::IFF_LOOPBACK)
        {
            continue;
        }
        let ip = |address: Option<nix::sys::socket::SockaddrStorage>| -> Option<IpAddr> {
            let address = address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
        };
        let at = match ports
            .iter()
            .position(|port| port.name == entry.interface_name)
        {
            Some(at) => at,
            None => {
                ports.push(Port {
                    name: entry.interface_name.clone(),
                    addresses: Vec::new(),
                });
                ports.len() - 1
            }
        };
        if let (Some(address), Some(mask)) = (ip(entry.address), ip(entry.netmask)) {
            let prefix = match mask {
                IpAddr::V4(mask) => mask.to_bits().leading_ones(),
                IpAddr::V6(mask) => mask.to_bits().leading_ones(),
            };
            ports[at].addresses.push(format!("{address}/{prefix}"));
        }
    }
    Ok(ports)
}
