//! `read` and `write` as the kernel has them, for the data path.
//!
//! The C library's wrappers are cancellation points of its threads, which costs more instructions than everything else that a
//! doorbell needs. Rust's threads are never cancelled.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// `write(2)` of what the file takes whole or not at all.
///
/// # Safety
/// What the bytes mean to the file is the caller's promise.
#[inline]
pub(super) unsafe fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: the slice is readable for its length.
    let answer = unsafe { raw(libc::SYS_write, fd.as_raw_fd(), bytes.as_ptr().cast_mut(), bytes.len()) };
    if answer == bytes.len() as isize { Ok(()) } else { Err(not_whole(answer)) }
}

#[cold]
fn not_whole(answer: isize) -> Errno {
    result(answer).err().unwrap_or(Errno::EIO)
}

/// `read(2)`.
#[inline]
pub(super) fn read(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the slice is writable for its length.
    result(unsafe { raw(libc::SYS_read, fd.as_raw_fd(), bytes.as_mut_ptr(), bytes.len()) })
}

#[inline]
fn result(answer: isize) -> Result<usize, Errno> {
    usize::try_from(answer).map_err(|_| Errno::from_raw(answer.unsigned_abs() as i32))
}

/// A system call on a descriptor and memory; the negated errno where it fails.
///
/// # Safety
/// `at` is valid for `len` bytes, as the call needs it.
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64", not(miri)))]
#[inline]
unsafe fn raw(number: libc::c_long, fd: i32, at: *mut u8, len: usize) -> isize {
    let answer;
    // SAFETY: Linux's convention on x86-64; it changes rcx, r11 and the memory that the caller vouches for.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") fd as isize,
            in("rsi") at,
            in("rdx") len,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack, preserves_flags)
        );
    }
    answer
}

/// As above.
///
/// # Safety
/// As above.
#[cfg(all(target_arch = "aarch64", not(miri)))]
#[inline]
unsafe fn raw(number: libc::c_long, fd: i32, at: *mut u8, len: usize) -> isize {
    let answer;
    // SAFETY: Linux's convention on aarch64; it changes x0 and the memory that the caller vouches for.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") fd as isize => answer,
            in("x1") at,
            in("x2") len,
            options(nostack, preserves_flags)
        );
    }
    answer
}

/// Elsewhere through the C library.
///
/// # Safety
/// As above.
#[cfg(any(
    miri,
    not(any(all(target_arch = "x86_64", target_pointer_width = "64"), target_arch = "aarch64"))
))]
unsafe fn raw(number: libc::c_long, fd: i32, at: *mut u8, len: usize) -> isize {
    // SAFETY: the caller vouches for the memory.
    match unsafe { libc::syscall(number, fd, at, len) } {
        -1 => -(Errno::last_raw() as isize),
        answer => answer as isize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn bytes_go_through_and_errors_come_back() {
        let (out, into) = nix::unistd::pipe().unwrap();
        // SAFETY: bytes mean nothing to a pipe.
        assert_eq!(unsafe { write(into.as_fd(), b"bell") }, Ok(()));
        let mut bytes = [0; 8];
        assert_eq!(read(out.as_fd(), &mut bytes), Ok(4));
        assert_eq!(&bytes[..4], b"bell");
        assert_eq!(read(into.as_fd(), &mut bytes), Err(Errno::EBADF));
        // SAFETY: as above; these do not even get there.
        assert_eq!(unsafe { write(out.as_fd(), b"bell") }, Err(Errno::EBADF));
        assert_eq!(not_whole(3), Errno::EIO);
    }
}
