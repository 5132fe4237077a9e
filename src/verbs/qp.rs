//! Queue pairs.

use std::sync::{Arc, Mutex, PoisonError};

use super::Endpoint;
use super::cq::CqCore;
use super::object::{Kind, Object};
use super::qp_init::{QpCap, QpInit, explain, raw};
use super::srq::SrqCore;
use super::transition::{self, QpAttr};
use crate::error::{Error, Result};
use crate::provider;
use crate::types::{Gid, Lid, Mtu, PortNum, PostError, QpState, QpType, Qpn, RecvWr, SendWr};

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
    user_handle: u64,
    /// The port that it was told to use.
    port: Option<PortNum>,
    /// Set by `endpoint`, used by `connect`.
    pub(super) local: Option<(Endpoint, super::connect::Path)>,
}

/// The kernel's object, and those that must outlive it. Fields drop in this order.
#[derive(Debug)]
struct QpCore {
    object: Object,
    /// Multicast groups that it is in: the kernel does not unmake a queue pair that is in one.
    groups: Mutex<Vec<(Gid, Lid)>>,
    _send_cq: Option<Arc<CqCore>>,
    _recv_cq: Option<Arc<CqCore>>,
    _srq: Option<Arc<SrqCore>>,
    /// Its protection domain, or its XRC domain.
    _domain: Arc<Object>,
}

impl QpCore {
    fn leave_all(&mut self) {
        for (gid, lid) in self.groups.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // What stays in a group is refused when it is unmade, and that is told.
            let _ = self.object.ctx.uverbs.detach_mcast(self.object.handle, gid.0, lid.0);
        }
    }
}

impl Drop for QpCore {
    fn drop(&mut self) {
        self.leave_all();
    }
}

/// The sending half of a queue pair.
pub struct SendQueue {
    ring: provider::Sq,
    core: Arc<QpCore>,
}

/// The receiving half of a queue pair.
pub struct RecvQueue {
    ring: provider::Rq,
    core: Arc<QpCore>,
}

impl Qp {
    pub(super) fn create(pd: &Arc<Object>, init: &QpInit<'_>) -> Result<Self> {
        let ctx = &pd.ctx;
        let invalid = |why: &'static str| Err(Error::invalid("create_qp", ctx.uverbs.device(), why));
        if init.qp_type == QpType::XRC_RECV {
            return invalid("the receiving side of XRC is made from its XRC domain");
        }
        for cq in std::iter::once(init.send_cq).chain(init.recv_cq) {
            if !Arc::ptr_eq(&cq.core.object.ctx, ctx) {
                return invalid("a completion queue is of another context");
            }
        }
        let mut cap = init.cap;
        if let Some(srq) = init.srq {
            if !Arc::ptr_eq(&srq.core.object.ctx, ctx) {
                return invalid("the shared receive queue is of another context");
            }
            if srq.core.is_xrc || init.recv_cq.is_none() {
                return invalid("XRC queue pairs and XRC shared receive queues are not made for each other");
            }
        }
        if init.srq.is_some() || init.recv_cq.is_none() {
            (cap.max_recv_wr, cap.max_recv_sge) = (0, 0);
        }
        let raw = crate::uverbs::qp::QpInit {
            pd_handle: Some(pd.handle),
            send_cq_handle: Some(init.send_cq.core.object.handle),
            recv_cq_handle: init.recv_cq.map(|cq| cq.core.object.handle),
            srq_handle: init.srq.map(|srq| srq.core.object.handle),
            sq_sig_all: init.sq_sig_all,
            ..raw(init.qp_type, cap, None)
        };
        let queues = provider::Queues {
            send_cq: Some(&init.send_cq.ring),
            recv_cq: init.recv_cq.map(|cq| &cq.ring),
            srq: init.srq.map(|srq| &srq.ring),
        };
        Self::make(pd, raw, queues, |object| QpCore {
            object,
            groups: Mutex::default(),
            _send_cq: Some(Arc::clone(&init.send_cq.core)),
            _recv_cq: init.recv_cq.map(|cq| Arc::clone(&cq.core)),
            _srq: init.srq.map(|srq| Arc::clone(&srq.core)),
            _domain: Arc::clone(pd),
        })
    }

    pub(super) fn create_xrc_recv(xrcd: &Arc<Object>) -> Result<Self> {
        let none =
            QpCap { max_send_wr: 0, max_recv_wr: 0, max_send_sge: 0, max_recv_sge: 0, max_inline_data: 0 };
        let raw = raw(QpType::XRC_RECV, none, Some(xrcd.handle));
        Self::make(xrcd, raw, provider::Queues::default(), |object| QpCore {
            object,
            groups: Mutex::default(),
            _send_cq: None,
            _recv_cq: None,
            _srq: None,
            _domain: Arc::clone(xrcd),
        })
    }

    fn make(
        domain: &Arc<Object>,
        mut raw: crate::uverbs::qp::QpInit,
        queues: provider::Queues<'_>,
        core: impl FnOnce(Object) -> QpCore,
    ) -> Result<Self> {
        const KIND: Kind =
            Kind { verb: "destroy_qp", unmake: |uverbs, handle| uverbs.destroy_qp(handle).map(drop) };
        let ctx = &domain.ctx;
        ctx.async_file()?;
        let user_handle = ctx.next_user_handle();
        raw.user_handle = user_handle;
        let (made, sq, rq, hold) = ctx
            .provider()
            .create_qp(&ctx.uverbs, &raw, queues)
            .map_err(|e| explain(e, &ctx.uverbs, &raw.cap))?;
        let core = Arc::new(core(Object::new(ctx, made.handle, KIND).holding(hold)));
        Ok(Self {
            send: SendQueue { ring: sq, core: Arc::clone(&core) },
            recv: RecvQueue { ring: rq, core: Arc::clone(&core) },
            core,
            qp_num: Qpn::truncate(made.qp_num),
            qp_type: raw.qp_type.into(),
            cap: QpCap {
                max_send_wr: made.cap.max_send_wr,
                max_recv_wr: made.cap.max_recv_wr,
                max_send_sge: made.cap.max_send_sge,
                max_recv_sge: made.cap.max_recv_sge,
                max_inline_data: made.cap.max_inline_data,
            },
            user_handle,
            port: None,
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
    pub fn user_handle(&self) -> u64 {
        self.user_handle
    }

    /// Posts one send and rings the doorbell. See `ibv_post_send(3)`.
    ///
    /// # Errors
    /// The queue is full, the request is over its sizes, or the device is gone.
    #[inline(always)]
    pub fn post_send(&mut self, wr: SendWr<'_>) -> Result<(), PostError> {
        let SendQueue { ring, core } = &mut self.send;
        ring.post_one(&core.object.ctx.uverbs, core.object.handle, wr)
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
        self.recv.ring.post_one(wr)
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
        // `split` lends whole halves, and what is lent can be exchanged.
        if [&self.send.core, &self.recv.core].iter().any(|core| !Arc::ptr_eq(core, &self.core)) {
            let why = "one of its halves is another queue pair's";
            return Err(Error::invalid("modify_qp", uverbs.device(), why));
        }
        uverbs.modify_qp(&attr.to_raw(object.handle)).map_err(|errno| {
            let error = uverbs.error("modify_qp", errno);
            let from = self.query().ok().and_then(|now| now.state);
            match from.and_then(|from| transition::explain(self.qp_type, from, attr)) {
                Some(why) if errno == nix::errno::Errno::EINVAL => error.with_hint(why),
                _ => error,
            }
        })?;
        if attr.state.map(u8::from) == Some(QpState::RESET.into()) {
            let renewed = object.hold.reset(&mut self.send.ring, &mut self.recv.ring);
            renewed.map_err(|errno| {
                uverbs.error("modify_qp", errno).with_hint("nothing can be posted until it is reset again")
            })?;
        }
        self.port = attr.port.or(self.port);
        if let (QpType::UD, Some(port)) = (self.qp_type, self.port)
            // A device may drop a datagram that does not fit and say that it was sent: posting refuses it.
            && let Ok(told) = uverbs.query_port(port.get())
            && let Some(mtu) = Mtu::from(told.legacy_resp.active_mtu).bytes()
        {
            self.send.ring.set_mtu(mtu);
        }
        Ok(())
    }

    /// Puts a datagram queue pair into a multicast group: from now on it gets what is sent to the group, too.
    ///
    /// `lid` is the group's on InfiniBand, 0 on Ethernet. See `ibv_attach_mcast(3)`.
    ///
    /// # Errors
    /// `gid` is no multicast address, the queue pair is of another type, or the device has no more groups.
    pub fn attach_mcast(&mut self, gid: Gid, lid: Lid) -> Result<()> {
        let object = &self.core.object;
        object.ctx.uverbs.attach_mcast(object.handle, gid.0, lid.0).map_err(|errno| {
            let error = object.ctx.uverbs.error("attach_mcast", errno);
            match errno {
                nix::errno::Errno::EINVAL if self.qp_type != QpType::UD => {
                    error.with_hint("only datagram queue pairs are in multicast groups")
                }
                nix::errno::Errno::EINVAL => error.with_hint(format!("is {gid} a multicast GID?")),
                _ => error,
            }
        })?;
        let mut groups = self.core.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if !groups.contains(&(gid, lid)) {
            groups.push((gid, lid));
        }
        Ok(())
    }

    /// Takes a queue pair out of a multicast group. One that is unmade leaves its groups.
    ///
    /// # Errors
    /// It is not in that group.
    pub fn detach_mcast(&mut self, gid: Gid, lid: Lid) -> Result<()> {
        let object = &self.core.object;
        object
            .ctx
            .uverbs
            .detach_mcast(object.handle, gid.0, lid.0)
            .map_err(|errno| object.ctx.uverbs.error("detach_mcast", errno))?;
        let mut groups = self.core.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|group| *group != (gid, lid));
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

    /// Unmakes the queue pair. Requests that are outstanding do not complete any more; completions that nobody has taken out keep
    /// their places in the completion queue until it is polled.
    ///
    /// # Errors
    /// The device is gone.
    pub fn destroy(self) -> Result<()> {
        let Self { send, recv, core, .. } = self;
        drop((send, recv));
        match Arc::try_unwrap(core) {
            Ok(mut core) => {
                core.leave_all();
                core.object.destroy()
            }
            Err(core) => Err(core.object.in_use("one of its halves")),
        }
    }
}

impl SendQueue {
    /// Posts sends and rings the doorbell once.
    ///
    /// # Errors
    /// As [`Qp::post_send`]; requests before the refused one are carried out.
    #[inline(never)] // nothing is known of them when a caller is compiled
    pub fn post(&mut self, wrs: &[SendWr<'_>]) -> Result<(), PostError> {
        self.push(wrs)
    }

    #[inline(always)]
    fn push(&mut self, wrs: &[SendWr<'_>]) -> Result<(), PostError> {
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
