//! NOP, MOD_STAT_CFG, HW_HEALTH_CHECK, SET_NODE, DIAG_RPRT.

use super::{Answer, Call, reserved};
use crate::{
    be::put32,
    mlx4::{hca::Hca, status::Status},
};

/// The modifier is the time that the command may take.
pub(super) fn nop(_: &mut Hca, _: &Call<'_>, _: &mut [u8]) -> Answer {
    Ok(0)
}

/// Sets the page size that the driver wants, as a logarithm over 4 KiB, if the bit before it says so (mlx4/fw.c,
/// `MOD_STAT_CFG_PG_SZ_OFFSET`). The card has pages of 4 KiB only.
///
/// Variant 2 gives the GUID of the physical port (`MOD_STAT_CFG_GUID_H` and `_L`); the port is in the second byte of
/// the modifier.
pub(super) fn mod_stat_cfg(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    let command = call.command;
    match call.op_modifier() {
        0 => {
            let given: [u8; 0x100] = hca.card.memory.array(command.in_param).map_err(|_| Status::BadParam)?;
            reserved::check(&mut hca.card, command, "MOD_STAT_CFG", "", &given);
            if given[0x02] & 1 == 0 || given[0x03] == 0 { Ok(0) } else { Err(Status::BadParam) }
        }
        2 if call.modifier() == 1 << 8 => {
            let mut out = [0; 0x20];
            let guid = hca.firmware.identity.port_guid();
            put32(&mut out, 0x14, (guid >> 32) as u32);
            put32(&mut out, 0x1c, guid as u32);
            hca.card.memory.write(command.out_param, &out).map(|()| 0).map_err(|_| Status::BadParam)
        }
        2 => Err(Status::BadIndex),
        // Other variants configure wake-on-LAN.
        _ => Err(Status::BadOp),
    }
}

pub(super) fn health_check(_: &mut Hca, _: &Call<'_>, _: &mut [u8]) -> Answer {
    Ok(0)
}

/// The node's description, 64 bytes.
pub(super) fn set_node(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    hca.firmware.node_description = call.array();
    Ok(0)
}

/// Error counters (drivers/infiniband/hw/mlx4/main.c, `diag_basic`).
pub(super) fn diag_rprt(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    // Variant 2 reads the counters; others would reset them.
    if call.op_modifier() != 2 {
        return Err(Status::BadOp);
    }
    for (offset, value) in hca.card.diagnostics.all() {
        put32(out, offset.into(), value);
    }
    Ok(0)
}
