//! Requests as the driver reads them, byte for byte.

use super::super::mock::{Entry, Queue, queue, rqe, sqe};
use super::*;
use crate::types::{Access, Lkey, MwBind, MwType, Rkey};

const REMOTE: Remote = Remote { addr: 0x1122_3344_5566_7788, rkey: Rkey(0x99aa_bbcc) };
const KEY: Rkey = Rkey(0x0a0b_0c0d);
const ID: u64 = 0x0123_4567_89ab_cdef;
/// What the memory holds before: a byte that nobody writes shows.
const UNTOUCHED: u8 = 0xee;

const SGES: [Sge; 3] = [
    Sge { addr: 0x1000, length: 8, lkey: Lkey(1) },
    Sge { addr: 0xffff_8000_0000_0001, length: 0, lkey: Lkey(u32::MAX) },
    Sge { addr: 3, length: 0x1234, lkey: Lkey(0x0800_0100) },
];

fn limits() -> Limits {
    Limits::new(3, 80, false)
}

fn blank<const N: usize>() -> (Producer<N>, Queue) {
    let (mut region, kernel) = queue(2, N, 0);
    region.write_bytes(0, &[UNTOUCHED; 512][..2 * N]);
    for n in 0..2 {
        // The driver has given it back.
        region.write_bytes(n * N + sqe::FLAGS, &[0; 2]);
    }
    (Producer::new(region, 2, "test").unwrap(), kernel)
}

fn written(wr: &SendWr<'_>, limits: Limits) -> Result<Entry, PostErrorKind> {
    let (mut ring, mut kernel) = blank::<SQE>();
    let at = ring.free_slot().unwrap();
    let turn = write_send(&mut ring, at, wr, &limits)?;
    assert!(kernel.consume().is_none(), "nothing is handed over before the word");
    ring.hand_over(turn);
    Ok(kernel.consume().unwrap())
}

fn received(wr: &RecvWr<'_>) -> Result<Entry, PostErrorKind> {
    let (mut ring, mut kernel) = blank::<RQE>();
    let at = ring.free_slot().unwrap();
    let turn = write_recv(&mut ring, at, wr, &limits())?;
    ring.hand_over(turn);
    Ok(kernel.consume().unwrap())
}

fn with_sges(entry: Entry, at: usize, sges: &[Sge]) -> Entry {
    sges.iter().enumerate().fold(entry, |entry, (n, sge)| {
        let at = at + 16 * n;
        entry
            .with(at, &sge.addr.to_ne_bytes())
            .with(at + 8, &sge.length.to_ne_bytes())
            .with(at + 12, &sge.lkey.0.to_ne_bytes())
    })
}

fn expected(opcode: u8, flags: u16, num_sge: u8, rkey: Rkey, raddr: u64, sges: &[Sge]) -> Entry {
    let entry = Entry(vec![UNTOUCHED; sqe::SIZE])
        .with(sqe::ID, &ID.to_ne_bytes())
        .with(sqe::FLAGS, &flags.to_ne_bytes())
        .with(sqe::NUM_SGE, &[num_sge])
        .with(sqe::OPCODE, &[opcode])
        .with(sqe::RKEY, &rkey.0.to_ne_bytes())
        .with(sqe::RADDR, &raddr.to_ne_bytes());
    with_sges(entry, sqe::SGE, sges)
}

/// Numbers of `enum siw_opcode`; `SIW_WQE_VALID` is 1.
#[test]
fn every_operation_with_every_number_of_elements() {
    const NONE: Rkey = Rkey(0);
    let empty = [Sge::default()];
    for (op, opcode, rkey, raddr, reads) in [
        (SendOp::Write(REMOTE), 0, REMOTE.rkey, REMOTE.addr, false),
        (SendOp::Read(REMOTE), 1, REMOTE.rkey, REMOTE.addr, true),
        (SendOp::Send, 3, NONE, 0, false),
        (SendOp::SendWithInv(KEY), 5, KEY, 0, false),
    ] {
        let wr = SendWr::new(ID, op);
        let one = expected(opcode, 1, 1, rkey, raddr, &SGES[..1]);
        assert_eq!(written(&wr.sge(SGES[0]), limits()), Ok(one.clone()), "{op:?}");
        assert_eq!(written(&wr.sges(&SGES[..1]), limits()), Ok(one), "{op:?}");
        // Without data there is one element, which is empty.
        let none = Ok(expected(opcode, 1, 1, rkey, raddr, &empty));
        assert_eq!(written(&wr, limits()), none, "{op:?}");
        assert_eq!(written(&wr.sges(&[]), limits()), none, "{op:?}");
        assert_eq!(written(&wr.sge(SGES[1]), limits()), none, "{op:?}");
        let three = match reads {
            true => Err(PostErrorKind::TooManySges { max: 1 }),
            // The second is empty, and left out.
            false => Ok(expected(opcode, 1, 2, rkey, raddr, &[SGES[0], SGES[2]])),
        };
        assert_eq!(written(&wr.sges(&SGES), limits()), three, "{op:?}");
    }
    let inv = SendWr::local_inv(ID, KEY);
    assert_eq!(written(&inv, limits()), Ok(expected(10, 1, 0, KEY, 0, &[])));
    assert_eq!(written(&inv.sge(SGES[0]), limits()), Err(PostErrorKind::DataNotAllowed));
}

#[test]
fn inline_bytes_follow_the_first_element() {
    let bytes: Vec<u8> = (1..=80).collect();
    for len in [0, 1, 79, 80] {
        let bytes = &bytes[..len];
        for (op, opcode, remote) in
            [(SendOp::Send, 3, Remote { addr: 0, rkey: Rkey(0) }), (SendOp::Write(REMOTE), 0, REMOTE)]
        {
            // SIW_WQE_INLINE is 2.
            let first = Sge { length: len as u32, ..Sge::default() };
            let want =
                expected(opcode, 1 | 2, 1, remote.rkey, remote.addr, &[first]).with(sqe::INLINE, bytes);
            assert_eq!(written(&SendWr::new(ID, op).inline(bytes), limits()), Ok(want), "{len} {op:?}");
        }
    }
    for op in [SendOp::SendWithInv(KEY), SendOp::Read(REMOTE)] {
        let wr = SendWr::new(ID, op).inline(&bytes);
        assert_eq!(written(&wr, limits()), Err(PostErrorKind::InlineNotAllowed), "{op:?}");
    }
    let wr = SendWr::send(ID).inline(&bytes);
    assert_eq!(written(&wr, Limits::new(3, 79, false)), Err(PostErrorKind::InlineTooLong { max: 79 }));
    // A kernel that promised more cannot make us write beyond the entry.
    let long = [0; 81];
    let refused = written(&SendWr::send(ID).inline(&long), Limits::new(u32::MAX, u32::MAX, false));
    assert_eq!(refused, Err(PostErrorKind::InlineTooLong { max: 80 }));
    let seven = [SGES[0]; 7];
    let refused = written(&SendWr::send(ID).sges(&seven), Limits::new(u32::MAX, u32::MAX, false));
    assert_eq!(refused, Err(PostErrorKind::TooManySges { max: 6 }));
}

#[test]
fn flags_are_those_of_the_driver() {
    let wr = SendWr::send(ID);
    for (wr, sig_all, flags) in [
        (wr, false, 1u16),
        (wr.signaled(), false, 1 | 4),
        (wr, true, 1 | 4),
        (wr.solicited(), false, 1 | 8),
        (wr.fence(), false, 1 | 16),
        (wr.signaled().solicited().fence(), true, 1 | 4 | 8 | 16),
    ] {
        let entry = written(&wr, Limits { sig_all, ..limits() }).unwrap();
        assert_eq!(entry.0[sqe::FLAGS..sqe::FLAGS + 2], flags.to_ne_bytes(), "{wr:?}");
    }
}

#[test]
fn what_the_driver_cannot_do_is_refused() {
    let part = SGES[0];
    let bind = MwBind { mw_type: MwType::Two, window: KEY, rkey: KEY, part, access: Access::REMOTE_READ };
    for wr in [
        SendWr::send_with_imm(1, 2),
        SendWr::rdma_write_with_imm(1, REMOTE, 2),
        SendWr::compare_swap(1, REMOTE, 2, 3).sge(part),
        SendWr::fetch_add(1, REMOTE, 2).sge(part),
        SendWr::new(1, SendOp::BindMw(bind)),
        SendWr::rdma_read(1, REMOTE).sge(part).fence(),
    ] {
        assert_eq!(written(&wr, limits()), Err(PostErrorKind::Unsupported), "{wr:?}");
    }
    let long = Sge { length: MAX_MESSAGE + 1, ..part };
    assert_eq!(written(&SendWr::send(1).sge(long), limits()), Err(PostErrorKind::MessageTooLong));
    let halves = [Sge { length: MAX_MESSAGE / 2, ..part }, Sge { length: MAX_MESSAGE / 2 + 1, ..part }];
    assert_eq!(written(&SendWr::send(1).sges(&halves), limits()), Err(PostErrorKind::MessageTooLong));
    let elsewhere = SendWr { dest: Dest::Xrc(Default::default()), ..SendWr::send(1) };
    assert_eq!(written(&elsewhere, limits()), Err(PostErrorKind::AddressNotAllowed));
}

#[test]
fn receives_name_their_memory() {
    let wr = RecvWr::new(ID);
    let filled = [SGES[0], SGES[2]];
    for (wr, sges) in [(wr, &SGES[..0]), (wr.sge(SGES[2]), &SGES[2..]), (wr.sges(&SGES), &filled[..])] {
        let entry = Entry(vec![UNTOUCHED; rqe::SIZE])
            .with(sqe::ID, &ID.to_ne_bytes())
            .with(sqe::FLAGS, &1u16.to_ne_bytes())
            .with(sqe::NUM_SGE, &[sges.len() as u8])
            .with(sqe::OPCODE, &[0]);
        assert_eq!(received(&wr), Ok(with_sges(entry, rqe::SGE, sges)), "{wr:?}");
    }
    let four = [SGES[0]; 4];
    assert_eq!(received(&wr.sges(&four)), Err(PostErrorKind::TooManySges { max: 3 }));
}
