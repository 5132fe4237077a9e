//! What a program holds: a device, its context, and the objects created from it.
//!
//! Children hold their parents, so drop order cannot be wrong. Every object is destroyed in its `Drop`; an explicit
//! `destroy` reports the kernel's refusal, if there is one. The man pages of rdma-core (`ibv_open_device(3)`, …) describe what each verb
//! does; names here are theirs.

mod ah;
mod attr;
mod channel;
mod completions;
mod connect;
mod context;
mod cq;
mod device;
mod event;
mod firmware;
mod half;
#[cfg(test)]
mod lying_kernel_tests;
mod mr;
mod mr_init;
mod mw;
mod neighbour;
mod object;
mod opaque_mr;
mod pd;
mod qp;
mod qp_attr;
mod qp_init;
mod reply;
#[cfg(doctest)]
mod soundness;
mod srq;
mod transition;
mod wait;
mod xrcd;

use crate::types::Endpoint;

pub use ah::Ah;
pub use attr::{AtomicCap, DeviceAttr, OdpCaps, PortAttr, RssCaps, TmCaps};
pub use channel::{CompChannel, CompEvent, CqFd};
pub use completions::Completions;
pub use connect::ConnectAttr;
pub(crate) use context::WeakContext;
pub use context::{Context, OpenOptions};
pub use cq::{Cq, CqHandle, CqInit};
pub use device::Device;
pub use event::{AsyncEvent, AsyncEventType, AsyncEvents, EventSource};
pub use half::{JoinError, RecvQueue, SendQueue};
pub use mr::Mr;
pub use mr_init::{MrInit, Rereg};
pub use mw::Mw;
pub use opaque_mr::OpaqueMr;
pub use pd::Pd;
pub use qp::Qp;
pub use qp_attr::{AddressVector, QpAttr};
pub use qp_init::{QpCap, QpInit};
pub use srq::{Srq, SrqAttr, SrqHandle, SrqInit};
pub use wait::{Wait, Waited};
pub use xrcd::Xrcd;
