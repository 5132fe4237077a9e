//! Completion queue entries, as ConnectX writes them: 32 bytes of big-endian words, the last of which says who owns the entry.
//!
//! Devices with larger entries put these 32 bytes at the end.

use super::wqe::opcode;
use crate::sys::region::Entry;
use crate::types::{Lid, Qpn, Rkey, ServiceLevel, Wc, WcExtra, WcOpcode, WcStatus};

/// Bytes of an entry, or of the part at its end that is used.
pub(super) const SIZE: usize = 32;

/// A filled entry in the memory of its queue.
pub(super) type Cqe<'r> = Entry<'r, SIZE>;

const MY_QPN: usize = 0;
const IMM: usize = 4;
const REMOTE_QPN: usize = 8;
const SL: usize = 12;
const REMOTE_LID: usize = 14;
const BYTE_COUNT: usize = 20;
const WQE_INDEX: usize = 24;
const VENDOR_ERR: usize = 26;
const SYNDROME: usize = 27;
const OWNER: usize = 28;

/// In the owner word, of which the device uses the last byte: the lap bit, whether the completion is of a send queue. Below them
/// is the opcode.
const LAP: u32 = 1 << 31;
const IS_SEND: u32 = 1 << 30;

/// Numbers of queues have 24 bits; bit 23 is set in those of XRC receive queue pairs.
const NUMBER: u32 = 0xff_ffff;
const XRC: u32 = 1 << 23;

/// In the word with the remote queue pair's number, above the path bits of the LID that the message came to.
const GRH: u32 = 1 << 31;

/// Opcodes that are not those of a request.
const ERROR: u32 = 0x1e;
const RESIZE: u32 = 0x16;

/// Opcodes of receives.
mod received {
    pub(super) const RDMA_WRITE_IMM: u32 = 0x00;
    pub(super) const SEND: u32 = 0x01;
    pub(super) const SEND_IMM: u32 = 0x02;
    pub(super) const SEND_INVAL: u32 = 0x03;
}

/// The owner word of an entry, its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner(u32);

impl Owner {
    /// Reads it; what orders the rest of the entry after it is the caller's choice.
    #[inline(always)]
    pub(super) fn of(cqe: &Cqe<'_>) -> Self {
        Self(u32::from_le(cqe.owner(OWNER)))
    }

    /// Whether the device has filled the entry in the lap around the queue whose lap bit is the top bit of `lap`.
    #[inline(always)]
    pub(super) fn is_of_lap(self, lap: u32) -> bool {
        (self.0 ^ lap) & LAP == 0
    }

    /// Whether a request of the send queue completed.
    #[inline(always)]
    pub(super) fn is_send(self) -> bool {
        self.0 & IS_SEND != 0
    }

    fn opcode(self) -> u32 {
        self.0 >> 24 & 0x1f
    }

    /// Whether the entry says that the device continues in another buffer.
    pub(super) fn is_resize(self) -> bool {
        self.opcode() == RESIZE
    }
}

/// What a completion is looked up by: a number, and a bit beyond it that tells queue pairs from shared receive queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u32);

impl Key {
    /// Of a queue pair.
    pub(super) const fn qp(qpn: u32) -> Self {
        Self(qpn & NUMBER)
    }

    /// Of a shared receive queue that took an XRC message.
    pub(super) const fn srq(srqn: u32) -> Self {
        Self(srqn & NUMBER | 1 << 31)
    }

    /// The number and the bit.
    #[inline(always)]
    pub(super) const fn get(self) -> u32 {
        self.0
    }
}

/// The number of a queue pair, big-endian as it is in an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BeQpn(u32);

impl BeQpn {
    /// Not the number of any queue pair.
    pub(super) const NONE: Self = Self(u32::MAX);

    /// Reads the number of the local queue pair.
    #[inline(always)]
    pub(super) fn of(cqe: &Cqe<'_>) -> Self {
        Self(cqe.get::<u32>(MY_QPN) & NUMBER.to_be())
    }

    #[inline(always)]
    pub(super) fn get(self) -> u32 {
        u32::from_be(self.0)
    }
}

/// Returns the key of an entry of the queue pair `qpn`.
#[inline(always)]
pub(super) fn key(cqe: &Cqe<'_>, owner: Owner, qpn: u32) -> Key {
    match qpn {
        qpn if qpn & XRC != 0 && !owner.is_send() => Key::srq(u32::from_be(cqe.get(REMOTE_QPN))),
        qpn => Key::qp(qpn),
    }
}

/// Returns the low bits of the request's number, or its slot in a shared receive queue.
#[inline(always)]
pub(super) fn wqe_index(cqe: &Cqe<'_>) -> u16 {
    u16::from_be(cqe.get(WQE_INDEX))
}

/// What a completion of a send queue reports: the operation, and how many bytes, or one of the two values below.
type Sent = (WcOpcode, i32);

/// The entry has the number of bytes.
const COUNTED: i32 = -1;
/// There is no such operation.
const NOTHING: Sent = (WcOpcode::SEND, -2);

/// By the entry's opcode.
static SENT: [Sent; 32] = {
    let mut table = [NOTHING; 32];
    table[opcode::SEND as usize] = (WcOpcode::SEND, 0);
    table[opcode::SEND_IMM as usize] = (WcOpcode::SEND, 0);
    table[opcode::SEND_INVAL as usize] = (WcOpcode::SEND, 0);
    table[opcode::RDMA_WRITE as usize] = (WcOpcode::RDMA_WRITE, 0);
    table[opcode::RDMA_WRITE_IMM as usize] = (WcOpcode::RDMA_WRITE, 0);
    table[opcode::RDMA_READ as usize] = (WcOpcode::RDMA_READ, COUNTED);
    table[opcode::ATOMIC_CS as usize] = (WcOpcode::COMP_SWAP, 8);
    table[opcode::ATOMIC_FA as usize] = (WcOpcode::FETCH_ADD, 8);
    table[opcode::BIND_MW as usize] = (WcOpcode::BIND_MW, 0);
    table[opcode::LOCAL_INVAL as usize] = (WcOpcode::LOCAL_INV, 0);
    table
};

/// Fills `wc` from an entry of a send queue.
#[inline(always)]
pub(super) fn fill_sent(cqe: &Cqe<'_>, owner: Owner, qpn: u32, wr_id: u64, wc: &mut Wc) {
    let (opcode, bytes) = SENT[owner.opcode() as usize];
    let byte_len = match u32::try_from(bytes) {
        Ok(bytes) => bytes,
        Err(_) if bytes == COUNTED => u32::from_be(cqe.get(BYTE_COUNT)),
        Err(_) => return fill_failed(cqe, owner, wr_id, wc),
    };
    *wc = Wc { wr_id, opcode, byte_len, qp_num: Qpn::truncate(qpn), ..Wc::default() };
}

/// Fills `wc` from an entry of a receive queue.
#[inline(always)]
pub(super) fn fill_received(cqe: &Cqe<'_>, owner: Owner, qpn: u32, wr_id: u64, wc: &mut Wc) {
    let ex = u32::from_be(cqe.get(IMM));
    let (opcode, extra) = match owner.opcode() {
        received::SEND => (WcOpcode::RECV, WcExtra::None),
        received::SEND_IMM => (WcOpcode::RECV, WcExtra::Imm(ex)),
        received::SEND_INVAL => (WcOpcode::RECV, WcExtra::Invalidated(Rkey(ex))),
        received::RDMA_WRITE_IMM => (WcOpcode::RECV_RDMA_WITH_IMM, WcExtra::Imm(ex)),
        _ => return fill_failed(cqe, owner, wr_id, wc),
    };
    let byte_len = u32::from_be(cqe.get(BYTE_COUNT));
    let remote: u32 = u32::from_be(cqe.get(REMOTE_QPN));
    let (src_qp, grh) = (Qpn::truncate(remote), remote & GRH != 0);
    *wc = Wc {
        wr_id,
        status: WcStatus::SUCCESS,
        opcode,
        vendor_err: 0,
        byte_len,
        extra,
        qp_num: Qpn::truncate(qpn),
        src_qp,
        grh,
        slid: Lid(u16::from_be(cqe.get(REMOTE_LID))),
        sl: ServiceLevel(cqe.get::<u8>(SL) >> 4),
        dlid_path_bits: (remote >> 24 & 0x7f) as u8,
        timestamp: 0,
    };
}

/// Adds the timestamp of an entry that has one: 48 bits in two fields, one of which holds the sender's LID in other entries.
pub(super) fn fill_timestamp(cqe: &Cqe<'_>, wc: &mut Wc) {
    let high = u32::from_be(cqe.get(SL));
    let low = cqe.owner(OWNER).to_ne_bytes();
    wc.timestamp = u64::from(high) << 16 | u64::from(u16::from_be_bytes([low[1], low[2]]));
    (wc.slid, wc.sl) = (Lid(0), ServiceLevel(0));
}

/// Fills `wc` from an entry of a request that failed, or with an unknown opcode.
#[cold]
#[inline(never)]
fn fill_failed(cqe: &Cqe<'_>, owner: Owner, wr_id: u64, wc: &mut Wc) {
    *wc = match owner.opcode() {
        ERROR => {
            let vendor_err = cqe.get::<u8>(VENDOR_ERR).into();
            Wc { wr_id, status: status(cqe.get(SYNDROME)), vendor_err, ..without_wr_id(cqe, owner) }
        }
        _ => Wc { wr_id, ..without_wr_id(cqe, owner) },
    };
}

/// Fills `wc` from an entry that completes no outstanding request: the device or its driver is wrong.
#[cold]
#[inline(never)]
pub(super) fn fill_stray(cqe: &Cqe<'_>, owner: Owner, wc: &mut Wc) {
    *wc = without_wr_id(cqe, owner);
}

fn without_wr_id(cqe: &Cqe<'_>, owner: Owner) -> Wc {
    let opcode = if owner.is_send() { WcOpcode::SEND } else { WcOpcode::RECV };
    let (status, vendor_err) = (WcStatus::GENERAL_ERR, owner.opcode());
    Wc { status, opcode, vendor_err, qp_num: Qpn::truncate(BeQpn::of(cqe).get()), ..Wc::default() }
}

/// Translates the syndrome of a failed request.
fn status(syndrome: u8) -> WcStatus {
    match syndrome {
        0x01 => WcStatus::LOC_LEN_ERR,
        0x02 => WcStatus::LOC_QP_OP_ERR,
        0x04 => WcStatus::LOC_PROT_ERR,
        0x05 => WcStatus::WR_FLUSH_ERR,
        0x06 => WcStatus::MW_BIND_ERR,
        0x10 => WcStatus::BAD_RESP_ERR,
        0x11 => WcStatus::LOC_ACCESS_ERR,
        0x12 => WcStatus::REM_INV_REQ_ERR,
        0x13 => WcStatus::REM_ACCESS_ERR,
        0x14 => WcStatus::REM_OP_ERR,
        0x15 => WcStatus::RETRY_EXC_ERR,
        0x16 => WcStatus::RNR_RETRY_EXC_ERR,
        0x22 => WcStatus::REM_ABORT_ERR,
        _ => WcStatus::GENERAL_ERR,
    }
}

#[cfg(test)]
#[path = "cqe_tests.rs"]
mod tests;
