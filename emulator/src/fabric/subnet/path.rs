//! Path records (InfiniBand Architecture Specification, volume 1, section 15.2.5.16; `path_rec_table` in the kernel's
//! drivers/infiniband/core/sa_query.c).

use super::{
    mad::{Mad, status},
    ports::{Ports, SubnetPort},
    select::Selected,
};
use crate::be::{get16, put16};

/// Bytes of a record.
pub(super) const RECORD: usize = 64;
/// Offsets of its fields.
const DGID: usize = 8;
const SGID: usize = 24;
const DLID: usize = 40;
const SLID: usize = 42;
/// Raw traffic in the top bit, then the flow label, then the hop limit.
const FLOW: usize = 44;
const TRAFFIC_CLASS: usize = 48;
/// Reversible in the top bit, then the number of paths.
const PATHS: usize = 49;
const PKEY: usize = 50;
/// The QoS class in twelve bits, then the service level.
const QOS_CLASS: usize = 52;
const MTU: usize = 54;
const RATE: usize = 55;
const LIFE_TIME: usize = 56;

/// Bits of the component mask (table 200).
mod component {
    pub(super) const DGID: u32 = 2;
    pub(super) const SGID: u32 = 3;
    pub(super) const DLID: u32 = 4;
    pub(super) const SLID: u32 = 5;
    pub(super) const RAW_TRAFFIC: u32 = 6;
    pub(super) const FLOW_LABEL: u32 = 8;
    pub(super) const HOP_LIMIT: u32 = 9;
    pub(super) const TRAFFIC_CLASS: u32 = 10;
    pub(super) const PKEY: u32 = 13;
    pub(super) const SL: u32 = 15;
    pub(super) const MTU: u32 = 17;
    pub(super) const RATE: u32 = 19;
    pub(super) const LIFE_TIME: u32 = 21;
}

/// The rate of every path: 4 lanes of QDR.
const BEST_RATE: u8 = 7;
/// The packet lifetime, 4.096 µs times 2 to this power: about a second, subnet managers' default.
const SHORTEST_LIFE: u8 = 18;

/// Get: returns a path from one port to another. The source is the requester unless the request names another.
pub(super) fn get(ports: &Ports, mad: &mut Mad, from: u16) -> Result<(), u16> {
    let record = path(ports, mad, from)?;
    mad.put_record(&record);
    Ok(())
}

fn path(ports: &Ports, mad: &Mad, from: u16) -> Result<[u8; RECORD], u16> {
    let source = end(ports, mad, (component::SGID, SGID), (component::SLID, SLID))?;
    let source = source.or_else(|| ports.by_lid(from)).ok_or(status::NO_RECORDS)?;
    let target = end(ports, mad, (component::DGID, DGID), (component::DLID, DLID))?;
    // Without a destination the answer would be a table, which does not fit into one datagram.
    let target = target.ok_or(status::INSUFFICIENT_COMPONENTS)?;

    let data = mad.data();
    let refused = Err(status::NO_RECORDS);
    if mad.has(component::RAW_TRAFFIC) && data[FLOW] & 0x80 != 0 {
        return refused;
    }
    if mad.has(component::SL) && data[QOS_CLASS + 1] & 0xf != 0 {
        return refused;
    }
    let wanted = mad.has(component::PKEY).then(|| get16(data, PKEY));
    let wish = |bit: u32, at: usize| if mad.has(bit) { Selected(data[at]) } else { Selected(3 << 6) };
    let mtu = wish(component::MTU, MTU).mtu(source.mtu.min(target.mtu));
    let rate = wish(component::RATE, RATE).rate(BEST_RATE);
    let life_time = wish(component::LIFE_TIME, LIFE_TIME).life_time(SHORTEST_LIFE);
    let (Some(pkey), Some(mtu), Some(rate), Some(life_time)) =
        (source.common_pkey(target, wanted), mtu, rate, life_time)
    else {
        return refused;
    };

    let mut record = [0; RECORD];
    let gid = |bit: u32, at: usize, port: &SubnetPort| -> [u8; 16] {
        let mut given = [0; 16];
        given.copy_from_slice(&data[at..at + 16]);
        if mad.has(bit) { given } else { port.gid() }
    };
    record[DGID..DGID + 16].copy_from_slice(&gid(component::DGID, DGID, target));
    record[SGID..SGID + 16].copy_from_slice(&gid(component::SGID, SGID, source));
    let lid = |bit: u32, at: usize, port: &SubnetPort| if mad.has(bit) { get16(data, at) } else { port.lid };
    put16(&mut record, DLID, lid(component::DLID, DLID, target));
    put16(&mut record, SLID, lid(component::SLID, SLID, source));
    // Within a subnet no GRH is needed; the requester gives its fields if it wants one.
    if mad.has(component::FLOW_LABEL) {
        record[FLOW] = data[FLOW] & 0xf;
        record[FLOW + 1..FLOW + 3].copy_from_slice(&data[FLOW + 1..FLOW + 3]);
    }
    if mad.has(component::HOP_LIMIT) {
        record[FLOW + 3] = data[FLOW + 3];
    }
    if mad.has(component::TRAFFIC_CLASS) {
        record[TRAFFIC_CLASS] = data[TRAFFIC_CLASS];
    }
    record[PATHS] = 1 << 7 | 1;
    put16(&mut record, PKEY, pkey);
    record[MTU] = Selected::exactly(mtu);
    record[RATE] = Selected::exactly(rate);
    record[LIFE_TIME] = Selected::exactly(life_time);
    Ok(record)
}

/// The port at one end of the path, by GID, LID or both; none if the request contains neither.
fn end<'a>(
    ports: &'a Ports,
    mad: &Mad,
    (gid_bit, gid_at): (u32, usize),
    (lid_bit, lid_at): (u32, usize),
) -> Result<Option<&'a SubnetPort>, u16> {
    let lid = mad.has(lid_bit).then(|| get16(mad.data(), lid_at));
    if mad.has(gid_bit) {
        let mut gid = [0; 16];
        gid.copy_from_slice(&mad.data()[gid_at..gid_at + 16]);
        let port = ports.by_gid(&gid).ok_or(status::INVALID_GID)?;
        let agrees = lid.is_none_or(|lid| port.has_lid(lid));
        return if agrees { Ok(Some(port)) } else { Err(status::NO_RECORDS) };
    }
    lid.map(|lid| ports.by_lid(lid).ok_or(status::NO_RECORDS)).transpose()
}
