//! Ethernet ports: the variants of SET_PORT, filters, statistics (mlx4/port.c, mlx4/en_port.c).

use super::{Answer, Call};
use crate::{
    be::{get16, get32, get64, put32, put64},
    fabric::ethernet::{EthernetPort, Mac, mac},
    mlx4::{hca::Hca, status::Status},
};

/// Size of the VLAN filter.
pub(super) const VLAN_FILTER: usize = 512;
/// Size of the statistics (`struct mlx4_en_stat_out_mbox`).
pub(super) const STATISTICS: usize = 0xbb0;

/// What SET_PORT sets (`MLX4_SET_PORT_*`), in the second byte of the modifier.
mod selector {
    pub(super) const GENERAL: u32 = 0x0;
    pub(super) const MAC_TABLE: u32 = 0x2;
    pub(super) const VLAN_TABLE: u32 = 0x3;
    pub(super) const GID_TABLE: u32 = 0x5;
}

fn port(hca: &mut Hca) -> Result<&mut EthernetPort, Status> {
    hca.card.port.ethernet.as_deref_mut().ok_or(Status::BadOp)
}

pub(super) fn set_port(hca: &mut Hca, call: &Call<'_>) -> Answer {
    let input = call.input;
    match call.modifier() >> 8 {
        selector::GENERAL => return general(hca, input),
        selector::MAC_TABLE => {
            let port = port(hca)?;
            for (at, entry) in port.macs.iter_mut().enumerate() {
                let valid = get64(input, at * 8) >> 63 != 0;
                *entry = valid.then(|| mac(input, at * 8 + 2));
            }
            port.changes = port.changes.wrapping_add(1);
        }
        selector::VLAN_TABLE => {
            for (at, entry) in port(hca)?.vlans.iter_mut().enumerate() {
                let word = get32(input, at * 4);
                *entry = (word >> 31 != 0).then_some((word & 0xfff) as u16);
            }
        }
        selector::GID_TABLE => {
            let port = port(hca)?;
            for (entry, gid) in port.gids.iter_mut().zip(input.chunks_exact(16)) {
                entry.copy_from_slice(gid);
            }
            port.changes = port.changes.wrapping_add(1);
        }
        // Calculated queue pairs belong to another kind of steering; the card has no priorities and tunnels.
        _ => return Err(Status::BadOp),
    }
    Ok(0)
}

/// The longest frame, and flow control, which has no effect here. Each has a bit that marks it as valid
/// (`struct mlx4_set_port_general_context`).
fn general(hca: &mut Hca, input: &[u8]) -> Answer {
    const MTU: u8 = 1 << 0;
    const PAUSE: u8 = 1 << 1 | 1 << 2;
    const USER_MTU: u8 = 1 << 5;
    let (flags2, flags) = (input[2], input[3]);
    if flags & !(MTU | PAUSE) != 0 || flags2 & !USER_MTU != 0 {
        // The card has no RoCE version 2 and cannot keep frames with a wrong FCS.
        return Err(Status::BadParam);
    }
    if flags & MTU != 0 {
        port(hca)?.max_frame = get16(input, 6);
    }
    Ok(0)
}

/// The argument is an address, with a bit that empties the filter first. Variants turn the filter off and on
/// (`mlx4_SET_MCAST_FLTR`).
pub(super) fn set_multicast_filter(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    let (address, op_modifier) = (call.command.in_param, call.op_modifier());
    let port = port(hca)?;
    match op_modifier {
        0 => {
            if address >> 63 != 0 {
                port.groups.clear();
            }
            // A broken driver must not fill memory.
            if port.groups.len() >= 4096 {
                return Err(Status::ExceedLim);
            }
            let group: Mac = mac(&address.to_be_bytes(), 2);
            port.groups.insert(group);
        }
        1 => port.filter_groups = false,
        2 => port.filter_groups = true,
        _ => return Err(Status::BadOp),
    }
    Ok(0)
}

pub(super) fn set_vlan_filter(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    for (at, word) in port(hca)?.vlan_filter.iter_mut().enumerate() {
        *word = get32(call.input, at * 4);
    }
    Ok(0)
}

/// Counters, all under "no priority". The third byte of the modifier resets them.
pub(super) fn dump_statistics(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    let total = hca.card.port.counters;
    let frames = port(hca)?.counters;
    for (offset, value) in [
        (0x310, frames.received_broadcast), // RBCAST_novlan
        (0x358, frames.received_multicast), // MCAST_novlan
        (0x478, total.received_bytes),      // ROCT_novlan
        (0x540, total.received_packets),    // RTOT_novlan
        (0x8f8, frames.sent_broadcast),     // TBCAST_novlan
        (0x948, frames.sent_multicast),     // TMCAST_novlan
        (0xa78, total.sent_bytes),          // TOCT_novlan
        (0xb58, total.sent_packets),        // TTOT_novlan
    ] {
        put64(out, offset, value);
    }
    for (offset, value) in [
        (0xb98, frames.dropped),      // RDROP
        (0xba0, frames.too_long),     // RdropLength
        (0xba8, total.send_discards), // TDROP
    ] {
        put32(out, offset, value as u32);
    }
    if call.modifier() >> 8 & 0xff != 0 {
        hca.card.port.counters = crate::fabric::port::PortCounters::default();
        port(hca)?.counters = crate::fabric::ethernet::port::FrameCounters::default();
    }
    Ok(0)
}

/// A variant of WRITE_MCG: the queue pairs that receive frames without an entry. The modifier has the port, and the
/// kind of frames
/// (`mlx4_WRITE_PROMISC`).
pub(super) fn write_promiscuous(hca: &mut Hca, call: &Call<'_>) -> Answer {
    let modifier = call.modifier();
    if modifier >> 16 != 1 || modifier & 0xfffd != 0 {
        return Err(Status::BadIndex);
    }
    let members = usize::try_from(get32(call.input, 4) & 0xff_ffff).unwrap_or(usize::MAX);
    let members = call.input[32..].chunks_exact(4).take(members);
    let members = members.map(|member| get32(member, 0) & 0xff_ffff).collect();
    port(hca)?.promiscuous[(modifier >> 1 & 1) as usize] = members;
    Ok(0)
}
