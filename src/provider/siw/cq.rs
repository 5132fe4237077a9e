//! siw's completion queue: entries that the driver fills, and a word behind them that says when it reports an event.

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use nix::errno::Errno;

use super::ring::{Consumer, size};
use crate::error::{Error, Result};
use crate::provider::driver::map_queue;
use crate::provider::{CompletionQueue, Created, Hold, NewCq};
use crate::sys::region::{Entry, Region, Word};
use crate::types::{Qpn, Wc, WcOpcode, WcStatus};
use crate::uapi::siw::{self as abi, CqCtrl, Cqe, UrespCreateCq};
use crate::uverbs::cq::CqParams;
use crate::uverbs::{Udata, Uverbs};

const CQE: usize = size_of::<Cqe>();

/// The ring of a completion queue.
pub(crate) struct Cq {
    ring: Consumer<CQE>,
    /// Which completion the driver reports by an event.
    notify: Word,
}

/// Creates a completion queue and maps it.
pub(super) fn create(uverbs: &Uverbs, params: &CqParams<'_>) -> Result<NewCq<Cq>> {
    const WHAT: &str = "create_cq";
    let mut place = UrespCreateCq::default();
    let answer = uverbs.create_cq(params, Udata::answer(&mut place))?;
    let created = Created::new(uverbs, answer.handle, Uverbs::destroy_cq);
    let bytes = size::<CQE>(place.num_cqe, size_of::<CqCtrl>(), WHAT)?;
    let ring = Cq::new(map_queue(uverbs, WHAT, place.cq_key, bytes)?, place.num_cqe, WHAT)?;
    created.keep();
    Ok(NewCq { answer, ring, hold: Hold::NOTHING })
}

impl Cq {
    fn new(region: Region, count: u32, what: &'static str) -> Result<Self> {
        let entries = count as usize * CQE;
        if region.len() < entries.saturating_add(size_of::<CqCtrl>()) {
            let why = format!("{count} entries and a word do not fit its {} bytes", region.len());
            return Err(Error::bad_answer(what, "siw queue", why));
        }
        let (entries, control) = region.split(entries);
        let notify = Word::new(&Arc::new(control), offset_of!(CqCtrl, flags));
        notify.store(abi::SIW_NOTIFY_NOT);
        Ok(Self { ring: Consumer::new(entries, count, what)?, notify })
    }

    #[inline(always)]
    fn take(&mut self) -> Option<Wc> {
        let (turn, entry) = self.ring.oldest()?;
        let wc = translate(turn, &entry);
        self.ring.take();
        Some(wc)
    }

    /// Says which completion is to be reported.
    #[inline]
    fn notify(&self, solicited: bool) {
        let next = if solicited { 0 } else { abi::SIW_NOTIFY_NEXT_COMPLETION };
        self.notify.store(abi::SIW_NOTIFY_SOLICITED | next);
        // The driver writes a completion, then reads the word; we write the word, then look for completions. With a full fence on
        // both sides, at least one sees what the other wrote.
        fence(Ordering::SeqCst);
    }
}

impl CompletionQueue for Cq {
    const BYPASSES_KERNEL: bool = false;

    #[inline(always)]
    fn poll(&mut self, out: &mut [Wc]) -> usize {
        let mut taken = 0;
        for place in out {
            let Some(wc) = self.take() else { break };
            *place = wc;
            taken += 1;
        }
        if taken > 0 {
            self.ring.publish();
        }
        taken
    }

    #[inline]
    fn take_one(&mut self) -> Option<Wc> {
        self.take()
    }

    #[inline]
    fn publish(&mut self) {
        self.ring.publish();
    }

    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.ring.oldest().is_none()
    }

    /// No system call.
    #[inline]
    fn arm(
        &mut self,
        _uverbs: &Uverbs,
        _handle: u32,
        solicited: bool,
        _events: impl FnOnce() -> u32,
    ) -> Result<(), Errno> {
        self.notify(solicited);
        Ok(())
    }

    fn resize(&mut self, uverbs: &Uverbs, _handle: u32, _cqe: u32) -> Result<u32> {
        let why = "the driver cannot change the size of a completion queue";
        Err(super::unsupported("resize_cq", uverbs, why.into()))
    }
}

#[inline]
fn translate(turn: u32, cqe: &Entry<'_, CQE>) -> Wc {
    let [_, opcode, first, second] = turn.to_ne_bytes();
    let status = u16::from_ne_bytes([first, second]);
    let known = OPCODES.get(usize::from(opcode)).copied().flatten();
    Wc {
        wr_id: cqe.get(offset_of!(Cqe, id)),
        status: match (known, STATUSES.get(usize::from(status))) {
            (Some(_), Some(status)) => *status,
            _ => WcStatus::GENERAL_ERR,
        },
        opcode: known.unwrap_or(WcOpcode::SEND),
        byte_len: cqe.get(offset_of!(Cqe, bytes)),
        qp_num: Qpn::truncate(cqe.get::<u64>(offset_of!(Cqe, qp_id)) as u32),
        ..Wc::default()
    }
}

/// Operations by the driver's numbers.
const OPCODES: [Option<WcOpcode>; 11] = {
    let mut table = [None; 11];
    table[abi::SIW_OP_WRITE as usize] = Some(WcOpcode::RDMA_WRITE);
    table[abi::SIW_OP_READ as usize] = Some(WcOpcode::RDMA_READ);
    table[abi::SIW_OP_READ_LOCAL_INV as usize] = Some(WcOpcode::RDMA_READ);
    table[abi::SIW_OP_SEND as usize] = Some(WcOpcode::SEND);
    table[abi::SIW_OP_SEND_WITH_IMM as usize] = Some(WcOpcode::SEND);
    table[abi::SIW_OP_SEND_REMOTE_INV as usize] = Some(WcOpcode::SEND);
    table[abi::SIW_OP_RECEIVE as usize] = Some(WcOpcode::RECV);
    table[abi::SIW_OP_INVAL_STAG as usize] = Some(WcOpcode::LOCAL_INV);
    table
};

/// Statuses by the driver's numbers.
const STATUSES: [WcStatus; 10] = {
    let mut table = [WcStatus::GENERAL_ERR; 10];
    table[abi::SIW_WC_SUCCESS as usize] = WcStatus::SUCCESS;
    table[abi::SIW_WC_LOC_LEN_ERR as usize] = WcStatus::LOC_LEN_ERR;
    table[abi::SIW_WC_LOC_PROT_ERR as usize] = WcStatus::LOC_PROT_ERR;
    table[abi::SIW_WC_LOC_QP_OP_ERR as usize] = WcStatus::LOC_QP_OP_ERR;
    table[abi::SIW_WC_WR_FLUSH_ERR as usize] = WcStatus::WR_FLUSH_ERR;
    table[abi::SIW_WC_BAD_RESP_ERR as usize] = WcStatus::BAD_RESP_ERR;
    table[abi::SIW_WC_LOC_ACCESS_ERR as usize] = WcStatus::LOC_ACCESS_ERR;
    table[abi::SIW_WC_REM_ACCESS_ERR as usize] = WcStatus::REM_ACCESS_ERR;
    table[abi::SIW_WC_REM_INV_REQ_ERR as usize] = WcStatus::REM_INV_REQ_ERR;
    table[abi::SIW_WC_GENERAL_ERR as usize] = WcStatus::GENERAL_ERR;
    table
};

#[cfg(test)]
#[path = "cq_tests.rs"]
mod tests;
