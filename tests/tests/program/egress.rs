//! The program on the way out: the fixtures of the MSS, as packets that leave instead of packets that arrive.

use anyhow::{Context, Result, ensure};
use gre_tests::fixtures::{self, Expect};
use gre_tests::skip::say;

use crate::kernel::{Kernel, load_or_return};
use crate::support::outcome::hex;

/// Any verdict of other programs and the interface (`TC_ACT_UNSPEC`, `TCX_NEXT`).
const NEXT: u32 = u32::MAX;
/// The limit of the fixtures' tunnels.
const LIMIT: u16 = 1400;

/// Where the fixtures' packets come from is protected.
const PROTECTED: &str = r#"
[protect]
prefixes = ["198.18.5.0/24", "2001:db8:5::/48"]
"#;
/// Where they go to is.
const OTHERS: &str = r#"
[protect]
prefixes = ["192.0.2.0/24", "2001:db8:2::/48"]
"#;

/// A frame as it leaves, and as it must become.
struct Leaving {
    name: String,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// The packets of the fixtures as they would leave without a tunnel.
fn leaving() -> Result<Vec<Leaving>> {
    let mut all = Vec::new();
    for fixture in fixtures::all() {
        // One is about tunnels, of which there are none here, and one about what is within other headers than IP's.
        let of_ip = !fixture.name.contains("other_tunnel") && !fixture.name.contains("no_ip");
        if !fixture.name.starts_with("mss_") || !of_ip {
            continue;
        }
        for step in &fixture.steps {
            let Expect::Deliver {
                frame,
                inner_bytes,
                outer_bytes,
                ..
            } = &step.expect
            else {
                continue;
            };
            let (inner, outer) = (*inner_bytes as usize, *outer_bytes as usize);
            let link = frame.len() - inner;
            let payload = step.frame.get(link + outer - inner..link + outer);
            let payload = payload.with_context(|| format!("{}: no payload", fixture.name))?;
            all.push(Leaving {
                name: fixture.name.clone(),
                before: [&frame[..link], payload].concat(),
                after: frame.clone(),
            });
        }
    }
    Ok(all)
}

#[test]
fn every_fixture_of_the_mss_leaves_as_expected() -> Result<()> {
    load_or_return!();
    let mut kernel = Kernel::load(PROTECTED)?;
    kernel.load_egress(LIMIT)?;
    let all = leaving()?;
    let mut expected = 0;
    for Leaving { name, before, after } in &all {
        expected += u64::from(before != after);
        let (verdict, out, counted) = kernel.run_egress(before).with_context(|| name.clone())?;
        ensure!(
            verdict == NEXT && out == *after && counted == expected,
            "{name}: {} became {}, not {}; verdict {verdict}, {counted} counted, not {expected}",
            hex(before),
            hex(&out),
            hex(after)
        );
    }
    ensure!(
        expected > 100 && expected < all.len() as u64,
        "{expected} of {}",
        all.len()
    );
    say(&format!(
        "{} packets left, the MSS of {expected} was lowered",
        all.len()
    ));
    Ok(())
}

#[test]
fn what_is_not_protected_leaves_as_it_is() -> Result<()> {
    load_or_return!();
    let mut kernel = Kernel::load(OTHERS)?;
    kernel.load_egress(LIMIT)?;
    for Leaving { name, before, .. } in leaving()? {
        let (verdict, out, counted) = kernel.run_egress(&before).with_context(|| name.clone())?;
        ensure!(
            verdict == NEXT && out == before && counted == 0,
            "{name}: {}",
            hex(&out)
        );
    }
    Ok(())
}

/// However many interfaces have come and gone, each with an index of its own.
#[test]
fn interfaces_that_are_gone_make_room_for_others_to_count() -> Result<()> {
    load_or_return!();
    let mut kernel = Kernel::load(PROTECTED)?;
    kernel.load_egress(LIMIT)?;
    kernel.fill_egress_counts()?;
    let all = leaving()?;
    let mut expected = 0;
    for Leaving { name, before, after } in all.iter().take(50) {
        expected += u64::from(before != after);
        let (_, _, counted) = kernel.run_egress(before).with_context(|| name.clone())?;
        ensure!(counted == expected, "{name}: {counted} counted, not {expected}");
    }
    ensure!(expected > 0, "nothing was lowered");
    Ok(())
}

/// No larger than the limit of the verifier's that the other programs keep to, by far.
#[test]
fn the_way_out_verifies_with_room_to_spare() -> Result<()> {
    load_or_return!();
    const MOST_VERIFIED: u32 = 50_000;
    let mut kernel = Kernel::load(PROTECTED)?;
    kernel.load_egress(LIMIT)?;
    let infos = kernel.infos()?;
    let info = infos.get("gre_egress").context("it is loaded")?;
    let verified = info.verified_instruction_count().context("how much was verified")?;
    ensure!(verified < MOST_VERIFIED, "{verified} instructions");
    say(&format!("instructions verified for ways out: {verified}"));
    Ok(())
}
