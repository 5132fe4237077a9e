//! Commands of `ib_user_verbs.h`.

use crate::Context;
use crate::error::Result;
use crate::uverbs::Udata;

/// A legacy command: its structure, and room for its answer.
///
/// It travels as the context's other commands do: inside `RDMA_VERBS_IOCTL` or by `write()`, as its [`Encoding`](crate::Encoding) says.
#[derive(Debug)]
#[must_use]
pub struct Legacy<'a> {
    number: u32,
    command: &'a [u8],
    answer: &'a mut [u8],
    driver_input: &'a [u8],
    driver_output: &'a mut [u8],
}

impl<'a> Legacy<'a> {
    /// Add it to the number of an extended command (`IB_USER_VERBS_EX_CMD_*`).
    pub const EXTENDED: u32 = crate::uapi::verbs::IB_USER_VERBS_CMD_FLAG_EXTENDED;

    /// A command (`IB_USER_VERBS_CMD_*`) and its structure, without the header.
    ///
    /// Where the structure begins with `response`, those 8 bytes belong to it, and the library fills them in. Extended commands have no such
    /// field.
    pub fn new(number: u32, command: &'a [u8]) -> Self {
        Self { number, command, answer: &mut [], driver_input: &[], driver_output: &mut [] }
    }

    /// Room for the answer. What the kernel does not write stays as it is.
    pub fn answer(mut self, answer: &'a mut [u8]) -> Self {
        self.answer = answer;
        self
    }

    /// The driver's own part of the command.
    pub fn driver_input(mut self, bytes: &'a [u8]) -> Self {
        self.driver_input = bytes;
        self
    }

    /// Room for the driver's own part of the answer.
    pub fn driver_output(mut self, bytes: &'a mut [u8]) -> Self {
        self.driver_output = bytes;
        self
    }

    /// Sends it.
    ///
    /// # Errors
    /// The kernel's errno: `EOPNOTSUPP` where the driver has no such command. `EINVAL` where a command with an answer is
    /// shorter than `response`; `E2BIG` where its parts, or the answer's, have more than about 500 bytes and `write()` is to take it.
    ///
    /// # Safety
    /// As for [`Ioctl::send`](super::Ioctl::send), of the command's structure and of the driver's part. The answer has room for all that the
    /// kernel writes: no less than the command's response has.
    pub unsafe fn send(self, ctx: &Context) -> Result<()> {
        let uverbs = ctx.uverbs();
        // SAFETY: the caller vouches for the command, the answer and both parts of the driver's.
        let sent = unsafe {
            let driver = Udata::of_bytes(self.driver_input, self.driver_output);
            uverbs.legacy_with_addresses(self.number, self.command, driver, self.answer)
        };
        sent.map_err(|errno| uverbs.error("raw command", errno))
    }
}
