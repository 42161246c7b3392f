//! The box gets its name, network, time and certificate: at each start, and from a stick.

use std::path::{Path, PathBuf};

use palabre_appliance::arguments::{Arguments, Usage};
use palabre_appliance::history::What;
use palabre_appliance::provision::{self, Done, Plugged};

use super::{Failed, Places, remember};
use crate::system::{delete_vlan, system, systemctl};

/// What `provision` was told.
pub(crate) struct Provision {
    usb: Option<PathBuf>,
    left_in: bool,
}

impl Provision {
    pub(crate) fn from(arguments: &mut Arguments) -> Result<Self, Usage> {
        Ok(Self {
            usb: arguments.value("--usb")?.map(PathBuf::from),
            left_in: arguments.flag("--left-in"),
        })
    }

    pub(crate) fn run(self, places: &Places) -> Result<String, Failed> {
        let created = places.image().map_or(0, |image| image.created);
        let at = provision::Places {
            root: places.root.clone(),
            run: places.run.clone(),
            // The state of updates is one folder of the state of the box.
            state: places.state.parent().unwrap_or(Path::new("/")).to_owned(),
        };
        let stick = self.usb.as_deref().map(|folder| Plugged {
            folder,
            left_in: self.left_in,
        });
        let done = provision::provision(&at, stick, created);
        match &done {
            Ok(done) if done.stick => {
                remember(places, What::SettingsTaken, 0, &done.sections.join(" "))
            }
            Err(refused) if stick.is_some() => {
                let why = format!("{}: {}", refused.code(), refused.told());
                remember(places, What::SettingsRefused, 0, &why);
            }
            _ => {}
        }
        let done = done.map_err(|refused| Failed::said(refused.code(), refused))?;
        for name in &done.passed_over {
            eprintln!(
                "kept settings: {name} is not understood by this version, and is passed over"
            );
        }
        if done.stick {
            enter(&done);
        }
        let print = done.fingerprint.unwrap_or_else(|| "none".to_owned());
        let from = if done.stick { ", from the stick" } else { "" };
        let program = match done.stick && done.program_changed {
            true => ", for the program's next start",
            false => "",
        };
        Ok(format!(
            "{}{from}{program}\ncertificate SHA-256 {print}\n",
            done.host
        ))
    }
}

/// Has systemd take what a stick brought while the box runs. What it does not take now is in force from the next start on.
fn enter(done: &Done) {
    if done.vlan_outlived {
        delete_vlan();
    }
    let taken = [
        system("networkctl", &["reload"]),
        // Reads its servers at its start only.
        systemctl(&["try-restart", "systemd-timesyncd.service"]),
    ];
    for failed in taken.into_iter().filter_map(Result::err) {
        if let Failed::Said { code, what } = failed {
            eprintln!("error[{code}]: {what}");
        }
    }
}
