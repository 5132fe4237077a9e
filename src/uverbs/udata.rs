//! A driver's own part of a command, and whether there are addresses in it.

#![allow(unsafe_code)] // vouches for addresses inside a payload

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A structure that a driver takes with a command.
///
/// # Safety
/// There is no address in it: whatever its fields say, neither the kernel nor a device accesses memory of this process because of
/// it.
pub(crate) unsafe trait Plain: IntoBytes + Immutable {}

// SAFETY: a part of a key.
unsafe impl Plain for crate::uapi::siw::UreqRegMr {}

/// The driver's own part of a command and of its answer. See [`udata`](self).
pub(crate) struct Udata<'a> {
    input: &'a [u8],
    output: &'a mut [u8],
}

impl<'a> Udata<'a> {
    /// Nothing either way.
    pub(crate) fn none() -> Self {
        Self { input: &[], output: &mut [] }
    }

    /// Only an answer.
    pub(crate) fn answer<O: FromBytes + IntoBytes>(output: &'a mut O) -> Self {
        Self { input: &[], output: output.as_mut_bytes() }
    }

    /// Only a request.
    #[allow(dead_code)] // no driver so far
    pub(crate) fn request<I: Plain>(input: &'a I) -> Self {
        Self { input: input.as_bytes(), output: &mut [] }
    }

    /// A request and an answer.
    pub(crate) fn both<I: Plain, O: FromBytes + IntoBytes>(input: &'a I, output: &'a mut O) -> Self {
        Self { input: input.as_bytes(), output: output.as_mut_bytes() }
    }

    /// A request that has addresses in it, and an answer.
    ///
    /// # Safety
    /// Every address in `input` is that of memory which the kernel and the device may access as the command says, for as long as
    /// they do: mostly until the object that the command creates is destroyed. That holds whatever the caller's callers do.
    pub(crate) unsafe fn with_addresses<I, O>(input: &'a I, output: &'a mut O) -> Self
    where
        I: IntoBytes + Immutable,
        O: FromBytes + IntoBytes,
    {
        Self { input: input.as_bytes(), output: output.as_mut_bytes() }
    }

    /// The bytes of both, for commands of the library's user.
    ///
    /// # Safety
    /// As for [`with_addresses`](Self::with_addresses).
    pub(crate) unsafe fn of_bytes(input: &'a [u8], output: &'a mut [u8]) -> Self {
        Self { input, output }
    }

    /// Both parts, for one way of sending the command; another may be tried after it.
    pub(super) fn parts(&mut self) -> (&'a [u8], &mut [u8]) {
        (self.input, &mut *self.output)
    }
}
