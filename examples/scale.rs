//! What many queue pairs on one completion queue cost: `scale make COUNT` and `scale poll COUNT GID`. `tests/c/scale.c` is the
//! same on libibverbs, and describes arguments and output.

use std::time::{Duration, Instant};

use bareverbs::{Access, ConnectAttr, Cq, Device, Mtu, Pd, PortNum, Qp, QpInit, SendWr, Wc};

const REQUESTS: u32 = 16;
const ROUND: usize = 256;
const ROUNDS: usize = 40;
const BATCH: usize = 16;
const THOUSAND: usize = 1000;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome {
    const USAGE: &str = "usage: scale make COUNT | scale poll COUNT GID";
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ctx = Device::first()?.open()?;
    let pd = ctx.alloc_pd()?;
    let cq = ctx.create_cq(2 * ROUND as u32)?;
    match words[..] {
        ["make", count] => make(&pd, &cq, count.parse()?),
        ["poll", count, gid] => poll_all(&pd, cq, count.parse()?, gid.parse()?),
        _ => Err(USAGE.into()),
    }
}

fn make_qp(pd: &Pd, cq: &Cq, requests: u32) -> Outcome<Qp> {
    Ok(pd.create_qp(QpInit::rc(cq, cq).max_send_wr(requests).max_recv_wr(REQUESTS))?)
}

/// Creates queue pairs and destroys them again.
fn make(pd: &Pd, cq: &Cq, count: usize) -> Outcome {
    // On the heap each, as libibverbs has them.
    let mut qps: Vec<Option<Box<Qp>>> = Vec::new();
    let mut at = vec![Instant::now(); count + 1];
    qps.resize_with(count, || None);
    let before = resident()?;
    at[0] = Instant::now();
    for (qp, at) in qps.iter_mut().zip(&mut at[1..]) {
        *qp = Some(Box::new(make_qp(pd, cq, REQUESTS)?));
        *at = Instant::now();
    }
    println!("kib {:.3}", (resident()? - before) / count as f64);
    report("create", &at);
    at[0] = Instant::now();
    for (qp, at) in qps.iter_mut().zip(&mut at[1..]) {
        if let Some(qp) = qp.take() {
            qp.destroy()?;
        }
        *at = Instant::now();
    }
    report("destroy", &at);
    Ok(())
}

/// Microseconds for each of the first thousand, of the last thousand, and of all.
fn report(what: &str, at: &[Instant]) {
    let count = at.len() - 1;
    let part = count.min(THOUSAND);
    let each = |from: usize, to: usize| (at[to] - at[from]).as_secs_f64() / (to - from) as f64 * 1e6;
    println!("{what}_first {:.2}", each(0, part));
    println!("{what}_last {:.2}", each(count - part, count));
    println!("{what}_all {:.2}", each(0, count));
}

/// Resident memory in KiB; pages of 4 KiB are assumed.
fn resident() -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: f64 = text.split_whitespace().nth(1).ok_or("/proc/self/statm")?.parse()?;
    Ok(pages * 4.0)
}

/// Takes completions out that come from all queue pairs in random order.
fn poll_all(pd: &Pd, mut cq: Cq, count: usize, gid: i32) -> Outcome {
    let memory = pd.alloc_mr(4096, Access::LOCAL_WRITE | Access::REMOTE_WRITE)?;
    let (from, to) = (memory.slice(..8), memory.remote(64));
    let requests = if count == 1 { ROUND as u32 } else { REQUESTS };
    let mut qps = Vec::with_capacity(count);
    for _ in 0..count {
        let mut qp = make_qp(pd, &cq, requests)?;
        let itself = qp.init_endpoint(PortNum::ONE, u32::try_from(gid).ok())?;
        qp.connect(&itself, ConnectAttr::new().mtu(Mtu::MTU_1024).retry(18, 7).access(Access::REMOTE_WRITE))?;
        qps.push(qp);
    }
    let mut state = 88172645463325252u64;
    let mut nap = Duration::from_millis(5);
    let mut taken = Vec::with_capacity(ROUNDS);
    while taken.len() < ROUNDS {
        for id in 0..ROUND as u64 {
            let at = next_random(&mut state) as usize % count;
            write_one(&mut qps[at], SendWr::rdma_write(id, to).sge(from).signaled())?;
        }
        std::thread::sleep(nap);
        let begin = Instant::now();
        let mut got = take(&mut cq)?;
        let time = begin.elapsed();
        if got == ROUND {
            taken.push(time);
            continue;
        }
        // Not all of them had completed: that counts for nothing, and the next round waits longer.
        nap += nap / 4;
        if nap > Duration::from_millis(900) {
            return Err("no completions".into());
        }
        while got < ROUND {
            got += take(&mut cq)?;
        }
    }
    taken.sort_unstable();
    println!("ns_per_completion {:.2}", taken[ROUNDS / 4].as_secs_f64() / ROUND as f64 * 1e9);
    Ok(())
}

fn write_one(qp: &mut Qp, wr: SendWr<'_>) -> Outcome {
    Ok(qp.post_send(wr)?)
}

fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Takes out what is there; returns how many completions.
#[inline(never)]
fn take(cq: &mut Cq) -> Outcome<usize> {
    let mut wcs = [Wc::default(); BATCH];
    let mut all = 0;
    loop {
        let got = cq.poll(&mut wcs);
        if got.is_empty() {
            return Ok(all);
        }
        if let Some(wc) = got.iter().find(|wc| !wc.is_success()) {
            return Err(wc.status.to_string().into());
        }
        all += got.len();
    }
}
