//! Where the kernel's own structures have their members, from its description of its types (BTF), and which namespace
//! this is to the kernel.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, anyhow};
use btfparse::{Error, ErrorKind, Offset, Readable, TypeInformation, TypeVariant};

/// Where the kernel shows its BTF.
pub(super) const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Which network namespace the calling thread is in.
const OWN_NETNS: &str = "/proc/thread-self/ns/net";

/// The types of the running kernel.
pub struct KernelTypes(TypeInformation);

/// What it takes to tell which interface a `struct net_device *` is: offsets in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedirectOffsets {
    /// In `struct net_device`: its index (u32).
    pub net_device_ifindex: u32,
    /// In `struct net_device`: the pointer to the `struct net` that it is in.
    pub net_device_net: u32,
    /// In `struct net`: the number of the namespace (u32), as [`own_netns_inum`] has it.
    pub net_inum: u32,
}

impl KernelTypes {
    /// Reads all types; none if this kernel does not describe them (built without CONFIG_DEBUG_INFO_BTF). Takes a moment.
    ///
    /// # Errors
    ///
    /// If the description cannot be read.
    pub fn read() -> Result<Option<Self>> {
        match fs::read(VMLINUX_BTF) {
            Ok(bytes) => Self::parse(bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(VMLINUX_BTF),
        }
    }

    fn parse(bytes: Vec<u8>) -> Result<Self> {
        let types = TypeInformation::new(&Bytes(bytes));
        types
            .map(Self)
            .map_err(|error| anyhow!("{VMLINUX_BTF}: {}", error.message()))
    }

    /// Where to find out which interface a `struct net_device *` is.
    ///
    /// # Errors
    ///
    /// If the kernel has none of these members: it is built without network namespaces (CONFIG_NET_NS), or of a kind not
    /// known yet.
    pub fn redirect_offsets(&self) -> Result<RedirectOffsets> {
        Ok(RedirectOffsets {
            net_device_ifindex: self.offset("net_device", "ifindex")?,
            net_device_net: self.offset("net_device", "nd_net.net")?,
            net_inum: self.offset("net", "ns.inum")?,
        })
    }

    /// Whether the packets that the kernel builds of frames which a CPUMAP gave to another CPU go through GRO there: since
    /// Linux 6.15.
    ///
    /// # Errors
    ///
    /// If the kernel has no CPUMAP.
    pub fn cpumap_has_gro(&self) -> Result<bool> {
        let entry = self.structure("bpf_cpu_map_entry")?;
        Ok(self.0.offset_of(entry, "gro").is_ok())
    }

    /// The offset of a member, in bytes. A dot leads into a structure; those without a name are looked into.
    fn offset(&self, structure: &str, member: &str) -> Result<u32> {
        match self.0.offset_of(self.structure(structure)?, member) {
            Ok((_, Offset::ByteOffset(offset))) => Ok(offset),
            Ok((_, Offset::BitOffsetAndSize(..))) => Err(anyhow!("is a bit field")),
            Err(error) => Err(anyhow!("{}", error.message())),
        }
        .with_context(|| format!("this kernel's struct {structure}, {member}"))
    }

    /// The number of a type. Others than structures may have the same name.
    fn structure(&self, name: &str) -> Result<u32> {
        let is_it = |kind: &TypeVariant| match kind {
            TypeVariant::Struct(structure) => structure.name().as_deref() == Some(name),
            _ => false,
        };
        let found = self.0.get().iter().find(|(_, kind)| is_it(kind));
        let (id, _) = found.with_context(|| format!("this kernel has no struct {name}"))?;
        Ok(*id)
    }
}

/// The number by which the kernel knows the calling thread's network namespace: `ns.inum` of its `struct net`.
///
/// # Errors
///
/// If procfs does not tell.
pub fn own_netns_inum() -> Result<u32> {
    let inode = fs::metadata(OWN_NETNS).context(OWN_NETNS)?.ino();
    inode.try_into().with_context(|| format!("{OWN_NETNS}: inode {inode}"))
}

struct Bytes(Vec<u8>);

impl Readable for Bytes {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let start = usize::try_from(offset).ok();
        let end = start.and_then(|start| start.checked_add(buffer.len()));
        let bytes = start.zip(end).and_then(|(start, end)| self.0.get(start..end));
        let bytes = bytes.ok_or_else(|| Error::new(ErrorKind::EOF, "ends too soon"))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Kinds of `linux/btf.h`, in the upper half of `info`; in the lower the number of members.
    const INT: u32 = 1 << 24;
    const PTR: u32 = 2 << 24;
    const STRUCT: u32 = 4 << 24;
    const UNION: u32 = 5 << 24;
    const TYPEDEF: u32 = 8 << 24;

    /// BTF put together by hand (Documentation/bpf/btf.rst of the kernel).
    struct Builder {
        types: Vec<u8>,
        strings: Vec<u8>,
    }

    impl Builder {
        fn new() -> Self {
            Self {
                types: Vec::new(),
                strings: vec![0],
            }
        }

        fn words(mut self, words: &[u32]) -> Self {
            self.types.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
            self
        }

        fn name(&mut self, name: &str) -> u32 {
            if name.is_empty() {
                return 0;
            }
            let at = self.strings.len() as u32;
            self.strings.extend(name.as_bytes());
            self.strings.push(0);
            at
        }

        /// A type without members: `last` is its size, or the type that it is about.
        fn simple(mut self, name: &str, kind: u32, last: u32) -> Self {
            let name = self.name(name);
            self.words(&[name, kind, last])
        }

        /// A structure or union, its members by name, type and offset in bytes.
        fn members(mut self, name: &str, kind: u32, members: &[(&str, u32, u32)]) -> Self {
            let name = self.name(name);
            self = self.words(&[name, kind | members.len() as u32, 64]);
            for &(name, kind, offset) in members {
                let name = self.name(name);
                self = self.words(&[name, kind, offset * 8]);
            }
            self
        }

        fn build(self) -> KernelTypes {
            const HEADER: u32 = 24;
            let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
            let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
            bytes.extend([1, 0]);
            for word in [HEADER, 0, types, types, strings] {
                bytes.extend(word.to_ne_bytes());
            }
            bytes.extend(self.types);
            bytes.extend(self.strings);
            KernelTypes::parse(bytes).unwrap_or_else(|error| panic!("{error:#}"))
        }
    }

    /// Types 1 to 7; `net_device` is 8.
    fn kernel() -> Builder {
        Builder::new()
            .simple("unsigned int", INT, 4)
            .words(&[32])
            .members("ns_common", STRUCT, &[("inum", 1, 12)])
            .members("net", STRUCT, &[("count", 1, 0), ("ns", 2, 16)])
            .simple("", PTR, 3)
            .members("", STRUCT, &[("net", 4, 0)])
            .simple("possible_net_t", TYPEDEF, 5)
            // Of a name that a structure has too.
            .simple("net", TYPEDEF, 1)
    }

    #[test]
    fn offsets_of_members_in_named_and_nameless_structures() {
        let plain = kernel()
            .members("net_device", STRUCT, &[("ifindex", 1, 8), ("nd_net", 6, 40)])
            .build();
        let expected = RedirectOffsets {
            net_device_ifindex: 8,
            net_device_net: 40,
            net_inum: 28,
        };
        assert_eq!(plain.redirect_offsets().expect("all there"), expected);

        let nested = kernel()
            .members("net_device", STRUCT, &[("", 9, 32)])
            .members("", UNION, &[("state", 1, 0), ("", 10, 0)])
            .members("", STRUCT, &[("nd_net", 6, 8), ("ifindex", 1, 20)])
            .build();
        let expected = RedirectOffsets {
            net_device_ifindex: 52,
            net_device_net: 40,
            net_inum: 28,
        };
        assert_eq!(nested.redirect_offsets().expect("all there"), expected);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |types: Builder| format!("{:#}", types.build().redirect_offsets().expect_err("missing"));
        assert_eq!(error(kernel()), "this kernel has no struct net_device");
        // Without network namespaces the type is empty.
        let without = kernel()
            .members("net_device", STRUCT, &[("ifindex", 1, 8), ("nd_net", 9, 40)])
            .members("", STRUCT, &[]);
        assert_eq!(
            error(without),
            "this kernel's struct net_device, nd_net.net: Member 'net' not found"
        );
    }

    #[test]
    fn gro_of_the_cpumap() {
        let has = |members: &[_]| {
            let types = kernel().members("bpf_cpu_map_entry", STRUCT, members).build();
            types.cpumap_has_gro().expect("a CPUMAP")
        };
        assert!(!has(&[("cpu", 1, 0)]));
        assert!(has(&[("cpu", 1, 0), ("gro", 2, 8)]));
        let error = kernel().build().cpumap_has_gro().expect_err("no CPUMAP");
        assert_eq!(error.to_string(), "this kernel has no struct bpf_cpu_map_entry");
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        assert!(KernelTypes::parse(vec![0x9f, 0xeb]).is_err());
        assert!(KernelTypes::parse(Vec::new()).is_err());
    }

    #[test]
    fn this_kernel() {
        assert_ne!(own_netns_inum().expect("procfs"), 0);
        if let Some(types) = KernelTypes::read().expect("sysfs") {
            let offsets = types.redirect_offsets().expect("all there");
            assert!(offsets.net_device_ifindex.is_multiple_of(4) && offsets.net_device_net.is_multiple_of(8));
            types.cpumap_has_gro().expect("a CPUMAP");
        }
    }
}
