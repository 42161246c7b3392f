//! The parts, started in order and stopped in reverse.
//!
//! This is the only place that knows all of them; it decides nothing about rooms, media or calls.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use palabre_admin::metrics::{Family, Kind, Sample, Source};
use palabre_admin::store::{OpenError, Restored};
use palabre_admin::synthetic::{self, Lender, SyntheticCalls, Ways};
use palabre_admin::{
    AdminConfig, Appliance, ApplianceConfig, Health, LiveRooms, Parts, Readiness, ServeError,
    Store, serve,
};
use palabre_engine::door::{Door, Patience};
use palabre_engine::settings::Section;
use palabre_engine::{Engine, EngineConfig, StartError};
use palabre_sip::config::SipConfig;
use palabre_sip::metrics::Metrics as SipMetrics;
use palabre_sip::net::Sip;
use palabre_sip::rooms::EngineRooms;
use tokio::task::JoinHandle;

use crate::config::{Log, Storage};
use crate::supervisor::Supervisor;

/// How long requests and calls under way may take to end when the program is asked to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Everything that `palabre.toml` can say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    pub(crate) storage: Storage,
    pub(crate) log: Log,
    pub(crate) http: AdminConfig,
    pub(crate) engine: EngineConfig,
    pub(crate) sip: SipConfig,
    pub(crate) appliance: ApplianceConfig,
}

impl Config {
    /// The sections of the file, in its order.
    pub(crate) fn sections(&mut self) -> [(&'static str, &mut dyn Section); 8] {
        [
            ("storage", &mut self.storage),
            ("log", &mut self.log),
            ("http", &mut self.http),
            ("media", &mut self.engine.media),
            ("rooms", &mut self.engine.rooms),
            ("mixer", &mut self.engine.mixer),
            ("sip", &mut self.sip),
            ("appliance", &mut self.appliance),
        ]
    }
}

/// The program did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The data folder cannot be made or read.
    #[error("cannot use the data folder {path} (key storage.folder): {cause}")]
    Folder { path: String, cause: std::io::Error },
    #[error(transparent)]
    Database(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] palabre_admin::store::StoreError),
    #[error(transparent)]
    Engine(#[from] StartError),
    #[error(transparent)]
    Sip(#[from] palabre_sip::net::StartError),
    #[error(transparent)]
    Http(#[from] ServeError),
    #[error("cannot listen for signals: {0}")]
    Signal(std::io::Error),
    /// A part that should run as long as the program does has ended: only a new start brings it back.
    #[error("{0} ended by a bug; the program stops so that it can be started anew")]
    Ended(&'static str),
}

/// Runs until SIGTERM or SIGINT, or until a part ends on its own, then stops every part.
pub(crate) async fn run(config: Config) -> Result<(), Failure> {
    let folder = &config.storage.folder;
    let unusable = |cause| Failure::Folder {
        path: folder.display().to_string(),
        cause,
    };
    private_folder(folder).map_err(unusable)?;
    let version = Appliance::version(&config.appliance);
    let store = Store::open_as(&folder.join("palabre.db"), &version).await?;
    let restored = store.restored();
    let claim_code = store.access.new_claim_code().await?;
    let directory = store.rooms.directory();
    let door = Door::new(Arc::clone(&directory), Patience::default());
    let engine = Engine::start(config.engine.clone(), directory)?;
    let mut sources = vec![
        Source::engine(engine.clone()),
        Source::media(engine.clone()),
    ];
    let sip = if config.sip.enabled {
        let rooms = EngineRooms::new(engine.clone(), door.clone());
        let sip = Sip::start(config.sip.clone(), rooms).await?;
        sources.push(sip_source(sip.metrics().clone()));
        Some(sip)
    } else {
        None
    };
    let http = config.http.clone();
    let live: Arc<dyn LiveRooms> = Arc::new(engine.clone());
    let appliance = Appliance::new(&config.appliance, folder).map_err(unusable)?;
    let watch = appliance
        .clone()
        .map(|appliance| tokio::spawn(appliance.keep_watch(Arc::clone(&live))));
    if let Some(restored) = &restored {
        tracing::warn!(
            before = restored.before,
            "this version could not read the database: the copy made before a newer version is back, \
             and what that version made of it is kept beside"
        );
        // On a box its history tells it from now on; elsewhere this line did.
        match appliance.clone() {
            Some(appliance) => drop(tokio::spawn(tell(
                appliance,
                restored.clone(),
                store.clone(),
            ))),
            None => store.told(),
        }
    }
    // Telephones of another network reach it where somebody said that they do.
    let dialled = sip.as_ref().map(|sip| {
        let bound = sip.address();
        SocketAddr::new(config.sip.advertise.unwrap_or(bound.ip()), bound.port())
    });
    let parts = Parts {
        store: store.clone(),
        live,
        appliance,
        door,
        sources,
        sip: dialled,
        readiness: sip
            .iter()
            .map(|sip| -> Readiness { ("sip", Box::new(sip.is_running())) })
            .collect(),
    };
    let telephone = dialled.map(|dialled| {
        let told = http.sip_address.clone();
        told.unwrap_or_else(|| palabre_admin::sip_uri(dialled, None))
    });
    let public_url = http.public_url.clone();
    let server = serve(http, parts).await?;
    let lender = Lender {
        store: store.clone(),
        live: Arc::new(engine.clone()),
        ways: Ways {
            http: server.address(),
            sip: sip.as_ref().map(Sip::address),
        },
        longest: synthetic::LONGEST,
    };
    // Meetings do not need it: a box that cannot call itself serves all the same.
    let calls = SyntheticCalls::listen(folder, lender)
        .await
        .inspect_err(|error| tracing::warn!(%error, "no synthetic call is possible"));

    let url = public_url.unwrap_or_else(|| server.url());
    announce(
        &url,
        telephone.as_deref(),
        claim_code.as_ref().map(palabre_admin::Secret::reveal),
        restored.as_ref(),
    );
    let told = supervised(server.health(), engine.clone());
    if claim_code.is_some() {
        let access = store.access.clone();
        tokio::spawn(async move {
            access.claimed().await;
            say("  Claimed     the administrator's password is set, the code is used up");
        });
    }
    let telephone = async {
        match &sip {
            Some(sip) => sip.ended().await,
            None => std::future::pending().await,
        }
    };
    let why = why_to_stop(until_told_to_stop(), telephone, server.ended()).await;
    tracing::info!("stopping");
    drop(calls);
    for task in watch.into_iter().chain(told) {
        task.abort();
    }
    if let Some(sip) = sip {
        sip.shut_down().await;
    }
    engine.shutdown().await;
    server.shutdown(GRACE).await;
    store.close().await;
    why
}

/// Tells systemd how the program is, when it was started by that. What restarts the program is that its threads hang; a
/// disk that does not answer would not be better after a restart, and meetings go on without.
fn supervised(health: Health, engine: Engine) -> Option<JoinHandle<()>> {
    let supervisor = Supervisor::of(|key| std::env::var_os(key)).unwrap_or_else(|error| {
        tracing::warn!(%error, "whoever NOTIFY_SOCKET names is not told how the program is");
        None
    })?;
    let is_ready = move || {
        let health = health.clone();
        async move { health.is_ready().await }
    };
    let answers = move || {
        let engine = engine.clone();
        async move { engine.answers().await }
    };
    Some(tokio::spawn(supervisor.keep(is_ready, answers)))
}

/// Has the history of the box say it. What cannot be said now is said at the next start.
async fn tell(appliance: Appliance, restored: Restored, store: Store) {
    if appliance.tell_restored(&restored).await.is_ok() {
        store.told();
    }
}

/// Waits for the first reason to stop: being told to, which is no failure, or the end of a part.
async fn why_to_stop(
    told: impl Future<Output = std::io::Result<()>>,
    telephone: impl Future<Output = ()>,
    pages: impl Future<Output = ()>,
) -> Result<(), Failure> {
    tokio::select! {
        told = told => told.map_err(Failure::Signal),
        () = telephone => Err(Failure::Ended("the SIP side (section [sip])")),
        () = pages => Err(Failure::Ended("the HTTP server (section [http])")),
    }
}

/// What a person who starts the program needs to know; nothing of it goes to the log.
fn announce(url: &str, sip: Option<&str>, claim_code: Option<&str>, restored: Option<&Restored>) {
    let mut out = std::io::stdout().lock();
    // Nobody may be reading: that is no reason to stop.
    let _ = writeln!(out, "  Page        {url}/");
    if let Some(sip) = sip {
        let _ = writeln!(out, "  Telephone   {sip}");
    }
    if let Some(code) = claim_code {
        let _ = writeln!(
            out,
            "  Claim code  {code}  (once: {url}/admin sets the administrator's password)"
        );
    }
    if let Some(Restored { before, aside, .. }) = restored {
        let aside = aside.display();
        let _ = writeln!(
            out,
            "  Restored    the data from before version {before}; what it made of them is kept in {aside}"
        );
    }
    let _ = writeln!(out, "Palabre is ready. Stop it with Ctrl-C.");
    let _ = out.flush();
}

/// One more line for whoever looks at the screen; as with the others, nobody may be reading.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

async fn until_told_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Makes the folder, readable by this user only: it holds keys and names.
fn private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
    {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The SIP side's counters in the shape of the metrics page.
fn sip_source(metrics: SipMetrics) -> Source {
    let families: Vec<Family> = {
        let mut known: Vec<Family> = Vec::new();
        for sample in metrics.samples() {
            if known.iter().all(|family| family.name != sample.name) {
                known.push(Family {
                    name: sample.name,
                    kind: if sample.name.ends_with("_total") {
                        Kind::Counter
                    } else {
                        Kind::Gauge
                    },
                    labels: match sample.label {
                        Some(("reason", _)) => &["reason"],
                        Some(("result", _)) => &["result"],
                        Some(("outcome", _)) => &["outcome"],
                        Some((other, _)) => {
                            panic!("the label {other} of {} has no place here", sample.name)
                        }
                        None => &[],
                    },
                    help: sample.help,
                });
            }
        }
        known
    };
    Source {
        // Once per program: the table lives as long as it does.
        families: families.leak(),
        #[allow(clippy::cast_precision_loss)] // counters stay far below 2^53
        read: Box::new(move || {
            metrics
                .samples()
                .iter()
                .map(|sample| Sample {
                    name: sample.name,
                    labels: sample.label.iter().map(|(_, value)| (*value).to_owned()).collect(),
                    value: sample.value as f64,
                })
                .collect()
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[test]
    fn every_metric_of_every_part_is_named_by_the_rule() {
        use palabre_admin::metrics::{ENGINE, OWN, faults, media_families};
        let sip = sip_source(SipMetrics::default()).families;
        assert!(sip.len() > 5, "the telephone counts too");
        let faults = faults(OWN.iter().chain(ENGINE).chain(media_families()).chain(sip));
        assert!(faults.is_empty(), "{faults:?}");
    }

    /// Set `PALABRE_BLESS=1` to rewrite the golden file after a wanted change.
    #[test]
    fn all_metrics_stand_in_one_table() {
        use palabre_admin::metrics::{ENGINE, OWN, media_families};
        let sip = sip_source(SipMetrics::default()).families;
        let mut all: Vec<&Family> = OWN
            .iter()
            .chain(ENGINE)
            .chain(media_families())
            .chain(sip)
            .collect();
        all.sort_by_key(|family| family.name);
        let mut table = String::from(
            "# Metrics\nWhat `/metrics` tells, in the base units of Prometheus: seconds, bytes, ratios from 0 to 1. The end of a \
             name is its unit. Some are there only from the first that they count.\n\n| name | kind | labels | what |\n| --- | --- | --- | --- |\n",
        );
        for family in all {
            let kind = format!("{:?}", family.kind).to_lowercase();
            let labels = family.labels.join(", ");
            table += &format!(
                "| `{}` | {kind} | {labels} | {} |\n",
                family.name, family.help
            );
        }
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../admin/metrics.md");
        if std::env::var_os("PALABRE_BLESS").is_some() {
            std::fs::write(golden, &table).expect("the tree can be written");
        }
        let kept = std::fs::read_to_string(golden).unwrap_or_default();
        assert!(
            kept == table,
            "the metrics changed: run with PALABRE_BLESS=1 and read the difference"
        );
    }

    #[tokio::test]
    async fn the_end_of_a_part_is_a_failure_that_names_it_and_a_signal_is_none() {
        let told = why_to_stop(ready(Ok(())), pending(), pending()).await;
        assert!(told.is_ok());
        for (telephone, part) in [(true, "[sip]"), (false, "[http]")] {
            let ended = |it_is: bool| async move {
                if !it_is {
                    pending::<()>().await;
                }
            };
            let failure = why_to_stop(pending(), ended(telephone), ended(!telephone)).await;
            let sentence = failure.expect_err("a failure").to_string();
            assert!(sentence.contains(part), "{sentence}");
        }
    }
}
