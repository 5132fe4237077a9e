//! Event queues.

use super::*;

/// A context as eq.c's `mlx4_create_eq` fills it: 16 entries in one page, whose translation is entry 0.
pub(super) fn eq_context() -> [u8; 64] {
    let mut context = [0; 64];
    put32(&mut context, 0, 9 << 8);
    context[0x0c] = 4;
    context[0x17] = 2;
    context
}

pub(super) const EQ_PAGE: u64 = 0x5000;

pub(super) fn with_eq(hca: &mut Hca) {
    hca.start();
    let mut list = [0; 24];
    put64(&mut list, 16, EQ_PAGE | 1);
    hca.ask("WRITE_MTT", 1, &list).unwrap();
    hca.ask("SW2HW_EQ", 5, &eq_context()).unwrap();
    hca.command(&Command { in_param: 1 << 0x0a | 1 << 0x09, modifier: 5, ..command("MAP_EQ") }).unwrap();
}

#[test]
fn command_events_have_the_drivers_layout() {
    // device.h: struct mlx4_eqe; in entries of 64 bytes it is the upper half.
    let mut hca = card(Model::ConnectX3);
    with_eq(&mut hca);
    assert_eq!(hca.card.memory.array::<1>(EQ_PAGE + 63).unwrap(), [0x80], "the card's at first");
    hca.command(&Command { token: 0xbeef, event: true, ..command("NOP") }).unwrap();
    hca.settle();
    let entry: [u8; 32] = hca.card.memory.array(EQ_PAGE + 32).unwrap();
    assert_eq!((entry[1], get16(&entry, 6), entry[0x0f], entry[0x1f]), (0x0a, 0xbeef, 0, 0));
    hca.command(&Command { token: 1, event: true, opcode: 0x123, ..command("NOP") }).unwrap_err();
    hca.settle();
    let entry: [u8; 32] = hca.card.memory.array(EQ_PAGE + 96).unwrap();
    assert_eq!(entry[0x0f], Status::BadOp as u8);
    assert_eq!(hca.card.violations.count(), 0);
    hca.command(&command("INIT_PORT")).unwrap_err();
    hca.command(&Command { modifier: 1, ..command("INIT_PORT") }).unwrap();
    hca.settle();
    let entry: [u8; 32] = hca.card.memory.array(EQ_PAGE + 160).unwrap();
    assert_eq!((entry[1], entry[3], get32(&entry, 0x0c)), (0x09, 4, 1 << 28));
}

#[test]
fn an_event_queue_wraps_and_overflows() {
    let mut hca = card(Model::ConnectX3);
    with_eq(&mut hca);
    let nop = Command { event: true, ..command("NOP") };
    let doorbell = |hca: &mut Hca, index: u32| {
        hca.write(Duration::ZERO, 2, 4096 + 0x808, &(index | 1 << 31).to_be_bytes());
    };
    for _ in 0..16 {
        hca.command(&nop).unwrap();
    }
    hca.settle();
    doorbell(&mut hca, 16);
    hca.command(&nop).unwrap();
    hca.settle();
    assert_eq!(hca.card.memory.array::<1>(EQ_PAGE + 63).unwrap(), [0x80], "the second time round");
    let context = hca.ask("QUERY_EQ", 5, &[]).unwrap();
    assert_eq!((get32(&context, 0x28), get32(&context, 0x2c)), (16, 17));
    assert_eq!(get32(&context, 0) >> 8 & 0xf, 10, "fired");
    doorbell(&mut hca, 18);
    assert_eq!(hca.card.violations.count(), 1, "more than there is");
    for _ in 0..16 {
        hca.command(&nop).unwrap();
    }
    hca.settle();
    assert_eq!(hca.card.violations.count(), 2, "overflow");
    hca.command(&Command { op_modifier: 1, modifier: 5, ..command("HW2SW_EQ") }).unwrap();
    doorbell(&mut hca, 18);
    assert_eq!(hca.card.violations.count(), 3, "no such queue");
}

#[test]
fn reserved_fields_are_violations() {
    let mut hca = card(Model::ConnectX3);
    hca.start();
    let mut context = eq_context();
    context[0x20] = 1;
    let mut list = [0; 24];
    put64(&mut list, 16, EQ_PAGE | 1);
    hca.ask("WRITE_MTT", 1, &list).unwrap();
    hca.ask("SW2HW_EQ", 5, &context).unwrap();
    assert_eq!(hca.card.violations.count(), 1);
    assert_eq!(hca.ask("SW2HW_EQ", 5, &context), Err(Status::BadResState));
    assert_eq!(hca.ask("SW2HW_EQ", 512, &context), Err(Status::BadIndex));
    let before = hca.card.violations.count();
    hca.map("MAP_ICM_AUX", 0x1000, 0x20_0000, 2).unwrap();
    assert_eq!(hca.card.violations.count(), before + 1, "an ICM address where there is none");
    let mut config = [0; 0x100];
    config[4] = 1;
    hca.card.memory.write(IN, &config).unwrap();
    hca.command(&command("MOD_STAT_CFG")).unwrap();
    assert_eq!(hca.card.violations.count(), before + 2);
}

#[test]
fn doorbells_of_unknown_event_queues_are_violations() {
    let mut hca = card(Model::ConnectX3);
    with_eq(&mut hca);
    let doorbell =
        |hca: &mut Hca, offset: u64, bytes: &[u8]| hca.write(Duration::ZERO, 2, 4096 + offset, bytes);
    hca.reports("EQ 0x5: reserved bits in a doorbell", |hca| doorbell(hca, 0x808, &[0xc0, 0, 0, 0]));
    hca.reports("an event queue's doorbell that is not one word", |hca| doorbell(hca, 0x808, &[0; 8]));
    hca.reports("an event queue's doorbell that is not one word", |hca| doorbell(hca, 0x80c, &[0; 4]));
    hca.reports("EQ 0x6: MAP_EQ to a queue that the card does not have", |hca| {
        let map = Command { in_param: 1 << 9, modifier: 6, ..command("MAP_EQ") };
        assert_eq!(hca.command(&map), Err(Status::BadResState));
    });
    let mut context = eq_context();
    // Its translation is beyond the tables.
    context[0x1b] = 1;
    hca.reports("EQ 0x6: its memory cannot be reached", |hca| {
        assert_eq!(hca.ask("SW2HW_EQ", 6, &context), Err(Status::BadParam));
    });
    // The driver moves the queue to an address without memory.
    let mut list = [0; 24];
    put64(&mut list, 16, 0xff_ffff_f001);
    hca.ask("WRITE_MTT", 1, &list).unwrap();
    hca.reports("entry cannot be written", |hca| {
        hca.command(&Command { event: true, ..command("NOP") }).unwrap();
        hca.settle();
    });
    // Events of commands go nowhere.
    hca.command(&Command { in_param: 1 << 0x0a, modifier: 1 << 31 | 5, ..command("MAP_EQ") }).unwrap();
    hca.reports("no event queue for Command", |hca| {
        hca.command(&Command { event: true, ..command("NOP") }).unwrap();
        hca.settle();
    });
}
