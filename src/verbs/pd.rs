//! Protection domains.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use super::context::ContextInner;
use super::neighbour;
use super::object::{Kind, Object};
use super::{AddressVector, Ah, Mr, MrInit, Mw, OpaqueMr, Qp, QpInit, Srq, SrqInit};
use crate::error::Result;
use crate::types::{Access, MwType};
use crate::uverbs::Uverbs;

/// A protection domain: regions and queue pairs of one domain may be used together, others may not.
///
/// Cloning gives another handle on the same domain. See `ibv_alloc_pd(3)`.
#[derive(Debug, Clone)]
pub struct Pd(pub(super) Arc<Object>);

impl Pd {
    /// The kernel's handle.
    pub(crate) fn raw_handle(&self) -> u32 {
        self.0.handle
    }

    pub(super) fn alloc(ctx: &Arc<ContextInner>) -> Result<Self> {
        const KIND: Kind = Kind { verb: "dealloc_pd", destroy: Uverbs::dealloc_pd };
        let new = ctx.provider().alloc_pd(&ctx.uverbs)?;
        Ok(Self(Arc::new(Object::new(ctx, new.handle, KIND).holding(new.hold))))
    }

    /// Allocates `length` zeroed bytes, which begin on a page, and registers them. See `ibv_reg_mr(3)`.
    ///
    /// # Errors
    /// `length` is 0; the memory, or the memlock limit, does not suffice; remote write or remote atomic without local write.
    pub fn alloc_mr(&self, length: usize, access: Access) -> Result<Mr> {
        self.reg_mr(MrInit::new(length).access(access))
    }

    /// Registers memory as `init` describes it: in huge pages, under an address of its own, or memory of the caller's. See
    /// `ibv_reg_mr(3)`.
    ///
    /// # Errors
    /// As for [`Pd::alloc_mr`]; no huge pages are free; the address does not fit the memory.
    pub fn reg_mr(&self, init: MrInit) -> Result<Mr> {
        Mr::create(&self.0, init)
    }

    /// Registers memory that belongs to the caller. See `ibv_reg_mr(3)`.
    ///
    /// # Errors
    /// As for [`Pd::alloc_mr`], or the kernel cannot pin these pages.
    ///
    /// # Safety
    /// The `length` bytes at `base` are valid for reads and writes, whatever `access` allows the device ([`Mr::write`] does not ask), and
    /// are neither freed nor read or written through Rust references until the region is deregistered: the
    /// device, and peers where `access` allows it, read and write them at any time. Where regions overlap, no thread calls
    /// [`Mr::write`] of one while another calls [`Mr::read`] or [`Mr::write`] of the other. [`Mr::destroy`] reports whether the region
    /// is deregistered. After it has failed, and after a drop, which cannot report a failure, the device may reach the memory
    /// until the context closes.
    #[allow(unsafe_code)]
    pub unsafe fn register_mr(
        &self,
        base: std::ptr::NonNull<u8>,
        length: usize,
        access: Access,
    ) -> Result<Mr> {
        // SAFETY: the caller's promise is the one that is asked for.
        self.reg_mr(unsafe { MrInit::foreign(base, length) }.access(access))
    }

    /// Registers `length` bytes of a dma-buf, from `offset` on: memory of another device, a graphics card for instance.
    ///
    /// Requests name the first byte by `iova`, which must lie as far into a page as `offset`. The kernel keeps the buffer, so `fd` may be
    /// closed. See `ibv_reg_dmabuf_mr(3)`; Linux 5.12.
    ///
    /// # Errors
    /// The driver does not import dma-bufs (neither rxe nor mlx4 does), `fd` is none, or the range is not within it.
    pub fn reg_dmabuf_mr(
        &self,
        fd: BorrowedFd<'_>,
        offset: u64,
        length: usize,
        iova: u64,
        access: Access,
    ) -> Result<OpaqueMr> {
        OpaqueMr::dmabuf(&self.0, fd, offset, length, iova, access)
    }

    /// Registers the whole address space of the process, whose pages the device faults in as it needs them (implicit on-demand
    /// paging). `access` always includes [`Access::ON_DEMAND`]. See `ibv_reg_mr(3)`.
    ///
    /// # Errors
    /// The device has no implicit on-demand paging: bit 1 of [`OdpCaps::general`](crate::OdpCaps) says whether it has. Neither rxe nor mlx4 does.
    ///
    /// # Safety
    /// Any request with the region's keys reaches any memory of the process, and a peer's does where `access` allows it. Until the region is
    /// deregistered, no such request names memory that is used through Rust references in a way that conflicts with it.
    #[allow(unsafe_code)]
    pub unsafe fn reg_implicit_mr(&self, access: Access) -> Result<OpaqueMr> {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { OpaqueMr::implicit(&self.0, access) }
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

    /// Creates an address handle, for datagrams to a peer. See `ibv_create_ah(3)`.
    ///
    /// Blocks for up to 3 s on Ethernet: devices of mlx4 need the hardware address of the next hop, and if the kernel's neighbour
    /// table does not have it, the next hop is asked. [`Pd::create_ah_within`] sets another limit.
    ///
    /// # Errors
    /// The port or the GID index does not exist, there is no route to the peer, the next hop does not answer (`EHOSTUNREACH`), or
    /// the device has no provider.
    pub fn create_ah(&self, av: &AddressVector) -> Result<Ah> {
        Ah::create(&self.0, av, neighbour::PATIENCE)
    }

    /// Creates an address handle as [`Pd::create_ah`], waiting at most `timeout` for the next hop's answer.
    ///
    /// With a timeout of zero it does not wait: it asks the next hop and returns `EHOSTUNREACH`; call it again later.
    ///
    /// # Errors
    /// As [`Pd::create_ah`].
    pub fn create_ah_within(&self, av: &AddressVector, timeout: Duration) -> Result<Ah> {
        Ah::create(&self.0, av, timeout)
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
    /// Regions, queue pairs or other handles of it are still there: it is destroyed when the last of them is dropped.
    pub fn destroy(self) -> Result<()> {
        Arc::try_unwrap(self.0)
            .map_err(|object| object.in_use("regions, queue pairs or another handle"))?
            .destroy()
    }
}
