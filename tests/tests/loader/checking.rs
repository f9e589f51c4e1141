//! `check --json`: findings for programs.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::site::{CONFIG, Done, Site, site_or_return};

const FILE: &str = "/dev/shm/config.toml";

fn check(site: &Site, config: &str) -> Result<(Done, Value)> {
    let done = site.run(config, "check --json")?;
    let report = serde_json::from_str(&done.stdout).with_context(|| format!("JSON of {done:?}"))?;
    Ok((done, report))
}

#[test]
fn each_finding_says_how_bad_where_what_and_the_remedy() -> Result<()> {
    let site = site_or_return!();
    let (done, report) = check(&site, CONFIG)?;
    done.is_done("where nothing is an error");
    assert_eq!((&report["file"], &report["valid"]), (&json!(FILE), &json!(true)));
    let findings = report["findings"].as_array().context("findings")?;
    assert!(!findings.is_empty());
    for finding in findings {
        let text = |key: &str| finding[key].as_str().filter(|text| !text.is_empty());
        assert!(
            ["severity", "where", "what", "remedy"]
                .iter()
                .all(|key| text(key).is_some())
                && finding.as_object().map(serde_json::Map::len) == Some(4),
            "{finding}"
        );
    }
    // The same as the text says, in its order.
    let text = site.ok(CONFIG, "check")?;
    let lines = findings.iter().map(|finding| {
        let text = |key: &str| finding[key].as_str().unwrap_or_default();
        format!(
            "{}: {}: {}; {}",
            text("severity"),
            text("where"),
            text("what"),
            text("remedy")
        )
    });
    let lines: Vec<_> = lines.collect();
    assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), lines);
    Ok(())
}

#[test]
fn errors_are_findings_and_the_exit_status() -> Result<()> {
    let site = site_or_return!();
    let (done, report) = check(&site, &CONFIG.replace("wan0", "wan9"))?;
    assert_eq!(done.status, Some(1));
    assert!(
        done.stderr.starts_with("error: wan9: there is no such interface"),
        "{done:?}"
    );
    let missing = json!({"severity": "error", "where": "wan9"});
    let found = report["findings"].as_array().context("findings")?.iter();
    let found =
        found.filter(|finding| finding["severity"] == missing["severity"] && finding["where"] == missing["where"]);
    assert_eq!(found.count(), 1, "{report}");

    let (done, report) = check(&site, "")?;
    done.is_done("of an empty file");
    let about_file = report["findings"].as_array().context("findings")?.iter();
    let about_file: Vec<_> = about_file.filter(|finding| finding["where"] == FILE).collect();
    assert_eq!(
        about_file,
        [
            &json!({"severity": "warning", "where": FILE, "what": "no [[interface]]: nothing to attach to",
                    "remedy": "add one for each interface that receives GRE"}),
            &json!({"severity": "warning", "where": FILE, "what": "no [[tunnel]]: nothing to decapsulate",
                    "remedy": "add one for each GRE tunnel that ends on this host"}),
        ]
    );

    let (done, report) = check(&site, "unknown = 'perhaps'")?;
    let line = format!("{FILE}:1: key `unknown`: expected \"pass\" or \"drop\", found 'perhaps'");
    assert_eq!((done.status, done.stderr), (Some(2), format!("error: {line}\n")));
    assert_eq!(
        report,
        json!({"file": FILE, "valid": false, "error": line, "findings": []})
    );
    Ok(())
}

/// What is protected is to be served here, or forwarded.
#[test]
fn protected_prefixes_without_an_address_here() -> Result<()> {
    let site = site_or_return!();
    let config = format!("{CONFIG}\n[protect]\nprefixes = ['192.0.2.0/24', '2001:db8:2::/48', '10.9.0.0/16']");
    let unserved = || -> Result<Vec<String>> {
        let (_, report) = check(&site, &config)?;
        let findings = report["findings"].as_array().context("findings")?.clone();
        let what = findings.iter().filter_map(|finding| finding["what"].as_str());
        let prefix = |what: &str| Some(what.split_once("protected prefix ")?.1.split(": ").next()?.to_owned());
        Ok(what.filter_map(prefix).collect())
    };
    assert_eq!(unserved()?, ["192.0.2.0/24", "2001:db8:2::/48", "10.9.0.0/16"]);
    site.origin.ip("address add 192.0.2.80/32 dev lo")?;
    assert_eq!(unserved()?, ["2001:db8:2::/48", "10.9.0.0/16"]);
    site.origin.ip("route add local 10.9.0.0/16 dev lo")?;
    assert_eq!(unserved()?, ["2001:db8:2::/48"]);
    site.origin.sysctl("net.ipv6.conf.all.forwarding", "1")?;
    assert!(unserved()?.is_empty());
    Ok(())
}
