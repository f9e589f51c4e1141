//! Whose frames a tunnel takes: one that forwards only those for the interface's own MAC address.

use anyhow::{Context, Result, ensure};
use gre_common::tunnel::Deliver;
use gre_common::{Delivery, Reason, Verdict, decide};
use gre_tests::frame::{Link, Mac};

use crate::support::bytes::Bytes;
use crate::support::reference::Reference;
use crate::support::split::{CONFIG, Splittable, packets};

const OWN: Mac = Link::DESTINATION;

/// The packets' tunnels, with another line about what is inside and how it is delivered.
fn reference(lines: &str) -> Result<Reference> {
    let inner = r#"inner = ["ipv4", "ipv6", "ethernet", "mpls"]"#;
    let own = gre_common::link::Mac::from_bytes(OWN);
    Ok(Reference::on(Some(own), &CONFIG.replace(inner, lines))?)
}

const STACK: &str = "";
const ROUTE: &str = "deliver = 'route'";
const INTERFACE: &str = "deliver = { interface = 'eth1' }";
const ALL_TO_STACK: &str = "inner = ['ipv4', 'ipv6', 'ethernet', 'mpls']";
const ALL_TO_INTERFACE: &str = "inner = ['ipv4', 'ipv6', 'ethernet', 'mpls']\ndeliver = { interface = 'eth1' }";

fn verdict(frame: &[u8], destination: Mac, reference: &Reference) -> Verdict {
    let mut frame = frame.to_vec();
    frame[..6].copy_from_slice(&destination);
    decide(&Bytes::whole(&frame), reference)
}

#[test]
fn frames_for_this_host_are_delivered_as_configured() -> Result<()> {
    for (lines, beside, deliver) in [
        (STACK, STACK, Deliver::Stack),
        (ROUTE, STACK, Deliver::Route),
        (INTERFACE, STACK, Deliver::Interface),
        (ALL_TO_INTERFACE, ALL_TO_STACK, Deliver::Interface),
    ] {
        let (reference, to_stack) = (reference(lines)?, reference(beside)?);
        let mut delivered = 0;
        for packet in packets() {
            let wanted = match verdict(&packet.frame, OWN, &to_stack) {
                Verdict::Deliver(delivery) => {
                    delivered += 1;
                    Verdict::Deliver(Delivery { deliver, ..delivery })
                }
                other => other,
            };
            let verdict = verdict(&packet.frame, OWN, &reference);
            ensure!(verdict == wanted, "{lines}: {verdict:?}, wanted {wanted:?}");
        }
        ensure!(
            delivered >= packets().len() / 2,
            "{lines}: only {delivered} were delivered"
        );
    }
    Ok(())
}

#[test]
fn one_bit_makes_it_another_hosts() -> Result<()> {
    let is_delivered = |packet: &Splittable, to_stack: &Reference| {
        matches!(verdict(&packet.frame, OWN, to_stack), Verdict::Deliver(_))
    };
    let to_stack = reference(STACK)?;
    let all = packets();
    let packet = all
        .iter()
        .find(|packet| is_delivered(packet, &to_stack))
        .context("a packet that is delivered")?;
    for lines in [ROUTE, INTERFACE] {
        let reference = reference(lines)?;
        for bit in 0..48 {
            let mut mac = OWN;
            mac[bit / 8] ^= 1 << (bit % 8);
            let refused = matches!(
                verdict(&packet.frame, mac, &reference),
                Verdict::Refuse {
                    reason: Reason::OtherHost,
                    tunnel: 1..
                }
            );
            ensure!(refused, "{lines}, bit {bit}");
        }
    }
    // The stack throws such frames away by itself.
    let passed = matches!(verdict(&packet.frame, [0xff; 6], &to_stack), Verdict::Deliver(_));
    ensure!(passed, "a frame for all, of a tunnel to the stack");
    Ok(())
}
