//! What the gateway counts: calls by how they ended, menus by how they ended, messages dropped, and the state now.
//! Counters live in one place that any thread may read; nothing here holds a number, name or address of anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::menu::Outcome;
use crate::sip::Counters;

macro_rules! labels {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $vdoc:literal])* $variant:ident = $label:literal,)* }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[doc = $vdoc])* $variant,)*
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Stable label value.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    };
}

labels! {
    /// How a call ended.
    Ended {
        /// It was in a room until the caller hung up.
        Joined = "joined",
        /// The caller hung up before being in a room.
        Abandoned = "abandoned",
        /// The caller gave up while it rang.
        Cancelled = "cancelled",
        /// No such code.
        UnknownCode = "unknown_code",
        /// Too many wrong codes in the call.
        TooManyTries = "too_many_tries",
        /// Too many wrong codes from the source.
        LockedOut = "locked_out",
        /// Nothing was typed.
        NoCode = "no_code",
        /// The room was full.
        RoomFull = "room_full",
        /// An organiser removed the caller.
        Removed = "removed",
        /// The room was closed.
        RoomClosed = "room_closed",
        /// We ended it because the program stops.
        Dismissed = "dismissed",
        /// No sound came for long.
        MediaTimeout = "media_timeout",
        /// Media was never agreed.
        NoMedia = "no_media",
        /// All RTP ports were taken.
        NoPort = "no_port",
        /// Something behind us did not answer.
        Unavailable = "unavailable",
        /// A bug of ours, contained: it cost this call and no other.
        Failed = "failed",
    }
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Entered => Self::Joined,
            Outcome::TooManyTries => Self::TooManyTries,
            Outcome::LockedOut => Self::LockedOut,
            Outcome::NoCode => Self::NoCode,
            Outcome::RoomFull => Self::RoomFull,
            Outcome::Unavailable => Self::Unavailable,
        }
    }
}

labels! {
    /// Why the shell dropped something without giving it to the SIP core.
    Dropped {
        /// A datagram from where no way leads back.
        NoRoute = "no_route",
        /// A TCP connection on which nothing came for long.
        Idle = "idle",
        /// A peer that does not read what we write.
        SlowPeer = "slow_peer",
        /// The network refused a datagram.
        SendFailed = "send_failed",
    }
}

type ReadCount = fn(&Counters) -> u64;

/// What the SIP core dropped or refused, by label value.
const REFUSED: [(&str, ReadCount); 8] = [
    ("not_sip", |c| c.not_sip),
    ("malformed", |c| c.malformed),
    ("not_servable", |c| c.refused),
    ("overloaded", |c| c.overloaded),
    ("repeated", |c| c.repeated),
    ("stray_response", |c| c.stray_responses),
    ("stray_ack", |c| c.stray_acks),
    ("broken_stream", |c| c.broken_streams),
];

/// Counters of one gateway. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    calls: [AtomicU64; Ended::ALL.len()],
    menus: [AtomicU64; Outcome::ALL.len()],
    dropped: [AtomicU64; Dropped::ALL.len()],
    refused: [AtomicU64; REFUSED.len()],
    panics: AtomicU64,
    invites: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    calls_now: AtomicU64,
    in_rooms_now: AtomicU64,
    dialogs_now: AtomicU64,
    transactions_now: AtomicU64,
    connections_now: AtomicU64,
}

/// One figure for `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Name with unit, in Prometheus' style; those that end in `_total` only grow.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// Label and its value.
    pub label: Option<(&'static str, &'static str)>,
    /// Value.
    pub value: u64,
}

impl Metrics {
    pub(crate) fn invite(&self) {
        self.0.invites.fetch_add(1, Relaxed);
    }

    pub(crate) fn panicked(&self) {
        self.0.panics.fetch_add(1, Relaxed);
    }

    pub(crate) fn ended(&self, ended: Ended) {
        self.0.calls[ended as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn menu(&self, outcome: Outcome) {
        self.0.menus[outcome as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn dropped(&self, dropped: Dropped) {
        self.0.dropped[dropped as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn received(&self) {
        self.0.received.fetch_add(1, Relaxed);
    }

    pub(crate) fn sent(&self) {
        self.0.sent.fetch_add(1, Relaxed);
    }

    pub(crate) fn tables(
        &self,
        calls: usize,
        in_rooms: usize,
        dialogs: usize,
        transactions: usize,
    ) {
        self.0.calls_now.store(calls as u64, Relaxed);
        self.0.in_rooms_now.store(in_rooms as u64, Relaxed);
        self.0.dialogs_now.store(dialogs as u64, Relaxed);
        self.0.transactions_now.store(transactions as u64, Relaxed);
    }

    pub(crate) fn core(&self, counters: &Counters) {
        for (kept, (_, read)) in self.0.refused.iter().zip(REFUSED) {
            kept.store(read(counters), Relaxed);
        }
    }

    pub(crate) fn connections(&self, connections: usize) {
        self.0.connections_now.store(connections as u64, Relaxed);
    }

    /// Calls that ended this way.
    #[must_use]
    pub fn calls(&self, ended: Ended) -> u64 {
        self.0.calls[ended as usize].load(Relaxed)
    }

    /// Bugs that were contained: each cost one call or one message.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.0.panics.load(Relaxed)
    }

    /// Calls now, in the menu or in a room.
    #[must_use]
    pub fn calls_now(&self) -> u64 {
        self.0.calls_now.load(Relaxed)
    }

    /// Callers in rooms now.
    #[must_use]
    pub fn in_rooms_now(&self) -> u64 {
        self.0.in_rooms_now.load(Relaxed)
    }

    /// Every figure, in a fixed order.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let counts = &self.0;
        let one = |name, help, value: &AtomicU64| Sample {
            name,
            help,
            label: None,
            value: value.load(Relaxed),
        };
        let mut samples = vec![
            one(
                "palabre_sip_invites_total",
                "Calls that came in.",
                &counts.invites,
            ),
            one(
                "palabre_sip_messages_received_total",
                "Datagrams and stream reads given to the SIP core.",
                &counts.received,
            ),
            one(
                "palabre_sip_messages_sent_total",
                "SIP messages sent.",
                &counts.sent,
            ),
            one(
                "palabre_sip_panics_total",
                "Bugs that were contained; each cost one call or one message.",
                &counts.panics,
            ),
            one(
                "palabre_sip_calls",
                "Calls going on now.",
                &counts.calls_now,
            ),
            one(
                "palabre_sip_calls_in_rooms",
                "Callers in rooms now.",
                &counts.in_rooms_now,
            ),
            one(
                "palabre_sip_dialogs",
                "SIP dialogs now.",
                &counts.dialogs_now,
            ),
            one(
                "palabre_sip_transactions",
                "SIP transactions now.",
                &counts.transactions_now,
            ),
            one(
                "palabre_sip_connections",
                "TCP connections now.",
                &counts.connections_now,
            ),
        ];
        samples.extend(Ended::ALL.iter().map(|ended| Sample {
            name: "palabre_sip_calls_total",
            help: "Calls by how they ended.",
            label: Some(("result", ended.name())),
            value: counts.calls[*ended as usize].load(Relaxed),
        }));
        samples.extend(Outcome::ALL.iter().map(|outcome| Sample {
            name: "palabre_sip_menus_total",
            help: "Voice menus by how they ended.",
            label: Some(("outcome", outcome.name())),
            value: counts.menus[*outcome as usize].load(Relaxed),
        }));
        samples.extend(Dropped::ALL.iter().map(|dropped| Sample {
            name: "palabre_sip_dropped_total",
            help: "What was dropped before the SIP core saw it, by reason.",
            label: Some(("reason", dropped.name())),
            value: counts.dropped[*dropped as usize].load(Relaxed),
        }));
        samples.extend(
            REFUSED
                .iter()
                .zip(&counts.refused)
                .map(|((reason, _), value)| Sample {
                    name: "palabre_sip_refused_total",
                    help: "SIP messages absorbed, dropped or refused by the core, by reason.",
                    label: Some(("reason", *reason)),
                    value: value.load(Relaxed),
                }),
        );
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_its_own_name_and_label() {
        let metrics = Metrics::default();
        metrics.ended(Ended::RoomFull);
        metrics.core(&Counters {
            malformed: 3,
            ..Counters::default()
        });
        let samples = metrics.samples();
        let mut keys: Vec<_> = samples.iter().map(|s| (s.name, s.label)).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), samples.len());
        let value = |name, label| {
            let found = samples
                .iter()
                .find(|s| (s.name, s.label) == (name, Some(label)));
            found.expect("a figure").value
        };
        assert_eq!(value("palabre_sip_calls_total", ("result", "room_full")), 1);
        assert_eq!(
            value("palabre_sip_refused_total", ("reason", "malformed")),
            3
        );
        assert!(
            samples
                .iter()
                .all(|s| s.name.starts_with("palabre_sip_") && s.help.ends_with('.'))
        );
    }
}
