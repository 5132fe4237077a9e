//! `rdma/rdma_user_cm.h`: the commands of /dev/infiniband/rdma_cm, and a structure of `rdma/ib_user_verbs.h` that only they use.
//!
//! Addresses are `struct sockaddr`s in 128 bytes, aligned to 8.

use super::verbs::AhAttr;
use super::{uapi_numbers, uapi_structs};

uapi_numbers! {
    u32 {
        RDMA_USER_CM_CMD_CREATE_ID = 0,
        RDMA_USER_CM_CMD_DESTROY_ID = 1,
        RDMA_USER_CM_CMD_RESOLVE_ROUTE = 4,
        RDMA_USER_CM_CMD_CONNECT = 6,
        RDMA_USER_CM_CMD_LISTEN = 7,
        RDMA_USER_CM_CMD_ACCEPT = 8,
        RDMA_USER_CM_CMD_REJECT = 9,
        RDMA_USER_CM_CMD_DISCONNECT = 10,
        RDMA_USER_CM_CMD_INIT_QP_ATTR = 11,
        RDMA_USER_CM_CMD_GET_EVENT = 12,
        RDMA_USER_CM_CMD_SET_OPTION = 14,
        RDMA_USER_CM_CMD_NOTIFY = 15,
        RDMA_USER_CM_CMD_QUERY = 19,
        RDMA_USER_CM_CMD_BIND = 20,
        RDMA_USER_CM_CMD_RESOLVE_ADDR = 21,

        RDMA_USER_CM_QUERY_ADDR = 0,

        RDMA_OPTION_ID = 0,
        RDMA_OPTION_ID_TOS = 0,
        RDMA_OPTION_ID_REUSEADDR = 1,
        RDMA_OPTION_ID_AFONLY = 2,
        RDMA_OPTION_ID_ACK_TIMEOUT = 3,
    }
    u16 {
        RDMA_PS_IPOIB = 0x0002,
        RDMA_PS_IB = 0x013f,
        RDMA_PS_TCP = 0x0106,
        RDMA_PS_UDP = 0x0111,
    }
    u64 {
        RDMA_USER_CM_ABI_VERSION = 4,
    }
    usize {
        RDMA_MAX_PRIVATE_DATA = 256,
    }
}

/// A `struct __kernel_sockaddr_storage`.
pub type SockaddrStorage = [u64; 16];

uapi_structs! {
    /// Before every command; `in_bytes` and `out_bytes` do not count it.
    struct CmdHdr = "struct rdma_ucm_cmd_hdr" { cmd: u32, in_bytes: u16 = "in", out_bytes: u16 = "out" }

    struct CreateId = "struct rdma_ucm_create_id" {
        uid: u64,
        response: u64,
        ps: u16,
        qp_type: u8,
        reserved: [u8; 5],
    }

    struct CreateIdResp = "struct rdma_ucm_create_id_resp" { id: u32 }

    struct DestroyId = "struct rdma_ucm_destroy_id" { response: u64, id: u32, reserved: u32 }

    struct DestroyIdResp = "struct rdma_ucm_destroy_id_resp" { events_reported: u32 }

    struct Bind = "struct rdma_ucm_bind" { id: u32, addr_size: u16, reserved: u16, addr: SockaddrStorage }

    struct ResolveAddr = "struct rdma_ucm_resolve_addr" {
        id: u32,
        timeout_ms: u32,
        src_size: u16,
        dst_size: u16,
        reserved: u32,
        src_addr: SockaddrStorage,
        dst_addr: SockaddrStorage,
    }

    struct ResolveRoute = "struct rdma_ucm_resolve_route" { id: u32, timeout_ms: u32 }

    struct Query = "struct rdma_ucm_query" { response: u64, id: u32, option: u32 }

    /// The GUID and the key are in network order.
    struct QueryAddrResp = "struct rdma_ucm_query_addr_resp" {
        node_guid: [u8; 8],
        port_num: u8,
        reserved: u8,
        pkey: u16,
        src_size: u16,
        dst_size: u16,
        src_addr: SockaddrStorage,
        dst_addr: SockaddrStorage,
        ibdev_index: u32,
        reserved1: u32,
    }

    struct ConnParam = "struct rdma_ucm_conn_param" {
        qp_num: u32,
        qkey: u32,
        private_data: [u8; RDMA_MAX_PRIVATE_DATA],
        private_data_len: u8,
        srq: u8,
        responder_resources: u8,
        initiator_depth: u8,
        flow_control: u8,
        retry_count: u8,
        rnr_retry_count: u8,
        valid: u8,
    }

    struct UdParam = "struct rdma_ucm_ud_param" {
        qp_num: u32,
        qkey: u32,
        ah_attr: AhAttr,
        private_data: [u8; RDMA_MAX_PRIVATE_DATA],
        private_data_len: u8,
        reserved: [u8; 7],
    }

    struct Ece = "struct rdma_ucm_ece" { vendor_id: u32, attr_mod: u32 }

    struct Connect = "struct rdma_ucm_connect" { conn_param: ConnParam, id: u32, reserved: u32, ece: Ece }

    struct Listen = "struct rdma_ucm_listen" { id: u32, backlog: u32 }

    struct Accept = "struct rdma_ucm_accept" {
        uid: u64,
        conn_param: ConnParam,
        id: u32,
        reserved: u32,
        ece: Ece,
    }

    struct Reject = "struct rdma_ucm_reject" {
        id: u32,
        private_data_len: u8,
        reason: u8,
        reserved: [u8; 2],
        private_data: [u8; RDMA_MAX_PRIVATE_DATA],
    }

    struct Disconnect = "struct rdma_ucm_disconnect" { id: u32 }

    struct InitQpAttr = "struct rdma_ucm_init_qp_attr" { response: u64, id: u32, qp_state: u32 }

    /// The answer to [`InitQpAttr`].
    struct QpAttr = "struct ib_uverbs_qp_attr" {
        qp_attr_mask: u32,
        qp_state: u32,
        cur_qp_state: u32,
        path_mtu: u32,
        path_mig_state: u32,
        qkey: u32,
        rq_psn: u32,
        sq_psn: u32,
        dest_qp_num: u32,
        qp_access_flags: u32,
        ah_attr: AhAttr,
        alt_ah_attr: AhAttr,
        max_send_wr: u32,
        max_recv_wr: u32,
        max_send_sge: u32,
        max_recv_sge: u32,
        max_inline_data: u32,
        pkey_index: u16,
        alt_pkey_index: u16,
        en_sqd_async_notify: u8,
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
        reserved: [u8; 5],
    }

    struct Notify = "struct rdma_ucm_notify" { id: u32, event: u32 }

    struct GetEvent = "struct rdma_ucm_get_event" { response: u64 }

    /// `param` is a [`UdParam`] or, at its beginning, a [`ConnParam`].
    struct EventResp = "struct rdma_ucm_event_resp" {
        uid: u64,
        id: u32,
        event: u32,
        status: u32,
        param: [u32; size_of::<UdParam>() / 4],
        reserved: u32,
        ece: Ece,
    }

    struct SetOption = "struct rdma_ucm_set_option" {
        optval: u64,
        id: u32,
        level: u32,
        optname: u32,
        optlen: u32,
    }
}
