//! The shared libraries that a program needs to run elsewhere.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::process;

/// All of them, the dynamic loader too, at the paths where the loader looks for them.
pub(super) fn of(program: &Path) -> Result<Vec<PathBuf>> {
    let mut ldd = Command::new("ldd");
    let listed = process::output(
        ldd.arg(program),
        "it lists a program's libraries, and comes with the C library: install it",
    )?;
    Ok(paths(&listed))
}

/// From lines `libm.so.6 => /lib/libm.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`, `linux-vdso.so.1 (0x…)`.
fn paths(listed: &str) -> Vec<PathBuf> {
    let words = listed
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_what_is_a_file() {
        let listed =
            "\tlinux-vdso.so.1 (0x00007fff)\n\tlibm.so.6 => /lib/libm.so.6 (0x7f)\n\t/lib64/ld-linux.so.2 (0x7f)\n";
        assert_eq!(
            paths(listed),
            ["/lib/libm.so.6", "/lib64/ld-linux.so.2"].map(PathBuf::from)
        );
        assert!(paths("\tnot a dynamic executable\n").is_empty());
    }
}
