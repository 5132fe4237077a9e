//! rxe's shared receive queue: a receive queue's ring that several queue pairs take from.

use nix::errno::Errno;

use super::qp::Rq;
use super::wqe::Limits;
use crate::error::Result;
use crate::sys::region::Region;
use crate::types::{PostError, RecvWr};
use crate::uapi::rxe::{CreateSrqResp, MmInfo, ModifySrqCmd};
use crate::uapi::verbs::ModifySrq;
use crate::uverbs::srq::{NewSrq, SRQ_MAX_WR, SrqInit};
use crate::uverbs::{Udata, Uverbs};

/// The ring of a shared receive queue.
pub(crate) struct Srq {
    queue: Rq,
    limits: Limits,
}

/// Makes a shared receive queue and maps it.
pub(crate) fn create(uverbs: &Uverbs, init: &SrqInit) -> Result<(NewSrq, Srq)> {
    let mut answer = CreateSrqResp::default();
    let made = uverbs.create_srq(init, Udata::answer(&mut answer))?;
    let limits = Limits::new(made.max_sge, 0);
    match super::map(uverbs, "create_srq", answer.mi)
        .and_then(|region| Srq::new(region, "create_srq", limits))
    {
        Ok(srq) => Ok((made, srq)),
        Err(error) => {
            // Nothing to add to the first error.
            let _ = uverbs.destroy_srq(made.handle);
            Err(error)
        }
    }
}

impl Srq {
    fn new(region: Region, what: &'static str, limits: Limits) -> Result<Self> {
        Ok(Self { queue: Rq::new(region, what, limits)?, limits })
    }

    /// Posts requests. The driver looks at the ring when a message comes in: no doorbell.
    #[inline(always)]
    pub(crate) fn post(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        self.queue.post(wrs)
    }

    /// Changes the limit below which an event comes.
    pub(crate) fn modify(uverbs: &Uverbs, command: &ModifySrq) -> Result<()> {
        // The driver wants its own part even where it has nothing to say.
        uverbs.modify_srq(command, Udata::question(&ModifySrqCmd::default()))
    }

    /// Changes the size; the kernel moves what is in the queue.
    pub(crate) fn resize(&mut self, uverbs: &Uverbs, srq_handle: u32, max_wr: u32) -> Result<()> {
        let slots = max_wr.checked_add(1).and_then(u32::checked_next_power_of_two);
        let queued = self.queue.queued();
        if slots.is_some_and(|slots| slots <= queued) {
            // The driver of 6.1 would refuse that too, but lose its queue and stumble over that at the next message.
            let error = uverbs.error("modify_srq", Errno::EINVAL);
            return Err(error.with_hint(format!("{queued} receives are in the queue")));
        }
        let command = ModifySrq { srq_handle, attr_mask: SRQ_MAX_WR, max_wr, ..ModifySrq::default() };
        let mut place = MmInfo::default();
        uverbs.modify_srq_answered(&command, &mut place, |mmap_info_addr| ModifySrqCmd { mmap_info_addr })?;
        let region = super::map(uverbs, "modify_srq", place)?;
        *self = Self::new(region, "modify_srq", self.limits)?;
        Ok(())
    }
}

#[cfg(test)]
#[path = "srq_tests.rs"]
mod tests;
