//! Requests as bytes, and answers as messages and attributes.
//!
//! Everything here works on byte slices alone and takes any of them: what does not fit is a [`Malformed`] that
//! says so. Numbers are in the machine's own byte order and aligned to four bytes at best, so they are copied out.

use std::borrow::Cow;

use zerocopy::{FromBytes, IntoBytes};

use crate::uapi::linux_netlink::{NLA_F_NESTED, NLA_F_NET_BYTEORDER, NLM_F_REQUEST, Nlattr, Nlmsghdr};
use crate::uapi::netlink::{NUMBERS, RDMA_NL_NLDEV};

/// Messages and attributes start at multiples of this many bytes.
const ALIGNMENT: usize = 4;

/// Why an answer cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) Cow<'static, str>);

/// What reading an answer gives.
pub(crate) type Read<T> = Result<T, Malformed>;

impl Malformed {
    pub(crate) fn new(why: impl Into<Cow<'static, str>>) -> Self {
        Self(why.into())
    }
}

/// The message type of a device command.
pub(crate) const fn message_type(command: u16) -> u16 {
    RDMA_NL_NLDEV << 10 | command
}

/// A request under construction.
#[derive(Debug)]
pub(crate) struct Request(Vec<u8>);

impl Request {
    /// A request for a device command, without attributes; `flags` go beside `NLM_F_REQUEST`.
    pub(crate) fn new(command: u16, flags: u16) -> Self {
        Self::of(message_type(command), flags)
    }

    /// A request of this type.
    pub(crate) fn of(kind: u16, flags: u16) -> Self {
        let header = Nlmsghdr {
            nlmsg_len: 0, // known at the end
            nlmsg_type: kind,
            nlmsg_flags: NLM_F_REQUEST | flags,
            nlmsg_seq: 0,
            nlmsg_pid: 0,
        };
        Self(header.as_bytes().to_vec())
    }

    /// Appends what some families have between the header and the attributes.
    pub(crate) fn family(mut self, header: &[u8]) -> Self {
        self.0.extend_from_slice(header);
        self
    }

    /// Appends bytes.
    pub(crate) fn bytes(self, kind: u16, value: &[u8]) -> Self {
        self.attribute(kind, &[value])
    }

    /// Appends a number.
    pub(crate) fn u32(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &[&value.to_ne_bytes()])
    }

    /// Appends a string and the NUL that the kernel wants after it.
    ///
    /// The caller has bounded its length: names have 15 or 63 bytes at most.
    pub(crate) fn string(self, kind: u16, value: &str) -> Self {
        self.attribute(kind, &[value.as_bytes(), &[0]])
    }

    fn attribute(mut self, kind: u16, parts: &[&[u8]]) -> Self {
        let len = size_of::<Nlattr>() + parts.iter().map(|part| part.len()).sum::<usize>();
        debug_assert!(len <= usize::from(u16::MAX));
        let header = Nlattr { nla_len: len as u16, nla_type: kind };
        self.0.extend_from_slice(header.as_bytes());
        for part in parts {
            self.0.extend_from_slice(part);
        }
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT), 0);
        self
    }

    /// The bytes to send, with this sequence number.
    pub(crate) fn numbered(&mut self, sequence: u32) -> &[u8] {
        let len = self.0.len() as u32;
        if let Ok((header, _)) = Nlmsghdr::mut_from_prefix(&mut self.0) {
            header.nlmsg_len = len;
            header.nlmsg_seq = sequence;
        }
        &self.0
    }
}

/// One message of a datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// The messages of a datagram; ends after the first malformed one.
#[derive(Debug, Clone)]
pub(crate) struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    pub(crate) fn new(datagram: &'a [u8]) -> Self {
        Self(datagram)
    }

    fn split(&mut self) -> Read<Message<'a>> {
        let bytes = std::mem::take(&mut self.0);
        let (header, _) = Nlmsghdr::read_from_prefix(bytes)
            .map_err(|_| Malformed::new(format!("{} stray bytes after a message", bytes.len())))?;
        let len = header.nlmsg_len as usize;
        let Some(payload) = bytes.get(size_of::<Nlmsghdr>()..len) else {
            return Err(Malformed::new(format!(
                "a message of {len} bytes in the last {} bytes of a datagram",
                bytes.len()
            )));
        };
        self.0 = bytes.get(len.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Ok(Message {
            kind: header.nlmsg_type,
            flags: header.nlmsg_flags,
            sequence: header.nlmsg_seq,
            payload,
        })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Read<Message<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| self.split())
    }
}

/// One attribute, flag bits taken off its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(crate) fn u8(self) -> Read<u8> {
        self.number(u8::from_ne_bytes)
    }

    pub(crate) fn u32(self) -> Read<u32> {
        self.number(u32::from_ne_bytes)
    }

    pub(crate) fn u64(self) -> Read<u64> {
        self.number(u64::from_ne_bytes)
    }

    /// The text up to its NUL; what is not UTF-8 in it is replaced.
    pub(crate) fn text(self) -> String {
        let end = self.value.iter().position(|&b| b == 0).unwrap_or(self.value.len());
        let (text, _) = self.value.split_at(end);
        String::from_utf8_lossy(text).into_owned()
    }

    /// The attributes inside this one.
    pub(crate) fn nested(self) -> Attributes<'a> {
        Attributes(self.value)
    }

    fn number<const N: usize, T>(self, from: fn([u8; N]) -> T) -> Read<T> {
        self.value.try_into().map(from).map_err(|_| {
            Malformed::new(format!(
                "{} of {} bytes, {N} expected",
                attribute_name(self.kind),
                self.value.len()
            ))
        })
    }
}

/// The attributes of a message or of a nest; ends after the first malformed one.
#[derive(Debug, Clone)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    fn split(&mut self) -> Read<Attribute<'a>> {
        let bytes = std::mem::take(&mut self.0);
        let (header, _) = Nlattr::read_from_prefix(bytes)
            .map_err(|_| Malformed::new(format!("{} stray bytes after an attribute", bytes.len())))?;
        let kind = header.nla_type & !(NLA_F_NESTED | NLA_F_NET_BYTEORDER);
        let len = usize::from(header.nla_len);
        let Some(value) = bytes.get(size_of::<Nlattr>()..len) else {
            return Err(Malformed::new(format!(
                "{} says {len} bytes where {} are left",
                attribute_name(kind),
                bytes.len()
            )));
        };
        self.0 = bytes.get(len.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Ok(Attribute { kind, value })
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Read<Attribute<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| self.split())
    }
}

/// The value of an attribute that an answer must have.
pub(crate) fn required<T>(value: Option<T>, kind: u16) -> Read<T> {
    value.ok_or_else(|| Malformed::new(format!("{} is missing", attribute_name(kind))))
}

/// The kernel's name of an attribute, or its number.
fn attribute_name(kind: u16) -> Cow<'static, str> {
    NUMBERS
        .iter()
        .find(|n| n.c_name.contains("_ATTR_") && n.value == u64::from(kind))
        .map_or_else(|| Cow::Owned(format!("attribute {kind}")), |n| Cow::Borrowed(n.c_name))
}

#[cfg(test)]
#[path = "message_tests.rs"]
pub(super) mod tests;
