//! Filters beside the filters and queueing disciplines that others have there.

use std::fs;

use anyhow::{Result, bail, ensure};
use gre_user::host::clsact::CLSACT;

use super::place::{FILTERS, FREE, by_each};

/// Filters and queueing disciplines of others stay as they are, whatever comes and goes beside them.
#[test]
fn others_stay() -> Result<()> {
    by_each(FILTERS, "others_stay", |place| {
        // A program like ours, pinned by somebody else, who lowers nothing: its map knows no interface of these.
        let other = place.load([None, None])?;
        let pinned = "/sys/fs/bpf/others";
        place
            .origin
            .run(|| Ok(fs::rename(other.generation.egress(), pinned)?))?;
        place.origin.run(|| other.generation.remove())?;
        drop(other);

        // Somebody's clsact, with filters of the first priority, on both ways.
        place.tc("qdisc add dev wan0 clsact")?;
        let filter = |hook: &str, options: &str| {
            place.tc(&format!(
                "filter add dev wan0 {hook} {options} bpf direct-action object-pinned {pinned}"
            ))
        };
        filter("egress", "prio 1 handle 1")?;
        filter("egress", "prio 7")?;
        filter("ingress", "prio 1")?;
        let shown = || {
            Ok::<_, anyhow::Error>((
                place.tc("filter show dev wan0 egress")?,
                place.tc("filter show dev wan0 ingress")?,
            ))
        };
        let before = shown()?;
        place.put([Some(1000), Some(1000)])?;
        ensure!(place.limits()? == [1000; 2]);
        ensure!(place.count(0)? == 3, "{}", shown()?.0);
        place.put([Some(1100), None])?;
        ensure!(place.limits()? == [1100, FREE]);
        ensure!(place.count(0)? == 3, "{}", shown()?.0);
        place.put([None, Some(1000)])?;
        ensure!(shown()? == before, "{:?}, not {before:?}", shown()?);
        ensure!(place.limits()? == [FREE, 1000]);

        // On the other interface it was made for ours; but somebody has come to use it since.
        place.tc(&format!(
            "filter add dev wan1 ingress bpf direct-action object-pinned {pinned}"
        ))?;
        place.unload()?;
        ensure!(shown()? == before, "{:?}, not {before:?}", shown()?);
        ensure!(place.count(1)? == 0);
        ensure!(
            place.standing(1)?.as_deref() == Some(CLSACT),
            "somebody has a filter in it"
        );

        // Who comes first and is of another kind has a priority of its own, of which is told.
        place.tc("filter add dev wan0 egress prio 3 protocol ip bpf direct-action object-pinned /sys/fs/bpf/others")?;
        place.tc("filter delete dev wan0 egress prio 1")?;
        place.tc("filter add dev wan0 egress prio 1 protocol ip bpf direct-action object-pinned /sys/fs/bpf/others")?;
        let mut loaded = place.load([Some(1000), None])?;
        let applied = place.apply(&mut loaded)?;
        let [warning] = applied.warnings.as_slice() else {
            bail!("{:?}", applied.warnings);
        };
        ensure!(warning.contains("wan0: other filters come first"), "{warning}");
        ensure!(place.limit(0)? == 1000);
        Ok(())
    })
}

/// What stands in the place of clsact is named, and stays.
#[test]
fn an_ingress_qdisc_leaves_no_room() -> Result<()> {
    by_each(FILTERS, "an_ingress_qdisc_leaves_no_room", |place| {
        place.tc("qdisc add dev wan0 ingress")?;
        let mut loaded = place.load([Some(1000), None])?;
        let Err(error) = place.apply(&mut loaded) else {
            bail!("there is no room");
        };
        let line = format!("{error:#}");
        ensure!(
            line.starts_with(
                "interface wan0: has the queueing discipline ingress, beside which there is no room for clsact"
            ) && line.contains("`tc qdisc delete dev wan0 ingress`"),
            "{line}"
        );
        ensure!(place.standing(0)?.as_deref() == Some("ingress"));
        ensure!(place.pinned()?.is_empty());
        Ok(())
    })
}
