//! The Ethernet side of a port: tables and filters that the driver sets.

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
    /// By unicast addresses.
    Unicast = 1,
}

/// Counters of frames, beside [`PortCounters`](crate::fabric::port::PortCounters).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounters {
    /// Multicast frames sent, without broadcasts.
    pub sent_multicast: u64,
    /// Broadcast frames sent.
    pub sent_broadcast: u64,
    /// Multicast frames received, without broadcasts.
    pub received_multicast: u64,
    /// Broadcast frames received.
    pub received_broadcast: u64,
    /// Frames dropped for lack of a receive request.
    pub dropped: u64,
    /// Frames longer than the driver permits.
    pub too_long: u64,
}

/// The Ethernet side of a port.
#[derive(Clone, Debug)]
pub struct EthernetPort {
    /// The factory address.
    pub mac: Mac,
    /// The table of addresses of RoCE packets.
    pub macs: [Option<Mac>; ENTRIES],
    /// The table of VLANs of RoCE packets.
    pub vlans: [Option<u16>; ENTRIES],
    /// The table of GIDs; empty entries are zeros.
    pub gids: [[u8; 16]; GIDS],
    /// The longest frame that is accepted, FCS included; 0 until the driver sets it.
    pub max_frame: u16,
    /// Groups whose frames are accepted while the filter is on.
    pub groups: BTreeSet<Mac>,
    /// Whether that filter is on.
    pub filter_groups: bool,
    /// VLANs whose frames are accepted: a bit each, words in the order from the last VLAN to the first.
    pub vlan_filter: [u32; FILTER_WORDS],
    /// Queue pairs that receive frames without a steering entry, by [`Steering`].
    pub promiscuous: [Vec<u32>; 2],
    /// Counters.
    pub counters: FrameCounters,
    /// Counts changes of the tables of addresses and GIDs.
    pub changes: u64,
}

impl EthernetPort {
    /// A port with this factory address.
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

    /// Resets what drivers set.
    pub fn reset(&mut self) {
        *self = Self { changes: self.changes.wrapping_add(1), ..Self::new(self.mac) };
    }

    /// Whether the table of addresses contains `mac`.
    pub fn has_mac(&self, mac: Mac) -> bool {
        self.macs.contains(&Some(mac))
    }

    /// Whether a RoCE packet to this address and VLAN is accepted.
    pub fn takes_packet(&self, destination: Mac, tag: Option<u16>) -> bool {
        let vlan = tag.map(|tag| tag & 0xfff);
        (is_group(destination) || self.has_mac(destination))
            && vlan.is_none_or(|vlan| self.vlans.contains(&Some(vlan)))
    }

    /// Whether frames in this VLAN are accepted.
    pub fn takes_vlan(&self, vlan: u16) -> bool {
        let word = FILTER_WORDS - 1 - usize::from(vlan & 0xfff) / 32;
        self.vlan_filter[word] >> (vlan & 31) & 1 != 0
    }

    /// Whether frames to this group are accepted.
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
    fn tables_and_filters_decide_what_is_accepted() {
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
