//! rxe's queue pair: two rings, of which only the send ring has a doorbell.

use nix::errno::Errno;

use super::ring::Producer;
use super::wqe::{self, Limits};
use crate::error::Result;
use crate::sys::region::Region;
use crate::types::{PostError, RecvWr, Refusal, SendWr};
use crate::uapi::rxe::CreateQpResp;
use crate::uverbs::qp::{NewQp, QpInit};
use crate::uverbs::{Udata, Uverbs};

/// The ring of a send queue.
pub(crate) struct Sq {
    ring: Producer,
    limits: Limits,
    /// Counts sends: the driver wants them numbered.
    ssn: u32,
}

/// The ring of a receive queue.
pub(crate) struct Rq {
    ring: Producer,
    limits: Limits,
}

/// Makes a queue pair and maps its queues.
pub(crate) fn create(uverbs: &Uverbs, init: &QpInit) -> Result<(NewQp, Sq, Rq)> {
    let mut answer = CreateQpResp::default();
    let made = uverbs.create_qp(init, Udata::answer(&mut answer))?;
    match queues(uverbs, &made, &answer) {
        Ok((sq, rq)) => Ok((made, sq, rq)),
        Err(error) => {
            // Nothing to add to the first error.
            let _ = uverbs.destroy_qp(made.handle);
            Err(error)
        }
    }
}

fn queues(uverbs: &Uverbs, made: &NewQp, answer: &CreateQpResp) -> Result<(Sq, Rq)> {
    let limits = Limits { max_sge: made.cap.max_send_sge, max_inline: made.cap.max_inline_data };
    let region = super::map(uverbs, "create_qp", answer.sq_mi)?;
    let sq = Sq::new(region, limits)?;
    let limits = Limits { max_sge: made.cap.max_recv_sge, max_inline: 0 };
    let region = super::map(uverbs, "create_qp", answer.rq_mi)?;
    Ok((sq, Rq::new(region, limits)?))
}

impl Sq {
    fn new(region: Region, limits: Limits) -> Result<Self> {
        Ok(Self { ring: Producer::new(region, "create_qp", limits.send_slot())?, limits, ssn: 0 })
    }

    /// Posts requests and rings the doorbell once for all of them.
    #[inline(always)]
    pub(crate) fn post<'a>(
        &mut self,
        wrs: impl IntoIterator<Item = SendWr<'a>>,
        ring_doorbell: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), PostError> {
        let mut refused = None;
        let mut posted = 0;
        for wr in wrs {
            if let Err(refusal) = self.push(&wr) {
                refused = Some(refusal);
                break;
            }
            posted += 1;
        }
        if posted > 0 {
            // The requests, then the index that shows them, then the doorbell that makes the driver look.
            self.ring.publish();
            if let Err(errno) = ring_doorbell() {
                return Err(PostError { posted, refusal: Refusal::Doorbell(errno) });
            }
        }
        refused.map_or(Ok(()), |refusal| Err(PostError { posted, refusal }))
    }

    #[inline(always)]
    fn push(&mut self, wr: &SendWr<'_>) -> Result<(), Refusal> {
        let at = self.ring.free_slot().ok_or(Refusal::QueueFull)?;
        wqe::write_send(self.ring.region(), at, wr, self.limits, self.ssn)?;
        self.ssn = self.ssn.wrapping_add(1);
        self.ring.fill();
        Ok(())
    }
}

impl Rq {
    fn new(region: Region, limits: Limits) -> Result<Self> {
        Ok(Self { ring: Producer::new(region, "create_qp", limits.recv_slot())?, limits })
    }

    /// Posts requests. The driver looks at the ring when a message comes in: no doorbell.
    #[inline(always)]
    pub(crate) fn post<'a>(&mut self, wrs: impl IntoIterator<Item = RecvWr<'a>>) -> Result<(), PostError> {
        let mut refused = None;
        let mut posted = 0;
        for wr in wrs {
            if let Err(refusal) = self.push(&wr) {
                refused = Some(PostError { posted, refusal });
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
    fn push(&mut self, wr: &RecvWr<'_>) -> Result<(), Refusal> {
        let at = self.ring.free_slot().ok_or(Refusal::QueueFull)?;
        wqe::write_recv(self.ring.region(), at, wr, self.limits)?;
        self.ring.fill();
        Ok(())
    }
}

#[cfg(test)]
#[path = "qp_tests.rs"]
mod tests;
