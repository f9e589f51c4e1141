//! The kernel's GRE sends, our program receives.

use std::net::IpAddr;

use anyhow::{Context, Result};
use gre_tests::skip::say;

use crate::device::{DEVICES, Device, FEW};
use crate::site::{INNER_ORIGIN, Site, Wire};
use crate::traffic::{ping, tcp, udp};

/// Past the tunnel's MTU of at most 1,476, where the sender fragments inside, and past the wire's own.
const LONGEST_DATAGRAM: usize = 1600;

#[test]
fn every_device_over_veth() -> Result<()> {
    each("every_device_over_veth", Wire::Veth, &DEVICES)
}

#[test]
fn few_devices_in_generic_mode() -> Result<()> {
    each("few_devices_in_generic_mode", Wire::Generic, &FEW)
}

#[test]
fn few_devices_over_virtio_net() -> Result<()> {
    each("few_devices_over_virtio_net", Wire::Virtio, &FEW)
}

#[test]
fn datagrams_of_every_size() -> Result<()> {
    let site = Site::new("datagrams_of_every_size", Wire::Veth)?;
    for device in FEW {
        site.join(device)?;
        let family = usize::from(device.is_v6());
        // The other family inside than outside.
        let address: IpAddr = INNER_ORIGIN[1 - family].parse()?;
        udp(&site.centre, &site.origin, address, 0..=LONGEST_DATAGRAM).with_context(|| format!("{device}"))?;
        site.check_counts(device).with_context(|| format!("{device}"))?;
        site.part(device)?;
    }
    Ok(())
}

fn each(test: &str, wire: Wire, devices: &[Device]) -> Result<()> {
    let site = Site::new(test, wire)?;
    for device in devices {
        exchange(&site, *device).with_context(|| format!("{device}"))?;
    }
    say(&format!("{} devices, {wire:?}", devices.len()));
    Ok(())
}

/// All kinds of traffic, in both families, each packet of which must be counted.
fn exchange(site: &Site, device: Device) -> Result<()> {
    site.join(device)?;
    for address in INNER_ORIGIN {
        let address: IpAddr = address.parse()?;
        ping(&site.centre, address)?;
        tcp(&site.centre, &site.origin, address, 100_000).with_context(|| format!("TCP to {address}"))?;
        // The ends, the tunnel's MTU and its neighbours, whatever the headers, and some between.
        let lengths = (0..64)
            .chain((64..1380).step_by(97))
            .chain(1380..1500)
            .chain([LONGEST_DATAGRAM, 4000]);
        udp(&site.centre, &site.origin, address, lengths).with_context(|| format!("UDP to {address}"))?;
    }
    site.check_counts(device)?;
    site.part(device)
}
