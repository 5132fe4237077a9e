//! Reports as JSON: every field under its name in `struct ibv_device_attr_ex` and `struct ibv_port_attr`.
//!
//! A number that has a meaning comes with it: `{"value": 4, "name": "PORT_ACTIVE"}`, `{"value": 5, "bytes": 4096}`. Bits come
//! with the names of those that are set.

use bareverbs::{DeviceAttr, GidEntry, GidType, Mtu, OdpCaps, PortAttr};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::flags::{self, Flags};
use super::names;
use super::report::{PortReport, ProviderCaps, Report};
use crate::json::{self, Named};
use crate::outcome::Failure;

/// An array of devices.
pub(super) fn text(reports: &[Report]) -> Result<String, Failure> {
    json::text(&reports)
}

/// Puts fields of a structure under their own names.
macro_rules! entries {
    ($map:expr, $from:expr; $($field:ident)*) => {
        $( $map.serialize_entry(stringify!($field), &$from.$field)?; )*
    };
}

/// A word of capability bits.
#[derive(Serialize)]
struct Bits {
    value: u64,
    names: Vec<&'static str>,
    unknown: u64,
}

fn bits(flags: &Flags, value: impl Into<u64>) -> Bits {
    let value = value.into();
    Bits { value, names: flags.names(value).collect(), unknown: flags.unknown(value) }
}

fn named(value: impl Into<i64>, name: Option<&'static str>) -> Named {
    Named { value: value.into(), name }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("transport", &named(self.transport.0, names::transport(self.transport)))?;
        device(&mut map, &self.attr)?;
        map.serialize_entry("board_id", &self.board_id)?;
        map.serialize_entry("num_comp_vectors", &self.num_comp_vectors)?;
        map.serialize_entry("odp_caps", &Odp::from(&self.attr.odp))?;
        map.serialize_entry("tso_caps", &Tso::from(&self.provider))?;
        map.serialize_entry("rss_caps", &Rss::from((&self.attr, &self.provider)))?;
        map.serialize_entry("packet_pacing_caps", &Pacing::from(&self.provider))?;
        map.serialize_entry("tm_caps", &Tm(&self.attr))?;
        map.serialize_entry("cq_mod_caps", &Moderation::from(&self.attr))?;
        map.serialize_entry("ports", &self.ports)?;
        map.end()
    }
}

fn device<M: SerializeMap>(map: &mut M, attr: &DeviceAttr) -> Result<(), M::Error> {
    map.serialize_entry("fw_ver", &attr.fw_ver)?;
    map.serialize_entry("node_guid", &attr.node_guid.to_string())?;
    map.serialize_entry("sys_image_guid", &attr.sys_image_guid.to_string())?;
    entries!(map, attr; vendor_id vendor_part_id hw_ver phys_port_cnt max_mr_size page_size_cap max_qp max_qp_wr);
    map.serialize_entry("device_cap_flags", &bits(&flags::DEVICE, attr.device_cap_flags))?;
    let extended = Bits {
        value: attr.device_cap_flags_ex,
        ..bits(&flags::DEVICE_EX, attr.device_cap_flags_ex & !u64::from(u32::MAX))
    };
    map.serialize_entry("device_cap_flags_ex", &extended)?;
    entries!(map, attr; max_sge max_sge_rd max_cq max_cqe max_mr max_pd);
    entries!(map, attr; max_qp_rd_atom max_ee_rd_atom max_res_rd_atom max_qp_init_rd_atom max_ee_init_rd_atom);
    let atomics = named(u32::from(attr.atomic_cap), names::atomic_cap(attr.atomic_cap));
    map.serialize_entry("atomic_cap", &atomics)?;
    entries!(map, attr; max_ee max_rdd max_mw max_raw_ipv6_qp max_raw_ethy_qp);
    entries!(map, attr; max_mcast_grp max_mcast_qp_attach max_total_mcast_qp_attach max_ah max_fmr max_map_per_fmr);
    entries!(map, attr; max_srq max_srq_wr max_srq_sge max_pkeys local_ca_ack_delay);
    entries!(map, attr; completion_timestamp_mask hca_core_clock max_wq_type_rq max_dm_size);
    map.serialize_entry("raw_packet_caps", &bits(&flags::RAW_PACKET, attr.raw_packet_caps))
}

#[derive(Serialize)]
struct Odp {
    general: Bits,
    rc: Bits,
    uc: Bits,
    ud: Bits,
    xrc: Bits,
}

impl From<&OdpCaps> for Odp {
    fn from(odp: &OdpCaps) -> Self {
        let transport = |caps: u32| bits(&flags::ODP_TRANSPORT, caps);
        Self {
            general: bits(&flags::ODP, odp.general),
            rc: transport(odp.rc),
            uc: transport(odp.uc),
            ud: transport(odp.ud),
            xrc: transport(odp.xrc),
        }
    }
}

#[derive(Serialize)]
struct Tso {
    max_tso: u32,
    supported_qpts: Bits,
}

impl From<&ProviderCaps> for Tso {
    fn from(caps: &ProviderCaps) -> Self {
        Self { max_tso: caps.max_tso, supported_qpts: bits(&flags::QPTS, caps.tso_qpts) }
    }
}

#[derive(Serialize)]
struct Rss {
    supported_qpts: Bits,
    max_rwq_indirection_tables: u32,
    max_rwq_indirection_table_size: u32,
    rx_hash_function: u8,
    rx_hash_fields_mask: u64,
}

impl From<(&DeviceAttr, &ProviderCaps)> for Rss {
    fn from((attr, caps): (&DeviceAttr, &ProviderCaps)) -> Self {
        Self {
            supported_qpts: bits(&flags::QPTS, attr.rss.supported_qpts),
            max_rwq_indirection_tables: attr.rss.max_rwq_indirection_tables,
            max_rwq_indirection_table_size: attr.rss.max_rwq_indirection_table_size,
            rx_hash_function: caps.rx_hash_function,
            rx_hash_fields_mask: caps.rx_hash_fields_mask,
        }
    }
}

#[derive(Serialize)]
struct Pacing {
    qp_rate_limit_min_kbps: u32,
    qp_rate_limit_max_kbps: u32,
    supported_qpts: Bits,
}

impl From<&ProviderCaps> for Pacing {
    fn from(caps: &ProviderCaps) -> Self {
        Self {
            qp_rate_limit_min_kbps: caps.rate_limit_min,
            qp_rate_limit_max_kbps: caps.rate_limit_max,
            supported_qpts: bits(&flags::QPTS, caps.rate_limit_qpts),
        }
    }
}

struct Tm<'a>(&'a DeviceAttr);

impl Serialize for Tm<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tm = &self.0.tm;
        let mut map = serializer.serialize_map(None)?;
        entries!(map, tm; max_rndv_hdr_size max_num_tags max_ops max_sge);
        map.serialize_entry("flags", &bits(&flags::TM, tm.flags))?;
        map.end()
    }
}

#[derive(Serialize)]
struct Moderation {
    max_cq_count: u16,
    max_cq_period_us: u16,
}

impl From<&DeviceAttr> for Moderation {
    fn from(attr: &DeviceAttr) -> Self {
        Self { max_cq_count: attr.max_cq_moderation_count, max_cq_period_us: attr.max_cq_moderation_period }
    }
}

impl Serialize for PortReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("port", &self.number.get())?;
        port(&mut map, &self.attr)?;
        let gids: Vec<GidView> = self.gids.iter().map(GidView::from).collect();
        map.serialize_entry("gids", &gids)?;
        map.end()
    }
}

fn port<M: SerializeMap>(map: &mut M, attr: &PortAttr) -> Result<(), M::Error> {
    map.serialize_entry("state", &named(u8::from(attr.state), names::port_state(attr.state)))?;
    map.serialize_entry("phys_state", &named(u8::from(attr.phys_state), names::phys_state(attr.phys_state)))?;
    map.serialize_entry("link_layer", &named(u8::from(attr.link_layer), attr.link_layer.name()))?;
    map.serialize_entry("max_mtu", &MtuView::from(attr.max_mtu))?;
    map.serialize_entry("active_mtu", &MtuView::from(attr.active_mtu))?;
    map.serialize_entry("sm_lid", &attr.sm_lid.0)?;
    map.serialize_entry("lid", &attr.lid.0)?;
    entries!(map, attr; lmc max_msg_sz port_cap_flags port_cap_flags2);
    let lanes = names::virtual_lanes(attr.max_vl_num);
    map.serialize_entry("max_vl_num", &Lanes { value: attr.max_vl_num, lanes })?;
    entries!(map, attr; bad_pkey_cntr qkey_viol_cntr sm_sl pkey_tbl_len gid_tbl_len subnet_timeout init_type_reply);
    let lanes = names::lanes(attr.active_width);
    map.serialize_entry("active_width", &Lanes { value: attr.active_width, lanes })?;
    let speed = Speed { value: attr.active_speed, gbps: names::gbps(attr.active_speed) };
    map.serialize_entry("active_speed", &speed)?;
    entries!(map, attr; grh_required);
    Ok(())
}

#[derive(Serialize)]
struct Lanes {
    value: u8,
    lanes: Option<u8>,
}

#[derive(Serialize)]
struct Speed {
    value: u8,
    /// Of one lane.
    gbps: Option<f64>,
}

#[derive(Serialize)]
struct MtuView {
    value: u8,
    bytes: Option<u32>,
}

impl From<Mtu> for MtuView {
    fn from(mtu: Mtu) -> Self {
        Self { value: mtu.into(), bytes: mtu.bytes() }
    }
}

#[derive(Serialize)]
struct GidView {
    index: u32,
    gid: String,
    /// `IB`, `RoCE v1`, `RoCE v2`.
    r#type: Option<&'static str>,
    /// The index of the network device; nothing where there is none, or nothing tells.
    netdev_ifindex: Option<u32>,
}

impl From<&GidEntry> for GidView {
    fn from(entry: &GidEntry) -> Self {
        let kind = match entry.gid_type {
            GidType::IB => Some("IB"),
            GidType::ROCE_V1 => Some("RoCE v1"),
            GidType::ROCE_V2 => Some("RoCE v2"),
            _ => None,
        };
        let netdev_ifindex = Some(entry.netdev_ifindex).filter(|index| *index != 0);
        Self { index: entry.index, gid: entry.gid.to_string(), r#type: kind, netdev_ifindex }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn fields_are_typed() {
        let value: serde_json::Value = serde_json::from_str(&text(&[sample::connectx2()]).unwrap()).unwrap();
        let device = &value[0];
        assert_eq!(device["name"], "mlx4_0");
        assert_eq!(device["vendor_part_id"], 26428);
        assert_eq!(device["board_id"], "MT_0D90110009");
        assert_eq!(device["transport"]["name"], "InfiniBand");
        assert_eq!(device["device_cap_flags"]["names"][0], "BAD_PKEY_CNTR");
        let port = &device["ports"][0];
        assert_eq!(port["state"]["name"], "PORT_ACTIVE");
        assert_eq!(port["active_mtu"]["bytes"], 4096);
        assert_eq!(port["active_speed"]["gbps"], 10.0);
        assert_eq!(port["gids"][0]["gid"], "fe80::10d2:c910:0:6bd1");
    }

    #[test]
    fn what_has_no_name_is_null() {
        let mut report = sample::connectx2();
        report.ports[0].attr.active_width = 99;
        report.attr.device_cap_flags = 1 << 31;
        let value: serde_json::Value = serde_json::from_str(&text(&[report]).unwrap()).unwrap();
        assert!(value[0]["ports"][0]["active_width"]["lanes"].is_null());
        assert_eq!(value[0]["device_cap_flags"]["unknown"], 1u64 << 31);
    }
}
