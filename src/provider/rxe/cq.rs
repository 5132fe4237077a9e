//! rxe's completion queue: the kernel fills slots with `struct ib_uverbs_wc`.

use super::ring::Consumer;
use crate::error::Result;
use crate::sys::region::Region;
use crate::types::{Lid, Qpn, Rkey, ServiceLevel, Wc, WcExtra, WcOpcode, WcStatus};
use crate::uapi::rxe::{CreateCqResp, ResizeCqResp};
use crate::uapi::verbs::Wc as Cqe;
use crate::uverbs::cq::CqInit;
use crate::uverbs::{Udata, Uverbs};

/// `IB_WC_GRH`, `IB_WC_WITH_IMM`, `IB_WC_WITH_INVALIDATE` of the kernel's `enum ib_wc_flags`.
const WITH_GRH: u32 = 1;
const WITH_IMM: u32 = 1 << 1;
const WITH_INVALIDATE: u32 = 1 << 2;

/// The ring of a completion queue.
pub(crate) struct Cq {
    ring: Consumer<{ size_of::<Cqe>() }>,
}

/// Makes a completion queue and maps it; gives its handle, its size and its ring.
pub(crate) fn create(uverbs: &Uverbs, init: &CqInit<'_>) -> Result<(u32, u32, Cq)> {
    let mut answer = CreateCqResp::default();
    let made = uverbs.create_cq(init, Udata::answer(&mut answer))?;
    match super::map(uverbs, "create_cq", answer.mi).and_then(|region| Cq::new(region, "create_cq")) {
        Ok(cq) => Ok((made.cq_handle, made.cqe, cq)),
        Err(error) => {
            // Nothing to add to the first error.
            let _ = uverbs.destroy_cq(made.cq_handle);
            Err(error)
        }
    }
}

impl Cq {
    pub(super) fn new(region: Region, what: &'static str) -> Result<Self> {
        Ok(Self { ring: Consumer::new(region, what, size_of::<Cqe>())? })
    }

    /// Takes completions out; gives how many.
    #[inline(always)]
    pub(crate) fn poll(&mut self, out: &mut [Wc]) -> usize {
        match self.ring.filled() {
            0 => 0,
            filled => self.take(out, filled),
        }
    }

    /// Whether the kernel has filled none.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.filled() == 0
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

    /// Changes the size; the kernel moves what is in the queue. Gives the new size.
    pub(crate) fn resize(&mut self, uverbs: &Uverbs, handle: u32, cqe: u32) -> Result<u32> {
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
