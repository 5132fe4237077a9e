//! Golden text: a ConnectX-2's transcript, and capabilities that few devices have.

use bareverbs::discover::Transport;
use bareverbs::{Gid, GidEntry, GidType, LinkLayer, PhysState, PortNum, PortState};

use super::super::report::Report;
use super::super::sample::{connectx2, gid};
use super::*;

/// What `ibv_devinfo` printed on that adapter.
const SHORT: &str = "\
hca_id:\tmlx4_0
\ttransport:\t\t\tInfiniBand (0)
\tfw_ver:\t\t\t\t2.9.1000
\tnode_guid:\t\t\t10d2:c910:0000:6bd0
\tsys_image_guid:\t\t\t10d2:c910:0000:6bd3
\tvendor_id:\t\t\t0x02c9
\tvendor_part_id:\t\t\t26428
\thw_ver:\t\t\t\t0xB0
\tboard_id:\t\t\tMT_0D90110009
\tphys_port_cnt:\t\t\t1
\t\tport:\t1
\t\t\tstate:\t\t\tPORT_ACTIVE (4)
\t\t\tmax_mtu:\t\t4096 (5)
\t\t\tactive_mtu:\t\t4096 (5)
\t\t\tsm_lid:\t\t\t1
\t\t\tport_lid:\t\t1
\t\t\tport_lmc:\t\t0x00
\t\t\tlink_layer:\t\tInfiniBand

";

/// The lines of the verbose text that the change adds, with those that it takes away behind `-`.
fn difference(change: impl FnOnce(&mut Report)) -> Vec<String> {
    let mut changed = connectx2();
    change(&mut changed);
    let (before, after) = (device(&connectx2(), true), device(&changed, true));
    let (before, after): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let head = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
    let tail =
        before[head..].iter().rev().zip(after[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let gone = before[head..before.len() - tail].iter().map(|line| format!("-{line}"));
    gone.chain(after[head..after.len() - tail].iter().map(|line| (*line).to_owned())).collect()
}

#[test]
fn a_connectx2_in_short() {
    assert_eq!(device(&connectx2(), false), SHORT);
}

#[test]
fn no_firmware_and_no_board_are_left_out() {
    let mut report = connectx2();
    report.attr.fw_ver.clear();
    report.board_id = None;
    let text = device(&report, false);
    assert!(!text.contains("fw_ver") && !text.contains("board_id"));
}

#[test]
fn a_connectx2_in_full() {
    let text = device(&connectx2(), true);
    let limits = "\tphys_port_cnt:\t\t\t1\n\tmax_mr_size:\t\t\t0xffffffffffffffff\n\tpage_size_cap:\t\t\t0xfffffe00\n\
                  \tmax_qp:\t\t\t\t163776\n\tmax_qp_wr:\t\t\t16351\n\tdevice_cap_flags:\t\t0x007c9c76\n\
                  \t\t\t\t\tBAD_PKEY_CNTR\n\t\t\t\t\tBAD_QKEY_CNTR\n\t\t\t\t\tAUTO_PATH_MIG\n\t\t\t\t\tCHANGE_PHY_PORT\n\
                  \t\t\t\t\tUD_AV_PORT_ENFORCE\n\t\t\t\t\tPORT_ACTIVE_EVENT\n\t\t\t\t\tSYS_IMAGE_GUID\n\
                  \t\t\t\t\tRC_RNR_NAK_GEN\n\t\t\t\t\tUD_IP_CSUM\n\t\t\t\t\tXRC\n\t\t\t\t\tMEM_MGT_EXTENSIONS\n\
                  \t\t\t\t\tUnknown flags: 0x488000\n\tmax_sge:\t\t\t32\n";
    assert!(text.contains(limits), "{text}");
    let srq = "\tmax_ah:\t\t\t\t2147483647\n\tmax_fmr:\t\t\t0\n\tmax_srq:\t\t\t65472\n\tmax_srq_wr:\t\t\t16383\n\
               \tmax_srq_sge:\t\t\t31\n\tmax_pkeys:\t\t\t128\n\tlocal_ca_ack_delay:\t\t15\n\tgeneral_odp_caps:\n\
               \trc_odp_caps:\n\t\t\t\t\tNO SUPPORT\n";
    assert!(text.contains(srq), "{text}");
    let end = "\ttag matching not supported\n\tnum_comp_vectors:\t\t4\n\t\tport:\t1\n";
    assert!(text.contains(end), "{text}");
    let port = "\t\t\tlink_layer:\t\tInfiniBand\n\t\t\tmax_msg_sz:\t\t0x40000000\n\t\t\tport_cap_flags:\t\t0x02510868\n\
                \t\t\tport_cap_flags2:\t0x0000\n\t\t\tmax_vl_num:\t\t8 (4)\n\t\t\tbad_pkey_cntr:\t\t0x0\n\
                \t\t\tqkey_viol_cntr:\t\t0x0\n\t\t\tsm_sl:\t\t\t0\n\t\t\tpkey_tbl_len:\t\t128\n\
                \t\t\tgid_tbl_len:\t\t128\n\t\t\tsubnet_timeout:\t\t18\n\t\t\tinit_type_reply:\t0\n\
                \t\t\tactive_width:\t\t4X (2)\n\t\t\tactive_speed:\t\t10.0 Gbps (4)\n\t\t\tphys_state:\t\tLINK_UP (5)\n\
                \t\t\tGID[  0]:\t\tfe80:0000:0000:0000:10d2:c910:0000:6bd1\n\n";
    assert!(text.ends_with(port), "{text}");
}

#[test]
fn paging_on_demand() {
    let lines = difference(|report| {
        let odp = &mut report.attr.odp;
        (odp.general, odp.rc, odp.uc, odp.ud, odp.xrc) = (7, 0x3f, 1 << 6, 1, 1 << 5);
    });
    let indent = "\t\t\t\t\t";
    assert_eq!(
        lines[..4],
        [
            "-\trc_odp_caps:".to_owned(),
            format!("-{indent}NO SUPPORT"),
            "-\tuc_odp_caps:".to_owned(),
            format!("-{indent}NO SUPPORT")
        ]
    );
    let text = lines.into_iter().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().join("\n");
    let expected = "ODP_SUPPORT|ODP_SUPPORT_IMPLICIT|Unknown flags: 0x4|\trc_odp_caps:|SUPPORT_SEND|SUPPORT_RECV|\
                    SUPPORT_WRITE|SUPPORT_READ|SUPPORT_ATOMIC|SUPPORT_SRQ|\tuc_odp_caps:|Unknown flags: 0x40|\
                    \tud_odp_caps:|SUPPORT_SEND|\txrc_odp_caps:|SUPPORT_SRQ";
    assert_eq!(text.replace(indent, "").replace('\n', "|"), expected);
}

#[test]
fn clocks_and_raw_packets() {
    let lines = difference(|report| {
        report.attr.completion_timestamp_mask = 0xffff_ffff;
        report.attr.hca_core_clock = 156_250;
        report.attr.raw_packet_caps = 0xf;
    });
    assert_eq!(
        lines,
        [
            "-\tcompletion_timestamp_mask not supported",
            "-\tcore clock not supported",
            "\tcompletion timestamp_mask:\t\t\t0x00000000ffffffff",
            "\thca_core_clock:\t\t\t156250kHZ",
            "\traw packet caps:",
            "\t\t\t\t\tC-VLAN stripping offload",
            "\t\t\t\t\tScatter FCS offload",
            "\t\t\t\t\tIP csum offload",
            "\t\t\t\t\tDelay drop",
        ]
    );
}

#[test]
fn extended_flags_count_in_the_upper_half_alone() {
    let lines = difference(|report| report.attr.device_cap_flags_ex = 1 << 34 | 1 << 36 | 1 << 40 | 1);
    assert_eq!(
        lines,
        [
            "-\tdevice_cap_flags_ex:\t\t0x7C9C76",
            "\tdevice_cap_flags_ex:\t\t0x11400000001",
            "\t\t\t\t\tRAW_SCATTER_FCS",
            "\t\t\t\t\tPCI_WRITE_END_PADDING",
            "\t\t\t\t\tUnknown flags: 0x10000000000",
        ]
    );
}

#[test]
fn offloads_of_providers() {
    let lines = difference(|report| {
        report.provider.max_tso = 262_144;
        report.provider.tso_qpts = 1 << 8;
        report.attr.rss.supported_qpts = 1 << 8 | 1 << 4 | 1;
        report.attr.rss.max_rwq_indirection_tables = 8192;
        report.attr.rss.max_rwq_indirection_table_size = 2048;
        report.provider.rx_hash_function = 1;
        report.provider.rx_hash_fields_mask = 0x8000_00ff;
        report.attr.max_wq_type_rq = 8192;
        report.provider.rate_limit_min = 1;
        report.provider.rate_limit_max = 100_000_000;
        report.provider.rate_limit_qpts = 1 << 4;
    });
    let expected = "\t\tmax_tso:\t\t\t262144
\t\tsupported_qp:
\t\t\t\t\tSUPPORT_RAW_PACKET
\trss_caps:
\t\tmax_rwq_indirection_tables:\t\t\t8192
\t\tmax_rwq_indirection_table_size:\t\t\t2048
\t\trx_hash_function:\t\t\t\t0x1
\t\trx_hash_fields_mask:\t\t\t\t0x800000FF
\t\tsupported_qp:
\t\t\t\t\tSUPPORT_RAW_PACKET
\t\t\t\t\tSUPPORT_UD
\t\t\t\t\tUnknown flags: 0x1
\tmax_wq_type_rq:\t\t\t8192
\tpacket_pacing_caps:
\t\tqp_rate_limit_min:\t1kbps
\t\tqp_rate_limit_max:\t100000000kbps
\t\tsupported_qp:
\t\t\t\t\tSUPPORT_UD";
    let added: Vec<String> = lines.into_iter().filter(|line| !line.starts_with('-')).collect();
    assert_eq!(added.join("\n"), expected);
}

#[test]
fn tags_moderation_and_device_memory() {
    let lines = difference(|report| {
        let tm = &mut report.attr.tm;
        (tm.max_rndv_hdr_size, tm.max_num_tags, tm.flags, tm.max_ops, tm.max_sge) = (64, 127, 1, 32768, 1);
        report.attr.max_cq_moderation_count = 65535;
        report.attr.max_cq_moderation_period = 4095;
        report.attr.max_dm_size = 131_072;
    });
    assert_eq!(
        lines.join("\n"),
        "-\ttag matching not supported
\tmax_rndv_hdr_size:\t\t64
\tmax_num_tags:\t\t\t127
\tmax_ops:\t\t\t32768
\tmax_sge:\t\t\t1
\tflags:
\t\t\t\t\tIBV_TM_CAP_RC

\tcq moderation caps:
\t\tmax_cq_count:\t65535
\t\tmax_cq_period:\t4095 us

\tmaximum available device memory:\t131072Bytes
"
    );
}

#[test]
fn limits_that_depend_on_others() {
    let lines = difference(|report| {
        report.attr.max_fmr = 3;
        report.attr.max_srq = 0;
    });
    let added: Vec<String> = lines.into_iter().filter(|line| !line.starts_with('-')).collect();
    assert_eq!(added, ["\tmax_fmr:\t\t\t3", "\tmax_map_per_fmr:\t\t8191", "\tmax_srq:\t\t\t0"]);
}

#[test]
fn numbers_are_c_s_ints() {
    let lines = difference(|report| report.attr.max_qp = u32::MAX);
    assert_eq!(lines, ["-\tmax_qp:\t\t\t\t163776", "\tmax_qp:\t\t\t\t-1"]);
}

#[test]
fn gids_on_ethernet_tell_their_version() {
    let lines = difference(|report| {
        let port = &mut report.ports[0];
        port.attr.link_layer = LinkLayer::ETHERNET;
        let prefix_alone = Gid([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        port.gids = vec![gid(0, GidType::ROCE_V1), gid(1, GidType::ROCE_V2), gid(1000, GidType::ROCE_V2)];
        port.gids.push(GidEntry::new(PortNum::ONE, 2, prefix_alone, GidType::ROCE_V2));
    });
    let gids: Vec<_> = lines.iter().filter(|line| line.starts_with("\t\t\tGID")).collect();
    assert_eq!(
        gids,
        [
            "\t\t\tGID[  0]:\t\tfe80:0000:0000:0000:10d2:c910:0000:6bd1, RoCE v1",
            "\t\t\tGID[  1]:\t\tfe80::10d2:c910:0:6bd1, RoCE v2",
            "\t\t\tGID[1000]:\t\tfe80::10d2:c910:0:6bd1, RoCE v2",
        ]
    );
}

#[test]
fn iwarp_has_no_physical_state() {
    let lines = difference(|report| report.transport = Transport::IWARP);
    assert!(lines.contains(&"\ttransport:\t\t\tiWARP (1)".to_owned()));
    let mut report = connectx2();
    report.transport = Transport::IWARP;
    assert!(!device(&report, true).contains("phys_state"));
}

#[test]
fn unknown_numbers_are_called_invalid() {
    let lines = difference(|report| {
        report.attr.atomic_cap = AtomicCap(9);
        report.transport = Transport::UNKNOWN;
        let attr = &mut report.ports[0].attr;
        (attr.state, attr.phys_state) = (PortState::ACTIVE_DEFER, PhysState(9));
        (attr.active_width, attr.active_speed, attr.max_vl_num) = (3, 3, 9);
        (attr.max_mtu, attr.link_layer) = (bareverbs::Mtu(6), LinkLayer(7));
    });
    for line in [
        "\ttransport:\t\t\tinvalid transport (-1)",
        "\tatomic_cap:\t\t\tinvalid atomic capability (9)",
        "\t\t\tstate:\t\t\tinvalid state (5)",
        "\t\t\tmax_mtu:\t\tinvalid MTU (6)",
        "\t\t\tlink_layer:\t\tUnknown",
        "\t\t\tmax_vl_num:\t\tinvalid value (9)",
        "\t\t\tactive_width:\t\tinvalid widthX (3)",
        "\t\t\tactive_speed:\t\tinvalid speed (3)",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line} in {lines:#?}");
    }
}
