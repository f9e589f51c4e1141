//! `deliver = { interface = … }` as the kernel keeps it for userspace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, bail};
use gre_common::target;

use crate::config::{MacAddress, NextHop};

const NONE: u32 = 0;
const V4: u32 = 4;
const V6: u32 = 6;
const MAC: u32 = 48;

/// An interface and whom frames to it are for, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onward {
    /// The interface's name.
    pub interface: String,
    /// To whom; without, the peer of a veth or the configured gateway.
    pub next_hop: Option<NextHop>,
}

impl Onward {
    pub(super) fn to_record(&self) -> target::NextHop {
        let (kind, address) = match self.next_hop {
            None => (NONE, [0; 16]),
            Some(NextHop::Address(IpAddr::V4(address))) => (V4, padded(&address.octets())),
            Some(NextHop::Address(IpAddr::V6(address))) => (V6, address.octets()),
            Some(NextHop::Mac(mac)) => (MAC, padded(&mac.octets())),
        };
        target::NextHop {
            interface: padded(self.interface.as_bytes()),
            kind,
            address,
        }
    }

    /// # Errors
    ///
    /// If it is what gre-decap never writes.
    pub(super) fn from_record(record: &target::NextHop) -> Result<Self> {
        let name = record.interface.split(|&byte| byte == 0).next().unwrap_or_default();
        let [a, b, c, d, e, f, ..] = record.address;
        let next_hop = match record.kind {
            NONE => None,
            V4 => Some(NextHop::Address(Ipv4Addr::new(a, b, c, d).into())),
            V6 => Some(NextHop::Address(Ipv6Addr::from(record.address).into())),
            MAC => Some(NextHop::Mac(MacAddress::from([a, b, c, d, e, f]))),
            kind => bail!("a next hop of kind {kind}"),
        };
        Ok(Self {
            interface: String::from_utf8(name.to_vec())?,
            next_hop,
        })
    }
}

/// At most 16 bytes, with zeros behind. Interface names are shorter.
fn padded(bytes: &[u8]) -> [u8; 16] {
    let mut padded = [0; 16];
    for (to, from) in padded.iter_mut().zip(bytes) {
        *to = *from;
    }
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_give_back_what_they_were_made_of() {
        let hops = [
            None,
            Some(NextHop::Address([10, 0, 0, 2].into())),
            Some(NextHop::Address("2001:db8::2".parse().unwrap())),
            Some(NextHop::Mac(MacAddress::from([2, 0, 0, 0, 0, 1]))),
        ];
        for next_hop in hops {
            let onward = Onward {
                interface: "fifteen-letters".to_owned(),
                next_hop,
            };
            assert_eq!(Onward::from_record(&onward.to_record()).unwrap(), onward);
        }
    }

    #[test]
    fn what_is_never_written_is_refused() {
        let mut record = Onward {
            interface: "eth1".to_owned(),
            next_hop: None,
        }
        .to_record();
        record.kind = 7;
        assert!(Onward::from_record(&record).is_err());
        record.kind = 0;
        record.interface[0] = 0xff;
        assert!(Onward::from_record(&record).is_err());
    }
}
