//! The bytes of a slot, for every operation and every kind of data.
//!
//! What is expected is put together from the C declarations of `rdma/rdma_user_rxe.h` (their offsets stand in `mock.rs`), the
//! opcodes of `enum ib_uverbs_wr_opcode` and the flags of `enum ib_send_flags`, all as numbers. Bytes that no line of
//! a test names must be zero, up to the end of the data; the rest of the slot must be untouched.

use super::super::mock::queue_buf::DATA;
use super::super::mock::{Entry, recv_wqe, send_wqe as at};
use super::*;
use crate::types::{Lkey, Qkey, Qpn, Remote, Rkey, SendFlags, UdAddr};

const SLOT: usize = 512;
const UNTOUCHED: u8 = 0xee;
const LIMITS: Limits = Limits::new(4, 256);

const REMOTE: Remote = Remote { addr: 0x7f00_1122_3344_5568, rkey: Rkey(0xaabb_ccdd) };
const SGES: [Sge; 3] = [
    Sge { addr: 0x1000_0000_0001, length: 8, lkey: Lkey(0x0101) },
    Sge { addr: 0x1000_0000_0002, length: 0x20, lkey: Lkey(0x0202) },
    Sge { addr: u64::MAX, length: 0x300, lkey: Lkey(u32::MAX) },
];
const INLINE: [u8; 13] = *b"thirteen byte";

type Sge = crate::types::Sge;

/// The slot after `wr` was written at its place, which is not the first.
fn slot_of<const N: usize>(
    write: impl FnOnce(&mut Slots<N>, u32) -> Result<(), PostErrorKind>,
) -> Result<Entry, PostErrorKind> {
    let mut region = Region::heap(DATA + 4 * SLOT);
    region.write_bytes(DATA, &[UNTOUCHED; 4 * SLOT]);
    let mut slots = Slots::behind_header(region, 4, SLOT.trailing_zeros()).unwrap();
    write(&mut slots, 1)?;
    let mut bytes = [0; 4 * SLOT];
    slots.region().read_bytes(DATA, &mut bytes);
    let around = bytes[..SLOT].iter().chain(&bytes[2 * SLOT..]);
    assert!(around.copied().all(|byte| byte == UNTOUCHED), "the neighbours are left alone");
    Ok(Entry(bytes[SLOT..2 * SLOT].to_vec()))
}

fn written(wr: &SendWr<'_>, ssn: u32) -> Result<Entry, PostErrorKind> {
    slot_of(|slots, at| write_send(slots, at, wr, &LIMITS, ssn))
}

/// A slot of which `used` bytes are zero and the rest is untouched.
fn blank(used: usize) -> Entry {
    Entry([vec![0; used], vec![UNTOUCHED; SLOT - used]].concat())
}

/// `struct rxe_sge`: address, length, key.
fn with_sges(mut entry: Entry, mut place: usize, sges: &[Sge]) -> Entry {
    for sge in sges {
        entry = entry.with_u64(place, sge.addr).with(place + 8, sge.length).with(place + 12, sge.lkey.0);
        place += 16;
    }
    entry
}

/// Each operation, its opcode, and what it adds to a blank entry.
type Operation = (SendOp, u32, fn(Entry) -> Entry);

const OPERATIONS: [Operation; 8] = [
    (SendOp::Write(REMOTE), 0, rdma),
    (SendOp::WriteWithImm(REMOTE, 0x0102_0304), 1, |e| rdma(e).with_bytes(at::EX, &[1, 2, 3, 4])),
    (SendOp::Send, 2, plain),
    (SendOp::SendWithImm(0xfefd_fcfb), 3, |e| plain(e).with_bytes(at::EX, &[0xfe, 0xfd, 0xfc, 0xfb])),
    (SendOp::Read(REMOTE), 4, rdma),
    (SendOp::CompareSwap { remote: REMOTE, compare: 0x1111, swap: u64::MAX - 1 }, 5, |e| {
        atomic(e).with_u64(at::COMPARE_ADD, 0x1111).with_u64(at::SWAP, u64::MAX - 1)
    }),
    (SendOp::FetchAdd { remote: REMOTE, add: 0x8000_0000_0000_0001 }, 6, |e| {
        atomic(e).with_u64(at::COMPARE_ADD, 0x8000_0000_0000_0001)
    }),
    (SendOp::SendWithInv(Rkey(0x0a0b_0c0d)), 9, |e| plain(e).with(at::EX, 0x0a0b_0c0d)),
];

/// The driver does not read what such an operation has no use for.
fn plain(entry: Entry) -> Entry {
    entry.with_bytes(at::REMOTE_ADDR, &[UNTOUCHED; size_of::<WrUnion>()])
}

fn rdma(entry: Entry) -> Entry {
    entry
        .with_u64(at::REMOTE_ADDR, REMOTE.addr)
        .with(at::RDMA_RKEY, REMOTE.rkey.0)
        .with_u64(at::IOVA, REMOTE.addr)
}

fn atomic(entry: Entry) -> Entry {
    entry
        .with_u64(at::REMOTE_ADDR, REMOTE.addr)
        .with(at::ATOMIC_RKEY, REMOTE.rkey.0)
        .with_u64(at::IOVA, REMOTE.addr)
}

fn expected(wr: &SendWr<'_>, operation: &Operation, ssn: u32, flags: u32) -> Entry {
    let sges = wr.data.sges();
    let inline: &[u8] = if let Data::Inline(bytes) = wr.data { bytes } else { &[] };
    let length = wr.data.length() as u32;
    let entry = blank(at::DATA + 16 * sges.len() + inline.len())
        .with_u64(at::WR_ID, wr.wr_id)
        .with(at::OPCODE, operation.1)
        .with(at::SEND_FLAGS, flags)
        .with(at::SSN, ssn)
        .with(at::LENGTH, length)
        .with(at::RESID, length)
        .with(at::NUM_SGE, sges.len() as u32)
        .with_bytes(at::DATA, inline);
    with_sges(operation.2(entry), at::DATA, sges)
}

#[test]
fn every_operation_with_every_kind_of_data() {
    let mut compared = 0;
    // Miri judges how a slot is written, in which all operations are alike.
    let step = if cfg!(miri) { 5 } else { 1 };
    for (n, operation) in OPERATIONS.iter().enumerate().step_by(step) {
        let ssn = 0xffff_fff0 + n as u32;
        let wr = SendWr::new(0x0123_4567_89ab_cdef, operation.0);
        let atomic = operation.0.is_atomic();
        let reads = atomic || matches!(operation.0, SendOp::Read(_));
        let kinds = [wr, wr.sge(SGES[0]), wr.sges(&[]), wr.sges(&SGES[..2]), wr.sges(&SGES)];
        for wr in kinds {
            let want = match wr.data.length() {
                8 => Ok(expected(&wr, operation, ssn, 0)),
                _ if atomic => Err(PostErrorKind::AtomicLength),
                _ => Ok(expected(&wr, operation, ssn, 0)),
            };
            assert_eq!(written(&wr, ssn), want, "{wr:?}");
            compared += usize::from(want.is_ok());
        }
        // IB_SEND_INLINE is 8.
        for bytes in [&INLINE[..], &[]] {
            let wr = wr.inline(bytes);
            let want = if reads {
                Err(PostErrorKind::InlineNotAllowed)
            } else {
                compared += 1;
                Ok(expected(&wr, operation, ssn, 8))
            };
            assert_eq!(written(&wr, ssn), want, "{wr:?}");
        }
    }
    if !cfg!(miri) {
        assert_eq!(compared, 6 * 5 + 2 + 5 * 2, "operations and kinds that go together");
    }
}

/// `IB_SEND_FENCE`, `IB_SEND_SIGNALED`, `IB_SEND_SOLICITED`
#[test]
fn flags_are_those_of_the_kernel() {
    let send = &OPERATIONS[2];
    let wr = SendWr::send(1);
    let table = [
        (wr.fence(), 1),
        (wr.signaled(), 2),
        (wr.solicited(), 4),
        (wr.fence().signaled().solicited().inline(&INLINE), 15),
        // With 8, `IB_SEND_INLINE`, the driver would look for the data where there are none.
        (wr.flags(SendFlags::from_bits(8 | 4)), 4),
    ];
    for (wr, flags) in table {
        assert_eq!(written(&wr, 3).unwrap(), expected(&wr, send, 3, flags));
    }
    assert_eq!(SendFlags::all().bits(), 7);
}

/// One slot byte for byte, so that the helpers above are not alone with their own mistakes.
#[test]
fn a_write_with_immediate_data_byte_for_byte() {
    let wr = SendWr::rdma_write_with_imm(0x11, Remote { addr: 0x2233, rkey: Rkey(0x44) }, 0x55)
        .sge(Sge { addr: 0x6677, length: 0x88, lkey: Lkey(0x99) })
        .signaled();
    let bytes = written(&wr, 7).unwrap().0;
    let set: Vec<_> = bytes[..224]
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte != 0)
        .map(|(at, byte)| (at, *byte))
        .collect();
    #[rustfmt::skip]
    assert_eq!(set, [
        (0, 0x11), (12, 1), (16, 2), (23, 0x55), (24, 0x33), (25, 0x22), (32, 0x44), (152, 0x33), (153, 0x22),
        (176, 7), (184, 0x88), (188, 0x88), (196, 1), (208, 0x77), (209, 0x66), (216, 0x88), (220, 0x99),
    ]);
    assert!(bytes[224..].iter().all(|byte| *byte == UNTOUCHED));
}

#[test]
fn receives_with_every_kind_of_data() {
    let wr = RecvWr::new(0xfedc_ba98_7654_3210);
    for wr in [wr, wr.sge(SGES[1]), wr.sges(&[]), wr.sges(&SGES)] {
        let sges = wr.data.sges();
        let length = wr.data.length() as u32;
        let want = blank(recv_wqe::DATA + 16 * sges.len())
            .with_u64(recv_wqe::WR_ID, wr.wr_id)
            .with(recv_wqe::LENGTH, length)
            .with(recv_wqe::RESID, length)
            .with(recv_wqe::NUM_SGE, sges.len() as u32);
        let found = slot_of(|slots, at| write_recv(slots, at, &wr, &LIMITS));
        assert_eq!(found, Ok(with_sges(want, recv_wqe::DATA, sges)), "{wr:?}");
    }
}

/// `wr.ud`: the queue pair, the key, two words of no use here, the driver's number of the address handle.
#[test]
fn a_datagram_names_its_address() {
    let ah = device_ah(0x0505);
    let to = UdAddr { ah: &ah, qpn: Qpn::truncate(0x11_2233), qkey: Qkey(0x1111_1111) };
    let datagrams = LIMITS.datagrams(4096);
    let written = |wr: &SendWr<'_>, limits| slot_of(|slots, at| write_send(slots, at, wr, limits, 7));
    for (op, opcode, ex) in [(SendOp::Send, 2, [0; 4]), (SendOp::SendWithImm(0x0102_0304), 3, [1, 2, 3, 4])] {
        let mut wr = SendWr::new(9, op).sge(SGES[0]);
        wr.dest = Dest::Ud(to);
        let expected = with_sges(blank(at::DATA + 16), at::DATA, &SGES[..1])
            .with_u64(at::WR_ID, 9)
            .with(at::OPCODE, opcode)
            .with_bytes(at::EX, &ex)
            .with(24, 0x11_2233)
            .with(28, 0x1111_1111)
            .with(36, 0x0505)
            .with(at::SSN, 7)
            .with(at::LENGTH, 8)
            .with(at::RESID, 8)
            .with(at::NUM_SGE, 1);
        assert_eq!(written(&wr, &datagrams), Ok(expected));
        assert_eq!(written(&wr, &LIMITS), Err(PostErrorKind::AddressNotAllowed), "a connected queue pair");
        wr.dest = Dest::Connected;
        assert_eq!(written(&wr, &datagrams), Err(PostErrorKind::AddressMissing));
        wr.dest = Dest::Xrc(crate::types::Srqn::truncate(1));
        assert_eq!(written(&wr, &datagrams), Err(PostErrorKind::AddressNotAllowed));
        assert_eq!(written(&wr, &LIMITS), Err(PostErrorKind::AddressNotAllowed));
    }
    for op in OPERATIONS.map(|(op, ..)| op) {
        let mut wr = SendWr::new(9, op);
        assert!(written(&wr, &datagrams).is_err(), "{op:?} without an address");
        wr.dest = Dest::Ud(to);
        let send = matches!(op, SendOp::Send | SendOp::SendWithImm(_));
        assert_eq!(written(&wr, &datagrams).is_ok(), send, "{op:?}");
    }
}
