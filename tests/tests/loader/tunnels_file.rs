//! What runs beside the file: `status` tells where they differ, `tunnel export` writes the one from the other.

use anyhow::Result;
use serde_json::{Value, json};

use crate::site::{CONFIG, Site, site_or_return};

const ADD: &str = "tunnel add b --local 198.51.100.20 --remote 192.0.2.66";

/// What `status` says of the file, with this text in it.
fn file(site: &Site, text: &str) -> Result<Value> {
    let status = site.ok(text, "status --json")?;
    Ok(serde_json::from_str::<Value>(&status)?["file"].clone())
}

#[test]
fn status_tells_where_what_runs_differs_from_the_file() -> Result<()> {
    let site = site_or_return!();
    let path = "/dev/shm/config.toml";
    site.ok(CONFIG, "load")?;
    let same = json!({"path": path, "state": "same", "differences": []});
    assert_eq!(file(&site, CONFIG)?, same);
    assert!(
        site.ok(CONFIG, "status")?
            .ends_with(&format!("\n{path}: says what runs\n"))
    );

    site.ok("", ADD)?;
    site.ok("", "tunnel disable scrub-fra")?;
    assert_eq!(
        file(&site, CONFIG)?,
        json!({"path": path, "state": "differs", "differences": [
            {"subject": "tunnel b", "change": "added"},
            {"subject": "tunnel scrub-fra", "change": "changed", "key": "enabled", "running": "false", "file": "true"},
        ]})
    );
    let other = CONFIG.replace("wan0", "wan1").replace("scrub-fra", "c");
    let lines = format!(
        "\n{path}: differs from what runs; `gre-decap load` brings back what it says\n  max_tunnels: 1024 runs, the file has \
         9\n  interface wan0: runs, but is not in the file\n  interface wan1: is in the file, but does not run\n  tunnel b: \
         runs, but is not in the file\n  tunnel scrub-fra: runs, but is not in the file\n  tunnel c: is in the file, but does \
         not run\n"
    );
    let text = site.ok(&format!("max_tunnels = 9\n{other}"), "status")?;
    assert!(text.ends_with(&lines), "{text}");

    let invalid = file(&site, "unknown = 'perhaps'")?;
    assert_eq!(
        invalid,
        json!({"path": path, "state": "invalid", "differences": [],
               "error": format!("{path}:1: key `unknown`: expected \"pass\" or \"drop\", found 'perhaps'")})
    );
    let missing = site.run_by(
        &["sh", "-c", "shift 2; exec \"$0\" --config /nowhere/config.toml \"$@\""],
        "",
        "status",
    )?;
    missing.is_done("without a file");
    assert!(
        missing
            .stdout
            .ends_with("\n/nowhere/config.toml: no such file to compare what runs with\n"),
        "{missing:?}"
    );
    // The file is the one to go by.
    site.ok(CONFIG, "load")?;
    assert_eq!(file(&site, CONFIG)?, same);
    Ok(())
}

#[test]
fn what_is_exported_is_valid_and_changes_nothing() -> Result<()> {
    let site = site_or_return!();
    let configs = [
        CONFIG.to_owned(),
        String::new(),
        "unknown = 'drop'\nmax_tunnels = 7\nspread_queue = 64\n[[interface]]\nname = 'wan0'\nmode = 'auto'\n\
         [[tunnel]]\nname = 'z \"quoted\" \\\\ name'\nlocal = '198.51.100.20'\nremote = ['any', '203.0.113.10']\n\
         checksum = 'required'\nsequence = 'ordered'\ninner = ['mpls', 'ipv4']\nspread = 'all'\n\
         [[tunnel]]\nname = 'a'\nlocal = '2001:db8::1'\nremote = '2001:db8:1::/48'\nkey = 0\ndeliver = 'route'\n\
         inner = ['ipv6']\nspread = '0'\n\
         [[tunnel]]\nname = 'm'\nlocal = '198.51.100.21'\nremote = 'any'\nenabled = false\nspread = 'all'\n"
            .to_owned(),
    ];
    for config in configs {
        site.run(&config, "load")?;
        let exported = site.ok("", "tunnel export")?;
        let before = site.everything()?;
        assert_eq!(site.run(&exported, "load")?.stdout, "nothing changed\n", "{exported}");
        assert_eq!(site.everything()?, before);
        let check = site.run(&exported, "check")?;
        assert!(check.stdout.contains(": the configuration is valid\n"), "{check:?}");
        assert_eq!(file(&site, &exported)?["state"], "same", "{exported}");
        assert_eq!(site.ok(&exported, "tunnel export")?, exported);
    }
    // After a change that left the program able to do more than it needs, too.
    site.ok("", "tunnel remove a")?;
    let exported = site.ok("", "tunnel export")?;
    assert_eq!(site.run(&exported, "load")?.stdout, "nothing changed\n");
    Ok(())
}
