//! The program on the way out of an interface: put there, replaced and removed, and nobody else's touched.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use gre_tests::lab::PATIENCE;
use gre_tests::skip::say;
use gre_user::host::clsact::{self, Hook};
use gre_user::host::{Interface, has_tcx};
use serde_json::{Value, json};

use crate::site::{CONFIG, ROOT, Site, WAN, site_or_return};

const PROTECT: &str = "[protect]\nprefixes = ['192.0.2.0/24']\n";

fn config(clamp_mss: &str) -> String {
    CONFIG.replace(
        "name = \"wan0\"\n",
        &format!("name = \"wan0\"\nclamp_mss = {clamp_mss}\n"),
    ) + PROTECT
}

fn egress(site: &Site) -> Result<Value> {
    Ok(site.json("status")?["interfaces"][0]["egress"].take())
}

/// How many programs are on an interface's way out.
pub(crate) fn on_way_out(site: &Site, interface: &str) -> Result<usize> {
    site.origin.run(|| {
        if has_tcx()? {
            return Ok(SchedClassifier::query_tcx(interface, TcAttachType::Egress)?.1.len());
        }
        let index = Interface::by_name(interface)?.context("the interface")?.index;
        let filters = clsact::filters(index, Hook::Egress)?;
        Ok(filters.iter().filter(|filter| filter.program_id.is_some()).count())
    })
}

/// The pins of links to ways out.
fn pins(site: &Site) -> Result<Vec<String>> {
    let mut files = site.files("/sys/fs/bpf")?;
    files.retain(|file| file.starts_with(&format!("{ROOT}/egress/")));
    Ok(files)
}

#[test]
fn the_program_comes_is_replaced_and_goes() -> Result<()> {
    let site = site_or_return!();
    site.ok(&config("'off'"), "load")?;
    assert_eq!((egress(&site)?, pins(&site)?), (Value::Null, Vec::new()));

    site.ok(&config("'auto'"), "load")?;
    let first = egress(&site)?;
    // A tunnel with a key over IPv4: 28 bytes.
    assert_eq!(
        (&first["clamp_mss"], &first["mss_ipv4"], &first["mss_ipv6"]),
        (&json!("auto"), &json!(1432), &json!(1412))
    );
    assert_eq!(first["attached_by"], if has_tcx()? { "tcx" } else { "clsact" });
    assert_eq!(pins(&site)?, [format!("{ROOT}/egress/{WAN}")]);
    assert_eq!(on_way_out(&site, WAN)?, 1);
    assert_eq!(site.ok(&config("'auto'"), "load")?, "nothing changed\n");
    assert_eq!(egress(&site)?, first, "the second load changes nothing");
    let text = site.ok("", "status")?;
    assert!(text.contains("1432, 1412 for IPv6"), "{text}");

    site.ok(&config("1300"), "load")?;
    let second = egress(&site)?;
    assert_eq!(
        (&second["clamp_mss"], &second["mss_ipv4"], &second["mss_ipv6"]),
        (&json!("1300"), &json!(1300), &json!(1300))
    );
    assert_eq!(second["link_id"], first["link_id"], "the program is replaced in place");
    assert_ne!(second["program_id"], first["program_id"]);

    site.ok(&config("'off'"), "load")?;
    assert_eq!((egress(&site)?, pins(&site)?), (Value::Null, Vec::new()));
    assert_eq!(on_way_out(&site, WAN)?, 0);

    site.ok(&config("1300"), "load")?;
    site.ok("", "unload")?;
    assert_eq!(on_way_out(&site, WAN)?, 0);
    let files = site.files("/sys/fs/bpf")?;
    assert!(files.iter().all(|file| !file.starts_with(ROOT)), "{files:?}");
    Ok(())
}

/// What `auto` means follows the interface's MTU with the next load.
#[test]
fn automatic_follows_the_mtu() -> Result<()> {
    let site = site_or_return!();
    site.ok(&config("'auto'"), "load")?;
    site.origin.ip(&format!("link set dev {WAN} mtu 1400"))?;
    site.ok(&config("'auto'"), "load")?;
    assert_eq!(egress(&site)?["mss_ipv4"], json!(1332));
    Ok(())
}

/// A load that fails late leaves the program on the way out as it was.
#[test]
fn a_failed_load_changes_nothing() -> Result<()> {
    let site = site_or_return!();
    site.ok(&config("1300"), "load")?;
    let before = (egress(&site)?, pins(&site)?);
    let missing = config("1200") + "[[interface]]\nname = 'gone0'\nclamp_mss = 1200\n";
    let done = site.run(&missing, "load")?;
    assert_eq!(done.status, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("gone0"), "{}", done.stderr);
    assert_eq!((egress(&site)?, pins(&site)?), before);
    Ok(())
}

/// Somebody else's program on the same way out stays, whatever comes and goes before it.
#[test]
fn other_programs_stay() -> Result<()> {
    if !has_tcx()? {
        say("this kernel has no TCX: what becomes of others' filters, ways_out::others_stay tests");
        return Ok(());
    }
    let site = site_or_return!();
    site.ok(&config("1300"), "load")?;
    // One that is ours no longer is as good as any.
    let mut program = site
        .origin
        .run(|| SchedClassifier::from_pin(format!("{ROOT}/current/egress")).context("open the pinned program"))?;
    site.ok(&config("1250"), "load")?;
    let other = || -> Result<SchedClassifierLink> {
        let order = TcAttachOptions::TcxOrder(LinkOrder::default());
        let id = program.attach_with_options(WAN, TcAttachType::Egress, order)?;
        Ok(program.take_link(id)?)
    };
    let link = site.origin.run(other)?;
    let count = || on_way_out(&site, WAN);
    assert_eq!(count()?, 2);
    site.ok(&config("1200"), "load")?;
    assert_eq!(count()?, 2);
    site.ok(&config("'off'"), "load")?;
    assert_eq!(count()?, 1);
    site.ok(&config("1200"), "load")?;
    site.ok("", "unload")?;
    assert_eq!(count()?, 1);
    drop(link);
    // A link that is closed goes in the kernel's own time.
    let deadline = Instant::now() + PATIENCE;
    while count()? != 0 {
        ensure!(Instant::now() < deadline, "waited for the other program to go");
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
