//! Commands of the data path: short ones, framed on the stack and sent by `write()`, which costs the kernel least.

#![allow(unsafe_code)] // the response address

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use zerocopy::{Immutable, IntoBytes};

use super::command::Command;
use super::{Encoding, Udata, Uverbs};
use crate::sys::linux;
use crate::uapi::verbs::{CmdHdr, IB_USER_VERBS_CMD_FLAG_EXTENDED};

/// A command as `write()` takes it.
#[derive(IntoBytes, Immutable)]
#[repr(C, packed)]
struct Frame<C> {
    header: CmdHdr,
    command: C,
}

impl Uverbs {
    /// Sends a legacy command whose answer, if it has one, has 4 bytes and is dropped. One system call, no allocation.
    #[inline]
    pub(super) fn ring<C: Command>(&self, mut command: C) -> Result<(), Errno> {
        const { assert!(C::NUMBER & IB_USER_VERBS_CMD_FLAG_EXTENDED == 0 && size_of::<C::Answer>() <= 4) };
        if self.no_write.load(Ordering::Relaxed) {
            return self.ring_by_ioctl(&command);
        }
        let mut dropped = 0u32;
        let answers = size_of::<C::Answer>() > 0;
        if answers {
            // A command that has an answer begins with its address.
            let address = (&raw mut dropped).expose_provenance() as u64;
            command.as_mut_bytes()[..8].copy_from_slice(&address.to_ne_bytes());
        }
        let len = size_of::<Frame<C>>();
        let header = CmdHdr { command: C::NUMBER, in_words: (len / 4) as u16, out_words: answers.into() };
        let frame = Frame { header, command };
        // SAFETY: the frame is a whole command, and `Command` says that its one address is that of the answer, for which `dropped`
        // has room.
        match unsafe { linux::write_command(self.fd.as_fd(), frame.as_bytes()) } {
            // write() is refused to a process whose credentials are not those of the opener; the ioctl is not.
            Err(Errno::EACCES) if self.encoding == Encoding::Auto => {
                self.no_write.store(true, Ordering::Relaxed);
                self.ring_by_ioctl(&command)
            }
            done => done,
        }
    }

    #[cold]
    fn ring_by_ioctl<C: Command>(&self, command: &C) -> Result<(), Errno> {
        self.legacy(command, Udata::none()).map(drop)
    }
}
