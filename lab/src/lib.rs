//! Guests with RDMA devices, for tests of RDMA programs on a machine that has neither the hardware nor root.
//!
//! | module | what it holds |
//! |---|---|
//! | [`vm`] | guests: describe them, boot them, run commands in them, shut them down |
//! | [`image`] | what a guest boots from: kernel, modules, C tools, files of the caller |
//! | [`packages`] | kernels, QEMU and C tools from Debian's archive |
//! | [`cache`] | where all of that is kept between runs |
//! | [`protocol`] | what the host and the guest's init say to each other |
//! | [`installation`] | where the programs of this package are |
//! | [`command`] | the command line of `rdma-lab` |
//! | [`process`], [`progress`] | programs of the host, progress of long steps |
//!
//! The program that runs inside a guest as process 1 is the binary `rdma-lab-guest` of this package, in `guest/`.

#[cfg(feature = "host")]
pub mod cache;
#[cfg(feature = "host")]
pub mod command;
#[cfg(feature = "host")]
pub mod image;
#[cfg(feature = "host")]
pub mod installation;
#[cfg(feature = "host")]
pub mod packages;
#[cfg(feature = "host")]
pub mod process;
#[cfg(feature = "host")]
pub mod progress;
pub mod protocol;
#[cfg(feature = "host")]
pub mod vm;

/// A result whose error is one line for the user.
pub type Result<T> = std::result::Result<T, String>;
