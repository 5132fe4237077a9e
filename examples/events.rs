//! Events in a loop of one's own: a completion channel that two queues share, solicited completions, async events.
//!
//! ```text
//! cargo build --release --example events --target x86_64-unknown-linux-musl
//! cargo xtask vm -- target/x86_64-unknown-linux-musl/release/examples/events
//! ```
//!
//! Channels and async events are descriptors that never block, so any event loop can have them; here it is poll(2).
//! [`bareverbs::Cq::wait`] is the shorter way for a program that waits for one queue.

mod support;

use std::os::fd::AsFd;

use bareverbs::{
    Access, AsyncEventType, AsyncEvents, CompChannel, ConnectAttr, Cq, CqInit, PortNum, QpInit, RecvWr,
    SendWr, Wc,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use support::{Outcome, device};

fn main() -> Outcome {
    let (ctx, gid_index) = device()?;
    let pd = ctx.alloc_pd()?;
    let channel = ctx.create_comp_channel()?;
    let events = ctx.async_events()?;
    let mut send_cq = ctx.create_cq(CqInit::new(16).channel(&channel))?;
    let mut recv_cq = ctx.create_cq(CqInit::new(16).channel(&channel))?;
    // Nobody polls this one, and it has room for few.
    let small_cq = ctx.create_cq(1)?;

    let mut left = pd.create_qp(QpInit::rc(&send_cq, &small_cq).max_send_wr(16))?;
    let mut right = pd.create_qp(QpInit::rc(&small_cq, &recv_cq).max_send_wr(16).max_recv_wr(16))?;
    let at_left = left.init_endpoint(PortNum::ONE, Some(gid_index))?;
    let at_right = right.init_endpoint(PortNum::ONE, Some(gid_index))?;
    left.connect(&at_right, ConnectAttr::new().access(Access::REMOTE_WRITE))?;
    right.connect(&at_left, ConnectAttr::new().access(Access::REMOTE_WRITE))?;
    let mr = pd.alloc_mr(64, Access::LOCAL_WRITE | Access::REMOTE_WRITE)?;

    // Armed for solicited completions: of three messages only the last, which is solicited, makes an event. The sender is
    // armed for any, and signals its last request only.
    for n in 1..=3 {
        right.post_recv(RecvWr::new(n).sge(mr.slice(..8)))?;
    }
    recv_cq.req_notify(true)?;
    send_cq.req_notify(false)?;
    let message = |n| SendWr::send(n).sge(mr.slice(8..16));
    left.post_sends(&[message(11), message(12), message(13).solicited().signaled()])?;
    let (mut sent, mut received) = (0, 0);
    while (sent, received) != (1, 3) {
        ready(&channel, &events)?;
        while let Some(event) = channel.next_event()? {
            if recv_cq.owns(event) {
                received += drain(&mut recv_cq, "receive");
            } else if send_cq.owns(event) {
                sent += drain(&mut send_cq, "send");
            }
        }
    }

    // Completions that nobody takes: a queue that overflows is an async event of that queue.
    println!("the right writes until its completion queue of {} overflows", small_cq.capacity());
    for n in 0..8 {
        right.post_send(SendWr::rdma_write(n, mr.remote(32)).sge(mr.slice(40..48)).signaled())?;
    }
    loop {
        ready(&channel, &events)?;
        while let Some(event) = events.next_event()? {
            println!("async event: {:?} of {}", event.event_type, event.element);
            if event.event_type == AsyncEventType::CQ_ERR && event.element == small_cq.user_handle() {
                return Ok(());
            }
        }
    }
}

/// Takes out what a queue holds. A queue is armed for one event: a loop that goes on arms it again here, then polls once more.
fn drain(cq: &mut Cq, name: &str) -> usize {
    let mut wcs = [Wc::default(); 8];
    let taken = cq.poll(&mut wcs);
    println!("an event of the {name} queue: {} completions", taken.len());
    taken.len()
}

/// Waits until either descriptor can be read.
fn ready(channel: &CompChannel, events: &AsyncEvents) -> Outcome {
    let mut fds =
        [PollFd::new(channel.as_fd(), PollFlags::POLLIN), PollFd::new(events.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(10_000u16))? {
        0 => Err("no event within 10 s".into()),
        _ => Ok(()),
    }
}
