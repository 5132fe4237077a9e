//! Requests in words, for the trace.

use std::fmt;

use super::request::{Datagram, Element, Send, Tail, Work};
use crate::fabric::packet::Operation;

impl fmt::Display for Send {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.work, self.details())
    }
}

impl Send {
    /// Its data and flags.
    pub fn details(&self) -> impl fmt::Display + '_ {
        Details(self)
    }
}

struct Details<'a>(&'a Send);

impl fmt::Display for Details<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let send = self.0;
        if !send.data.elements.is_empty() {
            write!(f, ": {}", Elements(&send.data.elements))?;
        }
        let flags = [
            (send.signaled, "signaled"),
            (send.solicited, "solicited"),
            (send.fence, "fenced"),
            (send.strong_order, "strongly ordered"),
            (send.force_loopback, "looped back"),
        ];
        for (_, flag) in flags.iter().filter(|(set, _)| *set) {
            write!(f, ", {flag}")?;
        }
        if send.srqn != 0 {
            write!(f, ", for SRQ {:#x}", send.srqn)?;
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
            Self::Local => f.write_str("local operation"),
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

/// The elements of a request.
pub struct Elements<'a>(pub &'a [Element]);

impl fmt::Display for Elements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, element) in self.0.iter().enumerate() {
            write!(f, "{}{element}", if at == 0 { "" } else { " + " })?;
        }
        Ok(())
    }
}
