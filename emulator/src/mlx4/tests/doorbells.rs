//! Doorbells, doorbell records and BlueFlame as no correct driver writes them: each is reported once.

use super::{
    super::{uar::UAR_BYTES, wqe::opcode},
    guest::{Guest, QpInit, UAR, Wqe},
    rc::Pair,
};

/// Offsets in the BAR: the queues' doorbell page, and their BlueFlame page.
const PAGE: u64 = UAR as u64 * 4096;
const BLUEFLAME: u64 = UAR_BYTES + PAGE;

/// Checks that an action on the card of a new pair is reported once, in these words.
fn reports(words: &str, done: impl FnOnce(&mut Pair)) {
    let mut pair = Pair::new(1, |_| {});
    done(&mut pair);
    pair.world.settle();
    let last = pair.world.guests[0].card.violations.last();
    assert!(last.is_some_and(|last| last.to_string().contains(words)), "{words:?}, and the last is {last:?}");
    assert_eq!(pair.world.violations(), 1, "{words}");
}

fn guest(pair: &mut Pair) -> &mut Guest {
    &mut pair.world.guests[0]
}

fn write(pair: &mut Pair) -> Wqe {
    pair.raddr(1, Wqe::new(opcode::WRITE), 0).inline(&[1; 40])
}

#[test]
fn violations_of_completion_queue_doorbells() {
    // The page, what is added to the first word, the second word.
    for (page, add, index, words) in [
        (PAGE, 0x100, 0, "a doorbell for a queue that is not there"),
        (PAGE + 4096, 0, 0, "a doorbell on UAR page 4, and the queue's is 3"),
        (PAGE, 1 << 24, 0, "a doorbell with an unknown command"),
        (PAGE, 1 << 31, 0, "a doorbell with reserved bits"),
        (PAGE, 0, 5, "a doorbell with a consumer index past the producer"),
        (PAGE, 2 << 28, 0, "a doorbell with sequence number 3 where 1 is next"),
    ] {
        reports(words, |pair| {
            let record = pair.cqs[0].record + 4;
            let word: u32 = (1 << 28 | 2 << 24 | pair.cqs[0].cqn) + add;
            let guest = guest(pair);
            guest.card.memory.store32(record, 2 << 24 | index).unwrap();
            guest.uar(page + 0x20, &[word.to_be_bytes(), index.to_be_bytes()].concat());
        });
    }
    reports("a doorbell at 0 whose record was not written before", |pair| {
        let word = 1 << 28 | 2 << 24 | pair.cqs[0].cqn;
        guest(pair).uar(PAGE + 0x20, &[word.to_be_bytes(), [0; 4]].concat());
    });
}

#[test]
fn violations_of_completion_queue_records() {
    for (before, after, words) in [
        (0, 1 << 24, "doorbell record with more than 24 bits: 0x1000000"),
        (2, 1, "doorbell record goes back from 2 to 1"),
        (2, 9, "doorbell record runs past the producer: 9, and 4 written"),
    ] {
        reports(words, |pair| {
            let record = pair.cqs[0].record;
            // The card reads the record before it writes an entry.
            for value in [0, 0, 0, before, after] {
                guest(pair).card.memory.store32(record, value).unwrap();
                let wqe = write(pair);
                pair.send(0, &wqe);
                pair.world.settle();
            }
        });
    }
}

#[test]
fn violations_of_send_doorbells() {
    reports("UAR 3: a write of 4 bytes at 0x18, where there is no doorbell", |pair| {
        guest(pair).uar(PAGE + 0x18, &[0; 4]);
    });
    reports("UAR 3: a write of 8 bytes at 0x14, where there is no doorbell", |pair| {
        guest(pair).uar(PAGE + 0x14, &[0; 8]);
    });
    reports("UAR 3: a send doorbell with reserved bits: ", |pair| {
        let wqe = write(pair);
        let guest = &mut pair.world.guests[0];
        guest.place(&mut pair.qps[0], &wqe);
        guest.uar(PAGE + 0x14, &(pair.qps[0].qpn << 8 | 1).to_be_bytes());
    });
    // The target side of XRC never sends.
    reports("a doorbell for a queue pair without a send queue", |pair| {
        let init = QpInit { xrcd: 1, ..QpInit::new(6, pair.cqs[0].cqn) };
        let target = guest(pair).qp(init);
        guest(pair).doorbell(UAR, target.qpn);
    });
}

#[test]
fn violations_of_blueflame() {
    let head = [0, 0, 0, 8, 0, 0, 0, 3];
    reports("BlueFlame that does not begin at its beginning", |pair| guest(pair).uar(BLUEFLAME + 8, &head));
    reports("BlueFlame begun anew before its end", |pair| {
        guest(pair).uar(BLUEFLAME, &head);
        guest(pair).uar(BLUEFLAME, &head);
    });
    reports("BlueFlame at byte 16, after 8", |pair| {
        guest(pair).uar(BLUEFLAME, &head);
        guest(pair).uar(BLUEFLAME + 16, &head);
    });
    reports("BlueFlame with a request that is too long", |pair| {
        for at in (0..256).step_by(8) {
            guest(pair).uar(BLUEFLAME + at, &[0, 0, 0, 8, 0, 0, 0, 20]);
        }
    });
    // The other half of the register is separate.
    let mut pair = Pair::new(1, |_| {});
    let wqe = write(&mut pair);
    pair.world.guests[0].uar(BLUEFLAME + 256, &head);
    pair.world.guests[0].send_blueflame(&mut pair.qps[0], &wqe, None);
    pair.run();
    pair.clean();
    assert_eq!(pair.outcomes(0).len(), 1);
}
