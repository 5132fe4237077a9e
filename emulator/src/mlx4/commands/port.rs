//! The port: QUERY_PORT, INIT_PORT, CLOSE_PORT, SET_PORT.

use super::{Answer, Call, ethernet};
use crate::{
    be::{get32, put16},
    fabric::ethernet::port::MAX_MTU,
    mlx4::{event::Event, hca::Hca, identity::Model, status::Status},
};

/// There is one port.
fn check(call: &Call<'_>) -> Result<(), Status> {
    if call.modifier() & 0xff == 1 { Ok(()) } else { Err(Status::BadIndex) }
}

/// mlx4/fw.c, `QUERY_PORT_*_OFFSET`.
pub(super) fn query_port(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    check(call)?;
    let link = u8::from(hca.card.port.is_active()) << 7;
    // SUPPORTED_TYPE: InfiniBand or Ethernet.
    out[0x00] = link | if hca.card.port.ethernet.is_some() { 2 } else { 1 };
    out[0x01] = hca.card.port.max_mtu;
    // ETH_MTU, and the speed of an Ethernet link, 40 Gb/s (`struct mlx4_en_query_port_context`).
    put16(out, 0x02, MAX_MTU);
    if hca.card.port.ethernet.is_some() {
        out[0x05] = 0x40;
    }
    // WIDTH: 1 and 4 lanes.
    out[0x06] = 3;
    // MAX_GID_PKEY: 128 of each.
    out[0x07] = 0x77;
    // MAX_MACVLAN: as many as the driver would ask for on Ethernet.
    out[0x0a] = 0x77;
    // MAX_VL.
    out[0x0b] = 8;
    out[0x12..0x18].copy_from_slice(&hca.firmware.identity.mac());
    Ok(0)
}

pub(super) fn init_port(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    check(call)?;
    set_enabled(hca, true);
    Ok(0)
}

pub(super) fn close_port(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    check(call)?;
    set_enabled(hca, false);
    Ok(0)
}

fn set_enabled(hca: &mut Hca, enabled: bool) {
    let before = hca.card.port.is_active();
    hca.card.port.enabled = enabled;
    let active = hca.card.port.is_active();
    if before != active {
        hca.card.events.push(Event::Port { active });
    }
}

/// Flags, MTU and VLs, capability mask (mlx4/port.c, `mlx4_SET_PORT`; infiniband/hw/mlx4/main.c, `mlx4_ib_SET_PORT`).
pub(super) fn set_port(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    const RESET_QKEY_VIOLATIONS: u32 = 1;
    const CHANGE_MTU: u32 = 1 << 22;
    const CHANGE_VL: u32 = 1 << 21;
    check(call)?;
    if call.op_modifier() == 1 && hca.card.port.ethernet.is_some() {
        return ethernet::set_port(hca, call);
    }
    if call.op_modifier() != 0 || call.modifier() >> 8 != 0 {
        // Ethernet's variants.
        return Err(Status::BadOp);
    }
    let flags = get32(call.input, 0);
    if flags & CHANGE_VL != 0 && !matches!(flags >> 4 & 0xf, 1 | 2 | 4 | 8) {
        return Err(Status::BadParam);
    }
    if flags & CHANGE_MTU != 0 {
        match (flags >> 12 & 0xf) as u8 {
            mtu @ 1..=5 => {
                hca.card.port.max_mtu = mtu;
                hca.card.port.active_mtu = mtu;
            }
            _ => return Err(Status::BadParam),
        }
    }
    if flags & RESET_QKEY_VIOLATIONS != 0 {
        hca.card.port.qkey_violations = 0;
    }
    hca.card.port.capabilities = get32(call.input, 4);
    Ok(0)
}

/// The capability mask of PortInfo until a driver sets another one.
pub(crate) fn default_capabilities(model: Model) -> u32 {
    match model {
        Model::ConnectX2 => 0x0251_0868,
        // Extended speeds besides.
        Model::ConnectX3 => 0x0251_4868,
    }
}
