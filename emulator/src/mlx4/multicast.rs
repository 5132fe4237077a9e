//! The multicast table: the queue pairs of multicast groups and, on Ethernet, of addresses.
//!
//! The table is in ICM. An entry is found by a hash of the MGID and the chain that begins there
//! (drivers/net/ethernet/mellanox/mlx4/mlx4.h, `struct mlx4_mgm`).

use super::{card::Card, commands::mcg};
use crate::be;

/// Size of an entry's header, before its members.
const HEADER: usize = 32;
/// Size of the largest entry.
const MAX_ENTRY: usize = 4096;
/// The member does not receive what it sends itself (`MGM_BLCK_LB_BIT`).
const BLOCK_LOOPBACK: u32 = 1 << 30;

/// The protocol of an entry (`enum mlx4_protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The entry is for an MGID.
    InfiniBand = 0,
    /// The entry is for an Ethernet address, unicast or multicast.
    Ethernet = 1,
}

/// The members of `mgid`, without those that block loopback if `sender`, a queue pair of this card, is one of them.
pub(crate) fn members(card: &Card, protocol: Protocol, mgid: &[u8; 16], sender: Option<u32>) -> Vec<u32> {
    let tables = &card.tables;
    let entry_bytes = 1_usize.checked_shl(tables.log_mc_entry.into()).unwrap_or(0);
    if !(HEADER..=MAX_ENTRY).contains(&entry_bytes) {
        return Vec::new();
    }
    let mut index = mcg::hash(mgid, tables.log_mc_hash);
    // A chain that is longer than the table is a cycle.
    for _ in 0..1_u32.checked_shl(tables.log_mc_table.into()).unwrap_or(0) {
        let mut entry = vec![0; entry_bytes];
        let place = tables.mc_base.wrapping_add(u64::from(index) << tables.log_mc_entry);
        if card.icm.read(&card.memory, place, &mut entry).is_err() {
            return Vec::new();
        }
        if entry[16..HEADER] == *mgid && entry[4] >> 6 == protocol as u8 {
            let count = be::get24(&entry, 4) as usize;
            let members = entry[HEADER..].chunks_exact(4).take(count).map(|member| be::get32(member, 0));
            let wanted =
                members.filter(|member| member & BLOCK_LOOPBACK == 0 || sender != Some(member & 0xff_ffff));
            return wanted.map(|member| member & 0xff_ffff).collect();
        }
        index = be::get32(&entry, 0) >> 6;
        if index == 0 {
            return Vec::new();
        }
    }
    Vec::new()
}
