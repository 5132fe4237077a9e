//! siw: iWARP in software, over TCP (the kernel's `siw`).
//!
//! Its queues are arrays in memory that the driver shares ([`ring`]); a flag in each entry says whose it is. Completions are polled,
//! receives posted and events requested without a system call. A send takes one, however many requests it announces.

mod cq;
#[cfg(test)]
mod mock;
mod qp;
mod ring;
mod srq;
mod wqe;

use crate::error::{Cause, Error, Result};
use crate::provider::{Driver, Hold, NewAh, NewCq, NewQp, NewSrq, Queues};
use crate::types::EthAddr;
use crate::uapi::siw::{SIW_ABI_VERSION, UreqRegMr, UrespAllocCtx, UrespRegMr};
use crate::uapi::verbs::AhAttr;
use crate::uverbs::cq::CqParams;
use crate::uverbs::device::NewContext;
use crate::uverbs::qp::QpParams;
use crate::uverbs::srq::SrqParams;
use crate::uverbs::{Udata, Uverbs};

/// siw's devices. Their queues share nothing.
#[derive(Debug)]
pub(crate) struct Siw;

impl Driver for Siw {
    type Cq = cq::Cq;
    type Sq = qp::Sq;
    type Rq = qp::Rq;
    type Srq = srq::Srq;

    const IGNORES_IOVA: bool = true;

    fn open(uverbs: &Uverbs, abi: u32) -> Result<(NewContext, Self)> {
        if abi != SIW_ABI_VERSION {
            let why = format!("its driver speaks ABI version {abi}; version {SIW_ABI_VERSION} is known");
            return Err(unsupported("open", uverbs, why));
        }
        let mut answer = UrespAllocCtx::default();
        Ok((uverbs.get_context(Udata::answer(&mut answer))?, Self))
    }

    fn with_region<T>(&self, register: impl FnOnce(Udata<'_>) -> T) -> T {
        // The driver insists on room for an answer, which repeats the key.
        let (request, mut answer) = (UreqRegMr::default(), UrespRegMr::default());
        register(Udata::both(&request, &mut answer))
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
        _pd_handle: u32,
        _pd: &Hold,
        _attr: AhAttr,
        _eth_addr: impl FnOnce(&AhAttr) -> Result<EthAddr>,
    ) -> Result<NewAh> {
        Err(unsupported("create_ah", uverbs, "iWARP has no datagrams, so no address handles".into()))
    }
}

fn unsupported(operation: &'static str, uverbs: &Uverbs, why: String) -> Error {
    Error::new(operation, uverbs.device(), Cause::Unsupported(why.into()))
}
