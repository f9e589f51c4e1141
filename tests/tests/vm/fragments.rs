//! Outer fragments, which the kernel makes where a tunnel may ignore the path's MTU. Our program leaves them to the origin's
//! kernel (row 2), which reassembles them and has a use for the whole only if it has a GRE device too.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::device::{DEVICE, Device};
use crate::site::{CENTRE_V4, INNER_ORIGIN, ORIGIN_V4, Site, Wire};

/// Makes packets longer than the wire takes, and lets them be fragmented.
const FRAGMENTING: Device = Device {
    kind: "gre",
    options: "ttl 64 nopmtudisc ignore-df",
};
/// Too long for the wire's MTU of 1,500 with GRE around it.
const LONG: u16 = 1900;

#[test]
fn outer_fragments_go_to_the_origins_own_device() -> Result<()> {
    let site = Site::new("outer_fragments_go_to_the_origins_own_device", Wire::Veth)?;
    site.join(FRAGMENTING)?;
    site.centre.ip(&format!("link set dev {DEVICE} mtu 2000"))?;
    let origin = INNER_ORIGIN[0].parse()?;
    site.centre.ping(origin, 56).context("a short one")?;

    let unanswered = site.centre.send_ping(origin, LONG)?;
    let fragments = |wanted| {
        crate::site::wait_until("the fragments are counted", || {
            Ok(site.counted()?.1["outer_fragment"].as_u64() == Some(wanted))
        })
    };
    fragments(2)?;
    ensure!(
        unanswered.reply(Duration::from_millis(200))?.is_none(),
        "answered, though nobody decapsulates what is reassembled"
    );

    site.origin.ip(&format!(
        "link add name {DEVICE} type gre local {ORIGIN_V4} remote {CENTRE_V4} ttl 64"
    ))?;
    site.origin.ip(&format!("link set dev {DEVICE} addrgenmode none up"))?;
    site.centre
        .ping(origin, LONG)
        .context("a long one, with a device at the origin")?;
    fragments(4)?;
    // What is whole is still ours: the device sees none of it.
    let (before, _) = site.counted()?;
    site.centre
        .ping(origin, 56)
        .context("a short one, with a device at the origin")?;
    ensure!(site.counted()?.0 == before + 1, "a whole packet went by our program");
    site.part(FRAGMENTING)
}
