//! Commands of the data path: short ones, framed on the stack and sent by `write()`, which costs the kernel least.

#![allow(unsafe_code)] // the response address

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Encoding, Udata, Uverbs};
use crate::sys::linux;
use crate::uapi::verbs::CmdHdr;

/// A command as `write()` takes it.
#[derive(IntoBytes, Immutable)]
#[repr(C, packed)]
struct Frame<C> {
    header: CmdHdr,
    command: C,
}

impl Uverbs {
    /// Sends a legacy command that needs no answer beyond yes or no. One system call, no allocation.
    ///
    /// `answers` says that the answer is a structure of 4 bytes, whose content is dropped; none otherwise. `command` is given the
    /// address where the kernel may write that.
    #[inline]
    pub(super) fn ring<C: IntoBytes + Immutable>(
        &self,
        number: u32,
        answers: bool,
        command: impl Fn(u64) -> C,
    ) -> Result<(), Errno> {
        if self.no_write.load(Ordering::Relaxed) {
            return self.ring_by_ioctl(number, answers, &command(0));
        }
        let mut dropped = 0u32;
        let len = size_of::<Frame<C>>();
        let frame = Frame {
            header: CmdHdr { command: number, in_words: (len / 4) as u16, out_words: answers.into() },
            command: command((&raw mut dropped).expose_provenance() as u64),
        };
        // SAFETY: the frame is a whole command, and its one address is that of `dropped`, of the 4 bytes that it states.
        match unsafe { linux::write_command(self.fd.as_fd(), frame.as_bytes()) } {
            // write() is refused to a process whose credentials are not those of the opener; the ioctl is not.
            Err(Errno::EACCES) if self.encoding == Encoding::Auto => {
                self.no_write.store(true, Ordering::Relaxed);
                self.ring_by_ioctl(number, answers, &command(0))
            }
            done => done,
        }
    }

    #[cold]
    fn ring_by_ioctl<C>(&self, number: u32, answers: bool, command: &C) -> Result<(), Errno>
    where
        C: IntoBytes + Immutable,
    {
        fn sent<R: FromBytes + IntoBytes>(
            uverbs: &Uverbs,
            number: u32,
            command: &(impl IntoBytes + Immutable),
        ) -> Result<(), Errno> {
            uverbs.legacy::<_, R>(number, command, Udata::none()).map(drop)
        }
        match answers {
            false => sent::<()>(self, number, command),
            true => sent::<u32>(self, number, command),
        }
    }
}
