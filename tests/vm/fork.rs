//! Children that are forked while objects exist.

#![allow(unsafe_code)] // fork

use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bareverbs::netlink::Nldev;
use bareverbs::{CqInit, PortNum, PortSpace, QpInit, QpState, RecvWr, SendWr, Srq, WcStatus};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::support::{Loop, completion, event_channel, fresh_port, gid_index, group, handle_signal};

/// Forks a child that does `work` and exits: with 0 where that returns, with 1 where it panics.
fn child(work: impl FnOnce()) -> Pid {
    // SAFETY: the child runs on a copy of the one thread that allocates here, and ends without running what its parent runs at exit.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let failed = catch_unwind(AssertUnwindSafe(work)).is_err();
            // SAFETY: ends the process.
            unsafe { libc::_exit(failed.into()) }
        }
    }
}

fn message(both: &mut Loop, region: &bareverbs::Mr, n: u64) {
    both.right.post_recv(RecvWr::new(n).sge(region.slice(2048..2148))).unwrap();
    both.left.post_send(SendWr::send(n).sge(region.slice(..100)).signaled()).unwrap();
    for cq in [&mut both.right_cq, &mut both.left_cq] {
        let wc = completion(cq);
        assert_eq!((wc.wr_id, wc.status), (n, WcStatus::SUCCESS));
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn what_a_child_drops_stays_the_parents() {
    let mut both = Loop::new();
    let mut region = both.region(4096);
    region.write(0, &[0x5a; 100]);
    let channel = both.ctx.create_comp_channel().unwrap();
    let mut extra_cq = both.ctx.create_cq(CqInit::new(8).channel(&channel)).unwrap();
    let mut srq: Srq = both.pd.create_srq(16).unwrap();
    srq.post_recv(RecvWr::new(1).sge(region.slice(..8))).unwrap();
    let mut datagrams = both.pd.create_qp(QpInit::ud(&extra_cq, &extra_cq).srq(&srq)).unwrap();
    let at = datagrams.init_endpoint(PortNum::ONE, Some(gid_index())).unwrap();
    let ah = both.pd.create_ah(&datagrams.address(&at).unwrap()).unwrap();
    let (gid, lid) = group(9);
    datagrams.attach_mcast(gid, lid).unwrap();
    let events = event_channel();
    let id = events.create_id(PortSpace::Tcp).unwrap();
    let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), fresh_port());
    id.bind(address).unwrap();
    id.listen(1).unwrap();
    message(&mut both, &region, 0);

    // The child gets a copy of everything: its parent's variables are read again below, so `ptr::read` stands for the moves.
    let everything = (&both, &region, &channel, &extra_cq, &srq, &datagrams, &ah, &id, &events);
    let copy = || {
        let (both, region, channel, extra_cq, srq, datagrams, ah, id, events) = everything;
        // SAFETY: this runs in the child alone, which exits without using the originals.
        let (both, region) = unsafe { (std::ptr::read(both), std::ptr::read(region)) };
        // SAFETY: as above.
        let (channel, extra_cq, srq) =
            unsafe { (std::ptr::read(channel), std::ptr::read(extra_cq), std::ptr::read(srq)) };
        // SAFETY: as above.
        let (datagrams, ah, id, events) = unsafe {
            (std::ptr::read(datagrams), std::ptr::read(ah), std::ptr::read(id), std::ptr::read(events))
        };
        let why = id.destroy().unwrap_err().to_string();
        assert!(why.contains("forked from"), "{why}");
        let Loop { left, right, left_cq, right_cq, pd, ctx } = both;
        let why = left.destroy().unwrap_err().to_string();
        assert!(why.contains("destroy_qp") && why.contains("forked from"), "{why}");
        drop((ah, datagrams, srq, extra_cq, channel, events));
        drop((right, left_cq, right_cq, region, pd, ctx));
    };
    let pid = child(copy);
    let (mut n, mut left) = (1, None);
    while left.is_none() || n < 200 {
        message(&mut both, &region, n);
        n += 1;
        if left.is_none() {
            let status = waitpid(pid, Some(WaitPidFlag::WNOHANG)).unwrap();
            left = (status != WaitStatus::StillAlive).then_some(status);
        }
    }
    assert_eq!(left, Some(WaitStatus::Exited(pid, 0)), "the child failed");
    for n in 0..100 {
        message(&mut both, &region, n);
    }
    let mut bytes = [0; 100];
    region.read(2048, &mut bytes);
    assert_eq!(bytes, [0x5a; 100]);
    assert_eq!(both.left.state().unwrap(), QpState::RTS);
    assert_eq!(id.local_addr().unwrap().port(), address.port());
    extra_cq.req_notify(false).unwrap();
    datagrams.detach_mcast(gid, lid).unwrap();
    ah.destroy().unwrap();
    datagrams.destroy().unwrap();
    srq.destroy().unwrap();
    extra_cq.destroy().unwrap();
    id.destroy().unwrap();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_child_cannot_reach_the_queues() {
    extern "C" fn faulted(_: i32) {
        // SAFETY: allowed in a signal handler.
        unsafe { libc::_exit(42) }
    }
    let mut both = Loop::new();
    let region = both.region(4096);
    let pid = child(|| {
        // Without a handler the kernel's log would have it.
        handle_signal(
            Signal::SIGSEGV,
            &SigAction::new(SigHandler::Handler(faulted), SaFlags::empty(), SigSet::empty()),
        );
        let _ = both.right.post_recv(RecvWr::new(1).sge(region.slice(..8)));
    });
    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 42));
    message(&mut both, &region, 2);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn registered_memory_is_copied_at_a_fork() {
    // Every kernel that is tested does.
    assert!(Nldev::open().unwrap().copies_on_fork().unwrap());
    let mut both = Loop::new();
    let mut region = both.region(4096);
    region.write(0, &[1; 100]);
    let pid = child(|| std::thread::sleep(std::time::Duration::from_secs(2)));
    // Writing to pages that are shared would give this process other ones than those that the device has.
    region.write(0, &[2; 100]);
    region.write(2048, &[0; 100]);
    message(&mut both, &region, 1);
    let mut bytes = [0; 100];
    region.read(2048, &mut bytes);
    assert_eq!(bytes, [2; 100]);
    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 0));
}
