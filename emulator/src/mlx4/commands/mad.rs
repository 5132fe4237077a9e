//! Management datagrams to this card itself: MAD_IFC.
//!
//! The firmware is the subnet management agent and the performance agent of the port. Attributes' layouts are those of
//! the InfiniBand Architecture Specification, chapters 14.2.5 (subnet management) and 16.1 (performance); the kernel
//! reads them in drivers/infiniband/hw/mlx4/main.c.

use super::{Answer, Call, port::default_capabilities};
use crate::{
    be::{get16, get32, get64, put16, put32, put64},
    fabric::port::{GIDS, PKEYS, PortState},
    mlx4::{hca::Hca, identity::Model, status::Status},
};

/// Bytes of a datagram.
const MAD: usize = 256;
/// Offset and size of the attribute in a subnet management datagram.
const DATA: usize = 64;
const DATA_END: usize = 128;

/// Methods.
const GET: u8 = 0x01;
const SET: u8 = 0x02;
const RESPONSE: u8 = 0x81;

/// Classes.
const LID_ROUTED: u8 = 0x01;
const DIRECTED: u8 = 0x81;
const PERFORMANCE: u8 = 0x04;

/// The status of a response (section 13.4.7).
mod status {
    pub(super) const BAD_VERSION: u16 = 0x0004;
    pub(super) const BAD_METHOD: u16 = 0x0008;
    pub(super) const BAD_ATTRIBUTE: u16 = 0x000c;
    pub(super) const BAD_VALUE: u16 = 0x001c;
    /// The direction bit: the datagram is a response.
    pub(super) const RETURNING: u16 = 0x8000;
}

/// Processes the datagram in the mailbox. The modifier is the port. The opcode modifier says which keys to ignore;
/// there are none.
pub(super) fn mad_ifc(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    if call.modifier() & 0xff > 1 {
        return Err(Status::BadIndex);
    }
    let mut mad: [u8; MAD] = call.array();
    if !answer(hca, &mut mad) {
        return Err(Status::BadPkt);
    }
    out.copy_from_slice(&mad);
    Ok(0)
}

/// Turns a request into its response, and returns whether there is one.
pub fn answer(hca: &mut Hca, mad: &mut [u8; MAD]) -> bool {
    let (version, class, class_version, method) = (mad[0], mad[1], mad[2], mad[3]);
    if !matches!(method, GET | SET) {
        return false;
    }
    let result = if version != 1 || class_version != 1 {
        Err(status::BAD_VERSION)
    } else {
        match class {
            LID_ROUTED | DIRECTED => subnet(hca, mad, method),
            PERFORMANCE => performance(hca, mad, method),
            _ => return false,
        }
    };
    let direction = if class == DIRECTED { status::RETURNING } else { 0 };
    mad[3] = RESPONSE;
    put16(mad, 4, result.err().unwrap_or(0) | direction);
    if hca.card.trace.on() {
        hca.card.trace.line(format_args!(
            "MAD class {class:#x} method {method:#x} attribute {:#06x} modifier {:#x}: status {:#06x}",
            get16(mad, 16),
            get32(mad, 20),
            get16(mad, 4)
        ));
    }
    true
}

fn subnet(hca: &mut Hca, mad: &mut [u8; MAD], method: u8) -> Result<(), u16> {
    let (attribute, modifier) = (get16(mad, 16), get32(mad, 20));
    let mut given = [0; DATA_END - DATA];
    given.copy_from_slice(&mad[DATA..DATA_END]);
    if method == SET {
        match attribute {
            0x0015 => set_port_info(hca, &given)?,
            0x0016 => set_pkeys(hca, modifier, &given)?,
            0x0014 => set_guids(hca, modifier, &given)?,
            _ => return Err(status::BAD_METHOD),
        }
    }
    let data = &mut mad[DATA..DATA_END];
    data.fill(0);
    match attribute {
        0x0010 => node_description(hca, data),
        0x0011 => node_info(hca, data),
        0x0014 => {
            let block = block(modifier, 8, GIDS)?;
            for (at, guid) in hca.card.port.guids[block..block + 8].iter().enumerate() {
                put64(data, at * 8, *guid);
            }
        }
        0x0015 if modifier <= 1 => port_info(hca, data),
        0x0016 => {
            let block = block(modifier, 32, PKEYS)?;
            for (at, pkey) in hca.card.port.pkeys[block..block + 32].iter().enumerate() {
                put16(data, at * 2, *pkey);
            }
        }
        // SLtoVLMappingTable: levels 0 to 7 and 8 to 15 on lanes 0 to 7.
        0x0017 => data[..8].copy_from_slice(&[0x01, 0x23, 0x45, 0x67, 0x01, 0x23, 0x45, 0x67]),
        // VLArbitrationTable: all lanes have the same weight.
        0x0018 => {
            for (lane, entry) in data.chunks_mut(2).take(8).enumerate() {
                entry.copy_from_slice(&[lane as u8, 1]);
            }
        }
        // SMInfo: the port's GUID; state 0, there is no subnet manager here.
        0x0020 => put64(data, 0, hca.firmware.identity.port_guid()),
        // The vendor's ExtendedPortInfo: whether FDR-10 is on. It is not.
        0xff90 => {}
        _ => return Err(status::BAD_ATTRIBUTE),
    }
    Ok(())
}

/// The first entry of a table's block, whose number is in the low half of an attribute modifier.
fn block(modifier: u32, size: usize, entries: usize) -> Result<usize, u16> {
    let first = (modifier & 0xffff) as usize * size;
    if first + size <= entries { Ok(first) } else { Err(status::BAD_VALUE) }
}

fn node_description(hca: &Hca, data: &mut [u8]) {
    let set = &hca.firmware.node_description;
    if set[0] != 0 {
        data.copy_from_slice(set);
        return;
    }
    let name: &[u8] = match hca.firmware.identity.model {
        Model::ConnectX2 => b"MT26428 ConnectX-2, emulated",
        Model::ConnectX3 => b"MT27500 ConnectX-3, emulated",
    };
    data[..name.len()].copy_from_slice(name);
}

fn node_info(hca: &Hca, data: &mut [u8]) {
    let identity = &hca.firmware.identity;
    // Versions, a channel adapter, one port.
    data[..4].copy_from_slice(&[1, 1, 1, 1]);
    put64(data, 4, identity.system_guid());
    put64(data, 12, identity.node_guid);
    put64(data, 20, identity.port_guid());
    put16(data, 28, PKEYS as u16);
    put16(data, 30, identity.device());
    put32(data, 32, identity.revision().into());
    // Port 1, the vendor's OUI.
    put32(data, 36, 1 << 24 | 0x0002c9);
}

fn port_info(hca: &Hca, data: &mut [u8]) {
    let port = &hca.card.port;
    let newer = hca.firmware.identity.model == Model::ConnectX3;
    let up = port.cable && port.enabled;
    put64(data, 8, port.prefix);
    put16(data, 16, port.lid);
    put16(data, 18, port.sm_lid);
    put32(data, 20, port.capabilities);
    data[28] = 1;
    // Widths of 1 and 4 lanes; 4 are in use.
    data[29] = 3;
    data[30] = 3;
    data[31] = 2;
    // Speeds SDR, DDR, QDR.
    data[32] = 7 << 4 | port.state() as u8;
    // LinkUp (5), or Polling (2); to be Polling when down.
    data[33] = (if up { 5 } else { 2 }) << 4 | 2;
    data[34] = port.lmc;
    data[35] = 4 << 4 | 7;
    data[36] = port.active_mtu << 4;
    // Eight lanes.
    data[37] = 4 << 4;
    data[38] = 1;
    data[39] = 8;
    data[40] = 8;
    data[41] = port.max_mtu;
    data[42] = 0x10;
    data[43] = 4 << 4;
    put16(data, 46, port.pkey_violations);
    put16(data, 48, port.qkey_violations);
    data[50] = GIDS as u8;
    data[51] = 18;
    data[52] = 16;
    data[53] = 8 << 4 | 8;
    if newer && port.capabilities & 1 << 14 != 0 {
        // FDR, in use and supported.
        data[62] = 1 << 4 | 1;
        data[63] = 1;
    }
}

/// What a subnet manager in a guest may change.
fn set_port_info(hca: &mut Hca, given: &[u8]) -> Result<(), u16> {
    let (lid, sm_lid) = (get16(given, 16), get16(given, 18));
    let mtu = given[36] >> 4;
    if lid == 0 || lid >= 0xc000 || sm_lid >= 0xc000 || given[34] & 7 != 0 {
        return Err(status::BAD_VALUE);
    }
    if mtu != 0 && mtu > hca.card.port.max_mtu {
        return Err(status::BAD_VALUE);
    }
    // A port that is set to DOWN trains again at once. It is already active, so other states change nothing.
    if given[32] & 0xf > PortState::Active as u8 {
        return Err(status::BAD_VALUE);
    }
    let port = &mut hca.card.port;
    port.prefix = get64(given, 8);
    port.lid = lid;
    port.sm_lid = sm_lid;
    if mtu != 0 {
        port.active_mtu = mtu;
    }
    Ok(())
}

fn set_pkeys(hca: &mut Hca, modifier: u32, given: &[u8]) -> Result<(), u16> {
    let block = block(modifier, 32, PKEYS)?;
    for (at, pkey) in hca.card.port.pkeys[block..block + 32].iter_mut().enumerate() {
        *pkey = get16(given, at * 2);
    }
    Ok(())
}

/// The first GUID is the port's own and cannot be changed.
fn set_guids(hca: &mut Hca, modifier: u32, given: &[u8]) -> Result<(), u16> {
    let block = block(modifier, 8, GIDS)?;
    for (at, guid) in hca.card.port.guids[block..block + 8].iter_mut().enumerate() {
        if block + at != 0 {
            *guid = get64(given, at * 8);
        }
    }
    Ok(())
}

fn performance(hca: &mut Hca, mad: &mut [u8; MAD], method: u8) -> Result<(), u16> {
    let attribute = get16(mad, 16);
    let data = &mut mad[DATA..];
    let select = get16(data, 2);
    let port = &mut hca.card.port;
    match (attribute, method) {
        (0x0001, GET) => {
            data.fill(0);
            data[..2].copy_from_slice(&[1, 1]);
            // There are extended counters.
            put16(data, 2, 0x0200);
            // The response time, as a code.
            put32(data, 4, 18);
        }
        // PortCounters: each counter saturates at its own width.
        (0x0012, _) => {
            if method == SET {
                clear(port, select, get16(data, 2) & 1 << 12 != 0);
            }
            let counters = port.counters;
            data.fill(0);
            data[1] = 1;
            put16(data, 2, select);
            put16(data, 8, saturated(counters.receive_errors, 16) as u16);
            put16(data, 14, saturated(counters.send_discards, 16) as u16);
            for (at, value) in [
                (24, counters.sent_bytes / 4),
                (28, counters.received_bytes / 4),
                (32, counters.sent_packets),
                (36, counters.received_packets),
            ] {
                put32(data, at, saturated(value, 32) as u32);
            }
        }
        // PortCountersExtended.
        (0x001d, _) => {
            if method == SET {
                clear(port, 0xf000, true);
            }
            let counters = port.counters;
            data.fill(0);
            data[1] = 1;
            put16(data, 2, select);
            for (at, value) in [
                (8, counters.sent_bytes / 4),
                (16, counters.received_bytes / 4),
                (24, counters.sent_packets),
                (32, counters.received_packets),
                (40, counters.sent_packets),
                (48, counters.received_packets),
            ] {
                put64(data, at, value);
            }
        }
        _ => return Err(status::BAD_ATTRIBUTE),
    }
    Ok(())
}

/// Resets the counters that `select` names.
fn clear(port: &mut crate::fabric::port::Port, select: u16, traffic: bool) {
    if select & 1 << 3 != 0 {
        port.counters.receive_errors = 0;
    }
    if select & 1 << 6 != 0 {
        port.counters.send_discards = 0;
    }
    if traffic {
        let counters = &mut port.counters;
        (counters.sent_bytes, counters.received_bytes) = (0, 0);
        (counters.sent_packets, counters.received_packets) = (0, 0);
    }
}

/// Saturates a counter at its width.
fn saturated(value: u64, bits: u32) -> u64 {
    value.min((1 << bits) - 1)
}

/// Sets the attributes of a port after a reset.
pub(crate) fn reset(hca: &mut Hca) {
    hca.card.port.capabilities = default_capabilities(hca.firmware.identity.model);
}
