//! The Ethernet side of a port: what the driver tells it by SET_PORT and the filter commands.

use std::collections::BTreeSet;

use super::{Mac, is_group};
use crate::fabric::port::GIDS;

/// Entries of the tables of addresses and VLANs (`MLX4_MAX_MAC_NUM`, `MLX4_MAX_VLAN_NUM`).
pub const ENTRIES: usize = 128;
/// Words of the filter of VLANs, one bit for each of 4096.
pub const FILTER_WORDS: usize = 128;
/// The largest MTU of a network device on it.
pub const MAX_MTU: u16 = 9900;

/// Which of the two kinds of steering entries (`enum mlx4_steer_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    /// By addresses of groups.
    Multicast = 0,
    /// By a station's address.
    Unicast = 1,
}

/// What went through as frames, besides what [`PortCounters`](crate::fabric::port::PortCounters) count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounters {
    /// Frames sent to groups, broadcast not among them.
    pub sent_multicast: u64,
    /// Frames sent to everybody.
    pub sent_broadcast: u64,
    /// Frames that came for groups, broadcast not among them.
    pub received_multicast: u64,
    /// Frames that came for everybody.
    pub received_broadcast: u64,
    /// Frames that came and found no receive request.
    pub dropped: u64,
    /// Frames that came longer than the driver allows.
    pub too_long: u64,
}

/// What a port has on Ethernet.
#[derive(Clone, Debug)]
pub struct EthernetPort {
    /// The address that the maker gave.
    pub mac: Mac,
    /// The table of addresses: RoCE packets are from and for these.
    pub macs: [Option<Mac>; ENTRIES],
    /// The table of VLANs of RoCE packets.
    pub vlans: [Option<u16>; ENTRIES],
    /// The table of GIDs; zeros are an empty entry.
    pub gids: [[u8; 16]; GIDS],
    /// The longest frame that is taken, FCS included; 0 before the driver says one.
    pub max_frame: u16,
    /// Groups whose frames are taken, while the filter is on.
    pub groups: BTreeSet<Mac>,
    /// Whether that filter is on.
    pub filter_groups: bool,
    /// VLANs whose frames are taken, by number: a bit each.
    pub vlan_filter: [u32; FILTER_WORDS],
    /// Queue pairs that get what has no steering entry, by [`Steering`].
    pub promiscuous: [Vec<u32>; 2],
    /// What went through.
    pub counters: FrameCounters,
    /// Counts changes of the tables of addresses and GIDs, for whoever has to know.
    pub changes: u64,
}

impl EthernetPort {
    /// A port with this address that no driver has touched.
    pub fn new(mac: Mac) -> Self {
        Self {
            mac,
            macs: [None; ENTRIES],
            vlans: [None; ENTRIES],
            gids: [[0; 16]; GIDS],
            max_frame: 0,
            groups: BTreeSet::new(),
            filter_groups: false,
            vlan_filter: [0; FILTER_WORDS],
            promiscuous: [Vec::new(), Vec::new()],
            counters: FrameCounters::default(),
            changes: 0,
        }
    }

    /// What it was before any driver came.
    pub fn reset(&mut self) {
        *self = Self { changes: self.changes.wrapping_add(1), ..Self::new(self.mac) };
    }

    /// Whether it is one of its own addresses.
    pub fn has_mac(&self, mac: Mac) -> bool {
        self.macs.contains(&Some(mac))
    }

    /// Whether a RoCE packet to this address, perhaps in a VLAN, is taken.
    pub fn takes_packet(&self, destination: Mac, tag: Option<u16>) -> bool {
        let vlan = tag.map(|tag| tag & 0xfff);
        (is_group(destination) || self.has_mac(destination))
            && vlan.is_none_or(|vlan| self.vlans.contains(&Some(vlan)))
    }

    /// Whether frames of this VLAN are taken.
    pub fn takes_vlan(&self, vlan: u16) -> bool {
        // The words are in the order from the last VLAN to the first.
        let word = FILTER_WORDS - 1 - usize::from(vlan & 0xfff) / 32;
        self.vlan_filter[word] >> (vlan & 31) & 1 != 0
    }

    /// Whether frames to this group are taken.
    pub fn takes_group(&self, group: Mac) -> bool {
        !self.filter_groups || self.groups.contains(&group)
    }
}

/// The key of the steering entry of an address on port 1 (mlx4/en_netdev.c, `mlx4_en_uc_steer_add`).
pub fn steering_key(steering: Steering, mac: Mac) -> [u8; 16] {
    let mut key = [0; 16];
    key[5] = 1;
    key[7] = (steering as u8) << 1;
    key[10..].copy_from_slice(&mac);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_takes_what_its_tables_say() {
        let mac = [2, 0, 0, 0, 0, 1];
        let group = [0x33, 0x33, 0, 0, 0, 1];
        let mut port = EthernetPort::new(mac);
        assert!(!port.takes_packet(mac, None));
        port.macs[3] = Some(mac);
        assert!(port.takes_packet(mac, None) && port.takes_packet(group, None));
        assert!(!port.takes_packet(mac, Some(0x6005)));
        port.vlans[1] = Some(5);
        assert!(port.takes_packet(mac, Some(0x6005)));
        assert!(port.takes_group(group));
        port.filter_groups = true;
        assert!(!port.takes_group(group));
        // en_port.c's mlx4_SET_VLAN_FLTR fills the words from the last to the first.
        port.vlan_filter[FILTER_WORDS - 1] = 1 << 5;
        assert!(port.takes_vlan(5) && !port.takes_vlan(4) && !port.takes_vlan(37));
    }
}
