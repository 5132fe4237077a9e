//! Work completions: what comes out of a completion queue.

use super::{Lid, Qpn, Rkey, ServiceLevel, open_enum};

open_enum! {
    /// Status of a completed work request (`enum ibv_wc_status`, `ibv_poll_cq(3)`).
    ///
    /// `Display` prints the text of `ibv_wc_status_str(3)`.
    WcStatus: u32 {
        /// The request succeeded.
        SUCCESS = 0, "success";
        /// Local length error: a message was longer than the request's local memory, or than the device allows.
        LOC_LEN_ERR = 1, "local length error";
        /// Local QP operation error: the request was inconsistent, or the device failed while executing it.
        LOC_QP_OP_ERR = 2, "local QP operation error";
        /// Local EE context operation error (reliable datagrams; unused).
        LOC_EEC_OP_ERR = 3, "local EE context operation error";
        /// Local protection error: a local key, address or access right was wrong.
        LOC_PROT_ERR = 4, "local protection error";
        /// The queue pair entered the error state before the request was executed.
        WR_FLUSH_ERR = 5, "Work Request Flushed Error";
        /// Binding a memory window failed.
        MW_BIND_ERR = 6, "memory management operation error";
        /// The peer sent an unexpected response.
        BAD_RESP_ERR = 7, "bad response error";
        /// Local access error: the receive's memory does not allow the access.
        LOC_ACCESS_ERR = 8, "local access error";
        /// The peer rejected the request as invalid.
        REM_INV_REQ_ERR = 9, "remote invalid request error";
        /// Remote access error: a remote key, address or access right was wrong.
        REM_ACCESS_ERR = 10, "remote access error";
        /// The peer could not complete the operation.
        REM_OP_ERR = 11, "remote operation error";
        /// The peer did not respond within the retry count.
        RETRY_EXC_ERR = 12, "transport retry counter exceeded";
        /// The peer had no receive posted within the RNR retry count.
        RNR_RETRY_EXC_ERR = 13, "RNR retry counter exceeded";
        /// Local RDD violation error (reliable datagrams; unused).
        LOC_RDD_VIOL_ERR = 14, "local RDD violation error";
        /// Remote invalid RD request (reliable datagrams; unused).
        REM_INV_RD_REQ_ERR = 15, "remote invalid RD request";
        /// The peer aborted the operation.
        REM_ABORT_ERR = 16, "aborted error";
        /// Invalid EE context number (reliable datagrams; unused).
        INV_EECN_ERR = 17, "invalid EE context number";
        /// Invalid EE context state (reliable datagrams; unused).
        INV_EEC_STATE_ERR = 18, "invalid EE context state";
        /// The device failed.
        FATAL_ERR = 19, "fatal error";
        /// The device did not respond.
        RESP_TIMEOUT_ERR = 20, "response timeout error";
        /// An error that no other value describes.
        GENERAL_ERR = 21, "general error";
    }
}

open_enum! {
    /// Operation that completed (`enum ibv_wc_opcode`). Valid only if the status is [`WcStatus::SUCCESS`].
    WcOpcode: u32 {
        /// Any of the send operations.
        SEND = 0, "SEND";
        /// RDMA write, with or without immediate data.
        RDMA_WRITE = 1, "RDMA_WRITE";
        /// RDMA read.
        RDMA_READ = 2, "RDMA_READ";
        /// Atomic compare and swap.
        COMP_SWAP = 3, "COMP_SWAP";
        /// Atomic fetch and add.
        FETCH_ADD = 4, "FETCH_ADD";
        /// Memory window bind.
        BIND_MW = 5, "BIND_MW";
        /// Local invalidate.
        LOCAL_INV = 6, "LOCAL_INV";
        /// A receive that took a message.
        RECV = 128, "RECV";
        /// A receive that was consumed by an RDMA write with immediate data.
        RECV_RDMA_WITH_IMM = 129, "RECV_RDMA_WITH_IMM";
    }
}

impl WcOpcode {
    /// Whether a receive completed, and not a request of the send queue.
    #[must_use]
    pub const fn is_recv(self) -> bool {
        self.0 & Self::RECV.0 != 0
    }
}

/// What else a completion carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WcExtra {
    /// Nothing.
    #[default]
    None,
    /// Immediate data.
    Imm(u32),
    /// The key that the peer's send has made invalid.
    Invalidated(Rkey),
}

/// A completion (`struct ibv_wc`).
///
/// Where the status is not success, only `wr_id`, `status`, `qp_num` and `vendor_err` mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)] // in the order of the kernel's, which rxe's queues hold
#[non_exhaustive]
pub struct Wc {
    /// The request's.
    pub wr_id: u64,
    /// How it ended.
    pub status: WcStatus,
    /// What it was.
    pub opcode: WcOpcode,
    /// The device's own word on a failure.
    pub vendor_err: u32,
    /// Bytes received, read or fetched.
    pub byte_len: u32,
    /// Immediate data or an invalidated key.
    pub extra: WcExtra,
    /// The local queue pair.
    pub qp_num: Qpn,
    /// The sender's queue pair (datagrams).
    pub src_qp: Qpn,
    /// The first 40 bytes of the receive are a global routing header (datagrams).
    pub grh: bool,
    /// The LID that the message came from (datagrams on InfiniBand).
    pub slid: Lid,
    /// The service level that it came on (datagrams on InfiniBand).
    pub sl: ServiceLevel,
    /// The low bits of the LID that it came to, where the port has several (datagrams on InfiniBand).
    pub dlid_path_bits: u8,
    /// When the device made it, in cycles of its clock: of queues made with `CqInit::timestamps`, else 0. The count wraps behind
    /// the bits of `DeviceAttr::completion_timestamp_mask`.
    pub timestamp: u64,
}

impl Default for Wc {
    fn default() -> Self {
        Self {
            wr_id: 0,
            status: WcStatus::SUCCESS,
            opcode: WcOpcode::SEND,
            vendor_err: 0,
            byte_len: 0,
            extra: WcExtra::None,
            qp_num: Qpn::default(),
            src_qp: Qpn::default(),
            grh: false,
            slid: Lid(0),
            sl: ServiceLevel(0),
            dlid_path_bits: 0,
            timestamp: 0,
        }
    }
}

impl Wc {
    /// Whether the request was carried out.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status == WcStatus::SUCCESS
    }

    /// Immediate data, where the completion carries them.
    #[must_use]
    pub fn imm(&self) -> Option<u32> {
        match self.extra {
            WcExtra::Imm(imm) => Some(imm),
            _ => None,
        }
    }
}
