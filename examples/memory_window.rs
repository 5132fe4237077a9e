//! A memory window: a key for a part of a region, given out for one use and taken back without the kernel.
//!
//! ```text
//! cargo build --release --example memory_window --target x86_64-unknown-linux-musl
//! cargo xtask vm -- target/x86_64-unknown-linux-musl/release/examples/memory_window
//! ```
//!
//! The right side lends a kilobyte; the left writes into it and returns the key with its answer (send with invalidate).
//! After that the key is worth nothing. Windows are bound by a request on the send queue, so lending costs no kernel command.

mod support;

use bareverbs::{Access, Mr, MwType, RecvWr, Remote, SendWr, WcExtra, WcStatus};
use support::{Outcome, Pair, completion, success};

fn main() -> Outcome {
    let Pair { mut left, mut right, pd, .. } = Pair::connected(Access::REMOTE_WRITE)?;
    let mut source = pd.alloc_mr(4096, Access::LOCAL_WRITE)?;
    // Peers cannot reach the region by its own key: it allows only windows.
    let region = pd.alloc_mr(4096, Access::LOCAL_WRITE | Access::MW_BIND)?;
    let mut window = pd.alloc_mw(MwType::Two)?;

    println!("the right lends bytes 1024 to 2048 of its region:");
    let bind = window.bind(1, region.slice(1024..2048), Access::REMOTE_WRITE);
    right.qp.post_send(bind.signaled())?;
    success(&mut right.cq)?;
    let lent = Remote { rkey: window.bound(), ..region.remote(1024) };
    println!("  key {}, the region's own is {}", window.rkey(), region.rkey());

    println!("the left writes through the window and gives the key back:");
    source.write(0, b"answer");
    right.qp.post_recv(RecvWr::new(2).sge(region.slice(..64)))?;
    left.qp.post_sends(&[
        SendWr::rdma_write(3, lent).sge(source.slice(..6)),
        SendWr::send_with_inv(4, lent.rkey).sge(source.slice(..6)).signaled(),
    ])?;
    success(&mut left.cq)?;
    let told = success(&mut right.cq)?;
    println!("  the right gets: {:?}; its region holds {:?}", told.extra, text(&region, 1024));
    if told.extra != WcExtra::Invalidated(lent.rkey) || text(&region, 1024) != "answer" {
        return Err("the window was not written through and given back".into());
    }

    println!("the left tries the key once more:");
    left.qp.post_send(SendWr::rdma_write(5, lent).sge(source.slice(..6)))?;
    let refused = completion(&mut left.cq)?;

    // A region that a window is bound to stays registered; this one is not bound any more.
    window.destroy()?;
    region.destroy()?;
    match refused.status {
        WcStatus::REM_ACCESS_ERR => Ok(()),
        other => Err(format!("a key that was given back still has the status {other}").into()),
    }
}

fn text(mr: &Mr, offset: usize) -> String {
    let mut bytes = [0; 6];
    mr.read(offset, &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
