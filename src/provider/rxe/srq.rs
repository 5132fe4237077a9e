//! rxe's shared receive queue: a receive queue's ring that several queue pairs take from.

use nix::errno::Errno;

use super::qp::Rq;
use super::wqe::Limits;
use crate::error::Result;
use crate::provider::{Created, Hold, NewSrq, RecvQueue, SharedRecvQueue};
use crate::sys::region::Region;
use crate::types::{PostError, RecvWr};
use crate::uapi::rxe::CreateSrqResp;
use crate::uapi::verbs::ModifySrq;
use crate::uverbs::srq::{SRQ_LIMIT, SRQ_MAX_WR, SrqParams};
use crate::uverbs::{Udata, Uverbs};

/// The ring of a shared receive queue.
pub(crate) struct Srq {
    queue: Rq,
    limits: Limits,
}

/// Creates a shared receive queue and maps it.
pub(super) fn create(uverbs: &Uverbs, params: &SrqParams) -> Result<NewSrq<Srq>> {
    let mut place = CreateSrqResp::default();
    let answer = uverbs.create_srq(params, Udata::answer(&mut place))?;
    let created = Created::new(uverbs, answer.handle, Uverbs::destroy_srq);
    let region = super::map(uverbs, "create_srq", place.mi)?;
    let ring = Srq::new(region, "create_srq", Limits::new(answer.max_sge, 0))?;
    created.keep();
    Ok(NewSrq { answer, ring, hold: Hold::NOTHING })
}

impl Srq {
    fn new(region: Region, what: &'static str, limits: Limits) -> Result<Self> {
        Ok(Self { queue: Rq::new(region, what, limits)?, limits })
    }
}

impl RecvQueue for Srq {
    #[inline(always)]
    fn post(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        self.queue.post(wrs)
    }
}

impl SharedRecvQueue for Srq {
    fn set_limit(&mut self, uverbs: &Uverbs, srq_handle: u32, srq_limit: u32) -> Result<()> {
        let command = ModifySrq { srq_handle, attr_mask: SRQ_LIMIT, srq_limit, ..ModifySrq::default() };
        // The driver wants its own part even where it has nothing to say.
        super::command::modify_srq(uverbs, &command).map(drop)
    }

    /// The kernel moves what is in the queue.
    fn resize(&mut self, uverbs: &Uverbs, srq_handle: u32, max_wr: u32) -> Result<()> {
        let slots = max_wr.checked_add(1).and_then(u32::checked_next_power_of_two);
        let queued = self.queue.queued();
        if slots.is_some_and(|slots| slots <= queued) {
            // The driver of 6.1 would refuse that too, but lose its queue and stumble over that at the next message.
            let error = uverbs.error("modify_srq", Errno::EINVAL);
            return Err(error.with_hint(format!("{queued} receives are in the queue")));
        }
        let command = ModifySrq { srq_handle, attr_mask: SRQ_MAX_WR, max_wr, ..ModifySrq::default() };
        let place = super::command::modify_srq(uverbs, &command)?;
        let region = super::map(uverbs, "modify_srq", place)?;
        *self = Self::new(region, "modify_srq", self.limits)?;
        Ok(())
    }
}

#[cfg(test)]
#[path = "srq_tests.rs"]
mod tests;
