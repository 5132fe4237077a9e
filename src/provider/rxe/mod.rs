//! rxe: RDMA in software, over UDP (the kernel's `rdma_rxe`).
//!
//! Its queues are rings in memory that the driver shares ([`ring`]). A completion is read and a receive is posted with no system
//! call; a send needs one, to wake the driver, however many requests it announces.

pub(crate) mod ah;
pub(crate) mod cq;
#[cfg(test)]
mod mock;
pub(crate) mod qp;
mod ring;
pub(crate) mod srq;
mod wqe;

use crate::error::{Error, Result};
use crate::sys::region::Region;
use crate::uapi::rxe::MmInfo;
use crate::uverbs::Uverbs;

/// Maps the queue that the driver has described.
fn map(uverbs: &Uverbs, what: &'static str, info: MmInfo) -> Result<Region> {
    use std::os::fd::AsFd;
    if info.size == 0 {
        return Err(Error::bad_answer(what, uverbs.device(), "the driver gave no queue to map"));
    }
    Region::map(uverbs.as_fd(), info.offset, info.size as usize).map_err(|errno| {
        let why = "the kernel's new queue could not be mapped: is the address space limited (ulimit -v)?";
        uverbs.error(what, errno).with_hint(why)
    })
}
