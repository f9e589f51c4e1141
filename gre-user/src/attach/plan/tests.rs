//! Plans for interfaces and links of all kinds.

use super::*;
use crate::bpf::LinkInfo;
use crate::config::Config;

fn interface(index: u32, name: &str, xdp: &[(XdpMode, u32)]) -> Interface {
    let xdp = xdp
        .iter()
        .map(|&(mode, program_id)| AttachedXdp { mode, program_id })
        .collect();
    Interface {
        index,
        name: name.to_owned(),
        mtu: 1500,
        is_up: true,
        has_carrier: true,
        is_ethernet: true,
        mac: None,
        kind: None,
        driver: Some("veth".to_owned()),
        xdp,
    }
}

fn link(made_for: &str, program_id: u32, interface_index: Option<u32>) -> PinnedLink {
    let path = Root::new("/r").link_path(made_for);
    PinnedLink {
        made_for: made_for.to_owned(),
        path,
        info: LinkInfo {
            id: 1,
            program_id,
            interface_index,
        },
    }
}

fn plan(configured: &[(&str, &str)], links: &[PinnedLink], here: &[Interface]) -> Result<AttachPlan> {
    let text: String = configured
        .iter()
        .map(|(name, mode)| format!("[[interface]]\nname = '{name}'\nmode = '{mode}'\n"))
        .collect();
    let config = Config::from_str(&text, "test").unwrap();
    let look_up = |name: &str| Ok(here.iter().find(|interface| interface.name == name).cloned());
    AttachPlan::make(&config.interfaces, links.to_vec(), here, &Root::new("/r"), look_up)
}

#[track_caller]
fn refused(configured: &[(&str, &str)], links: &[PinnedLink], here: &[Interface], line: &str) {
    assert_eq!(plan(configured, links, here).unwrap_err().to_string(), line);
}

#[test]
fn new_kept_and_leaving() {
    let here = [
        interface(2, "eth0", &[(XdpMode::Native, 7)]),
        interface(3, "eth1.100", &[]),
        interface(4, "eth2", &[(XdpMode::Generic, 7)]),
    ];
    let links = [
        link("eth0", 7, Some(2)),
        link("eth2", 7, Some(4)),
        link("eth9", 7, None),
    ];
    let plan = plan(&[("eth1.100", "auto"), ("eth0", "native")], &links, &here).unwrap();
    let new = NewInterface {
        position: 0,
        interface: here[1].clone(),
        mode: Mode::Auto,
    };
    assert_eq!(plan.new, [new]);
    let kept = KeptInterface {
        position: 1,
        name: "eth0".to_owned(),
        mode: XdpMode::Native,
        program_id: 7,
        link: "/r/links/eth0".into(),
    };
    assert_eq!(plan.kept, [kept]);
    assert_eq!(plan.leaving, [PathBuf::from("/r/links/eth2")]);
    assert_eq!(plan.dead, [PathBuf::from("/r/links/eth9")]);
    assert!(plan.renamed.is_empty() && !plan.is_done(7));
}

#[test]
fn nothing_to_do() {
    let here = [interface(2, "eth0", &[(XdpMode::Generic, 7)])];
    let plan = plan(&[("eth0", "auto")], &[link("eth0", 7, Some(2))], &here).unwrap();
    assert!(plan.is_done(7));
    assert!(!plan.is_done(6), "another program is in force");
    assert_eq!(plan.warnings().len(), 1);
}

#[test]
fn a_link_follows_its_renamed_interface() {
    let here = [interface(2, "wan0", &[(XdpMode::Native, 7)])];
    let plan = plan(&[("wan0", "native")], &[link("eth0", 7, Some(2))], &here).unwrap();
    assert_eq!(plan.renamed, [("/r/links/eth0".into(), "/r/links/wan0".into())]);
    assert_eq!(plan.kept[0].link, PathBuf::from("/r/links/wan0"));
    assert!(plan.new.is_empty() && plan.leaving.is_empty());
}

#[test]
fn names_that_were_swapped_are_refused() {
    let here = [
        interface(2, "eth1", &[(XdpMode::Native, 7)]),
        interface(3, "eth0", &[(XdpMode::Native, 7)]),
    ];
    let links = [link("eth0", 7, Some(2)), link("eth1", 7, Some(3))];
    let both = [("eth0", "native"), ("eth1", "native")];
    let line = |path: &str| {
        format!("{path}: belongs to an interface that was renamed since; run `gre-decap unload`, then `gre-decap load`")
    };
    refused(&both, &links, &here, &line("/r/links/eth0"));
    // A new interface that has got the name of one that leaves.
    let here = [interface(2, "wan0", &[(XdpMode::Native, 7)]), interface(3, "eth0", &[])];
    refused(&[("eth0", "native")], &links[..1], &here, &line("/r/links/eth0"));
}

#[test]
fn an_interface_that_has_gone_is_waited_for() {
    let here = [interface(2, "eth0", &[(XdpMode::Native, 7)])];
    let links = [link("eth0", 7, Some(2)), link("eth1", 7, None), link("eth2", 7, None)];
    let both = [("eth1", "native"), ("eth0", "native")];
    let waits = plan(&both, &links, &here).unwrap();
    assert_eq!(waits.gone, ["eth1"]);
    assert_eq!(waits.dead, [PathBuf::from("/r/links/eth2")]);
    assert_eq!(waits.kept.len(), 1);
    assert_eq!(
        waits.warnings(),
        ["interface eth1: has gone; `gre-decap run` attaches again when it is back, and so does `gre-decap load`"]
    );
    assert!(plan(&both, &links[..2], &here).unwrap().is_done(7));
    // Back again, it is attached to like any other.
    let here = [here[0].clone(), interface(5, "eth1", &[])];
    let back = plan(&both, &links[..2], &here).unwrap();
    assert!(back.gone.is_empty());
    assert_eq!(back.new[0].interface, here[1]);
    assert_eq!(back.dead, [PathBuf::from("/r/links/eth1")]);
}

#[test]
fn refusals() {
    let here = [interface(1, "lo", &[]), interface(2, "eth0", &[(XdpMode::Generic, 42)])];
    refused(
        &[("eth7", "native")],
        &[],
        &here,
        "interface eth7: is not on this host (in this network namespace); it has: lo, eth0",
    );
    let foreign = "interface eth0: XDP program 42 is attached in generic mode already, and is not replaced; detach it with \
                   the tool that attached it, or with `ip link set dev eth0 xdpgeneric off`";
    refused(&[("eth0", "generic")], &[], &here, foreign);
    // The link's own interface went, and its successor of the same name has another program.
    refused(&[("eth0", "generic")], &[link("eth0", 7, None)], &here, foreign);
    refused(
        &[("eth0", "native")],
        &[link("eth0", 42, Some(2))],
        &here,
        "interface eth0: runs in generic mode, which cannot be changed to native while it is attached; run `gre-decap \
         unload`, then `gre-decap load` (packets stay encapsulated in between)",
    );
    refused(
        &[("lo", "generic")],
        &[link("eth0", 7, Some(2))],
        &here,
        "/r/links/eth0: attaches the program to an interface of another network namespace; run gre-decap there, or choose \
         another --root",
    );
}
