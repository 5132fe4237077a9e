//! ConnectX's address handle: an address vector that each datagram carries. The kernel knows nothing of it.

use crate::error::{Error, Result};
use crate::types::{DeviceAh, EthAddr, LinkLayer};
use crate::uapi::verbs::AhAttr;
use crate::uverbs::Uverbs;

/// `IBV_QPF_GRH_REQUIRED` of a port's flags.
const GRH_REQUIRED: u8 = 1;

/// Beside the source path bits: there is a global route.
const GLOBAL: u8 = 0x80;

/// Beside the domain: the VLAN counts.
const IN_VLAN: u32 = 1 << 29;

/// The device's static rates begin here; 0 is no limit.
const FIRST_RATE: u8 = 5;

/// Makes an address handle for queue pairs of the domain `pdn`; gives what requests say of it.
///
/// On Ethernet the device wants to be told whom it is for, which `eth_addr` finds out.
pub(crate) fn create(
    uverbs: &Uverbs,
    pdn: u32,
    attr: &AhAttr,
    eth_addr: impl FnOnce(&AhAttr) -> Result<EthAddr>,
) -> Result<DeviceAh> {
    let port = uverbs.query_port(attr.port_num)?.legacy_resp;
    let ethernet = LinkLayer::from(port.link_layer) == LinkLayer::ETHERNET;
    if (ethernet || port.flags & GRH_REQUIRED != 0) && attr.is_global == 0 {
        let why = format!("port {} sends with a global route only", attr.port_num);
        return Err(Error::invalid("create_ah", uverbs.device(), why));
    }
    if attr.is_global != 0 && u32::from(attr.grh.sgid_index) >= port.gid_tbl_len {
        let why = format!("GID index {} is not in the table of {}", attr.grh.sgid_index, port.gid_tbl_len);
        return Err(Error::invalid("create_ah", uverbs.device(), why));
    }
    let eth_addr = ethernet.then(|| eth_addr(attr)).transpose()?;
    Ok(vector(pdn, attr, eth_addr))
}

/// `struct mlx4_av` of 32 bytes; a VLAN and an address of Ethernet follow.
fn vector(pdn: u32, attr: &AhAttr, eth_addr: Option<EthAddr>) -> DeviceAh {
    let AhAttr { grh, dlid, sl, src_path_bits, static_rate, is_global, port_num, .. } = *attr;
    let mut bytes = [0u8; 40];
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    let mut domain = pdn & 0xff_ffff | u32::from(port_num) << 24;
    // The level is of four bits on InfiniBand, of three on Ethernet, where there are no LIDs.
    let (mut route, mut source, dlid) = match eth_addr {
        None => (u32::from(sl) << 28, src_path_bits & 0x7f, dlid),
        Some(EthAddr { mac, vlan }) => {
            put(34, &mac);
            if let Some(vlan) = vlan {
                domain |= IN_VLAN;
                put(32, &(u16::from(sl & 7) << 13 | vlan & 0xfff).to_be_bytes());
            }
            (u32::from(sl & 7) << 29, 0, 0)
        }
    };
    if is_global != 0 {
        source |= GLOBAL;
        route |= u32::from(grh.traffic_class) << 20 | grh.flow_label & 0xf_ffff;
        put(9, &[grh.sgid_index]);
        put(11, &[grh.hop_limit]);
        put(16, &grh.dgid);
    }
    let rate = if static_rate == 0 { 0 } else { static_rate.saturating_add(FIRST_RATE) };
    put(0, &domain.to_be_bytes());
    put(5, &[source]);
    put(6, &dlid.to_be_bytes());
    put(10, &[rate]);
    put(12, &route.to_be_bytes());
    DeviceAh(zerocopy::transmute!(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uapi::verbs::GlobalRoute;

    /// As `struct mlx4_av` has them.
    #[test]
    fn every_part_of_an_address_has_its_place() {
        let dgid = std::array::from_fn(|n| n as u8 + 0xe0);
        let grh = GlobalRoute {
            dgid,
            flow_label: 0x1_2345,
            sgid_index: 3,
            hop_limit: 64,
            traffic_class: 0xab,
            reserved: 0,
        };
        let local = AhAttr {
            grh,
            dlid: 0x0102,
            sl: 5,
            src_path_bits: 2,
            static_rate: 0,
            is_global: 0,
            port_num: 1,
            reserved: 0,
        };
        let bytes = |attr| -> [u8; 40] { zerocopy::transmute!(vector(0x00a1_b2c3, &attr, None).0) };
        let mut want = [0; 40];
        want[..16].copy_from_slice(&[1, 0xa1, 0xb2, 0xc3, 0, 2, 1, 2, 0, 0, 0, 0, 0x50, 0, 0, 0]);
        assert_eq!(bytes(local), want);
        let global = AhAttr { is_global: 1, static_rate: 2, ..local };
        want[..16]
            .copy_from_slice(&[1, 0xa1, 0xb2, 0xc3, 0, 0x82, 1, 2, 0, 3, 7, 64, 0x5a, 0xb1, 0x23, 0x45]);
        want[16..32].copy_from_slice(&dgid);
        assert_eq!(bytes(global), want);
    }
    /// On Ethernet there are a VLAN and an address behind it, and no LIDs (`mlx4_create_ah` of rdma-core).
    #[test]
    fn ethernet_has_a_station() {
        let attr =
            AhAttr { dlid: 7, sl: 5, src_path_bits: 2, is_global: 1, port_num: 1, ..AhAttr::default() };
        let mac = [2, 3, 4, 5, 6, 7];
        let bytes = |vlan| -> [u8; 40] {
            zerocopy::transmute!(vector(0x00a1_b2c3, &attr, Some(EthAddr { mac, vlan })).0)
        };
        let plain = bytes(None);
        assert_eq!(plain[..16], [1, 0xa1, 0xb2, 0xc3, 0, 0x80, 0, 0, 0, 0, 0, 0, 0xa0, 0, 0, 0]);
        assert_eq!(plain[32..], [0, 0, 2, 3, 4, 5, 6, 7]);
        let tagged = bytes(Some(0x123));
        assert_eq!(tagged[..4], [0x21, 0xa1, 0xb2, 0xc3]);
        assert_eq!(tagged[32..], [0xa1, 0x23, 2, 3, 4, 5, 6, 7]);
    }
}
