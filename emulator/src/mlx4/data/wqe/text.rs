//! Requests in words, for the trace.

use std::fmt;

use super::{Bind, Datagram, Element, FastRegister, Send, Tail, Work};
use crate::fabric::packet::Operation;

impl fmt::Display for Send {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.work.fmt(f)?;
        if !self.data.elements.is_empty() {
            write!(f, ": {}", Elements(&self.data.elements))?;
        }
        let marks = [
            (self.signaled, "signaled"),
            (self.solicited, "solicited"),
            (self.fence, "fenced"),
            (self.strong_order, "strongly ordered"),
            (self.force_loopback, "looped back"),
        ];
        for (_, mark) in marks.iter().filter(|(set, _)| *set) {
            write!(f, ", {mark}")?;
        }
        if self.srqn != 0 {
            write!(f, ", for SRQ {:#x}", self.srqn)?;
        }
        Ok(())
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nop => f.write_str("NOP"),
            Self::Message { tail, datagram } => {
                f.write_str("send")?;
                match tail {
                    Tail::Nothing => {}
                    Tail::Immediate(immediate) => write!(f, " with immediate {immediate:#x}")?,
                    Tail::Invalidate(key) => write!(f, " and invalidate {key:#x}")?,
                }
                datagram.as_ref().map_or(Ok(()), |datagram| datagram.fmt(f))
            }
            Self::Write { address, rkey, immediate } => {
                write!(f, "write to {address:#x} by R_Key {rkey:#x}")?;
                immediate.map_or(Ok(()), |immediate| write!(f, " with immediate {immediate:#x}"))
            }
            Self::Read { address, rkey } => write!(f, "read from {address:#x} by R_Key {rkey:#x}"),
            Self::Atomic { operation, address, rkey, swap_add, compare, masks } => {
                match operation {
                    Operation::CompareSwap => write!(f, "compare {compare:#x} and swap {swap_add:#x}")?,
                    Operation::FetchAdd => write!(f, "fetch and add {swap_add:#x}")?,
                    other => write!(f, "{other:?} {compare:#x} {swap_add:#x} under {masks:#x?}")?,
                }
                write!(f, " at {address:#x} by R_Key {rkey:#x}")
            }
            Self::Bind(bind) => bind.fmt(f),
            Self::FastRegister(register) => register.fmt(f),
            Self::Invalidate { key } => write!(f, "invalidate {key:#x}"),
            Self::Frame(_) => f.write_str("frame"),
        }
    }
}

impl fmt::Display for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addressed { path, qpn, qkey, .. } => {
                write!(f, " to LID {} QP {qpn:#x} Q_Key {qkey:#x}", path.dlid)
            }
            Self::Built { .. } => f.write_str(" with the driver's headers"),
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

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(bytes) => write!(f, "{} bytes inline", bytes.len()),
            Self::Memory { lkey, address, length } => {
                write!(f, "{length} bytes at {address:#x} by {lkey:#x}")
            }
        }
    }
}

/// The pieces of a message.
pub(super) struct Elements<'a>(pub(super) &'a [Element]);

impl fmt::Display for Elements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, element) in self.0.iter().enumerate() {
            write!(f, "{}{element}", if at == 0 { "" } else { " + " })?;
        }
        Ok(())
    }
}
