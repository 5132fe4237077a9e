//! The one command of rxe that has an address beside its answer's.

#![allow(unsafe_code)] // the address of an answer

use zerocopy::IntoBytes;

use crate::error::Result;
use crate::uapi::rxe::{MmInfo, ModifySrqCmd};
use crate::uapi::verbs::ModifySrq;
use crate::uverbs::{Udata, Uverbs};

/// Changes the size or the limit of a shared receive queue. Returns where to map the new queue, if the size has changed.
pub(super) fn modify_srq(uverbs: &Uverbs, command: &ModifySrq) -> Result<MmInfo> {
    let mut place = MmInfo::default();
    let mmap_info_addr = place.as_mut_bytes().as_mut_ptr().expose_provenance() as u64;
    let input = ModifySrqCmd { mmap_info_addr };
    let mut answer = ();
    // SAFETY: the driver writes a `struct mminfo` there before the command returns, and `place` is one.
    let driver = unsafe { Udata::with_addresses(&input, &mut answer) };
    uverbs.modify_srq(command, driver)?;
    Ok(place)
}
