//! QEMU, unpacked from Debian's packages without being installed.

use std::{
    env,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result};
use gre_tests::guest::CARDS;

use super::{
    archive::{Archive, Installed, Mirrors},
    cable::Cable,
};

const PACKAGE: &str = "qemu-system-x86";
/// Where packages for x86-64 have their libraries.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
/// Firmware, and what boots a kernel from a file.
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

/// For the kernel.
const KERNEL_ARGUMENTS: [&str; 5] = [
    "console=ttyS0",
    // The end of the kernel is the end of the machine.
    "panic=-1",
    "mitigations=off",
    // Without, it panics if the timer's interrupts stay out for some milliseconds, as they do on a busy host.
    "no_timer_check",
    "rdinit=/init",
];

/// The same where only tests run. Emulation is slow enough without: to write zeros to all memory that is given out, by default in
/// Debian's kernels.
const NO_ZEROS: &str = "init_on_alloc=0";

/// How the machine's instructions are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// By the processor. Inside some virtual machines the device is there, but the processor's help is not complete.
    Kvm,
    /// Translated, by QEMU.
    Tcg,
    /// The same, for one processor whose instructions take a nanosecond of the machine's own time each.
    Counting,
}

/// The processor that is emulated. What it says of fast string instructions would have the kernel copy and clear memory by them,
/// which are translated to a byte at a time.
const TRANSLATED: &str = "max,-erms,-fsrm";

/// A QEMU that can be started.
pub(super) struct Qemu {
    folder: PathBuf,
    kvm: AtomicBool,
    is_counting: bool,
}

impl Qemu {
    /// Fetches QEMU, unless it is there already: the system's release has it, and newer in its backports. Older ones than
    /// those have crashed guests.
    pub(super) fn fetch(mirrors: &Mirrors, folder: &Path) -> Result<Self> {
        let unpacked = folder.join("qemu");
        if !unpacked.is_dir() {
            let release = &mirrors.codename;
            let (security, backports) = (format!("{release}-security"), format!("{release}-backports"));
            let suites = [release, &security, &backports].map(String::as_str);
            let archive = Archive::open(folder.join("qemu.apt"), mirrors, &suites, Installed::Systems)?;
            let target = if archive.has(&backports)? { &backports } else { release };
            archive.unpack_with_dependencies(PACKAGE, target, &unpacked)?;
        }
        let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        Ok(Self {
            folder: unpacked,
            kvm: AtomicBool::new(kvm),
            is_counting: false,
        })
    }

    /// The same, for machines in which time is the number of instructions.
    pub(super) fn counting(self) -> Self {
        Self {
            is_counting: true,
            ..self
        }
    }

    /// How the next machine will run.
    pub(super) fn accelerator(&self) -> Accelerator {
        if self.is_counting {
            Accelerator::Counting
        } else if self.kvm.load(Ordering::Relaxed) {
            Accelerator::Kvm
        } else {
            Accelerator::Tcg
        }
    }

    /// Does without the processor's help from now on.
    pub(super) fn give_up_kvm(&self) {
        self.kvm.store(false, Ordering::Relaxed);
    }

    /// A machine with two processors, or one that counts, that boots `kernel`, with the console in a file and its second serial port on
    /// standard output. With a cable it has two more network cards.
    pub(super) fn command(
        &self,
        accelerator: Accelerator,
        kernel: &Path,
        initramfs: &Path,
        console: &Path,
        cable: Option<&Cable>,
    ) -> Result<Command> {
        // Whatever becomes of us, the machine does not outlive us.
        let setpriv = "setpriv";
        let mut command = cable.map_or_else(|| Command::new(setpriv), |cable| cable.command(setpriv));
        command.args(["--pdeathsig", "KILL", "--"]);
        command.arg(self.folder.join("usr/bin/qemu-system-x86_64"));
        let libraries = LIBRARIES.map(|path| self.folder.join(path)).into_iter();
        let inherited = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let inherited = env::split_paths(&inherited).filter(|path| !path.as_os_str().is_empty());
        let libraries = env::join_paths(libraries.chain(inherited))
            .with_context(|| format!("{} cannot stand in a search path", self.folder.display()))?;
        command.env("LD_LIBRARY_PATH", libraries);
        for path in FIRMWARE {
            command.arg("-L").arg(self.folder.join(path));
        }
        command.args(match accelerator {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host", "-smp", "2"],
            // One thread for all processors has never crashed a guest.
            Accelerator::Tcg => ["-accel", "tcg,thread=single", "-cpu", TRANSLATED, "-smp", "2"],
            Accelerator::Counting => ["-accel", "tcg,thread=single", "-cpu", "max", "-smp", "1"],
        });
        if accelerator == Accelerator::Counting {
            // Where it has nothing to do, its time goes on at once.
            command.args(["-icount", "shift=0,sleep=off"]);
        }
        command.args(["-M", "q35", "-m", "1024"]);
        command.args(["-display", "none", "-nodefaults", "-no-reboot"]);
        // Two network cards with a cable between them.
        for (card, mac) in ["card0", "card1"].into_iter().zip(CARDS) {
            command.arg("-netdev").arg(format!("hubport,id={card},hubid=0"));
            command
                .arg("-device")
                .arg(format!("virtio-net-pci,netdev={card},romfile=,mac={mac}"));
        }
        if cable.is_some() {
            command.args(Cable::arguments());
        }
        command.arg("-serial").arg(format!("file:{}", console.display()));
        command.args(["-serial", "stdio"]);
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
        let mut arguments = KERNEL_ARGUMENTS.to_vec();
        if accelerator == Accelerator::Tcg {
            arguments.push(NO_ZEROS);
        }
        command.arg("-append").arg(arguments.join(" "));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }
}
