//! Programs of `gre-ebpf/bench`, attached for as long as what is returned lives.

use anyhow::{Context, Result};
use aya::programs::tc::TcAttachType;
use aya::programs::xdp::XdpMode;
use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};

use crate::harness::object;

/// Attaches a TC program of these constants to one side of an interface of the caller's network namespace.
pub(super) fn attach_tc(mut loader: EbpfLoader<'_>, name: &str, interface: &str, side: TcAttachType) -> Result<Ebpf> {
    let mut ebpf = loader.load(&object()?).context("load the benchmark's object")?;
    let program = ebpf.program_mut(name).with_context(|| format!("program {name}"))?;
    let program: &mut SchedClassifier = program.try_into()?;
    program.load().with_context(|| format!("load {name}"))?;
    program
        .attach(interface, side)
        .with_context(|| format!("attach {name} to {interface}"))?;
    Ok(ebpf)
}

/// Attaches an XDP program to an interface's driver.
pub(super) fn attach_xdp(name: &str, interface: &str) -> Result<Ebpf> {
    let mut ebpf = EbpfLoader::new()
        .load(&object()?)
        .context("load the benchmark's object")?;
    let program: &mut Xdp = ebpf
        .program_mut(name)
        .with_context(|| format!("program {name}"))?
        .try_into()?;
    program.load().with_context(|| format!("load {name}"))?;
    program
        .attach(interface, XdpMode::Driver)
        .with_context(|| format!("attach {name} to {interface}"))?;
    Ok(ebpf)
}
