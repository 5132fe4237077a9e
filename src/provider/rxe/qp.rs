//! rxe's queue pair: two rings, of which only the send ring has a doorbell.

use nix::errno::Errno;

use super::ring::Producer;
use super::wqe::{self, Limits, RECV_ONE, SEND_ONE};
use crate::error::Result;
use crate::provider::post::post_all;
use crate::provider::{Created, Hold, NewQp, RecvQueue, SendQueue};
use crate::sys::region::Region;
use crate::types::{PostError, PostErrorKind, QpType, RecvWr, SendWr};
use crate::uapi::rxe::CreateQpResp;
use crate::uverbs::qp::QpParams;
use crate::uverbs::{Udata, Uverbs};

/// The ring of a send queue.
pub(crate) struct Sq {
    ring: Producer<SEND_ONE>,
    limits: Limits,
    /// Counts sends: the driver wants them numbered.
    ssn: u32,
}

/// The ring of a receive queue, shared or not.
pub(crate) struct Rq {
    ring: Producer<RECV_ONE>,
    limits: Limits,
}

/// The longest datagram that any port takes, until the port is known.
const MAX_MTU: u32 = 4096;

/// Creates a queue pair and maps its queues. One that takes its receives from a shared queue has none for them.
pub(super) fn create(uverbs: &Uverbs, params: &QpParams) -> Result<NewQp<Option<Sq>, Option<Rq>>> {
    let mut places = CreateQpResp::default();
    let answer = uverbs.create_qp(params, Udata::answer(&mut places))?;
    let created = Created::new(uverbs, answer.handle, Uverbs::destroy_qp);
    let mut limits = Limits::new(answer.cap.max_send_sge, answer.cap.max_inline_data);
    if QpType::from(params.qp_type) == QpType::UD {
        limits = limits.datagrams(MAX_MTU);
    }
    let map = |place| super::map(uverbs, "create_qp", place);
    let sq = Sq::new(map(places.sq_mi)?, limits)?;
    let rq = match params.srq_handle {
        Some(_) => None,
        None => {
            let limits = Limits::new(answer.cap.max_recv_sge, 0);
            Some(Rq::new(map(places.rq_mi)?, "create_qp", limits)?)
        }
    };
    created.keep();
    Ok(NewQp { answer, sq: Some(sq), rq, hold: Hold::NOTHING })
}

impl Sq {
    fn new(region: Region, limits: Limits) -> Result<Self> {
        Ok(Self { ring: Producer::new(region, "create_qp", limits.send_slot())?, limits, ssn: 0 })
    }

    #[inline(always)]
    fn push(&mut self, wr: &SendWr<'_>) -> Result<(), PostErrorKind> {
        let at = self.ring.free_slot().ok_or(PostErrorKind::QueueFull)?;
        wqe::write_send(self.ring.slots(), at, wr, &self.limits, self.ssn)?;
        self.ssn = self.ssn.wrapping_add(1);
        self.ring.fill();
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
        post_all(self, wrs, Self::push, |sq, _| {
            // The requests, then the index that shows them, then the doorbell that makes the driver look.
            sq.ring.publish();
            doorbell()
        })
    }

    fn set_mtu(&mut self, mtu: u32) {
        self.limits = self.limits.datagrams(mtu);
    }
}

impl Rq {
    /// `what` is the verb that the queue comes from.
    pub(super) fn new(region: Region, what: &'static str, limits: Limits) -> Result<Self> {
        Ok(Self { ring: Producer::new(region, what, limits.recv_slot())?, limits })
    }

    /// How many requests no message has taken.
    pub(super) fn queued(&self) -> u32 {
        self.ring.queued()
    }

    #[inline(always)]
    fn push(&mut self, wr: &RecvWr<'_>) -> Result<(), PostErrorKind> {
        let at = self.ring.free_slot().ok_or(PostErrorKind::QueueFull)?;
        wqe::write_recv(self.ring.slots(), at, wr, &self.limits)?;
        self.ring.fill();
        Ok(())
    }
}

impl RecvQueue for Rq {
    /// The driver looks at the ring when a message comes in: no doorbell.
    #[inline(always)]
    fn post(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        post_all(self, wrs, Self::push, |rq, _| {
            rq.ring.publish();
            Ok(())
        })
    }
}

#[cfg(test)]
#[path = "qp_tests.rs"]
mod tests;
