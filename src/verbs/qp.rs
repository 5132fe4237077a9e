//! Queue pairs.

use std::sync::Arc;

use super::cq::CqCore;
use super::object::{Kind, Object};
use super::transition::{self, QpAttr};
use super::{Cq, Endpoint};
use crate::error::{Cause, Error, Result};
use crate::provider;
use crate::types::{PostError, QpState, QpType, Qpn, RecvWr, SendWr};
use crate::uapi::ioctl::verbs::QpCap as RawCap;
use crate::uverbs::Uverbs;

/// The sizes of a queue pair (`struct ibv_qp_cap`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QpCap {
    /// Outstanding sends.
    pub max_send_wr: u32,
    /// Outstanding receives.
    pub max_recv_wr: u32,
    /// Elements of a send.
    pub max_send_sge: u32,
    /// Elements of a receive.
    pub max_recv_sge: u32,
    /// Inline bytes of a send.
    pub max_inline_data: u32,
}

impl Default for QpCap {
    fn default() -> Self {
        Self { max_send_wr: 1, max_recv_wr: 1, max_send_sge: 1, max_recv_sge: 1, max_inline_data: 0 }
    }
}

/// What a queue pair is to be.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct QpInit<'c> {
    qp_type: QpType,
    send_cq: &'c Cq,
    recv_cq: &'c Cq,
    cap: QpCap,
    sq_sig_all: bool,
}

impl<'c> QpInit<'c> {
    /// A queue pair of a type, with one request of one element each way.
    pub fn new(qp_type: QpType, send_cq: &'c Cq, recv_cq: &'c Cq) -> Self {
        Self { qp_type, send_cq, recv_cq, cap: QpCap::default(), sq_sig_all: false }
    }

    /// A reliable connection.
    pub fn rc(send_cq: &'c Cq, recv_cq: &'c Cq) -> Self {
        Self::new(QpType::Rc, send_cq, recv_cq)
    }

    /// Outstanding sends.
    pub fn max_send_wr(mut self, n: u32) -> Self {
        self.cap.max_send_wr = n;
        self
    }

    /// Outstanding receives.
    pub fn max_recv_wr(mut self, n: u32) -> Self {
        self.cap.max_recv_wr = n;
        self
    }

    /// Elements of a send.
    pub fn max_send_sge(mut self, n: u32) -> Self {
        self.cap.max_send_sge = n;
        self
    }

    /// Elements of a receive.
    pub fn max_recv_sge(mut self, n: u32) -> Self {
        self.cap.max_recv_sge = n;
        self
    }

    /// Inline bytes of a send.
    pub fn max_inline_data(mut self, n: u32) -> Self {
        self.cap.max_inline_data = n;
        self
    }

    /// Every send is signaled.
    pub fn sq_sig_all(mut self) -> Self {
        self.sq_sig_all = true;
        self
    }
}

/// A queue pair: a send queue and a receive queue, each with one owner.
///
/// See `ibv_create_qp(3)`.
pub struct Qp {
    send: SendQueue,
    recv: RecvQueue,
    core: Arc<QpCore>,
    qp_num: Qpn,
    qp_type: QpType,
    cap: QpCap,
    cookie: u64,
    /// Set by `endpoint`, used by `connect`.
    pub(super) local: Option<(Endpoint, super::connect::Path)>,
}

/// The kernel's object, and those that must outlive it. Fields drop in this order.
#[derive(Debug)]
struct QpCore {
    object: Object,
    _send_cq: Arc<CqCore>,
    _recv_cq: Arc<CqCore>,
    _pd: Arc<Object>,
}

/// The sending half of a queue pair.
pub struct SendQueue {
    ring: provider::Sq,
    core: Arc<QpCore>,
}

/// The receiving half of a queue pair.
pub struct RecvQueue {
    ring: provider::Rq,
    _core: Arc<QpCore>,
}

impl Qp {
    pub(super) fn create(pd: &Arc<Object>, init: &QpInit<'_>) -> Result<Self> {
        const KIND: Kind =
            Kind { verb: "destroy_qp", unmake: |uverbs, handle| uverbs.destroy_qp(handle).map(drop) };
        let ctx = &pd.ctx;
        for cq in [init.send_cq, init.recv_cq] {
            if !Arc::ptr_eq(&cq.core.object.ctx, ctx) {
                let why = "a completion queue is of another context";
                return Err(Error::invalid("create_qp", ctx.uverbs.device(), why));
            }
        }
        ctx.async_file()?;
        let cookie = ctx.next_cookie();
        let cap = init.cap;
        let raw = crate::uverbs::qp::QpInit {
            pd_handle: pd.handle,
            send_cq_handle: init.send_cq.core.object.handle,
            recv_cq_handle: init.recv_cq.core.object.handle,
            qp_type: init.qp_type.into(),
            sq_sig_all: init.sq_sig_all,
            cap: RawCap {
                max_send_wr: cap.max_send_wr,
                max_recv_wr: cap.max_recv_wr,
                max_send_sge: cap.max_send_sge,
                max_recv_sge: cap.max_recv_sge,
                max_inline_data: cap.max_inline_data,
            },
            user_handle: cookie,
        };
        let (send_cq, recv_cq) = (&init.send_cq.ring, &init.recv_cq.ring);
        let (made, sq, rq, hold) = ctx
            .provider()
            .create_qp(&ctx.uverbs, &raw, send_cq, recv_cq)
            .map_err(|e| explain(e, &ctx.uverbs, &cap))?;
        let core = Arc::new(QpCore {
            object: Object::new(ctx, made.handle, KIND).holding(hold),
            _send_cq: Arc::clone(&init.send_cq.core),
            _recv_cq: Arc::clone(&init.recv_cq.core),
            _pd: Arc::clone(pd),
        });
        Ok(Self {
            send: SendQueue { ring: sq, core: Arc::clone(&core) },
            recv: RecvQueue { ring: rq, _core: Arc::clone(&core) },
            core,
            qp_num: Qpn::truncate(made.qp_num),
            qp_type: init.qp_type,
            cap: QpCap {
                max_send_wr: made.cap.max_send_wr,
                max_recv_wr: made.cap.max_recv_wr,
                max_send_sge: made.cap.max_send_sge,
                max_recv_sge: made.cap.max_recv_sge,
                max_inline_data: made.cap.max_inline_data,
            },
            cookie,
            local: None,
        })
    }

    /// Its number, which the peer must be told.
    #[must_use]
    pub fn qp_num(&self) -> Qpn {
        self.qp_num
    }

    /// Its type.
    #[must_use]
    pub fn qp_type(&self) -> QpType {
        self.qp_type
    }

    /// Its sizes, which may be more than was asked for.
    #[must_use]
    pub fn cap(&self) -> QpCap {
        self.cap
    }

    /// What async events of this queue pair carry.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Posts one send and rings the doorbell. See `ibv_post_send(3)`.
    ///
    /// # Errors
    /// The queue is full, the request is over its sizes, or the device is gone.
    #[inline(always)]
    pub fn post_send(&mut self, wr: SendWr<'_>) -> Result<(), PostError> {
        self.send.push(std::iter::once(wr))
    }

    /// Posts several sends and rings the doorbell once.
    ///
    /// # Errors
    /// As [`Qp::post_send`]; requests before the refused one are carried out.
    #[inline(always)]
    pub fn post_sends(&mut self, wrs: &[SendWr<'_>]) -> Result<(), PostError> {
        self.send.post(wrs)
    }

    /// Posts one receive. See `ibv_post_recv(3)`.
    ///
    /// # Errors
    /// The queue is full, or the request is over its sizes.
    #[inline(always)]
    pub fn post_recv(&mut self, wr: RecvWr<'_>) -> Result<(), PostError> {
        self.recv.push(std::iter::once(wr))
    }

    /// Posts several receives.
    ///
    /// # Errors
    /// As [`Qp::post_recv`]; requests before the refused one are posted.
    #[inline(always)]
    pub fn post_recvs(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        self.recv.post(wrs)
    }

    /// Both halves, so that each can have a thread of its own.
    pub fn split(&mut self) -> (&mut SendQueue, &mut RecvQueue) {
        (&mut self.send, &mut self.recv)
    }

    /// Changes attributes, and the state where `attr.state` is given. See `ibv_modify_qp(3)`.
    ///
    /// # Errors
    /// The kernel refuses; where the reason is a transition that does not exist, an attribute that is missing or one that
    /// is not taken, the error names it.
    pub fn modify(&mut self, attr: &QpAttr) -> Result<()> {
        let object = &self.core.object;
        let uverbs = &object.ctx.uverbs;
        uverbs.modify_qp(&attr.to_raw(object.handle)).map_err(|errno| {
            let error = uverbs.error("modify_qp", errno);
            let from = self.query().ok().and_then(|now| now.state);
            match from.and_then(|from| transition::explain(self.qp_type, from, attr)) {
                Some(why) if errno == nix::errno::Errno::EINVAL => error.hint(why),
                _ => error,
            }
        })?;
        if attr.state == Some(QpState::Reset) {
            object.hold.reset(&mut self.send.ring, &mut self.recv.ring);
        }
        Ok(())
    }

    /// Asks the kernel for the attributes and the state. See `ibv_query_qp(3)`.
    ///
    /// # Errors
    /// The device is gone.
    pub fn query(&self) -> Result<QpAttr> {
        let object = &self.core.object;
        // Every attribute: the kernel gives them all in any case.
        Ok(QpAttr::from_raw(&object.ctx.uverbs.query_qp(object.handle, 0x1f_ffff)?))
    }

    /// The state, as the kernel has it.
    ///
    /// # Errors
    /// The device is gone.
    pub fn state(&self) -> Result<QpState> {
        self.query()?.state.ok_or_else(|| {
            Error::bad_answer("query_qp", self.core.object.ctx.uverbs.device(), "the kernel tells no state")
        })
    }

    /// The context that it was made from.
    #[must_use]
    pub fn context(&self) -> super::Context {
        super::Context(Arc::clone(&self.core.object.ctx))
    }

    /// Unmakes the queue pair. Requests that are outstanding do not complete any more.
    ///
    /// # Errors
    /// The kernel refuses (it is still in a multicast group).
    pub fn destroy(self) -> Result<()> {
        let Self { send, recv, core, .. } = self;
        drop((send, recv));
        match Arc::try_unwrap(core) {
            Ok(mut core) => core.object.destroy(),
            Err(core) => Err(core.object.in_use("one of its halves")),
        }
    }
}

impl SendQueue {
    /// Posts sends and rings the doorbell once.
    ///
    /// # Errors
    /// As [`Qp::post_send`]; requests before the refused one are carried out.
    #[inline(always)]
    pub fn post(&mut self, wrs: &[SendWr<'_>]) -> Result<(), PostError> {
        self.push(wrs.iter().copied())
    }

    #[inline(always)]
    fn push<'a>(&mut self, wrs: impl IntoIterator<Item = SendWr<'a>>) -> Result<(), PostError> {
        let object = &self.core.object;
        self.ring.post(&object.ctx.uverbs, object.handle, wrs)
    }
}

impl RecvQueue {
    /// Posts receives.
    ///
    /// # Errors
    /// As [`Qp::post_recv`]; requests before the refused one are posted.
    #[inline(always)]
    pub fn post(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        self.push(wrs.iter().copied())
    }

    #[inline(always)]
    fn push<'a>(&mut self, wrs: impl IntoIterator<Item = RecvWr<'a>>) -> Result<(), PostError> {
        self.ring.post(wrs)
    }
}

impl std::fmt::Debug for Qp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qp")
            .field("qp_num", &self.qp_num)
            .field("qp_type", &self.qp_type)
            .field("cap", &self.cap)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SendQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendQueue").field("core", &self.core).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for RecvQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecvQueue").finish_non_exhaustive()
    }
}

/// Names the size that is over the device's limit, where one is.
fn explain(error: Error, uverbs: &Uverbs, cap: &QpCap) -> Error {
    if !matches!(error.cause(), Cause::Os(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOMEM)) {
        return error;
    }
    let Ok(device) = uverbs.query_device() else { return error };
    let base = &device.base;
    let sizes = [
        ("max_send_wr", cap.max_send_wr, "max_qp_wr", base.max_qp_wr),
        ("max_recv_wr", cap.max_recv_wr, "max_qp_wr", base.max_qp_wr),
        ("max_send_sge", cap.max_send_sge, "max_sge", base.max_sge),
        ("max_recv_sge", cap.max_recv_sge, "max_sge", base.max_sge),
    ];
    match sizes.iter().find(|(_, asked, _, limit)| asked > limit) {
        Some((size, asked, name, limit)) => {
            error.hint(format!("{size} is {asked}; the device's {name} is {limit}"))
        }
        None => error,
    }
}
