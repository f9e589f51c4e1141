//! Raw frames on an interface, sent and captured as they are on the wire.

use std::cell::RefCell;
use std::io::IoSliceMut;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind,
    getsockopt, recvmsg, send, setsockopt, socket, sockopt,
};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

use super::Namespace;

/// How long the lab waits for something that is to happen. Nothing is concluded from how long it took.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Room for what is captured but not read yet. A test that lets more pile up fails, since frames were lost.
const CAPTURE_BYTES: usize = 64 << 20;
/// The largest packet (GRO super-packets reach 64 KiB), its link header, and a tag put back.
const LARGEST_FRAME: usize = (1 << 16) + 64;
/// The two MAC addresses, behind which a VLAN tag stands.
const TAG_OFFSET: usize = 12;

sockopt_impl!(
    /// PACKET_AUXDATA: what the kernel took out of the frame comes beside it.
    PacketAuxdata,
    SetOnly,
    libc::SOL_PACKET,
    libc::PACKET_AUXDATA,
    bool
);
sockopt_impl!(
    /// PACKET_STATISTICS: frames seen, and frames lost for want of room, since last asked.
    PacketStatistics,
    GetOnly,
    libc::SOL_PACKET,
    libc::PACKET_STATISTICS,
    libc::tpacket_stats
);

thread_local! {
    /// What every frame is received into: to clear such a buffer for each takes longer than to receive most.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LARGEST_FRAME]);
}

/// An interface, open for frames of every kind and both directions. Its own frames it does not see.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    place: String,
}

/// A frame that passed an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The frame from the destination MAC address on, or the packet on a link without a header; VLAN tags where they are on the wire.
    pub bytes: Vec<u8>,
    /// Whether the interface's own host sent it.
    pub outgoing: bool,
    /// The index of the interface that it passed.
    pub interface: u32,
}

impl Wire {
    /// Opens an interface. From now on frames are captured, whether or not somebody waits for one.
    ///
    /// # Errors
    ///
    /// When there is no such interface, or the caller lacks CAP_NET_RAW.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let place = format!("{interface} in namespace {}", namespace.name());
        let socket = namespace
            .run(|| open(interface))
            .with_context(|| format!("capture on {place}"))?;
        Ok(Self { socket, place })
    }

    /// Listens on all interfaces of a namespace. Nothing can be sent by this.
    ///
    /// # Errors
    ///
    /// When the caller lacks CAP_NET_RAW.
    pub fn open_all(namespace: &Namespace) -> Result<Self> {
        let place = format!("all interfaces in namespace {}", namespace.name());
        let socket = namespace
            .run(|| open_index(0))
            .with_context(|| format!("capture on {place}"))?;
        Ok(Self { socket, place })
    }

    /// Sends a frame, given from its destination MAC address on, without frame check sequence.
    ///
    /// # Errors
    ///
    /// When the frame is too short or too long for the interface, the interface is down, or nobody takes frames from it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let sent = loop {
            match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
                // The buffer is full of frames that nobody has taken yet.
                Err(Errno::EAGAIN) if Instant::now() < deadline => self.wait(PollFlags::POLLOUT, PATIENCE)?,
                sent => break sent.with_context(|| format!("send {} bytes on {}", frame.len(), self.place))?,
            }
        };
        ensure!(
            sent == frame.len(),
            "sent {sent} of {} bytes on {}",
            frame.len(),
            self.place
        );
        Ok(())
    }

    /// The next frame, or nothing if there is none for as long as `within`.
    ///
    /// # Errors
    ///
    /// When the interface goes away, or a frame is longer than any that a test makes.
    pub fn next(&self, within: Duration) -> Result<Option<Captured>> {
        let deadline = Instant::now() + within;
        loop {
            match self.receive() {
                Err(Errno::EAGAIN) => {}
                result => return result.map(Some).with_context(|| format!("capture on {}", self.place)),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.wait(PollFlags::POLLIN, left)?;
        }
    }

    /// Waits until the socket is ready for this, so long at most.
    fn wait(&self, ready: PollFlags, within: Duration) -> Result<()> {
        // Rounded up, for a wait of less than a millisecond would be none.
        let timeout = PollTimeout::try_from(within.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), ready)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("wait for frames on {}", self.place)),
        }
    }

    /// All frames up to and with the first that is `wanted`.
    ///
    /// To show that something does *not* arrive, send something after it that does, and look at what came before.
    ///
    /// # Errors
    ///
    /// When none has come within [`PATIENCE`], naming `what` was wanted; and when frames were lost.
    pub fn until(&self, what: &str, mut wanted: impl FnMut(&Captured) -> bool) -> Result<Vec<Captured>> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let Some(frame) = self.next(deadline.saturating_duration_since(Instant::now()))? else {
                bail!(
                    "waited for {what} on {}: {} other frames in {PATIENCE:?}",
                    self.place,
                    seen.len()
                );
            };
            let found = wanted(&frame);
            seen.push(frame);
            if found {
                break;
            }
        }
        match self.lost()? {
            0 => Ok(seen),
            lost => bail!(
                "waited for {what} on {}: {lost} frames were lost for want of room",
                self.place
            ),
        }
    }

    /// The first frame that is `wanted`; those before it are thrown away.
    ///
    /// # Errors
    ///
    /// As for [`Wire::until`].
    pub fn expect(&self, what: &str, wanted: impl FnMut(&Captured) -> bool) -> Result<Captured> {
        self.until(what, wanted)?.pop().context("a frame was found")
    }

    /// How many frames were lost for want of room since last asked.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn lost(&self) -> Result<u32> {
        let statistics = getsockopt(&self.socket, PacketStatistics);
        Ok(statistics
            .with_context(|| format!("capture statistics of {}", self.place))?
            .tp_drops)
    }

    fn receive(&self) -> nix::Result<Captured> {
        BUFFER.with_borrow_mut(|buffer| self.receive_by(buffer))
    }

    fn receive_by(&self, buffer: &mut [u8]) -> nix::Result<Captured> {
        let mut control = nix::cmsg_space!(libc::tpacket_auxdata);
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<LinkAddr>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        )?;
        if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
            return Err(Errno::EMSGSIZE);
        }
        let address = message.address.ok_or(Errno::EDESTADDRREQ)?;
        let outgoing = address.pkttype() == libc::PACKET_OUTGOING;
        let interface = address.ifindex() as u32;
        let length = message.bytes;
        let tag = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Unknown(control) => stripped_tag(&control.data_bytes),
            _ => None,
        });
        let mut bytes = buffer[..length].to_vec();
        if let Some(tag) = tag {
            tag.put_back(&mut bytes, address.hatype(), address.protocol());
        }
        Ok(Captured {
            bytes,
            outgoing,
            interface,
        })
    }
}

fn open(interface: &str) -> Result<OwnedFd> {
    open_index(if_nametoindex(interface).context("find the interface")?)
}

/// A socket for the interface with this index, or all for 0.
fn open_index(index: u32) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    // Without a protocol the socket gets nothing before it is bound, so nothing of other interfaces.
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None).context("open a packet socket")?;
    setsockopt(&socket, PacketAuxdata, &true).context("ask for what is taken out of frames")?;
    setsockopt(&socket, sockopt::RcvBufForce, &CAPTURE_BYTES).context("make room for frames")?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: SockProtocol::EthAll as u16,
        sll_ifindex: index as libc::c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer is to a whole `sockaddr_ll`, whose length and family are given.
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) };
    bind(socket.as_raw_fd(), &address.context("link-layer address")?).context("bind to the interface")?;
    Ok(socket)
}

/// The outermost VLAN tag, which the kernel takes out of what it receives (skb_vlan_untag()), in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag {
    protocol: [u8; 2],
    control: [u8; 2],
}

/// From the fields of `struct tpacket_auxdata`: status at byte 0, tag control information at 16, and tag protocol at 18, in host
/// order.
fn stripped_tag(auxdata: &[u8]) -> Option<Tag> {
    let status = u32::from_ne_bytes(auxdata.get(0..4)?.try_into().ok()?);
    let control = u16::from_ne_bytes(auxdata.get(16..18)?.try_into().ok()?);
    let protocol = u16::from_ne_bytes(auxdata.get(18..20)?.try_into().ok()?);
    let protocol = if status & libc::TP_STATUS_VLAN_TPID_VALID == 0 {
        libc::ETH_P_8021Q as u16
    } else {
        protocol
    };
    (status & libc::TP_STATUS_VLAN_VALID != 0).then_some(Tag {
        protocol: protocol.to_be_bytes(),
        control: control.to_be_bytes(),
    })
}

impl Tag {
    /// Puts the tag where it was, on a link of the hardware type `hardware`. The kernel takes `announced`, in network byte order, for the
    /// frame's protocol. Where there is no link header, as on a GRE device, that was taken out of the packet with the tag, whose own
    /// protocol was never in it.
    fn put_back(self, bytes: &mut Vec<u8>, hardware: u16, announced: u16) {
        if hardware == libc::ARPHRD_ETHER {
            bytes.splice(TAG_OFFSET..TAG_OFFSET, [self.protocol, self.control].concat());
        } else {
            bytes.splice(..0, [self.control, announced.to_ne_bytes()].concat());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: Tag = Tag {
        protocol: [0x88, 0xa8],
        control: [0x20, 0x64],
    };

    #[test]
    fn a_tag_stands_behind_the_addresses() {
        let mut bytes: Vec<u8> = (0..16).collect();
        TAG.put_back(&mut bytes, libc::ARPHRD_ETHER, 0x0800_u16.to_be());
        assert_eq!(bytes[..12], (0..12).collect::<Vec<_>>());
        assert_eq!(bytes[12..], [0x88, 0xa8, 0x20, 0x64, 12, 13, 14, 15]);
    }

    /// As in GRE of the protocol type 0x88a8.
    #[test]
    fn without_a_link_header_a_tag_stands_first() {
        let mut bytes: Vec<u8> = (0..11).collect();
        TAG.put_back(&mut bytes, libc::ARPHRD_IPGRE, 0x86dd_u16.to_be());
        assert_eq!(bytes[..4], [0x20, 0x64, 0x86, 0xdd]);
        assert_eq!(bytes[4..], (0..11).collect::<Vec<_>>());
    }
}
