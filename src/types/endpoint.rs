//! What two processes tell each other before their queue pairs can talk, and its encoding in bytes.

use super::{Gid, Lid, Psn, Qpn, Rkey};
use crate::error::{Error, Result};

/// Where a queue pair is and with which packet number it begins: what its peer must be told.
///
/// The peer may be another process, so the endpoint has an encoding of a fixed size that does not depend on the machine
/// ([`to_bytes`](Self::to_bytes)). With the feature `serde` it also implements serde's traits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Endpoint {
    /// LID of the port; 0 on Ethernet.
    pub lid: Lid,
    /// Number of the queue pair.
    pub qp_num: Qpn,
    /// Its first packet sequence number.
    pub psn: Psn,
    /// GID of the port; zero where packets need none.
    pub gid: Gid,
}

/// An address in a peer's registered memory, with the key that grants access to it.
///
/// Its owner gets it from [`Mr::remote`](crate::Mr::remote) and tells it the peer, in the encoding of
/// [`to_bytes`](Self::to_bytes) for instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Remote {
    /// The address, as the peer registered it.
    pub addr: u64,
    /// The peer's key of the region or window.
    pub rkey: Rkey,
}

/// Begins an encoded endpoint: three letters and the version of the encoding.
const ENDPOINT_TAG: [u8; 4] = *b"bvE\x01";
/// Begins an encoded remote address.
const REMOTE_TAG: [u8; 4] = *b"bvR\x01";

impl Endpoint {
    /// Length of the encoding, in bytes.
    pub const ENCODED_LEN: usize = 32;

    /// Encodes the endpoint. Numbers are big-endian.
    ///
    /// | offset | bytes | content |
    /// |---|---|---|
    /// | 0 | 4 | `bvE` and the version of the encoding, 1 |
    /// | 4 | 2 | LID |
    /// | 6 | 2 | zero |
    /// | 8 | 4 | queue pair number |
    /// | 12 | 4 | first packet sequence number |
    /// | 16 | 16 | GID |
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::ENCODED_LEN] {
        let mut bytes = [0; Self::ENCODED_LEN];
        bytes[..4].copy_from_slice(&ENDPOINT_TAG);
        bytes[4..6].copy_from_slice(&self.lid.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.qp_num.get().to_be_bytes());
        bytes[12..16].copy_from_slice(&self.psn.get().to_be_bytes());
        bytes[16..].copy_from_slice(&self.gid.0);
        bytes
    }

    /// Decodes what [`to_bytes`](Self::to_bytes) has encoded.
    ///
    /// # Errors
    /// `bytes` has another length, begins with another tag or version, or has a number that is out of range. The error says
    /// which.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "decode an endpoint";
        let bytes: &[u8; Self::ENCODED_LEN] = sized(WHAT, bytes)?;
        let [t0, t1, t2, t3, l0, l1, z0, z1, q0, q1, q2, q3, p0, p1, p2, p3, gid @ ..] = *bytes;
        check_tag(WHAT, [t0, t1, t2, t3], ENDPOINT_TAG)?;
        if [z0, z1] != [0, 0] {
            return Err(Error::bad_answer(WHAT, "", "bytes 6 and 7 are not zero"));
        }
        let out_of_range = |e: super::OutOfRange| Error::bad_answer(WHAT, "", e.to_string());
        Ok(Self {
            lid: Lid(u16::from_be_bytes([l0, l1])),
            qp_num: Qpn::new(u32::from_be_bytes([q0, q1, q2, q3])).map_err(out_of_range)?,
            psn: Psn::new(u32::from_be_bytes([p0, p1, p2, p3])).map_err(out_of_range)?,
            gid: Gid(gid),
        })
    }
}

impl Remote {
    /// Length of the encoding, in bytes.
    pub const ENCODED_LEN: usize = 16;

    /// Encodes the address and the key. Numbers are big-endian.
    ///
    /// | offset | bytes | content |
    /// |---|---|---|
    /// | 0 | 4 | `bvR` and the version of the encoding, 1 |
    /// | 4 | 4 | key |
    /// | 8 | 8 | address |
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::ENCODED_LEN] {
        let mut bytes = [0; Self::ENCODED_LEN];
        bytes[..4].copy_from_slice(&REMOTE_TAG);
        bytes[4..8].copy_from_slice(&self.rkey.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.addr.to_be_bytes());
        bytes
    }

    /// Decodes what [`to_bytes`](Self::to_bytes) has encoded.
    ///
    /// # Errors
    /// `bytes` has another length, or begins with another tag or version. The error says which.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "decode a remote address";
        let bytes: &[u8; Self::ENCODED_LEN] = sized(WHAT, bytes)?;
        let [t0, t1, t2, t3, k0, k1, k2, k3, addr @ ..] = *bytes;
        check_tag(WHAT, [t0, t1, t2, t3], REMOTE_TAG)?;
        Ok(Self { addr: u64::from_be_bytes(addr), rkey: Rkey(u32::from_be_bytes([k0, k1, k2, k3])) })
    }
}

fn sized<'a, const N: usize>(what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8; N]> {
    bytes.try_into().map_err(|_| Error::bad_answer(what, "", format!("{} bytes instead of {N}", bytes.len())))
}

fn check_tag(what: &'static str, found: [u8; 4], expected: [u8; 4]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let why = if found[..3] == expected[..3] {
        format!("version {} of the encoding, where this side knows version {}", found[3], expected[3])
    } else {
        format!("it begins with \"{}\" instead of \"{}\"", found.escape_ascii(), expected.escape_ascii())
    };
    Err(Error::bad_answer(what, "", why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint {
            lid: Lid(0x1234),
            qp_num: Qpn::truncate(0x0056_789a),
            psn: Psn::truncate(0x00bc_def0),
            gid: Gid(std::array::from_fn(|n| n as u8 + 0xf0)),
        }
    }

    const REMOTE: Remote = Remote { addr: 0x0102_0304_0506_0708, rkey: Rkey(0x090a_0b0c) };

    #[test]
    fn the_encodings_are_these_bytes() {
        #[rustfmt::skip]
        let encoded = [
            b'b', b'v', b'E', 1, 0x12, 0x34, 0, 0, 0, 0x56, 0x78, 0x9a, 0, 0xbc, 0xde, 0xf0,
            0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff,
        ];
        assert_eq!(endpoint().to_bytes(), encoded);
        assert_eq!(Endpoint::from_bytes(&encoded).ok(), Some(endpoint()));
        let encoded = [b'b', b'v', b'R', 1, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(REMOTE.to_bytes(), encoded);
        assert_eq!(Remote::from_bytes(&encoded).ok(), Some(REMOTE));
    }

    fn refused(at: usize, byte: u8) -> String {
        let mut bytes = endpoint().to_bytes();
        bytes[at] = byte;
        Endpoint::from_bytes(&bytes).map_err(|e| e.to_string()).unwrap_err()
    }

    #[test]
    fn bad_bytes_are_refused_with_the_reason() {
        assert_eq!(
            refused(3, 2),
            "decode an endpoint: version 2 of the encoding, where this side knows version 1"
        );
        assert_eq!(refused(2, b'R'), r#"decode an endpoint: it begins with "bvR\x01" instead of "bvE\x01""#);
        assert_eq!(refused(6, 1), "decode an endpoint: bytes 6 and 7 are not zero");
        assert_eq!(refused(8, 1), "decode an endpoint: QPN 0x156789a is above 0xffffff");
        assert_eq!(refused(12, 1), "decode an endpoint: PSN 0x1bcdef0 is above 0xffffff");
        let short = Endpoint::from_bytes(&endpoint().to_bytes()[1..]).map_err(|e| e.to_string());
        assert_eq!(short, Err("decode an endpoint: 31 bytes instead of 32".to_owned()));
        let other = Remote::from_bytes(&endpoint().to_bytes()[..16]).map_err(|e| e.to_string());
        assert_eq!(
            other,
            Err(r#"decode a remote address: it begins with "bvE\x01" instead of "bvR\x01""#.to_owned())
        );
    }

    #[cfg(feature = "serde")]
    #[test]
    fn serde_keeps_the_values_and_the_ranges() {
        let endpoint = Endpoint { gid: std::net::Ipv6Addr::LOCALHOST.into(), ..endpoint() };
        let json = serde_json::to_string(&endpoint).unwrap();
        assert_eq!(json, r#"{"lid":4660,"qp_num":5666970,"psn":12377840,"gid":"::1"}"#);
        assert_eq!(serde_json::from_str::<Endpoint>(&json).unwrap(), endpoint);
        let error = serde_json::from_str::<Endpoint>(&json.replace("5666970", "16777216")).unwrap_err();
        assert!(error.to_string().starts_with("QPN 0x1000000 is above 0xffffff"), "{error}");
        let json = serde_json::to_string(&REMOTE).unwrap();
        assert_eq!(json, r#"{"addr":72623859790382856,"rkey":151653132}"#);
        assert_eq!(serde_json::from_str::<Remote>(&json).unwrap(), REMOTE);
    }
}
