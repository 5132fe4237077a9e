//! Ethernet: what ports have in place of LIDs, and frames.
//!
//! | file | idea |
//! |---|---|
//! | `port` | tables of addresses, VLANs and GIDs, filters, steering, counters |
//! | `frame` | headers, VLAN tags, checksums |
//! | `switch` | which cards a frame or a RoCE packet is for |
//!
//! RoCE (version 1, ethertype 0x8915) is InfiniBand packets with an Ethernet header in place of the LRH.

pub mod frame;
pub mod port;
mod switch;

pub use port::EthernetPort;

/// A hardware address.
pub type Mac = [u8; 6];

/// The header of a RoCE packet, in place of an LRH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Destination address.
    pub destination: Mac,
    /// Source address.
    pub source: Mac,
    /// VLAN tag: priority and number.
    pub tag: Option<u16>,
}

/// A frame that a card sends, without the FCS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its bytes: at least the two addresses and the type.
    pub bytes: Vec<u8>,
    /// Whether the card receives it itself if it has the destination address.
    pub loopback: bool,
}

/// Whether an address is a multicast or broadcast address.
pub fn is_group(mac: Mac) -> bool {
    mac[0] & 1 != 0
}

/// The address at `offset`, which must be in bounds.
pub(crate) fn mac(bytes: &[u8], offset: usize) -> Mac {
    let mut mac = Mac::default();
    mac.copy_from_slice(&bytes[offset..offset + 6]);
    mac
}
