//! How a memory region is to be made or changed, and why a kernel refuses it.

use std::ptr::NonNull;

use nix::errno::Errno;

use super::Pd;
use crate::error::{Cause, Error, Result};
use crate::sys::linux;
use crate::sys::part::{Mapped, Part};
use crate::sys::region::Region;
use crate::types::Access;

/// How a memory region is to be made; [`Pd::reg_mr`] makes it.
#[derive(Debug)]
#[must_use]
pub struct MrInit {
    pub(super) access: Access,
    source: Source,
    length: usize,
    iova: Option<u64>,
}

#[derive(Debug)]
enum Source {
    /// Fresh pages of the usual size.
    Pages,
    /// Fresh pages of 2 MiB.
    HugePages,
    /// Memory that belongs to the caller.
    Foreign(Region),
}

impl MrInit {
    /// A region of `length` zeroed bytes that begin on a page, which the library allocates. Peers have no access, and neither has
    /// the device but for reading.
    pub const fn new(length: usize) -> Self {
        Self { access: Access::empty(), source: Source::Pages, length, iova: None }
    }

    /// A region of memory that belongs to the caller.
    ///
    /// # Safety
    /// As for [`Pd::register_mr`], for as long as the region lives that is made or changed with this.
    #[allow(unsafe_code)]
    pub unsafe fn foreign(base: NonNull<u8>, length: usize) -> Self {
        // SAFETY: promised by the caller.
        let memory = unsafe { Region::foreign(base, length) };
        Self { source: Source::Foreign(memory), ..Self::new(length) }
    }

    /// What the device and peers may do.
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Allocates the memory in huge pages of 2 MiB, so that the device needs fewer translations. The last one may be used in part.
    ///
    /// The system must have reserved as many: `/sys/kernel/mm/hugepages/hugepages-2048kB`. Memory of the caller's stays as it is.
    pub fn huge_pages(mut self) -> Self {
        if matches!(self.source, Source::Pages) {
            self.source = Source::HugePages;
        }
        self
    }

    /// The address under which requests name the first byte, in place of that of the memory (`ibv_reg_mr_iova(3)`).
    ///
    /// Both must lie equally far from the beginning of a page; memory that the library allocates begins on one.
    pub fn iova(mut self, iova: u64) -> Self {
        self.iova = Some(iova);
        self
    }

    /// Allocates what is to be allocated and checks the address.
    pub(super) fn memory(self, device: &str, verb: &'static str) -> Result<Memory> {
        let length = self.length;
        if length == 0 {
            return Err(Error::invalid(verb, device, "a region of 0 bytes"));
        }
        let failed = |e| Error::os("allocate a region", device, e);
        let region = match self.source {
            Source::Foreign(region) => region,
            Source::Pages => Region::anonymous(length)
                .map_err(|e| failed(e).with_hint(format!("{length} bytes were asked for")))?,
            Source::HugePages => Region::huge(length).map_err(|e| no_huge_pages(failed(e), length))?,
        };
        let (part, mapped) = Part::whole(region);
        let start = mapped.address();
        let iova = self.iova.unwrap_or(start);
        let page = linux::page_size() as u64;
        if iova % page != start % page {
            let why = format!(
                "the iova {iova:#x} lies {} bytes into a page and the memory {}: they must be equal",
                iova % page,
                start % page
            );
            return Err(Error::invalid(verb, device, why));
        }
        if iova.checked_add(length as u64).is_none() {
            let why = format!("{length} bytes from the iova {iova:#x} on end beyond the address space");
            return Err(Error::invalid(verb, device, why));
        }
        Ok(Memory { part, mapped, iova })
    }
}

/// Memory that is about to be registered.
pub(super) struct Memory {
    pub(super) part: Part,
    pub(super) mapped: Mapped,
    pub(super) iova: u64,
}

/// What [`Mr::rereg`](super::Mr::rereg) changes of a region; what is not named stays.
#[derive(Debug, Default)]
#[must_use]
pub struct Rereg<'p> {
    pub(super) access: Option<Access>,
    pub(super) pd: Option<&'p Pd>,
    pub(super) memory: Option<MrInit>,
}

impl<'p> Rereg<'p> {
    /// Changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the device and peers may do from now on.
    pub fn access(mut self, access: Access) -> Self {
        self.access = Some(access);
        self
    }

    /// The protection domain that the region belongs to from now on.
    pub fn pd(mut self, pd: &'p Pd) -> Self {
        self.pd = Some(pd);
        self
    }

    /// The memory that takes the place of the present one, whose bytes are not copied. Of `init`, the access is not used.
    pub fn memory(mut self, init: MrInit) -> Self {
        self.memory = Some(init);
        self
    }
}

fn no_huge_pages(error: Error, length: usize) -> Error {
    match error.errno() {
        Some(Errno::ENOMEM) => {
            let pages = length.div_ceil(Region::HUGE_PAGE);
            error.with_hint(format!(
                "fewer than {pages} huge pages of 2 MiB are free: reserve some, as with \
                 echo {pages} > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
            ))
        }
        Some(Errno::EINVAL | Errno::ENODEV | Errno::ENOSYS) => {
            error.with_hint("this kernel or processor has no huge pages of 2 MiB")
        }
        _ => error,
    }
}

/// Adds to the kernel's errno what probably caused it.
pub(super) fn explain(error: Error, length: usize, access: Access) -> Error {
    let remote = Access::REMOTE_WRITE | Access::REMOTE_ATOMIC;
    match error.errno() {
        Some(Errno::ENOMEM) => match linux::memlock_limit() {
            Some(limit) if limit < length as u64 => error.with_hint(format!(
                "the memlock limit is {limit} bytes and {length} are to be pinned: raise it with ulimit -l \
                     or in limits.conf"
            )),
            _ => error.with_hint(format!("{length} bytes are to be pinned")),
        },
        Some(Errno::EINVAL) if access.intersects(remote) && !access.contains(Access::LOCAL_WRITE) => {
            error.with_hint("remote write and remote atomic need local write too")
        }
        _ => error,
    }
}

/// Whether an errno says that the driver has no such call.
pub(super) fn lacks(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EPROTONOSUPPORT))
}

/// The error of something that the device's driver has no call for.
pub(super) fn unsupported(verb: &'static str, device: &str, what: &'static str) -> Error {
    Error::new(verb, device, Cause::Unsupported(format!("this device's driver has no {what}").into()))
}
