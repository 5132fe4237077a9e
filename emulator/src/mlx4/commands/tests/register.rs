//! The command register, and a card with a catastrophic error.

use super::*;

/// Writes a command as mlx4/cmd.c's `mlx4_cmd_post` does.
fn post(hca: &mut Hca, opcode: u32, toggle: bool) -> u32 {
    const HCR: u64 = 0x80680;
    for (at, word) in [(0, 0), (4, IN as u32), (8, 0), (12, 0), (16, OUT as u32), (20, 0)] {
        hca.write(Duration::ZERO, 0, HCR + at, &word.to_be_bytes());
    }
    let word = 1 << 23 | u32::from(toggle) << 21 | opcode;
    hca.write(Duration::ZERO, 0, HCR + 24, &word.to_be_bytes());
    let mut status = [0; 4];
    hca.read(Duration::ZERO, 0, HCR + 24, &mut status);
    u32::from_be_bytes(status)
}

#[test]
fn the_command_register_can_be_polled() {
    let mut hca = card(Model::ConnectX3);
    // The go bit is off, the toggle is that of the command, the status is 0.
    assert_eq!(post(&mut hca, 0x004, true) & !0xfff, 1 << 21);
    assert_eq!(post(&mut hca, 0x123, false) >> 21, u32::from(Status::BadOp as u8) << 3);
    assert_eq!(hca.card.violations.count(), 0);
    post(&mut hca, 0x004, false);
    assert_eq!(hca.card.violations.count(), 1, "the same toggle");
    hca.firmware.stall = Some(None);
    assert_eq!(post(&mut hca, 0x004, true) >> 23 & 1, 1, "no answer");
    post(&mut hca, 0x004, false);
    assert_eq!(hca.card.violations.count(), 8, "every word is one too many");
    hca.write(Duration::ZERO, 0, 0xf0010, &1_u32.to_be_bytes());
    assert_eq!(post(&mut hca, 0x004, true) >> 24, 0);
}

#[test]
fn a_catastrophic_error_lasts_until_the_reset() {
    let mut hca = card(Model::ConnectX3);
    let read = |hca: &mut Hca, at| {
        let mut word = [0; 4];
        hca.read(Duration::ZERO, 0, at, &mut word);
        u32::from_be_bytes(word)
    };
    assert_eq!(read(&mut hca, crate::mlx4::hca::CATASTROPHE), 0);
    hca.break_down();
    assert_ne!(read(&mut hca, crate::mlx4::hca::CATASTROPHE), 0);
    assert_eq!(post(&mut hca, 0x004, true) >> 23 & 1, 1, "no answer");
    assert_eq!((read(&mut hca, 0xf03fc), read(&mut hca, 0xf03fc)), (0, 1), "the semaphore");
    hca.write(Duration::ZERO, 0, 0xf0010, &1_u32.to_be_bytes());
    assert_eq!((read(&mut hca, crate::mlx4::hca::CATASTROPHE), read(&mut hca, 0xf03fc)), (0, 0));
    assert_eq!(post(&mut hca, 0x004, true) >> 23 & 1, 0);
}

#[test]
fn writes_beside_registers_are_violations() {
    const HCR: u64 = 0x80680;
    let mut hca = card(Model::ConnectX3);
    let write = |hca: &mut Hca, offset: u64, bytes: &[u8]| hca.write(Duration::ZERO, 0, offset, bytes);
    hca.reports("HCR: a write that is not one aligned word", |hca| write(hca, HCR + 4, &[0; 8]));
    hca.reports("HCR: a write that is not one aligned word", |hca| write(hca, HCR + 2, &[0; 4]));
    hca.reports("BAR 0 [64]: a write where there is no register", |hca| write(hca, 64, &[0; 4]));
    hca.reports("HCR: a command without its go bit", |hca| write(hca, HCR + 24, &0x004_u32.to_be_bytes()));
    hca.reports("HCR: a command with a status", |hca| {
        write(hca, HCR + 24, &(3 << 24 | 1 << 23 | 1 << 21 | 0x004_u32).to_be_bytes());
    });
}

#[test]
fn the_clock_is_read_in_two_words() {
    for (model, ticks) in [(Model::ConnectX2, 0), (Model::ConnectX3, 427_000_000 * 20)] {
        let mut hca = card(model);
        let mut word = |at| {
            let mut word = [0; 4];
            hca.read(Duration::from_secs(20), 0, crate::mlx4::clock::REGISTER + at, &mut word);
            u64::from(u32::from_be_bytes(word))
        };
        assert_eq!(word(0) << 32 | word(4), ticks);
    }
}
