//! The context of a queue pair, as the driver writes it (include/linux/mlx4/qp.h, `struct mlx4_qp_context`).

use std::time::Duration;

use crate::{
    be,
    fabric::{ethernet, port::LinkLayer},
    mlx4::{mtt::Mtt, rss},
    transport::{self, Attributes, EthernetPath, Global, Path, Progress, State, Vlan},
};

/// Size of a transition's mailbox: the mask of optional parameters, then the context.
pub(super) const MAILBOX: usize = 0x100;
/// The offset of the context in it.
pub(crate) const CONTEXT_AT: usize = 8;
/// Size of a context.
pub(crate) const CONTEXT: usize = MAILBOX - CONTEXT_AT;

/// The size byte of a queue that does not exist: the driver gives the stride 2^0.
const NO_QUEUE: u8 = 0xfc;

/// Optional parameters (`enum mlx4_qp_optpar`).
mod optional {
    pub(super) const ALTERNATE_PATH: u32 = 1 << 0;
    pub(super) const REMOTE_READ: u32 = 1 << 1;
    pub(super) const REMOTE_ATOMIC: u32 = 1 << 2;
    pub(super) const REMOTE_WRITE: u32 = 1 << 3;
    pub(super) const PKEY_INDEX: u32 = 1 << 4;
    pub(super) const QKEY: u32 = 1 << 5;
    pub(super) const RNR_TIMEOUT: u32 = 1 << 6;
    pub(super) const PRIMARY_PATH: u32 = 1 << 7;
    pub(super) const SEND_READS: u32 = 1 << 8;
    pub(super) const RECEIVE_READS: u32 = 1 << 9;
    pub(super) const MIGRATION: u32 = 1 << 10;
    pub(super) const RETRIES: u32 = 1 << 12;
    pub(super) const RNR_RETRIES: u32 = 1 << 13;
    pub(super) const ACK_TIMEOUT: u32 = 1 << 14;
    pub(super) const SCHEDULE: u32 = 1 << 16;
    pub(super) const COUNTER: u32 = 1 << 20;
}

/// Offsets in the context.
mod at {
    pub(super) const FLAGS: usize = 0x00;
    pub(super) const PD: usize = 0x04;
    pub(super) const MTU: usize = 0x08;
    pub(super) const RQ_SIZE: usize = 0x09;
    pub(super) const SQ_SIZE: usize = 0x0a;
    pub(super) const RESERVED_LKEY: usize = 0x0b;
    pub(super) const UAR: usize = 0x0c;
    pub(super) const LOCAL_QPN: usize = 0x10;
    pub(super) const REMOTE_QPN: usize = 0x14;
    pub(super) const PRIMARY_PATH: usize = 0x18;
    pub(super) const PARAMS1: usize = 0x70;
    pub(super) const NEXT_SEND_PSN: usize = 0x78;
    pub(super) const CQN_SEND: usize = 0x7c;
    pub(super) const LAST_ACKED_PSN: usize = 0x88;
    pub(super) const PARAMS2: usize = 0x90;
    pub(super) const RNR_NEXT_RECEIVE_PSN: usize = 0x94;
    pub(super) const XRCD: usize = 0x98;
    pub(super) const CQN_RECEIVE: usize = 0x9c;
    pub(super) const DOORBELL_RECORD: usize = 0xa0;
    pub(super) const QKEY: usize = 0xa8;
    pub(super) const SRQN: usize = 0xac;
    pub(super) const MSN: usize = 0xb0;
    pub(super) const RQ_COUNTER: usize = 0xb4;
    pub(super) const SQ_COUNTER: usize = 0xb6;
    pub(super) const PARAMS3: usize = 0xc0;
    pub(super) const LOG_PAGE_SIZE: usize = 0xc8;
    pub(super) const MTT_HIGH: usize = 0xcb;
    pub(super) const MTT_LOW: usize = 0xcc;
}

/// Size of a path (`struct mlx4_qp_path`).
const PATH: usize = 0x2c;
/// Offsets in a path.
mod path_at {
    pub(super) const PKEY_CHECK: usize = 0x02;
    pub(super) const PKEY_INDEX: usize = 0x03;
    pub(super) const COUNTER: usize = 0x04;
    pub(super) const GRH_PATH_BITS: usize = 0x05;
    pub(super) const DLID: usize = 0x06;
    pub(super) const ACK_TIMEOUT: usize = 0x08;
    pub(super) const SGID_INDEX: usize = 0x09;
    pub(super) const HOP_LIMIT: usize = 0x0b;
    pub(super) const TCLASS_FLOW: usize = 0x0c;
    pub(super) const DGID: usize = 0x10;
    pub(super) const SCHEDULE: usize = 0x20;
    pub(super) const VLAN_INDEX: usize = 0x21;
    pub(super) const FORCE: usize = 0x22;
    pub(super) const DMAC: usize = 0x26;
}

/// Offsets in the RSS context (`struct mlx4_rss_context`), which overlays the paths.
mod rss_at {
    pub(super) const BASE_QPN: usize = 0x3c;
    pub(super) const HASH_FUNCTION: usize = 0x46;
    pub(super) const FLAGS: usize = 0x47;
    pub(super) const KEY: usize = 0x48;
}

/// The path's packets are in a VLAN (`MLX4_FVL_FORCE_ETH_VLAN`).
const FORCE_VLAN: u8 = 1 << 3;

const RNR_TIMER: u32 = 0xff << 24;
const PSN: u32 = 0xff_ffff;
const RETRIES: u32 = 7 << 16;
const RNR_RETRIES: u32 = 7 << 13;
const READS: u32 = 7 << 21;
const REMOTE_READ: u32 = 1 << 15;
const REMOTE_WRITE: u32 = 1 << 14;
const REMOTE_ATOMIC: u32 = 1 << 13;
/// The path migration state "migrated", in which there is no migration.
const MIGRATED: u32 = 3 << 11;
const RSS: u32 = 1 << 13;
const INLINE_RECEIVES: u32 = 1 << 25;

/// The transport service (`MLX4_QP_ST_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Rc,
    Uc,
    Ud,
    Xrc,
    /// For management: the driver builds the headers, beginning with the link's.
    Mlx(LinkLayer),
    /// For a network device: whole Ethernet frames.
    Raw,
    /// Spreads Ethernet frames over [`Raw`](Self::Raw) queue pairs.
    Rss,
}

impl Kind {
    /// The kind in the terms of the transport.
    fn transport(self) -> transport::Kind {
        match self {
            Self::Rc => transport::Kind::Rc,
            Self::Uc => transport::Kind::Uc,
            Self::Ud => transport::Kind::Ud,
            Self::Xrc => transport::Kind::Xrc,
            Self::Mlx(_) => transport::Kind::Management,
            Self::Raw | Self::Rss => transport::Kind::Frames,
        }
    }

    /// Whether it needs no path MTU.
    pub(crate) fn has_no_mtu(self) -> bool {
        matches!(self, Self::Mlx(_)) || self.is_ethernet()
    }

    /// Whether it handles whole Ethernet frames.
    pub(crate) fn is_ethernet(self) -> bool {
        matches!(self, Self::Raw | Self::Rss)
    }
}

/// A queue pair's context.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Qpc {
    pub(crate) bytes: [u8; CONTEXT],
}

/// Decodes the path of a context.
fn path(bytes: &[u8]) -> Path {
    let tclass_flow = be::get32(bytes, path_at::TCLASS_FLOW);
    let global = || {
        let mut dgid = [0; 16];
        dgid.copy_from_slice(&bytes[path_at::DGID..path_at::DGID + 16]);
        Global {
            sgid_index: bytes[path_at::SGID_INDEX] & 0x7f,
            hop_limit: bytes[path_at::HOP_LIMIT],
            tclass: (tclass_flow >> 20 & 0xff) as u8,
            flow_label: tclass_flow & 0xf_ffff,
            dgid,
        }
    };
    Path {
        dlid: be::get16(bytes, path_at::DLID),
        path_bits: bytes[path_at::GRH_PATH_BITS] & 0x7f,
        sl: bytes[path_at::SCHEDULE] >> 2 & 0xf,
        pkey_index: bytes[path_at::PKEY_INDEX] & 0x7f,
        grh: (bytes[path_at::GRH_PATH_BITS] & 0x80 != 0).then(global),
        ethernet: EthernetPath {
            destination: ethernet::mac(bytes, path_at::DMAC),
            source_index: bytes[path_at::GRH_PATH_BITS] & 0x7f,
            vlan: if bytes[path_at::FORCE] & FORCE_VLAN != 0 {
                Vlan::Index(bytes[path_at::VLAN_INDEX], bytes[path_at::SCHEDULE] >> 3 & 7)
            } else {
                Vlan::None
            },
        },
    }
}

impl Qpc {
    /// The context in a mailbox.
    pub(crate) fn of(mailbox: &[u8; MAILBOX]) -> Self {
        let mut bytes = [0; CONTEXT];
        bytes.copy_from_slice(&mailbox[CONTEXT_AT..]);
        Self { bytes }
    }

    fn get(&self, offset: usize) -> u32 {
        be::get32(&self.bytes, offset)
    }

    fn merge(&mut self, from: &Self, offset: usize, mask: u32) {
        let value = self.get(offset) & !mask | from.get(offset) & mask;
        be::put32(&mut self.bytes, offset, value);
    }

    fn copy(&mut self, from: &Self, offset: usize, length: usize) {
        self.bytes[offset..offset + length].copy_from_slice(&from.bytes[offset..offset + length]);
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        match self.get(at::FLAGS) >> 16 & 0xf {
            0 => Some(Kind::Rc),
            1 => Some(Kind::Uc),
            3 => Some(Kind::Ud),
            6 => Some(Kind::Xrc),
            7 => Some(Kind::Mlx(LinkLayer::InfiniBand)),
            _ => None,
        }
    }

    /// Whether it spreads frames over other queue pairs (`MLX4_RSS_QPC_FLAG_OFFSET`).
    pub(crate) fn is_rss(&self) -> bool {
        self.get(at::FLAGS) & RSS != 0
    }

    /// How it spreads frames. The only supported function is the Toeplitz hash.
    pub(crate) fn rss(&self) -> Option<Rss> {
        let mut key = [0; rss::KEY];
        key.copy_from_slice(&self.bytes[rss_at::KEY..rss_at::KEY + rss::KEY]);
        let base_qpn = be::get24(&self.bytes, rss_at::BASE_QPN);
        let log_queues = self.bytes[rss_at::BASE_QPN] & 0x1f;
        let flags = self.bytes[rss_at::FLAGS];
        (self.bytes[rss_at::HASH_FUNCTION] == 1).then_some(Rss { base_qpn, log_queues, flags, key })
    }

    /// Whether received frames keep their VLAN tags.
    pub(crate) fn keeps_tags(&self) -> bool {
        self.get(at::PARAMS3) & 1 << 30 != 0
    }

    /// A requested feature that this card does not have.
    pub(crate) fn unsupported(&self, kind: Kind) -> Option<&'static str> {
        if self.is_rss() && kind != Kind::Rss {
            Some("receive side scaling")
        } else if self.get(at::PARAMS3) & INLINE_RECEIVES != 0 {
            Some("inline receives")
        } else {
            None
        }
    }

    /// Whether a transition with these optional parameters sets an alternate path or migrates to it.
    pub(crate) fn migrates(&self, mask: u32) -> bool {
        let state = self.get(at::FLAGS) & MIGRATED;
        mask & optional::ALTERNATE_PATH != 0 || mask & optional::MIGRATION != 0 && state != MIGRATED
    }

    /// The attributes of the queue pair, for the transport.
    pub(crate) fn attributes(&self, kind: Kind, has_receive_queue: bool) -> Attributes {
        let params1 = self.get(at::PARAMS1);
        let params2 = self.get(at::PARAMS2);
        let path_at = at::PRIMARY_PATH;
        let timeout = self.bytes[path_at + path_at::ACK_TIMEOUT] >> 3;
        Attributes {
            kind: kind.transport(),
            pd: be::get24(&self.bytes, at::PD),
            send_cqn: be::get24(&self.bytes, at::CQN_SEND),
            receive_cqn: be::get24(&self.bytes, at::CQN_RECEIVE),
            has_receive_queue,
            srqn: self.srqn(),
            xrcd: be::get16(&self.bytes, at::XRCD + 2),
            mtu: self.mtu(),
            max_message: 1 << (self.bytes[at::MTU] & 0x1f),
            qkey: self.get(at::QKEY),
            remote_qpn: be::get24(&self.bytes, at::REMOTE_QPN),
            path: path(&self.bytes[path_at..path_at + PATH]),
            send_psn: be::get24(&self.bytes, at::NEXT_SEND_PSN),
            receive_psn: be::get24(&self.bytes, at::RNR_NEXT_RECEIVE_PSN),
            rnr_timer: self.bytes[at::RNR_NEXT_RECEIVE_PSN] & 0x1f,
            ack_timeout: (timeout != 0).then(|| Duration::from_nanos(4096 << timeout)),
            retries: (params1 >> 16 & 7) as u8,
            rnr_retries: (params1 >> 13 & 7) as u8,
            reads_as_requester: 1 << (params1 >> 21 & 7),
            reads_as_responder: 1 << (params2 >> 21 & 7),
            remote_read: params2 & REMOTE_READ != 0,
            remote_write: params2 & REMOTE_WRITE != 0,
            remote_atomic: params2 & REMOTE_ATOMIC != 0,
        }
    }

    pub(crate) fn uar(&self) -> u32 {
        be::get24(&self.bytes, at::UAR)
    }

    /// The path MTU in bytes, 0 if it is not valid.
    pub(crate) fn mtu(&self) -> usize {
        match self.bytes[at::MTU] >> 5 {
            code @ 1..=5 => 128 << code,
            _ => 0,
        }
    }

    pub(crate) fn may_use_reserved_lkey(&self) -> bool {
        self.bytes[at::RESERVED_LKEY] & 1 << 4 != 0
    }

    pub(crate) fn may_fast_register(&self) -> bool {
        self.get(at::PARAMS1) & 1 << 11 != 0
    }

    /// Base-2 logarithms of the number of send queue entries and of their size, if there is a send queue.
    pub(crate) fn send_queue(&self) -> Option<(u8, u8)> {
        // The top bit only forbids prefetching.
        Self::size(self.bytes[at::SQ_SIZE], self.bytes[at::SQ_SIZE] & 0x7f)
    }

    /// Whether the card may read the send queue ahead of the posted requests.
    pub(crate) fn send_queue_is_prefetched(&self) -> bool {
        self.bytes[at::SQ_SIZE] & 0x80 == 0
    }

    /// Base-2 logarithms of the number of receive queue entries and of their size, if there is a receive queue.
    pub(crate) fn receive_queue(&self) -> Option<(u8, u8)> {
        let shared = self.srqn().is_some() || self.kind() == Some(Kind::Xrc);
        if shared { None } else { Self::size(self.bytes[at::RQ_SIZE], self.bytes[at::RQ_SIZE]) }
    }

    fn size(byte: u8, size: u8) -> Option<(u8, u8)> {
        (byte != NO_QUEUE).then_some((size >> 3 & 0x1f, (size & 7) + 4))
    }

    /// The buffer of both queues.
    pub(crate) fn buffer(&self) -> Mtt {
        let first = u64::from(self.bytes[at::MTT_HIGH]) << 32 | u64::from(self.get(at::MTT_LOW));
        Mtt { first, page_shift: 12 + (self.bytes[at::LOG_PAGE_SIZE] & 0x3f).min(51) }
    }

    pub(crate) fn doorbell_record(&self) -> u64 {
        be::get64(&self.bytes, at::DOORBELL_RECORD)
    }

    /// The shared receive queue, if it uses one.
    pub(crate) fn srqn(&self) -> Option<u32> {
        let srqn = self.get(at::SRQN);
        (srqn & 1 << 24 != 0).then_some(srqn & 0xff_ffff)
    }

    pub(crate) fn set_state(&mut self, state: State, qpn: u32) {
        let flags = self.get(at::FLAGS) & 0x0fff_ffff | state_number(state) << 28;
        be::put32(&mut self.bytes, at::FLAGS, flags);
        be::put32(&mut self.bytes, at::LOCAL_QPN, qpn);
    }

    /// Stores the counters that change while the queue pair works.
    pub(crate) fn set_progress(&mut self, progress: &Progress, rq_counter: u16, sq_counter: u16) {
        be::put24(&mut self.bytes, at::NEXT_SEND_PSN, progress.next_send_psn);
        be::put24(&mut self.bytes, at::LAST_ACKED_PSN, progress.last_acked_psn);
        be::put24(&mut self.bytes, at::RNR_NEXT_RECEIVE_PSN, progress.next_receive_psn);
        be::put32(&mut self.bytes, at::MSN, progress.msn & 0xff_ffff);
        be::put16(&mut self.bytes, at::RQ_COUNTER, rq_counter);
        be::put16(&mut self.bytes, at::SQ_COUNTER, sq_counter);
    }

    /// Copies what a transition to RTR sets: the path, the peer and the first receive PSN.
    pub(crate) fn take_ready_to_receive(&mut self, from: &Self) {
        self.copy(from, at::MTU, 1);
        self.merge(from, at::REMOTE_QPN, PSN);
        self.take_path(from);
        self.merge(from, at::RNR_NEXT_RECEIVE_PSN, RNR_TIMER | PSN);
        self.merge(from, at::PARAMS2, READS);
    }

    /// Copies what a transition to RTS sets.
    pub(crate) fn take_ready_to_send(&mut self, from: &Self) {
        self.merge(from, at::NEXT_SEND_PSN, PSN);
        self.merge(from, at::PARAMS1, RETRIES | RNR_RETRIES | READS | 0xf << 28);
        self.take_ack_timeout(from);
    }

    fn take_path(&mut self, from: &Self) {
        let keep =
            [path_at::PKEY_CHECK, path_at::PKEY_INDEX, path_at::COUNTER].map(|at| at::PRIMARY_PATH + at);
        let kept = keep.map(|at| self.bytes[at]);
        self.copy(from, at::PRIMARY_PATH, PATH);
        for (at, byte) in keep.into_iter().zip(kept) {
            self.bytes[at] = byte;
        }
    }

    fn take_ack_timeout(&mut self, from: &Self) {
        let at = at::PRIMARY_PATH + path_at::ACK_TIMEOUT;
        self.bytes[at] = self.bytes[at] & 7 | from.bytes[at] & 0xf8;
    }

    /// Copies the optional parameters in the mask.
    pub(crate) fn take_optional(&mut self, from: &Self, mask: u32) {
        let path = at::PRIMARY_PATH;
        if mask & optional::PRIMARY_PATH != 0 {
            self.take_path(from);
        }
        if mask & optional::PKEY_INDEX != 0 {
            self.copy(from, path + path_at::PKEY_CHECK, 2);
        }
        if mask & optional::COUNTER != 0 {
            self.copy(from, path + path_at::COUNTER, 1);
        }
        if mask & optional::SCHEDULE != 0 {
            self.copy(from, path + path_at::SCHEDULE, 1);
        }
        if mask & optional::ACK_TIMEOUT != 0 {
            self.take_ack_timeout(from);
        }
        if mask & optional::QKEY != 0 {
            self.copy(from, at::QKEY, 4);
        }
        let words = [
            (optional::REMOTE_READ, at::PARAMS2, REMOTE_READ),
            (optional::REMOTE_WRITE, at::PARAMS2, REMOTE_WRITE),
            (optional::REMOTE_ATOMIC, at::PARAMS2, REMOTE_ATOMIC),
            (optional::RECEIVE_READS, at::PARAMS2, READS),
            (optional::SEND_READS, at::PARAMS1, READS),
            (optional::RETRIES, at::PARAMS1, RETRIES),
            (optional::RNR_RETRIES, at::PARAMS1, RNR_RETRIES),
            (optional::RNR_TIMEOUT, at::RNR_NEXT_RECEIVE_PSN, RNR_TIMER),
        ];
        for (parameter, offset, bits) in words {
            if mask & parameter != 0 {
                self.merge(from, offset, bits);
            }
        }
    }
}

/// How a queue pair spreads frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rss {
    /// The first of the receiving queue pairs.
    pub(crate) base_qpn: u32,
    /// Base-2 logarithm of their number.
    pub(crate) log_queues: u8,
    /// What is hashed.
    pub(crate) flags: u8,
    /// The key of the hash.
    pub(crate) key: [u8; rss::KEY],
}

/// The number of a state (`MLX4_QP_STATE_*`).
fn state_number(state: State) -> u32 {
    match state {
        State::Reset => 0,
        State::Init => 1,
        State::Rtr => 2,
        State::Rts => 3,
        State::SqError => 4,
        State::SqDrained => 5,
        State::Error => 6,
        State::SqDraining => 7,
    }
}
