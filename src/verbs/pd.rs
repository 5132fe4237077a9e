//! Protection domains.

use std::sync::Arc;

use super::context::ContextInner;
use super::object::{Kind, Object};
use super::{AddressVector, Ah, Mr, Mw, Qp, QpInit, Srq, SrqInit};
use crate::error::Result;
use crate::types::{Access, MwType};
use crate::uverbs::Uverbs;

/// A protection domain: regions and queue pairs of one domain may be used together, others may not.
///
/// Cloning gives another handle on the same domain. See `ibv_alloc_pd(3)`.
#[derive(Debug, Clone)]
pub struct Pd(pub(super) Arc<Object>);

impl Pd {
    pub(super) fn alloc(ctx: &Arc<ContextInner>) -> Result<Self> {
        const KIND: Kind = Kind { verb: "dealloc_pd", unmake: Uverbs::dealloc_pd };
        let (handle, hold) = ctx.provider().alloc_pd(&ctx.uverbs)?;
        Ok(Self(Arc::new(Object::new(ctx, handle, KIND).holding(hold))))
    }

    /// Allocates `length` zeroed bytes, page-aligned, and registers them. See `ibv_reg_mr(3)`.
    ///
    /// # Errors
    /// `length` is 0; the memory, or the memlock limit, does not suffice; remote write or remote atomic without local write.
    pub fn alloc_mr(&self, length: usize, access: Access) -> Result<Mr> {
        Mr::alloc(&self.0, length, access)
    }

    /// Registers memory that the caller owns. See `ibv_reg_mr(3)`.
    ///
    /// # Errors
    /// As [`Pd::alloc_mr`], or the kernel cannot pin these pages.
    ///
    /// # Safety
    /// The `length` bytes at `base` are valid for reads and writes, whatever `access` allows the device ([`Mr::write`] asks
    /// nobody), and are neither freed nor read or written through Rust references until the region is gone: the
    /// device, and peers where `access` allows it, read and write them at any time. Where regions overlap, no thread calls
    /// [`Mr::write`] of one while another calls [`Mr::read`] or [`Mr::write`] of the other. [`Mr::destroy`] tells whether it
    /// is gone; after a failed one, and after a drop that nobody can be told the failure of, the device may reach them
    /// until the context closes.
    #[allow(unsafe_code)]
    pub unsafe fn register_mr(
        &self,
        base: std::ptr::NonNull<u8>,
        length: usize,
        access: Access,
    ) -> Result<Mr> {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { Mr::register(&self.0, base, length, access) }
    }

    /// Makes a memory window that is not bound to anything. See `ibv_alloc_mw(3)`.
    ///
    /// # Errors
    /// The device has none, or none of this type.
    pub fn alloc_mw(&self, mw_type: MwType) -> Result<Mw> {
        Mw::alloc(&self.0, mw_type)
    }

    /// Makes a queue pair. See `ibv_create_qp(3)`.
    ///
    /// # Errors
    /// A size is over the device's limit, a completion queue belongs to another context, or the device has no provider.
    pub fn create_qp(&self, init: QpInit<'_>) -> Result<Qp> {
        Qp::create(&self.0, &init)
    }

    /// Makes an address handle, for datagrams to a peer.
    ///
    /// # Errors
    /// The port or the GID index does not exist, the peer cannot be reached, or the device has no provider.
    pub fn create_ah(&self, av: &AddressVector) -> Result<Ah> {
        Ah::create(&self.0, av)
    }

    /// Makes a shared receive queue: of so many receives, or as a [`SrqInit`] says. See `ibv_create_srq_ex(3)`.
    ///
    /// # Errors
    /// A size is over the device's limit, the device has no shared receive queues, or it has no provider.
    pub fn create_srq<'c>(&self, init: impl Into<SrqInit<'c>>) -> Result<Srq> {
        Srq::create(&self.0, &init.into())
    }

    /// Unmakes the domain.
    ///
    /// # Errors
    /// Regions, queue pairs or other handles of it are still there: it is unmade when the last of them goes.
    pub fn destroy(self) -> Result<()> {
        Arc::try_unwrap(self.0)
            .map_err(|object| object.in_use("regions, queue pairs or another handle"))?
            .destroy()
    }
}
