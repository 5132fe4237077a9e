//! Requests in words, for the trace.

use std::fmt;

use super::{Bind, FastRegister, Local};
use crate::transport::Send;

/// A request: what it asks the card itself to do, or else what it asks the transport to do.
pub(crate) struct Shown<'a> {
    pub(crate) send: &'a Send,
    pub(crate) local: Option<&'a Local>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.local {
            Some(local) => write!(f, "{local}{}", self.send.details()),
            None => self.send.fmt(f),
        }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(bind) => bind.fmt(f),
            Self::FastRegister(register) => register.fmt(f),
            Self::Invalidate { key } => write!(f, "invalidate {key:#x}"),
            Self::Frame(_) => f.write_str("frame"),
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rights, type_2, zero_based, rkey, lkey, address, length } = self;
        let kind = if *type_2 { "2" } else { "1" };
        let base = if *zero_based { ", zero based" } else { "" };
        write!(
            f,
            "bind window {rkey:#x} of type {kind}{base} to {length} bytes at {address:#x} of {lkey:#x}, "
        )?;
        write!(f, "rights {:#x}", rights.0)
    }
}

impl fmt::Display for FastRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rights, key, start, length, page_shift, .. } = self;
        write!(f, "register {length} bytes at {start:#x} as {key:#x}, ")?;
        write!(f, "pages of 2^{page_shift} bytes, rights {:#x}", rights.0)
    }
}
