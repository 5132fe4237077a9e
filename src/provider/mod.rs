//! What a device's queues look like: one folder per driver, the same file names in each.
//!
//! Which provider a queue has is settled when it is made; after that every call is a jump on an enum.

pub(crate) mod rxe;

use nix::errno::Errno;

use crate::error::{Cause, Error, Result};
use crate::types::{PostError, RecvWr, SendWr, Wc};
use crate::uapi::ioctl::{RDMA_DRIVER_MLX4, RDMA_DRIVER_RXE, RDMA_DRIVER_SIW};
use crate::uverbs::Uverbs;
use crate::uverbs::cq::CqInit;
use crate::uverbs::qp::{NewQp, QpInit};

/// A driver whose queues this crate knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    Rxe,
}

impl Provider {
    /// The provider of a driver (`RDMA_DRIVER_*`).
    pub(crate) fn of(driver: u32, device: &str) -> Result<Self> {
        let name = match driver {
            RDMA_DRIVER_RXE => return Ok(Self::Rxe),
            RDMA_DRIVER_MLX4 => "mlx4",
            RDMA_DRIVER_SIW => "siw",
            _ => "",
        };
        let why = match name {
            "" => format!("there is no provider for its driver (id {driver})"),
            name => format!("there is no provider for {name} yet"),
        };
        Err(Error::new("create queues", device, Cause::Unsupported(why.into()))
            .hint("devices of rxe have one"))
    }

    /// Makes a completion queue and maps it; gives its handle, its size and its ring.
    pub(crate) fn create_cq(self, uverbs: &Uverbs, init: &CqInit<'_>) -> Result<(u32, u32, Cq)> {
        match self {
            Self::Rxe => rxe::cq::create(uverbs, init).map(|(handle, cqe, cq)| (handle, cqe, Cq::Rxe(cq))),
        }
    }

    /// Makes a queue pair and maps its queues.
    pub(crate) fn create_qp(self, uverbs: &Uverbs, init: &QpInit) -> Result<(NewQp, Sq, Rq)> {
        match self {
            Self::Rxe => rxe::qp::create(uverbs, init).map(|(made, sq, rq)| (made, Sq::Rxe(sq), Rq::Rxe(rq))),
        }
    }
}

/// A completion queue's ring.
pub(crate) enum Cq {
    Rxe(rxe::cq::Cq),
}

impl Cq {
    /// Takes completions out; gives how many.
    #[inline]
    pub(crate) fn poll(&mut self, out: &mut [Wc]) -> usize {
        match self {
            Self::Rxe(cq) => cq.poll(out),
        }
    }

    /// Asks for an event at the next completion.
    #[inline]
    pub(crate) fn arm(&mut self, uverbs: &Uverbs, handle: u32, solicited: bool) -> Result<(), Errno> {
        match self {
            Self::Rxe(_) => uverbs.req_notify_cq(handle, solicited),
        }
    }

    /// Changes the size; gives the new one.
    pub(crate) fn resize(&mut self, uverbs: &Uverbs, handle: u32, cqe: u32) -> Result<u32> {
        match self {
            Self::Rxe(cq) => cq.resize(uverbs, handle, cqe),
        }
    }
}

/// A send queue's ring.
pub(crate) enum Sq {
    Rxe(rxe::qp::Sq),
}

impl Sq {
    /// Posts requests and rings the doorbell once.
    #[inline(always)]
    pub(crate) fn post<'a>(
        &mut self,
        uverbs: &Uverbs,
        qp_handle: u32,
        wrs: impl IntoIterator<Item = SendWr<'a>>,
    ) -> Result<(), PostError> {
        match self {
            Self::Rxe(sq) => sq.post(wrs, || uverbs.ring_send_queue(qp_handle)),
        }
    }
}

/// A receive queue's ring.
pub(crate) enum Rq {
    Rxe(rxe::qp::Rq),
}

impl Rq {
    /// Posts requests.
    #[inline(always)]
    pub(crate) fn post<'a>(&mut self, wrs: impl IntoIterator<Item = RecvWr<'a>>) -> Result<(), PostError> {
        match self {
            Self::Rxe(rq) => rq.post(wrs),
        }
    }
}
