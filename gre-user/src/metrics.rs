//! The metrics of `run`, in the text format of OpenMetrics 1.0. Their names and labels are part of the project's contract.
//!
//! Each scrape reads the kernel anew; nothing is kept between scrapes but the count of reloads, which the kernel does not
//! know.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gre_common::Reason;
use gre_common::arrivals::Arrivals;
use gre_common::counters::Counters;
use gre_common::sizes::BOUNDS;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::clock::Offset;
use crate::interfaces::attached;
use crate::snapshot::Snapshot;
use crate::state::Root;

/// What all names begin with.
const PREFIX: &str = "gre_decap";

/// What a running `gre-decap run` can tell.
#[derive(Debug)]
pub(crate) struct Metrics {
    root: Root,
    /// How often the file was read again and is in force, and how often not.
    pub(crate) reloads: Reloads,
}

/// How reloads ended.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    successes: AtomicU64,
    failures: AtomicU64,
}

impl Reloads {
    /// Counts one that succeeded, or failed.
    pub(crate) fn count(&self, succeeded: bool) {
        let counter = if succeeded { &self.successes } else { &self.failures };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn by_result(&self) -> [(&'static str, u64); 2] {
        [("success", &self.successes), ("failure", &self.failures)]
            .map(|(result, counter)| (result, counter.load(Ordering::Relaxed)))
    }
}

impl Metrics {
    /// Of what is loaded in a folder.
    pub(crate) fn of(root: Root) -> Self {
        Self {
            root,
            reloads: Reloads::default(),
        }
    }

    /// All metrics.
    ///
    /// # Errors
    ///
    /// If nothing is loaded, or it cannot be read.
    pub(crate) fn text(&self) -> Result<String> {
        let scrape = Scrape {
            snapshot: Snapshot::take(&self.root)?,
            offset: Offset::now()?,
            reloads: self.reloads.by_result(),
        };
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(scrape));
        let mut text = String::new();
        encode(&mut text, &registry).context("the metrics cannot be written")?;
        Ok(text)
    }

    /// Where the program is attached.
    ///
    /// # Errors
    ///
    /// If it is attached nowhere, or not where it was.
    pub(crate) fn health(&self) -> Result<String> {
        let interfaces = attached(&self.root)?;
        ensure!(!interfaces.is_empty(), "attached to no interface; run `gre-decap load`");
        for interface in &interfaces {
            ensure!(
                interface.here.is_some(),
                "interface {}: has gone; run `gre-decap load` when it is back",
                interface.name
            );
        }
        let names: Vec<_> = interfaces
            .into_iter()
            .map(|interface| format!("{} ({})", interface.name, interface.mode()))
            .collect();
        Ok(format!("attached to {}", names.join(", ")))
    }
}

/// All that one scrape shows.
#[derive(Debug)]
struct Scrape {
    snapshot: Snapshot,
    /// What turns the snapshot's times into the calendar's.
    offset: Offset,
    reloads: [(&'static str, u64); 2],
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        Writer { encoder, scrape: self }.write()
    }
}

/// Writes a scrape family by family.
struct Writer<'a, 's> {
    encoder: DescriptorEncoder<'a>,
    scrape: &'s Scrape,
}

impl Writer<'_, '_> {
    fn write(mut self) -> fmt::Result {
        self.about()?;
        self.tunnel_counters(
            "packets",
            "Inner packets that were decapsulated and delivered",
            |_| true,
            |counters| counters.packets,
        )?;
        self.tunnel_counters(
            "bytes",
            "Bytes of the delivered packets from the inner header on",
            |_| true,
            |counters| counters.bytes,
        )?;
        self.tunnel_counters(
            "outer_bytes",
            "Bytes of the delivered packets from the outer IP header on",
            |_| true,
            |counters| counters.outer_bytes,
        )?;
        self.reasons()?;
        self.sizes()?;
        self.tunnel_counters(
            "fragments",
            "Delivered packets that are fragments",
            |counters| counters.packets != 0,
            |counters| counters.fragments,
        )?;
        self.tunnel_counters(
            "mss_clamped",
            "TCP SYNs that came in a tunnel and whose MSS was lowered",
            |counters| counters.mss_clamped != 0,
            |counters| counters.mss_clamped,
        )?;
        self.egress_mss_clamped()?;
        self.sequence()?;
        self.last_seen()
    }

    /// What there is but one of.
    fn about(&mut self) -> fmt::Result {
        let mut build = self.family("build", "This gre-decap", MetricType::Info, None)?;
        build.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;

        let interfaces = &self.scrape.snapshot.interfaces;
        if !interfaces.is_empty() {
            let mut family = self.family("interface", "Where the program is attached", MetricType::Info, None)?;
            for view in interfaces {
                family.encode_info(&[("interface", view.name.as_str()), ("mode", view.mode().as_str())])?;
            }
        }

        let reloads = self.scrape.reloads;
        let help = "How often this process has read the configuration file again, by how that ended";
        let mut family = self.family("config_reloads", help, MetricType::Counter, None)?;
        for (result, count) in reloads {
            counter(&mut family, &[("result", result)], count)?;
        }
        Ok(())
    }

    /// A value of each tunnel of which this `is_told`.
    fn tunnel_counters(
        &mut self,
        name: &str,
        help: &str,
        is_told: impl Fn(&Counters) -> bool,
        value: impl Fn(&Counters) -> u64,
    ) -> fmt::Result {
        let tunnels = those(&self.scrape.snapshot, is_told);
        if tunnels.is_empty() {
            return Ok(());
        }
        let mut family = self.family(name, help, MetricType::Counter, None)?;
        for (tunnel, counters) in tunnels {
            counter(&mut family, &[("tunnel", tunnel)], value(counters))?;
        }
        Ok(())
    }

    /// Every reason where no tunnel matched, so that there is a zero to rise from; for tunnels, of which there may be many,
    /// only those that have counted.
    fn reasons(&mut self) -> fmt::Result {
        let snapshot = &self.scrape.snapshot;
        let help =
            "Packets that had another outcome than plain decapsulation; `gre-decap explain` tells about each reason";
        let mut family = self.family("reasons", help, MetricType::Counter, None)?;
        let no_tunnel = ("", &snapshot.reading.no_tunnel);
        for (tunnel, counters) in [no_tunnel].into_iter().chain(snapshot.tunnels()) {
            for (reason, &packets) in Reason::ALL.iter().zip(&counters.reasons) {
                if packets == 0 && !tunnel.is_empty() {
                    continue;
                }
                let labels = [
                    ("tunnel", tunnel),
                    ("reason", reason.name()),
                    ("action", reason.action().as_str()),
                ];
                counter(&mut family, &labels, packets)?;
            }
        }
        Ok(())
    }

    /// For tunnels with traffic only.
    fn sizes(&mut self) -> fmt::Result {
        let snapshot = &self.scrape.snapshot;
        let help = "Bytes of the delivered packets from the inner header on";
        let busy = those(snapshot, |counters| counters.packets != 0);
        if busy.is_empty() {
            return Ok(());
        }
        let mut family = self.family("packet_size_bytes", help, MetricType::Histogram, None)?;
        for (tunnel, counters) in busy {
            let bounds = BOUNDS.into_iter().map(f64::from).chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(counters.sizes).collect();
            family
                .encode_family(&[("tunnel", tunnel)])?
                .encode_histogram::<NoLabelSet>(counters.bytes as f64, counters.packets, &buckets, None)?;
        }
        Ok(())
    }

    /// For interfaces with a program on the way out only.
    fn egress_mss_clamped(&mut self) -> fmt::Result {
        let snapshot = &self.scrape.snapshot;
        let help = "TCP SYNs whose MSS was lowered on the way out of an interface";
        let clamping: Vec<_> = snapshot
            .interfaces
            .iter()
            .filter(|view| view.egress.is_some())
            .collect();
        if clamping.is_empty() {
            return Ok(());
        }
        let mut family = self.family("egress_mss_clamped", help, MetricType::Counter, None)?;
        for view in clamping {
            let labels = [("interface", view.name.as_str())];
            counter(&mut family, &labels, snapshot.egress_clamped(view))?;
        }
        Ok(())
    }

    /// For tunnels whose sender sets numbers only.
    fn sequence(&mut self) -> fmt::Result {
        let snapshot = &self.scrape.snapshot;
        let help = "What sequence numbers tell of the way from the sender: packets numbered, numbers missing when a newer one \
                    came, of these reordered (came later), duplicate, too old to tell, and restarts of the sender";
        let numbered = those(snapshot, |counters| counters.arrivals.numbered != 0);
        if numbered.is_empty() {
            return Ok(());
        }
        let mut family = self.family("sequence", help, MetricType::Counter, None)?;
        for (tunnel, counters) in numbered {
            let Arrivals {
                numbered,
                missing,
                reordered,
                duplicates,
                old,
                restarts,
            } = counters.arrivals;
            for (event, count) in [
                ("numbered", numbered),
                ("missing", missing),
                ("reordered", reordered),
                ("duplicate", duplicates),
                ("old", old),
                ("restart", restarts),
            ] {
                counter(&mut family, &[("tunnel", tunnel), ("event", event)], count)?;
            }
        }
        Ok(())
    }

    fn last_seen(&mut self) -> fmt::Result {
        let (snapshot, offset) = (&self.scrape.snapshot, self.scrape.offset);
        let help = "When a tunnel last delivered a packet, in seconds since 1970";
        let name = "last_seen_timestamp";
        let seen = those(snapshot, |counters| counters.last_seen != 0);
        if seen.is_empty() {
            return Ok(());
        }
        let mut family = self.family(name, help, MetricType::Gauge, Some(&Unit::Seconds))?;
        for (tunnel, counters) in seen {
            let seen = offset.unix(Duration::from_nanos(counters.last_seen)).as_millis() as f64 / 1000.0;
            family.encode_family(&[("tunnel", tunnel)])?.encode_gauge(&seen)?;
        }
        Ok(())
    }

    fn family<'f>(
        &'f mut self,
        name: &'f str,
        help: &str,
        kind: MetricType,
        unit: Option<&'f Unit>,
    ) -> Result<MetricEncoder<'f>, fmt::Error> {
        self.encoder.encode_descriptor(name, help, unit, kind)
    }
}

/// The tunnels of this kind. A family without metrics is better not begun: some parsers stumble over it.
fn those(snapshot: &Snapshot, is_one: impl Fn(&Counters) -> bool) -> Vec<(&str, &Counters)> {
    snapshot.tunnels().filter(|(_, counters)| is_one(counters)).collect()
}

fn counter(family: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
    family
        .encode_family(labels)?
        .encode_counter::<NoLabelSet, u64, u64>(&value, None)
}
