//! Ethernet: what a port has in place of LIDs, and what its frames are.
//!
//! | file | idea |
//! |---|---|
//! | `port` | tables of addresses, VLANs and GIDs, filters, steering, counters |
//! | `frame` | headers found, tags put in and taken out, checksums made and judged |
//! | `switch` | which cards a frame or a RoCE packet goes to |
//!
//! Firmware commands are in `fw/ethernet`, queues of frames in `data/raw`. RoCE is the packets of InfiniBand with another
//! header in front: version 1, ethertype 0x8915.

pub mod frame;
pub mod port;
mod switch;

pub use port::EthernetPort;

/// A hardware address.
pub type Mac = [u8; 6];

/// The header of a RoCE packet, in place of an LRH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Where it goes.
    pub destination: Mac,
    /// Where it comes from.
    pub source: Mac,
    /// The tag of its VLAN: priority and number.
    pub tag: Option<u16>,
}

/// A frame that a card sends: all of it but the FCS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its bytes, at least the two addresses and the type.
    pub bytes: Vec<u8>,
    /// Whether it comes back where it is for the card itself.
    pub loopback: bool,
}

/// Whether an address is that of a group.
pub fn is_group(mac: Mac) -> bool {
    mac[0] & 1 != 0
}

/// The six bytes at `offset`, which the layout has.
pub(crate) fn mac(bytes: &[u8], offset: usize) -> Mac {
    let mut mac = Mac::default();
    mac.copy_from_slice(&bytes[offset..offset + 6]);
    mac
}
