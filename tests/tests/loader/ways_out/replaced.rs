//! Programs put on ways out, replaced and taken away.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use gre_user::attach::{Egress, Means};

use super::place::{BOTH, FREE, WAYS, by_each};

#[test]
fn programs_come_are_replaced_and_go() -> Result<()> {
    by_each(BOTH, "programs_come_are_replaced_and_go", |place| {
        ensure!(place.limits()? == [FREE; 2], "without a program");
        let first = place.put([Some(1000), None])?;
        ensure!(place.limits()? == [1000, FREE], "{:?}", place.limits()?);
        let before = place.pinned()?;
        let [egress] = before.as_slice() else {
            bail!("{before:?}");
        };
        ensure!(
            egress.means() == place.means && egress.made_for() == WAYS[0].0,
            "{egress:?}"
        );
        ensure!(egress.link_id().is_some() == (place.means == Means::Tcx), "{egress:?}");

        // One stays, and one comes.
        let second = place.put([Some(1100), Some(1200)])?;
        ensure!(place.limits()? == [1100, 1200], "{:?}", place.limits()?);
        let after = place.pinned()?;
        ensure!(
            after.len() == 2 && after[0].link_id() == before[0].link_id(),
            "{after:?}"
        );
        ensure!(after[0].program_id() != before[0].program_id(), "{after:?}");
        ensure!(after[0].program_id() == after[1].program_id(), "{after:?}");

        // One goes, with all that came for it.
        let third = place.put([None, Some(1300)])?;
        ensure!(place.limits()? == [FREE, 1300], "{:?}", place.limits()?);
        ensure!((place.count(0)?, place.standing(0)?) == (0, None));
        place.unload()?;
        drop((first, second, third));
        ensure!(place.limits()? == [FREE; 2], "{:?}", place.limits()?);
        place.check_gone("unloaded")
    })
}

/// Connections made while the program is replaced find the old one or the new one, never none.
#[test]
fn no_connection_meets_no_program_while_one_is_replaced() -> Result<()> {
    const CONNECTIONS: usize = 50;
    by_each(BOTH, "no_connection_meets_no_program_while_one_is_replaced", |place| {
        let mut old = place.put([Some(1000), None])?;
        let mut new = place.load([Some(1100), None])?;
        let [egress] = <[Egress; 1]>::try_from(place.pinned()?).ok().context("one")?;
        let (old, new) = (old.datapath.egress_fd()?, new.datapath.egress_fd()?);
        let (old, new) = (old.context("a program")?, new.context("a program")?);
        let done = AtomicBool::new(false);
        let replacements = std::thread::scope(|scope| {
            let replacing = scope.spawn(|| {
                place.origin.run(|| {
                    let mut replacements = 0;
                    while !done.load(Ordering::Relaxed) {
                        for program in [&new, &old] {
                            egress.replace(program.as_fd())?;
                            replacements += 1;
                        }
                    }
                    Ok(replacements)
                })
            });
            let connected = (0..CONNECTIONS).try_for_each(|connection| {
                let limit = place.limit(0)?;
                ensure!([1000, 1100].contains(&limit), "connection {connection}: {limit}");
                Ok(())
            });
            done.store(true, Ordering::Relaxed);
            let replaced = replacing
                .join()
                .map_err(|_| anyhow::anyhow!("the loader's thread panicked"))?;
            connected.and(replaced)
        })?;
        ensure!(replacements > CONNECTIONS, "only {replacements} replacements");
        Ok(())
    })
}
