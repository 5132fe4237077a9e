//! Memory regions.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use super::mr_init::{Memory, MrInit, explain, lacks, unsupported};
use super::object::{Kind, Object};
use super::{Pd, Rereg};
use crate::error::{Cause, Error, Result};
use crate::sys::part::{Mapped, Part};
use crate::types::{Lkey, Remote, Rkey, Sge};
use crate::uverbs::Uverbs;
use crate::uverbs::mr::NewMr;

/// Registered memory, or one of the parts that it was split into.
///
/// A device, and peers where the access allows it, may read and write it at any time. That is why it is never lent as a slice:
/// [`read`](Self::read) and [`write`](Self::write) copy. The region is deregistered before its memory is freed, so a late
/// transfer meets a protection error instead of memory that has another owner.
///
/// [`split_at`](Self::split_at) divides it between owners, threads for instance. The region lives as long as any of its parts.
#[derive(Debug)]
pub struct Mr {
    part: Part,
    /// The address of the part's first byte, for requests.
    addr: u64,
    lkey: Lkey,
    rkey: Rkey,
    // After the part: the memory is freed only when no part is left.
    whole: Arc<Whole>,
}

/// The kernel's region, which all parts keep.
#[derive(Debug)]
struct Whole {
    object: Object,
    /// `None` only while being dropped.
    memory: Option<Mapped>,
    /// Memory that the device may reach since a change failed.
    doubtful: Vec<Mapped>,
    pd: Arc<Object>,
}

impl Mr {
    /// The kernel's handle.
    pub(crate) fn raw_handle(&self) -> u32 {
        self.whole.object.handle
    }

    /// Registers memory.
    #[allow(unsafe_code)]
    pub(super) fn create(pd: &Arc<Object>, init: MrInit) -> Result<Self> {
        const KIND: Kind = Kind { verb: "dereg_mr", destroy: Uverbs::dereg_mr };
        let uverbs = &pd.ctx.uverbs;
        let access = init.access;
        let Memory { part, mapped, iova } = init.memory(uverbs.device(), "reg_mr")?;
        let (start, length) = (mapped.address(), mapped.len() as u64);
        if iova != start && pd.ctx.provider().ignores_iova() {
            let why = "this device's requests can only name memory by its own address, not by an iova";
            return Err(Error::new("reg_mr", uverbs.device(), Cause::Unsupported(why.into())));
        }
        // A change of memory has no such defect: it always uses small pages.
        let in_two_steps = pd.ctx.provider().mistranslates(start, iova);
        let region = NewMr {
            pd_handle: pd.handle,
            start,
            length,
            iova: if in_two_steps { start } else { iova },
            access_flags: access.bits(),
        };
        // SAFETY: `Whole` keeps the memory until the region is deregistered, and for ever where that fails.
        let made = pd
            .ctx
            .provider()
            .with_region(|driver| unsafe { uverbs.reg_mr(&region, driver) })
            .map_err(|error| explain(error, mapped.len(), access))?;
        let whole = Whole {
            object: Object::new(&pd.ctx, made.mr_handle, KIND),
            memory: Some(mapped),
            doubtful: Vec::new(),
            pd: Arc::clone(pd),
        };
        let (mut lkey, mut rkey) = (Lkey(made.lkey), Rkey(made.rkey));
        if in_two_steps {
            let memory = Some((start, length, iova));
            let change = crate::uverbs::mr::Rereg { access_flags: None, pd_handle: None, memory };
            // SAFETY: as above.
            let keys = unsafe { uverbs.rereg_mr(made.mr_handle, &change) }
                .map_err(|errno| uverbs.error("reg_mr", errno).with_hint("in the change to the iova"))?;
            (lkey, rkey) = (Lkey(keys.lkey), Rkey(keys.rkey));
        }
        Ok(Self { part, addr: iova, lkey, rkey, whole: Arc::new(whole) })
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.part.len()
    }

    /// Whether it has no bytes, as a part may.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The address under which requests name the first byte: that of the memory, unless [`MrInit::iova`] gave another.
    #[must_use]
    pub fn addr(&self) -> u64 {
        self.addr
    }

    /// Returns a pointer to the first byte.
    ///
    /// Whoever dereferences it must bear in mind that the device, and peers where the access allows it, may read and write the
    /// memory at any time, and that [`read`](Self::read) and [`write`](Self::write) access it too. It is valid as long as the
    /// region is.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.part.as_ptr()
    }

    /// The key for requests of this side.
    #[must_use]
    pub fn lkey(&self) -> Lkey {
        self.lkey
    }

    /// The key for requests of a peer.
    #[must_use]
    pub fn rkey(&self) -> Rkey {
        self.rkey
    }

    /// Names some of the bytes for a request: `mr.slice(..)` is all of them.
    ///
    /// # Panics
    /// The range ends beyond the region (or part), or is of more than 4 GiB.
    #[must_use]
    #[track_caller]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Sge {
        element(range, self.len(), self.addr, self.lkey)
    }

    /// Names the byte at `offset` for a peer's one-sided requests. The peer has to be told it.
    ///
    /// # Panics
    /// `offset` is beyond the end of the region (or part).
    #[must_use]
    #[track_caller]
    pub fn remote(&self, offset: usize) -> Remote {
        let (start, _) = bounds(offset.., self.len());
        Remote { addr: self.addr + start as u64, rkey: self.rkey }
    }

    /// Copies bytes out, from `offset` on.
    ///
    /// What a transfer is writing at the same time may come out in parts.
    ///
    /// # Panics
    /// The bytes are not all within the region (or part).
    #[track_caller]
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        if !self.part.read(offset, bytes) {
            outside(offset, bytes.len(), self.len());
        }
    }

    /// Copies bytes in, from `offset` on.
    ///
    /// # Panics
    /// The bytes are not all within the region (or part).
    #[track_caller]
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        if !self.part.write(offset, bytes) {
            outside(offset, bytes.len(), self.len());
        }
    }

    /// Splits it into the bytes before `mid` and those from there on, each with an owner of its own.
    ///
    /// Both use the region's keys, and each gives out only its own bytes. They may be dropped in any order, or
    /// [joined](Self::join) again.
    ///
    /// # Panics
    /// `mid` is beyond the end.
    #[must_use]
    #[track_caller]
    #[allow(clippy::panic)]
    pub fn split_at(self, mid: usize) -> (Self, Self) {
        let Self { part, addr, lkey, rkey, whole } = self;
        let len = part.len();
        let Some((first, second)) = part.split_at(mid) else {
            panic!("a split at {mid} of a region of {len} bytes")
        };
        let first = Self { part: first, addr, lkey, rkey, whole: Arc::clone(&whole) };
        (first, Self { part: second, addr: addr + mid as u64, lkey, rkey, whole })
    }

    /// Joins two parts of a region, of which `next` begins where this one ends.
    ///
    /// # Errors
    /// Gives both back where it does not.
    pub fn join(self, next: Self) -> Result<Self, (Self, Self)> {
        let Self { part, addr, lkey, rkey, whole } = self;
        match part.join(next.part) {
            Ok(part) => Ok(Self { part, addr, lkey, rkey, whole }),
            Err((part, other)) => Err((Self { part, addr, lkey, rkey, whole }, Self { part: other, ..next })),
        }
    }

    /// Has some of the pages of an on-demand region ([`Access::ON_DEMAND`](crate::Access)) brought in before they are needed.
    /// See `ibv_advise_mr(3)`; Linux 5.1.
    ///
    /// # Errors
    /// The driver does not take advice.
    ///
    /// # Panics
    /// The range ends beyond the region (or part).
    #[track_caller]
    pub fn prefetch(&self, range: impl RangeBounds<usize>) -> Result<()> {
        // An element's length has 32 bits.
        const MOST: usize = 1 << 31;
        let (start, length) = bounds(range, self.len());
        let elements: Vec<_> = (0..length)
            .step_by(MOST)
            .map(|at| crate::uapi::verbs::Sge {
                addr: self.addr + (start + at) as u64,
                length: (length - at).min(MOST) as u32,
                lkey: self.lkey.0,
            })
            .collect();
        if elements.is_empty() {
            return Ok(());
        }
        let uverbs = &self.whole.object.ctx.uverbs;
        uverbs.prefetch(self.whole.pd.handle, &elements).map_err(|errno| {
            let error = uverbs.error("advise_mr", errno);
            if lacks(&error) {
                unsupported("advise_mr", uverbs.device(), "advice on memory regions")
            } else {
                error
            }
        })
    }

    /// Changes the access, the protection domain or the memory of a region. See `ibv_rereg_mr(3)`.
    ///
    /// The keys may change. So does the address, where the memory does. Requests that are outstanding meanwhile may fail.
    ///
    /// # Errors
    /// The driver cannot change this (rxe can change access and domain, since Linux 6.3), the region was split and not joined, or the
    /// domain belongs to another context. Once the kernel has refused, only [`destroy`](Self::destroy) is certain to work, as with
    /// `ibv_rereg_mr`; what memory was to be changed for is freed with the region.
    #[allow(unsafe_code)]
    pub fn rereg(&mut self, change: Rereg<'_>) -> Result<()> {
        const VERB: &str = "rereg_mr";
        let Some(whole) = Arc::get_mut(&mut self.whole) else {
            let why = "other parts of the region exist: join them first";
            return Err(Error::invalid(VERB, self.whole.object.ctx.uverbs.device(), why));
        };
        let uverbs = &whole.object.ctx.uverbs;
        let device = uverbs.device();
        let Rereg { access, pd, memory } = change;
        let pd = pd.map(|Pd(pd)| pd);
        if pd.is_some_and(|pd| !Arc::ptr_eq(&pd.ctx, &whole.object.ctx)) {
            return Err(Error::invalid(VERB, device, "the protection domain belongs to another context"));
        }
        let memory = memory.map(|init| init.memory(device, VERB)).transpose()?;
        let target = memory.as_ref().map(|new| (new.mapped.address(), new.mapped.len() as u64, new.iova));
        let change = crate::uverbs::mr::Rereg {
            access_flags: access.map(|access| access.bits()),
            pd_handle: pd.map(|pd| pd.handle),
            memory: target,
        };
        // SAFETY: `whole` keeps the old memory and the new until the region is deregistered, or the old one is no longer reached.
        match unsafe { uverbs.rereg_mr(whole.object.handle, &change) } {
            Ok(keys) => {
                (self.lkey, self.rkey) = (Lkey(keys.lkey), Rkey(keys.rkey));
                if let Some(pd) = pd {
                    whole.pd = Arc::clone(pd);
                }
                if let Some(Memory { part, mapped, iova }) = memory {
                    (self.part, self.addr) = (part, iova);
                    whole.memory = Some(mapped);
                }
                Ok(())
            }
            Err(errno) => {
                let error = uverbs.error(VERB, errno);
                let error = match &memory {
                    _ if lacks(&error) => unsupported(VERB, device, "such change of memory regions"),
                    Some(new) => explain(error, new.mapped.len(), access.unwrap_or_default()),
                    None => error,
                };
                whole.doubtful.extend(memory.map(|new| new.mapped));
                Err(error)
            }
        }
    }

    /// Deregisters the region and frees its memory.
    ///
    /// # Errors
    /// Other parts of it exist: the last of them deregisters it. Or the kernel refuses (a memory window is bound to it): then the
    /// memory is never freed.
    pub fn destroy(self) -> Result<()> {
        let Self { part, whole, .. } = self;
        drop(part);
        Arc::try_unwrap(whole).map_err(|whole| whole.object.in_use("other parts of the region"))?.release()
    }
}

impl Whole {
    fn release(&mut self) -> Result<()> {
        let done = self.object.destroy();
        let memory = self.memory.take().into_iter().chain(self.doubtful.drain(..));
        if done.is_ok() {
            memory.for_each(drop);
        } else {
            // The device may still reach it: memory that is lost is better than memory that is shared.
            memory.for_each(Mapped::leak);
        }
        done
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if self.memory.is_some() {
            let _ = self.release();
        }
    }
}

/// Start and length of a range within `len` bytes.
#[track_caller]
#[allow(clippy::panic)]
pub(super) fn bounds(range: impl RangeBounds<usize>, len: usize) -> (usize, usize) {
    let start = match range.start_bound() {
        Bound::Included(&n) => n,
        Bound::Excluded(&n) => n.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&n) => n.saturating_add(1),
        Bound::Excluded(&n) => n,
        Bound::Unbounded => len,
    };
    match end.checked_sub(start) {
        Some(length) if end <= len => (start, length),
        _ => panic!("range {start}..{end} of a region of {len} bytes"),
    }
}

/// Names a range of the `len` bytes at `addr`.
#[track_caller]
#[allow(clippy::panic)]
pub(super) fn element(range: impl RangeBounds<usize>, len: usize, addr: u64, lkey: Lkey) -> Sge {
    let (start, length) = bounds(range, len);
    match u32::try_from(length) {
        Ok(length) => Sge { addr: addr + start as u64, length, lkey },
        Err(_) => panic!("a slice of {length} bytes: an element of a request has less than 4 GiB"),
    }
}

#[cold]
#[track_caller]
#[allow(clippy::panic)]
fn outside(offset: usize, length: usize, len: usize) -> ! {
    panic!("{length} bytes at {offset} are not in the region of {len} bytes")
}
