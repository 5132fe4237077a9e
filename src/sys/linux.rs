//! The system calls that reach uverbs devices and the connection manager.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::Mode;

use super::syscall;

/// Opens a character device for commands; the descriptor is closed on exec.
pub(crate) fn open_device(path: &Path) -> Result<OwnedFd, Errno> {
    nix::fcntl::open(path, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
}

/// Sends one command by `write()`.
///
/// # Safety
/// `command` is a whole command of that device; every address in it points to memory that the kernel may read or write
/// for the length that the command states, until this call returns.
#[inline]
pub(crate) unsafe fn write_command(fd: BorrowedFd<'_>, command: &[u8]) -> Result<(), Errno> {
    #[cfg(test)]
    // SAFETY: the caller's promise is the one that is asked for.
    if let Some(answer) = unsafe { testing::write(command) } {
        return answer;
    }
    // SAFETY: the slice is readable for its length; the caller vouches for the addresses inside it.
    unsafe { syscall::write(fd, command) }
}

/// Sends one `RDMA_VERBS_IOCTL`.
///
/// # Safety
/// `request` points to an `ib_uverbs_ioctl_hdr` followed by as many attributes as it says, writable; every
/// address in an attribute points to memory that the kernel may read or write for the attribute's length, until
/// this call returns.
pub(crate) unsafe fn verbs_ioctl<T>(fd: BorrowedFd<'_>, request: *mut T) -> Result<(), Errno> {
    #[cfg(test)]
    // SAFETY: the caller's promise is the one that is asked for.
    if let Some(answer) = unsafe { testing::ioctl(request.cast()) } {
        return answer;
    }
    // SAFETY: the caller vouches for the request and for every address in it.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), RDMA_VERBS_IOCTL, request) };
    Errno::result(answer).map(drop)
}

/// `_IOWR(0x1b, 1, struct ib_uverbs_ioctl_hdr)`
const RDMA_VERBS_IOCTL: libc::Ioctl =
    nix::request_code_readwrite!(0x1b, 1, size_of::<crate::uapi::ioctl::IoctlHdr>()) as libc::Ioctl;

/// Reads what is there: waits for it, or answers `EAGAIN`, as the descriptor is set.
///
/// # Errors
/// `EINTR` when a signal was caught, so that the caller may look at what the signal was for.
#[inline]
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    syscall::read(fd, buffer)
}

/// Waits until `fd` can be read; `None` waits for ever. False when the time ran out.
///
/// # Errors
/// `EINTR` when a signal was caught, so that the caller may look at what the signal was for.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout: PollTimeout) -> Result<bool, Errno> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, timeout).map(|n| n > 0)
}

/// A timeout in whole milliseconds: rounded up, so that no time is left when it is over. None at all stays none.
#[inline(never)] // seldom needed, and costly where it is not
pub(crate) fn poll_timeout(timeout: Duration) -> PollTimeout {
    if timeout.is_zero() {
        return PollTimeout::ZERO;
    }
    PollTimeout::try_from(timeout.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX)
}

/// Bytes of a page of memory.
pub(crate) fn page_size() -> usize {
    // SAFETY: it only asks.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// How many bytes this process may lock in memory (the soft limit); nothing where there is no limit.
pub(crate) fn memlock_limit() -> Option<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).ok()?;
    (soft != libc::RLIM_INFINITY).then_some(soft)
}

/// Makes a descriptor's reads answer `EAGAIN` where they would block.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(nix::fcntl::fcntl(fd, nix::fcntl::F_GETFL)?);
    nix::fcntl::fcntl(fd, nix::fcntl::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

/// Returns whether a descriptor of this process has this number.
pub(crate) fn is_open(fd: i32) -> bool {
    // SAFETY: it only asks.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Takes charge of a descriptor that the kernel has just made for this process.
///
/// # Safety
/// Nothing else owns `fd`.
pub(crate) unsafe fn own_fd(fd: i32) -> Option<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: the caller vouches that nobody else owns it, and a negative one is never wrapped.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
#[path = "linux_testing.rs"]
pub(crate) mod testing;
