//! Route headers, built from a path.

use super::attributes::{EthernetPath, Path, Vlan};
use crate::fabric::{
    ethernet::{self, EthernetPort},
    packet::{Grh, Lrh},
    port::Port,
};

/// The route headers of a packet that takes `path` from `port`.
pub(crate) fn route(port: &Port, path: &Path) -> (Lrh, Option<Grh>) {
    let path_bits = u16::from(path.path_bits) & ((1 << port.lmc.min(7)) - 1);
    let lrh = match &port.ethernet {
        Some(ethernet) => Lrh { ethernet: Some(link_header(ethernet, &path.ethernet)), ..Lrh::default() },
        None => Lrh { sl: path.sl, slid: port.lid | path_bits, dlid: path.dlid, ..Lrh::default() },
    };
    let grh = path.grh.map(|global| Grh {
        tclass: global.tclass,
        flow_label: global.flow_label,
        hop_limit: global.hop_limit,
        sgid: port.gid(global.sgid_index.into()).unwrap_or_default(),
        dgid: global.dgid,
    });
    (lrh, grh)
}

fn link_header(port: &EthernetPort, path: &EthernetPath) -> ethernet::Header {
    let source = port.macs.get(usize::from(path.source_index)).copied().flatten();
    let tag = match path.vlan {
        Vlan::None => None,
        Vlan::Tag(tag) => Some(tag),
        Vlan::Index(index, priority) => {
            let vlan = port.vlans.get(usize::from(index)).copied().flatten();
            vlan.map(|vlan| u16::from(priority) << 13 | vlan)
        }
    };
    ethernet::Header { destination: path.destination, source: source.unwrap_or(port.mac), tag }
}
