//! The subcommands.
pub(crate) mod number;
pub(crate) mod pingpong;
pub(crate) mod signals;
