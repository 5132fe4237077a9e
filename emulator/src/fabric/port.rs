//! A port: its addresses, partitions, state and counters.
//!
//! A card has one port, number 1. There is no subnet manager: the fabric assigns LIDs when it is created, and a port is
//! ACTIVE as soon as the driver has brought it up.

use crate::fabric::{
    ethernet::EthernetPort,
    packet::{Grh, Lrh, Packet},
};

/// A link layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkLayer {
    /// InfiniBand: LIDs and a subnet manager.
    #[default]
    InfiniBand,
    /// Ethernet: a network device, and RoCE.
    Ethernet,
}

/// Entries of the GID table.
pub const GIDS: usize = 128;
/// Entries of the P_Key table.
pub const PKEYS: usize = 128;
/// The subnet prefix until a subnet manager sets another.
pub const DEFAULT_PREFIX: u64 = 0xfe80_0000_0000_0000;
/// The default partition, full membership.
pub const DEFAULT_PKEY: u16 = 0xffff;

/// The logical state of a port (InfiniBand, PortInfo:PortState).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PortState {
    /// The link does not carry packets.
    Down = 1,
    /// The link is up, but not configured by the subnet manager.
    Init = 2,
    /// Configured, but not active yet.
    Armed = 3,
    /// The link carries packets.
    Active = 4,
}

/// Counters of a port (InfiniBand, PortCounters and PortCountersExtended).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Bytes sent, without link framing.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Packets received with errors.
    pub receive_errors: u64,
    /// Packets not sent because the port was down.
    pub send_discards: u64,
}

/// A port.
#[derive(Clone, Debug)]
pub struct Port {
    /// Whether the cable is connected.
    pub cable: bool,
    /// Whether the driver has brought the port up (INIT_PORT).
    pub enabled: bool,
    /// Its LID; 0 if none is assigned.
    pub lid: u16,
    /// LID mask control: the base-2 logarithm of the number of its LIDs.
    pub lmc: u8,
    /// The LID of the subnet manager.
    pub sm_lid: u16,
    /// The subnet prefix.
    pub prefix: u64,
    /// The table of port GUIDs. Entry 0 is the port's own; a GUID of 0 marks an empty entry.
    pub guids: [u64; GIDS],
    /// The P_Key table; empty entries are 0.
    pub pkeys: [u16; PKEYS],
    /// The capability mask, set by the driver and read by a subnet manager.
    pub capabilities: u32,
    /// The largest MTU that it supports, as a code: 1 is 256 bytes, 5 is 4096.
    pub max_mtu: u8,
    /// The current MTU, as a code.
    pub active_mtu: u8,
    /// Packets with a P_Key that is not in the table.
    pub pkey_violations: u16,
    /// Packets with the wrong Q_Key.
    pub qkey_violations: u16,
    /// Counters.
    pub counters: PortCounters,
    /// Its Ethernet side, if the link layer is Ethernet.
    pub ethernet: Option<Box<EthernetPort>>,
}

impl Port {
    /// A port with this GUID and LID. Its cable is connected, and no driver has brought it up.
    pub fn new(guid: u64, lid: u16, sm_lid: u16) -> Self {
        let mut guids = [0; GIDS];
        guids[0] = guid;
        let mut pkeys = [0; PKEYS];
        pkeys[0] = DEFAULT_PKEY;
        Self {
            cable: true,
            enabled: false,
            lid,
            lmc: 0,
            sm_lid,
            prefix: DEFAULT_PREFIX,
            guids,
            pkeys,
            capabilities: 0,
            max_mtu: 5,
            active_mtu: 5,
            pkey_violations: 0,
            qkey_violations: 0,
            counters: PortCounters::default(),
            ethernet: None,
        }
    }

    /// Resets what drivers set. The cable, the LIDs and its own GUID stay.
    pub fn reset(&mut self) {
        let cable = self.cable;
        let mut ethernet = self.ethernet.take();
        if let Some(ethernet) = &mut ethernet {
            ethernet.reset();
        }
        *self = Self { cable, ethernet, ..Self::new(self.guids[0], self.lid, self.sm_lid) };
    }

    /// Its logical state: ACTIVE if the cable is connected and the driver has brought it up.
    pub fn state(&self) -> PortState {
        if self.cable && self.enabled { PortState::Active } else { PortState::Down }
    }

    /// Whether it carries packets.
    pub fn is_active(&self) -> bool {
        self.state() == PortState::Active
    }

    /// Entry `index` of the GID table, if the table is that long.
    pub fn gid(&self, index: usize) -> Option<[u8; 16]> {
        if let Some(ethernet) = &self.ethernet {
            return ethernet.gids.get(index).copied();
        }
        let guid = *self.guids.get(index)?;
        let mut gid = [0; 16];
        gid[..8].copy_from_slice(&self.prefix.to_be_bytes());
        gid[8..].copy_from_slice(&guid.to_be_bytes());
        Some(gid)
    }

    /// Whether a packet to this GID is for this port.
    pub fn has_gid(&self, gid: &[u8; 16]) -> bool {
        let used = |index: &usize| self.ethernet.is_some() || self.guids[*index] != 0;
        (0..GIDS).filter(used).any(|index| self.gid(index).as_ref() == Some(gid))
    }

    /// Whether the port itself sent a packet with this header.
    pub fn sent(&self, header: &Lrh) -> bool {
        match (&self.ethernet, header.ethernet) {
            (Some(ethernet), Some(header)) => ethernet.has_mac(header.source),
            _ => header.slid == self.lid,
        }
    }

    /// Whether a packet is for this port. On InfiniBand the switch has checked that.
    pub fn takes(&self, packet: &Packet) -> bool {
        match (&self.ethernet, packet.lrh.ethernet) {
            (Some(ethernet), Some(header)) => {
                let own = |grh: Grh| grh.dgid[0] == 0xff || self.has_gid(&grh.dgid);
                ethernet.takes_packet(header.destination, header.tag) && packet.grh.is_some_and(own)
            }
            (None, None) => true,
            _ => false,
        }
    }

    /// Entry `index` of the P_Key table, if the table is that long.
    pub fn pkey(&self, index: usize) -> Option<u16> {
        self.pkeys.get(index).copied()
    }

    /// The current MTU in bytes.
    pub fn mtu_bytes(&self) -> usize {
        128 << self.active_mtu
    }
}

/// Whether two P_Keys name the same partition and at least one of them is a full member.
pub fn pkeys_match(one: u16, other: u16) -> bool {
    one & 0x7fff != 0 && one & 0x7fff == other & 0x7fff && (one | other) & 0x8000 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_active_with_a_cable_and_a_driver() {
        let mut port = Port::new(0x10d2_c910_0000_6bd1, 1, 1);
        assert_eq!(port.state(), PortState::Down);
        port.enabled = true;
        assert_eq!(port.state(), PortState::Active);
        port.cable = false;
        assert_eq!(port.state(), PortState::Down);
        port.reset();
        assert!(!port.cable && !port.enabled && port.lid == 1);
    }

    #[test]
    fn gids_are_prefix_and_guid() {
        let port = Port::new(0x10d2_c910_0000_6bd1, 1, 1);
        let gid = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x10, 0xd2, 0xc9, 0x10, 0, 0, 0x6b, 0xd1];
        assert_eq!(port.gid(0), Some(gid));
        assert!(port.has_gid(&gid));
        assert!(port.gid(GIDS).is_none());
    }

    #[test]
    fn limited_members_do_not_match() {
        assert!(pkeys_match(0xffff, 0x7fff));
        assert!(pkeys_match(0x8001, 0x8001));
        assert!(!pkeys_match(0x7fff, 0x7fff));
        assert!(!pkeys_match(0x8001, 0x8002));
        assert!(!pkeys_match(0x8000, 0x8000));
    }
}
