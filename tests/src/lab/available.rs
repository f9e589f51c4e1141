//! Whether this machine can hold a lab, and what a test does when it cannot.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::Lab;
use crate::skip::skip;

/// Capabilities that a lab needs, with their bits (linux/capability.h).
const CAPABILITIES: [(&str, u32); 4] = [
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_SYS_ADMIN", 21),
];
const CAP_BPF: u32 = 39;

impl Lab {
    /// Whether a lab can be made here.
    ///
    /// # Errors
    ///
    /// All that is missing, in one line, each with its remedy.
    pub fn available() -> Result<(), String> {
        let mut missing = missing_capabilities();
        match Command::new("ip").arg("-V").output() {
            Ok(output) if String::from_utf8_lossy(&output.stdout).contains("iproute2") => {}
            Ok(_) => missing.push("iproute2's `ip` (another `ip` comes first in PATH: install iproute2)".to_owned()),
            Err(error) => missing.push(format!("iproute2's `ip` ({error}: install iproute2)")),
        }
        for (path, remedy) in [
            (
                "/sys/fs/bpf",
                "a kernel with CONFIG_BPF_SYSCALL, and sysfs mounted on /sys",
            ),
            (
                "/dev/net/tun",
                "a kernel with CONFIG_TUN (`modprobe tun`; in a container `--device /dev/net/tun`)",
            ),
            ("/proc/sys/net/ipv6", "a kernel with IPv6, not disabled at boot"),
        ] {
            if !Path::new(path).exists() {
                missing.push(format!("{path} ({remedy})"));
            }
        }
        if missing.is_empty() {
            // What is left is a sandbox's filter, which only trying shows.
            match Lab::new().and_then(|lab| lab.namespace("trial")) {
                Ok(_) => return Ok(()),
                Err(error) => missing.push(format!("leave to make namespaces and mounts: {error:#}")),
            }
        }
        Err(missing.join("; "))
    }

    /// A lab for the test `name`, or none, loudly, if this machine cannot hold one. Called by
    /// [`lab_or_skip!`](crate::lab_or_skip), which knows the name.
    ///
    /// # Panics
    ///
    /// When the lab cannot be made and the environment variable `GRE_TESTS_MUST_RUN` is 1.
    pub fn for_test(name: &str) -> Option<Self> {
        let missing = match Self::available() {
            Ok(()) => match Self::new() {
                Ok(lab) => return Some(lab),
                Err(error) => format!("{error:#}"),
            },
            Err(missing) => missing,
        };
        skip(name, &missing);
        None
    }
}

fn missing_capabilities() -> Vec<String> {
    let status = match fs::read_to_string("/proc/thread-self/status") {
        Ok(status) => status,
        Err(error) => return vec![format!("/proc/thread-self/status ({error}: mount proc on /proc)")],
    };
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective >> bit & 1 == 1;
    let mut missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(_, bit)| !has(*bit))
        .map(|(name, _)| *name)
        .collect();
    // CAP_SYS_ADMIN holds all that CAP_BPF does (bpf_capable() in include/linux/capability.h).
    if !has(CAP_BPF) && missing.contains(&"CAP_SYS_ADMIN") {
        missing.push("CAP_BPF");
    }
    if missing.is_empty() {
        Vec::new()
    } else {
        vec![format!("{} (run as root)", missing.join(", "))]
    }
}

/// A [`Lab`](crate::lab::Lab) for the calling test in an `Option`: none where the machine cannot hold one, after saying
/// so on stderr, or a panic where the environment variable `GRE_TESTS_MUST_RUN` is 1.
///
/// ```no_run
/// # fn a_test() {
/// let Some(lab) = gre_tests::lab_or_skip!() else { return };
/// # }
/// ```
#[macro_export]
macro_rules! lab_or_skip {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        $crate::lab::Lab::for_test(name.strip_suffix("::here").unwrap_or(name))
    }};
}
