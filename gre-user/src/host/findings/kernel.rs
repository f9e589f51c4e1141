//! The kernel, what this process may do, and the place for the pinned state.

use std::path::Path;

use crate::config::{Config, Deliver, Tunnel};

use super::super::bpf::Bpf;
use super::super::facts::KernelFacts;
use super::super::finding::Finding;
use super::unknown;

const KERNEL: &str = "kernel";
const CAPABILITIES: &str = "capabilities";

pub(super) fn judge(facts: &KernelFacts, config: &Config, root: &Path) -> Vec<Finding> {
    let mut findings = capabilities(facts);
    findings.extend(bpf(facts));
    findings.extend(btf(facts, config));
    findings.extend(cpumap(facts));
    findings.extend(tcx(facts));
    findings.extend(bpffs(facts, root));
    findings
}

fn capabilities(facts: &KernelFacts) -> Vec<Finding> {
    match &facts.missing_capabilities {
        Ok(missing) if missing.is_empty() => Vec::new(),
        Ok(missing) => vec![Finding::error(
            CAPABILITIES,
            format!("{} missing, without which nothing can be loaded", missing.join(", ")),
            "run as root, or with these capabilities",
        )],
        Err(why) => vec![unknown(CAPABILITIES, "which are there", why, "run as root")],
    }
}

fn bpf(facts: &KernelFacts) -> Vec<Finding> {
    let lacks_capabilities = facts
        .missing_capabilities
        .as_ref()
        .is_ok_and(|missing| !missing.is_empty());
    match facts.bpf {
        Ok(Bpf::Absent) => {
            vec![Finding::error(
                KERNEL,
                "has no BPF",
                "boot one that is built with CONFIG_BPF_SYSCALL",
            )]
        }
        Ok(Bpf::Refused) if lacks_capabilities => vec![Finding::note(
            KERNEL,
            "cannot tell whether it compiles BPF programs and has XDP for frames in several buffers: not permitted",
            "run as root",
        )],
        Ok(Bpf::Refused) => vec![Finding::error(
            KERNEL,
            "refuses to load BPF programs, although the capabilities are there",
            "run outside the container or user namespace, or lift the filter or lockdown that forbids bpf(2)",
        )],
        Ok(Bpf::Usable { jit, frags }) => {
            let frags = (!frags).then(|| {
                Finding::error(
                    KERNEL,
                    "has no XDP for frames in several buffers, which the program is built for",
                    "boot Linux 5.18 or later",
                )
            });
            let jit = (!jit).then(|| {
                Finding::warning(
                    KERNEL,
                    "interprets BPF programs, which is several times slower than to compile them",
                    "run `sysctl -w net.core.bpf_jit_enable=1`, or boot one that is built with CONFIG_BPF_JIT",
                )
            });
            frags.into_iter().chain(jit).collect()
        }
        Err(ref why) => vec![unknown(
            KERNEL,
            "whether it loads XDP programs",
            why,
            "see what `gre-decap load` says",
        )],
    }
}

fn btf(facts: &KernelFacts, config: &Config) -> Option<Finding> {
    let sends_on = |tunnel: &Tunnel| tunnel.enabled && tunnel.deliver != Deliver::Stack;
    match &facts.btf {
        Ok(true) => None,
        Ok(false) if config.tunnels.iter().any(sends_on) => Some(Finding::warning(
            KERNEL,
            "shows no BTF, without which packets that a driver does not take when they are sent on are not counted",
            "boot one that is built with CONFIG_DEBUG_INFO_BTF, and mount sysfs on /sys",
        )),
        Ok(false) => Some(Finding::note(
            KERNEL,
            "shows no BTF: loading does without, but tracing programs need it",
            "boot one that is built with CONFIG_DEBUG_INFO_BTF, and mount sysfs on /sys",
        )),
        Err(why) => Some(unknown(KERNEL, "whether it has BTF", why, "run `ls /sys/kernel/btf`")),
    }
}

fn cpumap(facts: &KernelFacts) -> Option<Finding> {
    match &facts.cpumap_gro {
        Ok(Some(false)) => Some(Finding::warning(
            KERNEL,
            "has no GRO for what `spread` hands to other cores: TCP to this host costs more there",
            "boot Linux 6.15 or later",
        )),
        Ok(_) => None,
        Err(why) => Some(unknown(
            KERNEL,
            "whether it has GRO for what `spread` hands to other cores",
            why,
            "run as root",
        )),
    }
}

fn tcx(facts: &KernelFacts) -> Option<Finding> {
    let why = facts.tcx.as_ref().err()?;
    Some(unknown(
        KERNEL,
        "whether it has TCX, without which `clamp_mss` needs room for a filter",
        why,
        "run as root",
    ))
}

fn bpffs(facts: &KernelFacts, root: &Path) -> Option<Finding> {
    let subject = format!("--root {}", root.display());
    match &facts.root_in_bpffs {
        Ok(true) => None,
        Ok(false) => Some(Finding::error(
            subject,
            "no BPF filesystem is mounted there",
            "run `mount -t bpf bpf /sys/fs/bpf` (`ip netns exec` hides it by a /sys of its own: enter a network namespace \
             with `nsenter --net=/run/netns/NAME` instead)",
        )),
        Err(why) => Some(unknown(
            &subject,
            "whether a BPF filesystem is mounted there",
            why,
            "run as root",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_found, denied};
    use super::*;

    #[test]
    fn capabilities() {
        let missing = "error: capabilities: CAP_BPF, CAP_PERFMON missing, without which nothing can be loaded; run as root, \
                       or with these capabilities";
        assert_found(
            |case| case.facts.kernel.missing_capabilities = Ok(vec!["CAP_BPF", "CAP_PERFMON"]),
            &[missing],
        );
        assert_found(
            |case| {
                case.facts.kernel.missing_capabilities = Ok(vec!["CAP_BPF", "CAP_PERFMON"]);
                case.facts.kernel.bpf = Ok(Bpf::Refused);
            },
            &[
                missing,
                "note: kernel: cannot tell whether it compiles BPF programs and has XDP for frames in several buffers: not \
                 permitted; run as root",
            ],
        );
        assert_found(
            |case| case.facts.kernel.missing_capabilities = Err(denied()),
            &["note: capabilities: cannot tell which are there: Operation not permitted (os error 1); run as root"],
        );
    }

    #[test]
    fn bpf() {
        let assert_bpf = |bpf, lines: &[&str]| assert_found(|case| case.facts.kernel.bpf = bpf, lines);
        assert_bpf(
            Ok(Bpf::Absent),
            &["error: kernel: has no BPF; boot one that is built with CONFIG_BPF_SYSCALL"],
        );
        assert_bpf(
            Ok(Bpf::Refused),
            &[
                "error: kernel: refuses to load BPF programs, although the capabilities are there; run outside the container or \
               user namespace, or lift the filter or lockdown that forbids bpf(2)",
            ],
        );
        assert_bpf(
            Ok(Bpf::Usable {
                jit: false,
                frags: false,
            }),
            &[
                "error: kernel: has no XDP for frames in several buffers, which the program is built for; boot Linux 5.18 or \
                 later",
                "warning: kernel: interprets BPF programs, which is several times slower than to compile them; run `sysctl -w \
                 net.core.bpf_jit_enable=1`, or boot one that is built with CONFIG_BPF_JIT",
            ],
        );
        assert_bpf(
            Err(denied()),
            &[
                "note: kernel: cannot tell whether it loads XDP programs: Operation not permitted (os error 1); see what \
               `gre-decap load` says",
            ],
        );
    }

    #[test]
    fn btf() {
        assert_found(
            |case| {
                case.facts.kernel.btf = Ok(false);
                case.config.tunnels[0].deliver = Deliver::Route;
            },
            &[
                "warning: kernel: shows no BTF, without which packets that a driver does not take when they are sent on are not \
                 counted; boot one that is built with CONFIG_DEBUG_INFO_BTF, and mount sysfs on /sys",
            ],
        );
        assert_found(
            |case| case.facts.kernel.btf = Err(denied()),
            &[
                "note: kernel: cannot tell whether it has BTF: Operation not permitted (os error 1); run `ls \
               /sys/kernel/btf`",
            ],
        );
    }

    #[test]
    fn tcx() {
        for has_it in [true, false] {
            assert_found(|case| case.facts.kernel.tcx = Ok(Some(has_it)), &[]);
        }
        assert_found(
            |case| case.facts.kernel.tcx = Err(denied()),
            &[
                "note: kernel: cannot tell whether it has TCX, without which `clamp_mss` needs room for a filter: Operation not \
                 permitted (os error 1); run as root",
            ],
        );
    }

    #[test]
    fn cpumap() {
        assert_found(|case| case.facts.kernel.cpumap_gro = Ok(Some(true)), &[]);
        assert_found(
            |case| case.facts.kernel.cpumap_gro = Ok(Some(false)),
            &[
                "warning: kernel: has no GRO for what `spread` hands to other cores: TCP to this host costs more there; boot \
                 Linux 6.15 or later",
            ],
        );
        assert_found(
            |case| case.facts.kernel.cpumap_gro = Err(denied()),
            &[
                "note: kernel: cannot tell whether it has GRO for what `spread` hands to other cores: Operation not permitted \
                 (os error 1); run as root",
            ],
        );
    }

    #[test]
    fn bpffs() {
        assert_found(
            |case| case.facts.kernel.root_in_bpffs = Ok(false),
            &[
                "error: --root /sys/fs/bpf/gre-decap: no BPF filesystem is mounted there; run `mount -t bpf bpf /sys/fs/bpf` \
               (`ip netns exec` hides it by a /sys of its own: enter a network namespace with `nsenter \
               --net=/run/netns/NAME` instead)",
            ],
        );
        assert_found(
            |case| case.facts.kernel.root_in_bpffs = Err(denied()),
            &[
                "note: --root /sys/fs/bpf/gre-decap: cannot tell whether a BPF filesystem is mounted there: Operation not \
               permitted (os error 1); run as root",
            ],
        );
    }
}
