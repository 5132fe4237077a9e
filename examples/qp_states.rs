//! The states of a queue pair, by hand: what each transition takes, and what is said of one that is wrong.
//!
//! ```text
//! cargo build --release --example qp_states --target x86_64-unknown-linux-musl
//! cargo xtask vm -- target/x86_64-unknown-linux-musl/release/examples/qp_states
//! ```
//!
//! The queue pair is connected to itself, which takes no second one. Whoever only wants a connection uses
//! [`Qp::init_endpoint`] and [`Qp::connect`] instead, which make these transitions.

mod support;

use bareverbs::{
    Access, AddressVector, Lid, Mtu, PortNum, Psn, Qp, QpAttr, QpInit, QpState, RecvWr, SendWr, WcStatus,
};
use support::{Outcome, completion, device, success};

fn main() -> Outcome {
    let (ctx, gid_index) = device()?;
    let pd = ctx.alloc_pd()?;
    let mut cq = ctx.create_cq(bareverbs::CqInit::new(16).own_channel())?;
    let mr = pd.alloc_mr(64, Access::LOCAL_WRITE)?;
    let mut qp = pd.create_qp(QpInit::rc(&cq, &cq).max_send_wr(4).max_recv_wr(4))?;
    println!("a new queue pair is in {:?}", qp.state()?);

    // The kernel answers EINVAL to all of these; the hint says what is wrong.
    refused(&mut qp, &QpAttr::to(QpState::RTS));
    refused(&mut qp, &QpAttr { port: Some(PortNum::ONE), ..QpAttr::to(QpState::INIT) });

    let init = QpAttr {
        pkey_index: Some(0),
        port: Some(PortNum::ONE),
        access: Some(Access::empty()),
        ..QpAttr::to(QpState::INIT)
    };
    go(&mut qp, &init)?;
    // Receives can be posted from here on.
    qp.post_recv(RecvWr::new(1).sge(mr.slice(..32)))?;

    let peer = AddressVector {
        dgid: Some(ctx.query_gid(PortNum::ONE, gid_index)?),
        sgid_index: u8::try_from(gid_index)?,
        hop_limit: 1,
        ..AddressVector::local(PortNum::ONE, Lid(0))
    };
    let psn = Psn::new(0x00ab_cdef)?;
    let rtr = QpAttr {
        av: Some(peer),
        path_mtu: Some(Mtu::MTU_1024),
        dest_qp_num: Some(qp.qp_num()),
        rq_psn: Some(psn),
        max_dest_rd_atomic: Some(1),
        min_rnr_timer: Some(12),
        ..QpAttr::to(QpState::RTR)
    };
    refused(&mut qp, &QpAttr { av: None, min_rnr_timer: None, ..rtr });
    refused(&mut qp, &QpAttr { timeout: Some(14), ..rtr });
    go(&mut qp, &rtr)?;
    go(
        &mut qp,
        &QpAttr {
            sq_psn: Some(psn),
            timeout: Some(14),
            retry_cnt: Some(7),
            rnr_retry: Some(7),
            max_rd_atomic: Some(1),
            ..QpAttr::to(QpState::RTS)
        },
    )?;
    qp.post_send(SendWr::send(2).sge(mr.slice(32..)).signaled())?;
    success(&mut cq)?;
    success(&mut cq)?;

    // What is outstanding when a queue pair fails is flushed.
    qp.post_recv(RecvWr::new(3).sge(mr.slice(..32)))?;
    go(&mut qp, &QpAttr::to(QpState::ERR))?;
    let flushed = completion(&mut cq)?;
    go(&mut qp, &QpAttr::to(QpState::RESET))?;
    match flushed.status {
        WcStatus::WR_FLUSH_ERR => Ok(()),
        other => Err(format!("the receive was not flushed: {other}").into()),
    }
}

/// Makes a transition and tells what the kernel has afterwards.
fn go(qp: &mut Qp, attr: &QpAttr) -> Outcome {
    qp.modify(attr)?;
    let now = qp.query()?;
    println!(
        "now {:?}: peer {:?}, rq_psn {:?}, sq_psn {:?}, timeout {:?}",
        qp.state()?,
        now.dest_qp_num,
        now.rq_psn,
        now.sq_psn,
        now.timeout
    );
    Ok(())
}

/// Tries a transition that is wrong.
fn refused(qp: &mut Qp, attr: &QpAttr) {
    match qp.modify(attr) {
        Ok(()) => println!("this kernel takes it"),
        Err(error) => println!("  {error}"),
    }
}
