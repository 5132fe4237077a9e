//! A device's report as text, byte for byte that of `ibv_devinfo`.

use std::fmt::Write;

use bareverbs::{AtomicCap, DeviceAttr, OdpCaps, TmCaps};

use super::flags::{self, Flags};
use super::report::{ProviderCaps, Report};
use super::{names, port};

/// Appends a line; writing to a string does not fail.
macro_rules! line {
    ($out:expr, $($format:tt)*) => {{
        let _ = writeln!($out, $($format)*);
    }};
}
pub(super) use line;

/// The whole report.
pub(super) fn device(report: &Report, verbose: bool) -> String {
    let mut text = String::with_capacity(if verbose { 8192 } else { 1024 });
    let out = &mut text;
    let attr = &report.attr;
    line!(out, "hca_id:\t{}", report.name);
    let transport = names::transport(report.transport).unwrap_or("invalid transport");
    line!(out, "\ttransport:\t\t\t{transport} ({})", report.transport.0);
    if !attr.fw_ver.is_empty() {
        line!(out, "\tfw_ver:\t\t\t\t{}", attr.fw_ver);
    }
    line!(out, "\tnode_guid:\t\t\t{}", attr.node_guid);
    line!(out, "\tsys_image_guid:\t\t\t{}", attr.sys_image_guid);
    line!(out, "\tvendor_id:\t\t\t0x{:04x}", attr.vendor_id);
    line!(out, "\tvendor_part_id:\t\t\t{}", signed(attr.vendor_part_id));
    line!(out, "\thw_ver:\t\t\t\t0x{:X}", attr.hw_ver);
    if let Some(board_id) = &report.board_id {
        line!(out, "\tboard_id:\t\t\t{board_id}");
    }
    line!(out, "\tphys_port_cnt:\t\t\t{}", attr.phys_port_cnt);
    if verbose {
        limits(out, attr);
        capabilities(out, attr, &report.provider);
        line!(out, "\tnum_comp_vectors:\t\t{}", signed(report.num_comp_vectors));
    }
    for port in &report.ports {
        port::port(out, port, report.transport, verbose);
    }
    text
}

/// The kernel's 32 bits as the C tool's `int`.
fn signed(value: u32) -> i32 {
    value.cast_signed()
}

fn limits(out: &mut String, attr: &DeviceAttr) {
    line!(out, "\tmax_mr_size:\t\t\t0x{:x}", attr.max_mr_size);
    line!(out, "\tpage_size_cap:\t\t\t0x{:x}", attr.page_size_cap);
    numbers(out, &[("max_qp:\t\t\t\t", attr.max_qp), ("max_qp_wr:\t\t\t", attr.max_qp_wr)]);
    line!(out, "\tdevice_cap_flags:\t\t0x{:08x}", attr.device_cap_flags);
    flag_lines(out, &flags::DEVICE, attr.device_cap_flags.into());
    numbers(
        out,
        &[
            ("max_sge:\t\t\t", attr.max_sge),
            ("max_sge_rd:\t\t\t", attr.max_sge_rd),
            ("max_cq:\t\t\t\t", attr.max_cq),
            ("max_cqe:\t\t\t", attr.max_cqe),
            ("max_mr:\t\t\t\t", attr.max_mr),
            ("max_pd:\t\t\t\t", attr.max_pd),
            ("max_qp_rd_atom:\t\t\t", attr.max_qp_rd_atom),
            ("max_ee_rd_atom:\t\t\t", attr.max_ee_rd_atom),
            ("max_res_rd_atom:\t\t", attr.max_res_rd_atom),
            ("max_qp_init_rd_atom:\t\t", attr.max_qp_init_rd_atom),
            ("max_ee_init_rd_atom:\t\t", attr.max_ee_init_rd_atom),
        ],
    );
    atomics(out, attr.atomic_cap);
    numbers(
        out,
        &[
            ("max_ee:\t\t\t\t", attr.max_ee),
            ("max_rdd:\t\t\t", attr.max_rdd),
            ("max_mw:\t\t\t\t", attr.max_mw),
            ("max_raw_ipv6_qp:\t\t", attr.max_raw_ipv6_qp),
            ("max_raw_ethy_qp:\t\t", attr.max_raw_ethy_qp),
            ("max_mcast_grp:\t\t\t", attr.max_mcast_grp),
            ("max_mcast_qp_attach:\t\t", attr.max_mcast_qp_attach),
            ("max_total_mcast_qp_attach:\t", attr.max_total_mcast_qp_attach),
            ("max_ah:\t\t\t\t", attr.max_ah),
            ("max_fmr:\t\t\t", attr.max_fmr),
        ],
    );
    if attr.max_fmr != 0 {
        numbers(out, &[("max_map_per_fmr:\t\t", attr.max_map_per_fmr)]);
    }
    numbers(out, &[("max_srq:\t\t\t", attr.max_srq)]);
    if attr.max_srq != 0 {
        numbers(out, &[("max_srq_wr:\t\t\t", attr.max_srq_wr), ("max_srq_sge:\t\t\t", attr.max_srq_sge)]);
    }
    line!(out, "\tmax_pkeys:\t\t\t{}", attr.max_pkeys);
    line!(out, "\tlocal_ca_ack_delay:\t\t{}", attr.local_ca_ack_delay);
}

/// Lines of a label, its tabs included, and a number.
fn numbers(out: &mut String, lines: &[(&str, u32)]) {
    for (label, value) in lines {
        line!(out, "\t{label}{}", signed(*value));
    }
}

fn atomics(out: &mut String, cap: AtomicCap) {
    let name = names::atomic_cap(cap).unwrap_or("invalid atomic capability");
    line!(out, "\tatomic_cap:\t\t\t{name} ({})", signed(cap.into()));
}

/// One line for each bit that is set.
fn flag_lines(out: &mut String, flags: &Flags, value: u64) {
    for name in flags.names(value) {
        line!(out, "\t\t\t\t\t{name}");
    }
    let unknown = flags.unknown(value);
    if unknown != 0 {
        line!(out, "\t\t\t\t\tUnknown flags: 0x{unknown:X}");
    }
}

fn capabilities(out: &mut String, attr: &DeviceAttr, provider: &ProviderCaps) {
    paging(out, &attr.odp);
    match attr.completion_timestamp_mask {
        0 => line!(out, "\tcompletion_timestamp_mask not supported"),
        mask => line!(out, "\tcompletion timestamp_mask:\t\t\t0x{mask:016x}"),
    }
    match attr.hca_core_clock {
        0 => line!(out, "\tcore clock not supported"),
        clock => line!(out, "\thca_core_clock:\t\t\t{clock}kHZ"),
    }
    if attr.raw_packet_caps != 0 {
        line!(out, "\traw packet caps:");
        for name in flags::RAW_PACKET.names(attr.raw_packet_caps.into()) {
            line!(out, "\t\t\t\t\t{name}");
        }
    }
    line!(out, "\tdevice_cap_flags_ex:\t\t0x{:X}", attr.device_cap_flags_ex);
    flag_lines(out, &flags::DEVICE_EX, attr.device_cap_flags_ex & 0xffff_ffff_0000_0000);
    line!(out, "\ttso_caps:");
    line!(out, "\t\tmax_tso:\t\t\t{}", signed(provider.max_tso));
    if provider.max_tso != 0 {
        queue_pairs(out, provider.tso_qpts);
    }
    scaling(out, attr, provider);
    line!(out, "\tmax_wq_type_rq:\t\t\t{}", attr.max_wq_type_rq);
    line!(out, "\tpacket_pacing_caps:");
    line!(out, "\t\tqp_rate_limit_min:\t{}kbps", provider.rate_limit_min);
    line!(out, "\t\tqp_rate_limit_max:\t{}kbps", provider.rate_limit_max);
    if provider.rate_limit_max != 0 {
        queue_pairs(out, provider.rate_limit_qpts);
    }
    tag_matching(out, &attr.tm);
    if attr.max_cq_moderation_count != 0 && attr.max_cq_moderation_period != 0 {
        line!(out, "\n\tcq moderation caps:");
        line!(out, "\t\tmax_cq_count:\t{}", attr.max_cq_moderation_count);
        line!(out, "\t\tmax_cq_period:\t{} us\n", attr.max_cq_moderation_period);
    }
    if attr.max_dm_size != 0 {
        line!(out, "\tmaximum available device memory:\t{}Bytes\n", attr.max_dm_size);
    }
}

fn paging(out: &mut String, odp: &OdpCaps) {
    line!(out, "\tgeneral_odp_caps:");
    flag_lines(out, &flags::ODP, odp.general);
    for (transport, caps) in [("rc", odp.rc), ("uc", odp.uc), ("ud", odp.ud), ("xrc", odp.xrc)] {
        line!(out, "\t{transport}_odp_caps:");
        if caps == 0 {
            line!(out, "\t\t\t\t\tNO SUPPORT");
        }
        flag_lines(out, &flags::ODP_TRANSPORT, caps.into());
    }
}

fn queue_pairs(out: &mut String, qpts: u32) {
    line!(out, "\t\tsupported_qp:");
    flag_lines(out, &flags::QPTS, qpts.into());
}

fn scaling(out: &mut String, attr: &DeviceAttr, provider: &ProviderCaps) {
    let rss = &attr.rss;
    line!(out, "\trss_caps:");
    line!(out, "\t\tmax_rwq_indirection_tables:\t\t\t{}", rss.max_rwq_indirection_tables);
    line!(out, "\t\tmax_rwq_indirection_table_size:\t\t\t{}", rss.max_rwq_indirection_table_size);
    line!(out, "\t\trx_hash_function:\t\t\t\t0x{:x}", provider.rx_hash_function);
    line!(out, "\t\trx_hash_fields_mask:\t\t\t\t0x{:X}", provider.rx_hash_fields_mask);
    if rss.supported_qpts != 0 {
        queue_pairs(out, rss.supported_qpts);
    }
}

fn tag_matching(out: &mut String, tm: &TmCaps) {
    if tm.max_num_tags == 0 {
        line!(out, "\ttag matching not supported");
        return;
    }
    line!(out, "\tmax_rndv_hdr_size:\t\t{}", tm.max_rndv_hdr_size);
    line!(out, "\tmax_num_tags:\t\t\t{}", tm.max_num_tags);
    line!(out, "\tmax_ops:\t\t\t{}", tm.max_ops);
    line!(out, "\tmax_sge:\t\t\t{}", tm.max_sge);
    line!(out, "\tflags:");
    for name in flags::TM.names(tm.flags.into()) {
        line!(out, "\t\t\t\t\t{name}");
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
