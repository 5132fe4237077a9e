//! A work request as rxe's queues hold it: a fixed head, then SGEs or inline bytes.

use crate::sys::region::Region;
use crate::types::{Data, MwBind, RecvWr, Refusal, SendOp, SendWr};
use crate::uapi::rxe::{DmaInfo, RecvWqe, SendWqe, Sge, WrAtomic, WrMw, WrRdma, WrUnion};
use crate::uapi::verbs as abi;

/// `IB_SEND_INLINE` of `enum ib_send_flags`.
const SEND_INLINE: u32 = 1 << 3;

/// The longest message of InfiniBand.
const MAX_MESSAGE: u64 = 1 << 31;

/// What a queue was made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_sge: u32,
    pub(super) max_inline: u32,
}

impl Limits {
    /// Bytes that a slot of the send queue needs.
    pub(super) fn send_slot(self) -> usize {
        let tail = (self.max_sge as usize).saturating_mul(size_of::<Sge>()).max(self.max_inline as usize);
        size_of::<SendWqe>().saturating_add(tail)
    }

    /// Bytes that a slot of the receive queue needs.
    pub(super) fn recv_slot(self) -> usize {
        size_of::<RecvWqe>().saturating_add((self.max_sge as usize).saturating_mul(size_of::<Sge>()))
    }

    /// Checks a request's data; gives the message's length.
    #[inline]
    fn check(self, data: &Data<'_>) -> Result<u32, Refusal> {
        match data {
            Data::Inline(bytes) if bytes.len() > self.max_inline as usize => {
                return Err(Refusal::InlineTooLong { max: self.max_inline });
            }
            data if data.sges().len() > self.max_sge as usize => {
                return Err(Refusal::TooManySges { max: self.max_sge });
            }
            _ => {}
        }
        match data.length() {
            length @ ..=MAX_MESSAGE => Ok(length as u32),
            _ => Err(Refusal::MessageTooLong),
        }
    }
}

/// Writes a send request into the slot at `at`; `ssn` is its place in the order of sends.
#[inline]
pub(super) fn write_send(
    region: &mut Region,
    at: usize,
    wr: &SendWr<'_>,
    limits: Limits,
    ssn: u32,
) -> Result<(), Refusal> {
    let length = limits.check(&wr.data)?;
    let (opcode, ex, arm, iova) = translate(&wr.op, &wr.data, length)?;
    let mut wqe = SendWqe { iova, ssn, dma: dma(&wr.data, length), ..SendWqe::default() };
    wqe.wr.wr_id = wr.wr_id;
    wqe.wr.opcode = opcode;
    wqe.wr.send_flags = wr.flags.bits();
    wqe.wr.ex = ex;
    wqe.wr.wr = arm;
    if let Data::Inline(_) = wr.data {
        wqe.wr.send_flags |= SEND_INLINE;
    }
    region.write(at, wqe);
    write_data(region, at + size_of::<SendWqe>(), &wr.data);
    Ok(())
}

/// Writes a receive request into the slot at `at`.
#[inline]
pub(super) fn write_recv(
    region: &mut Region,
    at: usize,
    wr: &RecvWr<'_>,
    limits: Limits,
) -> Result<(), Refusal> {
    let length = limits.check(&wr.data)?;
    region.write(at, RecvWqe { wr_id: wr.wr_id, dma: dma(&wr.data, length), ..RecvWqe::default() });
    write_data(region, at + size_of::<RecvWqe>(), &wr.data);
    Ok(())
}

fn dma(data: &Data<'_>, length: u32) -> DmaInfo {
    DmaInfo { length, resid: length, num_sge: data.sges().len() as u32, ..DmaInfo::default() }
}

#[inline]
fn write_data(region: &mut Region, mut at: usize, data: &Data<'_>) {
    if let Data::Inline(bytes) = data {
        region.write_bytes(at, bytes);
    }
    for sge in data.sges() {
        region.write(at, Sge { addr: sge.addr, length: sge.length, lkey: sge.lkey.0 });
        at += size_of::<Sge>();
    }
}

/// The kernel's opcode, the word beside it, the union's arm, and the remote address.
#[inline]
fn translate(op: &SendOp, data: &Data<'_>, length: u32) -> Result<(u32, u32, WrUnion, u64), Refusal> {
    let reads = op.is_atomic() || matches!(op, SendOp::Read(_));
    if reads && matches!(data, Data::Inline(_)) {
        return Err(Refusal::InlineNotAllowed);
    }
    let rdma = |to: &crate::types::Remote| {
        (WrUnion::rdma(WrRdma { remote_addr: to.addr, rkey: to.rkey.0, reserved: 0 }), to.addr)
    };
    let atomic = |at: &crate::types::Remote, compare_add, swap| {
        if length != 8 || !at.addr.is_multiple_of(8) {
            return Err(Refusal::AtomicMisaligned);
        }
        let arm = WrAtomic { remote_addr: at.addr, compare_add, swap, rkey: at.rkey.0, reserved: 0 };
        Ok((WrUnion::atomic(arm), at.addr))
    };
    let (opcode, ex, (arm, iova)) = match op {
        SendOp::Send => (abi::IB_UVERBS_WR_SEND, 0, (WrUnion::none(), 0)),
        SendOp::SendWithImm(imm) => (abi::IB_UVERBS_WR_SEND_WITH_IMM, imm.to_be(), (WrUnion::none(), 0)),
        SendOp::SendWithInv(rkey) => (abi::IB_UVERBS_WR_SEND_WITH_INV, rkey.0, (WrUnion::none(), 0)),
        SendOp::Write(to) => (abi::IB_UVERBS_WR_RDMA_WRITE, 0, rdma(to)),
        SendOp::WriteWithImm(to, imm) => (abi::IB_UVERBS_WR_RDMA_WRITE_WITH_IMM, imm.to_be(), rdma(to)),
        SendOp::Read(from) => (abi::IB_UVERBS_WR_RDMA_READ, 0, rdma(from)),
        SendOp::CompareSwap { remote, compare, swap } => {
            (abi::IB_UVERBS_WR_ATOMIC_CMP_AND_SWP, 0, atomic(remote, *compare, *swap)?)
        }
        SendOp::FetchAdd { remote, add } => {
            (abi::IB_UVERBS_WR_ATOMIC_FETCH_AND_ADD, 0, atomic(remote, *add, 0)?)
        }
        SendOp::BindMw(_) | SendOp::LocalInv(_) if !matches!(data, Data::None) => {
            return Err(Refusal::DataNotAllowed);
        }
        SendOp::BindMw(bind) => (abi::IB_UVERBS_WR_BIND_MW, 0, (WrUnion::mw(window(bind)), 0)),
        SendOp::LocalInv(rkey) => (abi::IB_UVERBS_WR_LOCAL_INV, rkey.0, (WrUnion::none(), 0)),
    };
    Ok((opcode, ex, arm, iova))
}

fn window(bind: &MwBind) -> WrMw {
    WrMw {
        addr: bind.part.addr,
        length: bind.part.length.into(),
        mr_lkey: bind.part.lkey.0,
        mw_rkey: bind.window.0,
        rkey: bind.rkey.0,
        access: bind.access.bits(),
    }
}

#[cfg(test)]
#[path = "wqe_tests.rs"]
mod tests;
