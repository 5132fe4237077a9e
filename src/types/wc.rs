//! Work completions: what comes out of a completion queue.

use super::{Lid, Qpn, Rkey, ServiceLevel};

/// How a request ended (`enum ibv_wc_status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WcStatus(pub u32);

macro_rules! statuses {
    ($( $(#[$meta:meta])* $name:ident = $value:literal $text:literal ),* $(,)?) => {
        impl WcStatus {
            $( $(#[$meta])* pub const $name: Self = Self($value); )*

            /// The words of `ibv_wc_status_str(3)`.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self.0 {
                    $( $value => $text, )*
                    _ => "unknown",
                }
            }
        }
    };
}

statuses! {
    /// Carried out.
    SUCCESS = 0 "success",
    /// A message did not fit the local memory of the request.
    LOC_LEN_ERR = 1 "local length error",
    /// The QP's own state or a request of it made no sense.
    LOC_QP_OP_ERR = 2 "local QP operation error",
    /// The same on an end-to-end context.
    LOC_EEC_OP_ERR = 3 "local EE context operation error",
    /// A local key or its bounds or rights were wrong.
    LOC_PROT_ERR = 4 "local protection error",
    /// The QP failed before the request was carried out.
    WR_FLUSH_ERR = 5 "Work Request Flushed Error",
    /// Binding a memory window failed.
    MW_BIND_ERR = 6 "memory management operation error",
    /// The peer answered what it should not have.
    BAD_RESP_ERR = 7 "bad response error",
    /// The receive's memory did not allow it.
    LOC_ACCESS_ERR = 8 "local access error",
    /// The peer could not take the request.
    REM_INV_REQ_ERR = 9 "remote invalid request error",
    /// A remote key or its bounds or rights were wrong.
    REM_ACCESS_ERR = 10 "remote access error",
    /// The peer failed to carry the request out.
    REM_OP_ERR = 11 "remote operation error",
    /// No answer from the peer.
    RETRY_EXC_ERR = 12 "transport retry counter exceeded",
    /// The peer had no receive posted.
    RNR_RETRY_EXC_ERR = 13 "RNR retry counter exceeded",
    /// Reliable datagrams only.
    LOC_RDD_VIOL_ERR = 14 "local RDD violation error",
    /// Reliable datagrams only.
    REM_INV_RD_REQ_ERR = 15 "remote invalid RD request",
    /// The peer gave up.
    REM_ABORT_ERR = 16 "aborted error",
    /// End-to-end contexts only.
    INV_EECN_ERR = 17 "invalid EE context number",
    /// End-to-end contexts only.
    INV_EEC_STATE_ERR = 18 "invalid EE context state",
    /// The device failed.
    FATAL_ERR = 19 "fatal error",
    /// The device did not answer.
    RESP_TIMEOUT_ERR = 20 "response timeout error",
    /// Anything else.
    GENERAL_ERR = 21 "general error",
}

/// What was carried out (`enum ibv_wc_opcode`); means something only where the status is success.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WcOpcode(pub u32);

macro_rules! opcodes {
    ($( $(#[$meta:meta])* $name:ident = $value:literal ),* $(,)?) => {
        impl WcOpcode {
            $( $(#[$meta])* pub const $name: Self = Self($value); )*
        }

        impl std::fmt::Debug for WcOpcode {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.0 {
                    $( $value => f.write_str(stringify!($name)), )*
                    other => write!(f, "WcOpcode({other})"),
                }
            }
        }
    };
}

opcodes! {
    /// A send, in any of its forms.
    SEND = 0,
    /// A write, with immediate data or without.
    RDMA_WRITE = 1,
    /// A read.
    RDMA_READ = 2,
    /// A compare-and-swap.
    COMP_SWAP = 3,
    /// A fetch-and-add.
    FETCH_ADD = 4,
    /// A memory window was bound.
    BIND_MW = 5,
    /// A key was invalidated.
    LOCAL_INV = 6,
    /// A message came into a receive.
    RECV = 128,
    /// A peer's write with immediate data took a receive.
    RECV_RDMA_WITH_IMM = 129,
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

impl std::fmt::Display for WcStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}
