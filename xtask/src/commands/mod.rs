//! The subcommands, one file each.

pub(crate) mod abi;
pub(crate) mod bench;
pub(crate) mod demo;
pub(crate) mod test;
