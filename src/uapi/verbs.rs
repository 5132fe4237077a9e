//! `rdma/ib_user_verbs.h`: the legacy commands, which travel by `write()` or inside an ioctl.

use super::{uapi_numbers, uapi_structs};

uapi_numbers! {
    u32 {
        IB_USER_VERBS_CMD_GET_CONTEXT = 0,
        IB_USER_VERBS_CMD_QUERY_DEVICE = 1,
        IB_USER_VERBS_CMD_QUERY_PORT = 2,
        IB_USER_VERBS_CMD_ALLOC_PD = 3,
        IB_USER_VERBS_CMD_DEALLOC_PD = 4,
        IB_USER_VERBS_CMD_CREATE_AH = 5,
        IB_USER_VERBS_CMD_DESTROY_AH = 8,
        IB_USER_VERBS_CMD_REG_MR = 9,
        IB_USER_VERBS_CMD_REREG_MR = 11,
        IB_USER_VERBS_CMD_DEREG_MR = 13,
        IB_USER_VERBS_CMD_ALLOC_MW = 14,
        IB_USER_VERBS_CMD_DEALLOC_MW = 16,
        IB_USER_VERBS_CMD_CREATE_COMP_CHANNEL = 17,
        IB_USER_VERBS_CMD_CREATE_CQ = 18,
        IB_USER_VERBS_CMD_RESIZE_CQ = 19,
        IB_USER_VERBS_CMD_DESTROY_CQ = 20,
        IB_USER_VERBS_CMD_REQ_NOTIFY_CQ = 23,
        IB_USER_VERBS_CMD_CREATE_QP = 24,
        IB_USER_VERBS_CMD_QUERY_QP = 25,
        IB_USER_VERBS_CMD_MODIFY_QP = 26,
        IB_USER_VERBS_CMD_DESTROY_QP = 27,
        IB_USER_VERBS_CMD_POST_SEND = 28,
        IB_USER_VERBS_CMD_ATTACH_MCAST = 30,
        IB_USER_VERBS_CMD_DETACH_MCAST = 31,
        IB_USER_VERBS_CMD_CREATE_SRQ = 32,
        IB_USER_VERBS_CMD_MODIFY_SRQ = 33,
        IB_USER_VERBS_CMD_QUERY_SRQ = 34,
        IB_USER_VERBS_CMD_DESTROY_SRQ = 35,
        IB_USER_VERBS_CMD_OPEN_XRCD = 37,
        IB_USER_VERBS_CMD_CLOSE_XRCD = 38,
        IB_USER_VERBS_CMD_CREATE_XSRQ = 39,
        IB_USER_VERBS_EX_CMD_QUERY_DEVICE = 1,
        IB_USER_VERBS_EX_CMD_CREATE_CQ = 18,
        IB_USER_VERBS_CMD_FLAG_EXTENDED = 0x8000_0000,
    }
    u32 {
        IB_UVERBS_CQ_FLAGS_TIMESTAMP_COMPLETION = 1 << 0,
        IB_UVERBS_DEVICE_SRQ_RESIZE = 1 << 13,
        IB_UVERBS_DEVICE_XRC = 1 << 20,
        IB_UVERBS_WC_SEND = 0,
        IB_UVERBS_WC_RDMA_WRITE = 1,
        IB_UVERBS_WC_RDMA_READ = 2,
        IB_UVERBS_WC_COMP_SWAP = 3,
        IB_UVERBS_WC_FETCH_ADD = 4,
        IB_UVERBS_WC_BIND_MW = 5,
        IB_UVERBS_WC_LOCAL_INV = 6,
        IB_UVERBS_WR_RDMA_WRITE = 0,
        IB_UVERBS_WR_RDMA_WRITE_WITH_IMM = 1,
        IB_UVERBS_WR_SEND = 2,
        IB_UVERBS_WR_SEND_WITH_IMM = 3,
        IB_UVERBS_WR_RDMA_READ = 4,
        IB_UVERBS_WR_ATOMIC_CMP_AND_SWP = 5,
        IB_UVERBS_WR_ATOMIC_FETCH_AND_ADD = 6,
        IB_UVERBS_WR_LOCAL_INV = 7,
        IB_UVERBS_WR_BIND_MW = 8,
        IB_UVERBS_WR_SEND_WITH_INV = 9,
    }
}

uapi_structs! {
    /// What the async event file delivers.
    struct AsyncEventDesc = "struct ib_uverbs_async_event_desc" { element: u64, event_type: u32, reserved: u32 }

    /// What a completion channel delivers.
    struct CompEventDesc = "struct ib_uverbs_comp_event_desc" { cq_handle: u64 }

    /// Stands before every command sent by `write()`; lengths count 32-bit words (64-bit ones when extended).
    struct CmdHdr = "struct ib_uverbs_cmd_hdr" { command: u32, in_words: u16, out_words: u16 }

    /// Follows [`CmdHdr`] in extended commands; lengths count 64-bit words.
    struct ExCmdHdr = "struct ib_uverbs_ex_cmd_hdr" {
        response: u64, provider_in_words: u16, provider_out_words: u16, cmd_hdr_reserved: u32,
    }

    struct GetContext = "struct ib_uverbs_get_context" { response: u64 }

    struct GetContextResp = "struct ib_uverbs_get_context_resp" { async_fd: u32, num_comp_vectors: u32, driver_data: [u64; 0] = _ }

    struct QueryDevice = "struct ib_uverbs_query_device" { response: u64 }

    /// GUIDs are big-endian.
    struct QueryDeviceResp = "struct ib_uverbs_query_device_resp" {
        fw_ver: u64,
        node_guid: [u8; 8],
        sys_image_guid: [u8; 8],
        max_mr_size: u64,
        page_size_cap: u64,
        vendor_id: u32,
        vendor_part_id: u32,
        hw_ver: u32,
        max_qp: u32,
        max_qp_wr: u32,
        device_cap_flags: u32,
        max_sge: u32,
        max_sge_rd: u32,
        max_cq: u32,
        max_cqe: u32,
        max_mr: u32,
        max_pd: u32,
        max_qp_rd_atom: u32,
        max_ee_rd_atom: u32,
        max_res_rd_atom: u32,
        max_qp_init_rd_atom: u32,
        max_ee_init_rd_atom: u32,
        atomic_cap: u32,
        max_ee: u32,
        max_rdd: u32,
        max_mw: u32,
        max_raw_ipv6_qp: u32,
        max_raw_ethy_qp: u32,
        max_mcast_grp: u32,
        max_mcast_qp_attach: u32,
        max_total_mcast_qp_attach: u32,
        max_ah: u32,
        max_fmr: u32,
        max_map_per_fmr: u32,
        max_srq: u32,
        max_srq_wr: u32,
        max_srq_sge: u32,
        max_pkeys: u16,
        local_ca_ack_delay: u8,
        phys_port_cnt: u8,
        reserved: [u8; 4],
    }

    struct ExQueryDevice = "struct ib_uverbs_ex_query_device" { comp_mask: u32, reserved: u32 }

    struct OdpCaps = "struct ib_uverbs_odp_caps" {
        general_caps: u64,
        rc_odp_caps: u32 = "per_transport_caps.rc_odp_caps",
        uc_odp_caps: u32 = "per_transport_caps.uc_odp_caps",
        ud_odp_caps: u32 = "per_transport_caps.ud_odp_caps",
        reserved: u32,
    }

    struct RssCaps = "struct ib_uverbs_rss_caps" {
        supported_qpts: u32,
        max_rwq_indirection_tables: u32,
        max_rwq_indirection_table_size: u32,
        reserved: u32,
    }

    struct TmCaps = "struct ib_uverbs_tm_caps" {
        max_rndv_hdr_size: u32, max_num_tags: u32, flags: u32, max_ops: u32, max_sge: u32, reserved: u32,
    }

    struct CqModerationCaps = "struct ib_uverbs_cq_moderation_caps" {
        max_cq_moderation_count: u16, max_cq_moderation_period: u16, reserved: u32,
    }

    struct ExQueryDeviceResp = "struct ib_uverbs_ex_query_device_resp" {
        base: QueryDeviceResp,
        comp_mask: u32,
        response_length: u32,
        odp_caps: OdpCaps,
        timestamp_mask: u64,
        hca_core_clock: u64,
        device_cap_flags_ex: u64,
        rss_caps: RssCaps,
        max_wq_type_rq: u32,
        raw_packet_caps: u32,
        tm_caps: TmCaps,
        cq_moderation_caps: CqModerationCaps,
        max_dm_size: u64,
        xrc_odp_caps: u32,
        reserved: u32,
    }

    struct QueryPort = "struct ib_uverbs_query_port" { response: u64, port_num: u8, reserved: [u8; 7] }

    struct QueryPortResp = "struct ib_uverbs_query_port_resp" {
        port_cap_flags: u32,
        max_msg_sz: u32,
        bad_pkey_cntr: u32,
        qkey_viol_cntr: u32,
        gid_tbl_len: u32,
        pkey_tbl_len: u16,
        lid: u16,
        sm_lid: u16,
        state: u8,
        max_mtu: u8,
        active_mtu: u8,
        lmc: u8,
        max_vl_num: u8,
        sm_sl: u8,
        subnet_timeout: u8,
        init_type_reply: u8,
        active_width: u8,
        active_speed: u8,
        phys_state: u8,
        link_layer: u8,
        flags: u8,
        reserved: u8,
    }

    struct AllocPd = "struct ib_uverbs_alloc_pd" { response: u64 }

    struct AllocPdResp = "struct ib_uverbs_alloc_pd_resp" { pd_handle: u32 }

    struct DeallocPd = "struct ib_uverbs_dealloc_pd" { pd_handle: u32 }

    struct RegMr = "struct ib_uverbs_reg_mr" {
        response: u64, start: u64, length: u64, hca_va: u64, pd_handle: u32, access_flags: u32,
    }

    struct RegMrResp = "struct ib_uverbs_reg_mr_resp" { mr_handle: u32, lkey: u32, rkey: u32 }

    struct ReregMr = "struct ib_uverbs_rereg_mr" {
        response: u64,
        mr_handle: u32,
        flags: u32,
        start: u64,
        length: u64,
        hca_va: u64,
        pd_handle: u32,
        access_flags: u32,
        driver_data: [u64; 0] = _,
    }

    struct ReregMrResp = "struct ib_uverbs_rereg_mr_resp" { lkey: u32, rkey: u32, driver_data: [u64; 0] = _ }

    struct DeregMr = "struct ib_uverbs_dereg_mr" { mr_handle: u32 }

    struct AllocMw = "struct ib_uverbs_alloc_mw" {
        response: u64, pd_handle: u32, mw_type: u8, reserved: [u8; 3],
    }

    struct AllocMwResp = "struct ib_uverbs_alloc_mw_resp" { mw_handle: u32, rkey: u32, driver_data: [u64; 0] = _ }

    struct DeallocMw = "struct ib_uverbs_dealloc_mw" { mw_handle: u32 }

    struct CreateCompChannel = "struct ib_uverbs_create_comp_channel" { response: u64 }

    struct CreateCompChannelResp = "struct ib_uverbs_create_comp_channel_resp" { fd: u32 }

    struct CreateCq = "struct ib_uverbs_create_cq" {
        response: u64,
        user_handle: u64,
        cqe: u32,
        comp_vector: u32,
        comp_channel: i32,
        reserved: u32,
    }

    struct CreateCqResp = "struct ib_uverbs_create_cq_resp" { cq_handle: u32, cqe: u32, driver_data: [u64; 0] = _ }

    struct ExCreateCq = "struct ib_uverbs_ex_create_cq" {
        user_handle: u64,
        cqe: u32,
        comp_vector: u32,
        comp_channel: i32,
        comp_mask: u32,
        flags: u32,
        reserved: u32,
    }

    struct ExCreateCqResp = "struct ib_uverbs_ex_create_cq_resp" {
        base: CreateCqResp, comp_mask: u32, response_length: u32,
    }

    struct ResizeCq = "struct ib_uverbs_resize_cq" { response: u64, cq_handle: u32, cqe: u32 }

    struct ResizeCqResp = "struct ib_uverbs_resize_cq_resp" { cqe: u32, reserved: u32, driver_data: [u64; 0] = _ }

    /// A completion as rxe writes it into a user's CQ. Immediate data is big-endian.
    struct Wc = "struct ib_uverbs_wc" {
        wr_id: u64,
        status: u32,
        opcode: u32,
        vendor_err: u32,
        byte_len: u32,
        ex: u32 = "ex.imm_data",
        qp_num: u32,
        src_qp: u32,
        wc_flags: u32,
        pkey_index: u16,
        slid: u16,
        sl: u8,
        dlid_path_bits: u8,
        port_num: u8,
        reserved: u8,
    }

    struct ReqNotifyCq = "struct ib_uverbs_req_notify_cq" { cq_handle: u32, solicited_only: u32 }

    struct DestroyCq = "struct ib_uverbs_destroy_cq" { response: u64, cq_handle: u32, reserved: u32 }

    struct DestroyCqResp = "struct ib_uverbs_destroy_cq_resp" {
        comp_events_reported: u32, async_events_reported: u32,
    }

    struct CreateQp = "struct ib_uverbs_create_qp" {
        response: u64,
        user_handle: u64,
        pd_handle: u32,
        send_cq_handle: u32,
        recv_cq_handle: u32,
        srq_handle: u32,
        max_send_wr: u32,
        max_recv_wr: u32,
        max_send_sge: u32,
        max_recv_sge: u32,
        max_inline_data: u32,
        sq_sig_all: u8,
        qp_type: u8,
        is_srq: u8,
        reserved: u8,
    }

    struct CreateQpResp = "struct ib_uverbs_create_qp_resp" {
        qp_handle: u32,
        qpn: u32,
        max_send_wr: u32,
        max_recv_wr: u32,
        max_send_sge: u32,
        max_recv_sge: u32,
        max_inline_data: u32,
        reserved: u32,
    }

    /// An address vector inside QP commands.
    struct QpDest = "struct ib_uverbs_qp_dest" {
        dgid: [u8; 16],
        flow_label: u32,
        dlid: u16,
        reserved: u16,
        sgid_index: u8,
        hop_limit: u8,
        traffic_class: u8,
        sl: u8,
        src_path_bits: u8,
        static_rate: u8,
        is_global: u8,
        port_num: u8,
    }

    struct QueryQp = "struct ib_uverbs_query_qp" { response: u64, qp_handle: u32, attr_mask: u32 }

    struct QueryQpResp = "struct ib_uverbs_query_qp_resp" {
        dest: QpDest,
        alt_dest: QpDest,
        max_send_wr: u32,
        max_recv_wr: u32,
        max_send_sge: u32,
        max_recv_sge: u32,
        max_inline_data: u32,
        qkey: u32,
        rq_psn: u32,
        sq_psn: u32,
        dest_qp_num: u32,
        qp_access_flags: u32,
        pkey_index: u16,
        alt_pkey_index: u16,
        qp_state: u8,
        cur_qp_state: u8,
        path_mtu: u8,
        path_mig_state: u8,
        sq_draining: u8,
        max_rd_atomic: u8,
        max_dest_rd_atomic: u8,
        min_rnr_timer: u8,
        port_num: u8,
        timeout: u8,
        retry_cnt: u8,
        rnr_retry: u8,
        alt_port_num: u8,
        alt_timeout: u8,
        sq_sig_all: u8,
        reserved: [u8; 5],
        driver_data: [u64; 0] = _,
    }

    struct ModifyQp = "struct ib_uverbs_modify_qp" {
        dest: QpDest,
        alt_dest: QpDest,
        qp_handle: u32,
        attr_mask: u32,
        qkey: u32,
        rq_psn: u32,
        sq_psn: u32,
        dest_qp_num: u32,
        qp_access_flags: u32,
        pkey_index: u16,
        alt_pkey_index: u16,
        qp_state: u8,
        cur_qp_state: u8,
        path_mtu: u8,
        path_mig_state: u8,
        en_sqd_async_notify: u8,
        max_rd_atomic: u8,
        max_dest_rd_atomic: u8,
        min_rnr_timer: u8,
        port_num: u8,
        timeout: u8,
        retry_cnt: u8,
        rnr_retry: u8,
        alt_port_num: u8,
        alt_timeout: u8,
        reserved: [u8; 2],
        driver_data: [u64; 0] = _,
    }

    struct DestroyQp = "struct ib_uverbs_destroy_qp" { response: u64, qp_handle: u32, reserved: u32 }

    struct DestroyQpResp = "struct ib_uverbs_destroy_qp_resp" { events_reported: u32 }

    /// On rxe this command with no work request in it is the send doorbell.
    struct PostSend = "struct ib_uverbs_post_send" {
        response: u64, qp_handle: u32, wr_count: u32, sge_count: u32, wqe_size: u32,
    }

    struct PostSendResp = "struct ib_uverbs_post_send_resp" { bad_wr: u32 }

    struct Sge = "struct ib_uverbs_sge" { addr: u64, length: u32, lkey: u32 }

    /// Only its size is used: the kernel wants to be told it in [`PostSend`].
    struct SendWr = "struct ib_uverbs_send_wr" {
        wr_id: u64,
        num_sge: u32,
        opcode: u32,
        send_flags: u32,
        ex: u32 = "ex.imm_data",
        remote_addr: u64 = "wr.atomic.remote_addr",
        compare_add: u64 = "wr.atomic.compare_add",
        swap: u64 = "wr.atomic.swap",
        rkey: u32 = "wr.atomic.rkey",
        reserved: u32 = "wr.atomic.reserved",
    }

    struct GlobalRoute = "struct ib_uverbs_global_route" {
        dgid: [u8; 16], flow_label: u32, sgid_index: u8, hop_limit: u8, traffic_class: u8, reserved: u8,
    }

    /// An address vector inside [`CreateAh`].
    struct AhAttr = "struct ib_uverbs_ah_attr" {
        grh: GlobalRoute,
        dlid: u16,
        sl: u8,
        src_path_bits: u8,
        static_rate: u8,
        is_global: u8,
        port_num: u8,
        reserved: u8,
    }

    struct CreateAh = "struct ib_uverbs_create_ah" {
        response: u64,
        user_handle: u64,
        pd_handle: u32,
        reserved: u32,
        attr: AhAttr,
        driver_data: [u64; 0] = _,
    }

    struct CreateAhResp = "struct ib_uverbs_create_ah_resp" { ah_handle: u32, driver_data: [u32; 0] = _ }

    struct DestroyAh = "struct ib_uverbs_destroy_ah" { ah_handle: u32 }

    struct AttachMcast = "struct ib_uverbs_attach_mcast" {
        gid: [u8; 16], qp_handle: u32, mlid: u16, reserved: u16, driver_data: [u64; 0] = _,
    }

    struct DetachMcast = "struct ib_uverbs_detach_mcast" {
        gid: [u8; 16], qp_handle: u32, mlid: u16, reserved: u16, driver_data: [u64; 0] = _,
    }

    struct CreateSrq = "struct ib_uverbs_create_srq" {
        response: u64,
        user_handle: u64,
        pd_handle: u32,
        max_wr: u32,
        max_sge: u32,
        srq_limit: u32,
        driver_data: [u64; 0] = _,
    }

    struct CreateXsrq = "struct ib_uverbs_create_xsrq" {
        response: u64,
        user_handle: u64,
        srq_type: u32,
        pd_handle: u32,
        max_wr: u32,
        max_sge: u32,
        srq_limit: u32,
        max_num_tags: u32,
        xrcd_handle: u32,
        cq_handle: u32,
        driver_data: [u64; 0] = _,
    }

    struct CreateSrqResp = "struct ib_uverbs_create_srq_resp" {
        srq_handle: u32, max_wr: u32, max_sge: u32, srqn: u32, driver_data: [u32; 0] = _,
    }

    struct ModifySrq = "struct ib_uverbs_modify_srq" {
        srq_handle: u32, attr_mask: u32, max_wr: u32, srq_limit: u32, driver_data: [u64; 0] = _,
    }

    struct QuerySrq = "struct ib_uverbs_query_srq" {
        response: u64, srq_handle: u32, reserved: u32, driver_data: [u64; 0] = _,
    }

    struct QuerySrqResp = "struct ib_uverbs_query_srq_resp" {
        max_wr: u32, max_sge: u32, srq_limit: u32, reserved: u32,
    }

    struct DestroySrq = "struct ib_uverbs_destroy_srq" { response: u64, srq_handle: u32, reserved: u32 }

    struct DestroySrqResp = "struct ib_uverbs_destroy_srq_resp" { events_reported: u32 }

    /// `fd` is -1 for a domain that no file names.
    struct OpenXrcd = "struct ib_uverbs_open_xrcd" {
        response: u64, fd: u32, oflags: u32, driver_data: [u64; 0] = _,
    }

    struct OpenXrcdResp = "struct ib_uverbs_open_xrcd_resp" { xrcd_handle: u32, driver_data: [u32; 0] = _ }

    struct CloseXrcd = "struct ib_uverbs_close_xrcd" { xrcd_handle: u32 }
}
