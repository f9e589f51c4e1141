//! The eBPF object, loaded into the kernel with its maps sized and filled.

mod refusal;

use anyhow::{Context, Result, ensure};
use aya::programs::{ProgramInfo, Xdp};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use gre_common::maps::{
    COUNTERS, HAVE_PREFIXES, LOCALS4, LOCALS6, NAMES, PREFIXES4, PREFIXES6, SEQUENCES, TUNNELS4, TUNNELS6, UNKNOWN_DROP,
};
use log::Log;

use crate::settings::Settings;
use crate::state::Generation;
use crate::tables::{Tables, map};

/// The object, as the build put it into this binary; empty in a build without it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/gre-ebpf.o"));

/// The program's name in the object.
const PROGRAM: &str = "gre_decap";

/// Maps that hold an entry for each remote, or at most so many.
const BY_REMOTE: [&str; 7] = [TUNNELS4, TUNNELS6, PREFIXES4, PREFIXES6, LOCALS4, LOCALS6, NAMES];
/// Maps that userspace needs, and so are pinned.
const PINNED: [&str; 9] = [
    TUNNELS4, TUNNELS6, PREFIXES4, PREFIXES6, LOCALS4, LOCALS6, NAMES, COUNTERS, SEQUENCES,
];

/// The program in the kernel, attached to nothing yet. What is not pinned goes when this is dropped.
pub struct Datapath {
    ebpf: Ebpf,
}

/// Checks that this binary has the eBPF program inside.
///
/// # Errors
///
/// If it was built without.
pub fn ensure_built_in() -> Result<()> {
    ensure!(
        !OBJECT.is_empty(),
        "this gre-decap was built without its eBPF program; build it with `cargo xtask build`"
    );
    Ok(())
}

impl Datapath {
    /// Loads the program, with counters and sequence state of its own or those of a running generation, whose maps must have
    /// the layout that the settings ask for.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the maps or the program, with what is likely to be done about it.
    pub fn load(settings: &Settings, shared: Option<&Generation>) -> Result<Self> {
        ensure_built_in()?;
        let (unknown_drop, have_prefixes) = (u8::from(settings.unknown_drop), u8::from(settings.have_prefixes));
        let log_level = settings.log_level as u8;
        let by_tunnel = settings.max_tunnels.saturating_add(1);
        let mut loader = EbpfLoader::new();
        loader
            .override_global(UNKNOWN_DROP, &unknown_drop, true)
            .override_global(HAVE_PREFIXES, &have_prefixes, true)
            // A build without logging has no level.
            .override_global(aya_log::LEVEL, &log_level, false);
        for name in BY_REMOTE {
            loader.map_max_entries(name, settings.max_tunnels);
        }
        for name in [COUNTERS, SEQUENCES] {
            loader.map_max_entries(name, by_tunnel);
            if let Some(generation) = shared {
                loader.map_pin_path(name, generation.map(name));
            }
        }
        let mut ebpf = loader
            .load(OBJECT)
            .map_err(|error| refusal::of_object(error, settings))?;
        program(&mut ebpf)?.load().map_err(refusal::of_program)?;
        Ok(Self { ebpf })
    }

    /// The program.
    ///
    /// # Errors
    ///
    /// If the object has none of its name.
    pub fn program(&mut self) -> Result<&mut Xdp> {
        program(&mut self.ebpf)
    }

    /// What the kernel says about the program.
    ///
    /// # Errors
    ///
    /// If it says nothing.
    pub fn info(&mut self) -> Result<ProgramInfo> {
        self.program()?.info().context("the loaded program cannot be looked at")
    }

    /// Fills the tunnel maps.
    ///
    /// # Errors
    ///
    /// If they are too small.
    pub fn fill(&mut self, tables: &Tables) -> Result<()> {
        tables.write(&mut self.ebpf)
    }

    /// The loaded object's maps.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Pins the program, and the maps that userspace needs.
    ///
    /// # Errors
    ///
    /// If something cannot be pinned.
    pub fn pin(&mut self, generation: &Generation) -> Result<()> {
        for name in PINNED {
            let path = generation.map(name);
            map(&mut self.ebpf, name)?
                .pin(&path)
                .with_context(|| format!("{}: cannot be pinned", path.display()))?;
        }
        let path = generation.program();
        self.program()?
            .pin(&path)
            .with_context(|| format!("{}: cannot be pinned", path.display()))
    }

    /// What takes the program's log records to this process's logger.
    ///
    /// # Errors
    ///
    /// If the program was built without logging.
    pub fn logger(&mut self) -> Result<EbpfLogger<&'static dyn Log>> {
        EbpfLogger::init(&mut self.ebpf).context("the eBPF program does not log")
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    let program = ebpf
        .program_mut(PROGRAM)
        .with_context(|| format!("the eBPF object has no program {PROGRAM}"))?;
    program
        .try_into()
        .with_context(|| format!("the eBPF program {PROGRAM} is not of type XDP"))
}
