//! rxe: RDMA in software, over UDP (the kernel's `rdma_rxe`).
//!
//! Its queues are rings in memory that the driver shares ([`ring`]). A completion is read and a receive is posted with no system
//! call; a send needs one, to wake the driver, however many requests it announces.

mod ah;
mod command;
mod cq;
#[cfg(test)]
mod mock;
mod qp;
mod ring;
mod srq;
mod wqe;

use crate::error::Result;
use crate::provider::driver::map_queue;
use crate::provider::{Driver, Hold, NewAh, NewCq, NewQp, NewSrq, Queues};
use crate::sys::region::Region;
use crate::types::EthAddr;
use crate::uapi::rxe::MmInfo;
use crate::uapi::verbs::AhAttr;
use crate::uverbs::cq::CqParams;
use crate::uverbs::device::NewContext;
use crate::uverbs::qp::QpParams;
use crate::uverbs::srq::SrqParams;
use crate::uverbs::{Udata, Uverbs};

/// rxe's devices. They have nothing that queues share.
#[derive(Debug)]
pub(crate) struct Rxe;

impl Driver for Rxe {
    type Cq = cq::Cq;
    type Sq = qp::Sq;
    type Rq = qp::Rq;
    type Srq = srq::Srq;

    fn open(uverbs: &Uverbs, _abi: u32) -> Result<(NewContext, Self)> {
        Ok((uverbs.get_context(Udata::none())?, Self))
    }

    fn create_cq(&self, uverbs: &Uverbs, params: &CqParams<'_>) -> Result<NewCq<cq::Cq>> {
        cq::create(uverbs, params)
    }

    fn create_qp(
        &self,
        uverbs: &Uverbs,
        params: &QpParams,
        _queues: Queues<'_>,
    ) -> Result<NewQp<Option<qp::Sq>, Option<qp::Rq>>> {
        qp::create(uverbs, params)
    }

    fn create_srq(
        &self,
        uverbs: &Uverbs,
        params: &SrqParams,
        _xrc_cq: Option<&Hold>,
    ) -> Result<NewSrq<srq::Srq>> {
        srq::create(uverbs, params)
    }

    fn create_ah(
        &self,
        uverbs: &Uverbs,
        pd_handle: u32,
        _pd: &Hold,
        attr: AhAttr,
        _eth_addr: impl FnOnce(&AhAttr) -> Result<EthAddr>,
    ) -> Result<NewAh> {
        ah::create(uverbs, pd_handle, attr)
    }
}

/// Maps the queue that the driver has described in its answer.
fn map(uverbs: &Uverbs, what: &'static str, place: MmInfo) -> Result<Region> {
    map_queue(uverbs, what, place.offset, place.size)
}
