//! siw's queue pair: two arrays of requests, of which only that for sends has a doorbell.

use nix::errno::Errno;

use super::ring::{Producer, size};
use super::wqe::{self, Limits, RQE, SQE};
use crate::error::Result;
use crate::provider::driver::map_queue;
use crate::provider::post::post_all;
use crate::provider::{Created, Hold, NewQp, RecvQueue, SendQueue};
use crate::sys::region::Region;
use crate::types::{PostError, PostErrorKind, QpType, RecvWr, SendWr};
use crate::uapi::siw::UrespCreateQp;
use crate::uverbs::qp::QpParams;
use crate::uverbs::{Udata, Uverbs};

/// The ring of a send queue.
pub(crate) struct Sq {
    ring: Producer<SQE>,
    limits: Limits,
}

/// The ring of a receive queue, shared or not.
pub(crate) struct Rq {
    ring: Producer<RQE>,
    limits: Limits,
}

/// Creates a queue pair and maps its queues. The driver creates no receive queue for one that has a shared one, or no receives.
pub(super) fn create(uverbs: &Uverbs, params: &QpParams) -> Result<NewQp<Option<Sq>, Option<Rq>>> {
    const WHAT: &str = "create_qp";
    if QpType::from(params.qp_type) != QpType::RC {
        let why = "iWARP has reliable connections only";
        return Err(super::unsupported(WHAT, uverbs, why.into()));
    }
    let mut places = UrespCreateQp::default();
    let answer = uverbs.create_qp(params, Udata::answer(&mut places))?;
    let created = Created::new(uverbs, answer.handle, Uverbs::destroy_qp);
    let UrespCreateQp { num_sqe, num_rqe, sq_key, rq_key, .. } = places;
    let region = map_queue(uverbs, WHAT, sq_key, size::<SQE>(num_sqe, 0, WHAT)?)?;
    let cap = answer.cap;
    let sq = Sq::new(region, num_sqe, Limits::new(cap.max_send_sge, cap.max_inline_data, params.sq_sig_all))?;
    let rq = if params.srq_handle.is_some() || num_rqe == 0 {
        None
    } else {
        let region = map_queue(uverbs, WHAT, rq_key, size::<RQE>(num_rqe, 0, WHAT)?)?;
        Some(Rq::new(region, num_rqe, WHAT, cap.max_recv_sge)?)
    };
    created.keep();
    Ok(NewQp { answer, sq: Some(sq), rq, hold: Hold::NOTHING })
}

impl Sq {
    fn new(region: Region, count: u32, limits: Limits) -> Result<Self> {
        Ok(Self { ring: Producer::new(region, count, "create_qp")?, limits })
    }

    #[inline(always)]
    fn push(&mut self, wr: &SendWr<'_>) -> Result<(), PostErrorKind> {
        let at = self.ring.free_slot().ok_or(PostErrorKind::QueueFull)?;
        let turn = wqe::write_send(&mut self.ring, at, wr, &self.limits)?;
        self.ring.hand_over(turn);
        Ok(())
    }
}

impl SendQueue for Sq {
    type Rq = Rq;

    #[inline(always)]
    fn post(
        &mut self,
        wrs: &[SendWr<'_>],
        doorbell: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), PostError> {
        // The driver sends during the system call, so it is rarely found busy: asking first whether it is would save nothing.
        post_all(self, wrs, Self::push, |_, _| doorbell())
    }

    /// There are no datagrams.
    fn set_mtu(&mut self, _mtu: u32) {}
}

impl Rq {
    /// A receive queue of `count` entries; `what` is the verb that it comes from.
    pub(super) fn new(region: Region, count: u32, what: &'static str, max_sge: u32) -> Result<Self> {
        Ok(Self { ring: Producer::new(region, count, what)?, limits: Limits::new(max_sge, 0, false) })
    }

    #[inline(always)]
    fn push(&mut self, wr: &RecvWr<'_>) -> Result<(), PostErrorKind> {
        let at = self.ring.free_slot().ok_or(PostErrorKind::QueueFull)?;
        let turn = wqe::write_recv(&mut self.ring, at, wr, &self.limits)?;
        self.ring.hand_over(turn);
        Ok(())
    }
}

impl RecvQueue for Rq {
    /// The driver looks at the queue when a message arrives: no doorbell.
    #[inline(always)]
    fn post(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        post_all(self, wrs, Self::push, |_, _| Ok(()))
    }
}

#[cfg(test)]
#[path = "qp_tests.rs"]
mod tests;
