//! What a device's queues look like: one folder per driver, the same file names in each.
//!
//! Which provider a context has is settled when it is opened; after that every call is a jump on an enum.

pub(crate) mod mlx4;
pub(crate) mod rxe;

use nix::errno::Errno;

use crate::error::{Cause, Error, Result};
use crate::types::{DeviceAh, DriverCaps, EthAddr, PostError, PostErrorKind, RecvWr, SendWr, Wc};
use crate::uapi::ioctl::{RDMA_DRIVER_MLX4, RDMA_DRIVER_RXE, RDMA_DRIVER_SIW};
use crate::uapi::verbs::{AhAttr, ExQueryDeviceResp, ModifySrq};
use crate::uverbs::cq::CqInit;
use crate::uverbs::device::NewContext;
use crate::uverbs::qp::{NewQp, QpInit};
use crate::uverbs::srq::{NewSrq, SRQ_LIMIT, SRQ_MAX_WR, SrqInit};
use crate::uverbs::{Udata, Uverbs};

/// What knows a context's queues.
#[derive(Debug)]
pub(crate) enum Provider {
    Rxe,
    Mlx4(mlx4::Context),
    /// Nothing, for this driver (`RDMA_DRIVER_*`): the device can be asked, and has no queues.
    None(u32),
}

/// Whether there is a provider for the devices of this driver.
pub(crate) const fn drives(driver: u32) -> bool {
    matches!(driver, RDMA_DRIVER_MLX4 | RDMA_DRIVER_RXE)
}

impl Provider {
    /// Makes the context of an open device of `driver`; `abi` is the version of what it says to its provider.
    pub(crate) fn open(uverbs: &Uverbs, driver: u32, abi: u32) -> Result<(NewContext, Self)> {
        match driver {
            RDMA_DRIVER_MLX4 => mlx4::open(uverbs, abi).map(|(new, ctx)| (new, Self::Mlx4(ctx))),
            RDMA_DRIVER_RXE => Ok((uverbs.get_context(Udata::none())?, Self::Rxe)),
            _ => Ok((uverbs.get_context(Udata::none())?, Self::None(driver))),
        }
    }

    /// Makes a protection domain; gives its handle and what is known of it.
    pub(crate) fn alloc_pd(&self, uverbs: &Uverbs) -> Result<(u32, Hold)> {
        match self {
            Self::Mlx4(_) => mlx4::alloc_pd(uverbs).map(|(handle, pdn)| (handle, Hold::Mlx4Pd { pdn })),
            Self::Rxe | Self::None(_) => Ok((uverbs.alloc_pd(Udata::none())?, Hold::Nothing)),
        }
    }

    /// Makes a completion queue; gives its handle, its size, its ring and what must outlive it.
    pub(crate) fn create_cq(&self, uverbs: &Uverbs, init: &CqInit<'_>) -> Result<(u32, u32, Cq, Hold)> {
        match self {
            Self::Rxe => {
                let (handle, cqe, cq) = rxe::cq::create(uverbs, init)?;
                Ok((handle, cqe, Cq::Rxe(cq), Hold::Nothing))
            }
            Self::Mlx4(ctx) => {
                let (handle, cqe, cq, hold) = mlx4::cq::create(ctx, uverbs, init)?;
                Ok((handle, cqe, Cq::Mlx4(cq), Hold::Mlx4Record(hold)))
            }
            Self::None(driver) => Err(unsupported(*driver, uverbs)),
        }
    }

    /// The device's attributes, the driver's own among them.
    pub(crate) fn query_device(&self, uverbs: &Uverbs) -> Result<(ExQueryDeviceResp, DriverCaps)> {
        match self {
            Self::Mlx4(_) => mlx4::query_device(uverbs),
            Self::Rxe | Self::None(_) => Ok((uverbs.query_device()?, DriverCaps::default())),
        }
    }

    /// Makes a queue pair that uses these queues, where it has such; gives it, its rings and what must outlive it.
    pub(crate) fn create_qp(
        &self,
        uverbs: &Uverbs,
        init: &QpInit,
        queues: Queues<'_>,
    ) -> Result<(NewQp, Sq, Rq, Hold)> {
        match self {
            Self::Rxe => {
                let (made, sq, rq) = rxe::qp::create(uverbs, init)?;
                Ok((made, Sq::Rxe(sq), rq.map_or(Rq::None, Rq::Rxe), Hold::Nothing))
            }
            Self::Mlx4(ctx) => {
                let (send_cq, recv_cq) =
                    (queues.send_cq.and_then(Cq::mlx4), queues.recv_cq.and_then(Cq::mlx4));
                let srq = queues.srq.and_then(Srq::mlx4);
                let (made, sq, rq, hold) = mlx4::qp::create(ctx, uverbs, init, send_cq, recv_cq, srq)?;
                let (sq, rq) = (sq.map_or(Sq::None, Sq::Mlx4), rq.map_or(Rq::None, Rq::Mlx4));
                Ok((made, sq, rq, Hold::Mlx4Qp(hold)))
            }
            Self::None(driver) => Err(unsupported(*driver, uverbs)),
        }
    }

    /// Makes a shared receive queue, which for XRC completes into `xrc_cq`; gives it, its ring and what must outlive it.
    pub(crate) fn create_srq(
        &self,
        uverbs: &Uverbs,
        init: &SrqInit,
        xrc_cq: Option<&Cq>,
    ) -> Result<(NewSrq, Srq, Hold)> {
        match self {
            Self::Rxe => {
                let (made, srq) = rxe::srq::create(uverbs, init)?;
                Ok((made, Srq::Rxe(srq), Hold::Nothing))
            }
            Self::Mlx4(ctx) => {
                let (made, srq, hold) = mlx4::srq::create(ctx, uverbs, init, xrc_cq.and_then(Cq::mlx4))?;
                Ok((made, Srq::Mlx4(srq), Hold::Mlx4Srq(hold)))
            }
            Self::None(driver) => Err(unsupported(*driver, uverbs)),
        }
    }

    /// Makes an address handle in a domain, of which `pd` is known; gives the kernel's handle on it, where the kernel is asked, and
    /// what requests name it by. `eth_addr` finds who is meant on Ethernet, where no kernel will.
    pub(crate) fn create_ah(
        &self,
        uverbs: &Uverbs,
        pd_handle: u32,
        pd: &Hold,
        attr: AhAttr,
        eth_addr: impl FnOnce(&AhAttr) -> Result<EthAddr>,
    ) -> Result<(Option<u32>, DeviceAh)> {
        match self {
            Self::Rxe => rxe::ah::create(uverbs, pd_handle, attr).map(|(handle, ah)| (Some(handle), ah)),
            Self::Mlx4(_) => {
                let pdn = if let Hold::Mlx4Pd { pdn } = pd { *pdn } else { 0 };
                mlx4::ah::create(uverbs, pdn, &attr, eth_addr).map(|ah| (None, ah))
            }
            Self::None(driver) => Err(unsupported(*driver, uverbs)),
        }
    }
}

/// What a queue pair is made on.
#[derive(Clone, Copy, Default)]
pub(crate) struct Queues<'q> {
    pub(crate) send_cq: Option<&'q Cq>,
    pub(crate) recv_cq: Option<&'q Cq>,
    pub(crate) srq: Option<&'q Srq>,
}

fn unsupported(driver: u32, uverbs: &Uverbs) -> Error {
    let why = match driver {
        RDMA_DRIVER_SIW => "there is no provider for siw yet".into(),
        _ => format!("there is no provider for its driver (id {driver})"),
    };
    Error::new("create queues", uverbs.device(), Cause::Unsupported(why.into()))
        .with_hint("devices of rxe and mlx4 have one")
}

/// What a provider keeps of a kernel object for as long as that is there: what it uses of this process's, what it is called.
#[derive(Debug)]
pub(crate) enum Hold {
    Nothing,
    Mlx4Pd { pdn: u32 },
    // These are held for their Drop.
    Mlx4Record(#[allow(dead_code)] mlx4::dbrec::Record),
    Mlx4Srq(#[allow(dead_code)] mlx4::srq::Hold),
    Mlx4Qp(mlx4::qp::Hold),
}

impl Hold {
    /// The queue pair has been put into the state RESET.
    ///
    /// # Errors
    /// There is not enough memory. Then nothing can be posted until the queue pair is reset again.
    pub(crate) fn reset(&self, sq: &mut Sq, rq: &mut Rq) -> Result<(), Errno> {
        match self {
            Self::Mlx4Qp(hold) => hold.reset(
                if let Sq::Mlx4(sq) = sq { Some(sq) } else { None },
                if let Rq::Mlx4(rq) = rq { Some(rq) } else { None },
            ),
            _ => Ok(()),
        }
    }
}

/// A completion queue's ring.
pub(crate) enum Cq {
    Rxe(rxe::cq::Cq),
    Mlx4(mlx4::Cq),
}

impl Cq {
    fn mlx4(&self) -> Option<&mlx4::Cq> {
        match self {
            Self::Mlx4(cq) => Some(cq),
            Self::Rxe(_) => None,
        }
    }

    /// Takes completions out; gives how many.
    #[inline]
    pub(crate) fn poll(&mut self, out: &mut [Wc]) -> usize {
        match self {
            Self::Rxe(cq) => cq.poll(out),
            Self::Mlx4(cq) => cq.poll(out),
        }
    }

    /// Whether there is nothing to take out.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Rxe(cq) => cq.is_empty(),
            Self::Mlx4(cq) => cq.is_empty(),
        }
    }

    /// Whether the device does its work without the kernel: asking for an event takes no system call, and no completion waits until
    /// the kernel comes to run.
    #[inline]
    pub(crate) fn bypasses_kernel(&self) -> bool {
        matches!(self, Self::Mlx4(_))
    }

    /// Asks for an event at the next completion; `events` counts those of this queue that have been read.
    #[inline]
    pub(crate) fn arm(
        &mut self,
        uverbs: &Uverbs,
        handle: u32,
        solicited: bool,
        events: impl FnOnce() -> u32,
    ) -> Result<(), Errno> {
        match self {
            Self::Rxe(_) => uverbs.req_notify_cq(handle, solicited),
            Self::Mlx4(cq) => {
                cq.arm(solicited, events());
                Ok(())
            }
        }
    }

    /// Changes the size; gives the new one.
    pub(crate) fn resize(&mut self, uverbs: &Uverbs, handle: u32, cqe: u32) -> Result<u32> {
        match self {
            Self::Rxe(cq) => cq.resize(uverbs, handle, cqe),
            Self::Mlx4(cq) => cq.resize(uverbs, handle, cqe),
        }
    }
}

/// A send queue's ring.
#[repr(u8)] // a number of its own tells which: one look, on the data path
pub(crate) enum Sq {
    /// The queue pair only receives.
    None,
    Rxe(rxe::qp::Sq),
    Mlx4(mlx4::qp::Sq),
}

impl Sq {
    /// Posts one request and rings the doorbell.
    #[inline(always)] // each provider with its own copy of the request, so that no other keeps it from being constants
    pub(crate) fn post_one(
        &mut self,
        uverbs: &Uverbs,
        qp_handle: u32,
        wr: SendWr<'_>,
    ) -> Result<(), PostError> {
        match self {
            Self::None => Err(PostError { posted: 0, kind: PostErrorKind::NoQueue }),
            Self::Rxe(sq) => sq.post(&[wr], || uverbs.ring_send_queue(qp_handle)),
            Self::Mlx4(sq) => sq.post(&[wr]),
        }
    }

    /// Posts requests and rings the doorbell once.
    #[inline(always)]
    pub(crate) fn post(
        &mut self,
        uverbs: &Uverbs,
        qp_handle: u32,
        wrs: &[SendWr<'_>],
    ) -> Result<(), PostError> {
        match self {
            Self::None => Err(PostError { posted: 0, kind: PostErrorKind::NoQueue }),
            Self::Rxe(sq) => sq.post(wrs, || uverbs.ring_send_queue(qp_handle)),
            Self::Mlx4(sq) => sq.post(wrs),
        }
    }

    /// Of a datagram queue pair: how many bytes fit one packet of its port.
    pub(crate) fn set_mtu(&mut self, mtu: u32) {
        match self {
            Self::None => {}
            Self::Rxe(sq) => sq.set_mtu(mtu),
            Self::Mlx4(sq) => sq.set_mtu(mtu),
        }
    }
}

/// A receive queue's ring.
#[repr(u8)] // as of the send queue's
pub(crate) enum Rq {
    /// The queue pair takes its receives from elsewhere.
    None,
    Rxe(rxe::qp::Rq),
    Mlx4(mlx4::qp::Rq),
}

impl Rq {
    /// Posts one request.
    #[inline(always)] // as of the send queue's
    pub(crate) fn post_one(&mut self, wr: RecvWr<'_>) -> Result<(), PostError> {
        match self {
            Self::None => Err(PostError { posted: 0, kind: PostErrorKind::NoQueue }),
            Self::Rxe(rq) => rq.post(&[wr]),
            Self::Mlx4(rq) => rq.post(&[wr]),
        }
    }

    /// Posts requests.
    #[inline(always)]
    pub(crate) fn post(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        match self {
            Self::None => Err(PostError { posted: 0, kind: PostErrorKind::NoQueue }),
            Self::Rxe(rq) => rq.post(wrs),
            Self::Mlx4(rq) => rq.post(wrs),
        }
    }
}

/// A shared receive queue's ring.
pub(crate) enum Srq {
    Rxe(rxe::srq::Srq),
    Mlx4(mlx4::Srq),
}

impl Srq {
    fn mlx4(&self) -> Option<&mlx4::Srq> {
        match self {
            Self::Mlx4(srq) => Some(srq),
            Self::Rxe(_) => None,
        }
    }

    /// Posts one request.
    #[inline(always)] // as of the send queue's
    pub(crate) fn post_one(&mut self, wr: RecvWr<'_>) -> Result<(), PostError> {
        match self {
            Self::Rxe(srq) => srq.post(&[wr]),
            Self::Mlx4(srq) => srq.post(&[wr]),
        }
    }

    /// Posts requests.
    #[inline(always)]
    pub(crate) fn post(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        match self {
            Self::Rxe(srq) => srq.post(wrs),
            Self::Mlx4(srq) => srq.post(wrs),
        }
    }

    /// Changes the limit below which an event comes.
    pub(crate) fn set_limit(&mut self, uverbs: &Uverbs, srq_handle: u32, srq_limit: u32) -> Result<()> {
        let command = ModifySrq { srq_handle, attr_mask: SRQ_LIMIT, srq_limit, ..ModifySrq::default() };
        match self {
            Self::Rxe(_) => rxe::srq::Srq::modify(uverbs, &command),
            Self::Mlx4(_) => uverbs.modify_srq(&command, Udata::none()),
        }
    }

    /// Changes the size.
    pub(crate) fn resize(&mut self, uverbs: &Uverbs, srq_handle: u32, max_wr: u32) -> Result<()> {
        match self {
            Self::Rxe(srq) => srq.resize(uverbs, srq_handle, max_wr),
            // The driver cannot, and says so.
            Self::Mlx4(_) => {
                let command = ModifySrq { srq_handle, attr_mask: SRQ_MAX_WR, max_wr, ..ModifySrq::default() };
                uverbs.modify_srq(&command, Udata::none())
            }
        }
    }
}
