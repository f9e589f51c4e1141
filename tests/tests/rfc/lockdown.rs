//! Lockdown: what came by no tunnel, and whom it is for.

use std::net::IpAddr;

use gre_user::config::{Config, Guard};

use super::headers::ether_type;
use super::{Refusal, begins_alike, take};

/// What would pass without having come by a tunnel is stopped, or only noted, if it is for what is protected.
pub(super) fn judge(config: &Config, frame: &[u8], refusal: Refusal) -> Refusal {
    let came_by_none = matches!(refusal, Refusal::NotOurs | Refusal::Because(0, _, true));
    let passes = match config.protect.lockdown {
        Guard::Off => return refusal,
        Guard::Monitor => true,
        Guard::Enforce => false,
    };
    if came_by_none && is_closed(config, frame).unwrap_or(false) {
        Refusal::Because(0, "lockdown", passes)
    } else {
        refusal
    }
}

/// Whether the destination is protected and the source not allowed. None: it is no IP packet.
fn is_closed(config: &Config, frame: &[u8]) -> Option<bool> {
    let mut rest = frame;
    take(&mut rest, 12)?;
    let (source, destination): (IpAddr, IpAddr) = match ether_type(&mut rest, 2)? {
        0x0800 => {
            let header = rest.get(..20)?;
            let address = |place| <[u8; 4]>::try_from(&header[place..place + 4]).ok();
            (address(12)?.into(), address(16)?.into())
        }
        0x86dd => {
            let header = rest.get(..40)?;
            let address = |place| <[u8; 16]>::try_from(&header[place..place + 16]).ok();
            // Neighbour discovery (RFC 4861 sections 4 and 7.1) is of the link, which no tunnel is.
            let kind = rest.get(40).copied().unwrap_or(0);
            if header[6] == 58 && header[7] == 255 && (133..=137).contains(&kind) {
                return Some(false);
            }
            (address(8)?.into(), address(24)?.into())
        }
        _ => return None,
    };
    let protect = &config.protect;
    let mut protected = protect.prefixes.iter();
    let is_protected = protected.any(|prefix| begins_alike(destination, prefix.addr(), prefix.prefix_len()));
    let mut allowed = protect.allow.iter();
    let is_allowed = allowed.any(|prefix| begins_alike(source, prefix.addr(), prefix.prefix_len()));
    Some(is_protected && !is_allowed)
}
