//! What runs inside the guest: ours beside the C tools, on a real kernel.
//!
//! `cargo xtask test` boots the guest and runs these with `--ignored`, once with each command encoding. A plain `cargo test` lists
//! them as ignored: outside a guest there is no device.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic)]

mod asyncwatch;
mod cm;
mod datagrams;
mod devinfo;
mod doctor;
mod faults;
mod fork;
mod link;
mod memory;
mod opcodes;
mod pingpong;
mod queues;
mod rping;
mod rping_odd;
mod rping_output;
mod siw;
mod srq;
mod support;
mod xsrq;
