//! Datagrams of subnet administration: header, component mask, attribute (InfiniBand Architecture Specification, volume
//! 1, section 15.2.1.1; the kernel's `struct ib_sa_mad` in include/rdma/ib_mad.h).

use std::fmt;

use crate::be::{get16, get32, get64, put16};

/// Bytes of a datagram.
const MAD: usize = 256;
/// The RMPP header, which is empty in datagrams of one segment.
const SEGMENTS: std::ops::Range<usize> = 24..36;
/// Where the attribute begins: after the common header (24 bytes), the RMPP header (12) and the class header (20).
const DATA: usize = 56;

pub(super) const BASE_VERSION: u8 = 1;
const CLASS: u8 = 3;
pub(super) const CLASS_VERSION: u8 = 2;
/// The response bit of a method.
const RESPONSE: u8 = 0x80;

/// Methods (table 189).
pub(super) mod method {
    pub(crate) const GET: u8 = 0x01;
    pub(crate) const SET: u8 = 0x02;
    pub(crate) const GET_TABLE: u8 = 0x12;
    pub(crate) const GET_TRACE_TABLE: u8 = 0x13;
    pub(crate) const GET_MULTI: u8 = 0x14;
    pub(crate) const DELETE: u8 = 0x15;
}

/// Attributes (table 192).
pub(super) mod attribute {
    pub(crate) const CLASS_PORT_INFO: u16 = 0x0001;
    pub(crate) const PATH_RECORD: u16 = 0x0035;
    pub(crate) const MC_MEMBER_RECORD: u16 = 0x0038;
}

/// The status of a response: those of all classes (section 13.4.7), then those of the class (table 188).
pub(super) mod status {
    pub(crate) const BAD_VERSION: u16 = 0x0004;
    pub(crate) const BAD_METHOD: u16 = 0x0008;
    pub(crate) const BAD_ATTRIBUTE: u16 = 0x000c;
    pub(crate) const NO_RESOURCES: u16 = 0x0100;
    pub(crate) const REQUEST_INVALID: u16 = 0x0200;
    pub(crate) const NO_RECORDS: u16 = 0x0300;
    pub(crate) const INVALID_GID: u16 = 0x0500;
    pub(crate) const INSUFFICIENT_COMPONENTS: u16 = 0x0600;
}

/// A datagram of the class.
pub(super) struct Mad([u8; MAD]);

impl Mad {
    /// Decodes the payload of a packet, if it is a datagram of the class.
    pub(super) fn of(payload: &[u8]) -> Option<Self> {
        let bytes: [u8; MAD] = payload.try_into().ok()?;
        (bytes[1] == CLASS).then_some(Self(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8; MAD] {
        &self.0
    }

    pub(super) fn method(&self) -> u8 {
        self.0[3]
    }

    pub(super) fn attribute(&self) -> u16 {
        get16(&self.0, 16)
    }

    /// The status; 0 in a request.
    fn status(&self) -> u16 {
        get16(&self.0, 4)
    }

    /// Whether it is a request. Traps and RMPP acknowledgements are not.
    pub(super) fn is_request(&self) -> bool {
        use method::*;
        matches!(self.method(), GET | SET | GET_TABLE | GET_TRACE_TABLE | GET_MULTI | DELETE)
    }

    pub(super) fn check_version(&self) -> Result<(), u16> {
        let good = self.0[0] == BASE_VERSION && self.0[2] == CLASS_VERSION;
        if good { Ok(()) } else { Err(status::BAD_VERSION) }
    }

    /// Whether the request contains component `bit` of its attribute.
    pub(super) fn has(&self, bit: u32) -> bool {
        get64(&self.0, 48) >> bit & 1 != 0
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.0[DATA..]
    }

    pub(super) fn data_mut(&mut self) -> &mut [u8] {
        &mut self.0[DATA..]
    }

    /// Stores the record of the response, and its size in words of eight bytes.
    pub(super) fn put_record(&mut self, record: &[u8]) {
        put16(&mut self.0, 44, record.len().div_ceil(8) as u16);
        let data = self.data_mut();
        data.fill(0);
        data[..record.len()].copy_from_slice(record);
    }

    /// Turns it into a response with this status.
    pub(super) fn finish(&mut self, result: Result<(), u16>) {
        // The response to Set is GetResp (section 15.3).
        self.0[3] = if self.method() == method::SET { method::GET } else { self.method() } | RESPONSE;
        put16(&mut self.0, 4, result.err().unwrap_or(0));
        self.0[SEGMENTS].fill(0);
    }

    /// The response in words, for the trace.
    pub(super) fn outcome(&self) -> Outcome<'_> {
        Outcome(self)
    }
}

/// A request, for the trace.
impl fmt::Display for Mad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.method() {
            method::GET => f.write_str("Get")?,
            method::SET => f.write_str("Set")?,
            method::DELETE => f.write_str("Delete")?,
            method::GET_TABLE => f.write_str("GetTable")?,
            other => write!(f, "method {other:#04x}")?,
        }
        let gid = |at: usize| Gid(&self.data()[at..at + 16]);
        match self.attribute() {
            attribute::CLASS_PORT_INFO => f.write_str(" ClassPortInfo"),
            attribute::PATH_RECORD => write!(f, " PathRecord from {} to {}", gid(24), gid(8)),
            attribute::MC_MEMBER_RECORD => write!(f, " MCMemberRecord {} port {}", gid(0), gid(16)),
            other => write!(f, " attribute {other:#06x}"),
        }
    }
}

/// A response, for the trace.
pub(super) struct Outcome<'a>(&'a Mad);

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(mad) = self;
        write!(f, "status {:#06x}", mad.status())?;
        let data = mad.data();
        match mad.attribute() {
            _ if mad.status() != 0 => Ok(()),
            attribute::PATH_RECORD => write!(f, " LID {} to {}", get16(data, 42), get16(data, 40)),
            attribute::MC_MEMBER_RECORD => {
                write!(f, " MLID {:#06x} Q_Key {:#x}", get16(data, 36), get32(data, 32))
            }
            _ => Ok(()),
        }
    }
}

/// A GID in the trace, written as an IPv6 address.
struct Gid<'a>(&'a [u8]);

impl fmt::Display for Gid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: [u8; 16] = self.0.try_into().unwrap_or_default();
        write!(f, "{}", std::net::Ipv6Addr::from(bytes))
    }
}
