//! Captures in files: pcap and pcapng are read, pcapng with comments is written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{Block, PcapNgReader, PcapNgWriter};
use pcap_file::{DataLink, Endianness, PcapError};

use crate::error::Error;

/// if_tsresol for nanoseconds, the resolution that the writer has.
const NANOSECONDS: u8 = 9;

/// A packet to be written.
pub struct Packet<'a> {
    /// When it came.
    pub at: SystemTime,
    /// The name of the interface it came by.
    pub interface: &'a str,
    /// Bytes of the whole frame.
    pub length: u32,
    /// The first of them.
    pub bytes: &'a [u8],
    /// What is to be said of it.
    pub comment: &'a str,
}

/// Writes pcapng.
pub struct PcapNg<W: Write> {
    writer: PcapNgWriter<W>,
    /// The numbers of the interfaces that were described.
    interfaces: BTreeMap<String, u32>,
    /// How many bytes of each packet are written at most.
    snap_length: u32,
}

impl<W: Write> PcapNg<W> {
    /// Begins a capture whose packets have at most so many bytes.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn begin(writer: W, snap_length: u32) -> Result<Self> {
        let section = SectionHeaderBlock {
            endianness: Endianness::native(),
            options: vec![SectionHeaderOption::UserApplication(Cow::Borrowed(concat!(
                "gre-decap ",
                env!("CARGO_PKG_VERSION")
            )))],
            ..SectionHeaderBlock::default()
        };
        let writer = PcapNgWriter::with_section_header(writer, section)?;
        Ok(Self {
            writer,
            interfaces: BTreeMap::new(),
            snap_length,
        })
    }

    /// Writes a packet.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(&mut self, packet: &Packet<'_>) -> Result<()> {
        let interface_id = self.interface(packet.interface)?;
        self.writer.write_pcapng_block(EnhancedPacketBlock {
            interface_id,
            timestamp: packet.at.duration_since(UNIX_EPOCH).unwrap_or_default(),
            original_len: packet.length,
            data: Cow::Borrowed(packet.bytes),
            options: vec![EnhancedPacketOption::Comment(Cow::Borrowed(packet.comment))],
        })?;
        Ok(())
    }

    /// Hands on what has been written.
    ///
    /// # Errors
    ///
    /// If it cannot be.
    pub fn flush(&mut self) -> Result<()> {
        self.writer.get_mut().flush().context("the capture cannot be written")
    }

    /// The number of an interface, which is described when it first occurs.
    fn interface(&mut self, name: &str) -> Result<u32> {
        if let Some(&id) = self.interfaces.get(name) {
            return Ok(id);
        }
        let id = self.interfaces.len() as u32;
        self.writer.write_pcapng_block(InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: self.snap_length,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        })?;
        self.interfaces.insert(name.to_owned(), id);
        Ok(id)
    }
}

/// A packet that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured<'a> {
    /// When it came, since 1970.
    pub at: Duration,
    /// Bytes of the whole frame.
    pub length: u32,
    /// Those of them that were captured.
    pub bytes: &'a [u8],
}

/// What pcapng begins with: the type of its section header.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// Reads a pcap or pcapng file of Ethernet frames packet by packet.
///
/// # Errors
///
/// If it cannot be read, is neither, or holds other frames; and those of `each`.
pub fn read(file: &Path, each: impl FnMut(&Captured<'_>) -> Result<(), Error>) -> Result<(), Error> {
    let (place, remedy) = (file.display(), "name a pcap or pcapng file of Ethernet frames");
    let mut opened = File::open(file).map_err(|error| anyhow!("{place}: cannot be opened: {error}; {remedy}"))?;
    // A pipe is opened and read once, so what it begins with is put before the rest again.
    let mut beginning = Vec::new();
    let read = Read::take(&mut opened, PCAPNG.len() as u64)
        .read_to_end(&mut beginning)
        .map_err(|error| anyhow!(error).into())
        .and_then(|_| {
            let reader = beginning.as_slice().chain(BufReader::new(opened));
            if beginning == PCAPNG {
                read_pcapng(reader, each)
            } else {
                read_pcap(reader, each)
            }
        });
    read.map_err(|error| match error {
        Error::Failed(error) => anyhow!("{place}: cannot be read as a capture: {error:#}; {remedy}").into(),
        error => error,
    })
}

fn read_pcap(reader: impl Read, mut each: impl FnMut(&Captured<'_>) -> Result<(), Error>) -> Result<(), Error> {
    let mut reader = PcapReader::new(reader).map_err(wrong)?;
    ensure_ethernet(reader.header().datalink)?;
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(wrong)?;
        each(&Captured {
            at: packet.timestamp,
            length: packet.orig_len,
            bytes: &packet.data,
        })?;
    }
    Ok(())
}

fn read_pcapng(reader: impl Read, mut each: impl FnMut(&Captured<'_>) -> Result<(), Error>) -> Result<(), Error> {
    let mut reader = PcapNgReader::new(reader).map_err(wrong)?;
    // Of this section's interfaces.
    let mut units = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.map_err(wrong)? {
            Block::SectionHeader(_) => units.clear(),
            Block::InterfaceDescription(interface) => {
                ensure_ethernet(interface.linktype)?;
                units.push(units_per_second(&interface));
            }
            Block::EnhancedPacket(packet) => {
                let unit = units
                    .get(packet.interface_id as usize)
                    .context("a packet is of an interface that is not described")?;
                // The reader takes all units for nanoseconds.
                let stamp = packet.timestamp.as_nanos();
                let nanoseconds = stamp.saturating_mul(1_000_000_000) / unit;
                each(&Captured {
                    at: Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)),
                    length: packet.original_len,
                    bytes: &packet.data,
                })?;
            }
            Block::SimplePacket(packet) => each(&Captured {
                at: Duration::ZERO,
                length: packet.original_len,
                bytes: &packet.data,
            })?,
            _ => {}
        }
    }
    Ok(())
}

/// How many units of an interface's time stamps make a second: a power of ten, or of two if the highest bit is set.
fn units_per_second(interface: &InterfaceDescriptionBlock<'_>) -> u128 {
    const MICROSECONDS: u8 = 6;
    let resolution = interface.options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfTsResol(resolution) => Some(*resolution),
        _ => None,
    });
    let resolution = resolution.unwrap_or(MICROSECONDS);
    let (base, exponent): (u128, _) = match resolution & 0x80 {
        0 => (10, resolution),
        _ => (2, resolution & 0x7f),
    };
    base.checked_pow(exponent.into()).unwrap_or(u128::MAX)
}

fn ensure_ethernet(kind: DataLink) -> Result<()> {
    ensure!(
        kind == DataLink::ETHERNET,
        "its link type is {kind:?}, not Ethernet; capture on one interface, not on `any`"
    );
    Ok(())
}

fn wrong(error: PcapError) -> Error {
    Error::Failed(anyhow!(error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(packets: &[Packet<'_>]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut capture = PcapNg::begin(&mut file, 64).unwrap();
        for packet in packets {
            capture.write(packet).unwrap();
        }
        capture.flush().unwrap();
        file
    }

    #[test]
    fn what_was_written_is_read() {
        let at = Duration::new(1_700_000_000, 123_456_789);
        let packet = |interface| Packet {
            at: UNIX_EPOCH + at,
            interface,
            length: 1500,
            bytes: &[1, 2, 3],
            comment: "why",
        };
        let file = written(&[packet("eth0"), packet("eth1"), packet("eth0")]);
        let mut read = 0;
        read_pcapng(file.as_slice(), |captured| {
            let bytes: &[u8] = &[1, 2, 3];
            assert_eq!((captured.at, captured.length, captured.bytes), (at, 1500, bytes));
            read += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(read, 3);
    }

    #[test]
    fn time_stamps_have_the_unit_that_their_interface_says() {
        for (resolution, units) in [
            (None, 1_000_000),
            (Some(9), 1_000_000_000),
            (Some(0), 1),
            (Some(0x8a), 1024),
        ] {
            let options = resolution
                .map(InterfaceDescriptionOption::IfTsResol)
                .into_iter()
                .collect();
            let interface = InterfaceDescriptionBlock {
                linktype: DataLink::ETHERNET,
                snaplen: 0,
                options,
            };
            assert_eq!(units_per_second(&interface), units);
        }
    }

    proptest! {
        /// Whatever a file holds, it is read or refused.
        #[test]
        fn damaged_files_are_bearable(damage in proptest::collection::vec((0usize..300, any::<u8>()), 1..8), cut in 0usize..300) {
            let packet = Packet { at: UNIX_EPOCH, interface: "eth0", length: 60, bytes: &[7; 60], comment: "why" };
            let mut file = written(&[packet]);
            for (place, byte) in damage {
                if let Some(there) = file.get_mut(place) {
                    *there = byte;
                }
            }
            file.truncate(file.len().saturating_sub(cut % 7));
            read_pcapng(file.as_slice(), |_| Ok(())).ok();
            read_pcap(file.as_slice(), |_| Ok(())).ok();
        }
    }

    #[test]
    fn what_is_no_capture_is_refused() {
        assert!(read_pcap(&b"no capture at all, but a text"[..], |_| Ok(())).is_err());
        assert!(read_pcap(&b""[..], |_| Ok(())).is_err());
        assert!(read_pcapng(&[0x0a, 0x0d, 0x0d, 0x0a, 1, 2][..], |_| Ok(())).is_err());
    }
}
