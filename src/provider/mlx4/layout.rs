//! How the queues of a queue pair share its memory.

use super::MAX_WR;
use super::wqe::{Kind, Limits};
use crate::sys::region::Region;
use crate::types::QpType;
use crate::uapi::ioctl::verbs::QpCap;

/// Bytes that the device may fetch beyond the last request.
const HEADROOM: u32 = 2048;

/// How large the queues of a queue pair are, and where they lie in its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) send: Limits,
    pub(super) send_slots: u32,
    pub(super) spare: u32,
    pub(super) recv_slots: u32,
    pub(super) recv_log2_size: u32,
}

impl Layout {
    /// Returns the layout for these sizes, of which those of queues that do not exist are ignored; `None` if they are too large.
    pub(super) fn new(qp_type: QpType, cap: &QpCap, has_rq: bool) -> Option<Self> {
        let (send, send_slots, spare) = if qp_type == QpType::XRC_RECV {
            (Limits { kind: Kind::Connected, log2_size: 0, max_sge: 0, max_inline: 0 }, 0, 0)
        } else {
            let send = Limits::new(qp_type, cap.max_send_sge, cap.max_inline_data)?;
            let spare = (HEADROOM >> send.log2_size) + 1;
            (send, cap.max_send_wr.checked_add(spare)?.checked_next_power_of_two()?, spare)
        };
        let (recv_slots, recv_log2_size) = if has_rq {
            let slot = cap.max_recv_sge.max(1).checked_mul(16)?.checked_next_power_of_two()?;
            (cap.max_recv_wr.max(1).checked_next_power_of_two()?, slot.trailing_zeros())
        } else {
            (0, 0)
        };
        Some(Self { send, send_slots, spare, recv_slots, recv_log2_size })
    }

    /// Sends that may be outstanding: the slots but the spare ones, and no more than completions can tell apart.
    pub(super) fn max_send_wr(&self) -> u32 {
        (self.send_slots - self.spare).min(MAX_WR)
    }

    pub(super) fn send_bytes(&self) -> usize {
        (self.send_slots as usize) << self.send.log2_size
    }

    pub(super) fn recv_bytes(&self) -> usize {
        (self.recv_slots as usize) << self.recv_log2_size
    }

    /// The queue with the larger slots comes first, and of equal ones the send queue: the device goes by that.
    pub(super) fn split(&self, memory: Region) -> (Region, Region) {
        if self.recv_log2_size > self.send.log2_size {
            let (recv, send) = memory.split(self.recv_bytes());
            (send, recv)
        } else {
            memory.split(self.send_bytes())
        }
    }
}
