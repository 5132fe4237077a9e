//! The command table: opcode, name, requirements and handler.

use std::time::Duration;

use super::{
    Answer, Call, Command, Stage, adapter, eq, ethernet, icm, init, mad, mcg, misc, mpt, port, queues,
    reserved,
};
use crate::mlx4::{
    cq::CONTEXT as CQ_CONTEXT, eq::CONTEXT as EQ_CONTEXT, hca::Hca, qpc::MAILBOX as QP_MAILBOX,
    srq::CONTEXT as SRQ_CONTEXT, status::Status,
};

/// The largest mailbox (include/linux/mlx4/cmd.h, `MLX4_MAILBOX_SIZE`).
const MAILBOX: usize = 4096;

/// Whether a command writes a mailbox.
#[derive(Clone, Copy)]
enum Output {
    /// No output mailbox.
    None,
    /// An output mailbox of this size.
    Bytes(usize),
    /// An output mailbox of this size, unless the opcode modifier is 1 (the `HW2SW` commands).
    UnlessOne(usize),
}

type Handler = fn(&mut Hca, &Call<'_>, &mut [u8]) -> Answer;

struct Rule {
    opcode: u16,
    name: &'static str,
    /// What the input modifier counts or names.
    unit: &'static str,
    stage: Stage,
    input: usize,
    output: Output,
    handler: Handler,
}

const fn rule(
    opcode: u16,
    name: &'static str,
    unit: &'static str,
    stage: Stage,
    input: usize,
    output: Output,
    handler: Handler,
) -> Rule {
    Rule { opcode, name, unit, stage, input, output, handler }
}

use Output::{Bytes, None as Nothing, UnlessOne};
use Stage::{Initialised, Reset, Running};

/// Opcodes are those of include/linux/mlx4/cmd.h, `MLX4_CMD_*`.
const RULES: &[Rule] = &[
    rule(0x003, "QUERY_DEV_CAP", "", Running, 0, Bytes(0x100), adapter::query_dev_cap),
    rule(0x004, "QUERY_FW", "", Reset, 0, Bytes(0x100), adapter::query_fw),
    rule(0x006, "QUERY_ADAPTER", "", Running, 0, Bytes(0x100), adapter::query_adapter),
    rule(0x007, "INIT_HCA", "", Running, 0x200, Nothing, init::init_hca),
    rule(0x008, "CLOSE_HCA", "", Initialised, 0, Nothing, init::close_hca),
    rule(0x009, "INIT_PORT", "port", Initialised, 0, Nothing, port::init_port),
    rule(0x00a, "CLOSE_PORT", "port", Initialised, 0, Nothing, port::close_port),
    rule(0x00b, "QUERY_HCA", "", Running, 0, Bytes(0x200), init::query_hca),
    rule(0x00c, "SET_PORT", "port", Initialised, MAILBOX, Nothing, port::set_port),
    rule(0x00d, "SW2HW_MPT", "MPT", Initialised, mpt::ENTRY, Nothing, mpt::sw2hw),
    rule(0x00e, "QUERY_MPT", "MPT", Initialised, 0, Bytes(mpt::ENTRY), mpt::query),
    rule(0x00f, "HW2SW_MPT", "MPT", Initialised, 0, UnlessOne(mpt::ENTRY), mpt::hw2sw),
    rule(0x011, "WRITE_MTT", "entries", Initialised, MAILBOX, Nothing, mpt::write_mtt),
    rule(0x012, "MAP_EQ", "EQ", Initialised, 0, Nothing, eq::map),
    rule(0x013, "SW2HW_EQ", "EQ", Initialised, EQ_CONTEXT, Nothing, eq::sw2hw),
    rule(0x014, "HW2SW_EQ", "EQ", Initialised, 0, UnlessOne(EQ_CONTEXT), eq::hw2sw),
    rule(0x015, "QUERY_EQ", "EQ", Initialised, 0, Bytes(EQ_CONTEXT), eq::query),
    rule(0x016, "SW2HW_CQ", "CQ", Initialised, CQ_CONTEXT, Nothing, queues::sw2hw_cq),
    rule(0x017, "HW2SW_CQ", "CQ", Initialised, 0, UnlessOne(CQ_CONTEXT), queues::hw2sw_cq),
    rule(0x018, "QUERY_CQ", "CQ", Initialised, 0, Bytes(CQ_CONTEXT), queues::query_cq),
    rule(0x019, "RST2INIT_QP", "QP", Initialised, QP_MAILBOX, Nothing, queues::modify_qp),
    rule(0x01a, "INIT2RTR_QP", "QP", Initialised, QP_MAILBOX, Nothing, queues::modify_qp),
    rule(0x01b, "RTR2RTS_QP", "QP", Initialised, QP_MAILBOX, Nothing, queues::modify_qp),
    rule(0x01c, "RTS2RTS_QP", "QP", Initialised, QP_MAILBOX, Nothing, queues::modify_qp),
    rule(0x01d, "SQERR2RTS_QP", "QP", Initialised, QP_MAILBOX, Nothing, queues::modify_qp),
    rule(0x01e, "2ERR_QP", "QP", Initialised, 0, Nothing, queues::modify_qp),
    rule(0x01f, "RTS2SQD_QP", "QP", Initialised, 0, Nothing, queues::modify_qp),
    rule(0x020, "SQD2RTS_QP", "QP", Initialised, QP_MAILBOX, Nothing, queues::modify_qp),
    rule(0x021, "2RST_QP", "QP", Initialised, 0, Nothing, queues::modify_qp),
    rule(0x022, "QUERY_QP", "QP", Initialised, 0, Bytes(QP_MAILBOX), queues::query_qp),
    rule(0x023, "CONF_SPECIAL_QP", "QP", Initialised, 0, Nothing, queues::conf_special_qp),
    rule(0x024, "MAD_IFC", "port", Running, 0x200, Bytes(0x100), mad::mad_ifc),
    rule(0x025, "READ_MCG", "MCG", Initialised, 0, Bytes(MAILBOX), mcg::read),
    rule(0x026, "WRITE_MCG", "MCG", Initialised, MAILBOX, Nothing, mcg::write),
    rule(0x027, "MGID_HASH", "", Initialised, 16, Nothing, mcg::mgid_hash),
    rule(0x02c, "MODIFY_CQ", "CQ", Initialised, CQ_CONTEXT, Nothing, queues::modify_cq),
    rule(0x02d, "INIT2INIT_QP", "QP", Initialised, QP_MAILBOX, Nothing, queues::modify_qp),
    rule(0x02f, "SYNC_TPT", "", Initialised, 0, Nothing, mpt::sync_tpt),
    rule(0x030, "DIAG_RPRT", "port", Initialised, 0, Bytes(MAILBOX), misc::diag_rprt),
    rule(0x031, "NOP", "", Running, 0, Nothing, misc::nop),
    rule(0x034, "MOD_STAT_CFG", "", Running, 0, Nothing, misc::mod_stat_cfg),
    rule(0x035, "SW2HW_SRQ", "SRQ", Initialised, SRQ_CONTEXT, Nothing, queues::sw2hw_srq),
    rule(0x036, "HW2SW_SRQ", "SRQ", Initialised, 0, UnlessOne(SRQ_CONTEXT), queues::hw2sw_srq),
    rule(0x037, "QUERY_SRQ", "SRQ", Initialised, 0, Bytes(SRQ_CONTEXT), queues::query_srq),
    rule(0x038, "SQD2SQD_QP", "QP", Initialised, QP_MAILBOX, Nothing, queues::modify_qp),
    rule(0x040, "ARM_SRQ", "SRQ", Initialised, 0, Nothing, queues::arm_srq),
    rule(0x043, "QUERY_PORT", "port", Running, 0, Bytes(0x100), port::query_port),
    rule(
        0x047,
        "SET_VLAN_FLTR",
        "port",
        Initialised,
        ethernet::VLAN_FILTER,
        Nothing,
        ethernet::set_vlan_filter,
    ),
    rule(0x048, "SET_MCAST_FLTR", "port", Initialised, 0, Nothing, ethernet::set_multicast_filter),
    rule(
        0x049,
        "DUMP_ETH_STATS",
        "port",
        Initialised,
        0,
        Bytes(ethernet::STATISTICS),
        ethernet::dump_statistics,
    ),
    rule(0x050, "HW_HEALTH_CHECK", "", Running, 0, Nothing, misc::health_check),
    rule(0x05a, "SET_NODE", "port", Initialised, 64, Nothing, misc::set_node),
    rule(0xff6, "RUN_FW", "", Reset, 0, Nothing, icm::run_fw),
    rule(0xff9, "UNMAP_ICM", "pages", Running, 0, Nothing, icm::unmap_icm),
    rule(0xffa, "MAP_ICM", "chunks", Running, MAILBOX, Nothing, icm::map_icm),
    rule(0xffb, "UNMAP_ICM_AUX", "", Running, 0, Nothing, icm::unmap_icm_aux),
    rule(0xffc, "MAP_ICM_AUX", "chunks", Running, MAILBOX, Nothing, icm::map_icm_aux),
    rule(0xffd, "SET_ICM_SIZE", "", Running, 0, Nothing, icm::set_icm_size),
    rule(0xffe, "UNMAP_FA", "", Reset, 0, Nothing, icm::unmap_fa),
    rule(0xfff, "MAP_FA", "chunks", Reset, MAILBOX, Nothing, icm::map_fa),
];

fn find(opcode: u16) -> Option<&'static Rule> {
    RULES.binary_search_by_key(&opcode, |rule| rule.opcode).ok().map(|at| &RULES[at])
}

/// The name of a command.
pub fn name(opcode: u16) -> Option<&'static str> {
    find(opcode).map(|rule| rule.name)
}

/// What the input modifier of a command counts or names: `CQ`, `port`, `pages`.
pub(super) fn unit(opcode: u16) -> &'static str {
    find(opcode).map(|rule| rule.unit).filter(|unit| !unit.is_empty()).unwrap_or("modifier")
}

/// The opcode of the command with this name.
pub fn opcode(name: &str) -> Option<u16> {
    RULES.iter().find(|rule| rule.name.eq_ignore_ascii_case(name)).map(|rule| rule.opcode)
}

/// Finds a command, reads its mailbox, executes it, and writes its output.
pub(super) fn run(hca: &mut Hca, now: Duration, command: &Command) -> Answer {
    let Some(rule) = find(command.opcode) else {
        // Drivers try commands that a card may not have.
        return Err(Status::BadOp);
    };
    let bytes = [command.in_param.to_be_bytes(), command.out_param.to_be_bytes()].concat();
    if hca.firmware.stage < rule.stage {
        let what = format!("{} while the card is in state {:?}", rule.name, hca.firmware.stage);
        hca.card.violation("HCR", None, what, &bytes);
        return Err(Status::BadSysState);
    }
    let mut input = vec![0; rule.input];
    if hca.card.memory.read(command.in_param, &mut input).is_err() {
        hca.card.violation(
            "HCR",
            None,
            format!("{}: the mailbox to read is not in memory", rule.name),
            &bytes,
        );
        return Err(Status::BadParam);
    }
    // The handler of MOD_STAT_CFG reads the mailbox itself: not every variant has one.
    if !input.is_empty() {
        reserved::check(&mut hca.card, command, rule.name, rule.unit, &input);
    }
    let length = match rule.output {
        Nothing => 0,
        Bytes(length) => length,
        UnlessOne(length) => {
            if command.op_modifier == 1 {
                0
            } else {
                length
            }
        }
    };
    if length > 0 && !hca.card.memory.contains(command.out_param, length) {
        hca.card.violation(
            "HCR",
            None,
            format!("{}: the mailbox to write is not in memory", rule.name),
            &bytes,
        );
        return Err(Status::BadParam);
    }
    let mut output = vec![0; length];
    let answer = (rule.handler)(hca, &Call { now, command, input: &input }, &mut output)?;
    hca.card.memory.write(command.out_param, &output).map_err(|_| Status::BadParam)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(RULES.windows(2).all(|pair| pair[0].opcode < pair[1].opcode));
        assert_eq!(name(0x31), Some("NOP"));
        assert_eq!(opcode("nop"), Some(0x31));
        assert_eq!(name(0), None);
    }
}
