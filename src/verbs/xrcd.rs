//! XRC domains: what a peer's messages and the shared receive queues that they go to have in common.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::Qp;
use super::context::ContextInner;
use super::object::{Kind, Object};
use crate::error::{Cause, Error, Result};
use crate::uapi::verbs::IB_UVERBS_DEVICE_XRC;
use crate::uverbs::{Udata, Uverbs};

/// An XRC domain. Cloning gives another handle on the same domain. See `ibv_open_xrcd(3)`.
#[derive(Debug, Clone)]
pub struct Xrcd(pub(super) Arc<Object>);

impl Xrcd {
    /// The kernel's handle.
    pub(crate) fn raw_handle(&self) -> u32 {
        self.0.handle
    }

    pub(super) fn open(ctx: &Arc<ContextInner>, file: Option<BorrowedFd<'_>>, oflags: i32) -> Result<Self> {
        const KIND: Kind = Kind { verb: "close_xrcd", destroy: Uverbs::close_xrcd };
        let uverbs = &ctx.uverbs;
        let handle =
            uverbs.open_xrcd(file, oflags, Udata::none()).map_err(|error| match uverbs.query_device() {
                Ok(device) if device.base.device_cap_flags & IB_UVERBS_DEVICE_XRC == 0 => {
                    let why = "it has no extended reliable connections (XRC)";
                    Error::new("open_xrcd", uverbs.device(), Cause::Unsupported(why.into()))
                }
                _ => error,
            })?;
        Ok(Self(Arc::new(Object::new(ctx, handle, KIND))))
    }

    /// Makes a queue pair that receives: messages that come by it go to the shared receive queue that their sender names.
    ///
    /// It has no queues of its own, so nothing can be posted to it.
    ///
    /// # Errors
    /// The device has no more.
    pub fn create_recv_qp(&self) -> Result<Qp> {
        Qp::create_xrc_recv(&self.0)
    }

    /// Closes the domain.
    ///
    /// # Errors
    /// Queue pairs, shared receive queues or other handles of it are still there: it is closed when the last of them goes.
    pub fn close(self) -> Result<()> {
        Arc::try_unwrap(self.0)
            .map_err(|object| object.in_use("queue pairs, shared receive queues or another handle"))?
            .destroy()
    }
}
