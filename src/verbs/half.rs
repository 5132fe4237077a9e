//! The halves of a queue pair: a send queue and a receive queue, each with an owner of its own.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::connect::Path;
use super::object::Object;
use super::{Context, CqHandle, Endpoint, Qp, QpAttr, QpCap, SrqHandle};
use crate::error::{Error, Result};
use crate::provider;
use crate::types::{Gid, Lid, PortNum, PostError, QpState, QpType, Qpn, RecvWr, SendWr};

/// What both halves share: the kernel's object, and those that must outlive it. Fields drop in this order.
#[derive(Debug)]
pub(super) struct QpCore {
    pub(super) object: Object,
    pub(super) qp_num: Qpn,
    pub(super) qp_type: QpType,
    pub(super) cap: QpCap,
    pub(super) user_handle: u64,
    pub(super) settings: Mutex<Settings>,
    pub(super) _send_cq: Option<CqHandle>,
    pub(super) _recv_cq: Option<CqHandle>,
    pub(super) _srq: Option<SrqHandle>,
    /// Its protection domain, or its XRC domain.
    pub(super) _domain: Arc<Object>,
}

/// What changes while a queue pair exists.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// The multicast groups that it is in: the kernel does not destroy a queue pair that is in one.
    pub(super) groups: Vec<(Gid, Lid)>,
    /// The port that it was told to use.
    pub(super) port: Option<PortNum>,
    /// Set by [`Qp::init_endpoint`], used by [`Qp::connect`].
    pub(super) local: Option<(Endpoint, Path)>,
}

impl QpCore {
    pub(super) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn query(&self) -> Result<QpAttr> {
        // Every attribute: the kernel returns them all in any case.
        Ok(QpAttr::from_raw(&self.object.ctx.uverbs.query_qp(self.object.handle, 0x1f_ffff)?))
    }

    fn state(&self) -> Result<QpState> {
        self.query()?.state.ok_or_else(|| {
            Error::bad_answer("query_qp", self.object.ctx.uverbs.device(), "the kernel reports no state")
        })
    }

    pub(super) fn leave_groups(&mut self) {
        if !self.object.is_ours() {
            return;
        }
        let settings = self.settings.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (gid, lid) in settings.groups.drain(..) {
            // If this fails, destroying the queue pair fails too, and that is reported.
            let _ = self.object.ctx.uverbs.detach_mcast(self.object.handle, gid.0, lid.0);
        }
    }
}

impl Drop for QpCore {
    fn drop(&mut self) {
        self.leave_groups();
    }
}

/// The sending half of a queue pair, from [`Qp::into_split`].
///
/// The queue pair is destroyed when both halves are dropped.
pub struct SendQueue {
    pub(super) ring: provider::Sq,
    pub(super) core: Arc<QpCore>,
}

/// The receiving half of a queue pair, from [`Qp::into_split`].
///
/// The queue pair is destroyed when both halves are dropped.
pub struct RecvQueue {
    pub(super) ring: provider::Rq,
    pub(super) core: Arc<QpCore>,
}

/// Methods of a queue pair and of each half that need neither queue; `$core` is the field that leads to the shared part.
macro_rules! queries {
    ($type:ident, $($core:ident).+) => {
        impl $type {
            /// Returns its number, by which the peer names it.
            #[must_use]
            pub fn qp_num(&self) -> Qpn {
                self.$($core).+.qp_num
            }

            /// Returns its type.
            #[must_use]
            pub fn qp_type(&self) -> QpType {
                self.$($core).+.qp_type
            }

            /// Returns its sizes, which may be more than was asked for.
            #[must_use]
            pub fn cap(&self) -> QpCap {
                self.$($core).+.cap
            }

            /// Returns what async events of this queue pair carry.
            #[must_use]
            pub fn user_handle(&self) -> u64 {
                self.$($core).+.user_handle
            }

            /// Asks the kernel for the attributes and the state. See `ibv_query_qp(3)`.
            ///
            /// # Errors
            /// The device is gone.
            pub fn query(&self) -> Result<QpAttr> {
                self.$($core).+.query()
            }

            /// Asks the kernel for the state.
            ///
            /// # Errors
            /// The device is gone.
            pub fn state(&self) -> Result<QpState> {
                self.$($core).+.state()
            }

            /// Returns the context that it was created from.
            #[must_use]
            pub fn context(&self) -> Context {
                Context(Arc::clone(&self.$($core).+.object.ctx))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type))
                    .field("qp_num", &self.qp_num())
                    .field("qp_type", &self.qp_type())
                    .field("cap", &self.cap())
                    .finish_non_exhaustive()
            }
        }
    };
}

queries!(Qp, send.core);
queries!(SendQueue, core);
queries!(RecvQueue, core);

impl SendQueue {
    /// Posts one send and rings the doorbell, as [`Qp::post_send`].
    ///
    /// # Errors
    /// As [`Qp::post_send`].
    #[inline(always)]
    pub fn post_send(&mut self, wr: SendWr<'_>) -> Result<(), PostError> {
        let object = &self.core.object;
        self.ring.post_one(&object.ctx.uverbs, object.handle, wr)
    }

    /// Posts several sends and rings the doorbell once.
    ///
    /// # Errors
    /// As [`Qp::post_send`]; requests before the refused one are carried out.
    #[inline(never)] // nothing is known about them when a caller is compiled
    pub fn post_sends(&mut self, wrs: &[SendWr<'_>]) -> Result<(), PostError> {
        let object = &self.core.object;
        self.ring.post(&object.ctx.uverbs, object.handle, wrs)
    }
}

impl RecvQueue {
    /// Posts one receive, as [`Qp::post_recv`].
    ///
    /// # Errors
    /// As [`Qp::post_recv`].
    #[inline(always)]
    pub fn post_recv(&mut self, wr: RecvWr<'_>) -> Result<(), PostError> {
        self.ring.post_one(wr)
    }

    /// Posts several receives.
    ///
    /// # Errors
    /// As [`Qp::post_recv`]; requests before the refused one are posted.
    #[inline(always)]
    pub fn post_recvs(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        self.ring.post(wrs)
    }
}

/// Halves that [`Qp::join`] was given are not of one queue pair. [`JoinError::into_halves`] returns both.
#[derive(Debug)]
pub struct JoinError(Box<(SendQueue, RecvQueue)>);

impl JoinError {
    pub(super) fn new(send: SendQueue, recv: RecvQueue) -> Self {
        Self(Box::new((send, recv)))
    }

    /// Returns the halves that were not joined.
    #[must_use]
    pub fn into_halves(self) -> (SendQueue, RecvQueue) {
        *self.0
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (send, recv) = &*self.0;
        write!(
            f,
            "the send queue belongs to queue pair {}, the receive queue to queue pair {}",
            send.qp_num(),
            recv.qp_num()
        )
    }
}

impl std::error::Error for JoinError {}
