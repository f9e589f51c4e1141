//! A packet that a tunnel takes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use etherparse::{
    EtherType, Ethernet2Header, IpHeaders, IpNumber, Ipv4Header, Ipv6Header, PacketBuilder, PacketBuilderStep,
};
use gre_common::checksum;
use gre_common::endian::Be32;
use gre_common::link::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, ETHER_TYPE_MPLS_UNICAST, ETHER_TYPE_TEB};
use gre_common::tunnel::{ChecksumPolicy, InnerTypes, Policy};

use crate::config::Config;

/// The MAC address that the packets are for: a locally administered one.
pub(super) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Sources of inner packets, of the prefixes for documentation (RFC 5737, RFC 3849).
const SOURCE4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SOURCE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// IEEE 802 local experimental EtherType 1.
const EXPERIMENTAL: EtherType = EtherType(0x88b5);
/// The payload of the shortest Ethernet frame, without frame check sequence.
const SHORTEST: usize = 46;
/// One entry of a label stack (RFC 3032): label 16, the last of the stack, TTL 64.
const LABEL: [u8; 4] = (16_u32 << 12 | 1 << 8 | 64).to_be_bytes();

const GRE_CHECKSUM: u8 = 0x80;
const GRE_KEY: u8 = 0x20;
const TTL: u8 = 64;

/// A frame with a packet of a tunnel.
pub(super) struct Packet {
    pub(super) local: IpAddr,
    pub(super) remote: IpAddr,
    pub(super) bytes: Vec<u8>,
}

impl Packet {
    /// One between these endpoints, with an inner packet of the first type that the tunnel may carry.
    pub(super) fn new(
        config: &Config,
        (local, remote): (IpAddr, IpAddr),
        key: Option<Be32>,
        policy: Policy,
    ) -> Result<Self> {
        let (protocol, inner) = inner(config, policy.inner())?;
        let gre = gre(protocol, key, policy.checksum(), &inner);
        let (ether_type, header) = outer(local, remote, gre.len());
        let link = Ethernet2Header {
            source: SENDER,
            destination: MAC,
            ether_type,
        };
        Ok(Self {
            local,
            remote,
            bytes: [&link.to_bytes()[..], &header, &gre].concat(),
        })
    }
}

/// An outer header for so many bytes.
fn outer(local: IpAddr, remote: IpAddr, payload: usize) -> (EtherType, Vec<u8>) {
    // Some hundred bytes at most.
    let length = payload as u16;
    match (local, remote) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            let mut header = Ipv4Header {
                total_len: Ipv4Header::MIN_LEN_U16 + length,
                time_to_live: TTL,
                protocol: IpNumber::GRE,
                source: remote.octets(),
                destination: local.octets(),
                ..Ipv4Header::default()
            };
            header.header_checksum = header.calc_header_checksum();
            (EtherType::IPV4, header.to_bytes().to_vec())
        }
        (local, remote) => {
            let v6 = |address| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            let header = Ipv6Header {
                payload_length: length,
                next_header: IpNumber::GRE,
                hop_limit: TTL,
                source: v6(remote).octets(),
                destination: v6(local).octets(),
                ..Ipv6Header::default()
            };
            (EtherType::IPV6, header.to_bytes().to_vec())
        }
    }
}

/// A GRE packet (RFC 2784, RFC 2890).
fn gre(protocol: [u8; 2], key: Option<Be32>, policy: ChecksumPolicy, payload: &[u8]) -> Vec<u8> {
    let has_checksum = policy == ChecksumPolicy::Required;
    let mut flags = 0;
    let mut optional = Vec::new();
    if has_checksum {
        flags |= GRE_CHECKSUM;
        optional.extend([0; 4]);
    }
    if let Some(key) = key {
        flags |= GRE_KEY;
        optional.extend(key.to_bytes());
    }
    let mut packet = [&[flags, 0], &protocol[..], &optional, payload].concat();
    if has_checksum {
        let sum = !checksum::sum(&packet);
        packet[4..6].copy_from_slice(&sum.to_ne_bytes());
    }
    packet
}

/// The GRE protocol type and the payload.
fn inner(config: &Config, types: InnerTypes) -> Result<([u8; 2], Vec<u8>)> {
    Ok(if types.contains(InnerTypes::IPV4) {
        (ETHER_TYPE_IPV4.to_bytes(), ipv4(config)?)
    } else if types.contains(InnerTypes::IPV6) {
        (ETHER_TYPE_IPV6.to_bytes(), ipv6(config)?)
    } else if types.contains(InnerTypes::ETHERNET) {
        let link = Ethernet2Header {
            source: SENDER,
            destination: MAC,
            ether_type: EXPERIMENTAL,
        };
        let frame = [&link.to_bytes()[..], &[0; SHORTEST]].concat();
        (ETHER_TYPE_TEB.to_bytes(), frame)
    } else {
        let packet = [&LABEL[..], &ipv4(config)?].concat();
        (ETHER_TYPE_MPLS_UNICAST.to_bytes(), packet)
    })
}

fn ipv4(config: &Config) -> Result<Vec<u8>> {
    let protected = config.protect.prefixes.iter().find_map(|prefix| match prefix.addr() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    // Whatever the routes are, this is the host itself.
    let destination = protected.unwrap_or(Ipv4Addr::LOCALHOST);
    udp(PacketBuilder::ipv4(SOURCE4.octets(), destination.octets(), TTL))
}

fn ipv6(config: &Config) -> Result<Vec<u8>> {
    let protected = config.protect.prefixes.iter().find_map(|prefix| match prefix.addr() {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    });
    let destination = protected.unwrap_or(Ipv6Addr::LOCALHOST);
    udp(PacketBuilder::ipv6(SOURCE6.octets(), destination.octets(), TTL))
}

/// An empty datagram (RFC 768) to the discard port.
fn udp(ip: PacketBuilderStep<IpHeaders>) -> Result<Vec<u8>> {
    const DISCARD: u16 = 9;
    let mut packet = Vec::new();
    let written = ip.udp(DISCARD, DISCARD).write(&mut packet, &[]);
    written.context("a packet to try the program with cannot be made")?;
    Ok(packet)
}
