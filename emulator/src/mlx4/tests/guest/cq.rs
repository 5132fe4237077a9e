//! Completion queues, polled, armed and resized as by libmlx4.

use super::{super::super::cq::CONTEXT as CQ_CONTEXT, Buffer, Guest, PAGE, UAR};
use crate::{
    be::{get16, get24, put32, put64},
    mlx4::event::Event,
};

pub(crate) struct Cq {
    pub(crate) cqn: u32,
    buffer: Buffer,
    log_size: u8,
    pub(crate) record: u64,
    pub(crate) consumer: u32,
    pub(crate) arm_sn: u32,
}

impl Guest {
    pub(crate) fn cq(&mut self, log_size: u8) -> Cq {
        let cqn = self.number();
        let entry = if self.card.tables.cqe64 { 64 } else { 32 };
        let buffer = self.buffer(entry << log_size);
        let record = self.page();
        let mut context = [0; CQ_CONTEXT];
        put32(&mut context, 0x0c, u32::from(log_size) << 24 | UAR);
        context[0x17] = 7;
        put32(&mut context, 0x1c, buffer.mtt as u32);
        put64(&mut context, 0x38, record);
        self.data.cqs.create(&mut self.card, cqn, &context).unwrap();
        Cq { cqn, buffer, log_size, record, consumer: 0, arm_sn: 1 }
    }

    /// The next entry: with 32 bytes, or the second half of 64.
    pub(crate) fn poll(&self, cq: &mut Cq) -> Option<Vec<u8>> {
        let size = 1_u32 << cq.log_size;
        let (entry, skip) = if self.card.tables.cqe64 { (64, 32) } else { (32, 0) };
        let at = u64::from(cq.consumer & (size - 1)) * entry + skip;
        let bytes = self.read(&cq.buffer, at, 32);
        if (bytes[31] & 0x80 != 0) != (cq.consumer & size != 0) {
            return None;
        }
        cq.consumer = cq.consumer.wrapping_add(1);
        self.card.memory.store32(cq.record, cq.consumer & 0xff_ffff).unwrap();
        Some(bytes)
    }

    /// All entries: queue pair, request, `Ok(opcode)` or `Err(syndrome)`.
    pub(crate) fn poll_all(&self, cq: &mut Cq) -> Vec<(u32, u16, Result<u8, u8>)> {
        std::iter::from_fn(|| self.poll(cq)).map(|bytes| outcome(&bytes)).collect()
    }

    pub(crate) fn arm(&mut self, cq: &Cq, solicited: bool) {
        let command = (cq.arm_sn % 4) << 28 | if solicited { 1 } else { 2 } << 24;
        let index = cq.consumer & 0xff_ffff;
        self.card.memory.store32(cq.record + 4, command | index).unwrap();
        let mut doorbell = [0; 8];
        put32(&mut doorbell, 0, command | cq.cqn);
        put32(&mut doorbell, 4, index);
        self.uar(u64::from(UAR) * PAGE + 0x20, &doorbell);
    }

    /// Takes the notifications of a queue.
    pub(crate) fn notified(&mut self, cq: &mut Cq) -> usize {
        let before = self.card.events.len();
        self.card.events.retain(|event| !matches!(event, Event::Completion { cqn, .. } if *cqn == cq.cqn));
        let came = before - self.card.events.len();
        cq.arm_sn += came as u32;
        came
    }

    pub(crate) fn resize(&mut self, cq: &mut Cq, log_size: u8) {
        let buffer = self.buffer(32 << log_size);
        let mut context = [0; CQ_CONTEXT];
        context[0x0c] = log_size;
        put32(&mut context, 0x1c, buffer.mtt as u32);
        self.data.cqs.modify(&mut self.card, self.now, cq.cqn, 0, &context).unwrap();
        // Like libmlx4: entries that were not polled are copied, one index further.
        let old = 1_u32 << cq.log_size;
        let new = 1_u32 << log_size;
        let mut index = cq.consumer;
        loop {
            let mut bytes = self.read(&cq.buffer, u64::from(index & (old - 1)) * 32, 32);
            if bytes[31] & 0x1f == 0x16 {
                break;
            }
            let owner = if (index + 1) & new != 0 { 0x80 } else { 0 };
            bytes[31] = bytes[31] & 0x7f | owner;
            self.write(&buffer, u64::from((index + 1) & (new - 1)) * 32, &bytes);
            index += 1;
        }
        cq.consumer += 1;
        cq.buffer = buffer;
        cq.log_size = log_size;
        self.card.memory.store32(cq.record, cq.consumer & 0xff_ffff).unwrap();
    }
}

pub(crate) fn outcome(bytes: &[u8]) -> (u32, u16, Result<u8, u8>) {
    let opcode = bytes[31] & 0x1f;
    let result = if opcode == 0x1e { Err(bytes[27]) } else { Ok(opcode) };
    (get24(bytes, 0), get16(bytes, 24), result)
}
