//! The kernel's own forwarding is the measure: the same frames go in, with the kernel to forward what is decapsulated and
//! with the program to do it, and the same frames must come out, to the last byte.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gre_tests::skip::say;

use crate::bench::{Bench, Seen, Way, forwarded, hex};
use crate::corpus::{Case, cases};
use crate::net::{config, net_or_return};

const STACK: &str = "deliver = \"stack\"";
const ROUTE: &str = "deliver = \"route\"";

/// What the program forwards and the kernel does not: a source that is an address of the router itself (and so a lie), which
/// the kernel looks up among its own and the program does not.
const OWN_SOURCES: [&str; 2] = ["from 203.0.113.20", "from 192.0.2.1"];

/// After so long the kernel answers again that there is no route, whatever it has answered before.
const CREDIT: Duration = Duration::from_millis(1500);

#[test]
fn the_kernel_agrees_with_itself() -> Result<()> {
    let net = net_or_return!();
    compare(&Bench::open(&net)?, "native", STACK)
}

#[test]
fn the_program_agrees_with_the_kernel_in_native_mode() -> Result<()> {
    let net = net_or_return!();
    compare(&Bench::open(&net)?, "native", ROUTE)
}

#[test]
fn the_program_agrees_with_the_kernel_in_generic_mode() -> Result<()> {
    let net = net_or_return!();
    compare(&Bench::open(&net)?, "generic", ROUTE)
}

fn compare(bench: &Bench, mode: &str, lines: &str) -> Result<()> {
    let cases = cases();
    bench.net.program.load(&config(mode, STACK))?;
    let by_kernel = outcomes(bench, Way::V4, &cases)?;
    let through = by_kernel.iter().filter(|seen| !seen.server.is_empty()).count();
    let answered = by_kernel.iter().filter(|seen| !seen.centre.is_empty()).count();
    say(&format!(
        "{} inner packets, of which the kernel forwards {through} and answers {answered}",
        cases.len()
    ));
    ensure!(
        through > 100 && answered > 10,
        "the packets are not what they should be"
    );

    bench.net.program.load(&config(mode, lines))?;
    let mut differences = Vec::new();
    // A tag of VLAN 0 gives a priority only: the kernel needs no device for it.
    for way in [Way::V4, Way::V6, Way::Tagged(0xa000), Way::Padded] {
        for ((case, expected), seen) in cases.iter().zip(&by_kernel).zip(outcomes(bench, way, &cases)?) {
            let own_source = lines == ROUTE && OWN_SOURCES.contains(&case.name.as_str());
            if own_source {
                let frame = forwarded(&case.inner, bench.net.lan.1.mac, bench.net.lan.0.mac)?;
                ensure!(
                    *expected == Seen::default() && seen.server == [frame],
                    "{}: {seen:?}",
                    case.name
                );
                continue;
            }
            let seen = if seen == Seen::default() && !expected.centre.is_empty() {
                // The kernel has answered this once; its credit for answers is that of a second (`ip_error()`).
                thread::sleep(CREDIT);
                outcome(bench, way, case)?
            } else {
                seen
            };
            if seen != *expected {
                differences.push(difference(case, way, expected, &seen));
            }
        }
    }
    ensure!(
        differences.is_empty(),
        "{} differences from the kernel's forwarding\n{}",
        differences.len(),
        differences.join("\n")
    );
    Ok(())
}

fn outcomes(bench: &Bench, way: Way, cases: &[Case]) -> Result<Vec<Seen>> {
    cases.iter().map(|case| outcome(bench, way, case)).collect()
}

fn outcome(bench: &Bench, way: Way, case: &Case) -> Result<Seen> {
    let seen = bench.pass(&bench.frame(way, case.protocol, &case.inner));
    seen.map(without_identification)
        .with_context(|| format!("{} by {way:?}", case.name))
}

/// What the router itself says over IPv4 has an identification of its own each time.
fn without_identification(mut seen: Seen) -> Seen {
    for frame in &mut seen.centre {
        if frame.get(12..14) == Some(&[0x08, 0x00]) {
            frame[18..20].fill(0);
            frame[24..26].fill(0);
        }
    }
    seen
}

fn difference(case: &Case, way: Way, expected: &Seen, seen: &Seen) -> String {
    let list = |frames: &[Vec<u8>]| match frames {
        [] => "nothing".to_owned(),
        frames => frames.iter().map(|frame| hex(frame)).collect::<Vec<_>>().join(", "),
    };
    format!(
        "{} by {way:?}: {}\n  the kernel: to the server {}; to the centre {}\n  but seen: to the server {}; to the centre {}",
        case.name,
        hex(&case.inner),
        list(&expected.server),
        list(&expected.centre),
        list(&seen.server),
        list(&seen.centre),
    )
}
