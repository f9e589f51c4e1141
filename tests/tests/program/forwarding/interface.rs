//! To an interface, without a look-up of routes.

use super::*;

#[test]
fn to_an_interface_packets_leave_as_they_are() -> Result<()> {
    let mut router = router_or_return!(INTERFACE, &[To::Lan, To::Lan]);
    let mut inners = forwardable();
    // No route is looked up, no hop is counted, and nothing is looked at closely.
    for ttl in [0, 1] {
        inners.extend(Inner::both(LAN, ttl));
    }
    inners.extend(DENIED.into_iter().flat_map(|network| Inner::both(network, 64)));
    let options = Ipv4 {
        options: vec![1; 4],
        ..header(LAN, 64)
    };
    inners.push(Inner::v4(&options, &udp4()));
    let martian = Ipv4 {
        source: Ipv4Addr::LOCALHOST,
        ..header(LAN, 64)
    };
    inners.push(Inner::v4(&martian, &udp4()));
    for inner in inners {
        let wanted = router.to_lan(inner.ethertype, &inner.arrives);
        for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
            for (trailing, padding) in [(0, 0), (5, 0), (0, 46), (7, 300)] {
                let mut packet = router.addressed(packet.clone());
                packet.payload.resize(packet.payload.len() + trailing, 0x77);
                packet.padding = vec![0xee; padding];
                router.check(tunnel, &packet, &wanted)?;
            }
        }
    }
    Ok(())
}

/// An inner frame leaves as it is, whatever is in it. An MPLS packet has no length of its own.
#[test]
fn to_an_interface_frames_and_labels_leave_too() -> Result<()> {
    let mut router = router_or_return!(INTERFACE, &[To::Lan, To::Lan]);
    let inner_link = Link {
        destination: [0x02, 0, 0, 0, 0xcc, 1],
        source: [0x02, 0, 0, 0, 0xcc, 2],
        tags: Vec::new(),
    };
    let [v4, v6] = Inner::both(LAN, 64);
    let frames = [
        inner_link.frame(ETHERTYPE_IPV4, &v4.arrives),
        inner_link.clone().tagged(0x8100, 9).frame(ETHERTYPE_IPV6, &v6.arrives),
        inner_link.frame(ETHERTYPE_ARP, &[7; 46]),
        inner_link.frame(ETHERTYPE_ARP, &[]),
    ];
    for frame in frames {
        for (tunnel, packet) in everywhere(ETHERTYPE_TEB, &frame) {
            let mut packet = router.addressed(packet);
            packet.padding = vec![0xee; 46];
            let wanted = Wanted {
                frame: frame.clone(),
                ..router.to_lan(ETHERTYPE_TEB, &[])
            };
            router.check(tunnel, &packet, &wanted)?;
        }
    }
    for payload in [
        vec![0, 1, 1, 64],
        [&[0, 1, 1, 64][..], &v4.arrives, &[0x77; 9]].concat(),
    ] {
        let wanted = router.to_lan(ETHERTYPE_MPLS, &payload);
        for (tunnel, packet) in everywhere(ETHERTYPE_MPLS, &payload) {
            let mut packet = router.addressed(packet);
            packet.padding = vec![0xee; 46];
            router.check(tunnel, &packet, &wanted)?;
        }
    }
    Ok(())
}

#[test]
fn to_an_interface_that_cannot_be_reached_now() -> Result<()> {
    for (to, reason) in [
        ([To::Nobody, To::Nobody], Reason::RouteNoNeighbour),
        ([To::Nowhere, To::Nowhere], Reason::RouteNoNeighbour),
        ([To::Deaf, To::Deaf], Reason::RouteOther),
    ] {
        let mut router = router_or_return!(INTERFACE, &to);
        for inner in kinds() {
            router.leaves_to_kernel(&inner, reason)?;
        }
        let frame = Link::default().frame(ETHERTYPE_IPV4, &kinds()[0].arrives);
        for (tunnel, packet) in everywhere(ETHERTYPE_TEB, &frame) {
            let packet = router.addressed(packet);
            let mut wanted = Wanted {
                frame: frame.clone(),
                reason: Some(reason),
                ..Wanted::kernels(&packet, reason)
            };
            // Such a frame needs no next hop.
            if let [To::Nobody, _] = to {
                wanted = Wanted {
                    frame: frame.clone(),
                    ..router.to_lan(ETHERTYPE_TEB, &[])
                };
            }
            router.check(tunnel, &packet, &wanted)?;
        }
    }
    Ok(())
}

#[test]
fn to_the_interface_that_it_came_from() -> Result<()> {
    let mut router = router_or_return!(INTERFACE, &[To::Back, To::Back]);
    for inner in kinds() {
        let wanted = router.back(inner.ethertype, &inner.arrives);
        for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
            let packet = router.addressed(packet);
            router.check(tunnel, &packet, &wanted)?;
        }
    }
    let frame = Link::default().frame(ETHERTYPE_IPV4, &kinds()[0].arrives);
    let packet = router.addressed(plain(ETHERTYPE_TEB, &frame));
    let wanted = Wanted {
        frame,
        ..router.back(ETHERTYPE_TEB, &[])
    };
    router.check(1, &packet, &wanted)
}

/// Trap 23: what promiscuous mode and flooding bring in is not forwarded, nor changed.
#[test]
fn frames_for_others_are_not_forwarded() -> Result<()> {
    for (config, to) in [(ROUTE, &[][..]), (INTERFACE, &[To::Lan, To::Lan])] {
        let mut router = router_or_return!(config, to);
        let own = router.wan.mac;
        let mut near = own;
        near[5] ^= 1;
        for inner in Inner::both(LAN, 64) {
            for (tunnel, mut packet) in everywhere(inner.ethertype, &inner.arrives) {
                for mac in [
                    near,
                    router.lan.mac,
                    [0xff; 6],
                    [1, 0, 0x5e, 0, 0, 1],
                    [0x33, 0x33, 0, 0, 0, 1],
                ] {
                    packet.link.destination = mac;
                    router.check(tunnel, &packet, &Wanted::passed(&packet, Reason::OtherHost))?;
                }
            }
            router.sends(&if config == ROUTE {
                inner
            } else {
                Inner {
                    leaves: inner.arrives.clone(),
                    ..inner
                }
            })?;
        }
    }
    Ok(())
}
