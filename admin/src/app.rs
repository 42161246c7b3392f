//! What every handler can reach: configuration, store, rooms, door, counters.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use palabre_engine::door::{Door, Patience, Tries};
use tokio::sync::watch;

use crate::appliance::Appliance;
use crate::config::AdminConfig;
use crate::live::LiveRooms;
use crate::metrics::Metrics;
use crate::password::Hashing;
use crate::serve::{Parts, Readiness};
use crate::store::{ApiKey, Store};
use crate::tls::Tls;

/// Shared state of all handlers; cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: AdminConfig,
    pub(crate) store: Store,
    pub(crate) live: Arc<dyn LiveRooms>,
    /// The box under the program, when there is one.
    pub(crate) appliance: Option<Appliance>,
    pub(crate) door: Door,
    /// Key that signs the pages' tokens.
    pub(crate) pages: ApiKey,
    pub(crate) metrics: Metrics,
    /// TLS of our own, when there is.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Where telephones are answered, when they are.
    pub(crate) sip: Option<SocketAddr>,
    /// Whether the other parts run, for `/readyz`.
    pub(crate) readiness: Vec<Readiness>,
    /// Wrong passwords and claim codes, by source.
    pub(crate) sign_ins: Mutex<Tries>,
    /// Where passwords are hashed.
    pub(crate) hashing: Hashing,
    /// Turns true when the server stops.
    pub(crate) stop: watch::Receiver<bool>,
}

impl App {
    pub(crate) fn new(
        config: AdminConfig,
        parts: Parts,
        pages: ApiKey,
        metrics: Metrics,
        tls: Option<Arc<Tls>>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self(Arc::new(Inner {
            config,
            store: parts.store,
            live: parts.live,
            appliance: parts.appliance,
            door: parts.door,
            pages,
            metrics,
            tls,
            sip: parts.sip,
            readiness: parts.readiness,
            sign_ins: Mutex::new(Tries::new(Patience::default())),
            hashing: Hashing::new(),
            stop,
        }))
    }
}

impl Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
