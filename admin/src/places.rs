//! How many connections are open, in all and from one source, and the limits on both. A source is what the door calls one: an
//! IPv4 address, or the /64 that an IPv6 subscriber holds whole.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use palabre_engine::door::network;
use prometheus::IntGauge;
use tokio::sync::Notify;

/// The places of all connections.
pub(crate) struct Places {
    most: usize,
    gauge: IntGauge,
    open: Mutex<Open>,
    left: Notify,
}

#[derive(Default)]
struct Open {
    all: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One connection's place; dropping it frees it.
pub(crate) struct Place {
    places: Arc<Places>,
    source: IpAddr,
}

/// No place is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// For anybody.
    All,
    /// For this source.
    Source,
}

impl Full {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Source => "source",
        }
    }
}

impl Places {
    /// `most` places in all; `gauge` follows how many are taken.
    pub(crate) fn new(most: usize, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self {
            most,
            gauge,
            open: Mutex::default(),
            left: Notify::new(),
        })
    }

    /// Takes a place, of which one source may have `most_of_source`.
    pub(crate) fn enter(
        places: &Arc<Self>,
        source: IpAddr,
        most_of_source: usize,
    ) -> Result<Arc<Place>, Full> {
        let source = network(source);
        let mut open = places.lock();
        if open.all >= places.most {
            return Err(Full::All);
        }
        if open
            .by_source
            .get(&source)
            .is_some_and(|count| *count >= most_of_source)
        {
            return Err(Full::Source);
        }
        *open.by_source.entry(source).or_insert(0) += 1;
        open.all += 1;
        places.gauge.inc();
        Ok(Arc::new(Place {
            places: Arc::clone(places),
            source,
        }))
    }

    /// Waits until every place is free.
    pub(crate) async fn empty(&self) {
        loop {
            let left = self.left.notified();
            if self.lock().all == 0 {
                return;
            }
            left.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.lock();
        open.all -= 1;
        self.places.gauge.dec();
        if let Some(count) = open.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                open.by_source.remove(&self.source);
            }
        }
        self.places.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_are_limited_in_all_and_by_source_and_come_back() {
        let gauge = IntGauge::new("g", "g").unwrap();
        let places = Places::new(3, gauge.clone());
        let source = |last: u8| IpAddr::from([192, 0, 2, last]);
        let first = Places::enter(&places, source(1), 2).ok().unwrap();
        let second = Places::enter(&places, source(1), 2).ok().unwrap();
        assert_eq!(
            Places::enter(&places, source(1), 2).err(),
            Some(Full::Source)
        );
        let third = Places::enter(&places, source(2), 2).ok().unwrap();
        assert_eq!(Places::enter(&places, source(3), 2).err(), Some(Full::All));
        assert_eq!(gauge.get(), 3);
        drop(first);
        let fourth = Places::enter(&places, source(1), 2).ok().unwrap();
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.empty().await }
        });
        drop((second, third, fourth));
        waiting.await.unwrap();
        assert_eq!(gauge.get(), 0);
        assert!(places.lock().by_source.is_empty());
    }

    #[test]
    fn an_ipv6_subscriber_is_one_source_whatever_the_address() {
        let places = Places::new(9, IntGauge::new("g", "g").unwrap());
        let source = |net: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, net, host, 0, 0, host]);
        let first = Places::enter(&places, source(1, 1), 2).ok().unwrap();
        let second = Places::enter(&places, source(1, 2), 2).ok().unwrap();
        assert_eq!(
            Places::enter(&places, source(1, 3), 2).err(),
            Some(Full::Source)
        );
        let neighbour = Places::enter(&places, source(2, 1), 2).ok().unwrap();
        // An IPv4 address is the same source in either dress.
        let dressed = IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201]);
        let plain = Places::enter(&places, IpAddr::from([192, 0, 2, 1]), 1);
        let plain = plain.ok().unwrap();
        assert_eq!(Places::enter(&places, dressed, 1).err(), Some(Full::Source));
        drop((first, second, neighbour, plain));
        assert!(places.lock().by_source.is_empty());
    }
}
