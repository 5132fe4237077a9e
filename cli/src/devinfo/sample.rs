//! A report with the values of a ConnectX-2, for tests.

use bareverbs::discover::Transport;
use bareverbs::{
    AtomicCap, DeviceAttr, Gid, GidEntry, GidType, Guid, Lid, LinkLayer, Mtu, PhysState, PortAttr, PortNum,
    PortState,
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
    GidEntry::new(PortNum::ONE, index, gid, gid_type)
}

fn device() -> DeviceAttr {
    let mut attr = DeviceAttr::default();
    attr.fw_ver = "2.9.1000".to_owned();
    attr.node_guid = Guid([0x10, 0xd2, 0xc9, 0x10, 0, 0, 0x6b, 0xd0]);
    attr.sys_image_guid = Guid([0x10, 0xd2, 0xc9, 0x10, 0, 0, 0x6b, 0xd3]);
    attr.max_mr_size = u64::MAX;
    attr.page_size_cap = 0xffff_fe00;
    attr.vendor_id = 0x2c9;
    attr.vendor_part_id = 26428;
    attr.hw_ver = 0xb0;
    attr.max_qp = 163_776;
    attr.max_qp_wr = 16_351;
    attr.device_cap_flags = 0x007c_9c76;
    attr.max_sge = 32;
    attr.max_sge_rd = 30;
    attr.max_cq = 65_408;
    attr.max_cqe = 4_194_303;
    attr.max_mr = 524_272;
    attr.max_pd = 32_764;
    attr.max_qp_rd_atom = 16;
    attr.max_res_rd_atom = 2_620_416;
    attr.max_qp_init_rd_atom = 128;
    attr.atomic_cap = AtomicCap::HCA;
    attr.max_raw_ethy_qp = 2;
    attr.max_mcast_grp = 8192;
    attr.max_mcast_qp_attach = 248;
    attr.max_total_mcast_qp_attach = 2_031_616;
    attr.max_ah = i32::MAX.unsigned_abs();
    attr.max_map_per_fmr = 8191;
    attr.max_srq = 65_472;
    attr.max_srq_wr = 16_383;
    attr.max_srq_sge = 31;
    attr.max_pkeys = 128;
    attr.local_ca_ack_delay = 15;
    attr.phys_port_cnt = 1;
    attr.device_cap_flags_ex = 0x7c_9c76;
    attr
}

fn port() -> PortAttr {
    let mut attr = PortAttr::default();
    attr.state = PortState::ACTIVE;
    attr.max_mtu = Mtu::MTU_4096;
    attr.active_mtu = Mtu::MTU_4096;
    attr.gid_tbl_len = 128;
    attr.port_cap_flags = 0x0251_0868;
    attr.max_msg_sz = 0x4000_0000;
    attr.pkey_tbl_len = 128;
    attr.lid = Lid(1);
    attr.sm_lid = Lid(1);
    attr.max_vl_num = 4;
    attr.subnet_timeout = 18;
    attr.active_width = 2;
    attr.active_speed = 4;
    attr.phys_state = PhysState::LINK_UP;
    attr.link_layer = LinkLayer::INFINIBAND;
    attr
}
