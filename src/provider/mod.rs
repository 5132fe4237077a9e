//! What a device's queues look like: one folder per driver, with the same file names for the same things.
//!
//! A provider implements [`Driver`] and has a line in [`providers!`]. Which one a context has is settled when it is opened; after that
//! every call is a match on an enum.

mod driver;
mod mlx4;
mod post;
mod rxe;
mod siw;

use nix::errno::Errno;

use self::driver::{CompletionQueue, Created, Driver, RecvQueue, SendQueue, SharedRecvQueue};
pub(crate) use self::driver::{Hold, NewAh, NewCq, NewPd, NewQp, NewSrq, Queues};
use crate::error::{Cause, Error, Result};
use crate::types::{DriverCaps, EthAddr, PostError, PostErrorKind, RecvWr, SendWr, Wc};
use crate::uapi::ioctl::{RDMA_DRIVER_MLX4, RDMA_DRIVER_RXE, RDMA_DRIVER_SIW};
use crate::uapi::verbs::{AhAttr, ExQueryDeviceResp};
use crate::uverbs::cq::CqParams;
use crate::uverbs::device::NewContext;
use crate::uverbs::qp::QpParams;
use crate::uverbs::srq::SrqParams;
use crate::uverbs::{Udata, Uverbs};

/// Defines the enums of devices and rings, and `each!`, which runs the same code on whichever variant a value has. (`$d` is a dollar
/// sign, for the inner macro.)
macro_rules! providers {
    ($d:tt $( $name:ident: $driver:ty = $id:ident; )*) => {
        /// The provider of a context.
        #[derive(Debug)]
        pub(crate) enum Provider {
            $( $name($driver), )*
            /// There is none for this driver (`RDMA_DRIVER_*`): the device can be queried and has no queues.
            None(u32),
        }

        /// The ring of a completion queue.
        pub(crate) enum Cq {
            $( $name(<$driver as Driver>::Cq), )*
        }

        /// The ring of a send queue.
        #[repr(u8)] // the variant has a number of its own: one load on the data path
        pub(crate) enum Sq {
            /// The queue pair only receives.
            None,
            $( $name(<$driver as Driver>::Sq), )*
        }

        /// The ring of a receive queue.
        #[repr(u8)] // as for the send queue
        pub(crate) enum Rq {
            /// The queue pair takes its receives from elsewhere.
            None,
            $( $name(<$driver as Driver>::Rq), )*
        }

        /// The ring of a shared receive queue.
        pub(crate) enum Srq {
            $( $name(<$driver as Driver>::Srq), )*
        }

        /// Returns whether there is a provider for the devices of this driver.
        pub(crate) const fn drives(driver: u32) -> bool {
            matches!(driver, $( $id )|*)
        }

        impl Provider {
            /// Creates the context of an open device of `driver`. `abi` is the version of the structures that the driver exchanges with
            /// its provider.
            pub(crate) fn open(uverbs: &Uverbs, driver: u32, abi: u32) -> Result<(NewContext, Self)> {
                match driver {
                    $( $id => <$driver as Driver>::open(uverbs, abi).map(|(new, it)| (new, Self::$name(it))), )*
                    _ => Ok((uverbs.get_context(Udata::none())?, Self::None(driver))),
                }
            }
        }

        $(
            impl From<<$driver as Driver>::Cq> for Cq {
                fn from(ring: <$driver as Driver>::Cq) -> Self {
                    Self::$name(ring)
                }
            }

            impl From<Option<<$driver as Driver>::Sq>> for Sq {
                fn from(ring: Option<<$driver as Driver>::Sq>) -> Self {
                    ring.map_or(Self::None, Self::$name)
                }
            }

            impl From<Option<<$driver as Driver>::Rq>> for Rq {
                fn from(ring: Option<<$driver as Driver>::Rq>) -> Self {
                    ring.map_or(Self::None, Self::$name)
                }
            }

            impl<'r> From<&'r mut Rq> for Option<&'r mut <$driver as Driver>::Rq> {
                fn from(ring: &'r mut Rq) -> Self {
                    if let Rq::$name(ring) = ring { Some(ring) } else { None }
                }
            }

            impl From<<$driver as Driver>::Srq> for Srq {
                fn from(ring: <$driver as Driver>::Srq) -> Self {
                    Self::$name(ring)
                }
            }
        )*

        macro_rules! each {
            ($d value:expr, $d inner:ident => $d body:expr $d(, $d other:pat => $d rest:expr)*) => {
                match $d value {
                    $( Self::$name($d inner) => $d body, )*
                    $d( $d other => $d rest, )*
                }
            };
        }
    };
}

providers! { $
    Rxe: rxe::Rxe = RDMA_DRIVER_RXE;
    Siw: siw::Siw = RDMA_DRIVER_SIW;
    Mlx4: mlx4::Context = RDMA_DRIVER_MLX4;
}

impl Provider {
    /// Returns whether a region at `start` cannot be registered at once with `iova` in its requests: see
    /// [`Driver::TRANSLATES_BY_ADDRESS`].
    pub(crate) fn mistranslates(&self, start: u64, iova: u64) -> bool {
        fn by_address<D: Driver>(_: &D) -> bool {
            D::TRANSLATES_BY_ADDRESS
        }
        // The largest page of a translation has 2 GiB.
        (start ^ iova) & ((1 << 31) - 1) != 0 && each!(self, it => by_address(it), Self::None(_) => false)
    }

    /// Returns whether requests can only name a region by the address of its memory.
    pub(crate) fn ignores_iova(&self) -> bool {
        fn of<D: Driver>(_: &D) -> bool {
            D::IGNORES_IOVA
        }
        each!(self, it => of(it), Self::None(_) => false)
    }

    /// Calls `register` with what the driver takes and answers when memory is registered.
    pub(crate) fn with_region<T>(&self, register: impl FnOnce(Udata<'_>) -> T) -> T {
        each!(self, it => it.with_region(register), Self::None(_) => register(Udata::none()))
    }

    /// Creates a protection domain.
    pub(crate) fn alloc_pd(&self, uverbs: &Uverbs) -> Result<NewPd> {
        each!(self, it => it.alloc_pd(uverbs), Self::None(_) => {
            Ok(NewPd { handle: uverbs.alloc_pd(Udata::none())?, hold: Hold::NOTHING })
        })
    }

    /// Returns the device's attributes, with those that only its driver reports.
    pub(crate) fn query_device(&self, uverbs: &Uverbs) -> Result<(ExQueryDeviceResp, DriverCaps)> {
        each!(self, it => it.query_device(uverbs), Self::None(_) => {
            Ok((uverbs.query_device()?, DriverCaps::default()))
        })
    }

    /// Creates a completion queue.
    pub(crate) fn create_cq(&self, uverbs: &Uverbs, params: &CqParams<'_>) -> Result<NewCq<Cq>> {
        each!(self, it => {
            let NewCq { answer, ring, hold } = it.create_cq(uverbs, params)?;
            Ok(NewCq { answer, ring: ring.into(), hold })
        }, Self::None(driver) => Err(unsupported(*driver, uverbs)))
    }

    /// Creates a queue pair on these queues.
    pub(crate) fn create_qp(
        &self,
        uverbs: &Uverbs,
        params: &QpParams,
        queues: Queues<'_>,
    ) -> Result<NewQp<Sq, Rq>> {
        each!(self, it => {
            let NewQp { answer, sq, rq, hold } = it.create_qp(uverbs, params, queues)?;
            Ok(NewQp { answer, sq: sq.into(), rq: rq.into(), hold })
        }, Self::None(driver) => Err(unsupported(*driver, uverbs)))
    }

    /// Creates a shared receive queue, which for XRC completes into the queue that `xrc_cq` belongs to.
    pub(crate) fn create_srq(
        &self,
        uverbs: &Uverbs,
        params: &SrqParams,
        xrc_cq: Option<&Hold>,
    ) -> Result<NewSrq<Srq>> {
        each!(self, it => {
            let NewSrq { answer, ring, hold } = it.create_srq(uverbs, params, xrc_cq)?;
            Ok(NewSrq { answer, ring: ring.into(), hold })
        }, Self::None(driver) => Err(unsupported(*driver, uverbs)))
    }

    /// Creates an address handle in the protection domain that has this handle and hold. `eth_addr` finds the destination's address on
    /// Ethernet, for devices that have to be told it.
    pub(crate) fn create_ah(
        &self,
        uverbs: &Uverbs,
        pd_handle: u32,
        pd: &Hold,
        attr: AhAttr,
        eth_addr: impl FnOnce(&AhAttr) -> Result<EthAddr>,
    ) -> Result<NewAh> {
        each!(self, it => it.create_ah(uverbs, pd_handle, pd, attr, eth_addr), Self::None(driver) => {
            Err(unsupported(*driver, uverbs))
        })
    }
}

fn unsupported(driver: u32, uverbs: &Uverbs) -> Error {
    let why = format!("there is no provider for its driver (id {driver})");
    Error::new("create queues", uverbs.device(), Cause::Unsupported(why.into()))
        .with_hint("devices of rxe, siw and mlx4 have one")
}

impl Cq {
    /// Takes completions out and returns how many.
    #[inline]
    pub(crate) fn poll(&mut self, out: &mut [Wc]) -> usize {
        each!(self, cq => cq.poll(out))
    }

    /// Takes one completion out and keeps its entry until [`Self::publish`].
    #[inline]
    pub(crate) fn take_one(&mut self) -> Option<Wc> {
        each!(self, cq => cq.take_one())
    }

    /// Returns the entries of all completions taken so far to the device.
    #[inline]
    pub(crate) fn publish(&mut self) {
        each!(self, cq => cq.publish());
    }

    /// Returns whether there is nothing to take out.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        each!(self, cq => cq.is_empty())
    }

    /// Returns whether the device does its work without the kernel: arming takes no system call, and no completion waits until the
    /// kernel runs.
    #[inline]
    pub(crate) fn bypasses_kernel(&self) -> bool {
        fn of<C: CompletionQueue>(_: &C) -> bool {
            C::BYPASSES_KERNEL
        }
        each!(self, cq => of(cq))
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
        each!(self, cq => cq.arm(uverbs, handle, solicited, events))
    }

    /// Changes the size and returns the new one.
    pub(crate) fn resize(&mut self, uverbs: &Uverbs, handle: u32, cqe: u32) -> Result<u32> {
        each!(self, cq => cq.resize(uverbs, handle, cqe))
    }
}

const NO_QUEUE: Result<(), PostError> = Err(PostError { posted: 0, kind: PostErrorKind::NoQueue });

impl Sq {
    /// Posts one request and rings the doorbell.
    #[inline(always)] // each provider with its own copy of the request, so that no other keeps it from being constants
    pub(crate) fn post_one(
        &mut self,
        uverbs: &Uverbs,
        qp_handle: u32,
        wr: SendWr<'_>,
    ) -> Result<(), PostError> {
        each!(self, sq => sq.post(&[wr], || uverbs.ring_send_queue(qp_handle)), Self::None => NO_QUEUE)
    }

    /// Posts requests and rings the doorbell once.
    #[inline(always)]
    pub(crate) fn post(
        &mut self,
        uverbs: &Uverbs,
        qp_handle: u32,
        wrs: &[SendWr<'_>],
    ) -> Result<(), PostError> {
        each!(self, sq => sq.post(wrs, || uverbs.ring_send_queue(qp_handle)), Self::None => NO_QUEUE)
    }

    /// Sets how many bytes a datagram may have: those of one packet of the port.
    pub(crate) fn set_mtu(&mut self, mtu: u32) {
        each!(self, sq => sq.set_mtu(mtu), Self::None => {});
    }

    /// Starts both rings anew after the queue pair has been moved to RESET.
    ///
    /// # Errors
    /// There is not enough memory. Then nothing can be posted until the queue pair is reset again.
    pub(crate) fn reset(&mut self, rq: &mut Rq, hold: &Hold) -> Result<(), Errno> {
        each!(self, sq => sq.reset(rq.into(), hold), Self::None => Ok(()))
    }
}

impl Rq {
    /// Posts one request.
    #[inline(always)] // as for the send queue
    pub(crate) fn post_one(&mut self, wr: RecvWr<'_>) -> Result<(), PostError> {
        each!(self, rq => rq.post(&[wr]), Self::None => NO_QUEUE)
    }

    /// Posts requests.
    #[inline(always)]
    pub(crate) fn post(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        each!(self, rq => rq.post(wrs), Self::None => NO_QUEUE)
    }
}

impl Srq {
    /// Posts one request.
    #[inline(always)] // as for the send queue
    pub(crate) fn post_one(&mut self, wr: RecvWr<'_>) -> Result<(), PostError> {
        each!(self, srq => srq.post(&[wr]))
    }

    /// Posts requests.
    #[inline(always)]
    pub(crate) fn post(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        each!(self, srq => srq.post(wrs))
    }

    /// Changes the limit below which an event is reported.
    pub(crate) fn set_limit(&mut self, uverbs: &Uverbs, srq_handle: u32, srq_limit: u32) -> Result<()> {
        each!(self, srq => srq.set_limit(uverbs, srq_handle, srq_limit))
    }

    /// Changes the size.
    pub(crate) fn resize(&mut self, uverbs: &Uverbs, srq_handle: u32, max_wr: u32) -> Result<()> {
        each!(self, srq => srq.resize(uverbs, srq_handle, max_wr))
    }
}
