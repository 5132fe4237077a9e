//! What posting and polling cost: `posting MODE COUNT`, for a counter of instructions. `tests/c/posting.c` is the same on
//! libibverbs, and says how the two are compared.

use std::time::Duration;

use bareverbs::{
    Access, ConnectAttr, Context, Cq, Device, Mtu, Pd, PortNum, Qp, QpInit, RecvWr, SendWr, Sge, Wc,
};

const RECEIVES: u32 = 2048;
const BATCH: usize = 16;
const SMALL: usize = 64;
const LARGE: usize = 4096;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome {
    const USAGE: &str = "usage: posting inline|send|batch|recv|idle COUNT";
    let mut arguments = std::env::args().skip(1);
    let (Some(mode), Some(count)) = (arguments.next(), arguments.next()) else { return Err(USAGE.into()) };
    let count: u64 = count.parse()?;
    let ctx = Device::first()?.open()?;
    let pd = ctx.alloc_pd()?;
    let mut cq = ctx.create_cq(64)?;
    let mut memory = pd.alloc_mr(2 * LARGE, Access::LOCAL_WRITE)?;
    memory.write(0, &[7; LARGE]);
    let (mut near, _far) = connected(&ctx, &pd, &cq, memory.slice(LARGE..))?;
    let bytes = [7; SMALL];
    let large = memory.slice(..LARGE);
    let room = memory.slice(LARGE..);
    // As in C, a loop that posts, naps and looks; which one is settled outside it.
    match mode.as_str() {
        "recv" => receive(&mut near, room, count)?,
        "inline" => send(&mut near, &mut cq, count, |id| SendWr::send(id).inline(&bytes).signaled())?,
        "send" => send(&mut near, &mut cq, count, |id| SendWr::send(id).sge(large).signaled())?,
        "batch" => send_batches(&mut near, &mut cq, count, large)?,
        "idle" => (0..count).for_each(|_| nap()),
        _ => return Err(USAGE.into()),
    }
    // As in C, nothing is destroyed: that would look at every completion that was not polled.
    std::process::exit(0)
}

#[inline(never)]
fn receive(near: &mut Qp, room: Sge, count: u64) -> Outcome {
    for id in 0..count {
        near.post_recv(RecvWr::new(id).sge(room))?;
    }
    Ok(())
}

#[inline(never)]
fn send<'a>(near: &mut Qp, cq: &mut Cq, count: u64, wr: impl Fn(u64) -> SendWr<'a>) -> Outcome {
    let mut wcs = [Wc::default(); BATCH];
    for id in 0..count {
        near.post_send(wr(id))?;
        nap();
        collect(cq, &mut wcs, 1)?;
    }
    Ok(())
}

#[inline(never)]
fn send_batches(near: &mut Qp, cq: &mut Cq, count: u64, data: Sge) -> Outcome {
    let mut wcs = [Wc::default(); BATCH];
    for id in 0..count {
        let wrs: [SendWr<'_>; BATCH] =
            std::array::from_fn(|n| SendWr::send(id + n as u64).sge(data).signaled());
        near.post_sends(&wrs)?;
        nap();
        collect(cq, &mut wcs, BATCH)?;
    }
    Ok(())
}

/// A queue pair that completes into `cq`, connected to one that takes messages into `room` and is never polled.
fn connected(ctx: &Context, pd: &Pd, cq: &Cq, room: Sge) -> Outcome<(Qp, (Qp, Cq))> {
    let far_cq = ctx.create_cq(2 * RECEIVES)?;
    let make = |cq: &Cq| {
        let sizes = QpInit::rc(cq, cq).max_send_wr(64).max_recv_wr(RECEIVES).max_inline_data(SMALL as u32);
        pd.create_qp(sizes)
    };
    let (mut near, mut far) = (make(cq)?, make(&far_cq)?);
    let (at_near, at_far) = (near.init_endpoint(PortNum::ONE, None)?, far.init_endpoint(PortNum::ONE, None)?);
    let attr = ConnectAttr::new().mtu(Mtu::MTU_4096).retry(18, 7);
    near.connect(&at_far, attr)?;
    far.connect(&at_near, attr)?;
    for id in 0..RECEIVES.into() {
        far.post_recv(RecvWr::new(id).sge(room))?;
    }
    Ok((near, (far, far_cq)))
}

/// Long enough for what was posted to complete, so that one look finds it.
#[inline(never)] // the same instructions wherever it is
fn nap() {
    std::thread::sleep(Duration::from_millis(10));
}

#[inline]
fn collect(cq: &mut Cq, wcs: &mut [Wc], mut count: usize) -> Outcome {
    while count > 0 {
        let got = cq.poll(wcs);
        if let Some(wc) = got.iter().find(|wc| !wc.is_success()) {
            return failed(wc);
        }
        count = count.saturating_sub(got.len());
        if count > 0 {
            nap();
        }
    }
    Ok(())
}

#[cold]
fn failed(wc: &Wc) -> Outcome {
    Err(wc.status.to_string().into())
}
