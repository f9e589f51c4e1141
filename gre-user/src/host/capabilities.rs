//! What the calling thread may do (capabilities(7)).

use anyhow::{Context, Result};
use caps::CapSet;
use strum::IntoStaticStr;

/// A capability that some command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum Capability {
    /// Load BPF programs and make BPF maps.
    #[strum(serialize = "CAP_BPF")]
    Bpf,
    /// Attach XDP programs, and load those of networking kinds.
    #[strum(serialize = "CAP_NET_ADMIN")]
    NetAdmin,
    /// Load programs that reckon with packet pointers as compilers do, which the verifier refuses without it.
    #[strum(serialize = "CAP_PERFMON")]
    Perfmon,
    /// Look up BPF objects by id, and mount.
    #[strum(serialize = "CAP_SYS_ADMIN")]
    SysAdmin,
}

impl Capability {
    /// What loading and attaching needs.
    pub const FOR_LOADING: [Self; 3] = [Self::Bpf, Self::NetAdmin, Self::Perfmon];

    fn caps(self) -> caps::Capability {
        match self {
            Self::Bpf => caps::Capability::CAP_BPF,
            Self::NetAdmin => caps::Capability::CAP_NET_ADMIN,
            Self::Perfmon => caps::Capability::CAP_PERFMON,
            Self::SysAdmin => caps::Capability::CAP_SYS_ADMIN,
        }
    }
}

/// The names of those capabilities that the calling thread does not have in effect, in the order given.
///
/// CAP_SYS_ADMIN stands in for CAP_BPF and CAP_PERFMON, which were split from it in Linux 5.8 (`bpf_capable()` and
/// `perfmon_capable()` in `linux/capability.h`).
///
/// # Errors
///
/// When the kernel does not say, as under a filter that forbids capget(2).
pub fn missing_capabilities(needed: &[Capability]) -> Result<Vec<&'static str>> {
    let effective = caps::read(None, CapSet::Effective).context("capabilities: cannot be read")?;
    Ok(missing(needed, |capability| effective.contains(&capability.caps())))
}

fn missing(needed: &[Capability], has: impl Fn(Capability) -> bool) -> Vec<&'static str> {
    let is_missing = |capability: Capability| match capability {
        Capability::Bpf | Capability::Perfmon => !has(capability) && !has(Capability::SysAdmin),
        Capability::NetAdmin | Capability::SysAdmin => !has(capability),
    };
    needed
        .iter()
        .copied()
        .filter(|&capability| is_missing(capability))
        .map(Into::into)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::Capability::{Bpf, NetAdmin, Perfmon, SysAdmin};
    use super::*;

    #[test]
    fn sys_admin_stands_in_for_what_was_split_from_it() {
        let needed = [Bpf, NetAdmin, Perfmon, SysAdmin];
        let missing = |held: &[Capability]| missing(&needed, |capability| held.contains(&capability));
        assert_eq!(
            missing(&[]),
            ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_SYS_ADMIN"]
        );
        assert_eq!(missing(&[SysAdmin]), ["CAP_NET_ADMIN"]);
        assert_eq!(missing(&[Bpf, NetAdmin]), ["CAP_PERFMON", "CAP_SYS_ADMIN"]);
        assert!(missing(&needed).is_empty());
    }
}
