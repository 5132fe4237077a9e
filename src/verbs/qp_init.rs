//! What to create a queue pair with, and why the kernel refuses it.

use super::{CqHandle, SrqHandle};
use crate::error::{Cause, Error};
use crate::provider::Provider;
use crate::types::QpType;
use crate::uapi::ioctl::verbs::QpCap as RawCap;
use crate::uverbs::Uverbs;

/// The sizes of a queue pair (`struct ibv_qp_cap`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QpCap {
    /// Maximum number of outstanding sends.
    pub max_send_wr: u32,
    /// Maximum number of outstanding receives.
    pub max_recv_wr: u32,
    /// Maximum number of elements of a send.
    pub max_send_sge: u32,
    /// Maximum number of elements of a receive.
    pub max_recv_sge: u32,
    /// Maximum number of inline bytes of a send.
    pub max_inline_data: u32,
}

impl Default for QpCap {
    fn default() -> Self {
        Self { max_send_wr: 1, max_recv_wr: 1, max_send_sge: 1, max_recv_sge: 1, max_inline_data: 0 }
    }
}

/// What to create a queue pair with.
///
/// A completion queue is named by the [`Cq`](super::Cq) itself or by a [`CqHandle`] on it, a shared receive queue by the
/// [`Srq`](super::Srq) or by a [`SrqHandle`].
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct QpInit<'c> {
    pub(super) qp_type: QpType,
    pub(super) send_cq: &'c CqHandle,
    pub(super) recv_cq: Option<&'c CqHandle>,
    pub(super) srq: Option<&'c SrqHandle>,
    pub(super) cap: QpCap,
    pub(super) sq_sig_all: bool,
    pub(super) user_handle: Option<u64>,
}

impl<'c> QpInit<'c> {
    /// A queue pair of this type, with room for one request of one element each way.
    pub fn new(
        qp_type: QpType,
        send_cq: &'c impl AsRef<CqHandle>,
        recv_cq: &'c impl AsRef<CqHandle>,
    ) -> Self {
        Self {
            qp_type,
            send_cq: send_cq.as_ref(),
            recv_cq: Some(recv_cq.as_ref()),
            srq: None,
            cap: QpCap::default(),
            sq_sig_all: false,
            user_handle: None,
        }
    }

    /// A reliable connection.
    pub fn rc(send_cq: &'c impl AsRef<CqHandle>, recv_cq: &'c impl AsRef<CqHandle>) -> Self {
        Self::new(QpType::RC, send_cq, recv_cq)
    }

    /// An unreliable connection: lost packets are not sent again.
    pub fn uc(send_cq: &'c impl AsRef<CqHandle>, recv_cq: &'c impl AsRef<CqHandle>) -> Self {
        Self::new(QpType::UC, send_cq, recv_cq)
    }

    /// Unreliable datagrams: each send goes to an address of its own ([`SendWr::ud_addr`](crate::SendWr::ud_addr)), in one packet.
    ///
    /// A receive needs 40 bytes more than the message, which begins after them.
    pub fn ud(send_cq: &'c impl AsRef<CqHandle>, recv_cq: &'c impl AsRef<CqHandle>) -> Self {
        Self::new(QpType::UD, send_cq, recv_cq)
    }

    /// The sending side of an extended reliable connection; [`super::Xrcd::create_recv_qp`] makes the other.
    pub fn xrc_send(send_cq: &'c impl AsRef<CqHandle>) -> Self {
        Self { recv_cq: None, ..Self::new(QpType::XRC_SEND, send_cq, send_cq) }
    }

    /// Takes receives from a shared queue instead of one of its own.
    pub fn srq(mut self, srq: &'c impl AsRef<SrqHandle>) -> Self {
        self.srq = Some(srq.as_ref());
        self
    }

    /// Maximum number of outstanding sends.
    pub fn max_send_wr(mut self, n: u32) -> Self {
        self.cap.max_send_wr = n;
        self
    }

    /// Maximum number of outstanding receives.
    pub fn max_recv_wr(mut self, n: u32) -> Self {
        self.cap.max_recv_wr = n;
        self
    }

    /// Maximum number of elements of a send.
    pub fn max_send_sge(mut self, n: u32) -> Self {
        self.cap.max_send_sge = n;
        self
    }

    /// Maximum number of elements of a receive.
    pub fn max_recv_sge(mut self, n: u32) -> Self {
        self.cap.max_recv_sge = n;
        self
    }

    /// Maximum number of inline bytes of a send.
    pub fn max_inline_data(mut self, n: u32) -> Self {
        self.cap.max_inline_data = n;
        self
    }

    /// What the async events of the queue pair carry ([`Qp::user_handle`](super::Qp::user_handle)), in place of a number that the library
    /// chooses.
    pub fn user_handle(mut self, user_handle: u64) -> Self {
        self.user_handle = Some(user_handle);
        self
    }

    /// Every send is signaled.
    pub fn sq_sig_all(mut self) -> Self {
        self.sq_sig_all = true;
        self
    }
}

/// A request for a queue pair with nothing but a type, sizes and perhaps an XRC domain.
pub(super) fn raw(qp_type: QpType, cap: QpCap, xrcd_handle: Option<u32>) -> crate::uverbs::qp::QpParams {
    crate::uverbs::qp::QpParams {
        pd_handle: None,
        send_cq_handle: None,
        recv_cq_handle: None,
        srq_handle: None,
        xrcd_handle,
        qp_type: qp_type.into(),
        sq_sig_all: false,
        cap: RawCap {
            max_send_wr: cap.max_send_wr,
            max_recv_wr: cap.max_recv_wr,
            max_send_sge: cap.max_send_sge,
            max_recv_sge: cap.max_recv_sge,
            max_inline_data: cap.max_inline_data,
        },
        user_handle: 0,
    }
}

/// Names the size that is over the device's limit, where one is.
pub(super) fn explain(error: Error, provider: &Provider, uverbs: &Uverbs, cap: &RawCap) -> Error {
    if !matches!(error.cause(), Cause::Os(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOMEM)) {
        return error;
    }
    let Ok((device, _)) = provider.query_device(uverbs) else { return error };
    let base = &device.base;
    let sizes = [
        ("max_send_wr", cap.max_send_wr, "max_qp_wr", base.max_qp_wr),
        ("max_recv_wr", cap.max_recv_wr, "max_qp_wr", base.max_qp_wr),
        ("max_send_sge", cap.max_send_sge, "max_sge", base.max_sge),
        ("max_recv_sge", cap.max_recv_sge, "max_sge", base.max_sge),
    ];
    match sizes.iter().find(|(_, asked, _, limit)| asked > limit) {
        Some((size, asked, name, limit)) => {
            error.with_hint(format!("{size} is {asked}; the device's {name} is {limit}"))
        }
        None => error,
    }
}
