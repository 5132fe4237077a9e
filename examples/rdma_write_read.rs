//! One-sided operations: write into a peer's memory, tell it with immediate data, and read back.
//!
//! ```text
//! cargo build --release --example rdma_write_read --target x86_64-unknown-linux-musl
//! cargo xtask vm -- target/x86_64-unknown-linux-musl/release/examples/rdma_write_read
//! ```
//!
//! The peer (the right side) posts nothing for a plain write and gets no completion of it. A write with immediate data
//! takes one of its receives, whose completion says so; the receive's own memory, if it has any, is left alone.

mod support;

use bareverbs::{Access, RecvWr, SendWr, Wc};
use support::{Outcome, Pair, success};

fn main() -> Outcome {
    let Pair { mut left, mut right, pd, .. } = Pair::connected(Access::REMOTE_WRITE | Access::REMOTE_READ)?;

    let mut source = pd.alloc_mr(4096, Access::LOCAL_WRITE)?;
    let target = pd.alloc_mr(4096, Access::LOCAL_WRITE | Access::REMOTE_WRITE | Access::REMOTE_READ)?;
    // The address and the key that a peer must be told.
    let there = target.remote(128);
    println!("the target is at {:#x} with key {}", there.addr, there.rkey);

    println!("write:");
    let text = b"written without the peer";
    source.write(0, text);
    left.qp.post_send(SendWr::rdma_write(1, there).sge(source.slice(..text.len())).signaled())?;
    success(&mut left.cq)?;
    let mut seen = [0; 24];
    target.read(128, &mut seen);
    println!("  the target holds {:?}", String::from_utf8_lossy(&seen));
    let mut none = [Wc::default()];
    println!("  completions on the right: {}", right.cq.poll(&mut none).len());

    println!("write with immediate data:");
    right.qp.post_recv(RecvWr::new(2))?;
    left.qp.post_send(
        SendWr::rdma_write_with_imm(3, there, 0xcafe).sge(source.slice(8..text.len())).signaled(),
    )?;
    success(&mut left.cq)?;
    let told = success(&mut right.cq)?;
    println!("  the right gets: {:?}, {} bytes, {:x?}", told.opcode, told.byte_len, told.imm());

    // Requests of one connection are carried out in order, so the read sees the write; only the last is signaled.
    println!("a write gathered from two pieces, and a read of it, for one doorbell:");
    let pieces = [source.slice(16..24), source.slice(7..16)];
    left.qp.post_sends(&[
        SendWr::rdma_write(4, there).sges(&pieces),
        SendWr::rdma_read(5, there).sge(source.slice(1024..1041)).signaled(),
    ])?;
    success(&mut left.cq)?;
    let mut back = [0; 17];
    source.read(1024, &mut back);
    println!("  read back: {:?}", String::from_utf8_lossy(&back));
    match &back {
        b"the peer without " => Ok(()),
        _ => Err("what was read is not what was written".into()),
    }
}
