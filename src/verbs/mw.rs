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
    pub(super) fn alloc(pd: &Arc<Object>, mw_type: MwType) -> Result<Self> {
        const KIND: Kind = Kind { verb: "dealloc_mw", unmake: Uverbs::dealloc_mw };
        let raw = match mw_type {
            MwType::One => 1,
            MwType::Two => 2,
        };
        let made = pd.ctx.uverbs.alloc_mw(pd.handle, raw)?;
        let object = Object::new(&pd.ctx, made.mw_handle, KIND);
        Ok(Self { object, mw_type, rkey: Rkey(made.rkey), _pd: Arc::clone(pd) })
    }

    /// The key that the window has, or gets by the last [`bind`](Self::bind).
    #[must_use]
    pub fn rkey(&self) -> Rkey {
        self.rkey
    }

    /// The request that binds the window to `part` of a region (registered with [`Access::MW_BIND`]), under the next key.
    ///
    /// The key counts once the request has completed. See `ibv_bind_mw(3)`.
    pub fn bind(&mut self, wr_id: u64, part: Sge, access: Access) -> SendWr<'static> {
        let window = self.rkey;
        self.rkey = Rkey(window.0 & !0xff | (window.0.wrapping_add(1) & 0xff));
        SendWr::new(
            wr_id,
            SendOp::BindMw(MwBind { mw_type: self.mw_type, window, rkey: self.rkey, part, access }),
        )
    }

    /// Unmakes the window.
    ///
    /// # Errors
    /// The device is gone.
    pub fn destroy(mut self) -> Result<()> {
        self.object.destroy()
    }
}
