//! Kernel modules: what they depend on, in which order they load, and their contents.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use object::{Object as _, ObjectSection as _};

/// A module, decompressed.
pub(super) struct Module {
    /// As `modprobe` takes it.
    pub(super) name: String,
    /// The ELF object.
    pub(super) contents: Vec<u8>,
}

/// `wanted` and what they depend on, in the order in which they can be loaded. Those built into the kernel are left out.
///
/// Packages hold no `modules.dep`: depmod makes that on installation, from what the modules themselves say.
pub(super) fn in_order(folder: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut order = Order {
        files: files(folder)?,
        built_in: built_in(folder)?,
        done: HashSet::new(),
        modules: Vec::new(),
    };
    for name in wanted {
        order.add(name)?;
    }
    Ok(order.modules)
}

struct Order {
    files: HashMap<String, PathBuf>,
    built_in: HashSet<String>,
    done: HashSet<String>,
    modules: Vec<Module>,
}

impl Order {
    fn add(&mut self, name: &str) -> Result<()> {
        if self.built_in.contains(name) || !self.done.insert(name.to_owned()) {
            return Ok(());
        }
        let path = self
            .files
            .get(name)
            .with_context(|| format!("the kernel has no module {name}"))?;
        let contents = read(path).with_context(|| format!("module {}", path.display()))?;
        for dependency in dependencies(&contents).with_context(|| format!("module {}", path.display()))? {
            self.add(&dependency)?;
        }
        self.modules.push(Module {
            name: name.to_owned(),
            contents,
        });
        Ok(())
    }
}

/// Module files by name, wherever below `folder` they lie.
fn files(folder: &Path) -> Result<HashMap<String, PathBuf>> {
    let mut files = HashMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if let Some(name) = name_of(&path) {
                files.insert(name, path);
            }
        }
    }
    Ok(files)
}

/// Modules that the kernel holds, from lines `kernel/net/packet/af_packet.ko`.
fn built_in(folder: &Path) -> Result<HashSet<String>> {
    let path = folder.join("modules.builtin");
    let list = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(list.lines().filter_map(|line| name_of(Path::new(line))).collect())
}

/// The name of the module in a file `name.ko` or `name.ko.xz`. A dash there is an underscore in the name.
fn name_of(path: &Path) -> Option<String> {
    let (name, rest) = path.file_name()?.to_str()?.split_once('.')?;
    (rest == "ko" || rest.starts_with("ko.")).then(|| name.replace('-', "_"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let contents = fs::read(path).context("read")?;
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => Ok(contents),
        Some("xz") => {
            let mut module = Vec::new();
            lzma_rs::xz_decompress(&mut contents.as_slice(), &mut module)
                .map_err(|error| anyhow!("decompress: {error:?}"))?;
            Ok(module)
        }
        _ => bail!("is compressed in a way not known here: teach xtask/src/vm/modules.rs"),
    }
}

/// What a module says it depends on: "depends=gre,ip_tunnel" in its section `.modinfo` of NUL-terminated strings.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let elf = object::File::parse(module).context("is no ELF object")?;
    let section = elf.section_by_name(".modinfo").context("has no section .modinfo")?;
    let info = section.data().context("section .modinfo")?;
    let depends = info
        .split(|byte| *byte == 0)
        .find_map(|field| field.strip_prefix(b"depends="));
    let depends = std::str::from_utf8(depends.context("does not say what it depends on")?)?;
    Ok(depends
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_modules() {
        let name = |path: &str| name_of(Path::new(path));
        assert_eq!(name("kernel/net/ipv4/ip_gre.ko.xz").as_deref(), Some("ip_gre"));
        assert_eq!(name("kernel/net/802/psnap-x.ko").as_deref(), Some("psnap_x"));
        assert_eq!(name("modules.builtin"), None);
        assert_eq!(name("vmlinuz"), None);
    }
}
