//! rxe's completion queue: the kernel fills slots with `struct ib_uverbs_wc`.

use super::ring::Consumer;
use crate::error::Result;
use crate::provider::{CompletionQueue, Created, Hold, NewCq};
use crate::sys::region::Region;
use crate::types::{Lid, Qpn, Rkey, ServiceLevel, Wc, WcExtra, WcOpcode, WcStatus};
use crate::uapi::rxe::{CreateCqResp, ResizeCqResp};
use crate::uapi::verbs::Wc as Cqe;
use crate::uverbs::cq::CqParams;
use crate::uverbs::{Udata, Uverbs};

/// `IB_WC_GRH`, `IB_WC_WITH_IMM`, `IB_WC_WITH_INVALIDATE` of the kernel's `enum ib_wc_flags`.
const WITH_GRH: u32 = 1;
const WITH_IMM: u32 = 1 << 1;
const WITH_INVALIDATE: u32 = 1 << 2;

/// The ring of a completion queue.
pub(crate) struct Cq {
    ring: Consumer<{ size_of::<Cqe>() }>,
}

/// Creates a completion queue and maps it.
pub(super) fn create(uverbs: &Uverbs, params: &CqParams<'_>) -> Result<NewCq<Cq>> {
    let mut place = CreateCqResp::default();
    let answer = uverbs.create_cq(params, Udata::answer(&mut place))?;
    let created = Created::new(uverbs, answer.handle, Uverbs::destroy_cq);
    let ring = Cq::new(super::map(uverbs, "create_cq", place.mi)?, "create_cq")?;
    created.keep();
    Ok(NewCq { answer, ring, hold: Hold::NOTHING })
}

impl Cq {
    pub(super) fn new(region: Region, what: &'static str) -> Result<Self> {
        Ok(Self { ring: Consumer::new(region, what, size_of::<Cqe>())? })
    }

    /// Takes out as many as are filled and fit.
    #[inline(never)]
    fn take(&mut self, out: &mut [Wc], filled: usize) -> usize {
        let taken = filled.min(out.len());
        for wc in &mut out[..taken] {
            *wc = translate(&self.ring.oldest().get::<Cqe>(0));
            self.ring.take();
        }
        self.ring.publish();
        taken
    }
}

impl CompletionQueue for Cq {
    const BYPASSES_KERNEL: bool = false;

    #[inline(always)]
    fn poll(&mut self, out: &mut [Wc]) -> usize {
        match self.ring.filled() {
            0 => 0,
            filled => self.take(out, filled),
        }
    }

    #[inline]
    fn take_one(&mut self) -> Option<Wc> {
        if self.ring.filled() == 0 {
            return None;
        }
        let wc = translate(&self.ring.oldest().get::<Cqe>(0));
        self.ring.take();
        Some(wc)
    }

    #[inline]
    fn publish(&mut self) {
        self.ring.publish();
    }

    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.ring.filled() == 0
    }

    /// The kernel moves what is in the queue.
    fn resize(&mut self, uverbs: &Uverbs, handle: u32, cqe: u32) -> Result<u32> {
        let mut answer = ResizeCqResp::default();
        let cqe = uverbs.resize_cq(handle, cqe, Udata::answer(&mut answer))?;
        let region = super::map(uverbs, "resize_cq", answer.mi)?;
        *self = Self::new(region, "resize_cq")?;
        Ok(cqe)
    }
}

#[inline]
fn translate(cqe: &Cqe) -> Wc {
    // rxe's numbers are those of `enum ibv_wc_opcode`.
    let opcode = WcOpcode(cqe.opcode);
    // rxe sets the flag for immediate data on the sender's completion too, where the data are not.
    let received = opcode.is_recv();
    let extra = match cqe.wc_flags {
        flags if received && flags & WITH_IMM != 0 => WcExtra::Imm(u32::from_be(cqe.ex)),
        flags if received && flags & WITH_INVALIDATE != 0 => WcExtra::Invalidated(Rkey(cqe.ex)),
        _ => WcExtra::None,
    };
    Wc {
        wr_id: cqe.wr_id,
        status: WcStatus(cqe.status),
        opcode,
        vendor_err: cqe.vendor_err,
        byte_len: cqe.byte_len,
        extra,
        qp_num: Qpn::truncate(cqe.qp_num),
        src_qp: Qpn::truncate(cqe.src_qp),
        grh: received && cqe.wc_flags & WITH_GRH != 0,
        slid: Lid(cqe.slid),
        sl: ServiceLevel(cqe.sl),
        dlid_path_bits: cqe.dlid_path_bits,
        timestamp: 0,
    }
}

#[cfg(test)]
#[path = "cq_tests.rs"]
mod tests;
