//! Regions of memory that is not this library's to copy: buffers of other devices, and the whole address space.

use std::ops::RangeBounds;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::mr::{bounds, element};
use super::mr_init::{explain, lacks, unsupported};
use super::object::{Kind, Object};
use crate::error::{Error, Result};
use crate::types::{Access, Lkey, Remote, Rkey, Sge};
use crate::uverbs::Uverbs;
use crate::uverbs::mr::{NewMr, RegDmabufMr};

/// A region whose bytes only the device reaches through this library: it can be named in requests, but not copied.
///
/// [`Pd::reg_dmabuf_mr`](super::Pd::reg_dmabuf_mr) and [`Pd::reg_implicit_mr`](super::Pd::reg_implicit_mr) make such regions.
#[derive(Debug)]
pub struct OpaqueMr {
    object: Object,
    addr: u64,
    length: usize,
    lkey: Lkey,
    rkey: Rkey,
    _pd: Arc<Object>,
}

const KIND: Kind = Kind { verb: "dereg_mr", destroy: Uverbs::dereg_mr };

impl OpaqueMr {
    /// The kernel's handle.
    pub(crate) fn raw_handle(&self) -> u32 {
        self.object.handle
    }

    pub(super) fn dmabuf(
        pd: &Arc<Object>,
        fd: BorrowedFd<'_>,
        offset: u64,
        length: usize,
        iova: u64,
        access: Access,
    ) -> Result<Self> {
        const VERB: &str = "reg_dmabuf_mr";
        let uverbs = &pd.ctx.uverbs;
        if length == 0 {
            return Err(Error::invalid(VERB, uverbs.device(), "a region of 0 bytes"));
        }
        if iova.checked_add(length as u64).is_none() {
            let why = format!("{length} bytes from the iova {iova:#x} on end beyond the address space");
            return Err(Error::invalid(VERB, uverbs.device(), why));
        }
        let access_flags = access.bits();
        let request =
            RegDmabufMr { pd_handle: pd.handle, fd, offset, length: length as u64, iova, access_flags };
        let made = uverbs.reg_dmabuf_mr(&request).map_err(|error| match error.errno() {
            _ if lacks(&error) => unsupported(VERB, uverbs.device(), "import of dma-bufs"),
            Some(Errno::EINVAL) => error.with_hint(
                "is the descriptor a dma-buf, is the range within it, and do offset and iova lie equally far into a page?",
            ),
            _ => error,
        })?;
        Ok(Self {
            object: Object::new(&pd.ctx, made.mr_handle, KIND),
            addr: iova,
            length,
            lkey: Lkey(made.lkey),
            rkey: Rkey(made.rkey),
            _pd: Arc::clone(pd),
        })
    }

    /// # Safety
    /// That of [`super::Pd::reg_implicit_mr`].
    #[allow(unsafe_code)]
    pub(super) unsafe fn implicit(pd: &Arc<Object>, access: Access) -> Result<Self> {
        const IMPLICIT: u64 = 1 << 1;
        let uverbs = &pd.ctx.uverbs;
        let access = access | Access::ON_DEMAND;
        let region =
            NewMr { pd_handle: pd.handle, start: 0, length: u64::MAX, iova: 0, access_flags: access.bits() };
        // SAFETY: the caller's promise; the region has no memory of its own.
        let made = pd.ctx.provider().with_region(|driver| unsafe { uverbs.reg_mr(&region, driver) });
        let made = made.map_err(|error| {
            let caps = uverbs.query_device().map_or(0, |device| device.odp_caps.general_caps);
            match error.errno() {
                Some(Errno::EINVAL) if caps & IMPLICIT == 0 => {
                    unsupported("reg_mr", uverbs.device(), "implicit on-demand paging")
                }
                _ if lacks(&error) => unsupported("reg_mr", uverbs.device(), "implicit on-demand paging"),
                _ => explain(error, 0, access),
            }
        })?;
        Ok(Self {
            object: Object::new(&pd.ctx, made.mr_handle, KIND),
            addr: 0,
            length: usize::MAX,
            lkey: Lkey(made.lkey),
            rkey: Rkey(made.rkey),
            _pd: Arc::clone(pd),
        })
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

    /// Names some of the bytes for a request. In an implicit region, offsets are addresses of this process.
    ///
    /// # Panics
    /// The range ends beyond the region, or is of more than 4 GiB.
    #[must_use]
    #[track_caller]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Sge {
        element(range, self.length, self.addr, self.lkey)
    }

    /// Names the byte at `offset` for a peer's one-sided requests.
    ///
    /// # Panics
    /// `offset` is beyond the end of the region.
    #[must_use]
    #[track_caller]
    pub fn remote(&self, offset: usize) -> Remote {
        let (start, _) = bounds(offset.., self.length);
        Remote { addr: self.addr + start as u64, rkey: self.rkey }
    }

    /// Deregisters the region.
    ///
    /// # Errors
    /// The kernel refuses: a memory window is bound to it.
    pub fn destroy(mut self) -> Result<()> {
        self.object.destroy()
    }
}
