//! A tunnel of the configuration.

use crate::config::{Checksum, InnerType, Keepalive, Sequence, Tunnel};

use super::super::facts::Facts;
use super::super::finding::Finding;
use super::super::gre_device::GreDevice;
use super::super::sysctl;
use super::{present, unknown};

/// The MTU of the path that senders count on: with more than that there is room for the outer headers.
const PATH_MTU: u32 = 1500;
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;
const TCP_HEADER: u32 = 20;
const ETHERNET_HEADER: u32 = 14;
const GRE_HEADER: u32 = 4;
/// Each of GRE's optional fields (RFC 2890 section 2).
const GRE_FIELD: u32 = 4;

pub(super) fn judge(tunnel: &Tunnel, facts: &Facts) -> Vec<Finding> {
    let subject = format!("tunnel {}", tunnel.name);
    let mut findings = Vec::new();
    findings.extend(local(&subject, tunnel, facts));
    findings.extend(devices(&subject, tunnel, facts));
    findings.extend(keepalives(&subject, tunnel, facts));
    findings.extend(path_mtu(&subject, tunnel, facts));
    findings
}

fn local(subject: &str, tunnel: &Tunnel, facts: &Facts) -> Option<Finding> {
    let local = tunnel.local;
    match &facts.local {
        Ok(addresses) if addresses.contains(&local) => None,
        Ok(_) => Some(Finding::warning(
            subject,
            format!(
                "`local` {local} is no address of this host: only what a router sends here all the same will arrive"
            ),
            format!(
                "set `local` to the address that the other end sends to, or run `ip address add {local} dev INTERFACE`"
            ),
        )),
        Err(why) => Some(unknown(
            subject,
            &format!("whether `local` {local} is an address of this host"),
            why,
            format!("run `ip route get {local}`"),
        )),
    }
}

fn devices(subject: &str, tunnel: &Tunnel, facts: &Facts) -> Vec<Finding> {
    match &facts.gre_devices {
        Ok(devices) => devices
            .iter()
            .filter(|device| device.shares_packets_with(tunnel))
            .map(|device| {
                let name = &device.name;
                Finding::note(
                    subject,
                    format!(
                        "the kernel's GRE device {name} has these endpoints, and will see none of the packets: nor will \
                         firewall rules, captures and routing sessions on it"
                    ),
                    "move these to the interface that receives the GRE packets",
                )
            })
            .collect(),
        Err(why) => {
            vec![unknown(subject, "whether the kernel has a GRE device with these endpoints", why, "run `ip -details link`")]
        }
    }
}

/// That keepalives, which are left to the kernel, are answered by nobody there.
fn keepalives(subject: &str, tunnel: &Tunnel, facts: &Facts) -> Vec<Finding> {
    if tunnel.keepalive == Keepalive::Reply {
        return Vec::new();
    }
    let devices = facts.gre_devices.as_deref().unwrap_or_default();
    let devices = devices.iter().filter(|device| device.shares_packets_with(tunnel));
    let finding = |device: &GreDevice| match facts.keepalives.get(&device.name)? {
        Ok(lacking) if lacking.is_empty() => None,
        Ok(lacking) => Some(Finding::note(
            subject,
            format!(
                "keepalives are left to the kernel's GRE device {}, which answers none of them",
                device.name
            ),
            format!(
                "if the other end sends keepalives, set `keepalive = \"reply\"`, or run `sysctl -w {}`",
                lacking.join(" ")
            ),
        )),
        Err(why) => Some(unknown(
            subject,
            &format!("whether the kernel's GRE device {} answers keepalives", device.name),
            why,
            format!("run `sysctl {}`", sysctl::name(&device.name, "accept_local")),
        )),
    };
    devices.filter_map(finding).collect()
}

/// What fits into a packet of the path, if the outer headers leave less than senders count on.
fn path_mtu(subject: &str, tunnel: &Tunnel, facts: &Facts) -> Option<Finding> {
    let mtu = present(facts)
        .map(|interface| interface.interface.mtu)
        .min()
        .filter(|&mtu| mtu <= PATH_MTU)?;
    let parts = headers(tunnel);
    let overhead: u32 = parts.iter().map(|(_, bytes)| bytes).sum();
    let room = mtu.saturating_sub(overhead);
    let list: Vec<_> = parts.iter().map(|(part, bytes)| format!("{part} {bytes}")).collect();
    Some(Finding::note(
        subject,
        format!(
            "of MTU {mtu} the outer headers take {overhead} bytes ({}): inner packets of more than {room} come in outer \
             fragments, which go to the kernel as they are",
            list.join(", ")
        ),
        mss_remedy(tunnel, room),
    ))
}

/// What every packet has before its inner header.
fn headers(tunnel: &Tunnel) -> Vec<(&'static str, u32)> {
    let outer = if tunnel.local.is_ipv4() {
        ("IPv4", IPV4_HEADER)
    } else {
        ("IPv6", IPV6_HEADER)
    };
    let mut headers = vec![outer, ("GRE", GRE_HEADER)];
    let fields = [
        ("checksum", tunnel.checksum == Checksum::Required),
        ("key", tunnel.key.is_some()),
        ("sequence", tunnel.sequence == Sequence::Ordered),
    ];
    headers.extend(
        fields
            .into_iter()
            .filter(|(_, there)| *there)
            .map(|(field, _)| (field, GRE_FIELD)),
    );
    headers
}

fn mss_remedy(tunnel: &Tunnel, room: u32) -> String {
    let carries = |kind| tunnel.inner.contains(kind);
    let (ipv4, ipv6) = (carries(InnerType::Ipv4), carries(InnerType::Ipv6));
    let mss = |header: u32| room.saturating_sub(header + TCP_HEADER);
    let (over_ipv4, over_ipv6) = if ipv4 || ipv6 {
        (mss(IPV4_HEADER), mss(IPV6_HEADER))
    } else if carries(InnerType::Ethernet) {
        (mss(IPV4_HEADER + ETHERNET_HEADER), mss(IPV6_HEADER + ETHERNET_HEADER))
    } else {
        return format!("have the other end send at most {room} bytes at a time");
    };
    let values = match (ipv4, ipv6) {
        (true, false) => format!("{over_ipv4}"),
        (false, true) => format!("{over_ipv6}"),
        _ => format!("{over_ipv4} (IPv4) or {over_ipv6} (IPv6)"),
    };
    format!(
        "set `clamp_mss = \"auto\"` on the interface that answers leave by, or have this host's TCP announce an MSS of at most {values}, by \
         `advmss` of ip-route(8)"
    )
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::super::gre_device::Key;
    use super::super::tests::{Case, assert_found, denied, gre1};
    use super::*;

    #[test]
    fn local() {
        assert_found(
            |case| case.facts.local = Ok(["198.51.100.21".parse::<IpAddr>().expect("an address")].into()),
            &[
                "warning: tunnel a: `local` 198.51.100.20 is no address of this host: only what a router sends here all the same \
               will arrive; set `local` to the address that the other end sends to, or run `ip address add 198.51.100.20 dev \
               INTERFACE`",
            ],
        );
        assert_found(
            |case| case.facts.local = Err(denied()),
            &[
                "note: tunnel a: cannot tell whether `local` 198.51.100.20 is an address of this host: Operation not permitted \
               (os error 1); run `ip route get 198.51.100.20`",
            ],
        );
    }

    #[test]
    fn devices() {
        let other = GreDevice {
            key: Key::Is(1),
            ..gre1()
        };
        assert_found(
            |case| case.facts.gre_devices = Ok(vec![other, gre1()]),
            &[
                "note: tunnel a: the kernel's GRE device gre1 has these endpoints, and will see none of the packets: nor will \
               firewall rules, captures and routing sessions on it; move these to the interface that receives the GRE \
               packets",
            ],
        );
        assert_found(
            |case| case.facts.gre_devices = Err(denied()),
            &[
                "note: tunnel a: cannot tell whether the kernel has a GRE device with these endpoints: Operation not permitted \
               (os error 1); run `ip -details link`",
            ],
        );
    }

    #[test]
    fn keepalives() {
        let device = "note: tunnel a: the kernel's GRE device gre1 has these endpoints, and will see none of the packets: nor \
                      will firewall rules, captures and routing sessions on it; move these to the interface that receives the \
                      GRE packets";
        let with = |lacking: anyhow::Result<Vec<String>>| {
            move |case: &mut Case| {
                case.facts.gre_devices = Ok(vec![gre1()]);
                case.facts.keepalives.insert("gre1".to_owned(), lacking);
            }
        };
        let lacking = || {
            Ok(["accept_local=1", "forwarding=1"]
                .map(|parameter| sysctl::name("gre1", parameter))
                .to_vec())
        };
        assert_found(with(Ok(Vec::new())), &[device]);
        assert_found(
            with(lacking()),
            &[
                device,
                "note: tunnel a: keepalives are left to the kernel's GRE device gre1, which answers none of them; if the other \
                 end sends keepalives, set `keepalive = \"reply\"`, or run `sysctl -w net.ipv4.conf.gre1.accept_local=1 net.ipv4.conf.gre1.forwarding=1`",
            ],
        );
        assert_found(
            |case| {
                with(lacking())(case);
                case.config.tunnels[0].keepalive = Keepalive::Reply;
            },
            &[device],
        );
        assert_found(
            with(Err(denied())),
            &[
                device,
                "note: tunnel a: cannot tell whether the kernel's GRE device gre1 answers keepalives: Operation not permitted \
                 (os error 1); run `sysctl net.ipv4.conf.gre1.accept_local`",
            ],
        );
    }

    #[test]
    fn path_mtu() {
        let spoil = |mtu: u32, edit: fn(&mut Tunnel)| {
            move |case: &mut Case| {
                case.eth0().interface.mtu = mtu;
                edit(&mut case.config.tunnels[0]);
                case.facts.local = Ok([case.config.tunnels[0].local].into());
            }
        };
        assert_found(spoil(1501, |_| {}), &[]);
        assert_found(
            spoil(1500, |_| {}),
            &[
                "note: tunnel a: of MTU 1500 the outer headers take 24 bytes (IPv4 20, GRE 4): inner packets of more than 1476 \
               come in outer fragments, which go to the kernel as they are; set `clamp_mss = \"auto\"` on the \
               interface that answers leave by, or have this host's TCP announce an MSS of at most \
               1436 (IPv4) or 1416 (IPv6), by `advmss` of ip-route(8)",
            ],
        );
        assert_found(
            spoil(1500, |tunnel| {
                tunnel.local = "2001:db8::20".parse().expect("an address");
                tunnel.remotes = vec!["2001:db8::10/128".parse().expect("a prefix")];
                tunnel.key = Some(0);
                tunnel.checksum = Checksum::Required;
                tunnel.sequence = Sequence::Ordered;
                tunnel.inner = [InnerType::Ipv6].into_iter().collect();
            }),
            &[
                "note: tunnel a: of MTU 1500 the outer headers take 56 bytes (IPv6 40, GRE 4, checksum 4, key 4, sequence 4): \
               inner packets of more than 1444 come in outer fragments, which go to the kernel as they are; set `clamp_mss = \"auto\"` on the \
               interface that answers leave by, or have this host's TCP announce an MSS of at most 1384, by `advmss` of ip-route(8)",
            ],
        );
        assert_found(
            spoil(1400, |tunnel| {
                tunnel.inner = [InnerType::Ethernet].into_iter().collect()
            }),
            &[
                "note: tunnel a: of MTU 1400 the outer headers take 24 bytes (IPv4 20, GRE 4): inner packets of more than 1376 \
               come in outer fragments, which go to the kernel as they are; set `clamp_mss = \"auto\"` on the \
               interface that answers leave by, or have this host's TCP announce an MSS of at most \
               1322 (IPv4) or 1302 (IPv6), by `advmss` of ip-route(8)",
            ],
        );
        assert_found(
            spoil(1500, |tunnel| tunnel.inner = [InnerType::Mpls].into_iter().collect()),
            &[
                "note: tunnel a: of MTU 1500 the outer headers take 24 bytes (IPv4 20, GRE 4): inner packets of more than 1476 \
               come in outer fragments, which go to the kernel as they are; have the other end send at most 1476 bytes at a \
               time",
            ],
        );
    }

    #[test]
    fn an_mtu_smaller_than_the_headers_leaves_no_room() {
        assert_eq!(
            mss_remedy(&Case::good().config.tunnels[0], 30),
            mss_remedy(&Case::good().config.tunnels[0], 0)
        );
    }
}
