//! What the examples share: two queue pairs of one process, connected to each other, and a wait that tells what it got.
//!
//! Between two processes nothing changes but that each [`Endpoint`](bareverbs::Endpoint), and what a peer must know of a
//! region, travels over a socket first.

#![allow(dead_code)] // each example uses a part

use std::error::Error;
use std::time::Duration;

use bareverbs::{
    Access, ConnectAttr, Context, Cq, CqInit, Device, Pd, PortNum, Qp, QpInit, Wait, Wc, WcStatus,
};

/// What every example's `main` returns.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Two connected queue pairs, and what they were made from.
pub(crate) struct Pair {
    pub(crate) left: Side,
    pub(crate) right: Side,
    pub(crate) pd: Pd,
    pub(crate) ctx: Context,
}

/// One end: a queue pair and the completion queue of both its halves.
pub(crate) struct Side {
    pub(crate) qp: Qp,
    pub(crate) cq: Cq,
}

/// Opens the device that the command line names (`[DEVICE [GID-INDEX]]`: the first, and 1).
pub(crate) fn device() -> Outcome<(Context, u32)> {
    let mut arguments = std::env::args().skip(1);
    let device = match arguments.next() {
        Some(name) => Device::by_name(&name)?,
        None => Device::first()?,
    };
    let gid_index = arguments.next().map(|index| index.parse()).transpose()?.unwrap_or(1);
    println!("device {}, GID index {gid_index}", device.name());
    Ok((device.open()?, gid_index))
}

impl Pair {
    /// Connects two queue pairs whose peers may do `access` to their regions.
    pub(crate) fn connected(access: Access) -> Outcome<Self> {
        let (ctx, gid_index) = device()?;
        let pd = ctx.alloc_pd()?;
        let side = || -> Outcome<Side> {
            let cq = ctx.create_cq(CqInit::new(64).own_channel())?;
            let qp = pd.create_qp(QpInit::rc(&cq, &cq).max_send_wr(16).max_recv_wr(16).max_send_sge(2))?;
            Ok(Side { qp, cq })
        };
        let (mut left, mut right) = (side()?, side()?);
        let at_left = left.qp.init_endpoint(PortNum::ONE, Some(gid_index))?;
        let at_right = right.qp.init_endpoint(PortNum::ONE, Some(gid_index))?;
        let attr = ConnectAttr::new().access(access).max_rd_atomic(4);
        left.qp.connect(&at_right, attr)?;
        right.qp.connect(&at_left, attr)?;
        println!("connected: QP {} and QP {}", left.qp.qp_num(), right.qp.qp_num());
        Ok(Self { left, right, pd, ctx })
    }
}

/// The next completion, whatever its status.
pub(crate) fn take(cq: &mut Cq) -> Outcome<Wc> {
    let mut wcs = [Wc::default()];
    match cq.wait(&mut wcs, Wait::default(), Some(Duration::from_secs(10)))?.completions() {
        [wc] => Ok(*wc),
        _ => Err("no completion within 10 s".into()),
    }
}

/// The next completion, told of.
pub(crate) fn completion(cq: &mut Cq) -> Outcome<Wc> {
    let wc = take(cq)?;
    println!("  completion of request {}: {}", wc.wr_id, wc.status);
    Ok(wc)
}

/// The next completion, told of, which must be a success.
pub(crate) fn success(cq: &mut Cq) -> Outcome<Wc> {
    let wc = completion(cq)?;
    match wc.status {
        WcStatus::SUCCESS => Ok(wc),
        status => Err(format!("request {}: {status}", wc.wr_id).into()),
    }
}
