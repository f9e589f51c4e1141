//! Captures in files: pcapng with comments is written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness};

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
