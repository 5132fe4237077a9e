//! Address handles: where datagrams go.

use std::sync::Arc;
use std::time::Duration;

use super::AddressVector;
use super::neighbour;
use super::object::{Kind, Object};
use crate::error::Result;
use crate::types::{Dest, DeviceAh, Qkey, Qpn, SendWr, UdAddr};
use crate::uverbs::Uverbs;

/// An address to which queue pairs of its domain send datagrams. See `ibv_create_ah(3)`.
///
/// A datagram that has not left yet when its address handle is dropped may be lost.
#[derive(Debug)]
pub struct Ah {
    /// The kernel's object, where there is one.
    object: Option<Object>,
    device: DeviceAh,
    _pd: Arc<Object>,
}

impl Ah {
    /// The kernel's handle.
    pub(crate) fn raw_handle(&self) -> Option<u32> {
        self.object.as_ref().map(|object| object.handle)
    }

    pub(super) fn create(pd: &Arc<Object>, av: &AddressVector, patience: Duration) -> Result<Self> {
        const KIND: Kind = Kind { verb: "destroy_ah", destroy: Uverbs::destroy_ah };
        let ctx = &pd.ctx;
        let eth_addr = |attr: &_| neighbour::eth_addr(&ctx.info, attr, patience);
        let new = ctx.provider().create_ah(&ctx.uverbs, pd.handle, &pd.hold, av.to_ah(), eth_addr)?;
        let object = new.handle.map(|handle| Object::new(ctx, handle, KIND));
        Ok(Self { object, device: new.device, _pd: Arc::clone(pd) })
    }

    /// Destroys the address handle.
    ///
    /// # Errors
    /// The device is gone.
    pub fn destroy(mut self) -> Result<()> {
        self.object.as_mut().map_or(Ok(()), Object::destroy)
    }
}

impl<'a> SendWr<'a> {
    /// Where the datagram goes: the address, the queue pair there, and the key that it takes.
    #[inline(always)]
    pub const fn ud_addr(mut self, ah: &'a Ah, qp_num: Qpn, qkey: Qkey) -> Self {
        self.dest = Dest::Ud(UdAddr { ah: &ah.device, qpn: qp_num, qkey });
        self
    }
}
