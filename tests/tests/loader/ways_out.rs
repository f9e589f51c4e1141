//! Programs on ways out by either means, links and filters: put there, replaced, given back and taken away, beside what others have.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};
use gre_tests::lab::{Lab, Namespace, PATIENCE};
use gre_tests::skip::skip;
use gre_user::attach::{Applied, Egress, EgressPlan, Means, pinned_egress};
use gre_user::clamps::Clamps;
use gre_user::config::Config;
use gre_user::datapath::{Datapath, object};
use gre_user::host::clsact::{self, CLSACT, Hook};
use gre_user::host::cpus::online_cpus;
use gre_user::host::{Interface, has_tcx};
use gre_user::settings::{LogLevel, Settings};
use gre_user::state::{Generation, Root};
use gre_user::tables::{Ids, Tables};
use nix::sys::socket::{getsockopt, sockopt};

const FOLDER: &str = "/sys/fs/bpf/ways-out";
/// The interfaces of the origin, and its addresses there, which are protected.
const WAYS: [(&str, Ipv4Addr); 2] = [
    ("wan0", Ipv4Addr::new(192, 0, 2, 1)),
    ("wan1", Ipv4Addr::new(192, 0, 2, 129)),
];
/// What each segment has beside its data once both ends have agreed on timestamps (RFC 7323 section 3.2), in bytes.
const TIMESTAMPS: u32 = 12;

/// Which of the interfaces are clamped, and to how much.
type Limits = [Option<u16>; 2];

/// An origin with two interfaces, a neighbour at the other end of both, and a folder for pins.
struct Place {
    lab: Lab,
    origin: Namespace,
    neighbour: Namespace,
    means: Means,
    root: Root,
}

/// What is loaded and pinned, attached to nothing.
struct Loaded {
    datapath: Datapath,
    generation: Generation,
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
    fn join(&self, name: &str, far: &str) -> Result<()> {
        let (_, address) = WAYS.iter().find(|(way, _)| *way == name).context("one of the ways")?;
        let [a, b, c, d] = address.octets();
        let (own, other) = (format!("{address}/25"), format!("{a}.{b}.{c}.{}/25", d + 1));
        let end = self.neighbour.end(far).address(&other);
        self.lab.veth(end, self.origin.end(name).address(&own)).map(drop)
    }

    /// Loads and pins a program that lowers what it is told to.
    fn load(&self, limits: Limits) -> Result<Loaded> {
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

    fn plan(&self, loaded: &Loaded) -> Result<EgressPlan> {
        let pinned = pinned_egress(&self.root)?;
        EgressPlan::make(&loaded.config.interfaces, &loaded.interfaces, &loaded.clamps, pinned)
    }

    /// Carries out what is to be done for a program, and returns what could be undone.
    fn apply(&self, loaded: &mut Loaded) -> Result<Applied> {
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
    fn put(&self, limits: Limits) -> Result<Loaded> {
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

    fn pinned(&self) -> Result<Vec<Egress>> {
        self.origin.run(|| pinned_egress(&self.root))
    }

    /// Takes all away.
    fn unload(&self) -> Result<()> {
        self.origin.run(|| {
            for egress in pinned_egress(&self.root)? {
                egress.detach(&self.root)?;
            }
            self.root.remove()
        })
    }

    /// What an end of a connection by an interface may send at most to the origin, by what that announced.
    fn limit(&self, way: usize) -> Result<u32> {
        let address = WAYS[way].1;
        let listener = self.origin.run(|| Ok(TcpListener::bind((address, 0))?))?;
        let service: SocketAddr = listener.local_addr()?;
        let client = self
            .neighbour
            .run(|| TcpStream::connect_timeout(&service, PATIENCE).context("connect"))?;
        Ok(getsockopt(&client, sockopt::TcpMaxSeg)? + TIMESTAMPS)
    }

    fn limits(&self) -> Result<[u32; 2]> {
        Ok([self.limit(0)?, self.limit(1)?])
    }

    /// How many programs are on an interface's way out, ours and others'.
    fn count(&self, way: usize) -> Result<usize> {
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
    fn standing(&self, way: usize) -> Result<Option<String>> {
        self.origin.run(|| Ok(clsact::standing(index(WAYS[way].0)?)?))
    }

    fn tc(&self, arguments: &str) -> Result<String> {
        let done = self.origin.command("tc").args(arguments.split_whitespace()).output();
        let done = done.context("run `tc` (iproute2 must be installed)")?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "tc {arguments}: {said}");
        Ok(String::from_utf8(done.stdout)?)
    }

    /// Checks that nothing of ours is left.
    fn check_gone(&self, when: &str) -> Result<()> {
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

fn index(name: &str) -> Result<u32> {
    Ok(Interface::by_name(name)?.context("the interface")?.index)
}

/// Fills the maps that the program for ways out looks into.
fn tables_of(datapath: &mut Datapath, tables: &Tables) -> Result<()> {
    datapath.fill(tables, &gre_user::surroundings::Surroundings::default())
}

/// By links, which the kernel may lack, and by filters.
const BOTH: &[Means] = &[Means::Tcx, Means::Clsact];
/// What only filters have to take care of.
const FILTERS: &[Means] = &[Means::Clsact];

/// Runs a test by each of these means that the kernel has.
fn by_each(means: &[Means], name: &str, test: impl Fn(Place) -> Result<()>) -> Result<()> {
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
const FREE: u32 = 1460;

#[test]
fn programs_come_are_replaced_and_go() -> Result<()> {
    by_each(BOTH, "programs_come_are_replaced_and_go", |place| {
        ensure!(place.limits()? == [FREE; 2], "without a program");
        let first = place.put([Some(1000), None])?;
        ensure!(place.limits()? == [1000, FREE], "{:?}", place.limits()?);
        let before = place.pinned()?;
        let [egress] = before.as_slice() else {
            bail!("{before:?}");
        };
        ensure!(
            egress.means() == place.means && egress.made_for() == WAYS[0].0,
            "{egress:?}"
        );
        ensure!(egress.link_id().is_some() == (place.means == Means::Tcx), "{egress:?}");

        // One stays, and one comes.
        let second = place.put([Some(1100), Some(1200)])?;
        ensure!(place.limits()? == [1100, 1200], "{:?}", place.limits()?);
        let after = place.pinned()?;
        ensure!(
            after.len() == 2 && after[0].link_id() == before[0].link_id(),
            "{after:?}"
        );
        ensure!(after[0].program_id() != before[0].program_id(), "{after:?}");
        ensure!(after[0].program_id() == after[1].program_id(), "{after:?}");

        // One goes, with all that came for it.
        let third = place.put([None, Some(1300)])?;
        ensure!(place.limits()? == [FREE, 1300], "{:?}", place.limits()?);
        ensure!((place.count(0)?, place.standing(0)?) == (0, None));
        place.unload()?;
        drop((first, second, third));
        ensure!(place.limits()? == [FREE; 2], "{:?}", place.limits()?);
        place.check_gone("unloaded")
    })
}

/// What fails late is undone, over nothing and over what runs.
#[test]
fn what_fails_leaves_all_as_it_was() -> Result<()> {
    by_each(BOTH, "what_fails_leaves_all_as_it_was", |place| {
        let fail = |place: &Place, limits| -> Result<()> {
            let mut loaded = place.load(limits)?;
            let applied = place.apply(&mut loaded)?;
            place.origin.run(|| {
                let undone = applied.undo(anyhow::anyhow!("something else failed"));
                ensure!(undone.complete, "{:#}", undone.error);
                loaded.generation.remove()
            })
        };
        let in_place =
            |place: &Place| Ok::<_, anyhow::Error>((place.pinned()?, place.standing(0)?, place.standing(1)?));
        fail(&place, [Some(1000), Some(1000)])?;
        ensure!(in_place(&place)? == (Vec::new(), None, None), "{:?}", in_place(&place)?);
        ensure!(place.limits()? == [FREE; 2]);

        let runs = place.put([Some(1000), None])?;
        let before = in_place(&place)?;
        fail(&place, [Some(1200), Some(1200)])?;
        ensure!(in_place(&place)? == before, "{:?}, not {before:?}", in_place(&place)?);
        ensure!(place.limits()? == [1000, FREE]);

        // An interface that has just gone refuses, after another has got its program.
        let mut loaded = place.load([Some(1300), Some(1300)])?;
        place.origin.ip("link delete wan1")?;
        ensure!(place.apply(&mut loaded).is_err(), "it has gone");
        ensure!(place.pinned()? == before.0, "{:?}", place.pinned()?);
        ensure!(place.limit(0)? == 1000);
        drop((runs, loaded));
        Ok(())
    })
}

/// Connections made while the program is replaced find the old one or the new one, never none.
#[test]
fn no_connection_meets_no_program_while_one_is_replaced() -> Result<()> {
    const CONNECTIONS: usize = 50;
    by_each(BOTH, "no_connection_meets_no_program_while_one_is_replaced", |place| {
        let mut old = place.put([Some(1000), None])?;
        let mut new = place.load([Some(1100), None])?;
        let [egress] = <[Egress; 1]>::try_from(place.pinned()?).ok().context("one")?;
        let (old, new) = (old.datapath.egress_fd()?, new.datapath.egress_fd()?);
        let (old, new) = (old.context("a program")?, new.context("a program")?);
        let done = AtomicBool::new(false);
        let replacements = std::thread::scope(|scope| {
            let replacing = scope.spawn(|| {
                place.origin.run(|| {
                    let mut replacements = 0;
                    while !done.load(Ordering::Relaxed) {
                        for program in [&new, &old] {
                            egress.replace(program.as_fd())?;
                            replacements += 1;
                        }
                    }
                    Ok(replacements)
                })
            });
            let connected = (0..CONNECTIONS).try_for_each(|connection| {
                let limit = place.limit(0)?;
                ensure!([1000, 1100].contains(&limit), "connection {connection}: {limit}");
                Ok(())
            });
            done.store(true, Ordering::Relaxed);
            let replaced = replacing
                .join()
                .map_err(|_| anyhow::anyhow!("the loader's thread panicked"))?;
            connected.and(replaced)
        })?;
        ensure!(replacements > CONNECTIONS, "only {replacements} replacements");
        Ok(())
    })
}

/// Whatever a load that was killed has left can be found, and taken away or gone on with.
#[test]
fn what_a_killed_load_leaves_is_taken_away() -> Result<()> {
    by_each(BOTH, "what_a_killed_load_leaves_is_taken_away", |place| {
        // Killed after one interface, with another's program already replaced: nothing says that it is in force.
        let runs = place.put([Some(1000), None])?;
        let mut killed = place.load([Some(1100), Some(1100)])?;
        drop(place.apply(&mut killed)?);
        drop(killed);
        ensure!(place.limits()? == [1100, 1100]);
        let next = place.put([Some(1200), None])?;
        ensure!(place.limits()? == [1200, FREE]);
        ensure!((place.count(1)?, place.standing(1)?) == (0, None));
        place.unload()?;
        drop((runs, next));
        place.check_gone("over a killed load")
    })
}

/// At each step of a filter's making: noted; its clsact there; and itself there, as of which all others tell.
#[test]
fn a_filter_that_was_never_finished_is_taken_away() -> Result<()> {
    for has_clsact in [false, true] {
        for load_follows in [false, true] {
            by_each(FILTERS, "a_filter_that_was_never_finished_is_taken_away", |place| {
                unfinished(&place, has_clsact, load_follows)
            })?;
        }
    }
    Ok(())
}

fn unfinished(place: &Place, has_clsact: bool, load_follows: bool) -> Result<()> {
    place.put([Some(1000), None])?;
    place.origin.run(|| {
        // Of all that was done, what was done first is left.
        let index = index(WAYS[0].0)?;
        clsact::remove(index)?;
        if has_clsact {
            clsact::add(index)?;
        }
        Ok(())
    })?;
    ensure!(place.pinned()?[0].interface_index().is_none(), "there is no filter");
    ensure!(place.limit(0)? == FREE);
    if load_follows {
        place.put([Some(1200), None])?;
        ensure!(place.limits()? == [1200, FREE]);
    }
    place.unload()?;
    place.check_gone(&format!("clsact {has_clsact}, load {load_follows}"))
}

/// Filters and queueing disciplines of others stay as they are, whatever comes and goes beside them.
#[test]
fn others_stay() -> Result<()> {
    by_each(FILTERS, "others_stay", |place| {
        // A program like ours, pinned by somebody else, who lowers nothing: its map knows no interface of these.
        let other = place.load([None, None])?;
        let pinned = "/sys/fs/bpf/others";
        place
            .origin
            .run(|| Ok(fs::rename(other.generation.egress(), pinned)?))?;
        place.origin.run(|| other.generation.remove())?;
        drop(other);

        // Somebody's clsact, with filters of the first priority, on both ways.
        place.tc("qdisc add dev wan0 clsact")?;
        let filter = |hook: &str, options: &str| {
            place.tc(&format!(
                "filter add dev wan0 {hook} {options} bpf direct-action object-pinned {pinned}"
            ))
        };
        filter("egress", "prio 1 handle 1")?;
        filter("egress", "prio 7")?;
        filter("ingress", "prio 1")?;
        let shown = || {
            Ok::<_, anyhow::Error>((
                place.tc("filter show dev wan0 egress")?,
                place.tc("filter show dev wan0 ingress")?,
            ))
        };
        let before = shown()?;
        place.put([Some(1000), Some(1000)])?;
        ensure!(place.limits()? == [1000; 2]);
        ensure!(place.count(0)? == 3, "{}", shown()?.0);
        place.put([Some(1100), None])?;
        ensure!(place.limits()? == [1100, FREE]);
        ensure!(place.count(0)? == 3, "{}", shown()?.0);
        place.put([None, Some(1000)])?;
        ensure!(shown()? == before, "{:?}, not {before:?}", shown()?);
        ensure!(place.limits()? == [FREE, 1000]);

        // On the other interface it was made for ours; but somebody has come to use it since.
        place.tc(&format!(
            "filter add dev wan1 ingress bpf direct-action object-pinned {pinned}"
        ))?;
        place.unload()?;
        ensure!(shown()? == before, "{:?}, not {before:?}", shown()?);
        ensure!(place.count(1)? == 0);
        ensure!(
            place.standing(1)?.as_deref() == Some(CLSACT),
            "somebody has a filter in it"
        );

        // Who comes first and is of another kind has a priority of its own, of which is told.
        place.tc("filter add dev wan0 egress prio 3 protocol ip bpf direct-action object-pinned /sys/fs/bpf/others")?;
        place.tc("filter delete dev wan0 egress prio 1")?;
        place.tc("filter add dev wan0 egress prio 1 protocol ip bpf direct-action object-pinned /sys/fs/bpf/others")?;
        let mut loaded = place.load([Some(1000), None])?;
        let applied = place.apply(&mut loaded)?;
        let [warning] = applied.warnings.as_slice() else {
            bail!("{:?}", applied.warnings);
        };
        ensure!(warning.contains("wan0: other filters come first"), "{warning}");
        ensure!(place.limit(0)? == 1000);
        Ok(())
    })
}

/// What stands in the place of clsact is named, and stays.
#[test]
fn an_ingress_qdisc_leaves_no_room() -> Result<()> {
    by_each(FILTERS, "an_ingress_qdisc_leaves_no_room", |place| {
        place.tc("qdisc add dev wan0 ingress")?;
        let mut loaded = place.load([Some(1000), None])?;
        let Err(error) = place.apply(&mut loaded) else {
            bail!("there is no room");
        };
        let line = format!("{error:#}");
        ensure!(
            line.starts_with(
                "interface wan0: has the queueing discipline ingress, beside which there is no room for clsact"
            ) && line.contains("`tc qdisc delete dev wan0 ingress`"),
            "{line}"
        );
        ensure!(place.standing(0)?.as_deref() == Some("ingress"));
        ensure!(place.pinned()?.is_empty());
        Ok(())
    })
}

/// An interface that has gone, one that is back, and one whose name another has now.
#[test]
fn interfaces_go_come_and_are_renamed() -> Result<()> {
    by_each(BOTH, "interfaces_go_come_and_are_renamed", |place| {
        place.put([Some(1000), Some(1000)])?;
        place.origin.ip("link delete wan1")?;
        let pinned = place.pinned()?;
        ensure!(
            pinned[0].interface_index().is_some() && pinned[1].interface_index().is_none(),
            "{pinned:?}"
        );
        // Whoever changes something else meanwhile does not forget it.
        let loaded = place.put([Some(1100), Some(1100)])?;
        ensure!(place.pinned()?.len() == 2, "{:?}", place.pinned()?);
        ensure!(place.origin.run(|| Ok(place.plan(&loaded)?.needs_program()))?);
        place.join("wan1", "far-wan1")?;
        place.put([Some(1200), Some(1200)])?;
        ensure!(place.limits()? == [1200; 2]);

        // One that is waited for no longer leaves nothing.
        place.origin.ip("link delete wan1")?;
        place.put([Some(1000), None])?;
        ensure!(place.pinned()?.len() == 1, "{:?}", place.pinned()?);

        // Its pin has the name that the interface has, so that another can have the old one.
        place.origin.ip("link set wan0 down")?;
        place.origin.ip("link set wan0 name wan1")?;
        place.origin.ip("link set wan1 up")?;
        place.put([None, Some(1000)])?;
        let pinned = place.pinned()?;
        ensure!(pinned.len() == 1 && pinned[0].made_for() == "wan1", "{pinned:?}");
        place.join("wan0", "further-wan0")?;
        place.put([Some(1000), Some(1000)])?;
        ensure!(place.pinned()?.len() == 2, "{:?}", place.pinned()?);
        place.unload()?;
        place.check_gone("renamed")
    })
}

/// A folder whose interfaces are in another network namespace.
#[test]
fn in_another_namespace_nothing_is_taken_for_ours() -> Result<()> {
    by_each(BOTH, "in_another_namespace_nothing_is_taken_for_ours", |place| {
        place.put([Some(1000), None])?;
        // An interface of the same index, with a program that is another's.
        let found = place.neighbour.run(|| pinned_egress(&place.root))?;
        let [egress] = found.as_slice() else { bail!("{found:?}") };
        match place.means {
            // The link tells the index that it has there.
            Means::Tcx => ensure!(egress.interface_index().is_some(), "{egress:?}"),
            Means::Clsact => ensure!(egress.interface_index().is_none(), "{egress:?}"),
        }
        ensure!(place.limit(0)? == 1000);
        Ok(())
    })
}

/// A record that nobody of ours has written is an error that names it.
#[test]
fn what_is_no_record_is_named() -> Result<()> {
    by_each(FILTERS, "what_is_no_record_is_named", |place| {
        let loaded = place.load([None, None])?;
        place.origin.run(|| {
            let path = place.root.egress_link_path("wan0");
            place.root.put_symlink("elsewhere".as_ref(), &path)?;
            let Err(error) = pinned_egress(&place.root) else {
                bail!("it is none");
            };
            let line = error.to_string();
            ensure!(
                line == format!("{FOLDER}/egress/wan0: points to elsewhere, which gre-decap never makes; remove it"),
                "{line}"
            );
            match fs::read_link(FOLDER.to_owned() + "/next") {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                other => bail!("{other:?}"),
            }
        })?;
        drop(loaded);
        Ok(())
    })
}
