//! The commands that hand memory of this process to the driver: where a queue and its doorbell record lie.
//!
//! The kernel pins the pages of both when it creates the object and releases them when it destroys it. These functions take only
//! pages that a [`Region`] has mapped for itself, and check that the queue fits. So all that a device can reach by these addresses
//! is that memory, even after the process has unmapped it.

#![allow(unsafe_code)] // addresses in the driver's structures

use nix::errno::Errno;

use super::dbrec::Record;
use crate::error::Result;
use crate::sys::region::Region;
use crate::uapi::mlx4 as abi;
use crate::uverbs::cq::{CqAnswer, CqParams};
use crate::uverbs::qp::{QpAnswer, QpParams};
use crate::uverbs::srq::{SrqAnswer, SrqParams};
use crate::uverbs::{Udata, Uverbs};

/// Creates a completion queue of `params.cqe` + 1 entries of 2^`shift` bytes in `memory`. Returns its number beside the answer.
pub(super) fn create_cq(
    uverbs: &Uverbs,
    params: &CqParams<'_>,
    memory: &Region,
    shift: u32,
    record: &Record,
) -> Result<(CqAnswer, u32)> {
    let buf_addr = address(uverbs, "create_cq", memory, bytes(params.cqe, shift))?;
    let input = abi::CreateCq { buf_addr, db_addr: record.address() };
    let mut answer = abi::CreateCqResp::default();
    // SAFETY: the module's documentation; the driver pins as many bytes as were checked.
    let driver = unsafe { Udata::with_addresses(&input, &mut answer) };
    let made = uverbs.create_cq(params, driver)?;
    Ok((made, answer.cqn))
}

/// Moves a completion queue to `memory`, where it gets `cqe` + 1 entries of 2^`shift` bytes. Returns how many it holds.
pub(super) fn resize_cq(uverbs: &Uverbs, handle: u32, cqe: u32, memory: &Region, shift: u32) -> Result<u32> {
    let input = abi::ResizeCq { buf_addr: address(uverbs, "resize_cq", memory, bytes(cqe, shift))? };
    let mut answer = ();
    // SAFETY: as in `create_cq`.
    let driver = unsafe { Udata::with_addresses(&input, &mut answer) };
    uverbs.resize_cq(handle, cqe, driver)
}

/// A queue pair's memory, as its driver needs it.
pub(super) struct QpMemory<'m> {
    /// Both queues.
    pub(super) queues: &'m Region,
    /// `None` if there is no receive queue.
    pub(super) record: Option<&'m Record>,
    pub(super) log_send_slots: u8,
    pub(super) log_send_slot: u8,
}

/// Creates a queue pair. The device only reads this memory, so it does not matter for safety how large the driver takes it to be.
pub(super) fn create_qp(uverbs: &Uverbs, params: &QpParams, memory: &QpMemory<'_>) -> Result<QpAnswer> {
    let input = abi::CreateQp {
        buf_addr: address(uverbs, "create_qp", memory.queues, Some(memory.queues.len()))?,
        db_addr: memory.record.map_or(0, Record::address),
        log_sq_bb_count: memory.log_send_slots,
        log_sq_stride: memory.log_send_slot,
        ..abi::CreateQp::default()
    };
    let mut answer = ();
    // SAFETY: the driver pins the queues and the record for reading.
    let driver = unsafe { Udata::with_addresses(&input, &mut answer) };
    uverbs.create_qp(params, driver)
}

/// Creates a shared receive queue, of which the device only reads the memory. Returns its number beside the answer.
pub(super) fn create_srq(
    uverbs: &Uverbs,
    params: &SrqParams,
    memory: &Region,
    record: &Record,
) -> Result<(SrqAnswer, u32)> {
    let buf_addr = address(uverbs, "create_srq", memory, Some(memory.len()))?;
    let input = abi::CreateSrq { buf_addr, db_addr: record.address() };
    let mut answer = abi::CreateSrqResp::default();
    // SAFETY: the driver pins the queue and the record for reading.
    let driver = unsafe { Udata::with_addresses(&input, &mut answer) };
    let made = uverbs.create_srq(params, driver)?;
    Ok((made, answer.srqn))
}

/// Bytes of `cqe` + 1 entries.
fn bytes(cqe: u32, shift: u32) -> Option<usize> {
    (cqe as usize).checked_add(1)?.checked_mul(1usize.checked_shl(shift)?)
}

/// The address of a queue of so many bytes in `memory`.
fn address(uverbs: &Uverbs, verb: &'static str, memory: &Region, bytes: Option<usize>) -> Result<u64> {
    bytes.and_then(|bytes| memory.own_pages(bytes)).ok_or_else(|| uverbs.error(verb, Errno::EFAULT))
}
