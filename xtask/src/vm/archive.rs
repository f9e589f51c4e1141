//! Debian's package archive, seen through an apt with configuration and folders of its own: nothing is installed, and the
//! system's apt keeps its state.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::process;

/// Lists of packages are fetched again when they are older.
const LISTS_ARE_GOOD_FOR: Duration = Duration::from_secs(24 * 3600);
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const REMEDY: &str = "virtual machines are made of Debian's packages: see to apt and the network, and try again";

/// The mirrors that the system's own apt uses, and the Debian release it is.
pub(super) struct Mirrors {
    /// As Debian names its releases: `bookworm`.
    pub(super) codename: String,
    main: String,
    security: String,
}

impl Mirrors {
    /// Asks the system's apt.
    pub(super) fn of_system() -> Result<Self> {
        if !process::is_installed("apt-get") || !process::is_installed("dpkg") {
            bail!("apt-get and dpkg are missing: kernels and QEMU come as Debian packages, so run this on Debian");
        }
        let mut found = Self::known()?;
        if found.is_none() {
            // Without lists apt does not know whose its sources are.
            process::run(Command::new("apt-get").args(["-qq", "update"]), REMEDY)?;
            found = Self::known()?;
        }
        found.context("apt's sources name no Debian mirror with the component main: run this on Debian")
    }

    fn known() -> Result<Option<Self>> {
        let mut command = Command::new("apt-get");
        command.args([
            "indextargets",
            "--format",
            "$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)",
        ]);
        command.arg("Created-By: Packages");
        Ok(Self::among(&process::output(&mut command, REMEDY)?))
    }

    /// From lines of origin, codename, component and address.
    fn among(targets: &str) -> Option<Self> {
        let sources = || {
            targets
                .lines()
                .filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
                    ["Debian", codename, "main", address] => Some((codename, address)),
                    _ => None,
                })
        };
        let (codename, main) = sources().find(|(codename, _)| !codename.contains('-'))?;
        let security = sources()
            .find(|(codename, _)| codename.ends_with("-security"))
            .map(|(_, address)| address.to_owned());
        Some(Self {
            codename: codename.to_owned(),
            main: main.to_owned(),
            // Mirrors of the one usually hold the other beside it.
            security: security.unwrap_or_else(|| main.trim_end_matches('/').to_owned() + "-security/"),
        })
    }

    fn source(&self, suite: &str) -> String {
        let address = if suite.ends_with("-security") {
            &self.security
        } else {
            &self.main
        };
        // A suite whose support has ended is no longer signed anew, and still good for its kernels.
        let mut options = "check-valid-until=no".to_owned();
        if Path::new(KEYRING).exists() {
            options += " signed-by=";
            options += KEYRING;
        }
        format!("deb [{options}] {address} {suite} main\n")
    }
}

/// Which packages an archive takes for installed.
#[derive(Clone, Copy)]
pub(super) enum Installed {
    /// The system's own: what they bring is there to be used.
    Systems,
    /// None.
    None,
}

/// Some suites of the archive.
pub(super) struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// The archive with those of `suites` that can be reached, which must be one at least. Everything is kept in
    /// `folder`.
    pub(super) fn open(folder: PathBuf, mirrors: &Mirrors, suites: &[&str], installed: Installed) -> Result<Self> {
        let archive = Self { folder };
        for folder in ["state", "lists/partial", "cache/archives/partial", "preferences"] {
            let path = archive.folder.join(folder);
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        archive.configure(installed)?;
        let sources = archive.path("sources.list");
        let are_good = fs::metadata(&sources)
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|written| written.elapsed().is_ok_and(|age| age < LISTS_ARE_GOOD_FOR));
        if !are_good {
            let reached = archive.update(mirrors, suites)?;
            fs::write(&sources, reached).with_context(|| format!("write {}", sources.display()))?;
        }
        Ok(archive)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn configure(&self, installed: Installed) -> Result<()> {
        let own_status = self.path("status");
        fs::write(&own_status, "").with_context(|| format!("write {}", own_status.display()))?;
        let status = match installed {
            Installed::Systems => Path::new("/var/lib/dpkg/status"),
            Installed::None => &own_status,
        };
        let folder = self.folder.display();
        let settings = format!(
            r#"Dir::State "{folder}/state";
Dir::State::lists "{folder}/lists";
Dir::State::status "{}";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/preferences";
Dir::Etc::preferences "{folder}/preferences.none";
Dir::Etc::preferencesparts "{folder}/preferences";
APT::Sandbox::User "root";
APT::Get::List-Cleanup "false";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
"#,
            status.display()
        );
        let path = self.path("apt.conf");
        fs::write(&path, settings).with_context(|| format!("write {}", path.display()))
    }

    /// Fetches the lists of each suite by itself, and gives the sources of those that are there.
    fn update(&self, mirrors: &Mirrors, suites: &[&str]) -> Result<String> {
        let mut reached = String::new();
        let trial = self.path("trial.list");
        for suite in suites {
            let source = mirrors.source(suite);
            fs::write(&trial, &source).with_context(|| format!("write {}", trial.display()))?;
            let mut update = self.apt("apt-get");
            update.args(["-qq", "update", "--error-on=any", "-o"]);
            update.arg(format!("Dir::Etc::sourcelist={}", trial.display()));
            match process::run(&mut update, "this suite is left out") {
                Ok(()) => reached += &source,
                Err(error) => eprintln!("{suite} cannot be had: {error:#}"),
            }
        }
        ensure!(
            !reached.is_empty(),
            "of {} none can be had: {REMEDY}",
            suites.join(", ")
        );
        Ok(reached)
    }

    /// Whether a suite was reached.
    pub(super) fn has(&self, suite: &str) -> Result<bool> {
        let path = self.path("sources.list");
        let sources = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(sources.split_whitespace().any(|word| word == suite))
    }

    /// One of apt's programs, with this archive's configuration.
    pub(super) fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.path("apt.conf")).env("LC_ALL", "C");
        command
    }

    /// The names of all packages that begin with `prefix`.
    pub(super) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = process::output(self.apt("apt-cache").args(["pkgnames", prefix]), REMEDY)?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// What a package directly depends on, the names alone.
    pub(super) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let mut show = self.apt("apt-cache");
        show.args(["show", "--no-all-versions", package]);
        Ok(depends(&process::output(&mut show, REMEDY)?))
    }

    /// Fetches packages and unpacks them into a folder, which then holds nothing else; an earlier one is kept as it is.
    pub(super) fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        if into.is_dir() {
            return Ok(());
        }
        let debs = self.path("debs");
        remove(&debs)?;
        fs::create_dir_all(&debs).with_context(|| format!("make {}", debs.display()))?;
        eprintln!("Fetching {}", packages.join(", "));
        let mut download = self.apt("apt-get");
        download.args(["-qq", "download"]).args(packages).current_dir(&debs);
        process::run(&mut download, REMEDY)?;
        unpack_all(&debs, into)?;
        remove(&debs)
    }

    /// The same for a package of the suite `release` and everything that it needs and the system does not have.
    pub(super) fn unpack_with_dependencies(&self, package: &str, release: &str, into: &Path) -> Result<()> {
        if into.is_dir() {
            return Ok(());
        }
        eprintln!("Fetching {package} with what it needs");
        let mut download = self.apt("apt-get");
        download.args(["-qq", "install", "--download-only", "--reinstall", "--yes"]);
        download.args(["--no-install-recommends", "--target-release", release, package]);
        download.args(["-o", "Debug::NoLocking=true"]);
        process::output(&mut download, REMEDY)?;
        unpack_all(&self.path("cache/archives"), into)
    }
}

/// Unpacks all packages in `debs`, as one step: the folder is there once it is whole.
fn unpack_all(debs: &Path, into: &Path) -> Result<()> {
    let partial = into.with_extension("partial");
    remove(&partial)?;
    fs::create_dir_all(&partial).with_context(|| format!("make {}", partial.display()))?;
    for entry in fs::read_dir(debs).with_context(|| format!("read {}", debs.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            process::run(Command::new("dpkg").arg("-x").arg(&path).arg(&partial), REMEDY)?;
        }
    }
    fs::rename(&partial, into).with_context(|| format!("rename {} to {}", partial.display(), into.display()))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}: remove it by hand", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The names in the field "Depends" of a package's description, of alternatives the first.
fn depends(description: &str) -> Vec<String> {
    let field = description.lines().find_map(|line| line.strip_prefix("Depends: "));
    let names = field.unwrap_or_default().split(',').filter_map(|dependency| {
        let name = dependency.split_whitespace().next()?;
        Some(name.to_owned())
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "\
Debian bookworm contrib http://mirror.example/debian/
Node nodistro main https://node.example/
Debian bookworm-updates main http://mirror.example/debian/
Debian bookworm main http://mirror.example/debian/
";

    #[test]
    fn mirrors_are_the_systems() {
        let mirrors = Mirrors::among(TARGETS).unwrap();
        assert_eq!(mirrors.codename, "bookworm");
        assert!(
            mirrors
                .source("trixie")
                .contains("] http://mirror.example/debian/ trixie main")
        );
        assert!(
            mirrors
                .source("trixie-security")
                .contains("] http://mirror.example/debian-security/ trixie-security main")
        );
        let security = format!("{TARGETS}Debian bookworm-security main http://security.example/all/\n");
        assert_eq!(
            Mirrors::among(&security).unwrap().security,
            "http://security.example/all/"
        );
        assert!(Mirrors::among("Node nodistro main https://node.example/\n").is_none());
    }

    #[test]
    fn names_of_dependencies() {
        let description =
            "Package: x\nDepends: dracut | initramfs-tools (>= 0.120), kmod, linux-binary-7 (= 7.3.4-1)\n";
        assert_eq!(depends(description), ["dracut", "kmod", "linux-binary-7"]);
        assert!(depends("Package: x\n").is_empty());
    }
}
