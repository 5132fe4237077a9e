//! The way back: from a datagram that came, the address that its answer goes to.

use super::{AddressVector, Endpoint, Qp};
use crate::error::{Error, Result};
use crate::types::{Gid, Lid, Wc};

impl Qp {
    /// Bytes at the start of a datagram's receive that are kept for its routing header; the message begins after them.
    pub const GRH_LEN: usize = 40;

    /// The way back to who sent the datagram of `wc`, from this side's endpoint; `header` is the start of its receive, which is
    /// looked at where [`Wc::grh`] says that it was written. The queue pair to answer is [`Wc::src_qp`]. Answers take the
    /// service level that the datagram came on; on Ethernet, level 0.
    ///
    /// See `ibv_init_ah_from_wc(3)`.
    ///
    /// # Errors
    /// [`Qp::init_endpoint`] was not called, or the header is neither of IPv6 (as InfiniBand's is) nor of IPv4.
    pub fn reply_address(&self, wc: &Wc, header: &[u8; Self::GRH_LEN]) -> Result<AddressVector> {
        let (local, _) = self.local("make an address")?;
        let mut av = self.address(&Endpoint::default())?;
        // What Ethernet has instead of a LID and a level, the completion does not tell.
        if local.lid != Lid(0) {
            av = AddressVector { dlid: wc.slid, sl: wc.sl, src_path_bits: wc.dlid_path_bits, ..av };
        }
        if !wc.grh {
            return Ok(av);
        }
        let Some(route) = Route::of(header) else {
            let why = "the datagram's header is neither IPv6 nor IPv4";
            return Err(Error::invalid("make an address", self.context().info().name.as_str(), why));
        };
        Ok(AddressVector {
            dgid: Some(route.source),
            traffic_class: route.traffic_class,
            flow_label: route.flow_label,
            hop_limit: u8::MAX,
            ..av
        })
    }
}

/// What a routing header tells of the way that a datagram came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    source: Gid,
    traffic_class: u8,
    flow_label: u32,
}

impl Route {
    /// Reads a header: one of IPv6 fills the 40 bytes; one of IPv4 their second half, after 20 bytes that mean nothing and may
    /// be left of an earlier datagram's.
    fn of(header: &[u8; Qp::GRH_LEN]) -> Option<Self> {
        let (_, ipv4) = header.split_last_chunk::<20>()?;
        let (first, source) = (word(header, 0), word(header, 32));
        let (is_ipv6, looks_ipv4) = (first >> 28 == 6, ipv4[0] == 0x45);
        if looks_ipv4 && (!is_ipv6 || checks(ipv4)) {
            let [a, b, c, d] = source.to_be_bytes();
            let source = Gid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]);
            return Some(Self { source, traffic_class: ipv4[1], flow_label: 0 });
        }
        let source = header.get(8..24)?.try_into().ok().map(Gid)?;
        let traffic_class = (first >> 20 & 0xff) as u8;
        is_ipv6.then_some(Self { source, traffic_class, flow_label: first & 0xf_ffff })
    }
}

/// The big-endian word at an offset.
fn word(header: &[u8; Qp::GRH_LEN], at: usize) -> u32 {
    header[at..at + 4].iter().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

/// Whether a header of IPv4 has the checksum that it should have.
fn checks(header: &[u8; 20]) -> bool {
    let (pairs, _) = header.as_chunks::<2>();
    let sum: u32 = pairs.iter().map(|&pair| u32::from(u16::from_be_bytes(pair))).sum();
    (sum & 0xffff) + (sum >> 16) == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version, traffic class 0x12, flow label 0x34567; length, next header, hop limit; the source, which where IPv4 begins looks
    /// like that.
    const IPV6: [u8; 24] =
        [0x61, 0x23, 0x45, 0x67, 0, 64, 17, 64, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0x45, 0, 0, 8];
    /// From 10.0.0.1 to 10.0.0.2, type of service 8.
    const IPV4: [u8; 20] = [0x45, 8, 0, 84, 0, 0, 0x40, 0, 64, 17, 0x26, 0x8f, 10, 0, 0, 1, 10, 0, 0, 2];

    fn header(parts: &[(usize, &[u8])]) -> [u8; 40] {
        let mut header = [0; 40];
        for &(at, bytes) in parts {
            header[at..at + bytes.len()].copy_from_slice(bytes);
        }
        header
    }

    #[test]
    fn both_sorts_of_header_are_read_whatever_is_left_of_the_other() {
        let source = Gid(IPV6[8..].try_into().unwrap());
        let v6 = Some(Route { source, traffic_class: 0x12, flow_label: 0x34567 });
        assert_eq!(Route::of(&header(&[(0, &IPV6)])), v6);
        let source = Gid(std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets());
        let v4 = Some(Route { source, traffic_class: 8, flow_label: 0 });
        assert_eq!(Route::of(&header(&[(20, &IPV4)])), v4);
        assert_eq!(Route::of(&header(&[(0, &IPV6), (20, &IPV4)])), v4);
        // rxe leaves the checksum out of what does not leave the machine, and the first half zero.
        assert_eq!(Route::of(&header(&[(20, &IPV4), (30, &[0, 0])])), v4);
        assert_eq!(Route::of(&[0; 40]), None);
        assert_eq!(Route::of(&[0xff; 40]), None);
    }
}
