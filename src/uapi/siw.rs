//! `rdma/siw-abi.h`: the queues that the siw driver shares with its user.

use super::{uapi_numbers, uapi_structs};

uapi_numbers! {
    u32 {
        SIW_ABI_VERSION = 1,
        SIW_MAX_SGE = 6,

        /* When the driver reports a completion by an event. */
        SIW_NOTIFY_NOT = 0,
        SIW_NOTIFY_SOLICITED = 1,
        SIW_NOTIFY_NEXT_COMPLETION = 2,
    }
    u8 {
        SIW_OP_WRITE = 0,
        SIW_OP_READ = 1,
        SIW_OP_READ_LOCAL_INV = 2,
        SIW_OP_SEND = 3,
        SIW_OP_SEND_WITH_IMM = 4,
        SIW_OP_SEND_REMOTE_INV = 5,
        SIW_OP_RECEIVE = 8,
        SIW_OP_INVAL_STAG = 10,
    }
    u16 {
        SIW_WQE_VALID = 1,
        SIW_WQE_INLINE = 2,
        SIW_WQE_SIGNALLED = 4,
        SIW_WQE_SOLICITED = 8,
        SIW_WQE_READ_FENCE = 16,

        SIW_WC_SUCCESS = 0,
        SIW_WC_LOC_LEN_ERR = 1,
        SIW_WC_LOC_PROT_ERR = 2,
        SIW_WC_LOC_QP_OP_ERR = 3,
        SIW_WC_WR_FLUSH_ERR = 4,
        SIW_WC_BAD_RESP_ERR = 5,
        SIW_WC_LOC_ACCESS_ERR = 6,
        SIW_WC_REM_ACCESS_ERR = 7,
        SIW_WC_REM_INV_REQ_ERR = 8,
        SIW_WC_GENERAL_ERR = 9,
    }
}

uapi_structs! {
    struct UrespAllocCtx = "struct siw_uresp_alloc_ctx" { dev_id: u32, pad: u32 }

    /// The queue lies at offset `cq_key` of the command file.
    struct UrespCreateCq = "struct siw_uresp_create_cq" { cq_id: u32, num_cqe: u32, cq_key: u64 }

    struct UrespCreateQp = "struct siw_uresp_create_qp" {
        qp_id: u32, num_sqe: u32, num_rqe: u32, pad: u32, sq_key: u64, rq_key: u64,
    }

    struct UrespCreateSrq = "struct siw_uresp_create_srq" { num_rqe: u32, pad: u32, srq_key: u64 }

    /// `stag_key` becomes the low byte of the region's keys.
    struct UreqRegMr = "struct siw_ureq_reg_mr" { stag_key: u8, reserved: [u8; 3], pad: u32 }

    struct UrespRegMr = "struct siw_uresp_reg_mr" { stag: u32, pad: u32 }

    struct Sge = "struct siw_sge" { laddr: u64, length: u32, lkey: u32 }

    /// Inline bytes take the place of all elements but the first.
    struct Sqe = "struct siw_sqe" {
        id: u64, flags: u16, num_sge: u8, opcode: u8, rkey: u32, raddr: u64, sge: [Sge; 6],
    }

    struct Rqe = "struct siw_rqe" { id: u64, flags: u16, num_sge: u8, opcode: u8, unused: u32, sge: [Sge; 6] }

    struct Cqe = "struct siw_cqe" {
        id: u64, flags: u8, opcode: u8, status: u16, bytes: u32, imm_data: u64, qp_id: u64,
    }

    /// Behind the entries of a completion queue.
    struct CqCtrl = "struct siw_cq_ctrl" { flags: u32, pad: u32 }
}
