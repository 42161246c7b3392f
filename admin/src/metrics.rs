//! The metrics of the box: names, units, labels and meaning in tables, and the page `/metrics`.
//!
//! Names are `palabre_<part>_<thing>_<unit|total>` in base units: [`faults`] is the rule. Parts that count
//! for themselves hand in a [`Source`] with its table, read at each scrape; nothing is counted twice. No
//! label carries a name, number or address.

mod media;

use std::collections::HashSet;
use std::time::Duration;

pub use media::families as media_families;
use palabre_engine::door::DoorCounts;
use palabre_engine::{Engine, MetricsSnapshot};
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    CounterVec, Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts,
    TextEncoder,
};

use crate::store::UnixSeconds;

/// Whether a value only grows, is a state, or a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; the name ends in `_total`.
    Counter,
    /// The state now.
    Gauge,
    /// A distribution in buckets.
    Histogram,
}

/// One metric: a line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Full name with its unit.
    pub name: &'static str,
    /// What kind of value it is.
    pub kind: Kind,
    /// Labels, in order.
    pub labels: &'static [&'static str],
    /// What it means, in one sentence.
    pub help: &'static str,
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family {
        name,
        kind: Kind::Counter,
        labels,
        help,
    }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family {
        name,
        kind: Kind::Gauge,
        labels,
        help,
    }
}

const HTTP_REQUESTS: Family = counter(
    "palabre_http_requests_total",
    &["method", "route", "status"],
    "HTTP requests answered, by route pattern and status.",
);
const HTTP_DURATION: Family = Family {
    name: "palabre_http_request_duration_seconds",
    kind: Kind::Histogram,
    labels: &["route"],
    help: "Time from a request's headers to its answer's headers.",
};
const HTTP_CONNECTIONS: Family = gauge(
    "palabre_http_connections",
    &[],
    "TCP connections open now, WebSockets included.",
);
const HTTP_REFUSED: Family = counter(
    "palabre_http_connections_refused_total",
    &["reason"],
    "TCP connections closed unread: all (too many in all) or source (too many from one address).",
);
const HANDSHAKES_FAILED: Family = counter(
    "palabre_http_handshakes_failed_total",
    &["reason"],
    "TLS handshakes that failed: closed, slow, displaced (too many at once), plain (HTTP without TLS), refused (by the client, \
     which may not trust the certificate), incompatible, malformed.",
);
const CERTIFICATE_READS: Family = counter(
    "palabre_http_certificate_reads_total",
    &["outcome"],
    "Times the files of the certificate changed while the program ran: taken, or refused and the one before kept.",
);
const CERTIFICATE_EXPIRES: Family = gauge(
    "palabre_http_certificate_expires_timestamp_seconds",
    &[],
    "When the certificate in use expires, in Unix time; absent without TLS of our own.",
);
const SIGNAL_CONNECTIONS: Family = gauge(
    "palabre_signal_connections",
    &[],
    "LiveKit signal WebSockets open now.",
);
const SIGNAL_REFUSED: Family = counter(
    "palabre_signal_refused_total",
    &["reason"],
    "LiveKit signal connections refused before the upgrade, by reason.",
);
const SIGNAL_CLOSED: Family = counter(
    "palabre_signal_closed_total",
    &["reason"],
    "LiveKit signal connections ended, by who or what ended them.",
);
const SIGN_INS: Family = counter(
    "palabre_admin_sign_ins_total",
    &["outcome"],
    "Attempts to sign in or to claim the box: done, wrong, held (slowed or locked out).",
);
const DOOR_TRIES: Family = counter(
    "palabre_door_tries_total",
    &["outcome"],
    "Room codes and links tried at the page or by telephone, by outcome.",
);
const STORE_UP: Family = gauge(
    "palabre_store_up",
    &[],
    "1 when the database answered for this scrape, else 0.",
);
const BUILD: Family = gauge(
    "palabre_build_info",
    &["version"],
    "Always 1; the label is the program's version.",
);
const PROCESS_MEMORY: Family = gauge(
    "palabre_process_resident_memory_bytes",
    &[],
    "Memory the program has in RAM.",
);
const PROCESS_FILES: Family = gauge(
    "palabre_process_open_files",
    &[],
    "File descriptors the program holds, sockets included.",
);
const PROCESS_THREADS: Family = gauge("palabre_process_threads", &[], "Threads of the program.");

/// The metrics this crate counts itself.
pub const OWN: &[Family] = &[
    HTTP_REQUESTS,
    HTTP_DURATION,
    HTTP_CONNECTIONS,
    HTTP_REFUSED,
    HANDSHAKES_FAILED,
    CERTIFICATE_READS,
    CERTIFICATE_EXPIRES,
    SIGNAL_CONNECTIONS,
    SIGNAL_REFUSED,
    SIGNAL_CLOSED,
    SIGN_INS,
    DOOR_TRIES,
    STORE_UP,
    BUILD,
    PROCESS_MEMORY,
    PROCESS_FILES,
    PROCESS_THREADS,
];

/// What breaks the rules in a table of metrics: a name that stands twice, without prefix, without `_total`
/// where it must or with it where it must not, not in a base unit, a help that is no sentence, a label that
/// is no plain word.
#[must_use]
pub fn faults<'a>(table: impl IntoIterator<Item = &'a Family>) -> Vec<String> {
    let mut names = HashSet::new();
    let mut faults = Vec::new();
    for family in table {
        let Family {
            name,
            kind,
            labels,
            help,
        } = *family;
        let is_word = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        let mut check = |is_right: bool, wrong: &str| {
            if !is_right {
                faults.push(format!("{name} {wrong}"));
            }
        };
        check(names.insert(name), "stands twice");
        check(
            name.starts_with("palabre_") && is_word(name),
            "is not palabre_ and lower case",
        );
        check(
            (kind == Kind::Counter) == name.ends_with("_total"),
            "ends in _total and is no counter, or the reverse",
        );
        check(
            help.ends_with('.') && help.len() > 10,
            "has no sentence of help",
        );
        check(
            labels.iter().all(|label| is_word(label)),
            "has a label that is no plain word",
        );
        let is_scaled = |part: &str| {
            [
                "ms",
                "us",
                "ns",
                "micros",
                "millis",
                "milliseconds",
                "percent",
                "kb",
                "kilobytes",
                "minutes",
            ]
            .contains(&part)
        };
        check(!name.split('_').any(is_scaled), "is not in a base unit");
    }
    faults
}

/// One line of the engine's table: the metric, the snapshot's field, how to read it.
type EngineLine = (Family, &'static str, fn(&MetricsSnapshot) -> u64);

macro_rules! engine_lines {
    ($($kind:ident $field:ident $name:literal $help:literal),* $(,)?) => {
        /// The engine's snapshot, field by field.
        const ENGINE_LINES: &[EngineLine] = &[
            $(($kind(concat!("palabre_engine_", $name), &[], $help), stringify!($field), |s| s.$field)),*
        ];
        /// The metrics the engine counts.
        pub const ENGINE: &[Family] = &[$($kind(concat!("palabre_engine_", $name), &[], $help)),*];
    };
}

engine_lines! {
    gauge rooms "rooms" "Rooms open now.",
    gauge participants "participants" "Participants in rooms now, telephones included.",
    gauge tracks "tracks" "Tracks published now.",
    gauge subscriptions "subscriptions" "Tracks being sent to somebody now.",
    gauge legs "legs" "Telephone legs in rooms now.",
    counter joins_total "joins_total" "Participants let in.",
    counter joins_refused_total "joins_refused_total" "Participants refused.",
    counter resumes_total "resumes_total" "Participants that took their session up again.",
    counter signal_requests_total "signal_requests_total" "Signal requests received.",
    counter signal_requests_refused_total "signal_requests_refused_total" "Signal requests refused or without sense.",
    counter signal_responses_total "signal_responses_total" "Signal messages sent.",
    counter signal_slow_consumers_total "signal_slow_consumers_total" "Signal connections closed because the client did not read.",
    counter data_packets_total "data_packets_total" "Data packets received from participants.",
    counter data_packets_dropped_total "data_packets_dropped_total" "Data packets dropped: malformed, too long, not allowed, or lossy and too many waited.",
    counter data_reliable_refused_total "data_reliable_refused_total" "Reliable data packets lost because too many waited.",
    counter media_commands_refused_total "media_commands_refused_total" "Commands that the media workers did not take, being overloaded.",
    counter track_stalls_total "track_stalls_total" "Times nothing came any more of a track that is not muted.",
    counter room_panics_total "room_panics_total" "Rooms dropped because of a bug of ours.",
    counter shard_panics_total "shard_panics_total" "Inputs or ticks of a shard cut short by a bug of ours.",
    counter mixer_panics_total "mixer_panics_total" "Telephone legs, mixes and ticks of the mixer lost to a bug of ours.",
}

/// One value of a [`Source`].
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric, as in the source's families.
    pub name: &'static str,
    /// Values of its labels, in order.
    pub labels: Vec<String>,
    /// The value.
    pub value: f64,
}

/// A part that counts for itself, read at each scrape.
pub struct Source {
    /// The counters and gauges it may give; others are dropped.
    pub families: &'static [Family],
    /// Reads them.
    pub read: Box<dyn Fn() -> Vec<Sample> + Send + Sync>,
}

impl Source {
    /// The engine's counters.
    pub fn engine(engine: Engine) -> Self {
        Self {
            families: ENGINE,
            read: Box::new(move || engine_samples(&engine.metrics())),
        }
    }
}

#[allow(clippy::cast_precision_loss)] // counters stay far below 2^53
fn engine_samples(snapshot: &MetricsSnapshot) -> Vec<Sample> {
    ENGINE_LINES
        .iter()
        .map(|(family, _, read)| Sample {
            name: family.name,
            labels: Vec::new(),
            value: read(snapshot) as f64,
        })
        .collect()
}

/// Bounds of the buckets of request durations, in seconds: a password hash takes 0.03, a slow disk 1.
const DURATION_BUCKETS: &[f64] = &[0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0];

/// The box's counters.
pub struct Metrics {
    requests: IntCounterVec,
    durations: HistogramVec,
    pub(crate) connections: IntGauge,
    refused: IntCounterVec,
    handshakes_failed: IntCounterVec,
    certificate_reads: IntCounterVec,
    pub(crate) signals: IntGauge,
    signals_refused: IntCounterVec,
    signals_closed: IntCounterVec,
    sign_ins: IntCounterVec,
    sources: Vec<Source>,
}

impl Metrics {
    /// Counters at zero, and the other parts' sources.
    pub fn new(sources: Vec<Source>) -> Self {
        let vec = |family: Family| {
            IntCounterVec::new(opts(&family), family.labels).expect("the table is well formed")
        };
        let gauge =
            |family: Family| IntGauge::with_opts(opts(&family)).expect("the table is well formed");
        let durations = HistogramOpts::new(HTTP_DURATION.name, HTTP_DURATION.help)
            .buckets(DURATION_BUCKETS.to_vec());
        Self {
            requests: vec(HTTP_REQUESTS),
            durations: HistogramVec::new(durations, HTTP_DURATION.labels)
                .expect("the table is well formed"),
            connections: gauge(HTTP_CONNECTIONS),
            refused: vec(HTTP_REFUSED),
            handshakes_failed: vec(HANDSHAKES_FAILED),
            certificate_reads: vec(CERTIFICATE_READS),
            signals: gauge(SIGNAL_CONNECTIONS),
            signals_refused: vec(SIGNAL_REFUSED),
            signals_closed: vec(SIGNAL_CLOSED),
            sign_ins: vec(SIGN_INS),
            sources,
        }
    }

    pub(crate) fn request(&self, method: &str, route: &str, status: u16, took: Duration) {
        self.requests
            .with_label_values(&[method, route, &status.to_string()])
            .inc();
        self.durations
            .with_label_values(&[route])
            .observe(took.as_secs_f64());
    }

    pub(crate) fn connection_refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    pub(crate) fn handshake_failed(&self, reason: &'static str) {
        self.handshakes_failed.with_label_values(&[reason]).inc();
    }

    pub(crate) fn certificate_read(&self, outcome: &'static str) {
        self.certificate_reads.with_label_values(&[outcome]).inc();
    }

    pub(crate) fn signal_refused(&self, reason: &'static str) {
        self.signals_refused.with_label_values(&[reason]).inc();
    }

    pub(crate) fn signal_closed(&self, reason: &'static str) {
        self.signals_closed.with_label_values(&[reason]).inc();
    }

    pub(crate) fn sign_in(&self, outcome: &'static str) {
        self.sign_ins.with_label_values(&[outcome]).inc();
    }

    /// The page `/metrics`, in Prometheus' text format.
    pub(crate) fn page(
        &self,
        door: DoorCounts,
        is_store_up: bool,
        certificate_expires: Option<UnixSeconds>,
    ) -> String {
        let mut families: Vec<MetricFamily> = Vec::new();
        families.extend(self.requests.collect());
        families.extend(self.durations.collect());
        families.extend(self.connections.collect());
        families.extend(self.refused.collect());
        families.extend(self.handshakes_failed.collect());
        families.extend(self.certificate_reads.collect());
        families.extend(self.signals.collect());
        families.extend(self.signals_refused.collect());
        families.extend(self.signals_closed.collect());
        families.extend(self.sign_ins.collect());
        let mut own = door_samples(door);
        own.push(sample(&STORE_UP, u64::from(is_store_up)));
        let expires = certificate_expires.and_then(|at| u64::try_from(at).ok());
        own.extend(expires.map(|at| sample(&CERTIFICATE_EXPIRES, at)));
        own.push(Sample {
            name: BUILD.name,
            labels: vec![env!("CARGO_PKG_VERSION").to_owned()],
            value: 1.0,
        });
        own.extend(process_samples());
        fold(OWN, own, &mut families);
        for source in &self.sources {
            fold(source.families, (source.read)(), &mut families);
        }
        // A family without a value yet has no place in the text format.
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut page = Vec::new();
        TextEncoder::new()
            .encode(&families, &mut page)
            .expect("every family has a name and a value");
        String::from_utf8(page).expect("the text format is UTF-8")
    }
}

fn opts(family: &Family) -> Opts {
    Opts::new(family.name, family.help)
}

#[allow(clippy::cast_precision_loss)] // counters stay far below 2^53
fn sample(family: &Family, value: u64) -> Sample {
    Sample {
        name: family.name,
        labels: Vec::new(),
        value: value as f64,
    }
}

fn door_samples(counts: DoorCounts) -> Vec<Sample> {
    let DoorCounts {
        opened,
        malformed,
        unknown,
        slowed,
        locked_out,
        unavailable,
    } = counts;
    [
        ("opened", opened),
        ("malformed", malformed),
        ("unknown", unknown),
        ("slowed", slowed),
        ("locked_out", locked_out),
        ("unavailable", unavailable),
    ]
    .into_iter()
    .map(|(outcome, count)| Sample {
        labels: vec![outcome.to_owned()],
        ..sample(&DOOR_TRIES, count)
    })
    .collect()
}

/// Adds a source's samples, family by family; what its table does not have is left out.
fn fold(table: &[Family], samples: Vec<Sample>, into: &mut Vec<MetricFamily>) {
    for family in table {
        let values = samples
            .iter()
            .filter(|s| s.name == family.name && s.labels.len() == family.labels.len());
        match family.kind {
            Kind::Counter => {
                let Ok(vec) = CounterVec::new(opts(family), family.labels) else {
                    continue;
                };
                let mut is_empty = true;
                for sample in values {
                    vec.with_label_values(&sample.labels)
                        .inc_by(sample.value.max(0.0));
                    is_empty = false;
                }
                if !is_empty {
                    into.extend(vec.collect());
                }
            }
            Kind::Gauge => {
                let Ok(vec) = GaugeVec::new(opts(family), family.labels) else {
                    continue;
                };
                let mut is_empty = true;
                for sample in values {
                    vec.with_label_values(&sample.labels).set(sample.value);
                    is_empty = false;
                }
                if !is_empty {
                    into.extend(vec.collect());
                }
            }
            Kind::Histogram => {}
        }
    }
}

/// What Linux says of this process; nothing where it says nothing.
fn process_samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    if let Some(kibibytes) = field("VmRSS:") {
        samples.push(sample(&PROCESS_MEMORY, kibibytes * 1024));
    }
    if let Some(threads) = field("Threads:") {
        samples.push(sample(&PROCESS_THREADS, threads));
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        samples.push(sample(&PROCESS_FILES, files.count() as u64));
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn table() -> impl Iterator<Item = &'static Family> {
        OWN.iter().chain(ENGINE)
    }

    #[test]
    fn every_metric_is_named_by_the_rule_and_documented() {
        let faults = faults(table().chain(media_families()));
        assert!(faults.is_empty(), "{faults:?}");
    }

    #[test]
    fn the_rule_finds_what_breaks_it() {
        let right = gauge("palabre_box_rooms", &[], "Rooms of the box now.");
        let wrong = [
            counter("palabre_box_rooms", &[], "Rooms of the box now."),
            gauge("palabre_box_rooms_total", &[], "Rooms of the box now."),
            gauge("box_rooms", &[], "Rooms of the box now."),
            gauge("palabre_box_delay_ms", &[], "Delay of the box now."),
            gauge("palabre_box_delay_seconds", &[], "Delay"),
            gauge("palabre_box_sound", &["Quality"], "Sound of the box now."),
        ];
        assert!(faults([&right]).is_empty());
        for family in &wrong {
            assert_eq!(faults([family]).len(), 1, "{}", family.name);
        }
        assert_eq!(faults([&right, &right]).len(), 1);
    }

    #[test]
    fn every_count_of_the_engine_is_in_the_table() {
        let shown = format!("{:?}", MetricsSnapshot::default());
        let body = shown
            .split_once('{')
            .unwrap()
            .1
            .trim_end_matches('}')
            .replace("..", "");
        for field in body.split(',').filter_map(|pair| pair.split_once(':')) {
            let field = field.0.trim();
            assert!(
                ENGINE_LINES.iter().any(|line| line.1 == field)
                    || media::PROFILES.iter().any(|line| line.field == field),
                "{field} is not in the table"
            );
        }
    }

    #[test]
    fn the_page_shows_only_what_the_table_has() {
        let stray = Source {
            families: ENGINE,
            read: Box::new(|| {
                let mut samples = engine_samples(&MetricsSnapshot::default());
                samples.push(Sample {
                    name: "palabre_stray_total",
                    labels: vec![],
                    value: 1.0,
                });
                samples
            }),
        };
        let metrics = Metrics::new(vec![stray]);
        metrics.request("GET", "/api/v1/box", 200, Duration::from_millis(3));
        metrics.connection_refused("all");
        metrics.handshake_failed("slow");
        metrics.certificate_read("taken");
        metrics.signal_refused("expired");
        metrics.signal_closed("client");
        metrics.sign_in("done");
        let page = metrics.page(
            DoorCounts {
                opened: 3,
                ..DoorCounts::default()
            },
            true,
            Some(1_790_000_000),
        );
        let mut shown = HashSet::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                shown.insert(rest.split(' ').next().unwrap().to_owned());
            }
        }
        let wanted: HashSet<String> = table().map(|family| family.name.to_owned()).collect();
        assert_eq!(shown, wanted);
        assert!(
            page.contains(r#"palabre_door_tries_total{outcome="opened"} 3"#),
            "{page}"
        );
        assert!(page.contains("palabre_store_up 1"));
        assert!(page.contains(
            r#"palabre_http_requests_total{method="GET",route="/api/v1/box",status="200"} 1"#
        ));
    }
}
