//! Shared receive queues, and XRC, which rxe does not have.

use std::os::fd::AsFd;

use bareverbs::{
    Access, AsyncEvent, AsyncEventType, ConnectAttr, Context, Cq, CqInit, EventSource, Mr, Pd, PostErrorKind,
    Qp, QpInit, RecvWr, SendWr, Srq, SrqInit, WcStatus,
};
use nix::libc::O_CREAT;
use nix::poll::{PollFd, PollFlags};

use crate::support::{Noise, compare, completion, connect, fill, is_rxe};

/// Pairs of connected queue pairs, whose right sides share a receive queue.
struct Shared {
    pairs: Vec<(Qp, Qp)>,
    srq: Srq,
    left_cq: Cq,
    right_cq: Cq,
    pd: Pd,
    ctx: Context,
}

impl Shared {
    fn new(pairs: usize, init: SrqInit<'_>) -> Self {
        let ctx = crate::support::open();
        let pd = ctx.alloc_pd().unwrap();
        let left_cq = ctx.create_cq(CqInit::new(128).own_channel()).unwrap();
        let right_cq = ctx.create_cq(CqInit::new(128).own_channel()).unwrap();
        let srq = pd.create_srq(init).unwrap();
        let pair = |_| {
            let mut left = pd.create_qp(QpInit::rc(&left_cq, &left_cq).max_send_wr(8)).unwrap();
            let mut right = pd.create_qp(QpInit::rc(&right_cq, &right_cq).srq(&srq)).unwrap();
            connect(&mut left, &mut right, ConnectAttr::new());
            (left, right)
        };
        let pairs = (0..pairs).map(pair).collect();
        Self { pairs, srq, left_cq, right_cq, pd, ctx }
    }

    fn region(&self) -> Mr {
        self.pd.alloc_mr(20_000, Access::LOCAL_WRITE).unwrap()
    }

    fn event(&self) -> AsyncEvent {
        let events = self.ctx.async_events().unwrap();
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        assert!(nix::poll::poll(&mut fds, 5000u16).unwrap() > 0, "no event within 5 s");
        events.next_event().unwrap().unwrap()
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn sixteen_queue_pairs_take_from_one() {
    let mut noise = Noise::new(31);
    let mut shared = Shared::new(16, SrqInit::new(20).max_sge(2));
    let (mut left, mut right) = (shared.region(), shared.region());
    let message = fill(&mut left, &mut noise);
    let mut expected = fill(&mut right, &mut noise);
    for round in 0..3u64 {
        for n in 0..16usize {
            let at = n * 1000;
            let sges = [right.slice(at..at + 10), right.slice(at + 500..at + 700)];
            shared.srq.post_recv(RecvWr::new(n as u64).sges(&sges)).unwrap();
        }
        // In another order than the receives': each message takes the oldest.
        for k in 0..16usize {
            let pair = (k * 5 + round as usize) % 16;
            let sent = left.slice(k * 7..k * 7 + 150);
            shared.pairs[pair].0.post_send(SendWr::send(99).sge(sent).signaled()).unwrap();
            let wc = completion(&mut shared.right_cq);
            assert_eq!((wc.status, wc.wr_id, wc.byte_len), (WcStatus::SUCCESS, k as u64, 150));
            assert_eq!(wc.qp_num, shared.pairs[pair].1.qp_num());
            assert_eq!(completion(&mut shared.left_cq).status, WcStatus::SUCCESS);
            let at = k * 1000;
            expected[at..at + 10].copy_from_slice(&message[k * 7..k * 7 + 10]);
            expected[at + 500..at + 640].copy_from_slice(&message[k * 7 + 10..k * 7 + 150]);
        }
        compare(&right, &expected).unwrap_or_else(|e| panic!("round {round}: {e}"));
    }
    let refused = shared.pairs[0].1.post_recv(RecvWr::new(1)).unwrap_err();
    assert_eq!((refused.posted, refused.kind), (0, PostErrorKind::NoQueue));
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn limits_sizes_and_their_events() {
    let mut shared = Shared::new(2, SrqInit::new(30));
    let region = shared.region();
    let (source, target) = (region.slice(..8), region.slice(100..108));
    let capacity = shared.srq.query().unwrap();
    assert!(capacity.max_wr >= 30 && capacity.max_sge >= 1 && capacity.srq_limit == 0, "{capacity:?}");
    let refill = |srq: &mut Srq| {
        let mut posted = 0;
        while srq.post_recv(RecvWr::new(posted).sge(target)).is_ok() {
            posted += 1;
        }
        posted
    };
    assert_eq!(refill(&mut shared.srq), u64::from(capacity.max_wr), "the queue takes what it says");
    shared.srq.set_limit(5).unwrap();
    assert_eq!(shared.srq.query().unwrap().srq_limit, 5);
    for _ in 0..capacity.max_wr - 4 {
        shared.pairs[1].0.post_send(SendWr::send(1).sge(source)).unwrap();
        completion(&mut shared.right_cq);
    }
    let event = shared.event();
    assert_eq!(event.event_type, AsyncEventType::SRQ_LIMIT_REACHED);
    assert_eq!(event.source(), EventSource::Srq(shared.srq.user_handle()));
    assert_eq!(shared.srq.query().unwrap().srq_limit, 0, "it is reported once");

    // Four are left; they stay where the queue grows.
    if is_rxe() {
        shared.srq.resize(200).unwrap();
        assert!(shared.srq.query().unwrap().max_wr >= 200);
    } else {
        let said = shared.srq.resize(200).unwrap_err().to_string();
        assert!(said.starts_with("modify_srq on ") || said.starts_with("resize srq on "), "{said}");
    }
    let room = shared.srq.query().unwrap().max_wr;
    let told = if is_rxe() { 200 } else { room };
    assert_eq!(refill(&mut shared.srq), u64::from(room) - 4, "beside the four");
    if is_rxe() {
        let said = shared.srq.resize(100).unwrap_err().to_string();
        assert!(said.contains(&format!("{room} receives are in the queue")), "{said}");
        assert_eq!(shared.srq.query().unwrap().max_wr, room, "nothing has become of it");
    }
    let oldest = u64::from(capacity.max_wr - 4)..u64::from(capacity.max_wr);
    for wr_id in oldest.chain(0..u64::from(room) - 4) {
        shared.pairs[0].0.post_send(SendWr::send(1).sge(source)).unwrap();
        let wc = completion(&mut shared.right_cq);
        assert_eq!((wc.status, wc.wr_id), (WcStatus::SUCCESS, wr_id));
    }

    let device = shared.ctx.query_device().unwrap();
    let (too_many, too_long) = (device.max_srq_wr + 1, device.max_srq_sge + 1);
    for (refused, part) in [
        (shared.pd.create_srq(too_many).err(), format!("the device's max_srq_wr is {}", device.max_srq_wr)),
        (
            shared.pd.create_srq(SrqInit::new(1).max_sge(too_long)).err(),
            format!("the device's max_srq_sge is {}", device.max_srq_sge),
        ),
        (shared.srq.resize(too_many).err(), format!("the device's max_srq_wr is {}", device.max_srq_wr)),
        (shared.srq.set_limit(too_many).err(), format!("the queue has room for {told}")),
    ] {
        let said = refused.unwrap().to_string();
        assert!(said.contains(&part) && said.contains("srq on "), "{said}");
    }
    if is_rxe() {
        let said = shared.pd.create_srq(0).unwrap_err().to_string();
        assert!(said.contains("max_srq_wr"), "{said}");
    }
    let Shared { pairs, srq, .. } = shared;
    let busy = srq.destroy().unwrap_err().to_string();
    assert!(busy.contains("still used by queue pairs"), "{busy}");
    drop(pairs);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn rxe_has_no_xrc_and_says_so() {
    let ctx = crate::support::open();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    for file in [None, Some(file.as_fd())] {
        let said = ctx.open_xrcd(file, O_CREAT).unwrap_err().to_string();
        assert_eq!(said, "open_xrcd on rxe0: it has no extended reliable connections (XRC)");
    }
    let pd = ctx.alloc_pd().unwrap();
    let cq = ctx.create_cq(4).unwrap();
    let said = pd.create_qp(QpInit::xrc_send(&cq)).unwrap_err().to_string();
    assert!(said.starts_with("create_qp on rxe0: "), "{said}");
}
