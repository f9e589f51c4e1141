//! What is on ways out is found again: on interfaces that go, come and are renamed, and by nobody whose it is not.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Result, bail, ensure};
use gre_user::attach::{Means, pinned_egress};

use super::place::{BOTH, FILTERS, FOLDER, by_each};

/// An interface that has gone, one that is back, and one whose name another has now.
#[test]
fn interfaces_go_come_and_are_renamed() -> Result<()> {
    by_each(BOTH, "interfaces_go_come_and_are_renamed", |place| {
        place.put([Some(1000), Some(1000)])?;
        place.origin.ip("link delete wan1")?;
        let pinned = place.pinned()?;
        ensure!(
            pinned[0].interface_index().is_some() && pinned[1].interface_index().is_none(),
            "{pinned:?}"
        );
        // Whoever changes something else meanwhile does not forget it.
        let loaded = place.put([Some(1100), Some(1100)])?;
        ensure!(place.pinned()?.len() == 2, "{:?}", place.pinned()?);
        ensure!(place.origin.run(|| Ok(place.plan(&loaded)?.needs_program()))?);
        place.join("wan1", "far-wan1")?;
        place.put([Some(1200), Some(1200)])?;
        ensure!(place.limits()? == [1200; 2]);

        // One that is waited for no longer leaves nothing.
        place.origin.ip("link delete wan1")?;
        place.put([Some(1000), None])?;
        ensure!(place.pinned()?.len() == 1, "{:?}", place.pinned()?);

        // Its pin has the name that the interface has, so that another can have the old one.
        place.origin.ip("link set wan0 down")?;
        place.origin.ip("link set wan0 name wan1")?;
        place.origin.ip("link set wan1 up")?;
        place.put([None, Some(1000)])?;
        let pinned = place.pinned()?;
        ensure!(pinned.len() == 1 && pinned[0].made_for() == "wan1", "{pinned:?}");
        place.join("wan0", "further-wan0")?;
        place.put([Some(1000), Some(1000)])?;
        ensure!(place.pinned()?.len() == 2, "{:?}", place.pinned()?);
        place.unload()?;
        place.check_gone("renamed")
    })
}

/// A folder whose interfaces are in another network namespace.
#[test]
fn in_another_namespace_nothing_is_taken_for_ours() -> Result<()> {
    by_each(BOTH, "in_another_namespace_nothing_is_taken_for_ours", |place| {
        place.put([Some(1000), None])?;
        // An interface of the same index, with a program that is another's.
        let found = place.neighbour.run(|| pinned_egress(&place.root))?;
        let [egress] = found.as_slice() else { bail!("{found:?}") };
        match place.means {
            // The link tells the index that it has there.
            Means::Tcx => ensure!(egress.interface_index().is_some(), "{egress:?}"),
            Means::Clsact => ensure!(egress.interface_index().is_none(), "{egress:?}"),
        }
        ensure!(place.limit(0)? == 1000);
        Ok(())
    })
}

/// A record that nobody of ours has written is an error that names it.
#[test]
fn what_is_no_record_is_named() -> Result<()> {
    by_each(FILTERS, "what_is_no_record_is_named", |place| {
        let loaded = place.load([None, None])?;
        place.origin.run(|| {
            let path = place.root.egress_link_path("wan0");
            place.root.put_symlink("elsewhere".as_ref(), &path)?;
            let Err(error) = pinned_egress(&place.root) else {
                bail!("it is none");
            };
            let line = error.to_string();
            ensure!(
                line == format!("{FOLDER}/egress/wan0: points to elsewhere, which gre-decap never makes; remove it"),
                "{line}"
            );
            match fs::read_link(FOLDER.to_owned() + "/next") {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                other => bail!("{other:?}"),
            }
        })?;
        drop(loaded);
        Ok(())
    })
}
