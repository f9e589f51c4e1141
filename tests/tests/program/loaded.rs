//! What the kernel says about the loaded programs.

mod stack;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use gre_user::settings::LogLevel;

use crate::kernel::{Kernel, load_or_return};
use crate::support::frames::CONFIGS;
use crate::support::split::CONFIG;
use gre_tests::skip::say;
use gre_user::host::xdp_features;

/// Instructions that the verifier may walk: a fifth of what it gives up at, so that growth shows early.
const MOST_VERIFIED: u32 = 200_000;
/// The same of programs that log every packet, which nobody runs for long: half of it.
const MOST_VERIFIED_LOGGING: u32 = 500_000;

/// The program that decapsulates.
const DECAP: &str = "gre_decap";
/// The same where nothing is sent on, or to another core.
const DECAP_STACK: &str = "gre_decap_stack";
/// The one that goes on with packets on the same core.
const FORWARD: &str = "gre_forward";
/// The one that goes on with them on another.
const SPREAD: &str = "gre_spread";
/// The one for interfaces that take redirected frames only with a program.
const PASS: &str = "gre_pass";

/// A tunnel with more lines.
fn tunnel(local: u8, lines: &str) -> String {
    format!("[[tunnel]]\nname = 't{local}'\nlocal = '198.51.100.{local}'\nremote = '203.0.113.10'\n{lines}\n")
}

const ROUTE: &str = "deliver = 'route'";
const INTERFACE: &str = "deliver = { interface = 'lan0' }";
const TO_ALL: &str = "spread = 'all'";
const KEEPALIVE: &str = "keepalive = 'reply'";

/// A tunnel to the stack, and one for each of the lines beside it.
fn beside_stack(lines: &[&str]) -> String {
    let others = (21..).zip(lines).map(|(local, lines)| tunnel(local, lines));
    [tunnel(20, "")].into_iter().chain(others).collect()
}

/// Bytes of each program as the kernel runs it, before it is compiled to machine code. The one that decapsulates has one name.
fn sizes(config: &str, level: LogLevel) -> Result<BTreeMap<String, u32>> {
    let infos = Kernel::load_logging(config, level)?.infos()?;
    let sizes = infos.into_iter().map(|(name, info)| {
        let name = if name == DECAP_STACK { DECAP.to_owned() } else { name };
        let size = info.size_translated();
        Ok((name, size.context("the kernel does not tell a program's size")?))
    });
    sizes.collect()
}

#[test]
fn verifies_with_room_to_spare() -> Result<()> {
    load_or_return!();
    // The verifiers of kernels that tell no XDP features (before 6.3) tell more states apart.
    let times = if xdp_features::are_told()? { 1 } else { 2 };
    let forwarding = [
        beside_stack(&[ROUTE]),
        beside_stack(&[INTERFACE]),
        beside_stack(&[TO_ALL]),
        beside_stack(&[ROUTE, INTERFACE]),
        beside_stack(&[ROUTE, INTERFACE, TO_ALL]),
        beside_stack(&[KEEPALIVE]),
        beside_stack(&[ROUTE, INTERFACE, TO_ALL, KEEPALIVE]),
        beside_stack(&[ROUTE, INTERFACE, TO_ALL])
            + &tunnel(30, "key = 7\nsequence = 'ordered'\nmss = 1400").replace(".10'", ".0/24'"),
    ];
    // Every rule of protection at once, beside all of that.
    let probing = forwarding[forwarding.len() - 1].clone()
        + &tunnel(31, "probes = 'route'\nbypass = ['10.0.0.0/30']\nkeepalive = 'reply'")
        + "[protect]\nprefixes = ['192.0.2.0/24', '2001:db8:2::/48']\ninner_destinations = 'monitor'\nlockdown = 'monitor'\n";
    // As many tunnels as packets are compared with, of both families.
    let of_both = |v4: String| {
        let v6 = v4
            .replace("'t", "'s")
            .replace("198.51.100.", "2001:db8::")
            .replace("203.0.113.", "2001:db8:1::");
        v4 + &v6
    };
    let few = of_both((20..24).map(|local| tunnel(local, "")).collect());
    // As many prefixes as addresses are compared with, beside as many tunnels, and one more.
    let protecting = [4, 5].map(|count| {
        let prefixes: String = (0..count)
            .map(|number| format!("'10.{}.0.0/24', '2001:db8:{}::/48', ", 2 * number, 2 * number))
            .collect();
        let tunnels = of_both(beside_stack(&[ROUTE, INTERFACE, TO_ALL]));
        format!("{tunnels}[protect]\nprefixes = [{prefixes}]\ninner_destinations = 'enforce'\nlockdown = 'enforce'\n")
    });
    let forwarding = forwarding.into_iter().chain([few, probing]).chain(protecting);
    let forwarding = forwarding.collect::<Vec<_>>();
    let configs = CONFIGS.iter().copied().chain([CONFIG]);
    let mut most: BTreeMap<(String, String), u32> = BTreeMap::new();
    for config in configs.chain(forwarding.iter().map(String::as_str)) {
        for (level, limit) in [(LogLevel::Off, MOST_VERIFIED), (LogLevel::Trace, MOST_VERIFIED_LOGGING)] {
            for (name, info) in Kernel::load_logging(config, level)?.infos()? {
                let verified = info.verified_instruction_count();
                let verified = verified.context("the kernel does not tell how much it verified (before 5.16)")?;
                ensure!(
                    verified < times * limit,
                    "{name}: {verified} instructions verified at log level {level}, for{config}"
                );
                most.entry((level.to_string(), name))
                    .and_modify(|most| *most = verified.max(*most))
                    .or_insert(verified);
            }
        }
    }
    say(&format!("instructions verified, at most: {most:?}"));
    let names: BTreeSet<&str> = most.keys().map(|(_, name)| name.as_str()).collect();
    ensure!(
        names.into_iter().eq([DECAP, DECAP_STACK, FORWARD, PASS, SPREAD]),
        "{most:?}"
    );
    Ok(())
}

/// What is not logged is not even code.
#[test]
fn log_level_decides_on_what_is_loaded() -> Result<()> {
    load_or_return!();
    let size = |level| {
        let sizes = sizes(CONFIG, level)?;
        sizes.get(DECAP).copied().context("the program is loaded")
    };
    let (off, info, debug) = (size(LogLevel::Off)?, size(LogLevel::Info)?, size(LogLevel::Debug)?);
    assert_eq!(off, info, "only debugging logs packets");
    assert!(off < debug, "{off} bytes without logging, {debug} with");
    Ok(())
}

/// A program that may call another is prepared for that with each packet: where none is called, it is one that cannot.
#[test]
fn what_hands_nothing_over_cannot() -> Result<()> {
    load_or_return!();
    for (lines, expected) in [
        ("", DECAP_STACK),
        (KEEPALIVE, DECAP_STACK),
        ("mss = 1400", DECAP_STACK),
        ("bypass = ['10.0.0.0/30']", DECAP_STACK),
        (ROUTE, DECAP),
        (INTERFACE, DECAP),
        (TO_ALL, DECAP),
        ("probes = 'route'", DECAP),
    ] {
        let protect = "[protect]\nprefixes = ['192.0.2.0/24', '2001:db8:2::/48']\n";
        let infos = Kernel::load_logging(&(beside_stack(&[lines]) + protect), LogLevel::Off)?.infos()?;
        for (name, is_loaded) in [
            (expected, true),
            (if expected == DECAP { DECAP_STACK } else { DECAP }, false),
        ] {
            ensure!(infos.contains_key(name) == is_loaded, "{lines}: {:?}", infos.keys());
        }
    }
    Ok(())
}

/// What no tunnel is configured to do is not even code.
#[test]
fn what_is_not_configured_is_not_loaded() -> Result<()> {
    load_or_return!();
    let sizes = |lines: &[&str]| sizes(&beside_stack(lines), LogLevel::Off);
    let stack = sizes(&[])?;
    ensure!(stack.keys().eq([DECAP, PASS]), "for the stack alone: {stack:?}");
    // What is done by other code, or none, is nobody else's cost. (A packet is compared with each local address.)
    let two = sizes(&[""])?;
    for lines in [
        "checksum = 'forbidden'",
        "sequence = 'ordered'",
        "enabled = false",
        "inner = ['ipv6']",
        "keepalive = 'ignore'\nkeepalive_rate = 7",
    ] {
        ensure!(sizes(&[lines])? == two, "{lines}: not the same program");
    }
    // Neither are keys that no tunnel has.
    let key = sizes(&["key = 7"])?;
    ensure!(two[DECAP] < key[DECAP], "with a key: {key:?}, without: {two:?}");

    let (route, interface, spread) = (sizes(&[ROUTE])?, sizes(&[INTERFACE])?, sizes(&[TO_ALL])?);
    ensure!(route.keys().eq([DECAP, FORWARD, PASS]), "{route:?}");
    ensure!(interface.keys().eq([DECAP, FORWARD, PASS]), "{interface:?}");
    ensure!(spread.keys().eq([DECAP, PASS, SPREAD]), "{spread:?}");
    let keepalive = sizes(&[KEEPALIVE])?;
    ensure!(keepalive.keys().eq([DECAP, PASS]), "{keepalive:?}");
    for (what, sizes) in [
        ("route", &route),
        ("interface", &interface),
        ("spread", &spread),
        ("keepalive", &keepalive),
    ] {
        ensure!(
            stack[DECAP] < sizes[DECAP],
            "{what}: {} bytes, {} for the stack",
            sizes[DECAP],
            stack[DECAP]
        );
    }

    let mss = sizes(&["mss = 1400"])?;
    ensure!(
        mss.keys().eq([DECAP, PASS]) && stack[DECAP] < mss[DECAP],
        "for the stack alone: {stack:?}, with the MSS lowered: {mss:?}"
    );

    // Each of them has only its own part in the programs that go on with packets.
    let both = sizes(&[ROUTE, INTERFACE])?;
    ensure!(
        route[FORWARD] < both[FORWARD] && interface[FORWARD] < both[FORWARD],
        "{route:?}, {interface:?}, {both:?}"
    );
    let all = sizes(&[ROUTE, INTERFACE, TO_ALL])?;
    ensure!(both[DECAP] < all[DECAP] && spread[DECAP] < all[DECAP], "{all:?}");
    ensure!(both[FORWARD] == all[FORWARD] && spread[SPREAD] < all[SPREAD], "{all:?}");
    say(&format!(
        "bytes: {stack:?} for the stack, {route:?} by route, {interface:?} to an interface, {spread:?} spread, {all:?} all, \
         {keepalive:?} with keepalives answered"
    ));
    Ok(())
}

/// Protection that is off is not even code, however much is protected.
#[test]
fn protection_that_is_off_is_not_loaded() -> Result<()> {
    load_or_return!();
    let size = |lines: &str| -> Result<u32> {
        let sizes = sizes(&(tunnel(20, "") + lines), LogLevel::Off)?;
        sizes.get(DECAP).copied().context("the program is loaded")
    };
    let protect = "[protect]\nprefixes = ['192.0.2.0/24', '2001:db8:2::/48']\nallow = ['198.18.5.0/24']\n";
    let without = size("")?;
    ensure!(size(protect)? == without, "off: not the same program");
    let mut all = vec![("off", without)];
    for rule in ["inner_destinations", "lockdown"] {
        for guard in ["monitor", "enforce"] {
            let with = size(&format!("{protect}{rule} = '{guard}'\n"))?;
            ensure!(without < with, "{rule} = {guard}: {with} bytes, {without} without");
            all.push((rule, with));
        }
    }
    let bypass = size("bypass = ['10.0.0.0/30']\n")?;
    ensure!(without < bypass, "bypass: {bypass} bytes, {without} without");
    let probes = size(&format!("probes = 'route'\n{protect}"))?;
    let routes = size("deliver = 'route'\n")?;
    ensure!(routes < probes, "probes: {probes} bytes, {routes} where all is routed");
    say(&format!(
        "bytes: {all:?}, with a bypass {bypass}, with probes {probes}, where all is routed {routes}"
    ));
    Ok(())
}
