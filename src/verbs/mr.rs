//! Memory regions.

use std::ops::{Bound, RangeBounds};
use std::ptr::NonNull;
use std::sync::Arc;

use super::object::{Kind, Object};
use crate::error::{Error, Result};
use crate::sys::linux;
use crate::sys::region::Region;
use crate::types::{Access, Lkey, Remote, Rkey, Sge};
use crate::uverbs::Uverbs;

/// Registered memory: a device, and peers where the access allows it, may read and write it at any time.
///
/// That is why it is never lent as a slice: [`read`](Self::read) and [`write`](Self::write) copy. The region is deregistered
/// before its memory is freed, so that a late transfer meets a protection error and not somebody else's memory.
#[derive(Debug)]
pub struct Mr {
    object: Object,
    /// `None` only while being dropped.
    memory: Option<Region>,
    lkey: Lkey,
    rkey: Rkey,
    pd: Arc<Object>,
}

impl Mr {
    pub(super) fn alloc(pd: &Arc<Object>, length: usize, access: Access) -> Result<Self> {
        let device = pd.ctx.uverbs.device();
        if length == 0 {
            return Err(Error::invalid("reg_mr", device, "a region of 0 bytes"));
        }
        let memory = Region::anonymous(length).map_err(|e| {
            Error::os("allocate a region", device, e).with_hint(format!("{length} bytes were asked for"))
        })?;
        Self::of_region(pd, memory, access)
    }

    /// # Safety
    /// That of [`super::Pd::register_mr`].
    #[allow(unsafe_code)]
    pub(super) unsafe fn register(
        pd: &Arc<Object>,
        base: NonNull<u8>,
        length: usize,
        access: Access,
    ) -> Result<Self> {
        // SAFETY: promised by the caller for as long as the Mr lives, which holds the region.
        let memory = unsafe { Region::foreign(base, length) };
        Self::of_region(pd, memory, access)
    }

    fn of_region(pd: &Arc<Object>, memory: Region, access: Access) -> Result<Self> {
        const KIND: Kind = Kind { verb: "dereg_mr", unmake: Uverbs::dereg_mr };
        let (start, length) = (memory.address(), memory.len());
        let uverbs = &pd.ctx.uverbs;
        let made = uverbs
            .reg_mr(pd.handle, start, length as u64, start, access.bits())
            .map_err(|error| explain(error, length, access))?;
        Ok(Self {
            object: Object::new(&pd.ctx, made.mr_handle, KIND),
            memory: Some(memory),
            lkey: Lkey(made.lkey),
            rkey: Rkey(made.rkey),
            pd: Arc::clone(pd),
        })
    }

    /// Bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // a region is never empty
    pub fn len(&self) -> usize {
        self.memory.as_ref().map_or(0, Region::len)
    }

    /// The address under which requests name the first byte.
    #[must_use]
    pub fn addr(&self) -> u64 {
        self.memory.as_ref().map_or(0, Region::address)
    }

    /// The key for requests of this side.
    #[must_use]
    pub fn lkey(&self) -> Lkey {
        self.lkey
    }

    /// The key for requests of a peer.
    #[must_use]
    pub fn rkey(&self) -> Rkey {
        self.rkey
    }

    /// Names a part of the region for a request: `mr.slice(..)` is all of it.
    ///
    /// # Panics
    /// The range ends beyond the region (or beyond 4 GiB), as with slices.
    #[must_use]
    #[track_caller]
    #[allow(clippy::panic)]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Sge {
        let start = match range.start_bound() {
            Bound::Included(&n) => n,
            Bound::Excluded(&n) => n.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&n) => n.saturating_add(1),
            Bound::Excluded(&n) => n,
            Bound::Unbounded => self.len(),
        };
        match end.checked_sub(start).map(u32::try_from) {
            Some(Ok(length)) if end <= self.len() => {
                Sge { addr: self.addr() + start as u64, length, lkey: self.lkey }
            }
            _ => panic!("range {start}..{end} of a region of {} bytes", self.len()),
        }
    }

    /// Names the byte at `offset` for a peer's one-sided requests; the peer must be told it.
    #[must_use]
    pub fn remote(&self, offset: usize) -> Remote {
        Remote { addr: self.addr().wrapping_add(offset as u64), rkey: self.rkey }
    }

    /// Copies out of the region, from `offset` on.
    ///
    /// What a transfer is writing at the same time may come out in parts.
    ///
    /// # Panics
    /// The bytes are not all within the region.
    #[track_caller]
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        if let Some(memory) = &self.memory {
            memory.read_bytes(offset, bytes);
        }
    }

    /// Copies into the region, from `offset` on.
    ///
    /// # Panics
    /// The bytes are not all within the region.
    #[track_caller]
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(memory) = &mut self.memory {
            memory.write_bytes(offset, bytes);
        }
    }

    /// Has the pages of an on-demand region ([`Access::ON_DEMAND`]) brought in before they are needed.
    ///
    /// # Errors
    /// The driver does not take advice. Linux 5.1; `ibv_advise_mr(3)`.
    pub fn prefetch(&self) -> Result<()> {
        let uverbs = &self.object.ctx.uverbs;
        let length = u32::try_from(self.len()).unwrap_or(u32::MAX);
        let all = crate::uapi::verbs::Sge { addr: self.addr(), length, lkey: self.lkey.0 };
        uverbs.prefetch(self.pd.handle, all).map_err(|e| uverbs.error("advise_mr", e))
    }

    /// Deregisters the region and frees its memory.
    ///
    /// # Errors
    /// The kernel refuses (a memory window is bound to it): then the memory is never freed.
    pub fn destroy(mut self) -> Result<()> {
        self.release()
    }

    fn release(&mut self) -> Result<()> {
        let done = self.object.destroy();
        let memory = self.memory.take();
        if done.is_err() {
            // The device may still reach it: memory that is lost is better than memory that is shared.
            std::mem::forget(memory);
        }
        done
    }
}

impl Drop for Mr {
    fn drop(&mut self) {
        if self.memory.is_some() {
            let _ = self.release();
        }
    }
}

/// Adds what the kernel's errno leaves unsaid.
fn explain(error: Error, length: usize, access: Access) -> Error {
    use nix::errno::Errno;
    let remote = Access::REMOTE_WRITE | Access::REMOTE_ATOMIC;
    match error.errno() {
        Some(Errno::ENOMEM) => match linux::memlock_limit() {
            Some(limit) if limit < length as u64 => error.with_hint(format!(
                "the memlock limit is {limit} bytes and {length} are to be pinned: raise it with ulimit -l \
                     or in limits.conf"
            )),
            _ => error.with_hint(format!("{length} bytes are to be pinned")),
        },
        Some(Errno::EINVAL) if access.intersects(remote) && !access.contains(Access::LOCAL_WRITE) => {
            error.with_hint("remote write and remote atomic need local write too")
        }
        _ => error,
    }
}
