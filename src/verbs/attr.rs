//! What a device and its ports say of themselves (`struct ibv_device_attr_ex`, `struct ibv_port_attr`).

use super::firmware;
use crate::netlink::DriverId;
use crate::types::{DriverCaps, Guid, Lid, LinkLayer, Mtu, PhysState, PortState, open_enum};
use crate::uapi::ioctl::verbs::QueryPortRespEx;
use crate::uapi::verbs::ExQueryDeviceResp;

open_enum! {
    /// Scope within which atomic operations are atomic (`enum ibv_atomic_cap`).
    AtomicCap: u32 {
        /// Atomic operations are not supported.
        NONE = 0, "NONE";
        /// Among operations of this device.
        HCA = 1, "HCA";
        /// Among operations of this device, of other devices and of the CPU.
        GLOB = 2, "GLOB";
    }
}

/// On-demand paging, by transport (bits of `enum ibv_odp_transport_cap_bits`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OdpCaps {
    /// Bit 0: supported at all; bit 1: implicit regions too.
    pub general: u64,
    /// Reliable connections.
    pub rc: u32,
    /// Unreliable connections.
    pub uc: u32,
    /// Unreliable datagrams.
    pub ud: u32,
    /// Extended reliable connections.
    pub xrc: u32,
}

/// Receive side scaling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RssCaps {
    /// Queue pair types that can have it (a bit for each type).
    pub supported_qpts: u32,
    /// Indirection tables.
    pub max_rwq_indirection_tables: u32,
    /// Receive work queues in a table.
    pub max_rwq_indirection_table_size: u32,
}

/// Tag matching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TmCaps {
    /// Bytes of a rendezvous request's header.
    pub max_rndv_hdr_size: u32,
    /// Tagged buffers in a list.
    pub max_num_tags: u32,
    /// What is offered (bits of `enum ibv_tm_cap_flags`).
    pub flags: u32,
    /// Outstanding list operations.
    pub max_ops: u32,
    /// Elements of a request.
    pub max_sge: u32,
}

/// A device's identity and limits. Fields are those of `ibv_query_device_ex(3)`; a number of things is the most there can be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DeviceAttr {
    /// What its driver says besides.
    pub driver: DriverCaps,
    /// The firmware's version as its driver's users write it, mostly `major.minor.sub`.
    pub fw_ver: String,
    /// The node's GUID.
    pub node_guid: Guid,
    /// The GUID of the system that the node is part of.
    pub sys_image_guid: Guid,
    /// Bytes of a region.
    pub max_mr_size: u64,
    /// Page sizes that the device can map (a bit for each).
    pub page_size_cap: u64,
    /// The vendor's IEEE identifier.
    pub vendor_id: u32,
    /// The vendor's number for the device.
    pub vendor_part_id: u32,
    /// The hardware's version.
    pub hw_ver: u32,
    /// Queue pairs.
    pub max_qp: u32,
    /// Outstanding requests of a queue.
    pub max_qp_wr: u32,
    /// What the device can do (bits of `enum ibv_device_cap_flags`).
    pub device_cap_flags: u32,
    /// Elements of a receive of a tag-matching queue.
    pub max_sge: u32,
    /// Elements of an RDMA read.
    pub max_sge_rd: u32,
    /// Completion queues.
    pub max_cq: u32,
    /// Entries of a completion queue.
    pub max_cqe: u32,
    /// Regions.
    pub max_mr: u32,
    /// Protection domains.
    pub max_pd: u32,
    /// Reads and atomics of a peer that a queue pair can have outstanding.
    pub max_qp_rd_atom: u32,
    /// The same of an end-to-end context.
    pub max_ee_rd_atom: u32,
    /// Reads and atomics of all peers that the device can have outstanding.
    pub max_res_rd_atom: u32,
    /// Reads and atomics that a queue pair can have outstanding itself.
    pub max_qp_init_rd_atom: u32,
    /// The same of an end-to-end context.
    pub max_ee_init_rd_atom: u32,
    /// Which atomic operations exclude each other.
    pub atomic_cap: AtomicCap,
    /// End-to-end contexts.
    pub max_ee: u32,
    /// Reliable datagram domains.
    pub max_rdd: u32,
    /// Memory windows.
    pub max_mw: u32,
    /// Raw IPv6 queue pairs.
    pub max_raw_ipv6_qp: u32,
    /// Raw Ethertype queue pairs.
    pub max_raw_ethy_qp: u32,
    /// Multicast groups.
    pub max_mcast_grp: u32,
    /// Queue pairs in a multicast group.
    pub max_mcast_qp_attach: u32,
    /// Queue pairs in all multicast groups.
    pub max_total_mcast_qp_attach: u32,
    /// Address handles.
    pub max_ah: u32,
    /// Fast memory regions, which later kernels do not have.
    pub max_fmr: u32,
    /// Mappings of a fast memory region before it must be unmapped.
    pub max_map_per_fmr: u32,
    /// Shared receive queues.
    pub max_srq: u32,
    /// Outstanding requests of a shared receive queue.
    pub max_srq_wr: u32,
    /// Elements of a shared receive queue's request.
    pub max_srq_sge: u32,
    /// Partitions.
    pub max_pkeys: u16,
    /// How long the device may take to acknowledge: 4.096 µs · 2^delay.
    pub local_ca_ack_delay: u8,
    /// Ports.
    pub phys_port_cnt: u8,
    /// On-demand paging.
    pub odp: OdpCaps,
    /// Bits of a completion's timestamp that count; 0 where there are no timestamps.
    pub completion_timestamp_mask: u64,
    /// The clock of timestamps in kHz; 0 where there is no clock.
    pub hca_core_clock: u64,
    /// The same as `device_cap_flags`, with those that need more bits.
    pub device_cap_flags_ex: u64,
    /// Receive side scaling.
    pub rss: RssCaps,
    /// Receive work queues.
    pub max_wq_type_rq: u32,
    /// What raw packet queue pairs can do (bits of `enum ibv_raw_packet_caps`).
    pub raw_packet_caps: u32,
    /// Tag matching.
    pub tm: TmCaps,
    /// Completions for one event.
    pub max_cq_moderation_count: u16,
    /// Microseconds until an event for fewer.
    pub max_cq_moderation_period: u16,
    /// Bytes of device memory that a program can have.
    pub max_dm_size: u64,
}

impl DeviceAttr {
    /// What the kernel said of a device, with what its driver says besides.
    pub(super) fn new(driver: DriverId, raw: &ExQueryDeviceResp, caps: DriverCaps) -> Self {
        let base = &raw.base;
        Self {
            driver: caps,
            fw_ver: firmware::version(driver, base.fw_ver),
            node_guid: Guid(base.node_guid),
            sys_image_guid: Guid(base.sys_image_guid),
            max_mr_size: base.max_mr_size,
            page_size_cap: base.page_size_cap,
            vendor_id: base.vendor_id,
            vendor_part_id: base.vendor_part_id,
            hw_ver: base.hw_ver,
            max_qp: base.max_qp,
            max_qp_wr: base.max_qp_wr,
            device_cap_flags: base.device_cap_flags,
            max_sge: base.max_sge,
            max_sge_rd: base.max_sge_rd,
            max_cq: base.max_cq,
            max_cqe: base.max_cqe,
            max_mr: base.max_mr,
            max_pd: base.max_pd,
            max_qp_rd_atom: base.max_qp_rd_atom,
            max_ee_rd_atom: base.max_ee_rd_atom,
            max_res_rd_atom: base.max_res_rd_atom,
            max_qp_init_rd_atom: base.max_qp_init_rd_atom,
            max_ee_init_rd_atom: base.max_ee_init_rd_atom,
            atomic_cap: base.atomic_cap.into(),
            max_ee: base.max_ee,
            max_rdd: base.max_rdd,
            max_mw: base.max_mw,
            max_raw_ipv6_qp: base.max_raw_ipv6_qp,
            max_raw_ethy_qp: base.max_raw_ethy_qp,
            max_mcast_grp: base.max_mcast_grp,
            max_mcast_qp_attach: base.max_mcast_qp_attach,
            max_total_mcast_qp_attach: base.max_total_mcast_qp_attach,
            max_ah: base.max_ah,
            max_fmr: base.max_fmr,
            max_map_per_fmr: base.max_map_per_fmr,
            max_srq: base.max_srq,
            max_srq_wr: base.max_srq_wr,
            max_srq_sge: base.max_srq_sge,
            max_pkeys: base.max_pkeys,
            local_ca_ack_delay: base.local_ca_ack_delay,
            phys_port_cnt: base.phys_port_cnt,
            odp: OdpCaps {
                general: raw.odp_caps.general_caps,
                rc: raw.odp_caps.rc_odp_caps,
                uc: raw.odp_caps.uc_odp_caps,
                ud: raw.odp_caps.ud_odp_caps,
                xrc: raw.xrc_odp_caps,
            },
            completion_timestamp_mask: raw.timestamp_mask,
            hca_core_clock: raw.hca_core_clock,
            device_cap_flags_ex: raw.device_cap_flags_ex,
            rss: RssCaps {
                supported_qpts: raw.rss_caps.supported_qpts,
                max_rwq_indirection_tables: raw.rss_caps.max_rwq_indirection_tables,
                max_rwq_indirection_table_size: raw.rss_caps.max_rwq_indirection_table_size,
            },
            max_wq_type_rq: raw.max_wq_type_rq,
            raw_packet_caps: raw.raw_packet_caps,
            tm: TmCaps {
                max_rndv_hdr_size: raw.tm_caps.max_rndv_hdr_size,
                max_num_tags: raw.tm_caps.max_num_tags,
                flags: raw.tm_caps.flags,
                max_ops: raw.tm_caps.max_ops,
                max_sge: raw.tm_caps.max_sge,
            },
            max_cq_moderation_count: raw.cq_moderation_caps.max_cq_moderation_count,
            max_cq_moderation_period: raw.cq_moderation_caps.max_cq_moderation_period,
            max_dm_size: raw.max_dm_size,
        }
    }
}

/// A port's state and limits. Fields are those of `ibv_query_port(3)`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PortAttr {
    /// The logical state.
    pub state: PortState,
    /// The largest MTU that the port can have.
    pub max_mtu: Mtu,
    /// The MTU that it has.
    pub active_mtu: Mtu,
    /// Entries of the GID table, used or not.
    pub gid_tbl_len: u32,
    /// What the port can do (bits of `enum ibv_port_cap_flags`).
    pub port_cap_flags: u32,
    /// More of that (bits of `enum ibv_port_cap_flags2`).
    pub port_cap_flags2: u16,
    /// Bytes of a message.
    pub max_msg_sz: u32,
    /// Packets with a bad partition key.
    pub bad_pkey_cntr: u32,
    /// Datagrams with a bad queue key.
    pub qkey_viol_cntr: u32,
    /// Entries of the partition key table.
    pub pkey_tbl_len: u16,
    /// The port's LID; 0 on Ethernet.
    pub lid: Lid,
    /// The subnet manager's LID.
    pub sm_lid: Lid,
    /// How many low bits of the LID do not count.
    pub lmc: u8,
    /// Virtual lanes (a code, not a number).
    pub max_vl_num: u8,
    /// The service level of the subnet manager.
    pub sm_sl: u8,
    /// How long a packet may take through the subnet: 4.096 µs · 2^timeout.
    pub subnet_timeout: u8,
    /// How the subnet manager set the port up.
    pub init_type_reply: u8,
    /// Lanes: 1 is 1X, 2 is 4X, 4 is 8X, 8 is 12X, 16 is 2X.
    pub active_width: u8,
    /// 1 is SDR, 2 is DDR, 4 is QDR, 8 is FDR10, 16 is FDR, 32 is EDR, 64 is HDR, 128 is NDR.
    pub active_speed: u8,
    /// The physical state.
    pub phys_state: PhysState,
    /// What the link is made of.
    pub link_layer: LinkLayer,
    /// Every packet needs a global routing header, so every address a GID.
    pub grh_required: bool,
}

impl From<&QueryPortRespEx> for PortAttr {
    fn from(raw: &QueryPortRespEx) -> Self {
        let port = &raw.legacy_resp;
        Self {
            state: port.state.into(),
            max_mtu: port.max_mtu.into(),
            active_mtu: port.active_mtu.into(),
            gid_tbl_len: port.gid_tbl_len,
            port_cap_flags: port.port_cap_flags,
            port_cap_flags2: raw.port_cap_flags2,
            max_msg_sz: port.max_msg_sz,
            bad_pkey_cntr: port.bad_pkey_cntr,
            qkey_viol_cntr: port.qkey_viol_cntr,
            pkey_tbl_len: port.pkey_tbl_len,
            lid: Lid(port.lid),
            sm_lid: Lid(port.sm_lid),
            lmc: port.lmc,
            max_vl_num: port.max_vl_num,
            sm_sl: port.sm_sl,
            subnet_timeout: port.subnet_timeout,
            init_type_reply: port.init_type_reply,
            active_width: port.active_width,
            active_speed: port.active_speed,
            phys_state: port.phys_state.into(),
            // A driver that says nothing is an InfiniBand one.
            link_layer: match port.link_layer.into() {
                LinkLayer::UNSPECIFIED => LinkLayer::INFINIBAND,
                known => known,
            },
            grh_required: port.flags & 1 != 0,
        }
    }
}
