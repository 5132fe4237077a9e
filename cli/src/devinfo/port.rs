//! A port's part of the text, byte for byte that of `ibv_devinfo`.

use std::fmt::Write;

use bareverbs::discover::Transport;
use bareverbs::{GidEntry, GidType, LinkLayer, Mtu};

use super::names;
use super::report::PortReport;
use super::text::line;

/// One port, a blank line after it.
pub(super) fn port(out: &mut String, port: &PortReport, transport: Transport, verbose: bool) {
    let attr = &port.attr;
    line!(out, "\t\tport:\t{}", port.number);
    let state = names::port_state(attr.state).unwrap_or("invalid state");
    line!(out, "\t\t\tstate:\t\t\t{state} ({})", u8::from(attr.state));
    line!(out, "\t\t\tmax_mtu:\t\t{}", mtu(attr.max_mtu));
    line!(out, "\t\t\tactive_mtu:\t\t{}", mtu(attr.active_mtu));
    line!(out, "\t\t\tsm_lid:\t\t\t{}", attr.sm_lid.0);
    line!(out, "\t\t\tport_lid:\t\t{}", attr.lid.0);
    line!(out, "\t\t\tport_lmc:\t\t0x{:02x}", attr.lmc);
    line!(out, "\t\t\tlink_layer:\t\t{}", attr.link_layer.name().unwrap_or("Unknown"));
    if verbose {
        details(out, port, transport);
    }
    out.push('\n');
}

fn mtu(mtu: Mtu) -> String {
    let value = u8::from(mtu);
    mtu.bytes().map_or_else(|| format!("invalid MTU ({value})"), |bytes| format!("{bytes} ({value})"))
}

fn details(out: &mut String, port: &PortReport, transport: Transport) {
    let attr = &port.attr;
    line!(out, "\t\t\tmax_msg_sz:\t\t0x{:x}", attr.max_msg_sz);
    line!(out, "\t\t\tport_cap_flags:\t\t0x{:08x}", attr.port_cap_flags);
    line!(out, "\t\t\tport_cap_flags2:\t0x{:04x}", attr.port_cap_flags2);
    let lanes = names::virtual_lanes(attr.max_vl_num);
    line!(out, "\t\t\tmax_vl_num:\t\t{} ({})", or(lanes, "invalid value"), attr.max_vl_num);
    line!(out, "\t\t\tbad_pkey_cntr:\t\t0x{:x}", attr.bad_pkey_cntr);
    line!(out, "\t\t\tqkey_viol_cntr:\t\t0x{:x}", attr.qkey_viol_cntr);
    line!(out, "\t\t\tsm_sl:\t\t\t{}", attr.sm_sl);
    line!(out, "\t\t\tpkey_tbl_len:\t\t{}", attr.pkey_tbl_len);
    line!(out, "\t\t\tgid_tbl_len:\t\t{}", attr.gid_tbl_len.cast_signed());
    line!(out, "\t\t\tsubnet_timeout:\t\t{}", attr.subnet_timeout);
    line!(out, "\t\t\tinit_type_reply:\t{}", attr.init_type_reply);
    let lanes = names::lanes(attr.active_width);
    line!(out, "\t\t\tactive_width:\t\t{}X ({})", or(lanes, "invalid width"), attr.active_width);
    let speed = names::gbps(attr.active_speed).map(|gbps| format!("{gbps:.1} Gbps"));
    line!(out, "\t\t\tactive_speed:\t\t{} ({})", or(speed, "invalid speed"), attr.active_speed);
    if transport == Transport::INFINIBAND {
        let state = names::phys_state(attr.phys_state).unwrap_or("invalid physical state");
        line!(out, "\t\t\tphys_state:\t\t{state} ({})", u8::from(attr.phys_state));
    }
    // What has a prefix alone is no address.
    for entry in port.gids.iter().filter(|entry| entry.gid.interface_id() != 0) {
        gid(out, entry, attr.link_layer);
    }
}

fn or(value: Option<impl ToString>, otherwise: &str) -> String {
    value.map_or_else(|| otherwise.to_owned(), |value| value.to_string())
}

/// InfiniBand and RoCE v1 are shown as sixteen bytes, RoCE v2 as an IP address.
fn gid(out: &mut String, entry: &GidEntry, layer: LinkLayer) {
    let ethernet = layer == LinkLayer::ETHERNET;
    let _ = write!(out, "\t\t\tGID[{:3}]:\t\t", entry.index);
    match entry.gid_type {
        GidType::IB | GidType::ROCE_V1 => {
            for (n, pair) in entry.gid.0.chunks_exact(2).enumerate() {
                let separator = if n == 0 { "" } else { ":" };
                let _ = write!(out, "{separator}{:02x}{:02x}", pair[0], pair[1]);
            }
            out.push_str(if ethernet { ", RoCE v1" } else { "" });
        }
        _ => {
            let _ = write!(out, "{}", entry.gid);
            out.push_str(if ethernet { ", RoCE v2" } else { "" });
        }
    }
    out.push('\n');
}
