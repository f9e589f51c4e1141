//! Frames by the thousand from BPF_PROG_TEST_RUN, which makes real ones of them (`BPF_F_TEST_XDP_LIVE_FRAMES`): what the program
//! `inject` of `gre-ebpf/bench` says of each happens to it.

use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::{Array, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunAttrs, TestRunOptions, Xdp, loaded_programs};
use aya::{Ebpf, EbpfLoader};

use crate::harness::{State, fill_floors, object, template};
use crate::shapes::{XDP_DROP, XDP_PASS, XDP_REDIRECT};

/// Frames that the kernel takes at once, as a driver does (NAPI_POLL_WEIGHT).
const BATCH: u32 = 64;
/// Of a frame, that is restored in every run: all headers.
pub(crate) const RESTORED: usize = 72;

/// What becomes of the frames.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    /// They are dropped at once.
    Drop,
    /// The stack gets them as they are.
    Pass,
    /// They leave by the interface with this index.
    Leave(u32),
    /// The program with this id gets them.
    Meet(u32),
    /// The floor of `gre-ebpf/bench` with this name gets them; if it redirects, it does so to the interface with this index.
    MeetFloor(&'static str, u32),
}

/// A frame, ready to be sent over and over.
pub(crate) struct Injector {
    ebpf: Ebpf,
    frame: Vec<u8>,
}

impl Injector {
    /// For `frame`, whose inner IPv4 header begins at `inner_at`. With `flows`, each frame comes from one of so many inner
    /// addresses, at random, from the frame's own on.
    pub(crate) fn new(frame: Vec<u8>, then: Then, inner_at: usize, flows: u32) -> Result<Self> {
        let (template, words) = template(&frame, RESTORED)?;
        let (action, way_out) = match then {
            Then::Drop => (XDP_DROP, 0),
            Then::Pass => (XDP_PASS, 0),
            Then::Leave(interface) => (XDP_REDIRECT, interface),
            Then::Meet(_) => (0, 0),
            Then::MeetFloor(_, interface) => (0, interface),
        };
        let constants = [
            ("ACTION", action),
            ("WAY_OUT", way_out),
            ("WORDS", words),
            ("SOURCES", flows),
            ("IP_AT", inner_at as u32),
        ];
        let mut loader = EbpfLoader::new();
        for (name, value) in &constants {
            loader.override_global(name, value, true);
        }
        loader.override_global("TEMPLATE", &template[..], true);
        let mut ebpf = loader.load(&object()?).context("load the benchmark's object")?;
        xdp(&mut ebpf, "inject")?.load().context("load inject")?;
        let next = match then {
            Then::Meet(id) => Some(program(id)?),
            Then::MeetFloor(name, _) => {
                let floor = xdp(&mut ebpf, name)?;
                floor.load().with_context(|| format!("load {name}"))?;
                let floor = floor.fd()?.try_clone()?;
                fill_floors(
                    &mut ebpf,
                    outer_addresses(&frame).context("the frame has no outer header")?,
                )?;
                Some(floor)
            }
            Then::Drop | Then::Pass | Then::Leave(_) => None,
        };
        if let Some(program) = next {
            let mut next = ProgramArray::try_from(ebpf.map_mut("MEASURED").context("map MEASURED")?)?;
            next.set(0, &program, 0).context("go on with the program")?;
        }
        let mut state: Array<_, State> = Array::try_from(ebpf.map_mut("STATE").context("map STATE")?)?;
        state.set(0, State::new(0), 0)?;
        Ok(Self { ebpf, frame })
    }

    /// Sends so many frames as if they had come in by the interface with this index, of the caller's network namespace. Gives
    /// how long each took on average, all included that the kernel does with it before it looks at another batch.
    pub(crate) fn send(&mut self, count: u32, interface: u32) -> Result<Duration> {
        // `struct xdp_md` of linux/bpf.h: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, self.frame.len() as u32, 0, interface, 0, 0]
            .map(u32::to_ne_bytes)
            .concat();
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            ctx_in: Some(&context),
            repeat: count,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        };
        let sent = xdp(&mut self.ebpf, "inject")?.test_run(options);
        Ok(sent.context("send live frames (BPF_PROG_TEST_RUN)")?.duration)
    }
}

/// Source and destination of the IPv4 header behind the link header.
fn outer_addresses(frame: &[u8]) -> Option<[[u8; 4]; 2]> {
    Some([*frame.get(26..)?.first_chunk()?, *frame.get(30..)?.first_chunk()?])
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("program {name}"))?;
    Ok(program.try_into()?)
}

/// The loaded program with this id.
fn program(id: u32) -> Result<ProgramFd> {
    // Programs of others may be gone before they are looked at.
    let mut programs = loaded_programs().filter_map(Result::ok);
    let program = programs.find(|program| program.id() == id);
    Ok(program.with_context(|| format!("no program has the id {id}"))?.fd()?)
}
