//! Interfaces that are not as usual.

use anyhow::Result;
use serde_json::json;

use crate::site::{CONFIG, ROOT, WAN, site_or_return};

const SLOW: &str = "runs in GENERIC mode, which is several times slower: the kernel builds an skb for every packet first, and \
                    merges them (GRO) before the program sees them; native mode needs a driver with XDP";

fn with_mode(interface: &str, mode: &str) -> String {
    CONFIG.replace("\"wan0\"", &format!("\"{interface}\"\nmode = \"{mode}\""))
}

#[test]
fn generic_mode_is_warned_of_every_time() -> Result<()> {
    let site = site_or_return!();
    for stdout in ["loaded 1 tunnel on wan0 (generic)\n", "nothing changed\n"] {
        let done = site.run(&with_mode(WAN, "generic"), "load")?;
        assert_eq!((done.status, done.stdout.as_str()), (Some(0), stdout));
        assert_eq!(done.stderr, format!("warning: interface wan0: {SLOW}\n"));
    }
    assert_eq!(
        site.json("stats")?["interfaces"],
        json!([{"name": WAN, "mode": "generic"}])
    );
    assert!(site.origin.ip("-details link show wan0")?.contains("xdpgeneric"));
    Ok(())
}

#[test]
fn auto_is_native_where_the_driver_can_and_generic_with_a_warning_elsewhere() -> Result<()> {
    let site = site_or_return!();
    assert_eq!(
        site.ok(&with_mode(WAN, "auto"), "load")?,
        "loaded 1 tunnel on wan0 (native)\n"
    );
    site.ok("", "unload")?;
    // The loopback interface has no XDP of its own.
    let done = site.run(&with_mode("lo", "auto"), "load")?;
    assert_eq!(
        (done.status, done.stdout.as_str()),
        (Some(0), "loaded 1 tunnel on lo (generic)\n")
    );
    assert_eq!(
        done.stderr,
        format!("warning: interface lo: its driver has no native XDP (at the MTU of 65536); interface lo: {SLOW}\n")
    );
    Ok(())
}

/// What is spread would be lost there (see the check of the configuration for why).
#[test]
fn auto_is_not_generic_where_tunnels_are_spread() -> Result<()> {
    let site = site_or_return!();
    let spread = |interface: &str| with_mode(interface, "auto") + "\nspread = \"all\"\n";
    let line = |interface: &str, and: &str| {
        format!(
            "interface {interface}: runs in generic mode, in which the kernel loses packets that are spread over cores; set \
             spread = \"off\", or use a network card whose driver has XDP{and}"
        )
    };
    site.refused(&spread("lo"), "load", 1, &line("lo", ""))?;
    // Where it already is in generic mode, too.
    site.run(&with_mode(WAN, "generic"), "load")?;
    site.refused(
        &spread(WAN),
        "load",
        1,
        &line(WAN, "; what was running goes on as before"),
    )?;
    site.ok("", "unload")?;
    assert_eq!(site.ok(&spread(WAN), "load")?, "loaded 1 tunnel on wan0 (native)\n");
    Ok(())
}

#[test]
fn a_driver_without_native_xdp_is_refused() -> Result<()> {
    let site = site_or_return!();
    let line = "interface lo: its driver has no native XDP (at the MTU of 65536); use a network card or setting that has it, or \
                set `mode = \"generic\"`, which is several times slower: the kernel builds an skb for every packet first, and \
                merges them (GRO) before the program sees them";
    site.refused(&CONFIG.replace(WAN, "lo"), "load", 1, line)?;
    // After an interface that takes the program, and over a running one.
    let both = format!("{CONFIG}\n[[interface]]\nname = \"lo\"\n");
    site.refused(&both, "load", 1, line)?;
    site.ok(CONFIG, "load")?;
    site.lab.veth(site.origin.end("wan1"), site.origin.end("spare"))?;
    let three = both.replacen("[[interface]]", "[[interface]]\nname = \"wan1\"\n[[interface]]", 1);
    site.refused(
        &three,
        "load",
        1,
        &format!("{line}; what was running goes on as before"),
    )
}

#[test]
fn the_mode_of_a_running_program_is_not_changed() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    site.refused(
        &with_mode(WAN, "generic"),
        "load",
        1,
        "interface wan0: runs in native mode, which cannot be changed to generic while it is attached; run `gre-decap \
         unload`, then `gre-decap load` (packets stay encapsulated in between); what was running goes on as before",
    )
}

#[test]
fn another_program_is_never_replaced() -> Result<()> {
    let site = site_or_return!();
    for (mode, flag) in [("native", "xdpdrv"), ("generic", "xdpgeneric")] {
        let other = "--root /sys/fs/bpf/other";
        site.run(&with_mode(WAN, mode), &format!("{other} load"))?;
        let id = &site.json(&format!("{other} status"))?["program"]["id"];
        for wanted in ["native", "generic", "auto"] {
            site.refused(
                &with_mode(WAN, wanted),
                "load",
                1,
                &format!(
                    "interface wan0: XDP program {id} is attached in {mode} mode already, and is not replaced; detach it \
                     with the tool that attached it, or with `ip link set dev wan0 {flag} off`"
                ),
            )?;
        }
        site.ok("", &format!("{other} unload"))?;
    }
    Ok(())
}

#[test]
fn a_missing_interface_is_named_with_those_there_are() -> Result<()> {
    let site = site_or_return!();
    let line = "interface eth7: is not on this host (in this network namespace); it has: lo, wan0";
    // Kernels with tunnels built in give every namespace their fallback devices.
    let here = site.origin.ip("-oneline link show")?;
    if here.lines().count() == 2 {
        site.refused(&CONFIG.replace(WAN, "eth7"), "load", 1, line)?;
    }
    let done = site.run(&CONFIG.replace(WAN, "eth7"), "load")?;
    assert_eq!(done.status, Some(1));
    assert!(
        done.stderr.starts_with("error: interface eth7: is not on this host"),
        "{done:?}"
    );
    assert_eq!(
        site.files("/sys/fs/bpf")?
            .iter()
            .filter(|file| file.starts_with(ROOT))
            .count(),
        0
    );
    Ok(())
}

#[test]
fn a_renamed_interface_keeps_its_link() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let link = site.json("status")?["interfaces"][0]["link_id"].clone();
    for command in ["link set wan0 down", "link set wan0 name up0", "link set up0 up"] {
        site.origin.ip(command)?;
    }
    assert_eq!(site.json("status")?["interfaces"][0]["name"], "up0");
    assert_eq!(
        site.ok(&CONFIG.replace(WAN, "up0"), "load")?,
        "loaded 1 tunnel on up0 (native)\n"
    );
    assert_eq!(site.json("status")?["interfaces"][0]["link_id"], link);
    assert!(site.files(ROOT)?.contains(&format!("{ROOT}/links/up0")));
    Ok(())
}

#[test]
fn an_interface_that_was_made_anew_is_attached_anew() -> Result<()> {
    let site = site_or_return!();
    site.lab.veth(site.origin.end("wan1"), site.origin.end("spare"))?;
    let config = CONFIG.replace(WAN, "wan1");
    site.ok(&config, "load")?;
    site.origin.ip("link delete wan1")?;
    assert_eq!(
        site.json("stats")?["interfaces"],
        json!([{"name": "wan1", "mode": "gone"}])
    );
    site.lab.veth(site.origin.end("wan1"), site.origin.end("spare"))?;
    assert_eq!(site.ok(&config, "load")?, "loaded 1 tunnel on wan1 (native)\n");
    assert_eq!(
        site.json("stats")?["interfaces"],
        json!([{"name": "wan1", "mode": "native"}])
    );
    Ok(())
}

#[test]
fn what_runs_in_another_network_namespace_is_left_alone() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let before = site.everything()?;
    let done = site.run_by(&["unshare", "--net"], CONFIG, "load")?;
    done.is_refusal(
        1,
        "/sys/fs/bpf/gre-decap/links/wan0: attaches the program to an interface of another network namespace; run gre-decap \
         there, or choose another --root; what was running goes on as before",
    );
    assert_eq!(site.everything()?, before);
    Ok(())
}
