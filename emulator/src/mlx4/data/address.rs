//! Headers from paths, and data from and to the elements of requests.

use super::{
    mpt::{self, KeyError, Rights, User},
    qpc::{Path, Station, Vlan},
    wqe::Element,
};
use crate::{
    fabric::{
        ethernet::{self, EthernetPort},
        packet::{Grh, Lrh},
    },
    mlx4::card::Card,
};

/// The route headers of a packet that takes `path`.
pub(crate) fn headers(card: &Card, path: &Path) -> (Lrh, Option<Grh>) {
    let path_bits = u16::from(path.path_bits) & ((1 << card.port.lmc.min(7)) - 1);
    let lrh = match &card.port.ethernet {
        Some(port) => Lrh { ethernet: Some(ethernet_header(port, &path.ethernet)), ..Lrh::default() },
        None => Lrh { sl: path.sl, slid: card.port.lid | path_bits, dlid: path.dlid, ..Lrh::default() },
    };
    let grh = path.grh.map(|global| Grh {
        tclass: global.tclass,
        flow_label: global.flow_label,
        hop_limit: global.hop_limit,
        sgid: card.port.gid(global.sgid_index.into()).unwrap_or_default(),
        dgid: global.dgid,
    });
    (lrh, grh)
}

/// The header of a packet that goes to a station.
fn ethernet_header(port: &EthernetPort, station: &Station) -> ethernet::Header {
    let source = port.macs.get(usize::from(station.source_index)).copied().flatten();
    let tag = match station.vlan {
        Vlan::None => None,
        Vlan::Tag(tag) => Some(tag),
        Vlan::Index(index, priority) => {
            let vlan = port.vlans.get(usize::from(index)).copied().flatten();
            vlan.map(|vlan| u16::from(priority) << 13 | vlan)
        }
    };
    ethernet::Header { destination: station.destination, source: source.unwrap_or(port.mac), tag }
}

/// Reads `length` bytes from `offset` on of what the elements name.
pub(crate) fn gather(
    card: &Card,
    user: User,
    elements: &[Element],
    offset: u64,
    length: u64,
) -> Result<Vec<u8>, KeyError> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    each(elements, offset, length, |element, within, range| {
        let part = &mut bytes[range];
        match element {
            Element::Inline(inline) => {
                part.copy_from_slice(&inline[within as usize..within as usize + part.len()]);
                Ok(())
            }
            Element::Memory { lkey, address, .. } => {
                let address = address.wrapping_add(within);
                let need = Rights::LOCAL_READ;
                let memory = mpt::local(card, user, *lkey, address, part.len() as u64, need)?;
                memory.read(card, address, part)
            }
        }
    })?;
    Ok(bytes)
}

/// Writes `bytes` from `offset` on of what the elements name.
pub(crate) fn scatter(
    card: &Card,
    user: User,
    elements: &[Element],
    offset: u64,
    bytes: &[u8],
) -> Result<(), KeyError> {
    each(elements, offset, bytes.len() as u64, |element, within, range| {
        let Element::Memory { lkey, address, .. } = element else { return Ok(()) };
        let part = &bytes[range];
        let address = address.wrapping_add(within);
        let memory = mpt::local(card, user, *lkey, address, part.len() as u64, Rights::LOCAL_WRITE)?;
        memory.write(card, address, part)
    })
}

/// Calls `visit` for each element that has a part of the `length` bytes from `offset` on, with where that part begins in
/// the element, and which of the bytes it is.
fn each(
    elements: &[Element],
    offset: u64,
    length: u64,
    mut visit: impl FnMut(&Element, u64, std::ops::Range<usize>) -> Result<(), KeyError>,
) -> Result<(), KeyError> {
    let (mut skip, mut done) = (offset, 0_u64);
    for element in elements {
        if done == length {
            break;
        }
        let whole = element.length();
        if skip >= whole {
            skip -= whole;
            continue;
        }
        let part = (whole - skip).min(length - done);
        visit(element, skip, done as usize..(done + part) as usize)?;
        done += part;
        skip = 0;
    }
    Ok(())
}
