//! Unreliable datagrams: each send goes to an address of its own, and each receive begins with 40 bytes of header.
//!
//! ```text
//! cargo build --release --example datagrams --target x86_64-unknown-linux-musl
//! cargo xtask vm -- target/x86_64-unknown-linux-musl/release/examples/datagrams
//! ```
//!
//! On a machine that has a device: `datagrams [DEVICE [GID-INDEX]]`; the first device and index 1 by default.

mod support;

use bareverbs::{Access, CqInit, PortNum, Qp, QpInit, RecvWr, SendWr};

fn main() -> support::Outcome {
    let (ctx, gid_index) = support::device()?;
    let pd = ctx.alloc_pd()?;
    let mut cq = ctx.create_cq(CqInit::new(16).own_channel())?;
    let room = pd.alloc_mr(3 * 100, Access::LOCAL_WRITE)?;

    // One who listens and two who send. None is connected to anybody.
    let mut listener = pd.create_qp(QpInit::ud(&cq, &cq).max_recv_wr(3))?;
    let there = listener.init_endpoint(PortNum::ONE, Some(gid_index))?;
    listener.start()?;
    for n in 0..3 {
        let part = room.slice(100 * n..100 * (n + 1));
        listener.post_recv(RecvWr::new(n as u64).sge(part))?;
    }
    for name in ["one", "two"] {
        let mut sender = pd.create_qp(QpInit::ud(&cq, &cq).max_inline_data(32))?;
        sender.init_endpoint(PortNum::ONE, Some(gid_index))?;
        sender.start()?;
        let ah = pd.create_ah(&sender.address(&there)?)?;
        let text = format!("from number {name}");
        let wr = SendWr::send(10).inline(text.as_bytes());
        sender.post_send(wr.ud_addr(&ah, there.qp_num, Qp::DEFAULT_QKEY).signaled())?;
        for _ in 0..2 {
            let wc = support::success(&mut cq)?;
            if wc.opcode.is_recv() {
                let mut message = vec![0; wc.byte_len as usize - Qp::GRH_LEN];
                room.read(100 * wc.wr_id as usize + Qp::GRH_LEN, &mut message);
                println!("    QP {} says: {}", wc.src_qp, String::from_utf8_lossy(&message));
            }
        }
    }
    Ok(())
}
