//! Atomic operations on a peer's memory: a counter that two sides add to, and a lock that one of them gets.
//!
//! ```text
//! cargo build --release --example atomics --target x86_64-unknown-linux-musl
//! cargo xtask vm -- target/x86_64-unknown-linux-musl/release/examples/atomics
//! ```
//!
//! The word is 64 bits at a multiple of 8, in the byte order of the machine that it is on. What was there before comes back
//! into 8 bytes of the requester's memory. Each side has its own thread, and owns its queue pair there: no lock is taken.

mod support;

use bareverbs::{Access, Mr, Pd, Remote, SendWr, WcStatus};
use support::{Outcome, Pair, Side, success, take};

const ROUNDS: u64 = 20;

fn main() -> Outcome {
    let Pair { mut left, mut right, pd, .. } = Pair::connected(Access::REMOTE_ATOMIC)?;
    let words = pd.alloc_mr(16, Access::LOCAL_WRITE | Access::REMOTE_ATOMIC)?;
    let (counter, lock) = (words.remote(0), words.remote(8));

    println!("fetch-add: two sides add 1 and 100 to one counter, {ROUNDS} times each");
    let sum = std::thread::scope(|threads| {
        let ones = threads.spawn(|| add(&mut left, &pd, counter, 1).map_err(|e| e.to_string()));
        let hundreds = threads.spawn(|| add(&mut right, &pd, counter, 100).map_err(|e| e.to_string()));
        for (name, adder) in [("left", ones), ("right", hundreds)] {
            let last = adder.join().map_err(|_| "a thread panicked")??;
            println!("{name} saw {last} before its last addition");
        }
        Ok::<_, Box<dyn std::error::Error>>(word(&words, 0))
    })?;
    println!("the counter is {sum}");

    println!("compare-swap: the lock is free while it is 0");
    let result = pd.alloc_mr(8, Access::LOCAL_WRITE)?;
    for (name, side, id) in [("left", &mut left, 1), ("right", &mut right, 2)] {
        side.qp.post_send(SendWr::compare_swap(id, lock, 0, id).sge(result.slice(..)).signaled())?;
        success(&mut side.cq)?;
        match word(&result, 0) {
            0 => println!("{name} has the lock"),
            holder => println!("{name} finds it held by {holder}"),
        }
    }
    match (sum, word(&words, 8)) {
        (total, 1) if total == ROUNDS * 101 => Ok(()),
        other => Err(format!("the words are {other:?}").into()),
    }
}

/// Adds to the counter again and again; gives what was there before the last addition.
fn add(side: &mut Side, pd: &Pd, counter: Remote, amount: u64) -> Outcome<u64> {
    let before = pd.alloc_mr(8, Access::LOCAL_WRITE)?;
    for round in 0..ROUNDS {
        side.qp.post_send(SendWr::fetch_add(round, counter, amount).sge(before.slice(..)).signaled())?;
        match take(&mut side.cq)?.status {
            WcStatus::SUCCESS => {}
            status => return Err(format!("addition {round}: {status}").into()),
        }
    }
    Ok(word(&before, 0))
}

fn word(mr: &Mr, offset: usize) -> u64 {
    let mut bytes = [0; 8];
    mr.read(offset, &mut bytes);
    u64::from_ne_bytes(bytes)
}
