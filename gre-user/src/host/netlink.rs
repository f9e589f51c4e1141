//! Questions to the kernel over netlink (RFC 3549), in the network namespace of the thread that opens the socket.
//!
//! Only the attributes that are asked for are decoded: one of a form that this version does not know, from a newer
//! kernel or of a device of another kind, takes nothing else with it.

use std::io;

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE,
    NLM_F_REQUEST, NLMSG_ALIGNTO, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr};

/// How often a dump that the kernel calls inconsistent is asked for: what it lists changed meanwhile.
const ATTEMPTS: usize = 8;

/// A netlink socket.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// A message as it is on the wire, after the netlink header: the family's own header, then attributes.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// Its type, as the family numbers them (`nlmsg_type`).
    pub(super) kind: u16,
    /// All after `struct nlmsghdr`.
    pub(super) payload: Vec<u8>,
}

impl Netlink {
    /// Opens a socket of a protocol such as `NETLINK_ROUTE`.
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let socket = Socket::new(protocol)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Makes the kernel heed what a dump's request says besides the kind of thing (`NETLINK_GET_STRICT_CHK`).
    pub(super) fn filter_dumps(&self) -> io::Result<()> {
        self.socket.set_netlink_get_strict_chk(true)
    }

    /// The kernel's answer about one thing; its error as the error number that it gave.
    pub(super) fn get(&mut self, request: &Message) -> io::Result<Vec<Message>> {
        Ok(self.ask(request, NLM_F_REQUEST | NLM_F_ACK)?.messages)
    }

    /// The kernel's answer about all there are; its error as the error number that it gave.
    pub(super) fn dump(&mut self, request: &Message) -> io::Result<Vec<Message>> {
        for _ in 0..ATTEMPTS {
            let answer = self.ask(request, NLM_F_REQUEST | NLM_F_DUMP)?;
            if !answer.interrupted {
                return Ok(answer.messages);
            }
        }
        Err(io::Error::other("changes faster than it can be listed"))
    }

    /// Has the kernel make or change something; its error as the error number that it gave.
    pub(super) fn set(&mut self, request: &Message) -> io::Result<()> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.ask(request, flags).map(drop)
    }

    /// Has the kernel make something that is not there yet; its error as the error number that it gave: EEXIST if it is.
    pub(super) fn create(&mut self, request: &Message) -> io::Result<()> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.ask(request, flags).map(drop)
    }

    /// Has the kernel remove something; its error as the error number that it gave.
    pub(super) fn delete(&mut self, request: &Message) -> io::Result<()> {
        self.ask(request, NLM_F_REQUEST | NLM_F_ACK).map(drop)
    }

    fn ask(&mut self, request: &Message, flags: u16) -> io::Result<Answer> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut question = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request.clone()));
        question.finalize();
        let mut bytes = vec![0; question.buffer_len()];
        question.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answer = Answer::default();
        loop {
            let (datagram, sender) = self.socket.recv_from_full()?;
            // Port 0 is the kernel: nobody else has a say.
            if sender.port_number() == 0 && answer.take(&datagram, self.sequence)? {
                return Ok(answer);
            }
        }
    }
}

#[derive(Default)]
struct Answer {
    messages: Vec<Message>,
    /// Whether the list changed while it was read.
    interrupted: bool,
}

impl Answer {
    /// Takes what a datagram holds of the answer to `sequence`, and returns whether that was the end.
    fn take(&mut self, datagram: &[u8], sequence: u32) -> io::Result<bool> {
        for message in Messages(datagram) {
            let (header, payload) = message?.into_parts();
            if header.sequence_number != sequence {
                continue;
            }
            self.interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
            match payload {
                NetlinkPayload::InnerMessage(message) => self.messages.push(message),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(io::Error::from_raw_os_error(done.code.saturating_neg()));
                }
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Overrun(_) => return Err(io::Error::other("the kernel lost part of the answer")),
                _ => {}
            }
        }
        Ok(false)
    }
}

/// The messages of a datagram.
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl Iterator for Messages<'_> {
    type Item = io::Result<NetlinkMessage<Message>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = NetlinkMessage::<Message>::deserialize(self.0).map_err(undecodable);
        // Of what cannot be decoded nobody knows where it ends.
        let length = message.as_ref().map_or(self.0.len(), |message| {
            (message.header.length as usize).next_multiple_of(usize::from(NLMSG_ALIGNTO))
        });
        self.0 = self.0.get(length..).unwrap_or_default();
        Some(message)
    }
}

impl Message {
    /// A request: the family's own header, and attributes.
    pub(super) fn new(kind: u16, header: &[u8], attributes: &[DefaultNla]) -> Self {
        let mut payload = header.to_vec();
        payload.resize(header.len() + attributes.buffer_len(), 0);
        attributes.emit(&mut payload[header.len()..]);
        Self { kind, payload }
    }

    /// The family's own header, of `N` bytes, and the attributes after it.
    pub(super) fn split<const N: usize>(&self) -> Result<(&[u8; N], Attributes<'_>), DecodeError> {
        let Some((header, attributes)) = self.payload.split_first_chunk() else {
            return Err(DecodeError::buffer_too_small(self.payload.len(), N));
        };
        Ok((header, Attributes::parse(attributes)?))
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.payload.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.payload);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self {
            kind: header.message_type,
            payload: payload.to_vec(),
        })
    }
}

/// Attributes, by type; the type is without the flags `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Attributes<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let attribute = |attribute: Result<netlink_packet_core::NlaBuffer<&'a [u8]>, _>| {
            let attribute = attribute?;
            let (kind, length) = (attribute.kind(), attribute.value_length());
            // The length was checked with the header's.
            Ok((kind, attribute.into_inner().get(4..4 + length).unwrap_or_default()))
        };
        NlasIterator::new(bytes)
            .map(attribute)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The attribute of a type as `parse` reads it, or none if there is none.
    pub(super) fn get<T>(
        &self,
        kind: u16,
        parse: impl FnOnce(&'a [u8]) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        self.iter()
            .find(|(found, _)| *found == kind)
            .map(|(_, value)| parse(value))
            .transpose()
    }

    /// The attribute of a type that is always there.
    pub(super) fn require<T>(
        &self,
        kind: u16,
        parse: impl FnOnce(&'a [u8]) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        self.get(kind, parse)?
            .ok_or_else(|| DecodeError::from(format!("attribute {kind} is missing")))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> {
        self.0.iter().copied()
    }
}

/// A string with its terminating zero. Names of interfaces are bytes to the kernel: what is no UTF-8 is replaced.
pub(super) fn text(value: &[u8]) -> Result<String, DecodeError> {
    Ok(String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned())
}

/// Attributes as the value of another.
pub(super) fn nested(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut value = vec![0; attributes.buffer_len()];
    attributes.emit(&mut value);
    value
}

/// A zero-terminated string as the value of an attribute.
pub(super) fn zero_terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn undecodable(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
