//! The media workers' and the mixer's part of the table: one line for each thing they count.
//!
//! What both threads' panics cost is the engine's `mixer_panics_total` and this table's
//! `media_panics_total`; nothing is counted twice.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use palabre_engine::legs::MixerStats;
use palabre_engine::net::WorkerStats;
use palabre_engine::{Engine, MetricsSnapshot};

use super::{Family, Sample, Source, counter, gauge};

/// One line of a table: the metric, its label's value if it has one, the field, how to read it.
pub(super) struct Line<T> {
    pub(super) family: Family,
    label: Option<&'static str>,
    /// Name of the field, for the test that none is forgotten.
    #[cfg(test)]
    pub(super) field: &'static str,
    read: fn(&T) -> f64,
}

impl<T> Line<T> {
    fn sample(&self, values: &[T]) -> Sample {
        Sample {
            name: self.family.name,
            labels: self.label.iter().map(|label| (*label).to_owned()).collect(),
            value: values.iter().map(self.read).sum(),
        }
    }
}

macro_rules! lines {
    ($ty:ty, $prefix:literal; $($kind:ident $($field:ident).+ $(/ $scale:literal)? => $name:literal $({$key:literal = $value:literal})?, $help:literal;)*) => {
        &[$(Line {
            family: $kind(concat!($prefix, $name), &[$($key)?], $help),
            label: label!($($value)?),
            #[cfg(test)]
            field: stringify!($($field).+),
            #[allow(clippy::cast_precision_loss)] // counters stay far below 2^53
            read: |s: &$ty| s.$($field).+ as f64 $(/ $scale)?,
        }),*]
    };
}

macro_rules! label {
    () => {
        None
    };
    ($value:literal) => {
        Some($value)
    };
}

/// The media workers, all together.
pub(super) const WORKERS: &[Line<WorkerStats>] = lines! { WorkerStats, "palabre_media_";
    gauge sessions => "sessions", "Peer connections that the media workers hold now.";
    counter packets_in => "datagrams_received_total", "Datagrams received on the media port.";
    counter bytes_in => "received_bytes_total", "Bytes received on the media port.";
    counter receive_errors => "receive_errors_total", "Receive calls that failed.";
    counter packets_out => "datagrams_sent_total", "Datagrams sent from the media port.";
    counter bytes_out => "sent_bytes_total", "Bytes sent from the media port.";
    counter trains => "trains_sent_total", "Trains of datagrams handed to the kernel; datagrams by trains is their mean length.";
    counter send_calls => "send_calls_total", "System calls that sent datagrams.";
    counter fallbacks => "offload_fallbacks_total", "Trains sent datagram by datagram because the kernel refused to cut them.";
    counter send_drops => "send_dropped_total", "Datagrams that the kernel did not take.";
    counter ring_drops => "ring_dropped_total", "Media packets dropped between two threads because the ring was full.";
    counter passed_on => "passed_on_total", "Datagrams of peers on a new path, passed to the worker that owns their session.";
    counter strangers => "strangers_total", "Datagrams from addresses of no session.";
    counter commands_refused => "commands_refused_total", "Commands that a session refused.";
    counter wake_ups => "wake_ups_total", "Times a media worker woke from sleep.";
    counter panics => "panics_total", "Bugs contained; each cost a session or all sessions of a worker.";
    counter router.received => "packets_received_total", "Media packets taken in.";
    counter router.received_bytes => "payload_received_bytes_total", "Payload bytes of media taken in.";
    counter router.forwarded => "packets_forwarded_total", "Media packets sent to receivers, once for each.";
    counter router.forwarded_bytes => "payload_forwarded_bytes_total", "Payload bytes of media sent to receivers.";
    counter router.nacked => "nacks_sent_total", "Packets asked for again of a sender.";
    counter router.recovered => "packets_recovered_total", "Missing packets that were repaired or came late.";
    counter router.given_up => "packets_given_up_total", "Missing packets that never came.";
    counter router.resent => "retransmissions_total", "Packets sent again to a receiver.";
    counter router.not_resent => "retransmissions_refused_total", "Packets asked for again that were gone, or had just been sent again.";
    counter router.key_frames_requested => "key_frames_requested_total", "Key frames asked of senders.";
};

const DROPPED: Family = counter(
    "palabre_media_dropped_total",
    &["reason"],
    "Datagrams and media packets dropped by the media workers, by reason.",
);

/// Peer connections by how their media is encrypted.
pub(super) const PROFILES: &[Line<MetricsSnapshot>] = lines! { MetricsSnapshot, "palabre_media_";
    counter connected_gcm_256_total => "sessions_connected_total" {"profile" = "AEAD_AES_256_GCM"}, "Peer connections that came to stand, by SRTP profile.";
    counter connected_gcm_128_total => "sessions_connected_total" {"profile" = "AEAD_AES_128_GCM"}, "Peer connections that came to stand, by SRTP profile.";
    counter connected_cm_128_total => "sessions_connected_total" {"profile" = "AES_CM_128_HMAC_SHA1_80"}, "Peer connections that came to stand, by SRTP profile.";
};

/// The mixer's thread.
pub(super) const MIXER: &[Line<MixerStats>] = lines! { MixerStats, "palabre_mixer_";
    gauge rooms => "rooms", "Rooms that are mixed now.";
    gauge legs => "legs", "Telephone legs of the mixer now.";
    counter ticks => "ticks_total", "Ticks of the mixer, one each 20 ms.";
    counter overruns => "late_ticks_total", "Ticks that began more than 20 ms late.";
    counter busy_micros / 1e6 => "busy_seconds_total", "Time spent mixing.";
    counter rtp_received => "rtp_packets_received_total", "RTP packets of telephones used.";
    counter rtp_sent => "rtp_packets_sent_total", "RTP packets sent to telephones.";
    counter rtcp_received => "rtcp_packets_received_total", "RTCP packets of telephones read.";
    counter send_errors => "send_errors_total", "RTP packets that the kernel refused to send.";
    counter drop_malformed => "dropped_total" {"reason" = "malformed"}, "Datagrams of telephones dropped, by reason.";
    counter drop_stranger => "dropped_total" {"reason" = "stranger"}, "Datagrams of telephones dropped, by reason.";
    counter track_packets => "track_packets_total", "Packets of participants' voices that reached the mixer.";
    counter decoded_frames => "decoded_frames_total", "Frames of participants' voices decoded.";
    counter own_mixes => "own_mixes_total", "Ticks in which a telephone was given a mix of its own.";
    counter voice_packets => "voice_packets_total", "Packets of telephones' voices given to the media workers.";
    counter events_lost => "leg_events_lost_total", "Events of telephone legs lost because nobody took them.";
    counter commands_lost => "commands_lost_total", "Commands that named no leg, room or track of the mixer.";
};

/// The metrics of [`Source::media`].
#[must_use]
pub fn families() -> &'static [Family] {
    &FAMILIES
}

static FAMILIES: LazyLock<Vec<Family>> = LazyLock::new(|| {
    let mut all: Vec<Family> = Vec::new();
    let lines = WORKERS.iter().map(|line| line.family);
    let lines = lines.chain(PROFILES.iter().map(|line| line.family));
    let lines = lines.chain(MIXER.iter().map(|line| line.family));
    for family in lines.chain([DROPPED]) {
        // The lines of one labelled family stand next to each other.
        if all.last() != Some(&family) {
            all.push(family);
        }
    }
    all
});

fn samples(workers: &[WorkerStats], mixer: MixerStats, engine: MetricsSnapshot) -> Vec<Sample> {
    let mut dropped: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (reason, count) in workers.iter().flat_map(|worker| worker.router.dropped()) {
        *dropped.entry(reason.as_str()).or_default() += count;
    }
    let mut samples: Vec<Sample> = Vec::new();
    samples.extend(WORKERS.iter().map(|line| line.sample(workers)));
    samples.extend(
        PROFILES
            .iter()
            .map(|line| line.sample(std::slice::from_ref(&engine))),
    );
    samples.extend(MIXER.iter().map(|line| line.sample(&[mixer])));
    #[allow(clippy::cast_precision_loss)] // counters stay far below 2^53
    samples.extend(dropped.into_iter().map(|(reason, count)| Sample {
        name: DROPPED.name,
        labels: vec![reason.to_owned()],
        value: count as f64,
    }));
    samples
}

impl Source {
    /// What the media workers and the mixer of an engine count.
    #[must_use]
    pub fn media(engine: Engine) -> Self {
        Self {
            families: families(),
            read: Box::new(move || {
                samples(
                    &engine.worker_stats(),
                    engine.mixer_stats(),
                    engine.metrics(),
                )
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::time::{Duration, Instant};

    use palabre_engine::EngineConfig;
    use palabre_engine::door::DoorCounts;

    use super::super::Metrics;
    use super::*;
    use crate::store::Store;

    /// Names of the fields of a value's `Debug` form, down to those of `router`.
    fn fields(shown: &str) -> Vec<String> {
        let names = shown
            .split([',', '{'])
            .filter_map(|pair| pair.split_once(':'));
        let names = names.map(|(name, _)| name.trim().to_owned());
        names.take_while(|name| name != "dropped").collect()
    }

    #[test]
    fn everything_the_workers_and_the_mixer_count_is_in_the_table() {
        let workers = fields(&format!("{:?}", WorkerStats::default()));
        assert!(workers.contains(&"given_up".to_owned()), "{workers:?}");
        // The index is no count; refused reliable packets are the engine's `data_reliable_refused_total`.
        for field in workers {
            let nested = format!("router.{field}");
            assert!(
                ["worker", "router", "reliable_refused"].contains(&field.as_str())
                    || WORKERS
                        .iter()
                        .any(|line| line.field.replace(' ', "") == field
                            || line.field.replace(' ', "") == nested),
                "{field} is not in the table"
            );
        }
        // The three are the engine's `mixer_panics_total`.
        for field in fields(&format!("{:?}", MixerStats::default())) {
            assert!(
                ["failed_rooms", "failed_legs", "panics"].contains(&field.as_str())
                    || MIXER.iter().any(|line| line.field == field),
                "{field} is not in the table"
            );
        }
    }

    #[tokio::test]
    async fn a_malformed_datagram_on_the_media_port_is_seen_in_metrics() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("palabre.db"))
            .await
            .unwrap();
        let mut config = EngineConfig::default();
        config.media.bind = (Ipv4Addr::LOCALHOST, 0).into();
        config.media.workers = Some(1);
        let engine = Engine::start(config, store.rooms.directory()).unwrap();
        let metrics = Metrics::new(vec![Source::media(engine.clone())]);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.send_to(&[0xff; 40], engine.media_address()).unwrap();
        let wanted = [
            r#"palabre_media_dropped_total{reason="unclassified"} 1"#,
            "palabre_media_datagrams_received_total 1",
            "palabre_media_received_bytes_total 40",
        ];
        let patience = Instant::now() + Duration::from_secs(10);
        // Workers publish their counters each half second.
        let page = loop {
            let page = metrics.page(DoorCounts::default(), true, None);
            if wanted.iter().all(|line| page.contains(line)) || Instant::now() > patience {
                break page;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        for line in wanted {
            assert!(page.contains(line), "no {line} in\n{page}");
        }
        assert!(
            page.contains(
                r#"palabre_media_sessions_connected_total{profile="AEAD_AES_256_GCM"} 0"#
            )
        );
        assert!(page.contains("# TYPE palabre_mixer_ticks_total counter"));
        engine.shutdown().await;
    }
}
