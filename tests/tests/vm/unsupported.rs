//! On a kernel that is too old, the command line says so, and what is lacking. These are all the tests that run there.

use anyhow::{Context, Result, ensure};
use gre_tests::lab_or_skip;
use gre_tests::skip::binary_or_skip;

const CONFIG: &str = r#"
[[interface]]
name = "lo"
mode = "generic"

[[tunnel]]
name = "scrub-fra"
local = "198.51.100.20"
remote = "203.0.113.10"
"#;

#[test]
fn check_and_load_name_what_the_kernel_lacks() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let Some(binary) = binary_or_skip("check_and_load_name_what_the_kernel_lacks") else {
        return Ok(());
    };
    let origin = lab.namespace("origin")?;
    let config = lab.write_file("config.toml", CONFIG)?;
    for (command, line) in [
        (
            "check",
            "kernel: has no XDP for frames in several buffers, which the program is built for; boot Linux 5.18 or later",
        ),
        ("load", "is too old: it lacks"),
        ("run", "is too old: it lacks"),
    ] {
        let mut gre_decap = origin.command(&binary);
        let done = gre_decap.arg("--config").arg(&config).arg(command).output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.code() == Some(1), "{command}: {}: {said}", done.status);
        let last = said.lines().last().context("nothing was said")?;
        ensure!(last.starts_with("error: ") && last.contains(line), "{command}: {said}");
        let pinned = origin.run(|| Ok(std::fs::exists("/sys/fs/bpf/gre-decap")?))?;
        ensure!(!pinned, "{command} left something pinned");
    }
    Ok(())
}
