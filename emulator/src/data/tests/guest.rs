//! A guest in a file, with a driver that posts as libmlx4 does.

use std::time::Duration;

use super::super::{
    CQ_CONTEXT, Data, Next, QP_MAILBOX, QpCommand, SRQ_CONTEXT, UAR_BYTES,
    mpt::{INVALID_LKEY, Rights},
};
use crate::{
    be::{get16, get24, get32, put16, put24, put32, put64},
    card::{Card, Tables},
    event::Event,
    packet::Packet,
    port::Port,
    switch::{Delivery, Switch},
    trace::Trace,
};

pub(super) const PD: u32 = 5;
pub(super) const UAR: u32 = 3;
/// The XRC bit of queue pair numbers.
pub(super) const XRC: u32 = 1 << 23;
const PAGE: u64 = 4096;
const MEMORY: u64 = 32 << 20;
const MPT_BASE: u64 = 0;
const MTT_BASE: u64 = 0x10_0000;
const MC_BASE: u64 = 0x20_0000;
const ALL: u32 = 0xfc00;

/// Guests on a fabric.
pub(super) struct World {
    pub(super) guests: Vec<Guest>,
    pub(super) switch: Switch,
    pub(super) now: Duration,
    /// The packets that went, in order.
    pub(super) log: Vec<String>,
    /// Packets that cards have sent and the switch has not seen.
    on_the_way: Vec<(usize, Packet)>,
}

/// One guest with its card.
pub(super) struct Guest {
    pub(super) card: Card,
    pub(super) data: Data,
    free: u64,
    next_mtt: u64,
    next_number: u32,
}

/// Memory that is in one piece for the guest's program, and not for the card.
#[derive(Clone)]
pub(super) struct Buffer {
    pages: Vec<u64>,
    mtt: u64,
}

pub(super) struct Cq {
    pub(super) cqn: u32,
    buffer: Buffer,
    log_size: u8,
    pub(super) record: u64,
    pub(super) consumer: u32,
    pub(super) arm_sn: u32,
}

pub(super) struct Mr {
    pub(super) key: u32,
    pub(super) address: u64,
    buffer: Buffer,
}

pub(super) struct Srq {
    pub(super) srqn: u32,
    buffer: Buffer,
    log_size: u8,
    stride: u64,
    pub(super) record: u64,
    head: u16,
    tail: u16,
    counter: u16,
}

pub(super) struct Qp {
    pub(super) qpn: u32,
    buffer: Buffer,
    pub(super) log_sq: u8,
    pub(super) sq_stride: u64,
    sq_at: u64,
    log_rq: u8,
    rq_stride: u64,
    rq_at: u64,
    pub(super) record: u64,
    pub(super) head: u16,
    pub(super) rq_head: u16,
    pub(super) context: [u8; QP_MAILBOX],
}

/// What a queue pair is made of.
#[derive(Clone, Copy)]
pub(super) struct QpInit {
    pub(super) kind: u32,
    pub(super) send_cq: u32,
    pub(super) recv_cq: u32,
    pub(super) srqn: Option<u32>,
    pub(super) xrcd: u16,
    pub(super) access: u32,
    pub(super) mtu: u8,
    pub(super) timeout: u8,
    pub(super) retries: u32,
    pub(super) rnr_retries: u32,
    pub(super) reads: u32,
    pub(super) rnr_timer: u8,
    pub(super) qkey: u32,
    pub(super) kernel: bool,
    pub(super) no_prefetch: bool,
}

/// Remote read, write and atomic, as the context has them.
pub(super) const REMOTE_ALL: u32 = 0b111 << 13;

impl QpInit {
    pub(super) fn new(kind: u32, cqn: u32) -> Self {
        Self {
            kind,
            send_cq: cqn,
            recv_cq: cqn,
            srqn: None,
            xrcd: 0,
            access: REMOTE_ALL,
            mtu: 3,
            timeout: 14,
            retries: 7,
            rnr_retries: 7,
            reads: 2,
            rnr_timer: 12,
            qkey: 0x1111_1111,
            kernel: false,
            no_prefetch: false,
        }
    }
}

impl World {
    /// Guests with LIDs 1, 9, …
    pub(super) fn new(guests: usize) -> Self {
        let guests = (0..guests).map(|number| Guest::new(number as u16 * 8 + 1)).collect();
        let mut world = Self {
            guests,
            switch: Switch::default(),
            now: Duration::from_secs(1),
            log: Vec::new(),
            on_the_way: Vec::new(),
        };
        world.learn();
        world
    }

    pub(super) fn learn(&mut self) {
        for (number, guest) in self.guests.iter().enumerate() {
            self.switch.learn(number, &guest.card.port);
        }
    }

    /// Runs until nothing happens without time going on. When something will.
    pub(super) fn settle(&mut self) -> Option<Duration> {
        for _ in 0..100_000 {
            let mut next = self.switch.next().map_or(Next::Idle, Next::At);
            let mut deliveries = Vec::new();
            self.switch.due(self.now, &mut deliveries);
            for (number, guest) in self.guests.iter_mut().enumerate() {
                let mut out = Vec::new();
                next = next.or(guest.data.run(&mut guest.card, self.now, &mut out));
                self.on_the_way.extend(out.into_iter().map(|packet| (number, packet)));
            }
            for (number, packet) in self.on_the_way.drain(..) {
                self.log.push(format!("{:?}", packet.bth.opcode.operation));
                self.switch.send(self.now, number, packet, &mut deliveries);
            }
            let quiet = deliveries.is_empty();
            for Delivery { to, packet } in deliveries {
                let guest = &mut self.guests[to];
                let mut out = Vec::new();
                guest.data.receive(&mut guest.card, self.now, packet, &mut out);
                self.on_the_way.extend(out.into_iter().map(|packet| (to, packet)));
            }
            match next {
                _ if !quiet => {}
                Next::Now => {}
                Next::At(time) => return Some(time),
                Next::Idle => return None,
            }
        }
        panic!("no end");
    }

    /// Runs, and lets time go on, until nothing more happens or `time` has gone.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.settle() {
            if next > end {
                break;
            }
            self.now = next.max(self.now);
        }
        self.now = self.now.max(end);
    }

    pub(super) fn violations(&self) -> u64 {
        self.guests.iter().map(|guest| guest.card.violations.count()).sum()
    }

    /// Connects two queue pairs, and makes both ready to send.
    pub(super) fn connect(&mut self, one: (usize, &mut Qp), other: (usize, &mut Qp)) {
        let lids = [one.0, other.0].map(|guest| self.guests[guest].card.port.lid);
        let (a, b) = (one.1.qpn, other.1.qpn);
        self.guests[one.0].ready(one.1, b, lids[1]);
        self.guests[other.0].ready(other.1, a, lids[0]);
    }
}

impl Guest {
    fn new(lid: u16) -> Self {
        let mut port = Port::new(0x0002_c903_0000_0000 | u64::from(lid), lid, 1);
        port.enabled = true;
        let mut card = Card::new(&format!("hca{lid}"), port, Trace::default());
        let file = tempfile::tempfile().unwrap();
        file.set_len(MEMORY).unwrap();
        card.memory.map(0x1000_0000, MEMORY, file, 0).unwrap();
        card.tables = Tables {
            dmpt_base: MPT_BASE,
            log_mpts: 10,
            mtt_base: MTT_BASE,
            mc_base: MC_BASE,
            log_mc_entry: 9,
            log_mc_hash: 4,
            log_mc_table: 5,
            log_qps: 10,
            log_cqs: 10,
            log_srqs: 10,
            windows: true,
            ..Tables::default()
        };
        let mut guest =
            Self { card, data: Data::default(), free: 0x1000_0000, next_mtt: 0, next_number: 0x40 };
        for (base, bytes) in [(MPT_BASE, 0x1_0000), (MTT_BASE, 0x2_0000), (MC_BASE, 0x4000)] {
            for page in 0..bytes / PAGE {
                let dma = guest.page();
                guest.card.icm.map(base + page * PAGE, dma);
            }
        }
        // Entries that nobody has given to the card are the driver's.
        for index in 0..1 << 10 {
            let place = MPT_BASE + index * 64;
            guest.card.icm.write(&guest.card.memory, place, &[0xf0, 0, 0, 0]).unwrap();
        }
        guest
    }

    fn page(&mut self) -> u64 {
        self.free += PAGE;
        self.free - PAGE
    }

    fn number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn buffer(&mut self, bytes: u64) -> Buffer {
        let mut pages: Vec<u64> = (0..bytes.div_ceil(PAGE).max(1)).map(|_| self.page()).collect();
        pages.reverse();
        let mtt = self.next_mtt;
        for page in &pages {
            let place = MTT_BASE + self.next_mtt;
            self.card.icm.write(&self.card.memory, place, &(page | 1).to_be_bytes()).unwrap();
            self.next_mtt += 8;
        }
        Buffer { pages, mtt }
    }

    pub(super) fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min((PAGE - at % PAGE) as usize));
            let dma = buffer.pages[(at / PAGE) as usize] + at % PAGE;
            self.card.memory.write(dma, part).unwrap();
            at += part.len() as u64;
            rest = after;
        }
    }

    pub(super) fn read(&self, buffer: &Buffer, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let (mut at, mut rest) = (offset, &mut bytes[..]);
        while !rest.is_empty() {
            let (part, after) = rest.split_at_mut(rest.len().min((PAGE - at % PAGE) as usize));
            let dma = buffer.pages[(at / PAGE) as usize] + at % PAGE;
            self.card.memory.read(dma, part).unwrap();
            at += part.len() as u64;
            rest = after;
        }
        bytes
    }

    pub(super) fn cq(&mut self, log_size: u8) -> Cq {
        let cqn = self.number();
        let entry = if self.card.tables.cqe64 { 64 } else { 32 };
        let buffer = self.buffer(entry << log_size);
        let record = self.page();
        let mut context = [0; CQ_CONTEXT];
        put32(&mut context, 0x0c, u32::from(log_size) << 24 | UAR);
        context[0x17] = 7;
        put32(&mut context, 0x1c, buffer.mtt as u32);
        put64(&mut context, 0x38, record);
        self.data.sw2hw_cq(&mut self.card, cqn, &context).unwrap();
        Cq { cqn, buffer, log_size, record, consumer: 0, arm_sn: 1 }
    }

    /// The next entry: with 32 bytes, or the second half of 64.
    pub(super) fn poll(&self, cq: &mut Cq) -> Option<Vec<u8>> {
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
    pub(super) fn poll_all(&self, cq: &mut Cq) -> Vec<(u32, u16, Result<u8, u8>)> {
        std::iter::from_fn(|| self.poll(cq)).map(|bytes| outcome(&bytes)).collect()
    }

    pub(super) fn arm(&mut self, cq: &Cq, solicited: bool) {
        let command = (cq.arm_sn % 4) << 28 | if solicited { 1 } else { 2 } << 24;
        let index = cq.consumer & 0xff_ffff;
        self.card.memory.store32(cq.record + 4, command | index).unwrap();
        let mut doorbell = [0; 8];
        put32(&mut doorbell, 0, command | cq.cqn);
        put32(&mut doorbell, 4, index);
        self.uar(u64::from(UAR) * PAGE + 0x20, &doorbell);
    }

    /// Notifications of a queue that came.
    pub(super) fn notified(&mut self, cq: &mut Cq) -> usize {
        let before = self.card.events.len();
        self.card.events.retain(|event| !matches!(event, Event::Completion { cqn, .. } if *cqn == cq.cqn));
        let came = before - self.card.events.len();
        cq.arm_sn += came as u32;
        came
    }

    pub(super) fn resize(&mut self, cq: &mut Cq, log_size: u8) {
        let buffer = self.buffer(32 << log_size);
        let mut context = [0; CQ_CONTEXT];
        context[0x0c] = log_size;
        put32(&mut context, 0x1c, buffer.mtt as u32);
        self.data.modify_cq(&mut self.card, cq.cqn, 0, &context).unwrap();
        // As libmlx4 does: what was not polled goes over, one place further.
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

    pub(super) fn mr(&mut self, bytes: u64) -> Mr {
        self.mr_with(bytes, ALL, PD)
    }

    pub(super) fn mr_with(&mut self, bytes: u64, rights: u32, pd: u32) -> Mr {
        let buffer = self.buffer(bytes);
        let index = self.number();
        let address = 0x7f00_0000_0000 + u64::from(index) * 0x100_0000;
        let mut entry = [0; 64];
        put32(&mut entry, 0x00, 1 << 17 | 1 << 8 | rights);
        put32(&mut entry, 0x08, index);
        put32(&mut entry, 0x0c, pd | 3 << 24);
        put64(&mut entry, 0x10, address);
        put64(&mut entry, 0x18, bytes);
        put64(&mut entry, 0x2c, buffer.mtt);
        put32(&mut entry, 0x38, 12);
        self.set_mpt(index, &entry);
        Mr { key: index << 8, address, buffer }
    }

    pub(super) fn set_mpt(&self, index: u32, entry: &[u8; 64]) {
        self.card.icm.write(&self.card.memory, MPT_BASE + u64::from(index) * 64, entry).unwrap();
    }

    pub(super) fn mpt(&self, key: u32) -> [u8; 64] {
        let mut entry = [0; 64];
        let place = MPT_BASE + u64::from(key >> 8) * 64;
        self.card.icm.read(&self.card.memory, place, &mut entry).unwrap();
        entry
    }

    /// A window without a region; of type 2 if said.
    pub(super) fn window(&mut self, type_2: bool) -> u32 {
        let index = self.number();
        let mut entry = [0; 64];
        put32(&mut entry, 0x08, index);
        put32(&mut entry, 0x0c, PD);
        if type_2 {
            put32(&mut entry, 0x00, 3 << 28);
            put32(&mut entry, 0x04, 1 << 7);
            put32(&mut entry, 0x0c, PD | 3 << 24);
        }
        self.set_mpt(index, &entry);
        index << 8
    }

    pub(super) fn fill(&self, mr: &Mr, offset: u64, bytes: &[u8]) {
        self.write(&mr.buffer, offset, bytes);
    }

    pub(super) fn bytes(&self, mr: &Mr, offset: u64, length: usize) -> Vec<u8> {
        self.read(&mr.buffer, offset, length)
    }

    pub(super) fn srq(&mut self, log_size: u8, xrc: Option<(u16, u32)>) -> Srq {
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
        self.data.sw2hw_srq(&mut self.card, srqn, &context).unwrap();
        Srq { srqn, buffer, log_size, stride, record, head: 0, tail: size - 1, counter: 0 }
    }

    pub(super) fn post_srq(&self, srq: &mut Srq, sges: &[(u32, u64, u32)]) -> u16 {
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
    pub(super) fn scribble_srq(&self, srq: &Srq, index: u64, offset: u64, bytes: &[u8]) {
        self.write(&srq.buffer, index * srq.stride + offset, bytes);
    }

    pub(super) fn free_srq(&self, srq: &mut Srq, index: u16) {
        self.write(&srq.buffer, u64::from(srq.tail) * srq.stride + 2, &index.to_be_bytes());
        srq.tail = index;
    }

    /// A queue pair in INIT, with 32 entries of 128 bytes to send and 8 of 64 to receive.
    pub(super) fn qp(&mut self, init: QpInit) -> Qp {
        let (log_sq, sq_stride, log_rq, rq_stride) = (5_u8, 128_u64, 3_u8, 64_u64);
        let xrc = init.kind == 6;
        // The kernel gives the bit to the target side alone.
        let qpn = self.number() | if init.xrcd != 0 { XRC } else { 0 };
        let buffer = self.buffer((sq_stride << log_sq) + (rq_stride << log_rq));
        let record = self.page();
        let mut context = [0; QP_MAILBOX];
        let c = &mut context[8..];
        put32(c, 0x00, init.kind << 16 | 3 << 11);
        put32(c, 0x04, PD);
        c[0x08] = init.mtu << 5 | 31;
        c[0x09] = if init.srqn.is_some() || xrc { 0xfc } else { log_rq << 3 | 2 };
        c[0x0a] = u8::from(init.no_prefetch) << 7 | log_sq << 3 | 3;
        c[0x0b] = if init.kernel { 1 << 4 } else { 0 };
        put32(c, 0x0c, UAR);
        put32(c, 0x10, qpn);
        put32(c, 0x70, init.retries << 16 | init.rnr_retries << 13 | init.reads << 21);
        if init.kernel {
            let params1 = get32(c, 0x70);
            put32(c, 0x70, params1 | 1 << 11);
        }
        put32(c, 0x78, 0xff_fffe);
        put32(c, 0x7c, init.send_cq);
        put32(c, 0x90, init.reads << 21 | init.access);
        put32(c, 0x94, u32::from(init.rnr_timer) << 24 | 0xff_fffe);
        put32(c, 0x98, init.xrcd.into());
        put32(c, 0x9c, init.recv_cq);
        put64(c, 0xa0, record);
        put32(c, 0xa8, init.qkey);
        put32(c, 0xac, init.srqn.map_or(0, |srqn| 1 << 24 | srqn));
        put32(c, 0xcc, buffer.mtt as u32);
        c[0x18 + 0x08] = init.timeout << 3;
        let mut qp = Qp {
            qpn,
            buffer,
            log_sq,
            sq_stride,
            sq_at: 0,
            log_rq,
            rq_stride,
            rq_at: sq_stride << log_sq,
            record,
            head: 0,
            rq_head: 0,
            context,
        };
        self.own_send_queue(&qp);
        self.modify(&mut qp, QpCommand::RstToInit).unwrap();
        qp
    }

    /// As `mlx4_qp_init_sq_ownership` does.
    fn own_send_queue(&self, qp: &Qp) {
        for slot in 0..1 << qp.log_sq {
            let at = qp.sq_at + slot * qp.sq_stride;
            self.write(&qp.buffer, at, &[0x80, 0, 0, 0, 0, 0, 0, (qp.sq_stride / 16) as u8]);
            self.stamp(qp, slot);
        }
    }

    fn stamp(&self, qp: &Qp, slot: u64) {
        let at = qp.sq_at + slot * qp.sq_stride;
        let length = u64::from(self.read(&qp.buffer, at + 7, 1)[0] & 0x3f) * 16;
        for chunk in (64..length).step_by(64) {
            self.write(&qp.buffer, at + chunk, &[0xff; 4]);
        }
    }

    pub(super) fn modify(&mut self, qp: &mut Qp, command: QpCommand) -> Result<(), crate::status::Status> {
        self.data.modify_qp(&mut self.card, command, qp.qpn, &qp.context)
    }

    pub(super) fn state(&self, qp: &Qp) -> u8 {
        self.data.query_qp(qp.qpn).map_or(0, |mailbox| mailbox[8] >> 4)
    }

    /// Makes a queue pair ready to send to another.
    pub(super) fn ready(&mut self, qp: &mut Qp, remote: u32, lid: u16) {
        put24(&mut qp.context, 8 + 0x14, remote);
        put16(&mut qp.context, 8 + 0x18 + 0x06, lid);
        self.modify(qp, QpCommand::InitToRtr).unwrap();
        self.modify(qp, QpCommand::RtrToRts).unwrap();
    }

    fn uar(&mut self, offset: u64, bytes: &[u8]) {
        self.data.uar_write(&mut self.card, Duration::from_secs(1), offset, bytes);
    }

    pub(super) fn doorbell(&mut self, page: u32, qpn: u32) {
        self.uar(u64::from(page) * PAGE + 0x14, &(qpn << 8).to_be_bytes());
    }

    /// Writes a request into the queue, body first and owner bit last, without a doorbell.
    pub(super) fn place(&mut self, qp: &mut Qp, wqe: &Wqe) {
        let slot = u64::from(qp.head) & ((1 << qp.log_sq) - 1);
        let at = qp.sq_at + slot * qp.sq_stride;
        let bytes = wqe.bytes(qp);
        assert!(bytes.len() as u64 <= qp.sq_stride, "too long");
        self.write(&qp.buffer, at + 4, &bytes[4..]);
        self.write(&qp.buffer, at, &bytes[..4]);
        self.posted(qp);
    }

    /// A request was posted: the last entry of the headroom behind it is stamped.
    fn posted(&self, qp: &mut Qp) {
        qp.head = qp.head.wrapping_add(1);
        let spare = 2048 / qp.sq_stride + 1;
        self.stamp(qp, (u64::from(qp.head) + spare - 1) & ((1 << qp.log_sq) - 1));
    }

    /// Overwrites bytes of the request that is posted next, or of those after it.
    pub(super) fn scribble(&mut self, qp: &Qp, ahead: u16, offset: u64, bytes: &[u8]) {
        let slot = u64::from(qp.head.wrapping_add(ahead)) & ((1 << qp.log_sq) - 1);
        self.write(&qp.buffer, qp.sq_at + slot * qp.sq_stride + offset, bytes);
    }

    pub(super) fn send(&mut self, qp: &mut Qp, wqe: &Wqe) {
        self.place(qp, wqe);
        self.doorbell(UAR, qp.qpn);
    }

    /// Posts by BlueFlame: the request in the queue has its counter and queue pair, and is copied.
    pub(super) fn send_blueflame(&mut self, qp: &mut Qp, wqe: &Wqe, flip: Option<usize>) {
        let counter = qp.head;
        let slot = u64::from(counter) & ((1 << qp.log_sq) - 1);
        let at = qp.sq_at + slot * qp.sq_stride;
        let mut bytes = wqe.bytes(qp);
        let first = get32(&bytes, 0) | u32::from(counter) << 8;
        put32(&mut bytes, 0, first);
        let second = get32(&bytes, 4) | qp.qpn << 8;
        put32(&mut bytes, 4, second);
        self.write(&qp.buffer, at, &bytes);
        self.posted(qp);
        bytes.resize(bytes.len().next_multiple_of(64), 0);
        if let Some(at) = flip {
            bytes[at] ^= 1;
        }
        for (number, piece) in bytes.chunks(8).enumerate() {
            self.uar(UAR_BYTES + u64::from(UAR) * PAGE + number as u64 * 8, piece);
        }
    }

    pub(super) fn recv(&mut self, qp: &mut Qp, sges: &[(u32, u64, u32)]) {
        let slot = u64::from(qp.rq_head) & ((1 << qp.log_rq) - 1);
        self.write(&qp.buffer, qp.rq_at + slot * qp.rq_stride, &elements(sges, 4));
        qp.rq_head = qp.rq_head.wrapping_add(1);
        self.card.memory.store32(qp.record, qp.rq_head.into()).unwrap();
    }

    /// The pages of a region.
    pub(super) fn translation(&self, mr: &Mr) -> Vec<u64> {
        mr.buffer.pages.clone()
    }

    pub(super) fn write_mcg(&self, index: u64, mgid: &[u8; 16], qpns: &[u32]) {
        let mut entry = [0; 512];
        put24(&mut entry, 4, qpns.len() as u32);
        entry[16..32].copy_from_slice(mgid);
        for (at, qpn) in qpns.iter().enumerate() {
            put32(&mut entry, 32 + 4 * at, *qpn);
        }
        self.card.icm.write(&self.card.memory, MC_BASE + index * 512, &entry).unwrap();
    }
}

fn elements(sges: &[(u32, u64, u32)], room: usize) -> Vec<u8> {
    let mut bytes = vec![0; 16 * (sges.len() + usize::from(sges.len() < room))];
    for (at, (lkey, address, length)) in sges.iter().enumerate() {
        put32(&mut bytes, at * 16, *length);
        put32(&mut bytes, at * 16 + 4, *lkey);
        put64(&mut bytes, at * 16 + 8, *address);
    }
    if sges.len() < room {
        put32(&mut bytes, sges.len() * 16 + 4, INVALID_LKEY);
    }
    bytes
}

pub(super) fn outcome(bytes: &[u8]) -> (u32, u16, Result<u8, u8>) {
    let opcode = bytes[31] & 0x1f;
    let result = if opcode == 0x1e { Err(bytes[27]) } else { Ok(opcode) };
    (get24(bytes, 0), get16(bytes, 24), result)
}

/// A request to be posted.
#[derive(Clone, Default)]
pub(super) struct Wqe {
    pub(super) opcode: u8,
    /// Signaled and solicited, as the control segment has them.
    pub(super) flags: u32,
    pub(super) fence: bool,
    pub(super) immediate: u32,
    pub(super) segments: Vec<u8>,
}

impl Wqe {
    pub(super) fn new(opcode: u8) -> Self {
        Self { opcode, flags: 3 << 2, ..Self::default() }
    }

    pub(super) fn unsignaled(mut self) -> Self {
        self.flags &= !(3 << 2);
        self
    }

    pub(super) fn solicited(mut self) -> Self {
        self.flags |= 1 << 1;
        self
    }

    pub(super) fn fenced(mut self) -> Self {
        self.fence = true;
        self
    }

    pub(super) fn immediate(mut self, immediate: u32) -> Self {
        self.immediate = immediate;
        self
    }

    pub(super) fn raddr(mut self, rkey: u32, address: u64) -> Self {
        self.segments.extend(address.to_be_bytes());
        self.segments.extend(rkey.to_be_bytes());
        self.segments.extend([0; 4]);
        self
    }

    pub(super) fn words(mut self, words: &[u64]) -> Self {
        self.segments.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        self
    }

    pub(super) fn sge(mut self, lkey: u32, address: u64, length: u32) -> Self {
        let length = if length == 0 { 0x8000_0000 } else { length };
        self.segments.extend(length.to_be_bytes());
        self.segments.extend(lkey.to_be_bytes());
        self.segments.extend(address.to_be_bytes());
        self
    }

    /// Inline data, cut at boundaries of 64 bytes.
    pub(super) fn inline(mut self, mut data: &[u8]) -> Self {
        while !data.is_empty() {
            let at = 16 + self.segments.len() + 4;
            let part = data.len().min(64 - at % 64);
            self.segments.extend((1_u32 << 31 | part as u32).to_be_bytes());
            self.segments.extend(&data[..part]);
            data = &data[part..];
        }
        self.segments.resize(self.segments.len().next_multiple_of(16), 0);
        self
    }

    fn bytes(&self, qp: &Qp) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        let owner = if u32::from(qp.head) & 1 << qp.log_sq == 0 { 0 } else { 1 << 31 };
        put32(&mut bytes, 0, owner | u32::from(self.opcode));
        bytes[7] = (1 + self.segments.len() / 16) as u8 | if self.fence { 0x40 } else { 0 };
        put32(&mut bytes, 8, self.flags);
        put32(&mut bytes, 12, self.immediate);
        bytes.extend(&self.segments);
        bytes
    }
}

/// Rights of regions.
pub(super) fn rights(rights: &[Rights]) -> u32 {
    rights.iter().fold(0, |all, right| all | right.0)
}
