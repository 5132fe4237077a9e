//! Multicast groups (InfiniBand Architecture Specification, volume 1, section 15.2.5.17; `mcmember_rec_table` in the
//! kernel's drivers/infiniband/core/sa_query.c).

use std::collections::BTreeMap;

use super::{
    mad::{Mad, status},
    ports::Ports,
    select::Selected,
};
use crate::{
    be::{get16, get32, put16, put32},
    fabric::{packet::MULTICAST_LID, port::DEFAULT_PKEY},
};

/// Bytes of a record.
pub(super) const RECORD: usize = 52;
/// Offsets of its fields.
const PORT_GID: usize = 16;
const QKEY: usize = 32;
const MLID: usize = 36;
const MTU: usize = 38;
const TRAFFIC_CLASS: usize = 39;
const PKEY: usize = 40;
const RATE: usize = 42;
const LIFE_TIME: usize = 43;
/// The service level in four bits, the flow label in twenty, the hop limit in eight.
const FLOW: usize = 44;
/// The scope in the upper half, the join state in the lower.
const STATE: usize = 48;

/// Bits of the component mask (table 201).
mod component {
    pub(super) const MGID: u32 = 0;
    pub(super) const PORT_GID: u32 = 1;
    pub(super) const QKEY: u32 = 2;
    pub(super) const MLID: u32 = 3;
    pub(super) const MTU: u32 = 5;
    pub(super) const TRAFFIC_CLASS: u32 = 6;
    pub(super) const PKEY: u32 = 7;
    pub(super) const RATE: u32 = 9;
    pub(super) const LIFE_TIME: u32 = 11;
    pub(super) const SL: u32 = 12;
    pub(super) const FLOW_LABEL: u32 = 13;
    pub(super) const HOP_LIMIT: u32 = 14;
    pub(super) const SCOPE: u32 = 15;
    pub(super) const JOIN_STATE: u32 = 16;
}

/// Bits of a join state: a full member, and a send-only full member. Either keeps a group alive.
const FULL_MEMBERS: u8 = 1 | 1 << 3;

/// The broadcast group of IP over InfiniBand in the default partition (RFC 4391, section 4).
const BROADCAST: [u8; 16] = [0xff, 0x12, 0x40, 0x1b, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
const BROADCAST_QKEY: u32 = 0x0b1b;
/// Subnet managers' defaults for it: 2048 bytes, 10 Gbit/s.
const MTU_CODE: u8 = 4;
const RATE_CODE: u8 = 3;
const LIFE_CODE: u8 = 18;

/// LIDs of groups: as many as a switch has entries for.
const MLIDS: std::ops::Range<u16> = MULTICAST_LID..MULTICAST_LID + 1024;

/// A group. Its MGID is the key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    mlid: u16,
    qkey: u32,
    pkey: u16,
    mtu: u8,
    rate: u8,
    life_time: u8,
    traffic_class: u8,
    /// As in the record.
    flow: u32,
    /// It exists even without members.
    permanent: bool,
    /// Join states by port GID.
    members: BTreeMap<[u8; 16], u8>,
}

/// All groups, by MGID.
pub(super) struct Groups(BTreeMap<[u8; 16], Group>);

impl Default for Groups {
    fn default() -> Self {
        let broadcast = Group {
            mlid: MULTICAST_LID,
            qkey: BROADCAST_QKEY,
            pkey: DEFAULT_PKEY,
            mtu: MTU_CODE,
            rate: RATE_CODE,
            life_time: LIFE_CODE,
            traffic_class: 0,
            flow: 0,
            permanent: true,
            members: BTreeMap::new(),
        };
        Self(BTreeMap::from([(BROADCAST, broadcast)]))
    }
}

impl Groups {
    /// Get: returns the group with an MGID or MLID.
    pub(super) fn get(&self, mad: &mut Mad) -> Result<(), u16> {
        let mgid = gid(mad, 0);
        let found = if mad.has(component::MGID) {
            self.0.get_key_value(&mgid)
        } else if mad.has(component::MLID) {
            let mlid = get16(mad.data(), MLID);
            self.0.iter().find(|(_, group)| group.mlid == mlid)
        } else {
            return Err(status::INSUFFICIENT_COMPONENTS);
        };
        let (mgid, group) = found.ok_or(status::NO_RECORDS)?;
        group.agrees(mad)?;
        let port = gid(mad, PORT_GID);
        let state = group.members.get(&port).copied();
        if mad.has(component::PORT_GID) && state.is_none() {
            return Err(status::NO_RECORDS);
        }
        // Only a member learns of its membership (section 15.2.5.17.1).
        let record = group.record(mgid, if state.is_some() { &port } else { &[0; 16] }, state.unwrap_or(0));
        mad.put_record(&record);
        Ok(())
    }

    /// Set: joins a group, which is created if it does not exist and the request describes it.
    pub(super) fn join(&mut self, ports: &Ports, mad: &mut Mad, from: u16) -> Result<(), u16> {
        let joined = self.try_join(ports, mad, from);
        // A group that was created for a port that may not join has no members.
        self.tidy();
        mad.put_record(&joined?);
        Ok(())
    }

    fn try_join(&mut self, ports: &Ports, mad: &Mad, from: u16) -> Result<[u8; RECORD], u16> {
        let port = member(ports, mad, from)?;
        let state = mad.data()[STATE] & 0xf;
        let mgid = gid(mad, 0);
        if state == 0 || mgid[0] != 0xff {
            return Err(status::REQUEST_INVALID);
        }
        if !self.0.contains_key(&mgid) {
            let group = self.create(mad, state)?;
            self.0.insert(mgid, group);
        }
        let group = self.0.get_mut(&mgid).ok_or(status::NO_RECORDS)?;
        group.agrees(mad)?;
        if !ports.by_gid(&port).is_some_and(|port| port.has_pkey(group.pkey)) {
            return Err(status::REQUEST_INVALID);
        }
        let joined = group.members.entry(port).or_default();
        *joined |= state;
        let state = *joined;
        Ok(group.record(&mgid, &port, state))
    }

    /// Delete: removes join states, and the membership with the last of them.
    pub(super) fn leave(&mut self, ports: &Ports, mad: &mut Mad, from: u16) -> Result<(), u16> {
        let port = member(ports, mad, from)?;
        let (mgid, given_up) = (gid(mad, 0), mad.data()[STATE] & 0xf);
        let group = self.0.get_mut(&mgid).ok_or(status::REQUEST_INVALID)?;
        let state = group.members.get_mut(&port).filter(|state| **state & given_up != 0);
        let state = state.ok_or(status::REQUEST_INVALID)?;
        *state &= !given_up;
        let left = *state;
        let record = group.record(&mgid, &port, left);
        self.tidy();
        mad.put_record(&record);
        Ok(())
    }

    /// Removes ports from all groups.
    pub(super) fn leave_all(&mut self, ports: &[[u8; 16]]) {
        for group in self.0.values_mut() {
            group.members.retain(|port, _| !ports.contains(port));
        }
        self.tidy();
    }

    /// Removes members without a join state, and groups without a full member.
    fn tidy(&mut self) {
        self.0.retain(|_, group| {
            group.members.retain(|_, state| *state != 0);
            group.permanent || group.members.values().any(|state| state & FULL_MEMBERS != 0)
        });
    }

    /// Creates a group from a request.
    fn create(&self, mad: &Mad, state: u8) -> Result<Group, u16> {
        use component::*;
        if state & FULL_MEMBERS == 0 {
            return Err(status::REQUEST_INVALID);
        }
        if ![QKEY, PKEY, SL, FLOW_LABEL, TRAFFIC_CLASS].into_iter().all(|bit| mad.has(bit)) {
            return Err(status::INSUFFICIENT_COMPONENTS);
        }
        let data = mad.data();
        let wish = |bit: u32, at: usize| if mad.has(bit) { Selected(data[at]) } else { Selected(3 << 6) };
        let sizes = (
            wish(MTU, self::MTU).mtu(MTU_CODE),
            wish(RATE, self::RATE).rate(RATE_CODE),
            wish(LIFE_TIME, self::LIFE_TIME).life_time(LIFE_CODE),
        );
        let (Some(mtu), Some(rate), Some(life_time)) = sizes else { return Err(status::REQUEST_INVALID) };
        let taken = |mlid: &u16| self.0.values().any(|group| group.mlid == *mlid);
        Ok(Group {
            mlid: MLIDS.into_iter().find(|mlid| !taken(mlid)).ok_or(status::NO_RESOURCES)?,
            qkey: get32(data, self::QKEY),
            pkey: get16(data, self::PKEY),
            mtu,
            rate,
            life_time,
            traffic_class: data[self::TRAFFIC_CLASS],
            flow: get32(data, FLOW),
            permanent: false,
            members: BTreeMap::new(),
        })
    }
}

impl Group {
    /// Checks whether the components of a request match the group.
    fn agrees(&self, mad: &Mad) -> Result<(), u16> {
        use component::*;
        let data = mad.data();
        let flow = get32(data, FLOW) ^ self.flow;
        let is = |bit: u32, equal: bool| !mad.has(bit) || equal;
        let good = is(QKEY, get32(data, self::QKEY) == self.qkey)
            && is(MLID, get16(data, self::MLID) == self.mlid)
            && is(PKEY, get16(data, self::PKEY) & 0x7fff == self.pkey & 0x7fff)
            && is(TRAFFIC_CLASS, data[self::TRAFFIC_CLASS] == self.traffic_class)
            && is(SL, flow >> 28 == 0)
            && is(FLOW_LABEL, flow >> 8 & 0xf_ffff == 0)
            && is(HOP_LIMIT, flow & 0xff == 0)
            && is(MTU, Selected(data[self::MTU]).mtu(self.mtu) == Some(self.mtu))
            && is(RATE, Selected(data[self::RATE]).rate(self.rate) == Some(self.rate))
            && is(
                LIFE_TIME,
                Selected(data[self::LIFE_TIME]).life_time(self.life_time) == Some(self.life_time),
            );
        let scope = is(SCOPE, data[STATE] >> 4 == gid(mad, 0)[1] & 0xf);
        if good && scope { Ok(()) } else { Err(status::REQUEST_INVALID) }
    }

    fn record(&self, mgid: &[u8; 16], port: &[u8; 16], state: u8) -> [u8; RECORD] {
        let mut record = [0; RECORD];
        record[..16].copy_from_slice(mgid);
        record[PORT_GID..PORT_GID + 16].copy_from_slice(port);
        put32(&mut record, QKEY, self.qkey);
        put16(&mut record, MLID, self.mlid);
        record[MTU] = Selected::exactly(self.mtu);
        record[TRAFFIC_CLASS] = self.traffic_class;
        put16(&mut record, PKEY, self.pkey);
        record[RATE] = Selected::exactly(self.rate);
        record[LIFE_TIME] = Selected::exactly(self.life_time);
        put32(&mut record, FLOW, self.flow);
        record[STATE] = mgid[1] << 4 | state;
        record
    }
}

/// The port that joins or leaves. It must be the requester.
fn member(ports: &Ports, mad: &Mad, from: u16) -> Result<[u8; 16], u16> {
    if !mad.has(component::PORT_GID) || !mad.has(component::JOIN_STATE) || !mad.has(component::MGID) {
        return Err(status::INSUFFICIENT_COMPONENTS);
    }
    let port = gid(mad, PORT_GID);
    let known = ports.by_gid(&port).ok_or(status::INVALID_GID)?;
    if known.has_lid(from) { Ok(port) } else { Err(status::REQUEST_INVALID) }
}

fn gid(mad: &Mad, at: usize) -> [u8; 16] {
    let mut gid = [0; 16];
    gid.copy_from_slice(&mad.data()[at..at + 16]);
    gid
}
