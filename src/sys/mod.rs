//! The edge to Linux: system calls, and the only home of memory shared with the kernel.
//!
//! The rest of the library makes none of its own; it reads folders under /sys with the standard library.

#![allow(unsafe_code)]

pub(crate) mod barrier;
mod copy;
pub(crate) mod file;
pub(crate) mod linux;
pub(crate) mod mmio;
pub(crate) mod netlink;
pub(crate) mod part;
pub(crate) mod process;
pub(crate) mod region;
pub(crate) mod slots;
pub(crate) mod sync;
mod syscall;
