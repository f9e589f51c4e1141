//! The packets that nearly all of most tunnels' are: IPv4 without options that is no fragment, or IPv6 without extension headers; GRE
//! without any field, or with a key, a sequence number or a checksum alone; inside, IPv4 without options, or IPv6, which is no fragment
//! either, is delivered as it is, on the same core, and has no byte after it. For each [`Form`] of them one check of the frame's length
//! and offsets that are constants tell; all that [`decide`](crate::decide()) asks is asked in the form that it then has. Whatever
//! differs, or has anything wrong, is left to the general way, which decides on it from the beginning.
//!
//! Each form is code of its own, so there are only those that differ from the plainest, [`Plain4`], in one thing: [`Field4`], [`Tagged4`],
//! [`DoublyTagged4`], [`Plain6`], and [`Around6`] either outer header. All are delivered in each of the ways there are.

use network_types::{eth::EthHdr, ip::IpProto};

use crate::{
    Delivery, Packet, checksum,
    endian::{Be16, Be32},
    endpoints::{Address, Endpoints, Ipv4, Ipv6},
    inner::Remark,
    link::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Link, Mac, VlanTag, VlanTags},
    plain::Plain,
    protect::Passage,
    tunnel::{Cores, Deliver, InnerTypes, Tunnel},
};

/// A frame's headers, with so many VLAN tags, such an outer IP header, so many optional fields of GRE, and such an inner IP header.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Headers<const TAGS: usize, O, const FIELDS: usize, I> {
    first_macs: u64,
    last_macs: u32,
    /// Each with the identifier before it.
    tags: [Be32; TAGS],
    ether_type: Be16,
    outer: O,
    gre: Be32,
    fields: [Be32; FIELDS],
    inner: I,
}

/// The plainest.
pub type Plain4 = Headers<0, Outer4, 0, Inner4>;
/// With a key, a sequence number or a checksum.
pub type Field4 = Headers<0, Outer4, 1, Inner4>;
/// With a VLAN tag.
pub type Tagged4 = Headers<1, Outer4, 0, Inner4>;
/// With two VLAN tags.
pub type DoublyTagged4 = Headers<2, Outer4, 0, Inner4>;
/// In IPv6.
pub type Plain6 = Headers<0, Outer6, 0, Inner4>;
/// With IPv6 inside.
pub type Around6<O> = Headers<0, O, 0, Inner6>;

/// What whoever carries a decision out must know of such headers.
pub trait Form: Plain {
    /// The link header that they begin with.
    const LINK: Link;
    /// How far the frame's start moves.
    const STRIPPED: usize;
    /// What the link header then says that it carries.
    const ETHER_TYPE: Be16;

    /// Both MAC addresses, in the order and byte order that they lie in.
    fn macs(&self) -> (u64, u32);

    /// The first and the second VLAN tag, each with the identifier before it; 0 for none.
    fn tags(&self) -> (Be32, Be32);
}

impl<const TAGS: usize, O: OuterHeader, const FIELDS: usize, I: InnerHeader> Form for Headers<TAGS, O, FIELDS, I> {
    const LINK: Link = Link {
        tags: VlanTags::from_number(TAGS as u32),
        ether_type: O::ETHER_TYPE,
    };
    const STRIPPED: usize = Self::INNER - Self::OUTER;
    const ETHER_TYPE: Be16 = I::ETHER_TYPE;

    #[inline(always)]
    fn macs(&self) -> (u64, u32) {
        (self.first_macs, self.last_macs)
    }

    #[inline(always)]
    fn tags(&self) -> (Be32, Be32) {
        let tags = self.tags;
        let at = |place: usize| tags.get(place).copied().unwrap_or_default();
        (at(0), at(1))
    }
}

impl<const TAGS: usize, O: OuterHeader, const FIELDS: usize, I: InnerHeader> Headers<TAGS, O, FIELDS, I> {
    /// Where the parts begin.
    const OUTER: usize = EthHdr::LEN + TAGS * size_of::<VlanTag>();
    const GRE: usize = Self::INNER - size_of::<Be32>() * (1 + FIELDS);
    const INNER: usize = size_of::<Self>() - size_of::<I>();

    /// Whom the frame is addressed to.
    #[inline(always)]
    pub(crate) fn addressee(&self) -> Mac {
        let [a, b, c, d, e, f, ..] = self.first_macs.to_ne_bytes();
        Mac::from_bytes([a, b, c, d, e, f])
    }

    /// Whether the GRE header is the plainest: no field, and IPv4 inside.
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        let gre = self.gre;
        gre == PLAIN
    }

    /// What else the four bytes say that every GRE header begins with.
    #[inline(always)]
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self.gre {
            KEYED => Some(Kind::Keyed),
            NUMBERED => Some(Kind::Numbered),
            SUMMED => Some(Kind::Summed),
            PLAIN_AROUND6 => Some(Kind::Around6),
            _ => None,
        }
    }
}

/// A GRE header of version 0 that is not the plainest, by its field and by what is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// IPv4, with a key.
    Keyed,
    /// IPv4, with a sequence number.
    Numbered,
    /// IPv4, with a checksum.
    Summed,
    /// IPv6.
    Around6,
}

/// The optional field of GRE that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    None,
    Key,
    Number,
    Checksum,
}

/// An outer IP header of one of the forms.
pub trait OuterHeader: Plain {
    /// The link header's name for it.
    const ETHER_TYPE: Be16;
    /// The addresses.
    type Address: Address;

    /// Checks the header, but for [`Self::fragment`]. Gives the bytes of its packet, itself included.
    fn check(&self) -> Option<u32>;
    /// The word that says by the bits of [`FRAGMENT`] whether the packet is one, which an inner header may have too; zero if none does.
    fn fragment(&self) -> Be32;
    /// What a tunnel is found by: its end, and the far one.
    fn ends(&self) -> (Self::Address, Self::Address);
}

/// IPv4 without options, whose protocol is GRE.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Outer4([Be32; 5]);

impl OuterHeader for Outer4 {
    const ETHER_TYPE: Be16 = ETHER_TYPE_IPV4;
    type Address = Ipv4;

    #[inline(always)]
    fn check(&self) -> Option<u32> {
        let Self(words) = *self;
        let [first, ..] = words;
        let is_usual = first.has(LENGTH_AND_CHANGING_ECN4, [FOUR_FIVE, 0, 0, 0]);
        let sum = words.iter().map(|word| checksum::sum_word(*word)).sum();
        (is_usual && checksum::is_valid_unfolded(sum)).then(|| total_length(first))
    }

    #[inline(always)]
    fn fragment(&self) -> Be32 {
        let Self([_, second, ..]) = *self;
        second
    }

    #[inline(always)]
    fn ends(&self) -> (Ipv4, Ipv4) {
        let Self([_, _, _, source, destination]) = *self;
        ([destination], [source])
    }
}

/// IPv6, after which GRE comes or an extension header.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Outer6([Be32; 10]);

impl OuterHeader for Outer6 {
    const ETHER_TYPE: Be16 = ETHER_TYPE_IPV6;
    type Address = Ipv6;

    #[inline(always)]
    fn check(&self) -> Option<u32> {
        let Self([first, second, ..]) = *self;
        let is_usual = first.has(VERSION_AND_CHANGING_ECN6, [6 << 4, 0, 0, 0])
            && second.has(NEXT_HEADER, [0, 0, IpProto::Gre as u8, 0]);
        is_usual.then(|| size_of::<Self>() as u32 + (second.get() >> 16))
    }

    #[inline(always)]
    fn fragment(&self) -> Be32 {
        Be32::new(0)
    }

    #[inline(always)]
    fn ends(&self) -> (Ipv6, Ipv6) {
        let Self([_, _, a, b, c, d, e, f, g, h]) = *self;
        ([e, f, g, h], [a, b, c, d])
    }
}

/// An inner IP header of one of the forms.
pub trait InnerHeader: Plain {
    /// What GRE and the link header call it.
    const ETHER_TYPE: Be16;
    /// The same for tunnels.
    const TYPE: InnerTypes;
    /// The addresses.
    type Address;

    /// Whether it is usual, but for [`Self::fragment`].
    fn is_usual(&self) -> bool;
    /// The same as [`OuterHeader::fragment`].
    fn fragment(&self) -> Be32;
    /// Bytes of the packet by its own header, itself included.
    fn length(&self) -> u32;
    /// What the rules of protection ask.
    fn destination(&self) -> Self::Address;
    /// Whether it is addressed to this outer source.
    fn is_to<A: Address>(&self, source: &A) -> bool;
}

/// IPv4 without options.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Inner4([Be32; 5]);

impl InnerHeader for Inner4 {
    const ETHER_TYPE: Be16 = ETHER_TYPE_IPV4;
    const TYPE: InnerTypes = InnerTypes::IPV4;
    type Address = Ipv4;

    #[inline(always)]
    fn is_usual(&self) -> bool {
        let Self([first, ..]) = *self;
        first.has(LENGTH4, [FOUR_FIVE, 0, 0, 0])
    }

    #[inline(always)]
    fn fragment(&self) -> Be32 {
        let Self([_, second, ..]) = *self;
        second
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        let Self([first, ..]) = *self;
        total_length(first)
    }

    #[inline(always)]
    fn destination(&self) -> Ipv4 {
        let Self([_, _, _, _, destination]) = *self;
        [destination]
    }

    #[inline(always)]
    fn is_to<A: Address>(&self, source: &A) -> bool {
        source.is_v4(&self.destination())
    }
}

/// IPv6, after which no fragment header comes.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Inner6([Be32; 10]);

impl InnerHeader for Inner6 {
    const ETHER_TYPE: Be16 = ETHER_TYPE_IPV6;
    const TYPE: InnerTypes = InnerTypes::IPV6;
    type Address = Ipv6;

    #[inline(always)]
    fn is_usual(&self) -> bool {
        let Self([first, second, ..]) = *self;
        first.has(VERSION6, [6 << 4, 0, 0, 0]) && !second.has(NEXT_HEADER, [0, 0, IpProto::Ipv6Frag as u8, 0])
    }

    #[inline(always)]
    fn fragment(&self) -> Be32 {
        Be32::new(0)
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        let Self([_, second, ..]) = *self;
        size_of::<Self>() as u32 + (second.get() >> 16)
    }

    #[inline(always)]
    fn destination(&self) -> Ipv6 {
        let Self([_, _, _, _, _, _, a, b, c, d]) = *self;
        [a, b, c, d]
    }

    #[inline(always)]
    fn is_to<A: Address>(&self, source: &A) -> bool {
        source.is_v6(&self.destination())
    }
}

/// How such a packet is decapsulated; see [`Delivery`].
#[derive(Clone, Copy)]
pub struct Usual<'a, F> {
    /// Its headers, which lie where they are until the frame is touched.
    pub headers: &'a F,
    /// The tunnel it belongs to.
    pub tunnel: u32,
    /// Bytes of the outer IP packet.
    pub outer_bytes: u32,
    /// Whether its sequence number told of a restarted sender.
    pub restart: bool,
    /// Where the payload goes.
    pub deliver: Deliver,
}

impl<F: Form> Usual<'_, F> {
    /// Bytes of the payload.
    #[inline(always)]
    pub const fn inner_bytes(&self) -> u32 {
        self.outer_bytes.wrapping_sub(F::STRIPPED as u32)
    }

    /// The same in full.
    #[inline(always)]
    pub const fn delivery(&self) -> Delivery {
        Delivery {
            tunnel: self.tunnel,
            link: F::LINK,
            ether_type: Some(F::ETHER_TYPE),
            inner: F::LINK.len() + F::STRIPPED,
            end: F::LINK.len() + self.outer_bytes as usize,
            padding: 0,
            remark: Remark::None,
            outer_bytes: self.outer_bytes,
            restart: self.restart,
            fragment: 0,
            passage: Passage::PLAIN,
            deliver: self.deliver,
            cores: Cores::NONE,
            mss: 0,
        }
    }
}

/// A packet of a usual form, of which the tunnel is to be found and asked yet.
pub(crate) struct Candidate<'a, const TAGS: usize, O, const FIELDS: usize, I> {
    headers: &'a Headers<TAGS, O, FIELDS, I>,
    field: Field,
    outer_bytes: u32,
}

impl<'a, const TAGS: usize, O: OuterHeader, const FIELDS: usize, I: InnerHeader> Candidate<'a, TAGS, O, FIELDS, I> {
    /// Checks all headers of a frame whose link header is of this form, and whose GRE has this field.
    #[inline(always)]
    pub(crate) fn read<P: Packet>(packet: &P, headers: &'a Headers<TAGS, O, FIELDS, I>, field: Field) -> Option<Self> {
        type Of<const TAGS: usize, O, const FIELDS: usize, I> = Headers<TAGS, O, FIELDS, I>;
        let Headers { outer, inner, .. } = *headers;
        let outer_bytes = outer.check()?;
        let (_, source) = outer.ends();
        let is_usual = inner.is_usual()
            && inner.fragment().united(outer.fragment()).has(FRAGMENT, [0; 4])
            && !inner.is_to(&source);
        let stripped = <Of<TAGS, O, FIELDS, I> as Form>::STRIPPED as u32;
        // Not shorter than its header either, for the frame is not.
        let is_all = || packet.len() == Of::<TAGS, O, FIELDS, I>::OUTER + outer_bytes as usize;
        (is_usual && outer_bytes == inner.length() + stripped && is_all()).then_some(Self {
            headers,
            field,
            outer_bytes,
        })
    }

    /// What its tunnel is found by.
    #[inline(always)]
    pub(crate) fn endpoints(&self) -> Endpoints<O::Address> {
        let (local, remote) = { self.headers.outer }.ends();
        Endpoints::new(local, remote, self.value_of(Field::Key))
    }

    /// Whether its checksum is right, or there is none; `None`: the bytes cannot be summed.
    #[inline(always)]
    pub(crate) fn is_intact<P: Packet>(&self, packet: &P) -> Option<bool> {
        if self.field != Field::Checksum {
            return Some(true);
        }
        let before = Headers::<TAGS, O, FIELDS, I>::GRE - Headers::<TAGS, O, FIELDS, I>::OUTER;
        let sum = packet.sum(Headers::<TAGS, O, FIELDS, I>::GRE, self.outer_bytes as usize - before);
        sum.map(checksum::is_valid)
    }

    /// The sequence number, if there is one.
    #[inline(always)]
    pub(crate) fn number(&self) -> Option<u32> {
        self.value_of(Field::Number).map(Be32::get)
    }

    #[inline(always)]
    fn value_of(&self, field: Field) -> Option<Be32> {
        let fields = self.headers.fields;
        fields.first().copied().filter(|_| self.field == field)
    }

    /// What the rules of protection ask.
    #[inline(always)]
    pub(crate) fn inner_destination(&self) -> I::Address {
        { self.headers.inner }.destination()
    }

    /// How it is decapsulated, by a tunnel that takes it as it is and delivers it so.
    #[inline(always)]
    pub(crate) fn by(&self, tunnel: Tunnel, restart: bool, deliver: Deliver) -> Usual<'a, Headers<TAGS, O, FIELDS, I>> {
        Usual {
            headers: self.headers,
            tunnel: tunnel.id,
            outer_bytes: self.outer_bytes,
            restart,
            deliver,
        }
    }
}

/// IPv4, and a header without options.
const FOUR_FIVE: u8 = 4 << 4 | 5;
const LENGTH4: [u8; 4] = [0xff, 0, 0, 0];
/// With that, whether the outer ECN field is ECT(1) or CE: nothing else changes the inner one (RFC 6040 section 4.2).
const LENGTH_AND_CHANGING_ECN4: [u8; 4] = [0xff, 1, 0, 0];
/// MF and the fragment offset.
const FRAGMENT: [u8; 4] = [0, 0, 0x3f, 0xff];
/// The version of IPv6.
const VERSION6: [u8; 4] = [0xf0, 0, 0, 0];
/// With that, whether the outer ECN field, the low bits of the traffic class, is ECT(1) or CE.
const VERSION_AND_CHANGING_ECN6: [u8; 4] = [0xf0, 0x10, 0, 0];
/// Next Header, after the payload length.
const NEXT_HEADER: [u8; 4] = [0, 0, 0xff, 0];
/// GRE without flags, of version 0, with IPv4 inside.
const PLAIN: Be32 = Be32::from_bytes([0, 0, 0x08, 0]);
/// The same with the flag of a key alone.
const KEYED: Be32 = Be32::from_bytes([0x20, 0, 0x08, 0]);
/// The same with the flag of a sequence number alone.
const NUMBERED: Be32 = Be32::from_bytes([0x10, 0, 0x08, 0]);
/// The same with the flag of a checksum alone.
const SUMMED: Be32 = Be32::from_bytes([0x80, 0, 0x08, 0]);
/// The same without flags, with IPv6 inside.
const PLAIN_AROUND6: Be32 = Be32::from_bytes([0, 0, 0x86, 0xdd]);

/// Of the word that an IPv4 header begins with.
#[inline(always)]
fn total_length(first: Be32) -> u32 {
    first.get() & 0xffff
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;
    use crate::gre::GreHdr;

    fn check<const TAGS: usize, O: OuterHeader, const FIELDS: usize, I: InnerHeader>(
        outer_len: usize,
        inner_len: usize,
    ) {
        type Of<const TAGS: usize, O, const FIELDS: usize, I> = Headers<TAGS, O, FIELDS, I>;
        let gre = <Of<TAGS, O, FIELDS, I>>::OUTER + outer_len;
        assert_eq!(
            <Of<TAGS, O, FIELDS, I> as Form>::LINK.len(),
            <Of<TAGS, O, FIELDS, I>>::OUTER
        );
        assert_eq!(
            offset_of!(Of<TAGS, O, FIELDS, I>, outer),
            <Of<TAGS, O, FIELDS, I>>::OUTER
        );
        assert_eq!(offset_of!(Of<TAGS, O, FIELDS, I>, gre), gre);
        assert_eq!(<Of<TAGS, O, FIELDS, I>>::GRE, gre);
        assert_eq!(offset_of!(Of<TAGS, O, FIELDS, I>, fields), gre + size_of::<GreHdr>());
        assert_eq!(
            offset_of!(Of<TAGS, O, FIELDS, I>, inner),
            <Of<TAGS, O, FIELDS, I>>::INNER
        );
        assert_eq!(<Of<TAGS, O, FIELDS, I>>::INNER, gre + size_of::<GreHdr>() + 4 * FIELDS);
        assert_eq!(
            size_of::<Of<TAGS, O, FIELDS, I>>(),
            <Of<TAGS, O, FIELDS, I>>::INNER + inner_len
        );
    }

    #[test]
    fn the_parts_lie_where_they_are_read() {
        check::<0, Outer4, 0, Inner4>(20, 20);
        check::<0, Outer4, 1, Inner4>(20, 20);
        check::<1, Outer4, 0, Inner4>(20, 20);
        check::<2, Outer4, 0, Inner4>(20, 20);
        check::<0, Outer6, 0, Inner4>(40, 20);
        check::<0, Outer4, 0, Inner6>(20, 40);
        check::<0, Outer6, 0, Inner6>(40, 40);
    }
}
