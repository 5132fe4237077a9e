//! Queues and queue pairs: what they hold, how they change, how they fail.

use std::os::fd::AsFd;
use std::time::Duration;

use bareverbs::netlink::DriverId;
use bareverbs::{
    Access, AsyncEventType, ConnectAttr, CqInit, Device, Encoding, Error, Mr, OpenOptions, PortNum,
    PostErrorKind, Psn, Qp, QpAttr, QpInit, QpState, RecvWr, Remote, Rkey, SendWr, Wait, Waited, Wc,
    WcStatus,
};
use nix::poll::{PollFd, PollFlags};

use crate::support::{Loop, assert_quiet, completion, connect, gid_index};

fn message(result: Result<impl Sized, Error>) -> String {
    result.err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn states_are_modified_and_queried() {
    let mut both = Loop::new();
    let cq = &both.left_cq;
    let mut qp = both.pd.create_qp(QpInit::rc(cq, cq)).unwrap();
    assert_eq!(qp.state().unwrap(), QpState::RESET);
    let skip = message(qp.modify(&QpAttr::to(QpState::RTS)));
    assert!(skip.contains("there is no transition from RESET to RTS"), "{skip}");
    qp.init(PortNum::ONE, Access::REMOTE_READ).unwrap();
    assert_eq!(qp.state().unwrap(), QpState::INIT);
    let missing = message(qp.modify(&QpAttr { rq_psn: Some(Psn::default()), ..QpAttr::to(QpState::RTR) }));
    assert!(missing.contains("INIT to RTR needs av, path_mtu, "), "{missing}");

    let known = both.left.query().unwrap();
    assert_eq!(known.state, Some(QpState::RTS));
    assert_eq!(known.dest_qp_num, Some(both.right.qp_num()));
    assert_eq!((known.timeout, known.retry_cnt, known.rnr_retry), (Some(14), Some(7), Some(7)));
    let peer = both.right.init_endpoint(PortNum::ONE, Some(gid_index())).unwrap();
    assert_eq!(known.av.and_then(|av| av.dgid), Some(peer.gid));

    let mut left = both.left;
    left.modify(&QpAttr::to(QpState::ERR)).unwrap();
    assert_eq!(left.state().unwrap(), QpState::ERR);
    left.modify(&QpAttr::to(QpState::RESET)).unwrap();
    assert_eq!(left.state().unwrap(), QpState::RESET);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_queue_pair_lives_again_after_reset() {
    let mut both = Loop::new();
    let region = both.region(4096);
    for round in 0..3 {
        for n in 0..40 {
            both.right.post_recv(RecvWr::new(n).sge(region.slice(2048..2148))).unwrap();
            both.left.post_send(SendWr::send(n).sge(region.slice(..100)).signaled()).unwrap();
            assert_eq!(completion(&mut both.right_cq).status, WcStatus::SUCCESS, "round {round}");
            assert_eq!(completion(&mut both.left_cq).status, WcStatus::SUCCESS, "round {round}");
        }
        both.left.modify(&QpAttr::to(QpState::RESET)).unwrap();
        both.right.modify(&QpAttr::to(QpState::RESET)).unwrap();
        connect(&mut both.left, &mut both.right, ConnectAttr::new());
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn halves_move_to_threads_and_are_joined_again() {
    let Loop { left, right, mut left_cq, mut right_cq, pd, .. } = Loop::new();
    let (left_number, cap) = (left.qp_num(), left.cap());
    let (left_send, left_recv) = left.into_split();
    let (right_send, right_recv) = right.into_split();
    assert_eq!((left_send.qp_num(), left_recv.cap()), (left_number, cap));

    // Halves of two queue pairs come back as they were.
    let error = Qp::join(left_send, right_recv).unwrap_err();
    assert!(error.to_string().contains(&left_number.to_string()), "{error}");
    let (mut left_send, mut right_recv) = error.into_halves();
    let region = pd.alloc_mr(4096, Access::LOCAL_WRITE).unwrap();
    let (from, to) = (region.slice(..100), region.slice(2048..2148));
    // One at a time, so that no message finds the other side without a receive.
    let (posted, ready) = std::sync::mpsc::sync_channel(0);
    let receiver = std::thread::spawn(move || {
        for n in 0..40 {
            right_recv.post_recv(RecvWr::new(n).sge(to)).unwrap();
            posted.send(()).unwrap();
            assert_eq!(completion(&mut right_cq).wr_id, n);
        }
        right_recv
    });
    let sender = std::thread::spawn(move || {
        for n in 0..40 {
            ready.recv().unwrap();
            left_send.post_send(SendWr::send(n).sge(from).signaled()).unwrap();
            assert_eq!(completion(&mut left_cq).status, WcStatus::SUCCESS);
        }
        left_send
    });
    let (right_recv, left_send) = (receiver.join().unwrap(), sender.join().unwrap());
    assert_eq!(right_recv.state().unwrap(), QpState::RTS);
    let mut left = Qp::join(left_send, left_recv).unwrap();
    left.modify(&QpAttr::to(QpState::RESET)).unwrap();
    left.destroy().unwrap();
    // The queue pair exists as long as either half.
    drop(right_send);
    assert_eq!(right_recv.state().unwrap(), QpState::RTS);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn queue_pairs_are_created_while_their_completion_queue_is_polled() {
    let mut both = Loop::new();
    let region = both.region(4096);
    let mut srq = both.pd.create_srq(64).unwrap();
    let (cq, srq_handle) = (both.right_cq.handle(), srq.handle());
    for n in 0..8 {
        srq.post_recv(RecvWr::new(n).sge(region.slice(..8))).unwrap();
    }
    let (number, mut right_cq) = (8, both.right_cq);
    let poller = std::thread::spawn(move || {
        let mut ids: Vec<_> = (0..number).map(|_| completion(&mut right_cq).wr_id).collect();
        ids.sort_unstable();
        (right_cq, ids)
    });
    let mut pairs = Vec::new();
    for n in 0..number {
        let init = QpInit::rc(&both.left_cq, &both.left_cq);
        let mut sender = both.pd.create_qp(init).unwrap();
        let mut receiver = both.pd.create_qp(QpInit::rc(&cq, &cq).srq(&srq_handle)).unwrap();
        connect(&mut sender, &mut receiver, ConnectAttr::new());
        sender.post_send(SendWr::send(n).sge(region.slice(8..16)).signaled()).unwrap();
        assert_eq!(completion(&mut both.left_cq).status, WcStatus::SUCCESS);
        pairs.push((sender, receiver));
    }
    let (polled, ids) = poller.join().unwrap();
    assert_eq!(ids, (0..number).collect::<Vec<_>>());
    drop(pairs);
    let busy = message(srq.destroy());
    assert!(busy.contains("a handle"), "{busy}");
    drop(both.right);
    let busy = message(polled.destroy());
    assert!(busy.contains("a handle"), "{busy}");
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn completions_are_iterated_and_their_entries_freed() {
    let mut both = Loop::new();
    let region = both.region(4096);
    let mut cq = both.ctx.create_cq(8).unwrap();
    let mut sender = both.pd.create_qp(QpInit::rc(&cq, &cq).max_send_wr(8)).unwrap();
    both.right.modify(&QpAttr::to(QpState::RESET)).unwrap();
    connect(&mut sender, &mut both.right, ConnectAttr::new().access(Access::REMOTE_WRITE));
    // Many times the queue's size: it would overflow if entries were not freed.
    let mut next = 0;
    for n in 0..200 {
        let to = region.remote(64);
        sender.post_send(SendWr::rdma_write(n, to).sge(region.slice(..8)).signaled()).unwrap();
        let due = std::time::Instant::now() + Duration::from_secs(20);
        // Every third time, so that several entries are taken at once.
        while n % 3 == 2 && next <= n {
            assert!(std::time::Instant::now() < due, "request {next} does not complete");
            for wc in cq.completions() {
                assert_eq!((wc.wr_id, wc.status), (next, WcStatus::SUCCESS));
                next += 1;
            }
        }
    }
    assert_eq!(next, 198);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_signal_is_not_a_time_out() {
    extern "C" fn nothing(_: i32) {}
    let mut both = Loop::new();
    let action = nix::sys::signal::SigAction::new(
        nix::sys::signal::SigHandler::Handler(nothing),
        nix::sys::signal::SaFlags::empty(),
        nix::sys::signal::SigSet::empty(),
    );
    crate::support::handle_signal(nix::sys::signal::Signal::SIGUSR1, &action);
    // musl's is a pointer, which cannot be sent to another thread.
    let thread = nix::sys::pthread::pthread_self() as usize;
    let waker = std::thread::spawn(move || {
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(100));
            let thread = thread as nix::sys::pthread::Pthread;
            nix::sys::pthread::pthread_kill(thread, nix::sys::signal::Signal::SIGUSR1).unwrap();
        }
    });
    let mut wcs = [Wc::default()];
    for timeout in [None, Some(Duration::from_secs(20))] {
        let waited = both.right_cq.wait(&mut wcs, Wait::Events, timeout).unwrap();
        assert_eq!(waited, Waited::Interrupted, "{timeout:?}");
    }
    waker.join().unwrap();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_queue_with_a_channel_of_its_own_fits_an_event_loop() {
    let mut both = Loop::new();
    let region = both.region(64);
    let fd = both.right_cq.own_channel().unwrap();
    assert!(both.ctx.create_cq(1).unwrap().own_channel().is_none());
    let readable = |timeout: u16| {
        nix::poll::poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout).unwrap() > 0
    };
    let mut wcs = [Wc::default(); 4];
    for n in 0..4 {
        assert!(both.right_cq.poll_or_arm(&mut wcs).unwrap().is_empty());
        assert!(!readable(0), "round {n}");
        both.right.post_recv(RecvWr::new(n).sge(region.slice(..8))).unwrap();
        both.left.post_send(SendWr::send(n).sge(region.slice(8..16))).unwrap();
        assert!(readable(20_000), "round {n}: no event");
        assert_eq!(both.right_cq.poll_or_arm(&mut wcs).unwrap().len(), 1, "round {n}");
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn full_queues_and_oversized_requests_are_refused() {
    let mut both = Loop::new();
    let region = both.region(4096);
    let cap = both.right.cap();
    let mut posted = 0;
    let kind = loop {
        match both.right.post_recv(RecvWr::new(posted).sge(region.slice(..1))) {
            Ok(()) => posted += 1,
            Err(e) => break e.kind,
        }
    };
    assert_eq!(kind, PostErrorKind::QueueFull);
    assert!(posted >= cap.max_recv_wr.into(), "{posted}");
    let sges = vec![region.slice(..1); cap.max_send_sge as usize + 1];
    let e = both.left.post_sends(&[SendWr::send(1).sge(region.slice(..1)), SendWr::send(2).sges(&sges)]);
    let e = e.unwrap_err();
    assert_eq!((e.posted, e.kind), (1, PostErrorKind::TooManySges { max: cap.max_send_sge }));
    let long = vec![0; cap.max_inline_data as usize + 1];
    let e = both.left.post_send(SendWr::send(1).inline(&long)).unwrap_err();
    assert_eq!(e.kind, PostErrorKind::InlineTooLong { max: cap.max_inline_data });
    let e =
        both.left.post_send(SendWr::fetch_add(1, region.remote(0), 1).sge(region.slice(..4))).unwrap_err();
    assert_eq!(e.kind, PostErrorKind::AtomicLength);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn failures_have_their_status() {
    /// Gives the region that its request names.
    type Fault = fn(&mut Loop) -> Mr;
    // The first is the specification's. rxe has the others: 6.1 the second, 6.12 and later the third.
    let faults: [(&str, &[WcStatus], Fault); 6] = [
        ("wrong rkey", &[WcStatus::REM_ACCESS_ERR], |both| {
            let region = both.region(64);
            let remote = Remote { rkey: Rkey(region.rkey().0 ^ 0x80), ..region.remote(0) };
            both.left.post_send(SendWr::rdma_write(1, remote).sge(region.slice(..8))).unwrap();
            region
        }),
        ("out of bounds", &[WcStatus::REM_ACCESS_ERR], |both| {
            let region = both.region(64);
            both.left.post_send(SendWr::rdma_read(1, region.remote(60)).sge(region.slice(..8))).unwrap();
            region
        }),
        ("an atomic operation on half a word", &[WcStatus::REM_INV_REQ_ERR], |both| {
            let region = both.region(64);
            both.left.post_send(SendWr::fetch_add(1, region.remote(4), 1).sge(region.slice(..8))).unwrap();
            region
        }),
        (
            "a region that is gone",
            &[WcStatus::LOC_PROT_ERR, WcStatus::LOC_QP_OP_ERR, WcStatus::WR_FLUSH_ERR],
            |both| {
                let region = both.region(64);
                let (gone, kept) = (region.slice(..8), both.region(64));
                drop(region);
                both.left.post_send(SendWr::rdma_write(1, kept.remote(0)).sge(gone)).unwrap();
                kept
            },
        ),
        ("a receive that is too short", &[WcStatus::REM_INV_REQ_ERR, WcStatus::REM_OP_ERR], |both| {
            let region = both.region(64);
            both.right.post_recv(RecvWr::new(9).sge(region.slice(..8))).unwrap();
            both.left.post_send(SendWr::send(1).sge(region.slice(..9))).unwrap();
            let wc = completion(&mut both.right_cq);
            assert_eq!(wc.wr_id, 9);
            assert!([WcStatus::LOC_LEN_ERR, WcStatus::LOC_QP_OP_ERR].contains(&wc.status), "{wc:?}");
            region
        }),
        ("no receive", &[WcStatus::RNR_RETRY_EXC_ERR], |both| {
            let region = both.region(64);
            both.left.post_send(SendWr::send(1).sge(region.slice(..9))).unwrap();
            region
        }),
    ];
    for (name, statuses, fault) in faults {
        let mut both = Loop::with(ConnectAttr::new().rnr_retry(1), 2);
        let _named = fault(&mut both);
        let wc = completion(&mut both.left_cq);
        assert!(wc.wr_id == 1 && statuses.contains(&wc.status), "{name}: {wc:?}");
        // What comes after is flushed.
        let region = both.region(64);
        both.left.post_send(SendWr::send(2).sge(region.slice(..1))).unwrap();
        let wc = completion(&mut both.left_cq);
        assert_eq!((wc.wr_id, wc.status), (2, WcStatus::WR_FLUSH_ERR), "{name}: {wc:?}");
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_completion_queue_is_resized_with_completions_in_it() {
    let mut both = Loop::new();
    let region = both.region(64);
    for n in 0..20 {
        both.right.post_recv(RecvWr::new(n).sge(region.slice(..8))).unwrap();
    }
    for n in 0..20 {
        both.left.post_send(SendWr::send(n).sge(region.slice(8..16)).signaled()).unwrap();
        completion(&mut both.left_cq);
    }
    both.right_cq.resize(500).unwrap();
    assert!(both.right_cq.capacity() >= 500);
    for n in 0..20 {
        assert_eq!(completion(&mut both.right_cq).wr_id, n);
    }
    let over = both.ctx.query_device().unwrap().max_cqe + 1;
    let refused = message(both.right_cq.resize(over));
    assert!(refused.contains("max_cqe"), "{refused}");
    both.right.post_recv(RecvWr::new(77).sge(region.slice(..8))).unwrap();
    both.left.post_send(SendWr::send(1).sge(region.slice(8..16))).unwrap();
    assert_eq!(completion(&mut both.right_cq).wr_id, 77);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn solicited_events_wait_for_solicited_sends() {
    let mut both = Loop::new();
    let region = both.region(64);
    let channel = both.ctx.create_comp_channel().unwrap();
    let init = || CqInit::new(8).channel(&channel).user_handle(u64::MAX - 7);
    let cq = both.ctx.create_cq(init()).unwrap();
    let error = both.ctx.create_cq(init()).unwrap_err().to_string();
    assert!(
        error.ends_with("another queue of the channel has the user handle 18446744073709551608"),
        "{error}"
    );
    let mut receiver = both.pd.create_qp(QpInit::rc(&cq, &cq).max_recv_wr(4)).unwrap();
    both.left.modify(&QpAttr::to(QpState::RESET)).unwrap();
    connect(&mut both.left, &mut receiver, ConnectAttr::new());
    let mut cq = cq;
    cq.req_notify(true).unwrap();
    for n in 0..2 {
        receiver.post_recv(RecvWr::new(n).sge(region.slice(..8))).unwrap();
    }
    both.left.post_send(SendWr::send(1).sge(region.slice(8..16)).signaled()).unwrap();
    assert_eq!(completion(&mut both.left_cq).status, WcStatus::SUCCESS);
    let readable = || {
        let mut fds = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, 100u8).unwrap() > 0
    };
    assert!(!readable(), "a send that was not solicited made an event");
    both.left.post_send(SendWr::send(2).sge(region.slice(8..16)).signaled().solicited()).unwrap();
    assert!(readable(), "a solicited send made no event");
    let event = channel.next_event().unwrap().unwrap();
    assert!(cq.owns(event) && !both.left_cq.owns(event));
    assert_eq!((event.user_handle(), cq.user_handle()), (u64::MAX - 7, u64::MAX - 7));
    assert_eq!(channel.next_event().unwrap(), None);
    let mut wcs = [Wc::default(); 4];
    assert_eq!(cq.poll(&mut wcs).len(), 2);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn every_way_of_waiting_waits() {
    let mut both = Loop::new();
    let region = both.region(64);
    let mut wcs = [Wc::default(); 4];
    for how in [Wait::Poll, Wait::Events, Wait::default(), Wait::Adaptive(Duration::ZERO)] {
        let start = std::time::Instant::now();
        let waited = both.right_cq.wait(&mut wcs, how, Some(Duration::from_millis(30))).unwrap();
        assert_eq!(waited, Waited::TimedOut);
        assert!(start.elapsed() >= Duration::from_millis(30), "{how:?}: {:?}", start.elapsed());
        for n in 0..3 {
            both.right.post_recv(RecvWr::new(n).sge(region.slice(..8))).unwrap();
            both.left.post_send(SendWr::send(n).sge(region.slice(8..16))).unwrap();
            let got = both.right_cq.wait(&mut wcs, how, Some(Duration::from_secs(20))).unwrap().completions();
            assert_eq!(got.iter().map(|wc| wc.wr_id).collect::<Vec<_>>(), [n], "{how:?}");
        }
    }
    assert_quiet(&mut both.right_cq);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn objects_are_destroyed_in_any_order() {
    let both = Loop::new();
    let Loop { left, right, left_cq, right_cq, pd, ctx } = both;
    let busy = message(pd.clone().destroy());
    assert!(busy.contains("still used"), "{busy}");
    let region = pd.alloc_mr(4096, Access::LOCAL_WRITE).unwrap();
    drop(ctx);
    drop(pd);
    let busy = message(left_cq.destroy());
    assert!(busy.contains("destroy_cq") && busy.contains("queue pairs"), "{busy}");
    right.destroy().unwrap();
    right_cq.destroy().unwrap();
    region.destroy().unwrap();
    left.destroy().unwrap();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn nothing_stays_in_the_kernel() {
    let mut netlink = bareverbs::netlink::Nldev::open().unwrap();
    let device = netlink.devices().unwrap().remove(0);
    let before = netlink.resource_counts(device.index).unwrap();
    let count = |counts: &bareverbs::netlink::ResourceCounts| {
        ["pd", "cq", "qp", "mr", "srq", "ctx"].map(|kind| counts.get(kind).unwrap_or(0))
    };
    {
        let both = Loop::new();
        let _region = both.region(4096);
        let srq = both.pd.create_srq(16).unwrap();
        let mut datagrams = both.pd.create_qp(QpInit::ud(&both.left_cq, &both.left_cq).srq(&srq)).unwrap();
        let at = datagrams.init_endpoint(PortNum::ONE, Some(gid_index())).unwrap();
        let _ah = both.pd.create_ah(&datagrams.address(&at).unwrap()).unwrap();
        let (group, lid) = crate::support::group(8);
        datagrams.attach_mcast(group, lid).unwrap();
        let during = netlink.resource_counts(device.index).unwrap();
        assert_ne!(count(&before), count(&during));
    }
    let after = netlink.resource_counts(device.index).unwrap();
    assert_eq!(count(&before), count(&after));
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn either_encoding_can_be_forced() {
    let device = Device::first().unwrap();
    for encoding in [Encoding::Auto, Encoding::Ioctl, Encoding::Write] {
        let ctx = OpenOptions::new().encoding(encoding).open(&device).unwrap();
        let attr = ctx.query_device().unwrap();
        assert!(attr.max_qp > 0 && attr.phys_port_cnt == 1, "{encoding:?}");
        let length = ctx.query_port(PortNum::ONE).unwrap().gid_tbl_len;
        assert_eq!(length, if device.info().driver == DriverId::RXE { 1024 } else { 128 });
        let gids = ctx.query_gids(PortNum::ONE).unwrap();
        assert_eq!(gids[gid_index() as usize].gid, ctx.query_gid(PortNum::ONE, gid_index()).unwrap());
        assert!(ctx.async_events().unwrap().next_event().unwrap().is_none());
        assert!(ctx.num_comp_vectors() > 0);
        let two = PortNum::new(2).unwrap();
        assert!(message(ctx.query_port(two)).contains("port 2 is out of range: it has only port 1"));
        let range = format!("indices 0 to {}", length - 1);
        assert!(message(ctx.query_gid(PortNum::ONE, length)).contains(&range));
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn the_data_path_allocates_nothing() {
    let mut both = Loop::new();
    let region = both.region(4096);
    for how in [Wait::Poll, Wait::Events, Wait::default()] {
        let before = crate::support::allocations();
        for n in 0..200 {
            both.right.post_recv(RecvWr::new(n).sge(region.slice(2048..))).unwrap();
            both.left.post_send(SendWr::send(n).sge(region.slice(..2048)).signaled()).unwrap();
            for cq in [&mut both.right_cq, &mut both.left_cq] {
                let mut wcs = [Wc::default()];
                let got = cq.wait(&mut wcs, how, Some(Duration::from_secs(20))).unwrap().completions();
                assert!(got.len() == 1 && got[0].is_success());
            }
        }
        assert_eq!(crate::support::allocations() - before, 0, "{how:?}");
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_completion_queue_that_overflows_says_so() {
    let mut both = Loop::new();
    let region = both.region(64);
    let mut small = both.ctx.create_cq(1).unwrap();
    let mut sender = both.pd.create_qp(QpInit::rc(&small, &both.left_cq).max_send_wr(8)).unwrap();
    both.right.modify(&QpAttr::to(QpState::RESET)).unwrap();
    connect(&mut sender, &mut both.right, ConnectAttr::new());
    // A device may have room for one more than it says.
    for n in 0..small.capacity() + 2 {
        both.right.post_recv(RecvWr::new(n.into()).sge(region.slice(..8))).unwrap();
        sender.post_send(SendWr::send(n.into()).sge(region.slice(8..16)).signaled()).unwrap();
    }
    let events = both.ctx.async_events().unwrap();
    let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
    assert!(nix::poll::poll(&mut fds, 5000u16).unwrap() > 0, "no event within 5 s");
    assert_eq!(events.next_event().unwrap().map(|event| event.event_type), Some(AsyncEventType::CQ_ERR));
    let mut wcs = [Wc::default(); 4];
    let capacity = small.capacity();
    let taken = small.poll(&mut wcs).len() as u32;
    assert!(taken == capacity || taken == capacity + 1, "{taken} of {capacity}");
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn port_events_are_delivered() {
    let ctx = crate::support::open();
    let events = ctx.async_events().unwrap();
    let _down = crate::faults::NetdevDown::new();
    let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
    let mut seen = Vec::new();
    // That of a port which came back before may still be on its way.
    while !seen.contains(&(AsyncEventType::PORT_ERR, 1)) {
        assert!(nix::poll::poll(&mut fds, 5000u16).unwrap() > 0, "no such event within 5 s: {seen:?}");
        while let Some(event) = events.next_event().unwrap() {
            seen.push((event.event_type, event.element));
        }
    }
}
