//! What a provider implements: one type for the device, and one for each sort of queue.
//!
//! `ring` is the part of an object that posts or polls, and has one owner. [`Hold`] stays with the kernel's object.

use std::any::Any;
use std::fmt::Debug;
use std::os::fd::AsFd;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::sys::linux;
use crate::sys::region::Region;
use crate::types::{DeviceAh, DriverCaps, EthAddr, PostError, RecvWr, SendWr, Wc};
use crate::uapi::verbs::{AhAttr, ExQueryDeviceResp, ModifySrq};
use crate::uverbs::cq::{CqAnswer, CqParams};
use crate::uverbs::device::NewContext;
use crate::uverbs::qp::{QpAnswer, QpParams};
use crate::uverbs::srq::{SRQ_LIMIT, SRQ_MAX_WR, SrqAnswer, SrqParams};
use crate::uverbs::{Udata, Uverbs};

/// A device whose queues this crate knows.
pub(crate) trait Driver: Debug + Send + Sync + Sized {
    type Cq: CompletionQueue;
    type Sq: SendQueue;
    type Rq: RecvQueue;
    type Srq: SharedRecvQueue;

    /// The kernel's driver chooses the page size of a new region's translation by the region's address in this process alone. Where
    /// requests use another address whose low bits differ, the device would reach other memory.
    const TRANSLATES_BY_ADDRESS: bool = false;

    /// The kernel's driver ignores the address that requests are to name a region by, and takes that of the memory.
    const IGNORES_IOVA: bool = false;

    /// Creates the context of an open device. `abi` is the version of the structures that its driver exchanges with its provider.
    fn open(uverbs: &Uverbs, abi: u32) -> Result<(NewContext, Self)>;

    /// Returns the device's attributes, with those that only its driver reports.
    fn query_device(&self, uverbs: &Uverbs) -> Result<(ExQueryDeviceResp, DriverCaps)> {
        Ok((uverbs.query_device()?, DriverCaps::default()))
    }

    /// Calls `register` with what the driver takes and answers when memory is registered.
    fn with_region<T>(&self, register: impl FnOnce(Udata<'_>) -> T) -> T {
        register(Udata::none())
    }

    /// Creates a protection domain.
    fn alloc_pd(&self, uverbs: &Uverbs) -> Result<NewPd> {
        Ok(NewPd { handle: uverbs.alloc_pd(Udata::none())?, hold: Hold::NOTHING })
    }

    /// Creates a completion queue.
    fn create_cq(&self, uverbs: &Uverbs, params: &CqParams<'_>) -> Result<NewCq<Self::Cq>>;

    /// Creates a queue pair on these queues.
    fn create_qp(&self, uverbs: &Uverbs, params: &QpParams, queues: Queues<'_>) -> Result<NewQpOf<Self>>;

    /// Creates a shared receive queue, which for XRC completes into the queue that `xrc_cq` belongs to.
    fn create_srq(
        &self,
        uverbs: &Uverbs,
        params: &SrqParams,
        xrc_cq: Option<&Hold>,
    ) -> Result<NewSrq<Self::Srq>>;

    /// Creates an address handle in the protection domain that has this handle and hold. `eth_addr` finds the destination's address on
    /// Ethernet, for devices that have to be told it.
    fn create_ah(
        &self,
        uverbs: &Uverbs,
        pd_handle: u32,
        pd: &Hold,
        attr: AhAttr,
        eth_addr: impl FnOnce(&AhAttr) -> Result<EthAddr>,
    ) -> Result<NewAh>;
}

/// The ring of a completion queue.
pub(crate) trait CompletionQueue: Sized {
    /// The device does its work without the kernel: arming takes no system call, and no completion waits until the kernel runs.
    const BYPASSES_KERNEL: bool;

    /// Takes completions out and returns how many.
    fn poll(&mut self, out: &mut [Wc]) -> usize;

    /// Takes one completion out and keeps its entry until [`publish`](Self::publish).
    fn take_one(&mut self) -> Option<Wc>;

    /// Returns the entries of all completions taken so far to the device.
    fn publish(&mut self);

    /// Returns whether there is nothing to take out.
    fn is_empty(&self) -> bool;

    /// Asks for an event at the next completion, or at the next solicited one. `events` counts those of this queue that have been
    /// read.
    #[inline]
    fn arm(
        &mut self,
        uverbs: &Uverbs,
        handle: u32,
        solicited: bool,
        events: impl FnOnce() -> u32,
    ) -> Result<(), Errno> {
        let _ = events;
        uverbs.req_notify_cq(handle, solicited)
    }

    /// Changes the size and returns the new one.
    fn resize(&mut self, uverbs: &Uverbs, handle: u32, cqe: u32) -> Result<u32>;
}

/// The ring of a send queue.
pub(crate) trait SendQueue: Sized {
    type Rq;

    /// Posts requests and has the device look at them once: by a register, or by `doorbell`, which is a system call.
    fn post(
        &mut self,
        wrs: &[SendWr<'_>],
        doorbell: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), PostError>;

    /// Sets how many bytes a datagram may have: those of one packet of the port.
    fn set_mtu(&mut self, mtu: u32);

    /// The queue pair has been moved to RESET: nothing of it is outstanding.
    ///
    /// # Errors
    /// There is not enough memory. Then nothing can be posted until the queue pair is reset again.
    fn reset(&mut self, _rq: Option<&mut Self::Rq>, _hold: &Hold) -> Result<(), Errno> {
        Ok(())
    }
}

/// The ring of a receive queue, shared or not.
pub(crate) trait RecvQueue {
    /// Posts requests.
    fn post(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError>;
}

/// The ring of a shared receive queue.
pub(crate) trait SharedRecvQueue: RecvQueue + Sized {
    /// Changes the limit below which an event is reported.
    fn set_limit(&mut self, uverbs: &Uverbs, srq_handle: u32, srq_limit: u32) -> Result<()> {
        let command = ModifySrq { srq_handle, attr_mask: SRQ_LIMIT, srq_limit, ..ModifySrq::default() };
        uverbs.modify_srq(&command, Udata::none())
    }

    /// Changes the size. Many drivers cannot, and say so.
    fn resize(&mut self, uverbs: &Uverbs, srq_handle: u32, max_wr: u32) -> Result<()> {
        let command = ModifySrq { srq_handle, attr_mask: SRQ_MAX_WR, max_wr, ..ModifySrq::default() };
        uverbs.modify_srq(&command, Udata::none())
    }
}

/// The queues that a queue pair is created on, by what their kernel objects hold: whoever polls or posts to them may be another
/// thread.
#[derive(Clone, Copy, Default)]
pub(crate) struct Queues<'q> {
    pub(crate) send_cq: Option<&'q Hold>,
    pub(crate) recv_cq: Option<&'q Hold>,
    pub(crate) srq: Option<&'q Hold>,
}

/// What a provider keeps with a kernel object until that is destroyed: memory of this process that the object uses, and what
/// objects created on it need to know. Only the provider knows the type.
#[derive(Debug)]
pub(crate) struct Hold(Option<Box<dyn Held>>);

/// Anything that can be held.
trait Held: Any + Debug + Send + Sync {}

impl<T: Any + Debug + Send + Sync> Held for T {}

impl Hold {
    pub(crate) const NOTHING: Self = Self(None);

    pub(super) fn new(held: impl Any + Debug + Send + Sync) -> Self {
        Self(Some(Box::new(held)))
    }

    /// Returns what is held, if it is a `T`.
    pub(super) fn get<T: Any>(&self) -> Option<&T> {
        let held: &dyn Any = &**self.0.as_ref()?;
        held.downcast_ref()
    }
}

/// A new protection domain.
pub(crate) struct NewPd {
    pub(crate) handle: u32,
    pub(crate) hold: Hold,
}

/// A new completion queue.
pub(crate) struct NewCq<C> {
    pub(crate) answer: CqAnswer,
    pub(crate) ring: C,
    pub(crate) hold: Hold,
}

/// A new queue pair, with the queues that it has of its own.
pub(crate) struct NewQp<S, R> {
    pub(crate) answer: QpAnswer,
    pub(crate) sq: S,
    pub(crate) rq: R,
    pub(crate) hold: Hold,
}

/// A new queue pair of a driver.
pub(crate) type NewQpOf<D> = NewQp<Option<<D as Driver>::Sq>, Option<<D as Driver>::Rq>>;

/// A new shared receive queue.
pub(crate) struct NewSrq<S> {
    pub(crate) answer: SrqAnswer,
    pub(crate) ring: S,
    pub(crate) hold: Hold,
}

/// A new address handle.
pub(crate) struct NewAh {
    /// The kernel's handle, if the kernel knows the address handle.
    pub(crate) handle: Option<u32>,
    /// What requests name it by.
    pub(crate) device: DeviceAh,
}

/// A kernel object that is destroyed when dropped, unless it was [kept](Self::keep): what is created on this side after it may fail.
pub(super) struct Created<'u> {
    uverbs: &'u Uverbs,
    handle: u32,
    destroy: fn(&Uverbs, u32) -> Result<(), Errno>,
}

impl<'u> Created<'u> {
    pub(super) fn new(
        uverbs: &'u Uverbs,
        handle: u32,
        destroy: fn(&Uverbs, u32) -> Result<(), Errno>,
    ) -> Self {
        Self { uverbs, handle, destroy }
    }

    /// Everything else is there: the object stays.
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Created<'_> {
    fn drop(&mut self) {
        // Nothing to add to the error that is on its way.
        let _ = (self.destroy)(self.uverbs, self.handle);
    }
}

/// Maps a queue of `size` bytes that the driver has placed at this offset of the device file, by its answer to `what`.
pub(super) fn map_queue(uverbs: &Uverbs, what: &'static str, offset: u64, size: u32) -> Result<Region> {
    if size == 0 || !offset.is_multiple_of(linux::page_size() as u64) {
        let why = format!("the driver placed a queue of {size} bytes at offset {offset:#x}");
        return Err(Error::bad_answer(what, uverbs.device(), why));
    }
    Region::map(uverbs.as_fd(), offset, size as usize).map_err(|errno| {
        let why = "the kernel's new queue could not be mapped: is the address space limited (ulimit -v)?";
        uverbs.error(what, errno).with_hint(why)
    })
}
