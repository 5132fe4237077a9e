//! Fields of mailboxes that must be 0.
//!
//! They are those that the kernel's own structures call reserved, and bits beside 24-bit numbers. Fields that look
//! reserved in a manual but are written by a driver are not included, nor are values that a driver copies from
//! programs: a PSN or a remote queue pair number of more than 24 bits is not the driver's fault.

use std::ops::Range;

use super::Command;
use crate::{be::get32, mlx4::card::Card};

/// Words of a mailbox, and the bits in each of them that must be 0.
type Words = (Range<usize>, u32);

const ALL: u32 = u32::MAX;
/// The bits beside a 24-bit number.
const TOP: u32 = 0xff00_0000;

/// mlx4.h, `struct mlx4_eq_context`. Moderation is not used by any driver.
const EQ: &[Words] = &[
    (0x04..0x08, ALL),
    (0x08..0x0c, 0xffff_0000),
    (0x0c..0x10, 0x00ff_ffff),
    (0x10..0x14, TOP),
    (0x14..0x18, 0xffff_ff00),
    (0x18..0x1c, 0x00ff_ff00),
    (0x20..0x28, ALL),
];

/// mlx4.h, `struct mlx4_cq_context`.
const CQ: &[Words] = &[
    // Status, time stamps, collapsed, ignoring overruns, state.
    (0x00..0x04, 0x0ff1_f0ff),
    (0x04..0x08, ALL),
    (0x08..0x0c, 0xffff_0000),
    (0x0c..0x10, 0xe000_0000),
    (0x14..0x18, 0xffff_ff00),
    (0x18..0x1c, 0x00ff_ff00),
    (0x30..0x38, ALL),
];

/// mlx4.h, `struct mlx4_srq_context`.
const SRQ: &[Words] = &[
    (0x04..0x08, 0xf8ff_0000),
    (0x0c..0x10, ALL),
    (0x10..0x14, 0x00ff_ff00),
    (0x18..0x1c, TOP),
    (0x20..0x24, 0xffff_0000),
    (0x24..0x28, ALL),
];

/// mlx4.h, `struct mlx4_mpt_entry`.
const MPT: &[Words] = &[
    // Owner, MIO, rights, physical, region.
    (0x00..0x04, 0x0ffd_00ff),
    (0x04..0x08, 0x7f),
    // RAE, FAST_REG, EN_INV, and the PD with its function.
    (0x0c..0x10, 0xe400_0000),
    (0x28..0x2c, 0xffff_ff00),
    (0x38..0x3c, 0xffff_ffc0),
];

/// The mask of optional parameters, and then include/linux/mlx4/qp.h, `struct mlx4_qp_context`.
const QP: &[Words] = &[
    (0x04..0x08, ALL),
    // State, transport, RSS, path migration.
    (0x08..0x0c, 0x0ff0_c7ff),
    (0x0c..0x10, TOP),
    (0x14..0x1c, TOP),
    (0x44..0x48, PATH),
    (0x70..0x74, PATH),
    // Acknowledgements, reads, retries, fast registration.
    (0x78..0x7c, 0x0f00_17ff),
    (0x7c..0x80, ALL),
    (0x84..0x88, TOP),
    (0x88..0x8c, 0x0000_ffff),
    (0x8c..0x90, ALL),
    // Reads, rights, whether a shared receive queue counts credits (RIC), FPP.
    (0x98..0x9c, 0xff1f_1fe7),
    (0xa0..0xa4, 0xffff_0000),
    (0xa4..0xa8, TOP),
    (0xb8..0xbc, TOP),
    (0xc0..0xc4, ALL),
    (0xc4..0xc8, 0x0000_ff00),
    (0xd0..0xd4, 0x00ff_ff00),
    (0xd8..0x100, ALL),
];
/// `reserved4` of a path.
const PATH: u32 = 0xffff_0000;
/// Where the numbers of RSS are in place of those, in a context that has them (`struct mlx4_rss_context`).
const RSS_NUMBERS: Range<usize> = 0x44..0x7c;
const RSS: u32 = 1 << 13;

/// mlx4.h, `struct mlx4_mgm`.
const MCG: &[Words] = &[(0x00..0x04, 0x3f), (0x08..0x10, ALL)];

/// fw.c, `mlx4_INIT_HCA`.
const INIT_HCA: &[Words] =
    &[(0x00..0x04, 0x00ff_ffff), (0x04..0x0c, ALL), (0x24..0x30, ALL), (0x1b0..0x1d0, ALL)];

/// mr.c, `mlx4_write_mtt`.
const WRITE_MTT: &[Words] = &[(0x08..0x10, ALL)];

/// port.c, `mlx4_SET_PORT`: of InfiniBand flags, MTU and lanes, capabilities, and the size of the P_Key table.
const SET_PORT: &[Words] =
    &[(0x00..0x04, 0xff8f_0f0e), (0x08..0x28, ALL), (0x28..0x2c, 0xffff), (0x2c..0x100, ALL)];

/// mlx4.h, `struct mlx4_set_port_general_context`: of Ethernet.
const SET_PORT_GENERAL: &[Words] = &[
    (0x00..0x04, 0xffff_0000),
    (0x04..0x08, 0x00ff_0000),
    (0x08..0x10, 0x0000_ffff),
    (0x10..0x14, ALL),
    (0x14..0x18, 0x00ff_ffff),
    (0x18..0x20, 0xffff_0000),
    (0x24..0x100, ALL),
];
/// port.c, `mlx4_set_port_vlan_table`: whether each is valid, and its number.
const SET_PORT_VLANS: &[Words] = &[(0x000..0x200, 0x7fff_f000), (0x200..0x1000, ALL)];
/// infiniband/hw/mlx4/main.c, `mlx4_ib_update_gids_v1`.
const SET_PORT_GIDS: &[Words] = &[(0x800..0x1000, ALL)];

/// fw.c, `mlx4_MOD_STAT_CFG`.
const MOD_STAT_CFG: &[Words] = &[(0x00..0x04, 0xffff_fe00), (0x04..0x100, ALL)];

/// infiniband/hw/mlx4/mad.c, `mlx4_MAD_IFC`: `ext_info` behind the datagram.
const MAD_IFC: &[Words] = &[
    (0x104..0x108, ALL),
    (0x10c..0x110, 0x0000_ffff),
    (0x110..0x114, 0xffff_0000),
    (0x114..0x140, ALL),
    (0x168..0x200, ALL),
];

/// The reserved bits of a command's mailbox, by opcode (include/linux/mlx4/cmd.h).
fn words(command: &Command) -> &'static [Words] {
    match command.opcode {
        0x007 => INIT_HCA,
        0x00c if command.op_modifier == 0 && command.modifier >> 8 == 0 => SET_PORT,
        0x00c if command.op_modifier == 1 => match command.modifier >> 8 {
            0 => SET_PORT_GENERAL,
            3 => SET_PORT_VLANS,
            5 => SET_PORT_GIDS,
            _ => &[],
        },
        0x00d => MPT,
        0x011 => WRITE_MTT,
        0x013 => EQ,
        0x016 | 0x02c => CQ,
        0x019..=0x01d | 0x020 | 0x02d | 0x038 => QP,
        // Only with this modifier is there anything after the datagram.
        0x024 if command.op_modifier & 4 != 0 => MAD_IFC,
        0x026 => MCG,
        0x034 if command.op_modifier == 0 => MOD_STAT_CFG,
        0x035 => SRQ,
        _ => &[],
    }
}

/// Reports each word of a command's mailbox with reserved bits set. `unit` is what the input modifier counts or names.
pub(super) fn check(card: &mut Card, command: &Command, name: &str, unit: &str, input: &[u8]) {
    let words = words(command);
    let spreads = std::ptr::eq(words, QP) && get32(input, 0x08) & RSS != 0;
    for (range, mask) in words.iter().cloned() {
        for at in range.step_by(4).filter(|at| !spreads || !RSS_NUMBERS.contains(at)) {
            let set = get32(input, at) & mask;
            if set == 0 {
                continue;
            }
            let queue = match unit {
                "" | "entries" | "chunks" => "HCR".to_owned(),
                unit => format!("{unit} {:#x}", command.modifier & 0xff_ffff),
            };
            let what = format!("{name}: reserved bits {set:#010x} at byte {at:#x} of its mailbox are not 0");
            card.violation(queue, None, what, &input[at..at + 4]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fabric::port::Port, mlx4::commands::opcode, trace::Trace};

    /// Violations that this mailbox makes.
    fn violations(name: &str, op_modifier: u8, input: &[u8]) -> u64 {
        let mut card = Card::new("test", Port::new(1, 1, 1), Trace::default());
        let (modifier, in_param, out_param) = (1, 0, 0);
        let opcode = opcode(name).unwrap();
        let command = Command { opcode, op_modifier, modifier, in_param, out_param, token: 0, event: false };
        check(&mut card, &command, name, "test", input);
        card.violations.count()
    }

    /// The bytes of each structure that its header calls reserved, one by one.
    #[test]
    fn every_reserved_byte_is_looked_at() {
        let structures: [(&str, u8, &[Range<usize>]); 14] = [
            ("INIT_HCA", 0, &[0x01..0x0c, 0x24..0x30, 0x1b0..0x1d0]),
            ("SET_PORT", 0, &[0x08..0x28, 0x2a..0x100]),
            ("SW2HW_MPT", 0, &[0x28..0x2a, 0x2a..0x2b]),
            ("WRITE_MTT", 0, &[0x08..0x0c, 0x0c..0x10]),
            ("SW2HW_EQ", 0, &[0x04..0x0a, 0x0d..0x11, 0x14..0x17, 0x19..0x1b, 0x20..0x28]),
            ("SW2HW_CQ", 0, &[0x04..0x0a, 0x14..0x17, 0x19..0x1b, 0x30..0x38]),
            ("MODIFY_CQ", 1, &[0x04..0x0a, 0x14..0x17, 0x19..0x1b, 0x30..0x38]),
            ("RST2INIT_QP", 0, &[0x04..0x08, 0x44..0x46, 0x70..0x72, 0x7c..0x80, 0x8a..0x90]),
            ("INIT2RTR_QP", 0, &[0xc0..0xc4, 0xc6..0xc7, 0xd1..0xd3, 0xd8..0x100]),
            ("RTR2RTS_QP", 0, &[0x0c..0x0d, 0x14..0x15, 0x84..0x85, 0xa0..0xa2, 0xa4..0xa5]),
            ("MAD_IFC", 4, &[0x104..0x108, 0x10e..0x112, 0x114..0x140]),
            ("MOD_STAT_CFG", 0, &[0x00..0x02, 0x04..0x100]),
            ("WRITE_MCG", 0, &[0x08..0x0c, 0x0c..0x10]),
            ("SW2HW_SRQ", 0, &[0x05..0x06, 0x0c..0x10, 0x11..0x13, 0x18..0x19, 0x20..0x22, 0x24..0x28]),
        ];
        for (name, op_modifier, ranges) in structures {
            let mut input = vec![0; 4096];
            assert_eq!(violations(name, op_modifier, &input), 0, "{name}");
            for at in ranges.iter().cloned().flatten() {
                for bit in 0..8 {
                    input[at] = 1 << bit;
                    assert_eq!(violations(name, op_modifier, &input), 1, "{name}, byte {at:#x}");
                }
                input[at] = 0;
            }
        }
    }

    /// What drivers write, as far as it lies beside something reserved.
    #[test]
    fn what_drivers_write_is_not_reserved() {
        let mut set = vec![0; 4096];
        // mlx4_create_cq with every flag; mlx4_cq_resize; MLX4_EQ_STATE_ARMED.
        set[..4].copy_from_slice(&[0, 0x0e, 0, 0]);
        set[0x0a..0x0d].copy_from_slice(&[0, 0, 22]);
        assert_eq!(violations("SW2HW_CQ", 0, &set), 0);
        // A region that is the driver's, with every right; a window of type 2.
        let mut set = vec![0; 4096];
        set[..4].copy_from_slice(&[0xf0, 2, 0xff, 0]);
        set[7] = 0x80;
        set[0x0c..0x10].copy_from_slice(&[0x1b, 0xff, 0xff, 0xff]);
        set[0x2b..0x3c].fill(0x1f);
        set[0x38..0x3b].fill(0);
        assert_eq!(violations("SW2HW_MPT", 0, &set), 0);
        // __mlx4_ib_modify_qp; programs' own numbers may be too large.
        let mut set = vec![0; 4096];
        set[0x08..0x0c].copy_from_slice(&[0x1f & 0xf0, 0x0f, 0x38, 0]);
        set[0x1c..0x44].fill(0xff);
        set[0x78..0x7c].copy_from_slice(&[0x80, 0xff, 0xe8, 0]);
        set[0x80..0x84].fill(0xff);
        set[0x98..0x9c].copy_from_slice(&[0, 0xe0, 0xe0, 0x18]);
        set[0x9c..0xa0].fill(0xff);
        // With RSS other numbers lie over the paths.
        set[0x44..0x7c].fill(0xff);
        assert_eq!(violations("INIT2RTR_QP", 0, &set), 0);
        set[0x0a] = 0;
        assert_eq!(violations("INIT2RTR_QP", 0, &set), 3);
    }

    /// What has the other variants of SET_PORT, by the modifier's second byte.
    #[test]
    fn ethernet_has_its_own_mailboxes() {
        let seen = |selector: u32, at: usize| {
            let mut card = Card::new("test", Port::new(1, 1, 1), Trace::default());
            let mut input = vec![0; 4096];
            input[at] = 1;
            let (opcode, modifier) = (opcode("SET_PORT").unwrap(), selector << 8 | 1);
            let (in_param, out_param, op_modifier) = (0, 0, 1);
            let command =
                Command { opcode, op_modifier, modifier, in_param, out_param, token: 0, event: false };
            check(&mut card, &command, "SET_PORT", "port", &input);
            card.violations.count() == 1
        };
        // struct mlx4_set_port_general_context: flags, MTU, flow control, the user's MTU and address.
        let given = [2, 3, 4, 6, 7, 8, 9, 12, 13, 20, 26, 27, 30, 35];
        for at in 0..64 {
            let expected = !given.contains(&at) && !(30..36).contains(&at);
            assert_eq!(seen(0, at), expected, "byte {at:#x}");
        }
        assert!(seen(3, 0x200) && !seen(3, 0x1ff) && seen(5, 0x800) && !seen(5, 0x7ff));
        // The table of addresses.
        assert!(!seen(2, 0x800));
    }

    /// The mailbox ends with the datagram.
    #[test]
    fn some_mailboxes_depend_on_the_modifier() {
        let set = [0xff; 4096];
        assert_eq!(violations("MAD_IFC", 3, &set), 0);
        assert_eq!(violations("MGID_HASH", 0, &set), 0);
    }
}
