//! Completions as the device writes them, and as it would never write them; queues that come and go meanwhile.

use super::super::cqe::Key;
use super::super::mock::{Device, word};
use super::super::registry::Registration;
use super::super::srq;
use super::super::wq::Poster;
use super::*;
use crate::provider::RecvQueue;
use crate::sys::region::Region;
use crate::types::{Qpn, WcOpcode, WcStatus};

const SEND: u8 = 0x4a;
const RECV: u8 = 0x01;
const ERROR: u8 = 0x1e;

/// The device's side of a completion queue.
struct Filler {
    buffer: Region,
    record: Region,
    registers: Region,
    entries: u32,
    size: usize,
    next: u64,
}

/// An entry to be written.
#[derive(Clone, Copy)]
struct Told {
    qpn: u32,
    remote: u32,
    index: u16,
    owner: u8,
}

const fn told(qpn: u32, index: u16, owner: u8) -> Told {
    Told { qpn, remote: 0, index, owner }
}

fn made(entries: u32, size: usize) -> (Cq, Filler) {
    let memory = Region::heap(entries as usize * size);
    let buffer = memory.alias();
    let (record, words) = dbrec::Record::heap();
    let (uar, registers, _) = Device::uar();
    let log2_size = size.trailing_zeros();
    let cq = Cq::new(Buffer::new(memory, entries, log2_size, 0).unwrap(), &record, 0x80, uar).unwrap();
    (cq, Filler { buffer, record: words, registers, entries, size, next: 0 })
}

impl Filler {
    /// Fills the next entry; false where that would overwrite what has not been taken.
    fn fill(&mut self, told: Told) -> bool {
        let consumed = word(&self.record, 0);
        if (self.next as u32).wrapping_sub(consumed) & 0xff_ffff >= self.entries {
            return false;
        }
        self.overwrite(told);
        true
    }

    fn overwrite(&mut self, told: Told) {
        let at = (self.next as usize % self.entries as usize) * self.size + self.size - 32;
        let lap = self.next & u64::from(self.entries) != 0;
        let words = [told.qpn, 0, told.remote, 0, 0, u32::from(told.index), u32::from(told.index) << 16];
        for (n, word) in words.into_iter().enumerate() {
            self.buffer.write(at + n * 4, word.to_be());
        }
        let owner = u32::from(told.owner) | if lap { 0x80 } else { 0 };
        self.buffer.store_release(at + 28, owner.to_be());
        self.next += 1;
    }
}

/// A queue that has posted requests with names from `base` on.
fn posted(base: u64, count: u32) -> Arc<WorkQueue> {
    let mut poster = Poster::new(count).unwrap();
    for n in 0..count {
        poster.reserve().unwrap().announce(base + u64::from(n));
    }
    Arc::clone(poster.work_queue())
}

fn registered(cq: &Cq, qpn: u32, base: u64) -> Registration {
    let received = Received::Rq(posted(base + 1000, 8));
    cq.shared().register(Key::qp(qpn), Some(posted(base, 8)), received)
}

fn polled(cq: &mut Cq) -> Vec<(u64, WcStatus, u32)> {
    let mut wcs = [Wc::default(); 16];
    let taken = cq.poll(&mut wcs);
    wcs[..taken].iter().map(|wc| (wc.wr_id, wc.status, wc.qp_num.get())).collect()
}

const OK: WcStatus = WcStatus::SUCCESS;
const BAD: WcStatus = WcStatus::GENERAL_ERR;

#[test]
fn each_completion_goes_to_its_queue() {
    for size in [32, 64] {
        let (mut cq, mut device) = made(8, size);
        let _queues: Vec<_> =
            [(0x40, 100), (0x41, 200), (0x42, 300)].map(|(qpn, base)| registered(&cq, qpn, base)).into();
        assert_eq!(polled(&mut cq), []);
        for told in [
            told(0x41, 0, SEND),
            told(0x40, 0, RECV),
            told(0x42, 2, SEND),
            told(0x41, 7, RECV),
            told(0x2000_0041, 1, SEND),
            told(0x40, 0, SEND | ERROR),
        ] {
            assert!(device.fill(told));
        }
        let want = [
            (200, OK, 0x41),
            (1100, OK, 0x40),
            (302, OK, 0x42),
            (1200, OK, 0x41),
            (201, OK, 0x41),
            (100, BAD, 0x40),
        ];
        assert_eq!(polled(&mut cq), want);
        assert_eq!(word(&device.record, 0), 6);
        assert_eq!(polled(&mut cq), []);
    }
}

#[test]
fn laps_are_told_apart_and_the_device_is_told() {
    let (mut cq, mut device) = made(4, 32);
    let mut poster = Poster::new(4).unwrap();
    let sent = Some(Arc::clone(poster.work_queue()));
    let _registration = cq.shared().register(Key::qp(7), sent, Received::Nowhere);
    let mut wcs = [Wc::default(); 3];
    for round in 0..if cfg!(miri) { 10 } else { 50u64 } {
        for n in 0..4 {
            poster.reserve().unwrap().announce(round * 4 + n);
        }
        for n in 0..4 {
            assert!(device.fill(told(7, (round * 4 + n) as u16, SEND)));
        }
        assert!(!device.fill(told(7, 0, SEND)), "the queue is full");
        assert_eq!(cq.poll(&mut []), 0);
        assert_eq!(cq.poll(&mut wcs), 3);
        assert_eq!(wcs.map(|wc| wc.wr_id), [0, 1, 2].map(|n| round * 4 + n));
        assert_eq!(cq.poll(&mut wcs), 1);
        assert_eq!(word(&device.record, 0), (round as u32 + 1) * 4);
    }
}

#[test]
fn what_completes_nothing_is_a_failure_of_its_own() {
    let (mut cq, mut device) = made(16, 32);
    let _registration = registered(&cq, 0x40, 100);
    let _sends = cq.shared().register(Key::qp(0x43), Some(posted(500, 2)), Received::Nowhere);
    for told in [
        told(0x99, 0, SEND),
        told(0x40, 8, SEND),
        told(0x40, 0xffff, SEND),
        told(0x43, 0, RECV),
        Told { remote: 5, ..told(0x80_0001, 0, RECV) },
        told(0xffff_ffff, 0xffff, 0x7f),
        told(0x40, 0, SEND),
    ] {
        assert!(device.fill(told));
    }
    let want = [
        (0, BAD, 0x99),
        (0, BAD, 0x40),
        (0, BAD, 0x40),
        (0, BAD, 0x43),
        (0, BAD, 0x80_0001),
        (0, BAD, 0xff_ffff),
        (100, OK, 0x40),
    ];
    assert_eq!(polled(&mut cq), want);
}

#[test]
fn what_is_left_of_a_queue_pair_that_is_gone_is_told_to_nobody() {
    let (mut cq, mut device) = made(8, 32);
    let first = registered(&cq, 0x40, 100);
    let _other = registered(&cq, 0x41, 200);
    assert!(
        device.fill(told(0x40, 0, SEND))
            && device.fill(told(0x41, 0, SEND))
            && device.fill(told(0x40, 1, SEND))
    );
    drop(first);
    // The kernel gives the number out again, and the new one completes at once.
    let second = registered(&cq, 0x40, 300);
    assert!(device.fill(told(0x40, 0, SEND)) && device.fill(told(0x40, 1, RECV)));
    assert_eq!(polled(&mut cq), [(200, OK, 0x41), (300, OK, 0x40), (1300, OK, 0x40)]);
    assert_eq!(word(&device.record, 0), 5);
    // Gone between two polls, and then the device goes on nevertheless.
    drop(second);
    assert!(device.fill(told(0x40, 2, SEND)));
    assert_eq!(polled(&mut cq), [(0, BAD, 0x40)]);
}

#[test]
fn a_sender_found_twice_in_a_row_is_known_until_it_goes() {
    let (mut cq, mut device) = made(16, 32);
    let first = registered(&cq, 0x40, 100);
    let _other = registered(&cq, 0x41, 200);
    let mut fill = |told: &[Told]| assert!(told.iter().all(|told| device.fill(*told)));
    fill(&[told(0x40, 0, SEND), told(0x40, 1, SEND), told(0x40, 2, SEND)]);
    fill(&[told(0x40, 0, RECV), told(0x41, 0, SEND), told(0x40, 3, SEND), told(0x40, 3, SEND)]);
    let want = [
        (100, OK, 0x40),
        (101, OK, 0x40),
        (102, OK, 0x40),
        (1100, OK, 0x40),
        (200, OK, 0x41),
        (103, OK, 0x40),
        (0, BAD, 0x40),
    ];
    assert_eq!(polled(&mut cq), want);
    fill(&[told(0x40, 4, SEND)]);
    drop(first);
    let _second = registered(&cq, 0x40, 300);
    fill(&[told(0x40, 0, SEND), told(0x40, 1, SEND), told(0x40, 2, SEND)]);
    assert_eq!(polled(&mut cq), [(300, OK, 0x40), (301, OK, 0x40), (302, OK, 0x40)]);
}

#[test]
fn a_reset_between_two_polls_divides_what_was_from_what_is() {
    let (mut cq, mut device) = made(8, 32);
    let mut registration = registered(&cq, 0x40, 0);
    for life in 1..20 {
        // Two entries are left of what was, of which the program may have taken the first.
        assert!(device.fill(told(0x40, 0, SEND)));
        if life % 2 == 0 {
            assert_eq!(polled(&mut cq), [((life - 1) * 100, OK, 0x40)]);
        }
        assert!(device.fill(told(0x40, 1, SEND)));
        // As `Hold::reset` does it: the old registration ends before the new one begins.
        drop(registration);
        registration = registered(&cq, 0x40, life * 100);
        assert!(device.fill(told(0x40, 3, SEND)));
        assert_eq!(polled(&mut cq), [(life * 100 + 3, OK, 0x40)]);
        drop(registration);
        registration = registered(&cq, 0x40, life * 100);
    }
}

#[test]
fn who_has_completed_nothing_is_forgotten_at_once() {
    let (cq, mut device) = made(8, 32);
    let first = registered(&cq, 0x40, 0);
    assert!(device.fill(told(0x40, 0, SEND)));
    // Its entry has not been taken out.
    drop(first);
    for qpn in 0x41..0x50 {
        drop(registered(&cq, qpn, 100));
    }
    assert_eq!(cq.shared().waiting(), 1);
}

#[test]
fn a_slot_of_a_shared_queue_comes_back_whoever_took_it() {
    let (mut cq, mut device) = made(8, 32);
    let (record, words) = dbrec::Record::heap();
    let mut srq = srq::Srq::new(Region::heap(4 * 32), 4, 5, 1, record.word(0)).unwrap();
    let register =
        |cq: &Cq, qpn| cq.shared().register(Key::qp(qpn), None, Received::Srq(Arc::clone(srq.receives())));
    let first = register(&cq, 0x40);
    let _second = register(&cq, 0x41);
    let _xrc = cq.shared().register(Key::srq(9), None, Received::Srq(Arc::clone(srq.receives())));
    for wr_id in 1..=3 {
        srq.post(&[crate::types::RecvWr::new(wr_id)]).unwrap();
    }
    assert_eq!(word(&words, 0), 3);
    assert!(srq.post(&[crate::types::RecvWr::new(4)]).is_err());
    // Out of order, one by XRC, the last of a queue pair that is gone.
    assert!(device.fill(told(0x41, 1, RECV)) && device.fill(told(0x40, 0, RECV)));
    drop(first);
    assert!(device.fill(Told { remote: 9, ..told(0x80_0001, 2, RECV) }));
    assert_eq!(polled(&mut cq), [(2, OK, 0x41), (3, OK, 0x80_0001)]);
    for wr_id in 5..=7 {
        srq.post(&[crate::types::RecvWr::new(wr_id)]).unwrap();
    }
    assert!(srq.post(&[crate::types::RecvWr::new(8)]).is_err());
    assert_eq!(word(&words, 0), 6);
    // A slot that is not outstanding, and one that there is not.
    assert!(
        device.fill(told(0x41, 3, RECV))
            && device.fill(told(0x41, 3, RECV))
            && device.fill(told(0x41, 4, RECV))
    );
    let polled = polled(&mut cq);
    assert_eq!(polled.iter().filter(|(_, status, _)| *status == BAD).count(), 2, "{polled:?}");
}

#[test]
fn slots_of_a_shared_queue_come_back_from_a_completion_queue_that_goes_unpolled() {
    let (cq, mut device) = made(8, 32);
    let (record, _words) = dbrec::Record::heap();
    let mut srq = srq::Srq::new(Region::heap(4 * 32), 4, 5, 1, record.word(0)).unwrap();
    let register =
        |cq: &Cq, qpn| cq.shared().register(Key::qp(qpn), None, Received::Srq(Arc::clone(srq.receives())));
    let (gone, _other) = (register(&cq, 0x40), register(&cq, 0x41));
    for wr_id in 1..=3 {
        srq.post(&[crate::types::RecvWr::new(wr_id)]).unwrap();
    }
    assert!(device.fill(told(0x40, 1, RECV)) && device.fill(told(0x41, 0, RECV)));
    drop(gone);
    drop(cq);
    assert_eq!(word(&device.record, 0), 0, "a record may have another owner by then");
    for wr_id in 4..=5 {
        srq.post(&[crate::types::RecvWr::new(wr_id)]).unwrap();
    }
    assert!(srq.post(&[crate::types::RecvWr::new(6)]).is_err());
}

#[test]
fn a_number_given_out_before_its_former_owner_is_said_to_be_gone() {
    let (mut cq, mut device) = made(8, 32);
    let first = registered(&cq, 0x40, 100);
    assert!(device.fill(told(0x40, 0, SEND)));
    let second = registered(&cq, 0x40, 300);
    assert!(device.fill(told(0x40, 0, SEND)));
    drop(first);
    assert!(device.fill(told(0x40, 1, SEND)));
    assert_eq!(polled(&mut cq), [(300, OK, 0x40), (301, OK, 0x40)]);
    drop(second);
}

#[test]
fn arming_tells_the_record_and_then_the_register() {
    let (mut cq, mut device) = made(8, 32);
    let _registration = registered(&cq, 0x40, 100);
    assert!(device.fill(told(0x40, 0, SEND)));
    assert_eq!(polled(&mut cq).len(), 1);
    for (solicited, events, command) in
        [(false, 0, 0x1200_0000), (true, 1, 0x2100_0000), (false, 3, 0x0200_0000)]
    {
        cq.ring_to_arm(solicited, events);
        assert_eq!(word(&device.record, 4), command | 1);
        assert_eq!([word(&device.registers, 0x20), word(&device.registers, 0x24)], [command | 0x80, 1]);
    }
}

#[test]
fn a_larger_and_a_smaller_buffer_take_over_what_is_in_the_queue() {
    for (size, before, after) in [(32, 4, 16), (64, 16, 4), (32, 4, 4), (64, 8, 16)] {
        for used in [0, 3, 5, if cfg!(miri) { 9 } else { 21 }] {
            let (mut cq, mut device) = made(before, size);
            let _registration = registered(&cq, 0x40, 100);
            for _ in 0..used {
                assert!(device.fill(told(0x99, 0, SEND)));
                assert_eq!(polled(&mut cq).len(), 1);
            }
            assert!(device.fill(told(0x40, 0, SEND)) && device.fill(told(0x40, 1, SEND)));
            device.overwrite(told(0, 0, 0x16));
            let memory = Region::heap(after as usize * size);
            let alias = memory.alias();
            let mut buffer = Buffer::new(memory, after, size.trailing_zeros(), used + 1).unwrap();
            cq.buffer.move_to(&mut buffer, used).unwrap();
            cq.buffer = buffer;
            cq.next = cq.buffer.position(cq.next.index + 1);
            device = Filler { buffer: alias, entries: after, ..device };
            assert!(device.fill(told(0x40, 2, SEND)));
            let want = [(100, OK, 0x40), (101, OK, 0x40), (102, OK, 0x40)];
            assert_eq!(polled(&mut cq), want, "{size} {before} {after} {used}");
            assert_eq!(polled(&mut cq), []);
        }
    }
}

#[test]
fn a_device_that_does_not_end_the_old_buffer_is_not_waited_for() {
    let (mut cq, mut device) = made(4, 32);
    let _registration = registered(&cq, 0x40, 100);
    let mut to = Buffer::new(Region::heap(8 * 32), 8, 5, 1).unwrap();
    assert!(cq.buffer.move_to(&mut to, 0).is_err());
    for _ in 0..4 {
        assert!(device.fill(told(0x40, 0, SEND)));
    }
    assert!(cq.buffer.move_to(&mut to, 0).is_err());
    assert_eq!(polled(&mut cq).len(), 4);
}

#[test]
fn a_queue_is_polled_while_the_device_fills_it_and_queues_come_and_go() {
    let total = if cfg!(miri) { 60u64 } else { 20_000 };
    let (mut cq, mut device) = made(8, 64);
    let shared = Arc::clone(cq.shared());
    let mut poster = Poster::new(8).unwrap();
    let sent = Some(Arc::clone(poster.work_queue()));
    let _registration = cq.shared().register(Key::qp(0x40), sent, Received::Nowhere);
    let posted = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|threads| {
        let posted = &posted;
        threads.spawn(move || {
            for number in 0..total {
                while posted.load(std::sync::atomic::Ordering::Acquire) <= number
                    || !device.fill(told(0x40, number as u16, SEND))
                {
                    std::thread::yield_now();
                }
            }
        });
        threads.spawn(move || {
            for wr_id in 0..total {
                while poster.reserve().map(|reserved| reserved.announce(wr_id)).is_none() {
                    std::thread::yield_now();
                }
                posted.store(wr_id + 1, std::sync::atomic::Ordering::Release);
            }
        });
        threads.spawn(move || {
            for qpn in 0..(total / 10) as u32 {
                let sent = Some(WorkQueue::new(1).unwrap());
                drop(shared.register(Key::qp(0x1000 + qpn), sent, Received::Nowhere));
                std::thread::yield_now();
            }
        });
        let mut wcs = [Wc::default(); 3];
        let mut next = 0;
        while next < total {
            let taken = cq.poll(&mut wcs);
            for wc in &wcs[..taken] {
                assert_eq!(
                    (wc.wr_id, wc.status, wc.opcode, wc.qp_num),
                    (next, OK, WcOpcode::SEND, Qpn::truncate(0x40))
                );
                next += 1;
            }
            if taken == 0 {
                std::thread::yield_now();
            }
        }
    });
}
