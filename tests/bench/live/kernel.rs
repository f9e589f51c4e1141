//! The same frames to the kernel's own GRE receiver and to our program, on the same kernel. For `cargo xtask bench --kernel`, in a
//! virtual machine whose clock counts instructions: there a nanosecond is one.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use gre_tests::figures::kernel::{Case, Fate, Line, Receiver, Way};

use super::injector::{Injector, Then};
use super::site::{Counts, End, Site};
use crate::complexity;
use crate::datapath::{LOOPBACK, Loaded};
use crate::shapes;

/// Frames of one measurement.
const FRAMES: u32 = 4096;
/// Measurements of each case.
const SAMPLES: usize = 5;

/// What a packet of this fate is addressed to.
fn end_of(fate: Fate) -> End {
    match fate {
        Fate::Untouched | Fate::Blackhole | Fate::Dropped => End::Nowhere,
        Fate::Socket => End::Socket,
        Fate::Forwarded | Fate::ToInterface | Fate::ByRoute => End::Behind,
    }
}

/// What is to be counted for so many frames.
fn expected(way: Way, receiver: Receiver, fate: Fate, frames: u64) -> Counts {
    let stack = match (fate, receiver) {
        (Fate::Untouched | Fate::ToInterface | Fate::ByRoute, _) | (Fate::Dropped, Receiver::Ours) => 0,
        (Fate::Dropped, _) => frames,
        (_, Receiver::Kernel) => 2 * frames,
        _ => frames,
    };
    let when = |is_so| if is_so { frames } else { 0 };
    let is_refused = fate == Fate::Dropped && receiver == Receiver::Ours;
    Counts {
        stack,
        device: when(receiver == Receiver::Kernel && fate != Fate::Untouched),
        decapsulated: when(receiver == Receiver::Ours && !is_refused),
        refused: when(is_refused),
        left: when(end_of(fate) == End::Behind),
        came: when(way == Way::Driver),
    }
}

/// The program of `gre-ebpf/bench` that does no more than this takes.
fn floor(receiver: Receiver, fate: Fate) -> Result<&'static str> {
    Ok(match (receiver, fate) {
        (Receiver::Strip, Fate::Blackhole) => "strip",
        (Receiver::StripCounted, Fate::Blackhole) => "strip_counted",
        (Receiver::Strip, Fate::ToInterface) => "strip_redirected",
        (Receiver::Strip, Fate::ByRoute) => "strip_routed",
        _ => bail!("there is no floor for {receiver:?}, {fate:?}"),
    })
}

/// Shapes whose programs are judged.
const JUDGED: [&str; 4] = ["plain", "route", "interface", "spread"];

/// Measures all cases, and writes each as a [`Line`] of JSON.
pub(crate) fn compare() -> Result<()> {
    let binary = PathBuf::from(env::var_os("GRE_DECAP_BINARY").context("GRE_DECAP_BINARY is not set")?);
    let site = Site::new(binary.clone(), 1)?;
    let host = Host(&site);
    {
        let _sink = site.attach("sink")?;
        host.measure(Way::Step, Receiver::Nobody, Fate::Untouched)?;
        host.measure(Way::Driver, Receiver::Nobody, Fate::Untouched)?;
    }
    for receiver in [Receiver::Nobody, Receiver::Kernel] {
        if receiver == Receiver::Kernel {
            site.add_device()?;
        }
        let fates = [Fate::Blackhole, Fate::Socket, Fate::Forwarded];
        {
            // Frames can only be said to have come in by a veth on which XDP is on.
            let _xdp = site.attach("empty")?;
            for fate in fates {
                host.measure(Way::Step, receiver, fate)?;
            }
            if receiver == Receiver::Nobody {
                host.measure(Way::Step, Receiver::StripCounted, Fate::Blackhole)?;
                for fate in [Fate::Blackhole, Fate::ToInterface, Fate::ByRoute] {
                    host.measure(Way::Step, Receiver::Strip, fate)?;
                }
            }
        }
        for fate in fates {
            host.measure(Way::Driver, receiver, fate)?;
        }
    }
    let _sink = site.drop_behind_device()?;
    host.measure(Way::Driver, Receiver::Kernel, Fate::Dropped)?;
    {
        let _xdp = site.attach("empty")?;
        host.measure(Way::Step, Receiver::Kernel, Fate::Dropped)?;
    }
    drop(site);

    let site = Site::new(binary, 1)?;
    let host = Host(&site);
    let protected = "[protect]\nprefixes = [\"192.0.2.128/25\"]\ninner_destinations = \"enforce\"";
    for (fates, tunnel, more) in [
        (&[Fate::Blackhole, Fate::Socket, Fate::Forwarded][..], "", ""),
        (&[Fate::ByRoute], "deliver = \"route\"", ""),
        (
            &[Fate::ToInterface],
            "deliver = { interface = \"lan0\", next_hop = \"NEXT_HOP\" }",
            "",
        ),
        (&[Fate::Dropped], "", protected),
    ] {
        site.load(tunnel, more)?;
        for fate in fates {
            for way in [Way::Step, Way::Driver] {
                host.measure(way, Receiver::Ours, *fate)?;
            }
        }
        site.unload()?;
    }
    Ok(())
}

/// Tells of the programs that packets of these cases meet. (All others take an emulated machine too long: `--count` has them.)
pub(crate) fn judge() -> Result<()> {
    for shape in shapes::all()?
        .iter()
        .filter(|shape| JUDGED.contains(&shape.name.as_str()))
    {
        eprintln!("programs for {}", shape.name);
        let loaded = Loaded::load(shape).with_context(|| format!("load for {}", shape.name))?;
        for program in complexity::of(shape, &loaded)? {
            write(&Line::Program(program))?;
        }
    }
    Ok(())
}

fn write(line: &Line) -> Result<()> {
    println!("{}", serde_json::to_string(line)?);
    Ok(())
}

struct Host<'a>(&'a Site);

impl Host<'_> {
    fn measure(&self, way: Way, receiver: Receiver, fate: Fate) -> Result<()> {
        eprintln!("{way:?}, {receiver:?}, {fate:?}");
        let instructions = self.samples(way, receiver, fate);
        let case = Case {
            way,
            receiver,
            fate,
            instructions: instructions.with_context(|| format!("{way:?}, {receiver:?}, {fate:?}"))?,
        };
        write(&Line::Case(case))
    }

    fn samples(&self, way: Way, receiver: Receiver, fate: Fate) -> Result<Vec<u32>> {
        let Self(site) = self;
        let end = end_of(fate);
        let frame = if receiver == Receiver::Nobody && fate != Fate::Untouched {
            site.bare(end)
        } else {
            site.in_gre(end)
        };
        let (from, interface, then) = match (way, receiver) {
            (Way::Driver, _) => (&site.net, LOOPBACK, Then::Leave(site.net_end.index)),
            (Way::Step, _) if fate == Fate::Untouched => (&site.host, site.wan.index, Then::Drop),
            (Way::Step, Receiver::Strip | Receiver::StripCounted) => {
                let floor = Then::MeetFloor(floor(receiver, fate)?, site.lan.index);
                (&site.host, site.wan.index, floor)
            }
            (Way::Step, Receiver::Ours) => (&site.host, site.wan.index, Then::Meet(site.program_id()?)),
            (Way::Step, _) => (&site.host, site.wan.index, Then::Pass),
        };
        let mut injector = Injector::new(frame.bytes, then, frame.inner_at, 0)?;
        let mut samples = Vec::new();
        // The first warms up.
        for sample in 0..=SAMPLES {
            let before = site.counts(receiver)?;
            let took = from.run(|| injector.send(FRAMES, interface))?;
            let counted = site.counts(receiver)?.since(before);
            let received = site.drain()?;
            let expected = expected(way, receiver, fate, FRAMES.into());
            ensure!(counted == expected, "{counted:?} of {FRAMES} frames, not {expected:?}");
            let in_socket = if end == End::Socket { u64::from(FRAMES) } else { 0 };
            ensure!(
                received == in_socket,
                "{received} of {FRAMES} frames came to the socket"
            );
            if sample > 0 {
                samples.push(u32::try_from(took.as_nanos())?);
            }
        }
        Ok(samples)
    }
}
