//! Framing of legacy commands sent by `write()`: a header, the command, the provider's part; the answer goes to an address.

#![allow(unsafe_code)] // the response address

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use zerocopy::IntoBytes;

use crate::sys::linux;
use crate::uapi::verbs::{CmdHdr, ExCmdHdr, IB_USER_VERBS_CMD_FLAG_EXTENDED};

/// 64-bit words: more than any command or answer of this crate has.
const WORDS: usize = 64;

/// A legacy command.
pub(super) struct Request<'a> {
    /// `IB_USER_VERBS_CMD_*`, with the extended flag where it is one.
    pub(super) number: u32,
    /// The command's structure.
    pub(super) core: &'a [u8],
    /// The provider's part, which follows it.
    pub(super) driver_in: &'a [u8],
}

impl Request<'_> {
    /// Sends the command; the answer's two parts come back in `core_out` and `driver_out`, which keep what the kernel does
    /// not write.
    ///
    /// # Safety
    /// `core` is the structure that the kernel reads for `number`, and the kernel writes no more than `core_out` and `driver_out` have
    /// room for. Every address in `core` and `driver_in`, other than that of the answer, is that of memory which the kernel and the
    /// device may access as the command says, for as long as they do.
    pub(super) unsafe fn send(
        &self,
        fd: BorrowedFd<'_>,
        core_out: &mut [u8],
        driver_out: &mut [u8],
    ) -> Result<(), Errno> {
        let mut answer = [0u64; WORDS];
        let address = answer.as_mut_ptr().expose_provenance() as u64;
        // The header counts in words of four or eight bytes, so the kernel may be told of up to seven more for each part.
        if core_out.len() + driver_out.len() + 14 > size_of_val(&answer) {
            return Err(Errno::E2BIG);
        }
        let driver_at = match self.number & IB_USER_VERBS_CMD_FLAG_EXTENDED {
            0 => core_out.len(),
            _ => core_out.len().next_multiple_of(8),
        };
        let before = answer.as_mut_bytes();
        before[..core_out.len()].copy_from_slice(core_out);
        before[driver_at..driver_at + driver_out.len()].copy_from_slice(driver_out);
        let mut buffer = [0u64; WORDS];
        let len = self.frame(buffer.as_mut_bytes(), address, core_out.len(), driver_out.len())?;
        // SAFETY: the frame is a whole command, in which this code put the address of `answer`, which is longer than the lengths
        // stated; the caller vouches for the others.
        unsafe { linux::write_command(fd, &buffer.as_bytes()[..len]) }?;
        let after = answer.as_bytes();
        core_out.copy_from_slice(&after[..core_out.len()]);
        driver_out.copy_from_slice(&after[driver_at..driver_at + driver_out.len()]);
        Ok(())
    }

    /// Lays the command out in `buffer`; gives its length.
    fn frame(
        &self,
        buffer: &mut [u8],
        address: u64,
        core_out: usize,
        driver_out: usize,
    ) -> Result<usize, Errno> {
        let mut len = 0;
        let mut put = |bytes: &[u8]| {
            let place = buffer.get_mut(len..len + bytes.len()).ok_or(Errno::E2BIG)?;
            place.copy_from_slice(bytes);
            len += bytes.len();
            Ok(())
        };
        let hdr_len = size_of::<CmdHdr>();
        if self.number & IB_USER_VERBS_CMD_FLAG_EXTENDED != 0 {
            let words = |bytes: usize| bytes.div_ceil(8) as u16;
            let out = core_out + driver_out;
            put(CmdHdr {
                command: self.number,
                in_words: words(self.core.len()),
                out_words: words(core_out),
            }
            .as_bytes())?;
            put(ExCmdHdr {
                response: if out == 0 { 0 } else { address },
                provider_in_words: words(self.driver_in.len()),
                provider_out_words: words(driver_out),
                cmd_hdr_reserved: 0,
            }
            .as_bytes())?;
            put(self.core)?;
        } else {
            let words = |bytes: usize| bytes.div_ceil(4) as u16;
            put(CmdHdr {
                command: self.number,
                in_words: words(hdr_len + self.core.len() + self.driver_in.len()),
                out_words: words(core_out + driver_out),
            }
            .as_bytes())?;
            // A command that answers begins with the address to answer to.
            let answers = if core_out == 0 { 0 } else { size_of::<u64>() };
            put(&address.to_ne_bytes()[..answers])?;
            put(self.core.get(answers..).ok_or(Errno::EINVAL)?)?;
        }
        put(self.driver_in)?;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uapi::verbs::*;

    fn framed(command: &Request<'_>, core_out: usize, driver_out: usize) -> Vec<u8> {
        let mut buffer = [0; WORDS * 8];
        let len = command.frame(&mut buffer, 0x1122, core_out, driver_out).unwrap_or(0);
        buffer[..len].to_vec()
    }

    /// Header and response address, after `struct ib_uverbs_cmd_hdr` and `struct ib_uverbs_alloc_pd`; the one write of
    /// rdma-core's that can be traced, its doorbell, is compared in `golden_tests.rs`.
    #[test]
    fn frames_a_command_with_an_answer() {
        let core = AllocPd::default();
        let command = Request { number: IB_USER_VERBS_CMD_ALLOC_PD, core: core.as_bytes(), driver_in: &[] };
        let bytes = framed(&command, size_of::<AllocPdResp>(), 0);
        assert_eq!(bytes, [3, 0, 0, 0, 4, 0, 1, 0, 0x22, 0x11, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_command_without_an_answer_keeps_its_first_field() {
        let core = DeallocPd { pd_handle: 9 };
        let command = Request { number: IB_USER_VERBS_CMD_DEALLOC_PD, core: core.as_bytes(), driver_in: &[] };
        assert_eq!(framed(&command, 0, 0), [4, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0]);
    }

    #[test]
    fn extended_commands_count_in_eight_bytes() {
        let core = ExQueryDevice::default();
        let number = IB_USER_VERBS_EX_CMD_QUERY_DEVICE | IB_USER_VERBS_CMD_FLAG_EXTENDED;
        let command = Request { number, core: core.as_bytes(), driver_in: &[] };
        let bytes = framed(&command, size_of::<ExQueryDeviceResp>(), 0);
        assert_eq!(bytes[..8], [1, 0, 0, 0x80, 1, 0, (size_of::<ExQueryDeviceResp>() / 8) as u8, 0]);
        assert_eq!(bytes[8..24], [0x22, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes.len(), 32);
    }
}
