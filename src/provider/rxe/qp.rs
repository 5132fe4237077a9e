//! rxe's queue pair: two rings, of which only the send ring has a doorbell.

use nix::errno::Errno;

use super::ring::Producer;
use super::wqe::{self, Limits, RECV_ONE, SEND_ONE};
use crate::error::Result;
use crate::sys::region::Region;
use crate::types::{PostError, PostErrorKind, QpType, RecvWr, SendWr};
use crate::uapi::rxe::CreateQpResp;
use crate::uverbs::qp::{NewQp, QpInit};
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

/// Makes a queue pair and maps its queues; one that takes its receives from a shared queue has none for them.
pub(crate) fn create(uverbs: &Uverbs, init: &QpInit) -> Result<(NewQp, Sq, Option<Rq>)> {
    let mut answer = CreateQpResp::default();
    let made = uverbs.create_qp(init, Udata::answer(&mut answer))?;
    match queues(uverbs, init, &made, &answer) {
        Ok((sq, rq)) => Ok((made, sq, rq)),
        Err(error) => {
            // Nothing to add to the first error.
            let _ = uverbs.destroy_qp(made.handle);
            Err(error)
        }
    }
}

fn queues(uverbs: &Uverbs, init: &QpInit, made: &NewQp, answer: &CreateQpResp) -> Result<(Sq, Option<Rq>)> {
    let mut limits = Limits::new(made.cap.max_send_sge, made.cap.max_inline_data);
    if QpType::from(init.qp_type) == QpType::UD {
        limits = limits.datagrams(MAX_MTU);
    }
    let region = super::map(uverbs, "create_qp", answer.sq_mi)?;
    let sq = Sq::new(region, limits)?;
    if init.srq_handle.is_some() {
        return Ok((sq, None));
    }
    let region = super::map(uverbs, "create_qp", answer.rq_mi)?;
    Ok((sq, Some(Rq::new(region, "create_qp", Limits::new(made.cap.max_recv_sge, 0))?)))
}

impl Sq {
    fn new(region: Region, limits: Limits) -> Result<Self> {
        Ok(Self { ring: Producer::new(region, "create_qp", limits.send_slot())?, limits, ssn: 0 })
    }

    /// From now on a datagram may have `mtu` bytes.
    pub(crate) fn set_mtu(&mut self, mtu: u32) {
        self.limits = self.limits.datagrams(mtu);
    }

    /// Posts requests and rings the doorbell once for all of them.
    #[inline(always)]
    pub(crate) fn post(
        &mut self,
        wrs: &[SendWr<'_>],
        ring_doorbell: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), PostError> {
        let mut refused = None;
        let mut posted = 0;
        for wr in wrs {
            if let Err(kind) = self.push(wr) {
                refused = Some(kind);
                break;
            }
            posted += 1;
        }
        if posted > 0 {
            // The requests, then the index that shows them, then the doorbell that makes the driver look.
            self.ring.publish();
            if let Err(errno) = ring_doorbell() {
                return Err(PostError { posted, kind: PostErrorKind::Doorbell(errno as i32) });
            }
        }
        refused.map_or(Ok(()), |kind| Err(PostError { posted, kind }))
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

impl Rq {
    /// `what` is the verb that the queue comes from.
    pub(super) fn new(region: Region, what: &'static str, limits: Limits) -> Result<Self> {
        Ok(Self { ring: Producer::new(region, what, limits.recv_slot())?, limits })
    }

    /// How many requests no message has taken.
    pub(super) fn queued(&self) -> u32 {
        self.ring.queued()
    }

    /// Posts requests. The driver looks at the ring when a message comes in: no doorbell.
    #[inline(always)]
    pub(crate) fn post(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        let mut refused = None;
        let mut posted = 0;
        for wr in wrs {
            if let Err(kind) = self.push(wr) {
                refused = Some(PostError { posted, kind });
                break;
            }
            posted += 1;
        }
        if posted > 0 {
            self.ring.publish();
        }
        refused.map_or(Ok(()), Err)
    }

    #[inline(always)]
    fn push(&mut self, wr: &RecvWr<'_>) -> Result<(), PostErrorKind> {
        let at = self.ring.free_slot().ok_or(PostErrorKind::QueueFull)?;
        wqe::write_recv(self.ring.slots(), at, wr, &self.limits)?;
        self.ring.fill();
        Ok(())
    }
}

#[cfg(test)]
#[path = "qp_tests.rs"]
mod tests;
