//! An origin with two ways out, on which programs are put by either means.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};
use gre_tests::lab::{Lab, Namespace, PATIENCE};
use gre_tests::skip::skip;
use gre_user::attach::{Applied, Egress, EgressPlan, Means, pinned_egress};
use gre_user::clamps::Clamps;
use gre_user::config::Config;
use gre_user::datapath::{Datapath, object};
use gre_user::host::clsact::{self, Hook};
use gre_user::host::cpus::online_cpus;
use gre_user::host::{Interface, has_tcx};
use gre_user::settings::{LogLevel, Settings};
use gre_user::state::{Generation, Root};
use gre_user::tables::{Ids, Tables};
use nix::sys::socket::{getsockopt, sockopt};

pub(super) const FOLDER: &str = "/sys/fs/bpf/ways-out";
/// The interfaces of the origin, and its addresses there, which are protected.
pub(super) const WAYS: [(&str, Ipv4Addr); 2] = [
    ("wan0", Ipv4Addr::new(192, 0, 2, 1)),
    ("wan1", Ipv4Addr::new(192, 0, 2, 129)),
];
/// What each segment has beside its data once both ends have agreed on timestamps (RFC 7323 section 3.2), in bytes.
const TIMESTAMPS: u32 = 12;

/// Which of the interfaces are clamped, and to how much.
pub(super) type Limits = [Option<u16>; 2];

/// An origin with two interfaces, a neighbour at the other end of both, and a folder for pins.
pub(super) struct Place {
    lab: Lab,
    pub(super) origin: Namespace,
    pub(super) neighbour: Namespace,
    pub(super) means: Means,
    pub(super) root: Root,
}

/// What is loaded and pinned, attached to nothing.
pub(super) struct Loaded {
    pub(super) datapath: Datapath,
    pub(super) generation: Generation,
    clamps: Clamps,
    config: Config,
    interfaces: Vec<Interface>,
}

impl Place {
    fn new(lab: Lab, means: Means) -> Result<Self> {
        let (origin, neighbour) = (lab.namespace("origin")?, lab.namespace("neighbour")?);
        let place = Self {
            lab,
            origin,
            neighbour,
            means,
            root: Root::new(FOLDER),
        };
        for (name, _) in WAYS {
            place.join(name, &format!("far-{name}"))?;
        }
        Ok(place)
    }

    /// Gives the origin one of its interfaces, and the neighbour the other end.
    pub(super) fn join(&self, name: &str, far: &str) -> Result<()> {
        let (_, address) = WAYS.iter().find(|(way, _)| *way == name).context("one of the ways")?;
        let [a, b, c, d] = address.octets();
        let (own, other) = (format!("{address}/25"), format!("{a}.{b}.{c}.{}/25", d + 1));
        let end = self.neighbour.end(far).address(&other);
        self.lab.veth(end, self.origin.end(name).address(&own)).map(drop)
    }

    /// Loads and pins a program that lowers what it is told to.
    pub(super) fn load(&self, limits: Limits) -> Result<Loaded> {
        self.origin.run(|| {
            let ways: Vec<_> = WAYS.iter().zip(limits).collect();
            let mut text = "[protect]\nprefixes = ['192.0.2.0/24']\n".to_owned();
            for ((name, _), limit) in &ways {
                let limit = limit.map_or("'off'".to_owned(), |limit| limit.to_string());
                text += &format!("[[interface]]\nname = '{name}'\nclamp_mss = {limit}\n");
            }
            text += "[[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'\nremote = '203.0.113.10'\n";
            let config = Config::from_str(&text, "f.toml")?;
            let ids = Ids::assign(["a"].into_iter(), &BTreeMap::new(), config.max_tunnels)?;
            let tables = Tables::of(&config, &ids, &online_cpus()?)?;
            let settings = Settings::of(&config, &tables, LogLevel::Off, [0; 2]);
            let mut found = Vec::new();
            for configured in &config.interfaces {
                let interface = Interface::by_name(&configured.name)?;
                found.extend(interface.map(|interface| (interface, configured.clamp_mss)));
            }
            let clamps = Clamps::of(&tables, found.iter().map(|(interface, clamp)| (interface, *clamp)));
            let mut datapath = Datapath::load(&settings, &tables, None)?;
            datapath.load_egress(&clamps)?;
            tables_of(&mut datapath, &tables)?;
            fs::create_dir_all(FOLDER)?;
            let generation = self.root.create_generation()?;
            datapath.egress()?.pin(generation.egress())?;
            Ok(Loaded {
                datapath,
                generation,
                clamps,
                config,
                interfaces: found.into_iter().map(|(interface, _)| interface).collect(),
            })
        })
    }

    pub(super) fn plan(&self, loaded: &Loaded) -> Result<EgressPlan> {
        let pinned = pinned_egress(&self.root)?;
        EgressPlan::make(&loaded.config.interfaces, &loaded.interfaces, &loaded.clamps, pinned)
    }

    /// Carries out what is to be done for a program, and returns what could be undone.
    pub(super) fn apply(&self, loaded: &mut Loaded) -> Result<Applied> {
        self.origin.run(|| {
            let plan = self.plan(loaded)?;
            let program = loaded.datapath.egress_fd()?;
            let mut applied = Applied::default();
            let done = plan.apply(
                &self.root,
                program.as_ref().map(AsFd::as_fd),
                self.means,
                &self.programs()?,
                &mut applied,
            );
            match done {
                Ok(()) => Ok(applied),
                Err(error) => {
                    let undone = applied.undo(error);
                    ensure!(undone.complete, "{:#}", undone.error);
                    Err(undone.error)
                }
            }
        })
    }

    /// The same, for good.
    pub(super) fn put(&self, limits: Limits) -> Result<Loaded> {
        let mut loaded = self.load(limits)?;
        let applied = self.apply(&mut loaded)?;
        ensure!(applied.warnings.is_empty(), "{:?}", applied.warnings);
        self.origin.run(|| applied.finish(&self.root).map(drop))?;
        self.forget_all_but(&loaded)?;
        ensure!(self.origin.run(|| self.is_done(&loaded))?, "it is not as planned");
        Ok(loaded)
    }

    fn is_done(&self, loaded: &Loaded) -> Result<bool> {
        let path = loaded.generation.egress();
        Ok(self.plan(loaded)?.is_done(Some(ProgramInfo::from_pin(path)?.id())))
    }

    fn forget_all_but(&self, loaded: &Loaded) -> Result<()> {
        self.origin.run(|| {
            for generation in self.root.generations()? {
                if generation != loaded.generation {
                    generation.remove()?;
                }
            }
            Ok(())
        })
    }

    fn programs(&self) -> Result<BTreeMap<u32, PathBuf>> {
        let generations = self.root.generations()?;
        let of = |generation: &Generation| {
            let path = generation.egress();
            Ok((ProgramInfo::from_pin(&path)?.id(), path))
        };
        generations.iter().map(of).collect()
    }

    pub(super) fn pinned(&self) -> Result<Vec<Egress>> {
        self.origin.run(|| pinned_egress(&self.root))
    }

    /// Takes all away.
    pub(super) fn unload(&self) -> Result<()> {
        self.origin.run(|| {
            for egress in pinned_egress(&self.root)? {
                egress.detach(&self.root)?;
            }
            self.root.remove()
        })
    }

    /// What an end of a connection by an interface may send at most to the origin, by what that announced.
    pub(super) fn limit(&self, way: usize) -> Result<u32> {
        let address = WAYS[way].1;
        let listener = self.origin.run(|| Ok(TcpListener::bind((address, 0))?))?;
        let service: SocketAddr = listener.local_addr()?;
        let client = self
            .neighbour
            .run(|| TcpStream::connect_timeout(&service, PATIENCE).context("connect"))?;
        Ok(getsockopt(&client, sockopt::TcpMaxSeg)? + TIMESTAMPS)
    }

    pub(super) fn limits(&self) -> Result<[u32; 2]> {
        Ok([self.limit(0)?, self.limit(1)?])
    }

    /// How many programs are on an interface's way out, ours and others'.
    pub(super) fn count(&self, way: usize) -> Result<usize> {
        let name = WAYS[way].0;
        self.origin.run(|| match self.means {
            Means::Tcx => Ok(SchedClassifier::query_tcx(name, TcAttachType::Egress)?.1.len()),
            Means::Clsact => {
                let filters = clsact::filters(index(name)?, Hook::Egress)?;
                Ok(filters.iter().filter(|filter| filter.program_id.is_some()).count())
            }
        })
    }

    /// The kind of queueing discipline that stands where clsact belongs.
    pub(super) fn standing(&self, way: usize) -> Result<Option<String>> {
        self.origin.run(|| Ok(clsact::standing(index(WAYS[way].0)?)?))
    }

    pub(super) fn tc(&self, arguments: &str) -> Result<String> {
        let done = self.origin.command("tc").args(arguments.split_whitespace()).output();
        let done = done.context("run `tc` (iproute2 must be installed)")?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "tc {arguments}: {said}");
        Ok(String::from_utf8(done.stdout)?)
    }

    /// Checks that nothing of ours is left.
    pub(super) fn check_gone(&self, when: &str) -> Result<()> {
        for way in [0, 1] {
            ensure!(self.count(way)? == 0, "{when}: a program is left on {}", WAYS[way].0);
            let standing = self.standing(way)?;
            ensure!(standing.is_none(), "{when}: {standing:?} is left on {}", WAYS[way].0);
        }
        let left = self.origin.run(|| Ok(fs::exists(FOLDER)?))?;
        ensure!(!left, "{when}: pins are left");
        Ok(())
    }
}

pub(super) fn index(name: &str) -> Result<u32> {
    Ok(Interface::by_name(name)?.context("the interface")?.index)
}

/// Fills the maps that the program for ways out looks into.
fn tables_of(datapath: &mut Datapath, tables: &Tables) -> Result<()> {
    datapath.fill(tables, &gre_user::surroundings::Surroundings::default())
}

/// By links, which the kernel may lack, and by filters.
pub(super) const BOTH: &[Means] = &[Means::Tcx, Means::Clsact];
/// What only filters have to take care of.
pub(super) const FILTERS: &[Means] = &[Means::Clsact];

/// Runs a test by each of these means that the kernel has.
pub(super) fn by_each(means: &[Means], name: &str, test: impl Fn(Place) -> Result<()>) -> Result<()> {
    if object().is_empty() {
        skip(name, "the eBPF program (run `cargo xtask test`)");
        return Ok(());
    }
    for &means in means {
        if means == Means::Tcx && !has_tcx()? {
            continue;
        }
        let Some(lab) = Lab::for_test(name) else {
            return Ok(());
        };
        test(Place::new(lab, means)?).with_context(|| means.to_string())?;
    }
    Ok(())
}

/// The usual limit of the wires.
pub(super) const FREE: u32 = 1460;
