//! Shared receive queues.

use super::{
    super::super::mpt::INVALID_LKEY, super::super::srq::CONTEXT as SRQ_CONTEXT, Buffer, Guest, PD,
    wqe::elements,
};
use crate::be::{get16, put16, put32, put64};

pub(crate) struct Srq {
    pub(crate) srqn: u32,
    buffer: Buffer,
    log_size: u8,
    stride: u64,
    pub(crate) record: u64,
    head: u16,
    tail: u16,
    counter: u16,
}

impl Guest {
    pub(crate) fn srq(&mut self, log_size: u8, xrc: Option<(u16, u32)>) -> Srq {
        let srqn = self.number();
        let stride = 64_u64;
        let buffer = self.buffer(stride << log_size);
        let record = self.page();
        let (xrcd, cqn) = xrc.unwrap_or((0, 0));
        let mut context = [0; SRQ_CONTEXT];
        put32(&mut context, 0x00, u32::from(log_size) << 24 | srqn);
        context[0x04] = 2;
        put16(&mut context, 0x06, xrcd);
        put32(&mut context, 0x08, cqn);
        put32(&mut context, 0x14, buffer.mtt as u32);
        put32(&mut context, 0x18, PD);
        put64(&mut context, 0x28, record);
        let size = 1_u16 << log_size;
        for index in 0..size {
            let mut entry = [0; 64];
            put16(&mut entry, 2, (index + 1) % size);
            for element in 1..4 {
                put32(&mut entry, element * 16 + 4, INVALID_LKEY);
            }
            self.write(&buffer, u64::from(index) * stride, &entry);
        }
        self.data.srqs.create(&self.card, srqn, &context).unwrap();
        Srq { srqn, buffer, log_size, stride, record, head: 0, tail: size - 1, counter: 0 }
    }

    pub(crate) fn post_srq(&self, srq: &mut Srq, sges: &[(u32, u64, u32)]) -> u16 {
        assert!(srq.head != srq.tail && u32::from(srq.head) < 1 << srq.log_size, "full");
        let index = srq.head;
        let at = u64::from(index) * srq.stride;
        srq.head = get16(&self.read(&srq.buffer, at, 4), 2);
        self.write(&srq.buffer, at + 16, &elements(sges, 3));
        srq.counter = srq.counter.wrapping_add(1);
        self.card.memory.store32(srq.record, srq.counter.into()).unwrap();
        index
    }

    /// Overwrites bytes of an entry of a shared receive queue.
    pub(crate) fn scribble_srq(&self, srq: &Srq, index: u64, offset: u64, bytes: &[u8]) {
        self.write(&srq.buffer, index * srq.stride + offset, bytes);
    }

    pub(crate) fn free_srq(&self, srq: &mut Srq, index: u16) {
        self.write(&srq.buffer, u64::from(srq.tail) * srq.stride + 2, &index.to_be_bytes());
        srq.tail = index;
    }

    pub(crate) fn lose_srq(&self, srq: &Srq) {
        self.lose(&srq.buffer);
    }
}
