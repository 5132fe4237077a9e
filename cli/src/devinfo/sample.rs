//! A report with the values of a ConnectX-2, for tests.

use bareverbs::discover::Transport;
use bareverbs::{
    AtomicCap, DeviceAttr, DriverCaps, Gid, GidEntry, GidType, Guid, Lid, LinkLayer, Mtu, OdpCaps, PhysState,
    PortAttr, PortNum, PortState, RssCaps, TmCaps,
};

use super::report::{PortReport, ProviderCaps, Report};

/// One InfiniBand port, GIDs included.
pub(super) fn connectx2() -> Report {
    Report {
        name: "mlx4_0".to_owned(),
        transport: Transport::INFINIBAND,
        attr: device(),
        board_id: Some("MT_0D90110009".to_owned()),
        num_comp_vectors: 4,
        provider: ProviderCaps::default(),
        ports: vec![PortReport { number: PortNum::ONE, attr: port(), gids: vec![gid(0, GidType::IB)] }],
    }
}

/// An entry of the port's GID table.
pub(super) fn gid(index: u32, gid_type: GidType) -> GidEntry {
    let gid = Gid([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x10, 0xd2, 0xc9, 0x10, 0, 0, 0x6b, 0xd1]);
    GidEntry { gid, index, port: PortNum::ONE, gid_type, netdev_ifindex: 0 }
}

fn device() -> DeviceAttr {
    DeviceAttr {
        driver: DriverCaps::default(),
        fw_ver: "2.9.1000".to_owned(),
        node_guid: Guid([0x10, 0xd2, 0xc9, 0x10, 0, 0, 0x6b, 0xd0]),
        sys_image_guid: Guid([0x10, 0xd2, 0xc9, 0x10, 0, 0, 0x6b, 0xd3]),
        max_mr_size: u64::MAX,
        page_size_cap: 0xffff_fe00,
        vendor_id: 0x2c9,
        vendor_part_id: 26428,
        hw_ver: 0xb0,
        max_qp: 163_776,
        max_qp_wr: 16_351,
        device_cap_flags: 0x007c_9c76,
        max_sge: 32,
        max_sge_rd: 30,
        max_cq: 65_408,
        max_cqe: 4_194_303,
        max_mr: 524_272,
        max_pd: 32_764,
        max_qp_rd_atom: 16,
        max_ee_rd_atom: 0,
        max_res_rd_atom: 2_620_416,
        max_qp_init_rd_atom: 128,
        max_ee_init_rd_atom: 0,
        atomic_cap: AtomicCap::HCA,
        max_ee: 0,
        max_rdd: 0,
        max_mw: 0,
        max_raw_ipv6_qp: 0,
        max_raw_ethy_qp: 2,
        max_mcast_grp: 8192,
        max_mcast_qp_attach: 248,
        max_total_mcast_qp_attach: 2_031_616,
        max_ah: i32::MAX.unsigned_abs(),
        max_fmr: 0,
        max_map_per_fmr: 8191,
        max_srq: 65_472,
        max_srq_wr: 16_383,
        max_srq_sge: 31,
        max_pkeys: 128,
        local_ca_ack_delay: 15,
        phys_port_cnt: 1,
        odp: OdpCaps::default(),
        completion_timestamp_mask: 0,
        hca_core_clock: 0,
        device_cap_flags_ex: 0x7c_9c76,
        rss: RssCaps::default(),
        max_wq_type_rq: 0,
        raw_packet_caps: 0,
        tm: TmCaps::default(),
        max_cq_moderation_count: 0,
        max_cq_moderation_period: 0,
        max_dm_size: 0,
    }
}

fn port() -> PortAttr {
    PortAttr {
        state: PortState::ACTIVE,
        max_mtu: Mtu::MTU_4096,
        active_mtu: Mtu::MTU_4096,
        gid_tbl_len: 128,
        port_cap_flags: 0x0251_0868,
        port_cap_flags2: 0,
        max_msg_sz: 0x4000_0000,
        bad_pkey_cntr: 0,
        qkey_viol_cntr: 0,
        pkey_tbl_len: 128,
        lid: Lid(1),
        sm_lid: Lid(1),
        lmc: 0,
        max_vl_num: 4,
        sm_sl: 0,
        subnet_timeout: 18,
        init_type_reply: 0,
        active_width: 2,
        active_speed: 4,
        phys_state: PhysState::LINK_UP,
        link_layer: LinkLayer::INFINIBAND,
        grh_required: false,
    }
}
