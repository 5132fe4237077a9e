//! What the data path takes from the heap: nothing. A counting allocator looks on while messages go to and fro.
//!
//! ```text
//! cargo build --release --target x86_64-unknown-linux-musl --example allocations
//! cargo xtask vm -- target/x86_64-unknown-linux-musl/release/examples/allocations
//! ```

#![allow(unsafe_code)] // an allocator is unsafe by nature

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bareverbs::{Access, Mr, RecvWr, SendWr, Wait, Wc};
use support::{Outcome, Pair, Side};

/// The system's allocator, and a count of what is asked of it.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const ROUNDS: u32 = 1000;

fn main() -> Outcome {
    let Pair { mut left, mut right, pd, ctx: _ctx } = Pair::connected(Access::LOCAL_WRITE)?;
    let region = pd.alloc_mr(4096, Access::LOCAL_WRITE)?;
    let mut most = 0.0f64;
    for how in [Wait::Poll, Wait::Events, Wait::default()] {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..ROUNDS {
            there(&mut left, &mut right, &region, how)?;
            there(&mut right, &mut left, &region, how)?;
        }
        let each = (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / f64::from(ROUNDS);
        println!("{how:?}: {each} allocations per iteration");
        most = most.max(each);
    }
    println!("{most} allocations per iteration at the most");
    Ok(())
}

/// One message, and both its completions.
fn there(from: &mut Side, to: &mut Side, region: &Mr, how: Wait) -> Outcome {
    to.qp.post_recv(RecvWr::new(1).sge(region.slice(2048..)))?;
    from.qp.post_send(SendWr::send(2).sge(region.slice(..2048)).signaled())?;
    for side in [to, from] {
        let mut wcs = [Wc::default()];
        match side.cq.wait(&mut wcs, how, Some(Duration::from_secs(10)))?.completions() {
            [wc] if wc.is_success() => {}
            other => return Err(format!("{other:?}").into()),
        }
    }
    Ok(())
}
