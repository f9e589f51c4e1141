//! The eBPF object, loaded into the kernel with its maps sized and filled.

mod entries;
mod load;
mod refusal;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{Context, Result, ensure};
use aya::maps::{CpuMap, ProgramArray};
use aya::programs::{ProgramFd, ProgramInfo, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use gre_common::maps::{
    CPUS, FLOW_KEY, FORWARD, FRAGS_BY_KERNEL, HAVE_BYPASS, HAVE_INTERFACE, HAVE_KEEPALIVE, HAVE_MSS, HAVE_PREFIXES,
    HAVE_PROBES, HAVE_ROUTE, HAVE_SPREAD, INNER_DESTINATIONS, LOCKDOWN, TARGET_SLOTS_MASK, TUNNEL_SLOTS4_MASK,
    TUNNEL_SLOTS6_MASK, UNKNOWN_DROP,
};
use log::Log;

pub(crate) use self::entries::Sizes;
pub(crate) use self::load::load_patiently;
use crate::clamps::Clamps;
use crate::host::cpus::possible_cpus;
use crate::host::xdp_features;
use crate::layout::{SHAPES, Shape};
use crate::redirects::Watch;
use crate::settings::{Features, Settings};
use crate::state::Generation;
use crate::surroundings::Surroundings;
use crate::tables::{Few, Tables, map};

/// The object, as the build put it into this binary; empty in a build without it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/gre-ebpf.o"));

/// The name in the object of the program that decapsulates.
const PROGRAM: &str = "gre_decap";
/// The name of the same where nothing is sent on, or to another core.
const PROGRAM_TO_STACK: &str = "gre_decap_stack";
/// The name of the one that goes on with packets that are forwarded by the core that received them.
const FORWARD_PROGRAM: &str = "gre_forward";
/// The name of the one that goes on with packets on the cores that they are spread to.
const SPREAD_PROGRAM: &str = "gre_spread";
/// The name of the one that passes everything.
const PASS_PROGRAM: &str = "gre_pass";
/// The name of the one for interfaces' ways out.
const EGRESS_PROGRAM: &str = "gre_egress";

/// The ring that the program's log records go through, in builds that log.
pub(crate) const LOGS: &str = "AYA_LOGS";

/// The program in the kernel, attached to nothing yet. What is not pinned goes when this is dropped.
pub struct Datapath {
    ebpf: Ebpf,
    /// The name of the program that decapsulates.
    program: &'static str,
    /// What is to be watched once it runs.
    watch: Option<Watch>,
    /// The maps that it has from another generation, filled already.
    shared: Vec<&'static str>,
}

/// The maps that a program has from another generation.
#[derive(Clone, Debug)]
pub struct Shared<'a> {
    /// Whose they are.
    pub generation: &'a Generation,
    /// Their names.
    pub maps: Vec<&'static str>,
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

/// The object, an ELF file; empty in a build without it.
pub fn object() -> &'static [u8] {
    OBJECT
}

/// Tells this binary's object from another's: a hash of its bytes. Another toolchain may hash otherwise, and then has the program
/// replaced by an equal one.
pub fn object_id() -> u64 {
    let mut hasher = DefaultHasher::new();
    OBJECT.hash(&mut hasher);
    hasher.finish()
}

impl Datapath {
    /// Loads the program for these tables, with maps of its own and some of a running generation, which must have the layout that the
    /// settings ask for.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the maps or the program, with what is likely to be done about it.
    pub fn load(settings: &Settings, tables: &Tables, shared: Option<Shared<'_>>) -> Result<Self> {
        ensure_built_in()?;
        Self::load_object(OBJECT, settings, tables, shared)
    }

    /// The same from another build of the object than the one inside this binary.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], and if it is no such object.
    pub fn load_object(
        object: &[u8],
        settings: &Settings,
        tables: &Tables,
        shared: Option<Shared<'_>>,
    ) -> Result<Self> {
        let Features {
            route,
            interface,
            probes,
            ..
        } = settings.features;
        let redirects_frags = !(route || interface || probes)
            || xdp_features::are_told().context(
                "XDP features: the kernel cannot be asked over generic netlink whether it redirects large frames",
            )?;
        Self::load_told(object, settings, tables, shared, redirects_frags)
    }

    /// The same as [`Self::load`] for a kernel that redirects frames in several buffers, or one that does not, whichever this is: so
    /// that the program for the one can be tested on the other.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn load_for(redirects_frags: bool, settings: &Settings, tables: &Tables) -> Result<Self> {
        ensure_built_in()?;
        Self::load_told(OBJECT, settings, tables, None, redirects_frags)
    }

    fn load_told(
        object: &[u8],
        settings: &Settings,
        tables: &Tables,
        shared: Option<Shared<'_>>,
        redirects_frags: bool,
    ) -> Result<Self> {
        let features = settings.features;
        let flags = [
            (UNKNOWN_DROP, u8::from(settings.unknown_drop)),
            (HAVE_PREFIXES, u8::from(features.prefixes)),
            (HAVE_ROUTE, u8::from(features.route)),
            (HAVE_INTERFACE, u8::from(features.interface)),
            (FRAGS_BY_KERNEL, u8::from(!redirects_frags)),
            (HAVE_SPREAD, u8::from(features.spread)),
            (HAVE_MSS, u8::from(features.mss)),
            (HAVE_BYPASS, u8::from(features.bypass)),
            (HAVE_PROBES, u8::from(features.probes)),
            (INNER_DESTINATIONS, settings.guards.inner_destinations as u8),
            (HAVE_KEEPALIVE, u8::from(features.keepalive)),
            (LOCKDOWN, settings.guards.lockdown as u8),
        ];
        let log_level = settings.log_level as u8;
        let watch = Watch::of(features);
        let few = Few::of(tables);
        let mut loader = EbpfLoader::new();
        watch.prepare(&mut loader);
        few.prepare(&mut loader);
        for (name, value) in &flags {
            loader.override_global(name, value, true);
        }
        loader
            .override_global(FLOW_KEY, &settings.flow_key[..], true)
            // A build without logging has no level.
            .override_global(aya_log::LEVEL, &log_level, false);
        let cpus = if features.spread { possible_cpus()? } else { 1 };
        let sizes = Sizes::of(settings, tables, cpus);
        for (name, entries) in sizes.entries() {
            loader.map_max_entries(name, entries);
        }
        let masks = sizes.slots().map(|(_, slots)| slots - 1);
        let names = [TUNNEL_SLOTS4_MASK, TUNNEL_SLOTS6_MASK, TARGET_SLOTS_MASK];
        for (name, mask) in names.into_iter().zip(&masks) {
            loader.override_global(name, mask, true);
        }
        if let Some(shared) = &shared {
            for name in &shared.maps {
                loader.map_pin_path(name, shared.generation.map(name));
            }
        }
        let mut ebpf = loader
            .load(object)
            .map_err(|error| refusal::of_object(error, settings))?;
        let hands_over = features.route || features.interface || features.spread;
        let name = if hands_over { PROGRAM } else { PROGRAM_TO_STACK };
        load_patiently(program(&mut ebpf, name)?, Xdp::load).map_err(refusal::of_program)?;
        let mut datapath = Self {
            ebpf,
            program: name,
            watch: Some(watch),
            shared: shared.map_or_else(Vec::new, |shared| shared.maps),
        };
        if features.route || features.interface {
            datapath.open_forwarding()?;
        }
        if features.spread {
            datapath.open_queues(settings, tables)?;
        }
        Ok(datapath)
    }

    /// Puts the program that forwards where the one that decapsulates calls it.
    fn open_forwarding(&mut self) -> Result<()> {
        let program = self.load_other(FORWARD_PROGRAM)?;
        let mut forward = ProgramArray::try_from(map(&mut self.ebpf, FORWARD)?)?;
        forward
            .set(0, &program, 0)
            .with_context(|| format!("map {FORWARD}: cannot be filled"))
    }

    /// Gives each core that tunnels are spread over its queue, with the program that goes on with packets there.
    fn open_queues(&mut self, settings: &Settings, tables: &Tables) -> Result<()> {
        let program = self.load_other(SPREAD_PROGRAM)?;
        let mut queues = CpuMap::try_from(map(&mut self.ebpf, CPUS)?)?;
        for &core in &tables.cores {
            queues
                .set(core, settings.spread_queue, Some(&program), 0)
                .with_context(|| format!("core {core}: the kernel gives it no queue for `spread`"))?;
        }
        Ok(())
    }

    /// Loads the program that passes everything, for interfaces that take redirected frames only with one.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it.
    pub fn load_pass(&mut self) -> Result<ProgramFd> {
        self.load_other(PASS_PROGRAM)
    }

    /// Loads the program for ways out, with what it must know of each interface.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it.
    pub fn load_egress(&mut self, clamps: &Clamps) -> Result<()> {
        clamps.write(&mut self.ebpf)?;
        load_patiently(self.egress()?, SchedClassifier::load).map_err(refusal::of_program)
    }

    /// The program for ways out.
    ///
    /// # Errors
    ///
    /// If the object has none of its name.
    pub fn egress(&mut self) -> Result<&mut SchedClassifier> {
        let program = self.ebpf.program_mut(EGRESS_PROGRAM);
        let program = program.with_context(|| format!("the eBPF object has no program {EGRESS_PROGRAM}"))?;
        program
            .try_into()
            .with_context(|| format!("the eBPF program {EGRESS_PROGRAM} is not of type TC"))
    }

    /// The descriptor of the program for ways out; none if it is not loaded.
    ///
    /// # Errors
    ///
    /// If this process may have no more descriptors.
    pub fn egress_fd(&mut self) -> Result<Option<ProgramFd>> {
        let fd = self.egress()?.fd().ok().map(ProgramFd::try_clone);
        fd.transpose().context("the program for ways out has no descriptor")
    }

    fn load_other(&mut self, name: &str) -> Result<ProgramFd> {
        let program = program(&mut self.ebpf, name)?;
        load_patiently(program, Xdp::load).map_err(refusal::of_program)?;
        program
            .fd()
            .and_then(|fd| Ok(fd.try_clone()?))
            .with_context(|| format!("the program {name} has no descriptor"))
    }

    /// The program that decapsulates.
    ///
    /// # Errors
    ///
    /// If the object has none of its name.
    pub fn program(&mut self) -> Result<&mut Xdp> {
        program(&mut self.ebpf, self.program)
    }

    /// What the kernel says about the program.
    ///
    /// # Errors
    ///
    /// If it says nothing.
    pub fn info(&mut self) -> Result<ProgramInfo> {
        self.program()?.info().context("the loaded program cannot be looked at")
    }

    /// What the kernel says about the program for ways out; none if it is not loaded.
    ///
    /// # Errors
    ///
    /// If it says nothing.
    pub fn egress_info(&mut self) -> Result<Option<ProgramInfo>> {
        let egress = self.egress()?;
        if egress.fd().is_err() {
            return Ok(None);
        }
        egress
            .info()
            .map(Some)
            .context("the loaded program for ways out cannot be looked at")
    }

    /// What the kernel says about each program of the object that is loaded, by its name there.
    ///
    /// # Errors
    ///
    /// If it says nothing.
    pub fn infos(&self) -> Result<BTreeMap<String, ProgramInfo>> {
        let loaded = self.ebpf.programs().filter(|(_, program)| program.fd().is_ok());
        loaded
            .map(|(name, program)| {
                let info = program.info();
                let info = info.with_context(|| format!("the loaded program {name} cannot be looked at"))?;
                Ok((name.to_owned(), info))
            })
            .collect()
    }

    /// Fills the maps that are its own.
    ///
    /// # Errors
    ///
    /// If they are too small.
    pub fn fill(&mut self, tables: &Tables, surroundings: &Surroundings) -> Result<()> {
        tables.write(&mut self.ebpf, &self.shared)?;
        surroundings.write(&mut self.ebpf)
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
        for Shape { name, .. } in SHAPES {
            let path = generation.map(name);
            map(&mut self.ebpf, name)?
                .pin(&path)
                .with_context(|| format!("{}: cannot be pinned", path.display()))?;
        }
        if let Some(logs) = self.ebpf.map_mut(LOGS) {
            let path = generation.map(LOGS);
            logs.pin(&path)
                .with_context(|| format!("{}: cannot be pinned", path.display()))?;
        }
        let path = generation.program();
        self.program()?
            .pin(&path)
            .with_context(|| format!("{}: cannot be pinned", path.display()))?;
        let egress = self.egress()?;
        if egress.fd().is_ok() {
            let path = generation.egress();
            egress
                .pin(&path)
                .with_context(|| format!("{}: cannot be pinned", path.display()))?;
        }
        Ok(())
    }

    /// Has what becomes of packets that are sent on counted from now on, for as long as the generation's pins are there.
    /// Returns what an operator must know, a line each.
    pub fn watch(&mut self, generation: &Generation) -> Vec<String> {
        let watch = self.watch.take();
        watch.map_or_else(Vec::new, |watch| watch.start(&mut self.ebpf, generation))
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

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the eBPF object has no program {name}"))?;
    program
        .try_into()
        .with_context(|| format!("the eBPF program {name} is not of type XDP"))
}
