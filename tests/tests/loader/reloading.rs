//! Loading over what runs.

use anyhow::Result;
use serde_json::{Value, json};

use crate::site::{CONFIG, REMOTE, Site, WAN, site_or_return, tunnel};

/// [`CONFIG`] with a second tunnel, of this name, which the test's packets without a key take.
fn with_second(name: &str) -> String {
    format!("{CONFIG}\n[[tunnel]]\nname = \"{name}\"\nlocal = \"198.51.100.20\"\nremote = \"any\"\n")
}

/// The ids of the interface's link and program.
fn ids(site: &Site) -> Result<(Value, Value)> {
    let status = site.json("status")?;
    let interface = &status["interfaces"][0];
    assert_eq!(
        interface["program_id"], status["program"]["id"],
        "the program in force is the one attached"
    );
    Ok((interface["link_id"].clone(), interface["program_id"].clone()))
}

#[test]
fn counters_and_link_stay_while_the_program_is_replaced() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    for _ in 0..3 {
        site.send(REMOTE, Some(4200))?;
    }
    let before = site.stats_with("scrub-fra", 3)?;
    let (link, program) = ids(&site)?;

    // In another place of the file, with another policy, and beside a new one, it is still the same tunnel.
    let second = with_second("second").replace("4200", "4200\nchecksum = \"ignore\"");
    assert_eq!(site.ok(&second, "load")?, "loaded 2 tunnels on wan0 (native)\n");
    let after = site.json("stats")?;
    assert_eq!(tunnel(&after, "scrub-fra")["packets"], 3);
    assert_eq!(
        tunnel(&after, "scrub-fra")["bytes"],
        tunnel(&before, "scrub-fra")["bytes"]
    );
    assert_eq!(tunnel(&after, "second")["packets"], 0);
    let (same_link, other_program) = ids(&site)?;
    assert_eq!(link, same_link);
    assert_ne!(program, other_program);
    assert_eq!(tunnel(&site.json("status")?, "scrub-fra")["checksum"], "ignore");

    site.send(REMOTE, Some(4200))?;
    site.send(REMOTE, None)?;
    let stats = site.stats_with("second", 1)?;
    assert_eq!(tunnel(&stats, "scrub-fra")["packets"], 4);

    // One generation at a time.
    let generations = site.files(crate::site::ROOT)?;
    assert_eq!(
        generations.iter().filter(|file| file.ends_with("/program")).count(),
        1,
        "{generations:?}"
    );
    Ok(())
}

#[test]
fn a_new_tunnel_starts_at_zero_whatever_its_id_has_counted() -> Result<()> {
    let site = site_or_return!();
    // Room for three remotes: the two of the first tunnel, and one for whichever comes second.
    let small = |name: &str| format!("max_tunnels = 3\n{}", with_second(name));
    site.ok(&small("a"), "load")?;
    site.send(REMOTE, None)?;
    site.send(REMOTE, Some(4200))?;
    site.stats_with("scrub-fra", 1)?;
    for name in ["b", "c", "d", "a"] {
        site.ok(&small(name), "load")?;
        let stats = site.json("stats")?;
        assert_eq!(stats["tunnels"].as_array().map(Vec::len), Some(2), "{stats}");
        assert_eq!(tunnel(&stats, name)["packets"], 0, "{name}");
        assert_eq!(tunnel(&stats, "scrub-fra")["packets"], 1, "{name}");
        site.send(REMOTE, None)?;
        site.stats_with(name, 1)?;
    }
    Ok(())
}

#[test]
fn counters_follow_their_tunnels_into_maps_of_another_size() -> Result<()> {
    let site = site_or_return!();
    site.ok(&with_second("second"), "load")?;
    site.send(REMOTE, Some(4200))?;
    site.send(REMOTE, None)?;
    site.send(crate::site::STRANGER, Some(1))?;
    let before = site.stats_when("three packets", |stats| {
        tunnel(stats, "second")["packets"] == 1 && stats["reasons"]["unknown_tunnel"] == 1
    })?;
    let (link, _) = ids(&site)?;
    for size in [3, 100] {
        site.ok(&format!("max_tunnels = {size}\n{}", with_second("second")), "load")?;
        let after = site.json("stats")?;
        for name in ["scrub-fra", "second"] {
            for count in ["packets", "bytes", "outer_bytes"] {
                assert_eq!(
                    tunnel(&before, name)[count],
                    tunnel(&after, name)[count],
                    "{name} {count}"
                );
            }
        }
        assert_eq!(after["reasons"], before["reasons"]);
        assert_eq!(site.json("status")?["max_tunnels"], size);
    }
    assert_eq!(ids(&site)?.0, link);
    Ok(())
}

/// A sender that had ordered packets accepted goes on being ordered across a reload.
#[test]
fn sequence_state_stays() -> Result<()> {
    let site = site_or_return!();
    let ordered = CONFIG.replace("4200", "4200\nsequence = \"ordered\"");
    let send = |number| {
        let mut packet = crate::site::packet(REMOTE, Some(4200));
        packet.gre.sequence = Some(number);
        site.send_packet(&packet)
    };
    site.ok(&ordered, "load")?;
    send(1000)?;
    site.stats_with("scrub-fra", 1)?;
    site.ok(&format!("unknown = \"drop\"\n{ordered}"), "load")?;
    send(999)?;
    // Late, or after a second of silence a restart. A state that starts anew would take it for the first number.
    site.stats_when("a number that is judged by those before it", |stats| {
        let reasons = &tunnel(stats, "scrub-fra")["reasons"];
        *reasons == json!({"sequence": 1}) || *reasons == json!({"sequence_restart": 1})
    })?;
    Ok(())
}

#[test]
fn no_packet_is_lost_or_miscounted_while_programs_are_replaced() -> Result<()> {
    let site = site_or_return!();
    // Whatever misses its tunnel for a moment would be counted as unknown.
    let tunnels = [with_second("second"), with_second("third")];
    site.ok(&tunnels[0], "load")?;
    let sent = site.send_meanwhile(|| (1..=6).try_for_each(|round| site.ok(&tunnels[round % 2], "load").map(drop)))?;
    assert!(sent > 0);
    let arrived = sent - site.dropped_on_the_wire()?;
    let stats = site.stats_with("scrub-fra", arrived)?;
    assert_eq!(stats["reasons"], json!({}));
    Ok(())
}

#[test]
fn interfaces_come_and_go() -> Result<()> {
    let site = site_or_return!();
    site.lab.veth(site.origin.end("wan1"), site.origin.end("spare"))?;
    let both = format!("{CONFIG}\n[[interface]]\nname = \"wan1\"\n");
    let second = CONFIG.replace(WAN, "wan1");
    let attached = |interface: &str| -> Result<bool> {
        Ok(site
            .origin
            .ip(&format!("-details link show {interface}"))?
            .contains("prog/xdp"))
    };
    site.ok(CONFIG, "load")?;
    let (link, _) = ids(&site)?;
    assert_eq!(
        site.ok(&both, "load")?,
        "loaded 1 tunnel on wan0 (native), wan1 (native)\n"
    );
    assert_eq!(ids(&site)?.0, link);
    assert!(attached(WAN)? && attached("wan1")?);
    assert_eq!(site.ok(&second, "load")?, "loaded 1 tunnel on wan1 (native)\n");
    assert!(!attached(WAN)? && attached("wan1")?);
    assert_eq!(
        site.json("stats")?["interfaces"],
        json!([{"name": "wan1", "mode": "native"}])
    );
    Ok(())
}
