//! Receive queues of queue pairs: rings of requests, posted by a doorbell record alone.

use super::{Queue, violate, wqe};
use crate::{
    mlx4::{card::Card, mtt::Mtt},
    transport::Receive,
};

/// A receive queue.
#[derive(Clone, Debug)]
pub(crate) struct ReceiveQueue {
    pub(crate) qpn: u32,
    pub(crate) log_size: u8,
    pub(crate) log_stride: u8,
    /// The buffer of the queue pair.
    pub(crate) buffer: Mtt,
    /// The offset of the queue in the buffer.
    pub(crate) offset: u64,
    pub(crate) doorbell_record: u64,
    /// Requests taken since the queue pair was reset.
    pub(crate) taken: u16,
    /// Requests posted, as of the last look at the doorbell record.
    pub(crate) posted: u16,
    bad_record: Option<u32>,
}

impl ReceiveQueue {
    /// An empty queue.
    pub(crate) fn new(
        qpn: u32,
        (log_size, log_stride): (u8, u8),
        buffer: Mtt,
        offset: u64,
        record: u64,
    ) -> Self {
        Self {
            qpn,
            log_size,
            log_stride,
            buffer,
            offset,
            doorbell_record: record,
            taken: 0,
            posted: 0,
            bad_record: None,
        }
    }

    /// Takes the next request, if there is one.
    pub(crate) fn take(&mut self, card: &mut Card) -> Option<Receive> {
        // Each time, not only when the queue looks empty, so that a record that goes back is noticed at once.
        self.look_at_doorbell_record(card);
        if self.taken == self.posted {
            return None;
        }
        let counter = self.taken;
        let slot = u64::from(counter) & ((1 << self.log_size) - 1);
        let mut bytes = vec![0; 1 << self.log_stride];
        let read = self.buffer.read(card, self.offset + (slot << self.log_stride), &mut bytes);
        self.taken = self.taken.wrapping_add(1);
        if read.is_err() {
            violate(
                card,
                Queue::Rq(self.qpn),
                Some(counter.into()),
                "the queue's memory cannot be read",
                &[],
            );
            return Some(Receive { index: counter, elements: Vec::new() });
        }
        Some(wqe::receive(card, Queue::Rq(self.qpn), counter, &bytes))
    }

    fn look_at_doorbell_record(&mut self, card: &mut Card) {
        let Ok(record) = card.memory.load32(self.doorbell_record) else { return };
        match advance(record, self.posted, self.taken, self.log_size) {
            Ok(posted) => self.posted = posted,
            Err(what) if self.bad_record != Some(record) => {
                self.bad_record = Some(record);
                violate(card, Queue::Rq(self.qpn), Some(self.taken.into()), what, &record.to_be_bytes());
            }
            Err(_) => {}
        }
    }
}

/// The number of posted requests by a doorbell record, in a queue with `posted` and `taken` requests so far.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn advance(record: u32, posted: u16, taken: u16, log_size: u8) -> Result<u16, String> {
    let Ok(now) = u16::try_from(record) else {
        return Err(format!("doorbell record with more than 16 bits: {record:#x}"));
    };
    let new = now.wrapping_sub(posted);
    if u32::from(posted.wrapping_sub(taken)) + u32::from(new) <= 1 << log_size {
        Ok(now)
    } else if new > 0x8000 {
        Err(format!("doorbell record goes back from {posted} to {now}"))
    } else {
        Err(format!("doorbell record runs past the queue: {now}, and {taken} of {posted} taken"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doorbell_records_go_forward_within_the_queue() {
        assert_eq!(advance(4, 0, 0, 2), Ok(4));
        assert_eq!(advance(2, 0xffff, 0xfffe, 2), Ok(2));
        assert!(advance(5, 0, 0, 2).unwrap_err().contains("past the queue"));
        assert!(advance(3, 4, 0, 2).unwrap_err().contains("goes back"));
        assert!(advance(0x1_0000, 0, 0, 2).unwrap_err().contains("16 bits"));
    }
}
