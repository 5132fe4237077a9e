//! Commands of the data path: short ones, framed on the stack and sent by `write()`, which costs the kernel least.

#![allow(unsafe_code)] // the response address

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Encoding, Udata, Uverbs};
use crate::sys::linux;
use crate::uapi::verbs::CmdHdr;

impl Uverbs {
    /// Sends a legacy command that needs no answer beyond yes or no. One system call, no allocation.
    ///
    /// `answers` says that the answer is a structure of 4 bytes, whose content is dropped; none otherwise.
    #[inline]
    pub(super) fn ring<C: IntoBytes + Immutable>(
        &self,
        number: u32,
        command: C,
        answers: bool,
    ) -> Result<(), Errno> {
        const { assert!(size_of::<C>() <= 24) };
        if self.no_write.load(Ordering::Relaxed) {
            return self.ring_by_ioctl(number, &command, answers);
        }
        let len = size_of::<CmdHdr>() + size_of::<C>();
        let header = CmdHdr { command: number, in_words: (len / 4) as u16, out_words: answers.into() };
        let mut dropped = 0u32;
        let mut frame = [0u64; 4];
        let bytes = frame.as_mut_bytes();
        bytes[..8].copy_from_slice(header.as_bytes());
        bytes[8..len].copy_from_slice(command.as_bytes());
        if answers {
            frame[1] = (&raw mut dropped).expose_provenance() as u64;
        }
        // SAFETY: the frame is a whole command, and its one address is that of `dropped`, of the 4 bytes that it states.
        match unsafe { linux::write_command(self.fd.as_fd(), &frame.as_bytes()[..len]) } {
            // write() is refused to a process whose credentials are not those of the opener; the ioctl is not.
            Err(Errno::EACCES) if self.encoding == Encoding::Auto => {
                self.no_write.store(true, Ordering::Relaxed);
                self.ring_by_ioctl(number, &command, answers)
            }
            done => done,
        }
    }

    #[cold]
    fn ring_by_ioctl<C>(&self, number: u32, command: &C, answers: bool) -> Result<(), Errno>
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
