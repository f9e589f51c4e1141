//! Word of what changes on a host.

use std::future::Future;
use std::pin::pin;
use std::task::{Context as Poller, Poll, Waker};

use anyhow::{Context, Result};
use gre_tests::lab::PATIENCE;
use gre_tests::lab_or_skip;
use gre_user::host::monitor::Monitor;
use tokio::runtime;
use tokio::time::timeout;

/// Waits for word of a change.
async fn told(monitor: &mut Monitor, what: &str) -> Result<()> {
    let changed = timeout(PATIENCE, monitor.changed()).await;
    Ok(changed.with_context(|| format!("nothing was told of {what}"))??)
}

#[test]
fn what_changes_is_told() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let host = lab.namespace("host")?;
    host.ip("tuntap add dev tap0 mode tap")?;
    host.run(|| {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut monitor = Monitor::open()?;
            for change in [
                "link set tap0 up",
                "link set tap0 mtu 1400",
                "address add 10.0.0.1/24 dev tap0",
                "neighbour add 10.0.0.2 dev tap0 lladdr 02:00:00:00:00:02 nud permanent",
                "neighbour change 10.0.0.2 dev tap0 lladdr 02:00:00:00:00:03 nud permanent",
                "neighbour delete 10.0.0.2 dev tap0",
                "route add default via 10.0.0.2",
                "route delete default",
                "-6 route add default dev tap0",
                "link delete tap0",
            ] {
                host.ip(change)?;
                // An address alone changes nothing.
                if !change.starts_with("address") {
                    told(&mut monitor, change).await?;
                }
            }
            Ok(())
        })
    })
}

#[test]
fn a_burst_is_told_once_and_a_flood_is_told_at_all() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let host = lab.namespace("host")?;
    // More than a socket has room for.
    let flood = (0..4000).map(|number| format!("link set lo mtu {}\n", 2000 + number % 2));
    let file = lab.write_file("flood", &flood.collect::<String>())?;
    host.run(|| {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut monitor = Monitor::open()?;
            for mtu in [1400, 1500, 1600] {
                host.ip(&format!("link set lo mtu {mtu}"))?;
            }
            told(&mut monitor, "a burst").await?;
            {
                let more = pin!(monitor.changed());
                assert!(matches!(
                    more.poll(&mut Poller::from_waker(Waker::noop())),
                    Poll::Pending
                ));
            }
            host.ip(&format!("-batch {}", file.display()))?;
            told(&mut monitor, "a flood").await?;
            host.ip("link set lo mtu 1500")?;
            told(&mut monitor, "what came after the flood").await
        })
    })
}
