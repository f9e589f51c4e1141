//! Each delivery beside the others, and what goes before it: buffers, sequence numbers, the way to another core.

use gre_user::host::xdp_features;

use super::*;

/// Every delivery in one program, each tunnel its own.
#[test]
fn tunnels_deliver_side_by_side() -> Result<()> {
    let tunnel = |key: u32, lines: &str| {
        let name = format!("name = \"key{key}\"\nkey = {key}\n{lines}");
        format!("[[tunnel]]\nlocal = \"198.51.100.20\"\nremote = \"203.0.113.10\"\n{name}\n")
    };
    let interface = "deliver = { interface = \"lan0\" }";
    let config = [
        tunnel(1, ""),
        tunnel(2, "deliver = \"route\""),
        tunnel(3, interface),
        tunnel(4, "spread = \"0\""),
        tunnel(5, "deliver = \"route\"\nspread = \"0\""),
        tunnel(6, &format!("{interface}\nspread = \"0\"")),
    ];
    let mut router = router_or_return!(&config.concat(), &[To::Nowhere, To::Nowhere, To::Lan]);
    for inner in Inner::both(LAN, 64) {
        let mut packet = router.addressed(plain(inner.ethertype, &inner.arrives));
        let to_stack = Wanted {
            reason: None,
            ..Wanted::kernels(&packet, Reason::RouteOther)
        };
        let routed = router.to_lan(inner.ethertype, &inner.leaves);
        let sent = router.to_lan(inner.ethertype, &inner.arrives);
        for (key, wanted) in [(1, to_stack), (2, routed), (3, sent)] {
            packet.gre.key = Some(key);
            router.check(key, &packet, &wanted)?;
        }
        for key in [4, 5, 6] {
            packet.gre.key = Some(key);
            let run = router.run(&packet.frame(), packet.frame().len())?;
            let hand_over: HandOver = plain::load(&run.frame, 0).context("what is handed over")?;
            ensure!(run.action == XDP_REDIRECT && run.counted.is_empty() && hand_over.tunnel == key);
        }
    }
    Ok(())
}

/// What becomes of a packet with so many bytes in its first buffer, which would be `sent` if all of it lay there that leaves: not what
/// follows the inner packet, nor padding.
fn in_buffers(packet: &Packet, inner: &Inner, first: usize, are_redirected: bool, sent: Wanted) -> Wanted {
    let trailing = packet.payload.len() - inner.arrives.len();
    let lies_in_one = first >= packet.frame().len() - packet.padding.len() - trailing;
    if lies_in_one || are_redirected {
        sent
    } else {
        Wanted::kernels(packet, Reason::RouteOther)
    }
}

/// A kernel before 6.3, which tells no XDP features, redirects no frames in several buffers.
#[test]
fn packets_in_several_buffers() -> Result<()> {
    let mut routing = router_or_return!(ROUTE, &[]);
    let mut delivering = router_or_return!(INTERFACE, &[To::Lan, To::Lan]);
    check_in_buffers(&mut routing, &mut delivering, xdp_features::are_told()?)
}

/// The program for such a kernel, on whichever this is.
#[test]
fn packets_in_several_buffers_stay_with_a_kernel_that_redirects_none() -> Result<()> {
    load_or_return!();
    let lab = Lab::new()?;
    let mut routing = Router::with(&lab, ROUTE, &[], Kernel::load_without_frags_in)?;
    let lab = Lab::new()?;
    let to = [To::Lan, To::Lan];
    let mut delivering = Router::with(&lab, INTERFACE, &to, Kernel::load_without_frags_in)?;
    check_in_buffers(&mut routing, &mut delivering, false)
}

/// Wherever the first buffer ends behind the headers.
fn check_in_buffers(routing: &mut Router, delivering: &mut Router, are_redirected: bool) -> Result<()> {
    const INNER_HEADER: usize = 40;
    if !routing.kernel.can_split()? {
        let missing = "test runs of frames with a first buffer of a given size (Linux 6.18)";
        gre_tests::skip::skip_on_this_kernel(module_path!(), missing);
        return Ok(());
    }
    for length in [100, 1400, 4097, 9001, 60_000] {
        let payload: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        for inner in [
            Inner::v4(&header(LAN, 64), &payload),
            Inner::v6(&header6(LAN, 64), &payload),
        ] {
            for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
                for (trailing, padding) in [(0, 0), (5, 46), (3000, 0), (0, 4000)] {
                    let mut packet = packet.clone();
                    packet.payload.resize(packet.payload.len() + trailing, 0x77);
                    packet.padding = vec![0xee; padding];
                    let headers = packet.payload_offset() + INNER_HEADER;
                    for first in [headers, headers + 1, 600, 3000] {
                        let first = first.clamp(headers, packet.frame().len());
                        let routed = routing.addressed(packet.clone());
                        let sent = routing.to_lan(inner.ethertype, &inner.leaves);
                        let wanted = in_buffers(&routed, &inner, first, are_redirected, sent);
                        routing.check_split(tunnel, &routed, first, &wanted)?;
                        let delivered = delivering.addressed(packet.clone());
                        let sent = delivering.to_lan(inner.ethertype, &inner.arrives);
                        let wanted = in_buffers(&delivered, &inner, first, are_redirected, sent);
                        delivering.check_split(tunnel, &delivered, first, &wanted)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// What was known before the packet was handed over is counted after it.
#[test]
fn a_restarted_sender_is_counted_where_its_packet_is() -> Result<()> {
    let config = ROUTE.replace("\ndeliver", "\nsequence = \"ordered\"\ndeliver");
    let mut router = router_or_return!(&config, &[]);
    for inner in Inner::both(LAN, 64) {
        for (tunnel, mut packet) in everywhere(inner.ethertype, &inner.arrives) {
            packet.gre.sequence = Some(5);
            let packet = router.addressed(packet);
            // Long ago a packet was accepted whose number was higher.
            let cursor = 1 << 32 | 1000;
            router.kernel.set_sequences(SequenceState {
                cursor,
                accepted_at: 0,
                tick: 0,
            })?;
            let run = router.run(&packet.frame(), packet.frame().len())?;
            let counted = Counted::from([
                ((tunnel, Counter::Packets), 1),
                ((tunnel, Counter::Bytes), inner.arrives.len() as u64),
                ((tunnel, Counter::OuterBytes), packet.ip_packet().len() as u64),
                ((tunnel, Counter::of(Reason::SequenceRestart)), 1),
            ]);
            ensure!(
                (run.action, &run.counted) == (XDP_REDIRECT, &counted),
                "{}: {:?}",
                run.action,
                run.counted
            );
        }
    }
    Ok(())
}

/// On the way to another core the frame is as it will be, but for what must be known there, in front; it is counted there.
#[test]
fn spread_packets_are_handed_over() -> Result<()> {
    for (line, deliver) in [
        ("", Deliver::Stack),
        ("deliver = \"route\"", Deliver::Route),
        ("deliver = { interface = \"lan0\" }", Deliver::Interface),
    ] {
        let config = INTERFACE.replace(
            "deliver = { interface = \"lan0\" }",
            &format!("{line}\nspread = \"0\"\nsequence = \"ordered\""),
        );
        let all = ["ipv4", "ipv6", "ethernet", "mpls"]
            .map(|kind| format!("\"{kind}\""))
            .join(", ");
        let config = if deliver == Deliver::Route {
            config.replace(&all, "\"ipv4\", \"ipv6\"")
        } else {
            config
        };
        let mut router = router_or_return!(&config, &[]);
        let mut inners = kinds();
        let frame = Link::default().frame(ETHERTYPE_IPV4, &inners[0].arrives);
        inners.push(Inner {
            ethertype: ETHERTYPE_TEB,
            leaves: frame.clone(),
            arrives: frame,
        });
        if deliver == Deliver::Route {
            inners.truncate(2);
        }
        for inner in inners {
            for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
                for restart in [false, true] {
                    let mut packet = router.addressed(packet.clone());
                    packet.gre.sequence = Some(5);
                    packet.payload.extend_from_slice(&[0x77; 3]);
                    packet.padding = vec![0xee; 46];
                    let cursor = 1 << 32 | if restart { 1000 } else { 5 };
                    router.kernel.set_sequences(SequenceState {
                        cursor,
                        accepted_at: 0,
                        tick: 0,
                    })?;
                    let run = router.run(&packet.frame(), packet.frame().len())?;
                    ensure!(run.action == XDP_REDIRECT, "XDP action {}", run.action);
                    ensure!(run.counted.is_empty(), "counted too early: {:?}", run.counted);

                    let hand_over: HandOver = plain::load(&run.frame, 0).context("what is handed over")?;
                    let is_ethernet = inner.ethertype == ETHERTYPE_TEB;
                    let tags = [VlanTags::None, VlanTags::One, VlanTags::Two][packet.link.tags.len()];
                    let overhead = packet.ip_packet().len() - packet.payload.len();
                    let known = (
                        hand_over.tunnel,
                        hand_over.overhead() as usize,
                        hand_over.deliver(),
                        hand_over.tags(),
                        hand_over.is_ethernet(),
                        hand_over.restart(),
                    );
                    ensure!(
                        known == (tunnel, overhead, deliver, tags, is_ethernet, restart),
                        "{known:?}"
                    );
                    let frame = if is_ethernet {
                        packet.payload.clone()
                    } else {
                        packet.link.frame(inner.ethertype, &packet.payload)
                    };
                    ensure!(run.frame[8..] == frame, "not the decapsulated frame");
                }
            }
        }
    }
    Ok(())
}
