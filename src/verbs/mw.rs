//! Memory windows: keys for parts of a region that come and go without the kernel.

use std::sync::Arc;

use super::object::{Kind, Object};
use crate::error::Result;
use crate::types::{Access, MwBind, MwType, Rkey, SendOp, SendWr, Sge};
use crate::uverbs::Uverbs;

/// A memory window. See `ibv_alloc_mw(3)`.
///
/// A region that a window is bound to cannot be deregistered: drop the window first.
#[derive(Debug)]
pub struct Mw {
    object: Object,
    mw_type: MwType,
    rkey: Rkey,
    _pd: Arc<Object>,
}

impl Mw {
    /// The kernel's handle.
    pub(crate) fn raw_handle(&self) -> u32 {
        self.object.handle
    }

    pub(super) fn alloc(pd: &Arc<Object>, mw_type: MwType) -> Result<Self> {
        const KIND: Kind = Kind { verb: "dealloc_mw", destroy: Uverbs::dealloc_mw };
        let raw = match mw_type {
            MwType::One => 1,
            MwType::Two => 2,
        };
        let made = pd.ctx.uverbs.alloc_mw(pd.handle, raw)?;
        let object = Object::new(&pd.ctx, made.mw_handle, KIND);
        Ok(Self { object, mw_type, rkey: Rkey(made.rkey), _pd: Arc::clone(pd) })
    }

    /// The key that the window has.
    #[must_use]
    pub fn rkey(&self) -> Rkey {
        self.rkey
    }

    /// The request that binds the window to `part` of a region (registered with [`Access::MW_BIND`]), under the key that follows
    /// the one it has.
    ///
    /// It changes nothing here: one that is dropped, is refused or fails leaves the window the key it had. See `ibv_bind_mw(3)`.
    pub fn bind(&self, wr_id: u64, part: Sge, access: Access) -> SendWr<'static> {
        let bind = MwBind { mw_type: self.mw_type, window: self.rkey, rkey: self.next_rkey(), part, access };
        SendWr::new(wr_id, SendOp::BindMw(bind))
    }

    /// Notes that a bind was carried out, and gives the key that the window has by it.
    ///
    /// It is due once for each bind, when that has completed; or already when it is posted, by a program that names the new key
    /// before the completion and has no more use for the window where the bind fails.
    pub fn bound(&mut self) -> Rkey {
        self.rkey = self.next_rkey();
        self.rkey
    }

    /// The lowest byte counts binds; the rest is the window's.
    fn next_rkey(&self) -> Rkey {
        let Rkey(now) = self.rkey;
        Rkey(now & !0xff | (now.wrapping_add(1) & 0xff))
    }

    /// Unmakes the window.
    ///
    /// # Errors
    /// The device is gone.
    pub fn destroy(mut self) -> Result<()> {
        self.object.destroy()
    }
}
