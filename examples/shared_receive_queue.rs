//! A shared receive queue: several queue pairs take from it, and an event says when it runs low.
//!
//! ```text
//! cargo build --release --example shared_receive_queue --target x86_64-unknown-linux-musl
//! cargo xtask vm -- target/x86_64-unknown-linux-musl/release/examples/shared_receive_queue
//! ```
//!
//! On a machine that has a device: `shared_receive_queue [DEVICE [GID-INDEX]]`; the first device and index 1 by default.

mod support;

use std::time::{Duration, Instant};

use bareverbs::{Access, ConnectAttr, CqInit, EventSource, PortNum, QpInit, RecvWr, SendWr};

fn main() -> support::Outcome {
    let (ctx, gid_index) = support::device()?;
    let pd = ctx.alloc_pd()?;
    let mut cq = ctx.create_cq(CqInit::new(64).own_channel())?;
    let room = pd.alloc_mr(4096, Access::LOCAL_WRITE)?;
    let mut srq = pd.create_srq(8)?;
    for n in 0..8 {
        srq.post_recv(RecvWr::new(n).sge(room.slice(..64)))?;
    }
    srq.set_limit(3)?;

    let mut pairs = Vec::new();
    for _ in 0..3 {
        let mut client = pd.create_qp(QpInit::rc(&cq, &cq).max_inline_data(16))?;
        let mut server = pd.create_qp(QpInit::rc(&cq, &cq).srq(&srq))?;
        let at_client = client.init_endpoint(PortNum::ONE, Some(gid_index))?;
        let at_server = server.init_endpoint(PortNum::ONE, Some(gid_index))?;
        client.connect(&at_server, ConnectAttr::new())?;
        server.connect(&at_client, ConnectAttr::new())?;
        pairs.push((client, server));
    }
    for n in 0..6 {
        let (client, server) = &mut pairs[n % 3];
        client.post_send(SendWr::send(100).inline(b"request"))?;
        let wc = support::success(&mut cq)?;
        println!("    by QP {}, which is {}", wc.qp_num, server.qp_num());
    }

    // Six of eight are taken: the limit was passed.
    let events = ctx.async_events()?;
    let start = Instant::now();
    let event = loop {
        match events.next_event()? {
            Some(event) => break event,
            None if start.elapsed() > Duration::from_secs(10) => return Err("no event within 10 s".into()),
            None => std::thread::yield_now(),
        }
    };
    let whose = if event.source() == EventSource::Srq(srq.user_handle()) { "ours" } else { "somebody's" };
    println!("{:?} of {whose}", event.event_type);
    Ok(())
}
