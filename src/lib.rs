//! RDMA verbs on the bare kernel ABI, in pure Rust, with nothing in between.
//!
//! The layers, each importing only what stands below it:
//!
//! | module | what it holds |
//! |---|---|
//! | [`verbs`] | what a program holds: device, context, PD, MR, CQ, QP, work requests and completions |
//! | `provider` | how a device's queues look in memory: rings, WQEs, CQEs, doorbells |
//! | [`discover`] | which devices there are: RDMA netlink first, sysfs after |
//! | [`netlink`] | RDMA netlink (`RDMA_NLDEV`): devices, ports, links |
//! | `uverbs` | the kernel's commands, one file per kernel object, in each encoding |
//! | [`uapi`] | the kernel's structures, checked against its headers by `cargo xtask abi` |
//! | `sys` | system calls, shared memory, barriers |

pub mod discover;
pub mod error;
pub mod netlink;
mod provider;
mod sys;
pub mod types;
pub mod uapi;
mod uverbs;
pub mod verbs;

pub use error::{Cause, Error, Result};
pub use types::*;
pub use uverbs::Encoding;
pub use verbs::*;
