//! Loads that are killed on the way.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::egress::on_way_out;
use crate::site::{CONFIG, ROOT, Site, WAN, site_or_return};

/// Checks that loading makes all well, whatever is there.
#[track_caller]
fn loads(site: &Site, config: &str, when: &str) -> Result<()> {
    site.run(config, "load")?.is_done(when);
    let status = site.json("status")?;
    assert_eq!(
        status["interfaces"].as_array().map(Vec::len),
        Some(2),
        "{when}: {status}"
    );
    let of_first = &status["interfaces"][0]["egress"];
    for interface in status["interfaces"].as_array().into_iter().flatten() {
        assert_eq!(interface["program_id"], status["program"]["id"], "{when}");
        assert_eq!(interface["mode"], "native", "{when}");
        assert_eq!(interface["egress"]["program_id"], of_first["program_id"], "{when}");
        assert_eq!(interface["egress"]["clamp_mss"], of_first["clamp_mss"], "{when}");
    }
    let limit = of_first["clamp_mss"].as_str().unwrap_or_default();
    assert!(config.contains(&format!("clamp_mss = {limit}\n")), "{when}: {status}");
    let files = site.files(ROOT)?;
    assert_eq!(
        files.iter().filter(|file| file.ends_with("/program")).count(),
        1,
        "{when}: {files:?}"
    );
    let generations: BTreeSet<_> = files
        .iter()
        .filter_map(|file| file.strip_prefix(ROOT)?.strip_prefix("/generation-")?.split('/').next())
        .collect();
    assert_eq!(generations.len(), 1, "{when}: {files:?}");
    Ok(())
}

/// Killed ever later, until a load gets through: first over nothing, then over what runs.
#[test]
fn a_killed_load_leaves_a_state_that_can_be_loaded_over_and_unloaded() -> Result<()> {
    let site = site_or_return!();
    site.lab.veth(site.origin.end("wan1"), site.origin.end("spare"))?;
    // The ways out are replaced as well: each load has its own limit.
    let config = |key: usize| {
        let clamped = |name: &str| format!("name = \"{name}\"\nclamp_mss = {}\n", 1000 + key);
        let text = CONFIG.replace("4200", &key.to_string());
        let text = text.replace(&format!("name = \"{WAN}\"\n"), &clamped(WAN));
        format!(
            "{text}\n[[interface]]\n{}[protect]\nprefixes = [\"192.0.2.0/24\"]\n",
            clamped("wan1")
        )
    };
    for over_running in [false, true] {
        for step in 0.. {
            if over_running {
                loads(&site, &config(1), "before")?;
            }
            let mut child = site
                .command(&config(2 + step), "load")?
                .stdout(std::process::Stdio::null())
                .spawn()?;
            thread::sleep(Duration::from_millis(4) * u32::try_from(step)?);
            let got_through = child.try_wait()?.is_some();
            child.kill()?;
            child.wait()?;
            let when = format!("killed at step {step}, over what runs: {over_running}");
            if step % 2 == 0 {
                loads(&site, &config(2 + step), &when)?;
            }
            site.run("", "unload")?.is_done(&when);
            assert!(!site.files("/sys/fs/bpf")?.contains(&ROOT.to_owned()), "{when}");
            assert!(!site.origin.ip("-details link show")?.contains("prog/xdp"), "{when}");
            for interface in [WAN, "wan1"] {
                assert_eq!(on_way_out(&site, interface)?, 0, "{when}: {interface}");
            }
            if got_through {
                break;
            }
        }
    }
    Ok(())
}

#[test]
fn what_a_killed_load_has_left_is_cleared_even_if_nothing_else_changes() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let before = site.everything()?;
    site.origin.run(|| {
        fs::create_dir(format!("{ROOT}/generation-2"))?;
        Ok(fs::create_dir(format!("{ROOT}/generation-70"))?)
    })?;
    assert_eq!(site.ok(CONFIG, "load")?, "nothing changed\n");
    assert_eq!(site.everything()?, before);
    Ok(())
}
