//! Queue pairs.

use std::sync::{Arc, Mutex};

use super::half::{JoinError, QpCore, RecvQueue, SendQueue, Settings};
use super::object::{Kind, Object};
use super::qp_attr::QpAttr;
use super::qp_init::{QpCap, QpInit, explain, raw};
use super::transition;
use super::{CqHandle, SrqHandle};
use crate::error::{Error, Result};
use crate::provider::{self, NewQp};
use crate::types::{Gid, Lid, Mtu, PostError, QpState, QpType, Qpn, RecvWr, SendWr};
use crate::uverbs::Uverbs;

/// A queue pair: a send queue and a receive queue.
///
/// It has one owner; [`Qp::into_split`] gives each half to an owner of its own. See `ibv_create_qp(3)`.
pub struct Qp {
    // Both are always of one queue pair: neither is lent, so neither can be exchanged.
    pub(super) send: SendQueue,
    pub(super) recv: RecvQueue,
}

/// The queues that a queue pair is created on, and the domain that it is created in.
struct Parents<'p> {
    domain: &'p Arc<Object>,
    send_cq: Option<&'p CqHandle>,
    recv_cq: Option<&'p CqHandle>,
    srq: Option<&'p SrqHandle>,
}

impl Qp {
    /// The kernel's handle.
    pub(crate) fn raw_handle(&self) -> u32 {
        self.send.core.object.handle
    }

    pub(super) fn create(pd: &Arc<Object>, init: &QpInit<'_>) -> Result<Self> {
        let ctx = &pd.ctx;
        let invalid = |why: &'static str| Err(Error::invalid("create_qp", ctx.uverbs.device(), why));
        if init.qp_type == QpType::XRC_RECV {
            return invalid("the receiving side of XRC is made from its XRC domain");
        }
        for cq in std::iter::once(init.send_cq).chain(init.recv_cq) {
            if !Arc::ptr_eq(&cq.0.object.ctx, ctx) {
                return invalid("a completion queue is of another context");
            }
        }
        let mut cap = init.cap;
        if let Some(srq) = init.srq {
            if !Arc::ptr_eq(&srq.0.object.ctx, ctx) {
                return invalid("the shared receive queue is of another context");
            }
            if srq.0.is_xrc || init.recv_cq.is_none() {
                return invalid("XRC queue pairs and XRC shared receive queues are not made for each other");
            }
        }
        if init.srq.is_some() || init.recv_cq.is_none() {
            (cap.max_recv_wr, cap.max_recv_sge) = (0, 0);
        }
        let raw = crate::uverbs::qp::QpParams {
            pd_handle: Some(pd.handle),
            send_cq_handle: Some(init.send_cq.0.object.handle),
            recv_cq_handle: init.recv_cq.map(|cq| cq.0.object.handle),
            srq_handle: init.srq.map(|srq| srq.0.object.handle),
            sq_sig_all: init.sq_sig_all,
            user_handle: init.user_handle.unwrap_or_else(|| ctx.next_user_handle()),
            ..raw(init.qp_type, cap, None)
        };
        let parents =
            Parents { domain: pd, send_cq: Some(init.send_cq), recv_cq: init.recv_cq, srq: init.srq };
        Self::make(&parents, raw)
    }

    pub(super) fn create_xrc_recv(xrcd: &Arc<Object>) -> Result<Self> {
        let none =
            QpCap { max_send_wr: 0, max_recv_wr: 0, max_send_sge: 0, max_recv_sge: 0, max_inline_data: 0 };
        let raw = crate::uverbs::qp::QpParams {
            user_handle: xrcd.ctx.next_user_handle(),
            ..raw(QpType::XRC_RECV, none, Some(xrcd.handle))
        };
        Self::make(&Parents { domain: xrcd, send_cq: None, recv_cq: None, srq: None }, raw)
    }

    fn make(parents: &Parents<'_>, raw: crate::uverbs::qp::QpParams) -> Result<Self> {
        const KIND: Kind = Kind { verb: "destroy_qp", destroy: Uverbs::destroy_qp };
        let ctx = &parents.domain.ctx;
        ctx.async_file()?;
        let queues = provider::Queues {
            send_cq: parents.send_cq.map(|cq| &cq.0.object.hold),
            recv_cq: parents.recv_cq.map(|cq| &cq.0.object.hold),
            srq: parents.srq.map(|srq| &srq.0.object.hold),
        };
        let NewQp { answer, sq, rq, hold } = ctx
            .provider()
            .create_qp(&ctx.uverbs, &raw, queues)
            .map_err(|e| explain(e, ctx.provider(), &ctx.uverbs, &raw.cap))?;
        let core = Arc::new(QpCore {
            object: Object::new(ctx, answer.handle, KIND).holding(hold),
            qp_num: Qpn::truncate(answer.qp_num),
            qp_type: raw.qp_type.into(),
            cap: QpCap {
                max_send_wr: answer.cap.max_send_wr,
                max_recv_wr: answer.cap.max_recv_wr,
                max_send_sge: answer.cap.max_send_sge,
                max_recv_sge: answer.cap.max_recv_sge,
                max_inline_data: answer.cap.max_inline_data,
            },
            user_handle: raw.user_handle,
            settings: Mutex::new(Settings::default()),
            _send_cq: parents.send_cq.cloned(),
            _recv_cq: parents.recv_cq.cloned(),
            _srq: parents.srq.cloned(),
            _domain: Arc::clone(parents.domain),
        });
        let send = SendQueue { ring: sq, core: Arc::clone(&core) };
        Ok(Self { send, recv: RecvQueue { ring: rq, core } })
    }

    /// Posts one send and rings the doorbell. See `ibv_post_send(3)`.
    ///
    /// # Errors
    /// The queue is full, the request is over its sizes, or the device is gone.
    #[inline(always)]
    pub fn post_send(&mut self, wr: SendWr<'_>) -> Result<(), PostError> {
        self.send.post_send(wr)
    }

    /// Posts several sends and rings the doorbell once.
    ///
    /// # Errors
    /// As [`Qp::post_send`]; requests before the refused one are carried out.
    #[inline(always)]
    pub fn post_sends(&mut self, wrs: &[SendWr<'_>]) -> Result<(), PostError> {
        self.send.post_sends(wrs)
    }

    /// Posts one receive. See `ibv_post_recv(3)`.
    ///
    /// # Errors
    /// The queue is full, or the request is over its sizes.
    #[inline(always)]
    pub fn post_recv(&mut self, wr: RecvWr<'_>) -> Result<(), PostError> {
        self.recv.post_recv(wr)
    }

    /// Posts several receives.
    ///
    /// # Errors
    /// As [`Qp::post_recv`]; requests before the refused one are posted.
    #[inline(always)]
    pub fn post_recvs(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        self.recv.post_recvs(wrs)
    }

    /// Splits the queue pair into its halves, which can move to different threads. [`Qp::join`] reverses it.
    #[must_use]
    pub fn into_split(self) -> (SendQueue, RecvQueue) {
        (self.send, self.recv)
    }

    /// Joins the halves of a queue pair that [`Qp::into_split`] has separated.
    ///
    /// # Errors
    /// They are not of one queue pair; the error returns both.
    pub fn join(send: SendQueue, recv: RecvQueue) -> Result<Self, JoinError> {
        if Arc::ptr_eq(&send.core, &recv.core) {
            Ok(Self { send, recv })
        } else {
            Err(JoinError::new(send, recv))
        }
    }

    /// Changes attributes, and the state where `attr.state` is given. See `ibv_modify_qp(3)`.
    ///
    /// # Errors
    /// The kernel refuses; where the reason is a transition that does not exist, an attribute that is missing or one that
    /// is not taken, the error names it.
    pub fn modify(&mut self, attr: &QpAttr) -> Result<()> {
        let core = &self.send.core;
        let object = &core.object;
        let uverbs = &object.ctx.uverbs;
        uverbs.modify_qp(&attr.to_raw(object.handle)).map_err(|errno| {
            let error = uverbs.error("modify_qp", errno);
            let from = core.query().ok().and_then(|now| now.state);
            match from.and_then(|from| transition::explain(core.qp_type, from, attr)) {
                Some(why) if errno == nix::errno::Errno::EINVAL => error.with_hint(why),
                _ => error,
            }
        })?;
        if attr.state.map(u8::from) == Some(QpState::RESET.into()) {
            let renewed = self.send.ring.reset(&mut self.recv.ring, &object.hold);
            renewed.map_err(|errno| {
                uverbs.error("modify_qp", errno).with_hint("nothing can be posted until it is reset again")
            })?;
        }
        let port = {
            let mut settings = core.settings();
            settings.port = attr.port.or(settings.port);
            settings.port
        };
        if let (QpType::UD, Some(port)) = (core.qp_type, port)
            // A device may drop a datagram that does not fit and report that it was sent: posting refuses it.
            && let Ok(answer) = uverbs.query_port(port.get())
            && let Some(mtu) = Mtu::from(answer.legacy_resp.active_mtu).bytes()
        {
            self.send.ring.set_mtu(mtu);
        }
        Ok(())
    }

    /// Attaches a datagram queue pair to a multicast group, so that it also receives what is sent to the group.
    ///
    /// `lid` is the group's on InfiniBand, 0 on Ethernet. See `ibv_attach_mcast(3)`.
    ///
    /// # Errors
    /// `gid` is no multicast address, the queue pair is of another type, or the device has no more groups.
    pub fn attach_mcast(&mut self, gid: Gid, lid: Lid) -> Result<()> {
        let object = &self.send.core.object;
        object.ctx.uverbs.attach_mcast(object.handle, gid.0, lid.0).map_err(|errno| {
            let error = object.ctx.uverbs.error("attach_mcast", errno);
            match errno {
                nix::errno::Errno::EINVAL if self.qp_type() != QpType::UD => {
                    error.with_hint("only datagram queue pairs are in multicast groups")
                }
                nix::errno::Errno::EINVAL => error.with_hint(format!("is {gid} a multicast GID?")),
                _ => error,
            }
        })?;
        let groups = &mut self.send.core.settings().groups;
        if !groups.contains(&(gid, lid)) {
            groups.push((gid, lid));
        }
        Ok(())
    }

    /// Detaches a queue pair from a multicast group. One that is destroyed leaves its groups.
    ///
    /// # Errors
    /// It is not in that group.
    pub fn detach_mcast(&mut self, gid: Gid, lid: Lid) -> Result<()> {
        let object = &self.send.core.object;
        object
            .ctx
            .uverbs
            .detach_mcast(object.handle, gid.0, lid.0)
            .map_err(|errno| object.ctx.uverbs.error("detach_mcast", errno))?;
        self.send.core.settings().groups.retain(|group| *group != (gid, lid));
        Ok(())
    }

    /// Destroys the queue pair. Outstanding requests do not complete any more; completions that have not been taken out keep their
    /// places in the completion queue until it is polled.
    ///
    /// # Errors
    /// The device is gone, or the queue pair belongs to the parent of this process.
    pub fn destroy(self) -> Result<()> {
        let Self { send: SendQueue { core, .. }, recv } = self;
        drop(recv);
        match Arc::try_unwrap(core) {
            Ok(mut core) => {
                core.leave_groups();
                core.object.destroy()
            }
            Err(core) => Err(core.object.in_use("one of its halves")),
        }
    }
}
