//! Shared receive queues.

use std::sync::Arc;

use super::CqHandle;
use super::Xrcd;
use super::object::{Kind, Object};
use crate::error::{Cause, Error, Result};
use crate::provider::{self, NewSrq};
use crate::types::{PostError, RecvWr, Srqn};
use crate::uverbs::Uverbs;
use crate::uverbs::srq::Xrc;

/// What to create a shared receive queue with.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct SrqInit<'c> {
    max_wr: u32,
    max_sge: u32,
    xrc: Option<(&'c Xrcd, &'c CqHandle)>,
    user_handle: Option<u64>,
}

impl<'c> SrqInit<'c> {
    /// Room for at least `max_wr` receives of one element; no limit, which is for [`Srq::set_limit`]: mlx4 takes none here.
    pub const fn new(max_wr: u32) -> Self {
        Self { max_wr, max_sge: 1, xrc: None, user_handle: None }
    }

    /// Maximum number of elements of a receive.
    pub const fn max_sge(mut self, n: u32) -> Self {
        self.max_sge = n;
        self
    }

    /// What the async events of the queue carry ([`Srq::user_handle`]), in place of a number that the library chooses.
    pub const fn user_handle(mut self, user_handle: u64) -> Self {
        self.user_handle = Some(user_handle);
        self
    }

    /// An XRC queue: peers that send to any receiving queue pair of `xrcd` can name it, and it completes into `cq`.
    pub fn xrc(mut self, xrcd: &'c Xrcd, cq: &'c impl AsRef<CqHandle>) -> Self {
        self.xrc = Some((xrcd, cq.as_ref()));
        self
    }
}

impl From<u32> for SrqInit<'_> {
    fn from(max_wr: u32) -> Self {
        Self::new(max_wr)
    }
}

/// Sizes and limit of a shared receive queue (`struct ibv_srq_attr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SrqAttr {
    /// Maximum number of outstanding receives.
    pub max_wr: u32,
    /// Elements of a receive.
    pub max_sge: u32,
    /// An event comes once fewer receives are left; 0 for never, and after the event.
    pub srq_limit: u32,
}

/// A receive queue that several queue pairs take from. It has one owner, who posts to it; queue pairs keep it alive.
///
/// Where the owner is one thread and queue pairs are created by another, the other has a [`SrqHandle`].
///
/// See `ibv_create_srq(3)`.
pub struct Srq {
    ring: provider::Srq,
    handle: SrqHandle,
    max_wr: u32,
    max_sge: u32,
    srq_num: Option<Srqn>,
}

/// Names a shared receive queue where queue pairs are created, while receives are posted to the [`Srq`] elsewhere.
///
/// A handle keeps the kernel's object alive, as queue pairs do.
#[derive(Debug, Clone)]
pub struct SrqHandle(pub(super) Arc<SrqCore>);

/// The kernel's object, and those that must outlive it. Fields drop in this order.
#[derive(Debug)]
pub(super) struct SrqCore {
    pub(super) object: Object,
    /// Messages to any receiving queue pair of the XRC domain can name the queue; no queue pair is created with it.
    pub(super) is_xrc: bool,
    user_handle: u64,
    _cq: Option<CqHandle>,
    _xrcd: Option<Arc<Object>>,
    _pd: Arc<Object>,
}

impl Srq {
    /// The kernel's handle.
    pub(crate) fn raw_handle(&self) -> u32 {
        self.handle.raw_handle()
    }

    pub(super) fn create(pd: &Arc<Object>, init: &SrqInit<'_>) -> Result<Self> {
        const KIND: Kind = Kind { verb: "destroy_srq", destroy: Uverbs::destroy_srq };
        let ctx = &pd.ctx;
        if let Some((xrcd, cq)) = init.xrc
            && !(Arc::ptr_eq(&xrcd.0.ctx, ctx) && Arc::ptr_eq(&cq.0.object.ctx, ctx))
        {
            let why = "the XRC domain or the completion queue is of another context";
            return Err(Error::invalid("create_srq", ctx.uverbs.device(), why));
        }
        ctx.async_file()?;
        let user_handle = init.user_handle.unwrap_or_else(|| ctx.next_user_handle());
        let raw = crate::uverbs::srq::SrqParams {
            pd_handle: pd.handle,
            max_wr: init.max_wr,
            max_sge: init.max_sge,
            srq_limit: 0,
            xrc: init.xrc.map(|(xrcd, cq)| Xrc { xrcd_handle: xrcd.0.handle, cq_handle: cq.0.object.handle }),
            user_handle,
        };
        let NewSrq { answer, ring, hold } = ctx
            .provider()
            .create_srq(&ctx.uverbs, &raw, init.xrc.map(|(_, cq)| &cq.0.object.hold))
            .map_err(|e| explain(e, &ctx.uverbs, init.max_wr, init.max_sge))?;
        let core = SrqCore {
            object: Object::new(ctx, answer.handle, KIND).holding(hold),
            is_xrc: init.xrc.is_some(),
            user_handle,
            _cq: init.xrc.map(|(_, cq)| cq.clone()),
            _xrcd: init.xrc.map(|(xrcd, _)| Arc::clone(&xrcd.0)),
            _pd: Arc::clone(pd),
        };
        Ok(Self {
            ring,
            handle: SrqHandle(Arc::new(core)),
            max_wr: answer.max_wr,
            max_sge: answer.max_sge,
            srq_num: init.xrc.map(|_| Srqn::truncate(answer.srq_num)),
        })
    }

    /// Returns a handle, by which any thread can create queue pairs that take from this queue.
    #[must_use]
    pub fn handle(&self) -> SrqHandle {
        self.handle.clone()
    }

    /// Returns the maximum number of outstanding receives, which may be more than was asked for.
    #[must_use]
    pub fn max_wr(&self) -> u32 {
        self.max_wr
    }

    /// Returns the maximum number of elements of a receive, which may be more than was asked for.
    #[must_use]
    pub fn max_sge(&self) -> u32 {
        self.max_sge
    }

    /// Returns the number by which peers name an XRC queue; `None` for others. See `ibv_get_srq_num(3)`.
    #[must_use]
    pub fn srq_num(&self) -> Option<Srqn> {
        self.srq_num
    }

    /// Returns what async events of this queue carry.
    #[must_use]
    pub fn user_handle(&self) -> u64 {
        self.handle.0.user_handle
    }

    /// Posts one receive. See `ibv_post_srq_recv(3)`.
    ///
    /// # Errors
    /// The queue is full, or the request is over its sizes.
    #[inline(always)]
    pub fn post_recv(&mut self, wr: RecvWr<'_>) -> Result<(), PostError> {
        self.ring.post_one(wr)
    }

    /// Posts several receives.
    ///
    /// # Errors
    /// As [`Srq::post_recv`]; requests before the refused one are posted.
    #[inline(always)]
    pub fn post_recvs(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        self.ring.post(wrs)
    }

    /// Asks for one event ([`super::AsyncEventType::SRQ_LIMIT_REACHED`]) once fewer than `limit` receives are left.
    ///
    /// See `ibv_modify_srq(3)`.
    ///
    /// # Errors
    /// The limit is over the queue's size.
    pub fn set_limit(&mut self, limit: u32) -> Result<()> {
        let object = &self.handle.0.object;
        self.ring.set_limit(&object.ctx.uverbs, object.handle, limit).map_err(|error| match error.errno() {
            Some(nix::errno::Errno::EINVAL) if limit > self.max_wr => {
                error.with_hint(format!("the limit is {limit}; the queue has room for {}", self.max_wr))
            }
            _ => error,
        })
    }

    /// Changes how many receives it holds; those in it stay. See `ibv_modify_srq(3)`.
    ///
    /// # Errors
    /// `max_wr` is over the device's limit or below what is in the queue, or the device cannot resize. If what fails is the mapping
    /// of rxe's new queue, nobody looks at this one until it is resized again.
    pub fn resize(&mut self, max_wr: u32) -> Result<()> {
        let object = &self.handle.0.object;
        let uverbs = &object.ctx.uverbs;
        self.ring
            .resize(uverbs, object.handle, max_wr)
            .map_err(|e| explain(e, uverbs, max_wr, self.max_sge))?;
        self.max_wr = max_wr;
        Ok(())
    }

    /// Asks the kernel for sizes and limit. See `ibv_query_srq(3)`.
    ///
    /// # Errors
    /// The device is gone.
    pub fn query(&self) -> Result<SrqAttr> {
        let object = &self.handle.0.object;
        let raw = object.ctx.uverbs.query_srq(object.handle)?;
        Ok(SrqAttr { max_wr: raw.max_wr, max_sge: raw.max_sge, srq_limit: raw.srq_limit })
    }

    /// Destroys the queue.
    ///
    /// # Errors
    /// Queue pairs still take from it, or there is a handle: it is destroyed when the last of them is dropped.
    pub fn destroy(self) -> Result<()> {
        let SrqHandle(core) = self.handle;
        Arc::try_unwrap(core).map_err(|core| core.object.in_use("queue pairs or a handle"))?.object.destroy()
    }
}

impl SrqHandle {
    /// The kernel's handle.
    pub(crate) fn raw_handle(&self) -> u32 {
        self.0.object.handle
    }

    /// Returns what async events of the queue carry, as [`Srq::user_handle`].
    #[must_use]
    pub fn user_handle(&self) -> u64 {
        self.0.user_handle
    }
}

impl AsRef<SrqHandle> for Srq {
    fn as_ref(&self) -> &SrqHandle {
        &self.handle
    }
}

impl AsRef<SrqHandle> for SrqHandle {
    fn as_ref(&self) -> &SrqHandle {
        self
    }
}

impl std::fmt::Debug for Srq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Srq")
            .field("handle", &self.handle)
            .field("max_wr", &self.max_wr)
            .field("max_sge", &self.max_sge)
            .finish_non_exhaustive()
    }
}

/// Names the size that is over the device's limit, where one is.
fn explain(error: Error, uverbs: &Uverbs, max_wr: u32, max_sge: u32) -> Error {
    let Ok(device) = uverbs.query_device() else { return error };
    let base = &device.base;
    match error.cause() {
        _ if base.max_srq == 0 => {
            let why = "it has no shared receive queues";
            Error::new(error.operation(), uverbs.device(), Cause::Unsupported(why.into()))
        }
        Cause::Os(_) if max_wr > base.max_srq_wr || max_wr == 0 => error.with_hint(format!(
            "{max_wr} receives were asked for; the device's max_srq_wr is {}",
            base.max_srq_wr
        )),
        Cause::Os(_) if max_sge > base.max_srq_sge => {
            error.with_hint(format!("max_sge is {max_sge}; the device's max_srq_sge is {}", base.max_srq_sge))
        }
        _ => error,
    }
}
