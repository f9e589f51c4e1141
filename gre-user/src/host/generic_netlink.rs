//! Generic netlink: families of messages that the kernel numbers as they register.

use std::io;

use libc::{CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME, CTRL_CMD_GETFAMILY, GENL_ID_CTRL};
use netlink_packet_core::{DecodeError, DefaultNla, parse_u16};
use netlink_sys::protocols::NETLINK_GENERIC;

use super::netlink::{Attributes, Message, Netlink, zero_terminated};

/// Size of `struct genlmsghdr` of `linux/genetlink.h`.
const GENLMSGHDR: usize = 4;

/// A family that this kernel has.
#[derive(Debug)]
pub(super) struct Family {
    netlink: Netlink,
    id: u16,
    version: u8,
}

impl Family {
    /// Finds a family by name; `version` is that of its messages.
    ///
    /// # Errors
    ///
    /// `Unsupported` if this kernel has no such family.
    pub(super) fn find(name: &str, version: u8) -> io::Result<Self> {
        let mut netlink = Netlink::open(NETLINK_GENERIC)?;
        let attribute = DefaultNla::new(CTRL_ATTR_FAMILY_NAME as u16, zero_terminated(name));
        let question = request(GENL_ID_CTRL as u16, CTRL_CMD_GETFAMILY as u8, 1, &[attribute]);
        let answer = netlink.get(&question).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT) => io::Error::new(
                io::ErrorKind::Unsupported,
                format!("this kernel has no netlink family {name}"),
            ),
            _ => error,
        })?;
        let id = answer
            .first()
            .ok_or_else(|| DecodeError::from("empty answer"))
            .and_then(|answer| attributes(answer)?.require(CTRL_ATTR_FAMILY_ID as u16, parse_u16));
        Ok(Self {
            netlink,
            id: id.map_err(io::Error::other)?,
            version,
        })
    }

    /// The answer to a command about one thing, which the attribute names.
    pub(super) fn get(&mut self, command: u8, about: DefaultNla) -> io::Result<Message> {
        let mut answers = self.netlink.get(&request(self.id, command, self.version, &[about]))?;
        answers.pop().ok_or_else(|| io::Error::other("empty answer"))
    }

    /// The answers to a command about all things that there are.
    pub(super) fn dump(&mut self, command: u8) -> io::Result<Vec<Message>> {
        self.netlink.dump(&request(self.id, command, self.version, &[]))
    }
}

/// The attributes of an answer.
pub(super) fn attributes(answer: &Message) -> Result<Attributes<'_>, DecodeError> {
    Ok(answer.split::<GENLMSGHDR>()?.1)
}

fn request(family: u16, command: u8, version: u8, attributes: &[DefaultNla]) -> Message {
    Message::new(family, &[command, version, 0, 0], attributes)
}
