//! The ports of the subnet, as far as paths and groups need them.

use crate::fabric::port::{Port, pkeys_match};

/// In a port's capability mask: a subnet manager runs behind it.
const IS_SM: u32 = 1 << 1;

/// An active port.
#[derive(Clone, Debug, Default)]
pub(super) struct SubnetPort {
    pub(super) lid: u16,
    lmc: u8,
    gids: Vec<[u8; 16]>,
    pkeys: Vec<u16>,
    pub(super) mtu: u8,
    manager: bool,
}

/// All active ports, by the numbers of their cards.
#[derive(Default)]
pub(super) struct Ports(Vec<Option<SubnetPort>>);

impl Ports {
    /// Updates the port of card `number`, and returns the GIDs that it no longer has.
    pub(super) fn learn(&mut self, number: usize, port: &Port) -> Option<Vec<[u8; 16]>> {
        if self.0.len() <= number {
            self.0.resize_with(number + 1, || None);
        }
        let gids = (0..port.guids.len()).filter(|index| port.guids[*index] != 0);
        let now = port.is_active().then(|| SubnetPort {
            lid: port.lid,
            lmc: port.lmc.min(7),
            gids: gids.filter_map(|index| port.gid(index)).collect(),
            pkeys: port.pkeys.iter().copied().filter(|pkey| *pkey & 0x7fff != 0).collect(),
            mtu: port.active_mtu,
            manager: port.capabilities & IS_SM != 0,
        });
        let before = std::mem::replace(&mut self.0[number], now);
        let here = |gid: &[u8; 16]| self.0[number].as_ref().is_some_and(|port| port.gids.contains(gid));
        before.map(|port| port.gids.into_iter().filter(|gid| !here(gid)).collect())
    }

    pub(super) fn have_manager(&self) -> bool {
        self.0.iter().flatten().any(|port| port.manager)
    }

    pub(super) fn by_gid(&self, gid: &[u8; 16]) -> Option<&SubnetPort> {
        self.0.iter().flatten().find(|port| port.gids.contains(gid))
    }

    pub(super) fn by_lid(&self, lid: u16) -> Option<&SubnetPort> {
        self.0.iter().flatten().find(|port| port.has_lid(lid))
    }
}

impl SubnetPort {
    pub(super) fn has_lid(&self, lid: u16) -> bool {
        lid != 0 && lid >> self.lmc == self.lid >> self.lmc
    }

    pub(super) fn gid(&self) -> [u8; 16] {
        self.gids.first().copied().unwrap_or_default()
    }

    /// A P_Key by which two ports can communicate, restricted to the partition `wanted` if given.
    pub(super) fn common_pkey(&self, other: &Self, wanted: Option<u16>) -> Option<u16> {
        let meets = |pkey: &u16| other.pkeys.iter().any(|at_other| pkeys_match(*pkey, *at_other));
        let is_wanted = |pkey: &u16| wanted.is_none_or(|wanted| wanted & 0x7fff == *pkey & 0x7fff);
        self.pkeys.iter().copied().find(|pkey| is_wanted(pkey) && meets(pkey))
    }

    pub(super) fn has_pkey(&self, pkey: u16) -> bool {
        self.pkeys.iter().any(|own| own & 0x7fff == pkey & 0x7fff)
    }
}
