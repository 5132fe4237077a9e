//! Which process of a line of forks this is: a child has copies of its parent's objects, which it must not destroy.
//!
//! A process id does not tell: a child in a new PID namespace may have its parent's. So the answer stands in a page that the
//! kernel clears in a child (`MADV_WIPEONFORK`, Linux 4.14). Reading it takes no system call.

use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;

/// A process, as distinct from those it was forked from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(u64);

impl Process {
    /// Returns the process that calls.
    pub(crate) fn current() -> Self {
        static MARK: OnceLock<Option<Mark>> = OnceLock::new();
        match MARK.get_or_init(|| Mark::new().ok()) {
            Some(mark) => Self(mark.number()),
            // An older kernel: process ids are the next best thing.
            None => Self(std::process::id().into()),
        }
    }

    /// Whether this is the process that calls.
    pub(crate) fn is_current(self) -> bool {
        self == Self::current()
    }
}

/// A word that is 0 in a process that has just been forked.
struct Mark {
    at: NonNull<AtomicU64>,
    _page: MmapRaw,
}

// SAFETY: the word is only accessed atomically, and the page stays mapped.
unsafe impl Send for Mark {}
// SAFETY: as above.
unsafe impl Sync for Mark {}

impl Mark {
    fn new() -> Result<Self, Errno> {
        // Miri knows no madvise, and nothing forks there.
        if cfg!(miri) {
            return Err(Errno::ENOSYS);
        }
        let os = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::ENOMEM));
        let page: MmapRaw = MmapOptions::new().len(super::linux::page_size()).map_anon().map_err(os)?.into();
        // SAFETY: the page is this mapping's alone, and nothing has been written to it.
        Errno::result(unsafe { libc::madvise(page.as_mut_ptr().cast(), page.len(), libc::MADV_WIPEONFORK) })?;
        let at = NonNull::new(page.as_mut_ptr().cast()).ok_or(Errno::ENOMEM)?;
        Ok(Self { at, _page: page })
    }

    /// A number that no ancestor has had.
    fn number(&self) -> u64 {
        // Inherited by a child, unlike the page, so its next number is greater than its ancestors'.
        static LAST: AtomicU64 = AtomicU64::new(0);
        // SAFETY: a mapped page begins with an aligned word, which is only accessed atomically.
        let mark = unsafe { self.at.as_ref() };
        match mark.load(Ordering::Relaxed) {
            0 => {
                let new = LAST.fetch_add(1, Ordering::Relaxed) + 1;
                // Another thread may have been faster; then all use its number.
                match mark.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => new,
                    Err(number) => number,
                }
            }
            number => number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "forks")]
    fn a_child_is_another_process() {
        let parent = Process::current();
        assert!(parent.is_current());
        // SAFETY: the child makes only system calls and atomic accesses.
        match unsafe { libc::fork() } {
            0 => {
                let (differs, same) = (!parent.is_current(), Process::current().is_current());
                // SAFETY: ends the child without running anything of the parent's.
                unsafe { libc::_exit(if differs && same { 0 } else { 1 }) }
            }
            child => {
                let mut status = -1;
                // SAFETY: `status` is writable.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert_eq!(status, 0);
            }
        }
        assert!(parent.is_current());
    }
}
