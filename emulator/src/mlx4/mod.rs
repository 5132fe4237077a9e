//! ConnectX-2 and ConnectX-3, as the mlx4 drivers see them.
//!
//! | file | what it holds |
//! |---|---|
//! | `hca` | the card: its registers, and what is behind them |
//! | `card` | what firmware commands and queues share: guest memory, tables, port, trace, violations |
//! | `identity` | model, GUIDs, firmware version |
//! | `commands/` | firmware commands: one table, a file for each family |
//! | `data_path`, `adapter` | the queues, and how the [transport](crate::transport) reaches them |
//! | `uar` | doorbells and BlueFlame |
//! | `qp`, `qpc` | queue pairs and their contexts |
//! | `sq`, `rq`, `srq`, `wqe/` | queues of requests, and their entries decoded |
//! | `built` | packet headers that the driver builds for management datagrams |
//! | `cq`, `cqe` | completion queues, and their entries encoded |
//! | `eq`, `event` | event queues |
//! | `icm`, `mtt`, `mpt`, `window` | the card's tables in guest memory; pages; keys; windows and registration |
//! | `multicast`, `frames`, `rss` | multicast groups; Ethernet frames, and how they are spread over queues |
//! | `clock`, `diagnostics`, `status` | the clock, error counters, statuses of commands |

mod adapter;
mod built;
pub mod card;
mod clock;
pub mod commands;
mod cq;
mod cqe;
mod data_path;
pub mod diagnostics;
pub mod eq;
pub mod event;
mod frames;
pub mod hca;
pub mod icm;
pub mod identity;
mod mpt;
pub mod mtt;
mod multicast;
mod qp;
mod qpc;
mod rq;
pub mod rss;
mod sq;
mod srq;
pub mod status;
#[cfg(test)]
mod tests;
mod uar;
mod window;
mod wqe;

use std::fmt;

use self::card::Card;
use crate::violation::Violation;

/// A queue, as violations name it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Queue {
    Sq(u32),
    Rq(u32),
    Srq(u32),
    Cq(u32),
    Uar(u32),
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sq(qpn) => write!(f, "QP {qpn:#x} SQ"),
            Self::Rq(qpn) => write!(f, "QP {qpn:#x} RQ"),
            Self::Srq(srqn) => write!(f, "SRQ {srqn:#x}"),
            Self::Cq(cqn) => write!(f, "CQ {cqn:#x}"),
            Self::Uar(page) => write!(f, "UAR {page}"),
        }
    }
}

/// Reports a violation of a queue.
pub(crate) fn violate(
    card: &mut Card,
    queue: Queue,
    index: Option<u64>,
    what: impl Into<String>,
    bytes: &[u8],
) {
    let violation = Violation { queue: queue.to_string(), index, what: what.into(), bytes: bytes.to_vec() };
    card.violations.report(violation);
}
