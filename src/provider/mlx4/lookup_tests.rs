//! The poller's table beside a list, while registrations come and go; and its growth.

use super::super::buffer::Buffer;
use super::super::registry::{Received, Registration, Shared};
use super::*;
use crate::sys::region::Region;

fn shared() -> Arc<Shared> {
    Shared::new(Buffer::new(Region::heap(4 * 32), 4, 5, 0).unwrap())
}

fn register(shared: &Arc<Shared>, qpn: u32) -> Registration {
    shared.register(Key::qp(qpn), None, Received::Nowhere)
}

fn keys(table: &Table) -> Vec<u32> {
    let mut keys = Vec::new();
    table.for_each(|registered| keys.push(registered.key.get()));
    keys.sort_unstable();
    keys
}

#[test]
fn the_table_has_what_is_registered() {
    let shared = shared();
    let mut table = Table::with_capacity(0);
    let mut registered: Vec<(u32, Registration)> = Vec::new();
    let mut state = 1u64;
    let (steps, numbers) = if cfg!(miri) { (60, 13) } else { (20_000, 97) };
    for step in 0..steps {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        // Few numbers that collide often: they differ in bits that the hash hardly spreads.
        let qpn = (state >> 40) as u32 % numbers * 0x1000;
        match registered.iter().position(|(known, _)| *known == qpn) {
            Some(at) => drop(registered.swap_remove(at)),
            None => registered.push((qpn, register(&shared, qpn))),
        }
        if step % 3 == 0 {
            shared.take_changes(&mut table, 0);
            let mut want: Vec<u32> = registered.iter().map(|(qpn, _)| *qpn).collect();
            want.sort_unstable();
            assert_eq!(keys(&table), want);
            assert_eq!(table.len(), want.len());
            for qpn in (0..numbers).map(|n| n * 0x1000) {
                let found = table.find(Key::qp(qpn), 0).map(|(node, found)| {
                    assert!(table.at(node, Key::qp(qpn)).is_some());
                    found.key.get()
                });
                assert_eq!(found, want.contains(&qpn).then_some(qpn));
            }
        }
    }
}

#[test]
fn the_poller_allocates_nothing_for_registrations() {
    let shared = shared();
    let mut table = Table::with_capacity(0);
    let mut all = Vec::new();
    for n in 0..if cfg!(miri) { 100 } else { 3000 } {
        all.push(register(&shared, n));
        if n % 7 == 0 {
            shared.take_changes(&mut table, 0);
            // The slots that the registering thread made, and no others.
            assert_eq!(table.slots.len(), 2 * shared.capacity(), "after {n}");
            assert!(table.nodes.len() <= shared.capacity());
        }
    }
}

#[test]
fn registrations_that_nobody_polls_for_take_no_more_memory_than_live_ones() {
    let shared = shared();
    let _first = register(&shared, 1);
    let mut last = register(&shared, 2);
    for n in 3..if cfg!(miri) { 100 } else { 1000 } {
        // The first and the last are alive at all times, and those between them go.
        last = register(&shared, n);
    }
    assert!(shared.capacity() <= 16, "{}", shared.capacity());
    assert_eq!(shared.waiting(), 2);
    drop(last);
    assert_eq!(shared.waiting(), 1);
}
