//! Frames: headers, VLAN tags, and the checksums that a card computes and verifies.

use std::ops::Range;

use super::{Mac, mac};
use crate::be::{get16, put16};

/// The shortest frame, without FCS; shorter ones are padded with zeros.
pub const SHORTEST: usize = 60;
/// Size of the two addresses, and the offset of the type or tag.
pub const ADDRESSES: usize = 12;
/// The type of RoCE version 1.
pub const ROCE: u16 = 0x8915;
/// The type of a VLAN tag.
pub const CUSTOMER_TAG: u16 = 0x8100;
/// The type of an outer tag.
pub const SERVICE_TAG: u16 = 0x88a8;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The headers of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Destination address.
    pub destination: Mac,
    /// Source address.
    pub source: Mac,
    /// Its first VLAN tag: type and tag.
    pub tag: Option<(u16, u16)>,
    /// The type of its payload.
    pub kind: u16,
    /// Its IP header, if it is complete.
    pub ip: Option<Ip>,
}

/// An IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// 4 or 6.
    pub version: u8,
    /// Its offset in the frame.
    pub start: usize,
    /// The offset of its payload in the frame.
    pub transport: usize,
    /// The end of the IP packet in the frame; padding may follow.
    pub end: usize,
    /// The protocol of its payload.
    pub protocol: u8,
    /// Whether it has options.
    pub options: bool,
    /// Whether it is a fragment.
    pub fragment: bool,
}

impl Ip {
    /// The range of its source and destination addresses in the frame.
    pub fn addresses(&self) -> Range<usize> {
        if self.version == 4 { self.start + 12..self.start + 20 } else { self.start + 8..self.start + 40 }
    }

    /// Whether its payload begins with a TCP header.
    pub fn is_tcp(&self) -> bool {
        self.protocol == TCP && !self.fragment && self.end - self.transport >= 20
    }

    /// Whether its payload begins with a UDP header.
    pub fn is_udp(&self) -> bool {
        self.protocol == UDP && !self.fragment && self.end - self.transport >= 8
    }

    /// The offset of the TCP or UDP checksum in the frame.
    fn checksum_at(&self) -> Option<usize> {
        match self {
            _ if self.is_tcp() => Some(self.transport + 16),
            _ if self.is_udp() => Some(self.transport + 6),
            _ => None,
        }
    }

    fn parse(frame: &[u8], start: usize, kind: u16) -> Option<Self> {
        let header = frame.get(start..)?;
        let (version, transport, length, protocol, fragment) = match kind {
            IPV4 if header.len() >= 20 && header[0] >> 4 == 4 => {
                let bytes = usize::from(header[0] & 0xf) * 4;
                let fragment = get16(header, 6) & 0x3fff != 0;
                (4, bytes, usize::from(get16(header, 2)), header[9], fragment)
            }
            IPV6 if header.len() >= 40 && header[0] >> 4 == 6 => {
                (6, 40, usize::from(get16(header, 4)) + 40, header[6], false)
            }
            _ => return None,
        };
        let options = version == 4 && transport > 20;
        let whole = transport >= 20 && length >= transport && length <= header.len();
        let (transport, end) = (start + transport, start + length);
        whole.then_some(Self { version, start, transport, end, protocol, options, fragment })
    }
}

impl Headers {
    /// Parses the headers of a frame, which must have addresses and a type.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        if frame.len() < ADDRESSES + 2 {
            return None;
        }
        let first = get16(frame, ADDRESSES);
        let tagged = matches!(first, CUSTOMER_TAG | SERVICE_TAG) && frame.len() >= ADDRESSES + 6;
        let tag = tagged.then(|| (first, get16(frame, ADDRESSES + 2)));
        let kind = if tagged { get16(frame, ADDRESSES + 4) } else { first };
        let start = if tagged { ADDRESSES + 6 } else { ADDRESSES + 2 };
        let ip = Ip::parse(frame, start, kind);
        Some(Self { destination: mac(frame, 0), source: mac(frame, 6), tag, kind, ip })
    }
}

/// Inserts a tag after the addresses.
pub fn insert_tag(frame: &mut Vec<u8>, kind: u16, tag: u16) {
    let at = ADDRESSES.min(frame.len());
    frame.splice(at..at, [kind.to_be_bytes(), tag.to_be_bytes()].concat());
}

/// Removes the tag after the addresses.
pub fn remove_tag(frame: &mut Vec<u8>) {
    if frame.len() >= ADDRESSES + 4 {
        frame.drain(ADDRESSES..ADDRESSES + 4);
    }
}

/// The ones' complement sum of 16-bit words.
fn sum(bytes: &[u8]) -> u32 {
    let total: u64 = bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    u32::from(fold(total))
}

fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// The sum over TCP or UDP with the pseudo-header: 0xffff if the checksum in it is right.
fn transport_sum(frame: &[u8], ip: &Ip) -> u16 {
    let length = (ip.end - ip.transport) as u64;
    let addresses = u64::from(sum(&frame[ip.addresses()]));
    let data = u64::from(sum(&frame[ip.transport..ip.end]));
    fold(addresses + data + length + u64::from(ip.protocol))
}

/// Fills in the checksums that the driver leaves to the card: of the IPv4 header, and of TCP or UDP.
pub fn fill_checksums(frame: &mut [u8], network: bool, transport: bool) {
    let Some(ip) = Headers::parse(frame).and_then(|headers| headers.ip) else { return };
    if network && ip.version == 4 {
        put16(frame, ip.start + 10, 0);
        let checksum = !fold(u64::from(sum(&frame[ip.start..ip.transport])));
        put16(frame, ip.start + 10, checksum);
    }
    if let Some(at) = ip.checksum_at().filter(|_| transport) {
        put16(frame, at, 0);
        let checksum = !transport_sum(frame, &ip);
        // For UDP, 0 would mean that there is no checksum.
        put16(frame, at, if checksum == 0 && ip.is_udp() { 0xffff } else { checksum });
    }
}

/// Whether the checksum of the header is right; IPv6 has none.
pub fn network_is_right(frame: &[u8], ip: &Ip) -> bool {
    ip.version == 6 || fold(u64::from(sum(&frame[ip.start..ip.transport]))) == 0xffff
}

/// Whether there is a TCP or UDP checksum, and it is right.
pub fn transport_is_right(frame: &[u8], ip: &Ip) -> bool {
    let at = ip.checksum_at();
    let present = at.is_some_and(|at| ip.is_tcp() || get16(frame, at) != 0);
    present && transport_sum(frame, ip) == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP datagram from 10.0.0.1 to 10.0.0.2.
    fn frame() -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        frame.extend([0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x12, 0x34, 0x56, 0x78, 0, 11, 0, 0, b'a', b'b', b'c']);
        frame
    }

    #[test]
    fn checksums_are_computed_and_verified() {
        let mut frame = frame();
        let headers = Headers::parse(&frame).unwrap();
        let ip = headers.ip.unwrap();
        assert!(!network_is_right(&frame, &ip) && !transport_is_right(&frame, &ip));
        fill_checksums(&mut frame, true, true);
        // By hand: 4500 + 001f + 4000 + 4011 + 0a00 + 0001 + 0a00 + 0002 = d933.
        assert_eq!(get16(&frame, 24), !0xd933);
        assert!(network_is_right(&frame, &ip) && transport_is_right(&frame, &ip));
        *frame.last_mut().unwrap() ^= 1;
        assert!(!transport_is_right(&frame, &ip));
    }

    #[test]
    fn tags_are_inserted_and_removed() {
        let mut frame = frame();
        let before = frame.clone();
        insert_tag(&mut frame, CUSTOMER_TAG, 0x6005);
        let headers = Headers::parse(&frame).unwrap();
        assert_eq!(headers.tag, Some((CUSTOMER_TAG, 0x6005)));
        assert!(headers.ip.unwrap().is_udp());
        remove_tag(&mut frame);
        assert_eq!(frame, before);
    }

    #[test]
    fn malformed_frames_have_no_headers() {
        assert!(Headers::parse(&[0; 13]).is_none());
        let mut frame = frame();
        // Longer than the frame.
        put16(&mut frame, 16, 4000);
        assert_eq!(Headers::parse(&frame).unwrap().ip, None);
        // A header length that is too short.
        frame[14] = 0x41;
        assert_eq!(Headers::parse(&frame).unwrap().ip, None);
    }
}
