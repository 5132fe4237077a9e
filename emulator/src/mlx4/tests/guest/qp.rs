//! Queue pairs: creating, modifying, posting.

use super::{
    super::super::{data_path::DataPath, qpc::MAILBOX as QP_MAILBOX, status::Status, uar::UAR_BYTES},
    Buffer, Guest, PAGE, PD, UAR, XRC,
    wqe::{Wqe, elements},
};
use crate::be::{get32, put16, put24, put32, put64};
use crate::transport::Transition;

pub(crate) struct Qp {
    pub(crate) qpn: u32,
    buffer: Buffer,
    pub(crate) log_sq: u8,
    pub(crate) sq_stride: u64,
    sq_at: u64,
    log_rq: u8,
    rq_stride: u64,
    rq_at: u64,
    pub(crate) record: u64,
    pub(crate) head: u16,
    pub(crate) rq_head: u16,
    pub(crate) context: [u8; QP_MAILBOX],
}

/// The attributes of a new queue pair.
#[derive(Clone, Copy)]
pub(crate) struct QpInit {
    pub(crate) kind: u32,
    pub(crate) send_cq: u32,
    pub(crate) recv_cq: u32,
    pub(crate) srqn: Option<u32>,
    pub(crate) xrcd: u16,
    pub(crate) access: u32,
    pub(crate) mtu: u8,
    pub(crate) timeout: u8,
    pub(crate) retries: u32,
    pub(crate) rnr_retries: u32,
    pub(crate) reads: u32,
    pub(crate) rnr_timer: u8,
    pub(crate) qkey: u32,
    pub(crate) kernel: bool,
    pub(crate) no_prefetch: bool,
}

/// Remote read, write and atomic, as the context has them.
const REMOTE_ALL: u32 = 0b111 << 13;

impl QpInit {
    pub(crate) fn new(kind: u32, cqn: u32) -> Self {
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

impl Guest {
    /// A queue pair in INIT, with 32 entries of 128 bytes to send and 8 of 64 to receive.
    pub(crate) fn qp(&mut self, init: QpInit) -> Qp {
        let (log_sq, sq_stride, log_rq, rq_stride) = (5_u8, 128_u64, 3_u8, 64_u64);
        let xrc = init.kind == 6;
        // The kernel sets the bit for the target side only.
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
        self.modify(&mut qp, Transition::RstToInit).unwrap();
        qp
    }

    /// Does what `mlx4_qp_init_sq_ownership` does.
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

    /// Carries out a transition with this mailbox.
    pub(crate) fn modify_qp(
        &mut self,
        transition: Transition,
        modifier: u32,
        mailbox: &[u8; QP_MAILBOX],
    ) -> Result<(), Status> {
        let DataPath { cqs, srqs, qps, .. } = &mut self.data;
        qps.modify(&mut self.card, (cqs, srqs), self.now, transition, modifier, mailbox)
    }

    pub(crate) fn modify(&mut self, qp: &mut Qp, command: Transition) -> Result<(), Status> {
        self.modify_qp(command, qp.qpn, &qp.context)
    }

    pub(crate) fn state(&self, qp: &Qp) -> u8 {
        self.data.qps.query(qp.qpn).map_or(0, |mailbox| mailbox[8] >> 4)
    }

    /// Makes a queue pair ready to send to another.
    pub(crate) fn ready(&mut self, qp: &mut Qp, remote: u32, lid: u16) {
        put24(&mut qp.context, 8 + 0x14, remote);
        put16(&mut qp.context, 8 + 0x18 + 0x06, lid);
        self.modify(qp, Transition::InitToRtr).unwrap();
        self.modify(qp, Transition::RtrToRts).unwrap();
    }

    pub(crate) fn doorbell(&mut self, page: u32, qpn: u32) {
        self.uar(u64::from(page) * PAGE + 0x14, &(qpn << 8).to_be_bytes());
    }

    /// Writes a request into the queue, body first and owner bit last, without a doorbell.
    pub(crate) fn place(&mut self, qp: &mut Qp, wqe: &Wqe) {
        let slot = u64::from(qp.head) & ((1 << qp.log_sq) - 1);
        let at = qp.sq_at + slot * qp.sq_stride;
        let bytes = wqe.bytes(qp);
        assert!(bytes.len() as u64 <= qp.sq_stride, "too long");
        self.write(&qp.buffer, at + 4, &bytes[4..]);
        self.write(&qp.buffer, at, &bytes[..4]);
        self.posted(qp);
    }

    /// Stamps the last entry of the headroom after a request was posted.
    fn posted(&self, qp: &mut Qp) {
        qp.head = qp.head.wrapping_add(1);
        let spare = 2048 / qp.sq_stride + 1;
        self.stamp(qp, (u64::from(qp.head) + spare - 1) & ((1 << qp.log_sq) - 1));
    }

    /// Overwrites bytes of the request that is posted next, or of those after it.
    pub(crate) fn scribble(&mut self, qp: &Qp, ahead: u16, offset: u64, bytes: &[u8]) {
        let slot = u64::from(qp.head.wrapping_add(ahead)) & ((1 << qp.log_sq) - 1);
        self.write(&qp.buffer, qp.sq_at + slot * qp.sq_stride + offset, bytes);
    }

    pub(crate) fn send(&mut self, qp: &mut Qp, wqe: &Wqe) {
        self.place(qp, wqe);
        self.doorbell(UAR, qp.qpn);
    }

    /// Posts by BlueFlame: adds counter and queue pair to the request in the queue, and copies it.
    pub(crate) fn send_blueflame(&mut self, qp: &mut Qp, wqe: &Wqe, flip: Option<usize>) {
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

    pub(crate) fn recv(&mut self, qp: &mut Qp, sges: &[(u32, u64, u32)]) {
        let slot = u64::from(qp.rq_head) & ((1 << qp.log_rq) - 1);
        self.write(&qp.buffer, qp.rq_at + slot * qp.rq_stride, &elements(sges, 4));
        qp.rq_head = qp.rq_head.wrapping_add(1);
        self.card.memory.store32(qp.record, qp.rq_head.into()).unwrap();
    }

    pub(crate) fn lose_queues(&self, qp: &Qp) {
        self.lose(&qp.buffer);
    }
}
