//! siw's shared receive queue: a receive queue that several queue pairs take from.

use super::qp::Rq;
use super::ring::size;
use super::wqe::RQE;
use crate::error::Result;
use crate::provider::driver::map_queue;
use crate::provider::{Created, Hold, NewSrq, RecvQueue, SharedRecvQueue};
use crate::types::{PostError, RecvWr};
use crate::uapi::siw::UrespCreateSrq;
use crate::uverbs::srq::SrqParams;
use crate::uverbs::{Udata, Uverbs};

/// The ring of a shared receive queue.
pub(crate) struct Srq(Rq);

/// Creates a shared receive queue and maps it.
pub(super) fn create(uverbs: &Uverbs, params: &SrqParams) -> Result<NewSrq<Srq>> {
    const WHAT: &str = "create_srq";
    if params.xrc.is_some() {
        return Err(super::unsupported(WHAT, uverbs, "iWARP has no XRC".into()));
    }
    let mut place = UrespCreateSrq::default();
    let answer = uverbs.create_srq(params, Udata::answer(&mut place))?;
    let created = Created::new(uverbs, answer.handle, Uverbs::destroy_srq);
    let region = map_queue(uverbs, WHAT, place.srq_key, size::<RQE>(place.num_rqe, 0, WHAT)?)?;
    let ring = Srq(Rq::new(region, place.num_rqe, WHAT, answer.max_sge)?);
    created.keep();
    Ok(NewSrq { answer, ring, hold: Hold::NOTHING })
}

impl RecvQueue for Srq {
    #[inline(always)]
    fn post(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        self.0.post(wrs)
    }
}

impl SharedRecvQueue for Srq {}
