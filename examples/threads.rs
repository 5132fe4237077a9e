//! Threads: one polls a completion queue, one accepts connections onto it, and each half of a queue pair has a thread of its own.
//!
//! ```text
//! cargo build --release --example threads --target x86_64-unknown-linux-musl
//! cargo xtask vm -- target/x86_64-unknown-linux-musl/release/examples/threads
//! ```
//!
//! Nothing is locked: each queue has one owner. What others need of a queue is a handle, which names it and keeps it alive.

mod support;

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bareverbs::{
    Access, ConnectAttr, CqInit, Endpoint, PortNum, Qp, QpInit, Qpn, RecvWr, SendWr, Wait, Wc, WcStatus,
};
use support::{Outcome, device};

const CLIENTS: usize = 4;
const MESSAGES: u64 = 50;
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> Outcome {
    let (ctx, gid_index) = device()?;
    let pd = ctx.alloc_pd()?;
    // Receives of every connection come from one queue and complete into one queue.
    let mut srq = pd.create_srq(64)?;
    let mut recv_cq = ctx.create_cq(CqInit::new(256))?;
    let (srq_handle, recv_cq_handle) = (srq.handle(), recv_cq.handle());
    let target = pd.alloc_mr(64 * 64, Access::LOCAL_WRITE)?;
    for n in 0..64 {
        srq.post_recv(RecvWr::new(n as u64).sge(target.slice(n * 64..(n + 1) * 64)))?;
    }

    // The poller owns the completion queue and the shared receive queue; it posts each receive again.
    let poller = thread::spawn(move || -> Result<HashMap<Qpn, u64>, String> {
        let mut received = HashMap::new();
        let start = Instant::now();
        while received.values().sum::<u64>() < CLIENTS as u64 * MESSAGES {
            if start.elapsed() > PATIENCE {
                return Err(format!("messages are missing: {received:?}"));
            }
            let mut again = Vec::new();
            // Entries are freed in batches as the iterator goes on.
            for wc in recv_cq.completions() {
                if wc.status != WcStatus::SUCCESS {
                    return Err(wc.status.to_string());
                }
                *received.entry(wc.qp_num).or_default() += 1;
                again.push(wc.wr_id);
            }
            for n in again {
                let at = n as usize * 64;
                srq.post_recv(RecvWr::new(n).sge(target.slice(at..at + 64))).map_err(|e| e.to_string())?;
            }
            thread::yield_now();
        }
        Ok(received)
    });

    // The acceptor creates queue pairs that complete into the queue that the poller polls all the while.
    type Request = (Endpoint, mpsc::Sender<Endpoint>);
    let (requests, asked) = mpsc::channel::<Request>();
    let (acceptor_ctx, acceptor_pd) = (ctx.clone(), pd.clone());
    let acceptor = thread::spawn(move || -> Result<Vec<Qp>, String> {
        let accept = |(peer, reply): Request| -> Outcome<Qp> {
            let send_cq = acceptor_ctx.create_cq(1)?;
            let mut qp = acceptor_pd.create_qp(QpInit::rc(&send_cq, &recv_cq_handle).srq(&srq_handle))?;
            let ours = qp.init_endpoint(PortNum::ONE, Some(gid_index))?;
            qp.connect(&peer, ConnectAttr::new())?;
            reply.send(ours)?;
            Ok(qp)
        };
        asked.iter().map(|request| accept(request).map_err(|e| e.to_string())).collect()
    });

    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let cq = ctx.create_cq(CqInit::new(16).own_channel())?;
        let mut qp = pd.create_qp(QpInit::rc(&cq, &cq).max_send_wr(4).max_inline_data(32))?;
        let ours = qp.init_endpoint(PortNum::ONE, Some(gid_index))?;
        let (reply, answer) = mpsc::channel();
        requests.send((ours, reply))?;
        qp.connect(&answer.recv()?, ConnectAttr::new())?;
        // The sending half goes to a thread; the receiving half stays here.
        let (mut send, recv) = qp.into_split();
        let mut cq = cq;
        let sender = thread::spawn(move || -> Result<_, String> {
            for n in 0..MESSAGES {
                let text = format!("message {n}");
                let request = SendWr::send(n).inline(text.as_bytes()).signaled();
                send.post_send(request).map_err(|e| e.to_string())?;
                let mut wcs = [Wc::default()];
                match cq
                    .wait(&mut wcs, Wait::default(), Some(PATIENCE))
                    .map_err(|e| e.to_string())?
                    .completions()
                {
                    [wc] if wc.is_success() => {}
                    other => return Err(format!("{other:?}")),
                }
            }
            Ok(send)
        });
        clients.push((sender, recv));
    }
    drop(requests);
    let join = |_| "a thread panicked";
    for (sender, recv) in clients {
        // Joined again, the queue pair can change its state.
        let qp = Qp::join(sender.join().map_err(join)??, recv)?;
        println!("QP {} has sent {MESSAGES} messages", qp.qp_num());
        qp.destroy()?;
    }
    let received = poller.join().map_err(join)??;
    let accepted = acceptor.join().map_err(join)??;
    for qp in &accepted {
        let count = received.get(&qp.qp_num()).copied().unwrap_or(0);
        println!("QP {} has received {count} messages", qp.qp_num());
        if count != MESSAGES {
            return Err("messages went astray".into());
        }
    }
    Ok(())
}
