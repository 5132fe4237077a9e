//! The way down: kernel handles, the command descriptor, and commands of your own.
//!
//! The rest of the library has a function for what its users need. This module is for what it has none for: methods of a newer kernel, a
//! driver's private objects, attributes that are being studied, or a library that is built on this one.
//!
//! | to | use |
//! |---|---|
//! | name an object in a command | [`handle()`], [`ah_handle`] |
//! | send attributes by `RDMA_VERBS_IOCTL` | [`Ioctl`] |
//! | send a command of `ib_user_verbs.h` | [`Legacy`] |
//! | map the device's pages, or send what these two cannot | [`cmd_fd`] |
//!
//! Numbers and structures are those of the kernel's headers `rdma/ib_user_ioctl_cmds.h`, `rdma/ib_user_ioctl_verbs.h` and
//! `rdma/ib_user_verbs.h`. They are not part of this library's API: declare those that you need.
//!
//! # What is unsafe
//!
//! A command may hold addresses that the kernel or the device writes to, may destroy an object that the library still uses, or may change
//! a queue behind the back of whoever posts to it. The library cannot know, so sending is `unsafe`, and so is the
//! descriptor, by which all of this can be done with `write()`. Handles are plain numbers.
//!
//! An object that a command creates belongs to its caller. The kernel destroys it when the context closes.
//!
//! # Example
//!
//! The state of port 1, asked for with the ioctl and with the legacy command. `examples/raw.rs` has more.
//!
//! ```no_run
//! use bareverbs::{Device, raw};
//!
//! # fn main() -> bareverbs::Result<()> {
//! let ctx = Device::by_name("rxe0")?.open()?;
//! // struct ib_uverbs_query_port_resp_ex: struct ib_uverbs_query_port_resp, of which byte 26 is the state, and 8 bytes more.
//! let mut port = [0; 48];
//! // UVERBS_OBJECT_DEVICE, UVERBS_METHOD_QUERY_PORT; the attributes PORT_NUM and RESP
//! let query = raw::Ioctl::new(0, 2).constant(0, 1).output(1, &mut port);
//! // SAFETY: a question, whose only address is that of `port`.
//! unsafe { query.send(&ctx) }?;
//!
//! // struct ib_uverbs_query_port: response, port_num, reserved
//! let (mut command, mut answer) = ([0; 16], [0; 40]);
//! command[8] = 1;
//! // IB_USER_VERBS_CMD_QUERY_PORT
//! let query = raw::Legacy::new(2, &command).answer(&mut answer);
//! // SAFETY: as above; the library fills in `response`.
//! unsafe { query.send(&ctx) }?;
//! assert_eq!(port[26], answer[26]);
//! # Ok(())
//! # }
//! ```

#![allow(unsafe_code)] // whoever sends a command answers for it

mod handle;
mod ioctl;
mod legacy;

pub use handle::{KernelObject, ah_handle, handle};
pub use ioctl::{Ioctl, IoctlAnswer};
pub use legacy::Legacy;

use std::os::fd::{AsFd, BorrowedFd};

use crate::Context;

/// Returns the descriptor of the context's uverbs device, which takes its commands and maps its pages.
///
/// # Safety
/// Every command that is sent by it, and every mapping, is the caller's responsibility, as with [`Ioctl::send`]: also those that safe
/// code can send with `write()` once it has the descriptor, or a copy of it.
#[must_use]
pub unsafe fn cmd_fd(ctx: &Context) -> BorrowedFd<'_> {
    ctx.uverbs().as_fd()
}
