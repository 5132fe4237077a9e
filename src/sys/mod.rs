//! The edge to Linux: the only files that make system calls and the only home of memory shared with the kernel.

#![allow(unsafe_code)]

pub(crate) mod file;
pub(crate) mod linux;
pub(crate) mod netlink;
pub(crate) mod region;
