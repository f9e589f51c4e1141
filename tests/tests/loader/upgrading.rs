//! State that another version has pinned, and pins that are not what their names say.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::{Array, HashMap, MapData, MapInfo, PerCpuArray};
use gre_common::maps::{ARRIVALS, BUCKETS, CARRIED, COUNTERS, READER, SEQUENCES, TUNNELS4};

use crate::site::{CONFIG, REMOTE, ROOT, Site, site_or_return};

const RESTART: &str = "warning: what runs was loaded by a version that counts, or keeps its counters, in another way: all counters start at zero\n";

/// A map of another layout, pinned by its path.
type Foreign = fn(&Path) -> Result<()>;

/// An array of values of this size.
fn array<const SIZE: usize>(entries: u32, path: &Path) -> Result<()>
where
    [u8; SIZE]: aya::Pod,
{
    let mut map: Array<MapData, [u8; SIZE]> = Array::create(entries, 0)?;
    map.set(0, [0xaa; SIZE], 0)?;
    Ok(map.pin(path)?)
}

/// Puts another map in the place of a pinned one. Returns its path below the folder that stays when another generation is in
/// force.
fn put(site: &Site, name: &str, foreign: Foreign) -> Result<()> {
    let path = format!("{ROOT}/current/{name}");
    site.origin.run(|| {
        fs::remove_file(&path).context("a pin to replace")?;
        foreign(Path::new(&path))
    })
}

/// A change that needs another generation.
fn changed(round: usize) -> String {
    CONFIG.replace(
        "4200",
        &format!("4200\nchecksum = \"{}\"", ["ignore", "required"][round % 2]),
    )
}

#[test]
fn counters_of_another_layout_are_not_touched_and_start_anew() -> Result<()> {
    let site = site_or_return!();
    let foreign: [(&str, &str, Foreign); 7] = [
        (COUNTERS, "value", |path| array::<8>(1025, path)),
        (COUNTERS, "type", |path| {
            Ok(HashMap::<MapData, u32, [u64; 47]>::create(1025, 0)?.pin(path)?)
        }),
        (SEQUENCES, "value", |path| array::<64>(1025, path)),
        (CARRIED, "flags", |path| {
            Ok(HashMap::<MapData, u32, [u64; 47]>::create(1025, 0)?.pin(path)?)
        }),
        (ARRIVALS, "key", |path| {
            Ok(HashMap::<MapData, [u8; 16], u64>::create(1025, 0)?.pin(path)?)
        }),
        (READER, "entries", |path| array::<8>(2, path)),
        (BUCKETS, "type", |path| array::<32>(28, path)),
    ];
    for (round, (name, what, foreign)) in foreign.into_iter().enumerate() {
        site.ok(CONFIG, "load")?;
        site.send(REMOTE, Some(4200))?;
        site.stats_with("scrub-fra", 1)?;
        let link = site.json("status")?["interfaces"][0]["link_id"].clone();
        put(&site, name, foreign)?;
        let theirs = site
            .origin
            .run(|| Ok(MapInfo::from_pin(format!("{ROOT}/current/{name}"))?.id()))?;

        let done = site.run(&changed(1), "load")?;
        let loaded = "loaded 1 tunnel on wan0 (native)\n";
        assert_eq!(
            (done.status, done.stdout.as_str(), done.stderr.as_str()),
            (Some(0), loaded, RESTART),
            "{name}: {what} ({round})"
        );
        assert_eq!(site.json("status")?["interfaces"][0]["link_id"], link, "{name}");
        let ours = site
            .origin
            .run(|| Ok(MapInfo::from_pin(format!("{ROOT}/current/{name}"))?.id()))?;
        assert_ne!(ours, theirs, "{name}: {what}");
        site.ok(&changed(0), "load")?;
        site.send(REMOTE, Some(4200))?;
        site.stats_with("scrub-fra", 1)?;
        site.ok("", "unload")?;
    }
    Ok(())
}

#[test]
fn a_table_of_another_layout_is_refused_and_what_runs_goes_on() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    put(&site, TUNNELS4, |path| {
        Ok(PerCpuArray::<MapData, u64>::create(1024, 0)?.pin(path)?)
    })?;
    let done = site.run(&changed(0), "load")?;
    assert_eq!(done.status, Some(1), "{done:?}");
    let start = format!(
        "error: what is running cannot be read (`gre-decap unload` removes it): {ROOT}/generation-1/{TUNNELS4}: is laid out by \
         another version of gre-decap"
    );
    assert!(done.stderr.starts_with(&start), "{done:?}");
    assert!(
        done.stderr.ends_with("; what was running goes on as before\n"),
        "{done:?}"
    );
    site.send(REMOTE, Some(4200))?;
    site.stats_with("scrub-fra", 1)?;
    site.ok("", "unload")?;
    Ok(())
}

/// The program is replaced in its link, so no packet finds none.
#[test]
fn another_versions_state_is_replaced_without_detaching() -> Result<()> {
    let site = site_or_return!();
    let settings: [Foreign; 2] = [
        // As many words, of another format; and another number of words.
        |path| array::<48>(1, path),
        |path| array::<256>(1, path),
    ];
    for foreign in settings {
        site.ok(CONFIG, "load")?;
        site.send(REMOTE, Some(4200))?;
        site.stats_with("scrub-fra", 1)?;
        let link = site.json("status")?["interfaces"][0]["link_id"].clone();
        put(&site, "SETTINGS", foreign)?;
        let done = site.run("", "status")?;
        assert_eq!(done.status, Some(1));
        assert!(
            done.stderr.contains("is laid out by another version of gre-decap"),
            "{done:?}"
        );

        let done = site.run(CONFIG, "load")?;
        assert_eq!((done.status, done.stderr.as_str()), (Some(0), RESTART), "{done:?}");
        assert_eq!(site.json("status")?["interfaces"][0]["link_id"], link);
        assert_eq!(site.ok(CONFIG, "load")?, "nothing changed\n");
        site.send(REMOTE, Some(4200))?;
        site.stats_with("scrub-fra", 1)?;
        site.ok("", "unload")?;
    }
    Ok(())
}
