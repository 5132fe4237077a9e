//! Shared receive queues: their contexts and commands, and the list of requests in them.

use std::collections::BTreeMap;

use super::{Queue, rq, violate, wqe};
use crate::{
    be,
    mlx4::{
        card::Card,
        event::{Event, SrqEvent},
        mtt::Mtt,
        status::Status,
    },
    transport::Receive,
};

/// Bytes of a context (`struct mlx4_srq_context`, drivers/net/ethernet/mellanox/mlx4/mlx4.h).
pub(super) const CONTEXT: usize = 48;

/// Size of the segment before a request's elements, with the index of the next (`struct mlx4_wqe_srq_next_seg`).
const NEXT: usize = 16;
const STATE_READY: u8 = 1 << 4;
const STATE_ERROR: u8 = 2 << 4;

/// The shared receive queues of a card.
#[derive(Default)]
pub(crate) struct Srqs {
    queues: BTreeMap<u32, Srq>,
}

/// A shared receive queue.
pub(crate) struct Srq {
    srqn: u32,
    context: [u8; CONTEXT],
    log_size: u8,
    stride: usize,
    buffer: Mtt,
    doorbell_record: u64,
    /// The protection domain of the buffers that are posted to it.
    pub(crate) pd: u32,
    /// The completion queue of an XRC queue.
    pub(crate) cqn: u32,
    /// The XRC domain of an XRC queue.
    pub(crate) xrcd: u16,
    /// The index of the next request.
    head: u16,
    /// Requests taken since the queue was created.
    taken: u16,
    /// Requests posted, as of the last look at the doorbell record.
    posted: u16,
    /// An event is reported once when there are fewer requests than this.
    limit: u16,
    failed: bool,
    bad_record: Option<u32>,
}

impl Srqs {
    /// SW2HW_SRQ: passes queue `srqn` to the card.
    pub(crate) fn create(&mut self, card: &Card, srqn: u32, context: &[u8; CONTEXT]) -> Result<(), Status> {
        if srqn.checked_shr(card.tables.log_srqs.into()) != Some(0) {
            return Err(Status::BadIndex);
        }
        if self.queues.contains_key(&srqn) {
            return Err(Status::BadResState);
        }
        let doorbell_record = be::get64(context, 0x28);
        let (log_size, log_stride) = (context[0] & 0xf, (context[4] & 7) + 4);
        let page_shift = 12 + (context[0x10] & 0x3f);
        let unreachable = !doorbell_record.is_multiple_of(4) || !card.memory.contains(doorbell_record, 4);
        // The queue begins at the start of a page.
        if unreachable || log_stride < 5 || page_shift > 63 || context[0x08] != 0 {
            return Err(Status::BadParam);
        }
        let first = u64::from(context[0x13]) << 32 | u64::from(be::get32(context, 0x14));
        let queue = Srq {
            srqn,
            context: *context,
            log_size,
            stride: 1 << log_stride,
            buffer: Mtt { first, page_shift },
            doorbell_record,
            pd: be::get24(context, 0x18),
            cqn: be::get24(context, 0x08),
            xrcd: be::get16(context, 0x06),
            head: 0,
            taken: 0,
            posted: 0,
            limit: 0,
            failed: false,
            bad_record: None,
        };
        self.queues.insert(srqn, queue);
        Ok(())
    }

    /// HW2SW_SRQ: passes queue `srqn` back to the driver.
    pub(crate) fn destroy(&mut self, srqn: u32) -> Result<(), Status> {
        self.queues.remove(&srqn).map(|_| ()).ok_or(Status::BadResState)
    }

    /// QUERY_SRQ.
    pub(crate) fn query(&self, srqn: u32) -> Result<[u8; CONTEXT], Status> {
        let queue = self.queues.get(&srqn).ok_or(Status::BadResState)?;
        let mut context = queue.context;
        context[0] = queue.log_size | if queue.failed { STATE_ERROR } else { STATE_READY };
        be::put16(&mut context, 0x1c, queue.limit);
        be::put16(&mut context, 0x1e, queue.posted.wrapping_sub(queue.taken));
        be::put16(&mut context, 0x22, queue.taken);
        Ok(context)
    }

    /// ARM_SRQ: asks for an event when there are fewer than `limit` requests.
    pub(crate) fn arm(&mut self, card: &mut Card, srqn: u32, limit: u16) -> Result<(), Status> {
        let queue = self.queues.get_mut(&srqn).ok_or(Status::BadResState)?;
        queue.limit = limit;
        queue.look_at_doorbell_record(card);
        queue.check_limit(card);
        Ok(())
    }

    /// Queue `srqn`.
    pub(crate) fn get(&self, srqn: u32) -> Option<&Srq> {
        self.queues.get(&srqn)
    }

    /// Queue `srqn`, to take requests from.
    pub(crate) fn get_mut(&mut self, srqn: u32) -> Option<&mut Srq> {
        self.queues.get_mut(&srqn)
    }
}

impl Srq {
    /// Takes the next request, if there is one.
    pub(crate) fn take(&mut self, card: &mut Card) -> Option<Receive> {
        if self.failed {
            return None;
        }
        self.look_at_doorbell_record(card);
        if self.taken == self.posted {
            return None;
        }
        let index = self.head;
        let mut bytes = vec![0; self.stride];
        if self.buffer.read(card, u64::from(index) * self.stride as u64, &mut bytes).is_err() {
            violate(card, self.queue(), Some(index.into()), "the queue's memory cannot be read", &[]);
            return self.fail(card);
        }
        let next = be::get16(&bytes, 2);
        if bytes[..2] != [0; 2] || bytes[4..NEXT] != [0; 12] {
            let what = "reserved fields of the next segment are set";
            violate(card, self.queue(), Some(index.into()), what, &bytes[..NEXT]);
        }
        if u32::from(next) >= 1 << self.log_size {
            violate(
                card,
                self.queue(),
                Some(index.into()),
                "the next index is outside the queue",
                &bytes[..NEXT],
            );
            return self.fail(card);
        }
        if card.trace.on() {
            card.trace.line(format_args!("{} [{index}] taken, next {next}", self.queue()));
        }
        self.head = next;
        self.taken = self.taken.wrapping_add(1);
        self.check_limit(card);
        Some(wqe::receive(card, self.queue(), index, &bytes[NEXT..]))
    }

    fn queue(&self) -> Queue {
        Queue::Srq(self.srqn)
    }

    fn fail(&mut self, card: &mut Card) -> Option<Receive> {
        self.failed = true;
        card.events.push(Event::Srq { kind: SrqEvent::CatastrophicError, srqn: self.srqn });
        None
    }

    fn check_limit(&mut self, card: &mut Card) {
        if self.limit == 0 || self.posted.wrapping_sub(self.taken) >= self.limit {
            return;
        }
        // The driver may have posted more in the meantime.
        self.look_at_doorbell_record(card);
        if self.posted.wrapping_sub(self.taken) < self.limit {
            self.limit = 0;
            card.events.push(Event::Srq { kind: SrqEvent::LimitReached, srqn: self.srqn });
        }
    }

    fn look_at_doorbell_record(&mut self, card: &mut Card) {
        let Ok(record) = card.memory.load32(self.doorbell_record) else { return };
        match rq::advance(record, self.posted, self.taken, self.log_size) {
            Ok(posted) => self.posted = posted,
            Err(what) if self.bad_record != Some(record) => {
                self.bad_record = Some(record);
                violate(card, self.queue(), Some(self.taken.into()), what, &record.to_be_bytes());
            }
            Err(_) => {}
        }
    }
}
