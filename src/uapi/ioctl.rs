//! `rdma/rdma_user_ioctl_cmds.h`, `rdma/ib_user_ioctl_cmds.h` and `rdma/ib_user_ioctl_verbs.h`: commands as attributes of
//! one ioctl.

use super::{uapi_numbers, uapi_structs};

pub use cmds::*;
pub use verbs::*;

uapi_numbers! {
    u16 {
        UVERBS_ATTR_F_MANDATORY = 1,
        UVERBS_ATTR_F_VALID_OUTPUT = 2,
    }
}

uapi_structs! {
    /// Stands before the attributes; `length` covers both.
    struct IoctlHdr = "struct ib_uverbs_ioctl_hdr" {
        length: u16,
        object_id: u16,
        method_id: u16,
        num_attrs: u16,
        reserved1: u64,
        driver_id: u32,
        reserved2: u32,
    }

    /// One attribute: `data` is a value of up to eight bytes, an address, a handle or a file descriptor.
    struct IoctlAttr = "struct ib_uverbs_attr" {
        attr_id: u16, len: u16, flags: u16, reserved: u16 = "attr_data.reserved", data: u64,
    }
}

/// The numbers of `rdma/ib_user_ioctl_cmds.h`: objects, methods, attributes.
pub mod cmds {
    use super::super::uapi_numbers;

    uapi_numbers! {
        u16 {
            UVERBS_ATTR_UHW_IN = 0x1000,
            UVERBS_ATTR_UHW_OUT = 0x1001,
            UVERBS_OBJECT_DEVICE = 0,
            UVERBS_OBJECT_PD = 1,
            UVERBS_OBJECT_COMP_CHANNEL = 2,
            UVERBS_OBJECT_CQ = 3,
            UVERBS_OBJECT_QP = 4,
            UVERBS_OBJECT_SRQ = 5,
            UVERBS_OBJECT_AH = 6,
            UVERBS_OBJECT_MR = 7,
            UVERBS_OBJECT_MW = 8,
            UVERBS_OBJECT_XRCD = 10,
            UVERBS_OBJECT_ASYNC_EVENT = 16,
            UVERBS_METHOD_INVOKE_WRITE = 0,
            UVERBS_METHOD_QUERY_PORT = 2,
            UVERBS_METHOD_GET_CONTEXT = 3,
            UVERBS_METHOD_QUERY_GID_TABLE = 5,
            UVERBS_METHOD_CQ_CREATE = 0,
            UVERBS_METHOD_CQ_DESTROY = 1,
            UVERBS_METHOD_QP_CREATE = 0,
            UVERBS_METHOD_QP_DESTROY = 1,
            UVERBS_METHOD_SRQ_CREATE = 0,
            UVERBS_METHOD_SRQ_DESTROY = 1,
            UVERBS_METHOD_AH_DESTROY = 0,
            UVERBS_METHOD_XRCD_DESTROY = 0,
            UVERBS_METHOD_MR_DESTROY = 1,
            UVERBS_METHOD_ADVISE_MR = 2,
            UVERBS_METHOD_REG_DMABUF_MR = 4,
            UVERBS_METHOD_MW_DESTROY = 0,
            UVERBS_METHOD_PD_DESTROY = 0,
            UVERBS_METHOD_ASYNC_EVENT_ALLOC = 0,
            UVERBS_ATTR_CORE_IN = 0,
            UVERBS_ATTR_CORE_OUT = 1,
            UVERBS_ATTR_WRITE_CMD = 2,
            UVERBS_ATTR_QUERY_PORT_PORT_NUM = 0,
            UVERBS_ATTR_QUERY_PORT_RESP = 1,
            UVERBS_ATTR_GET_CONTEXT_NUM_COMP_VECTORS = 0,
            UVERBS_ATTR_GET_CONTEXT_CORE_SUPPORT = 1,
            UVERBS_ATTR_QUERY_GID_TABLE_ENTRY_SIZE = 0,
            UVERBS_ATTR_QUERY_GID_TABLE_FLAGS = 1,
            UVERBS_ATTR_QUERY_GID_TABLE_RESP_ENTRIES = 2,
            UVERBS_ATTR_QUERY_GID_TABLE_RESP_NUM_ENTRIES = 3,
            UVERBS_ATTR_CREATE_CQ_HANDLE = 0,
            UVERBS_ATTR_CREATE_CQ_CQE = 1,
            UVERBS_ATTR_CREATE_CQ_USER_HANDLE = 2,
            UVERBS_ATTR_CREATE_CQ_COMP_CHANNEL = 3,
            UVERBS_ATTR_CREATE_CQ_COMP_VECTOR = 4,
            UVERBS_ATTR_CREATE_CQ_FLAGS = 5,
            UVERBS_ATTR_CREATE_CQ_RESP_CQE = 6,
            UVERBS_ATTR_CREATE_CQ_EVENT_FD = 7,
            UVERBS_ATTR_DESTROY_CQ_HANDLE = 0,
            UVERBS_ATTR_DESTROY_CQ_RESP = 1,
            UVERBS_ATTR_CREATE_QP_HANDLE = 0,
            UVERBS_ATTR_CREATE_QP_XRCD_HANDLE = 1,
            UVERBS_ATTR_CREATE_QP_PD_HANDLE = 2,
            UVERBS_ATTR_CREATE_QP_SRQ_HANDLE = 3,
            UVERBS_ATTR_CREATE_QP_SEND_CQ_HANDLE = 4,
            UVERBS_ATTR_CREATE_QP_RECV_CQ_HANDLE = 5,
            UVERBS_ATTR_CREATE_QP_USER_HANDLE = 7,
            UVERBS_ATTR_CREATE_QP_CAP = 8,
            UVERBS_ATTR_CREATE_QP_TYPE = 9,
            UVERBS_ATTR_CREATE_QP_FLAGS = 10,
            UVERBS_ATTR_CREATE_QP_EVENT_FD = 12,
            UVERBS_ATTR_CREATE_QP_RESP_CAP = 13,
            UVERBS_ATTR_CREATE_QP_RESP_QP_NUM = 14,
            UVERBS_ATTR_DESTROY_QP_HANDLE = 0,
            UVERBS_ATTR_DESTROY_QP_RESP = 1,
            UVERBS_ATTR_CREATE_SRQ_HANDLE = 0,
            UVERBS_ATTR_CREATE_SRQ_PD_HANDLE = 1,
            UVERBS_ATTR_CREATE_SRQ_XRCD_HANDLE = 2,
            UVERBS_ATTR_CREATE_SRQ_CQ_HANDLE = 3,
            UVERBS_ATTR_CREATE_SRQ_USER_HANDLE = 4,
            UVERBS_ATTR_CREATE_SRQ_MAX_WR = 5,
            UVERBS_ATTR_CREATE_SRQ_MAX_SGE = 6,
            UVERBS_ATTR_CREATE_SRQ_LIMIT = 7,
            UVERBS_ATTR_CREATE_SRQ_TYPE = 9,
            UVERBS_ATTR_CREATE_SRQ_EVENT_FD = 10,
            UVERBS_ATTR_CREATE_SRQ_RESP_MAX_WR = 11,
            UVERBS_ATTR_CREATE_SRQ_RESP_MAX_SGE = 12,
            UVERBS_ATTR_CREATE_SRQ_RESP_SRQ_NUM = 13,
            UVERBS_ATTR_DESTROY_SRQ_HANDLE = 0,
            UVERBS_ATTR_DESTROY_SRQ_RESP = 1,
            UVERBS_ATTR_DESTROY_AH_HANDLE = 0,
            UVERBS_ATTR_DESTROY_XRCD_HANDLE = 0,
            UVERBS_ATTR_DESTROY_MR_HANDLE = 0,
            UVERBS_ATTR_ADVISE_MR_PD_HANDLE = 0,
            UVERBS_ATTR_ADVISE_MR_ADVICE = 1,
            UVERBS_ATTR_ADVISE_MR_FLAGS = 2,
            UVERBS_ATTR_ADVISE_MR_SGE_LIST = 3,
            UVERBS_ATTR_REG_DMABUF_MR_HANDLE = 0,
            UVERBS_ATTR_REG_DMABUF_MR_PD_HANDLE = 1,
            UVERBS_ATTR_REG_DMABUF_MR_OFFSET = 2,
            UVERBS_ATTR_REG_DMABUF_MR_LENGTH = 3,
            UVERBS_ATTR_REG_DMABUF_MR_IOVA = 4,
            UVERBS_ATTR_REG_DMABUF_MR_FD = 5,
            UVERBS_ATTR_REG_DMABUF_MR_ACCESS_FLAGS = 6,
            UVERBS_ATTR_REG_DMABUF_MR_RESP_LKEY = 7,
            UVERBS_ATTR_REG_DMABUF_MR_RESP_RKEY = 8,
            UVERBS_ATTR_DESTROY_PD_HANDLE = 0,
            UVERBS_ATTR_DESTROY_MW_HANDLE = 0,
            UVERBS_ATTR_ASYNC_EVENT_ALLOC_FD_HANDLE = 0,
        }
    }
}

/// The numbers and structures of `rdma/ib_user_ioctl_verbs.h`.
pub mod verbs {
    use super::super::verbs::QueryPortResp;
    use super::super::{uapi_numbers, uapi_structs};

    uapi_numbers! {
        u32 {
            IB_UVERBS_QP_CREATE_SQ_SIG_ALL = 1 << 12,
            IB_UVERBS_QPT_RC = 2,
            IB_UVERBS_QPT_UC = 3,
            IB_UVERBS_QPT_UD = 4,
            IB_UVERBS_QPT_XRC_INI = 9,
            IB_UVERBS_QPT_XRC_TGT = 10,
            IB_UVERBS_SRQT_BASIC = 0,
            IB_UVERBS_SRQT_XRC = 1,
            IB_UVERBS_ACCESS_LOCAL_WRITE = 1 << 0,
            IB_UVERBS_ACCESS_REMOTE_WRITE = 1 << 1,
            IB_UVERBS_ACCESS_REMOTE_READ = 1 << 2,
            IB_UVERBS_ACCESS_REMOTE_ATOMIC = 1 << 3,
            IB_UVERBS_ACCESS_MW_BIND = 1 << 4,
            IB_UVERBS_ACCESS_ZERO_BASED = 1 << 5,
            IB_UVERBS_ACCESS_ON_DEMAND = 1 << 6,
            IB_UVERBS_ACCESS_RELAXED_ORDERING = 1 << 20,
            IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE = 1,
            IB_UVERBS_ADVISE_MR_FLAG_FLUSH = 1,
            IB_UVERBS_GID_TYPE_IB = 0,
            IB_UVERBS_GID_TYPE_ROCE_V1 = 1,
            IB_UVERBS_GID_TYPE_ROCE_V2 = 2,
            RDMA_DRIVER_UNKNOWN = 0,
            RDMA_DRIVER_MLX4 = 2,
            RDMA_DRIVER_RXE = 14,
            RDMA_DRIVER_SIW = 18,
        }
    }

    uapi_structs! {
        struct QueryPortRespEx = "struct ib_uverbs_query_port_resp_ex" {
            legacy_resp: QueryPortResp,
            port_cap_flags2: u16,
            reserved: [u8; 2] = _,
            /// Not in the headers of Linux 6.1, whose kernels leave it zero.
            active_speed_ex: u32,
        }

        struct QpCap = "struct ib_uverbs_qp_cap" {
            max_send_wr: u32, max_recv_wr: u32, max_send_sge: u32, max_recv_sge: u32, max_inline_data: u32,
        }

        struct GidEntry = "struct ib_uverbs_gid_entry" {
            gid: [u8; 16], gid_index: u32, port_num: u32, gid_type: u32, netdev_ifindex: u32, align: [u64; 0] = _,
        }
    }
}
