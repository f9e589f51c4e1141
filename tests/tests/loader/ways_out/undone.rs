//! What a load that fails or is killed has put on ways out: given back, and taken away by the next.

use anyhow::{Result, ensure};
use gre_user::host::clsact;

use super::place::{BOTH, FILTERS, FREE, Place, WAYS, by_each, index};

/// What fails late is undone, over nothing and over what runs.
#[test]
fn what_fails_leaves_all_as_it_was() -> Result<()> {
    by_each(BOTH, "what_fails_leaves_all_as_it_was", |place| {
        let fail = |place: &Place, limits| -> Result<()> {
            let mut loaded = place.load(limits)?;
            let applied = place.apply(&mut loaded)?;
            place.origin.run(|| {
                let undone = applied.undo(anyhow::anyhow!("something else failed"));
                ensure!(undone.complete, "{:#}", undone.error);
                loaded.generation.remove()
            })
        };
        let in_place =
            |place: &Place| Ok::<_, anyhow::Error>((place.pinned()?, place.standing(0)?, place.standing(1)?));
        fail(&place, [Some(1000), Some(1000)])?;
        ensure!(in_place(&place)? == (Vec::new(), None, None), "{:?}", in_place(&place)?);
        ensure!(place.limits()? == [FREE; 2]);

        let runs = place.put([Some(1000), None])?;
        let before = in_place(&place)?;
        fail(&place, [Some(1200), Some(1200)])?;
        ensure!(in_place(&place)? == before, "{:?}, not {before:?}", in_place(&place)?);
        ensure!(place.limits()? == [1000, FREE]);

        // An interface that has just gone refuses, after another has got its program.
        let mut loaded = place.load([Some(1300), Some(1300)])?;
        place.origin.ip("link delete wan1")?;
        ensure!(place.apply(&mut loaded).is_err(), "it has gone");
        ensure!(place.pinned()? == before.0, "{:?}", place.pinned()?);
        ensure!(place.limit(0)? == 1000);
        drop((runs, loaded));
        Ok(())
    })
}

/// Whatever a load that was killed has left can be found, and taken away or gone on with.
#[test]
fn what_a_killed_load_leaves_is_taken_away() -> Result<()> {
    by_each(BOTH, "what_a_killed_load_leaves_is_taken_away", |place| {
        // Killed after one interface, with another's program already replaced: nothing says that it is in force.
        let runs = place.put([Some(1000), None])?;
        let mut killed = place.load([Some(1100), Some(1100)])?;
        drop(place.apply(&mut killed)?);
        drop(killed);
        ensure!(place.limits()? == [1100, 1100]);
        let next = place.put([Some(1200), None])?;
        ensure!(place.limits()? == [1200, FREE]);
        ensure!((place.count(1)?, place.standing(1)?) == (0, None));
        place.unload()?;
        drop((runs, next));
        place.check_gone("over a killed load")
    })
}

/// At each step of a filter's making: noted; its clsact there; and itself there, as of which all others tell.
#[test]
fn a_filter_that_was_never_finished_is_taken_away() -> Result<()> {
    for has_clsact in [false, true] {
        for load_follows in [false, true] {
            by_each(FILTERS, "a_filter_that_was_never_finished_is_taken_away", |place| {
                unfinished(&place, has_clsact, load_follows)
            })?;
        }
    }
    Ok(())
}

fn unfinished(place: &Place, has_clsact: bool, load_follows: bool) -> Result<()> {
    place.put([Some(1000), None])?;
    place.origin.run(|| {
        // Of all that was done, what was done first is left.
        let index = index(WAYS[0].0)?;
        clsact::remove(index)?;
        if has_clsact {
            clsact::add(index)?;
        }
        Ok(())
    })?;
    ensure!(place.pinned()?[0].interface_index().is_none(), "there is no filter");
    ensure!(place.limit(0)? == FREE);
    if load_follows {
        place.put([Some(1200), None])?;
        ensure!(place.limits()? == [1200, FREE]);
    }
    place.unload()?;
    place.check_gone(&format!("clsact {has_clsact}, load {load_follows}"))
}
