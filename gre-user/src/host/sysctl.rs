//! Kernel parameters of the calling thread's network namespace, as sysctl(8) shows them.

use std::fs;
use std::io;

/// A parameter of an interface's IPv4, or of all interfaces' if `interface` is "all".
pub(super) fn ipv4(interface: &str, parameter: &str) -> io::Result<u32> {
    read(&format!("/proc/sys/net/ipv4/conf/{interface}/{parameter}"))
}

/// The same of its IPv6.
pub(super) fn ipv6(interface: &str, parameter: &str) -> io::Result<u32> {
    read(&format!("/proc/sys/net/ipv6/conf/{interface}/{parameter}"))
}

/// A parameter of an interface's IPv4 as sysctl(8) takes it, with or without a value: a slash for a dot within a name.
pub(super) fn name(interface: &str, parameter: &str) -> String {
    format!("net.ipv4.conf.{}.{parameter}", interface.replace('.', "/"))
}

fn read(path: &str) -> io::Result<u32> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
    let text = fs::read_to_string(path).map_err(named)?;
    text.trim()
        .parse()
        .map_err(|error| named(io::Error::new(io::ErrorKind::InvalidData, error)))
}
