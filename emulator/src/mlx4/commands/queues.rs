//! Commands on completion queues, shared receive queues and queue pairs, which the data path carries out.

use super::{Answer, Call};
use crate::mlx4::{data::QpCommand, hca::Hca, status::Status};

/// The number of a queue, of which there are `1 << log`.
fn number(call: &Call<'_>, log: u8) -> Result<u32, Status> {
    let number = call.modifier() & 0xff_ffff;
    if number >> log == 0 { Ok(number) } else { Err(Status::BadIndex) }
}

fn cqn(hca: &Hca, call: &Call<'_>) -> Result<u32, Status> {
    number(call, hca.card.tables.log_cqs)
}

fn srqn(hca: &Hca, call: &Call<'_>) -> Result<u32, Status> {
    number(call, hca.card.tables.log_srqs)
}

/// The top bit of an XRC queue pair's number says that it is one.
fn check_qpn(hca: &Hca, call: &Call<'_>) -> Result<(), Status> {
    const XRC: u32 = 1 << 23;
    let qpn = call.modifier() & 0xff_ffff & !XRC;
    if qpn >> hca.card.tables.log_qps == 0 { Ok(()) } else { Err(Status::BadIndex) }
}

pub(super) fn sw2hw_cq(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    let cqn = cqn(hca, call)?;
    hca.data.sw2hw_cq(&mut hca.card, cqn, &call.array()).map(|()| 0)
}

pub(super) fn hw2sw_cq(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    let cqn = cqn(hca, call)?;
    let context = hca.data.query_cq(cqn)?;
    out.iter_mut().zip(context).for_each(|(out, byte)| *out = byte);
    hca.data.hw2sw_cq(&mut hca.card, cqn).map(|()| 0)
}

pub(super) fn query_cq(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    out.copy_from_slice(&hca.data.query_cq(cqn(hca, call)?)?);
    Ok(0)
}

pub(super) fn modify_cq(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    let cqn = cqn(hca, call)?;
    hca.data.modify_cq(&mut hca.card, cqn, call.op_modifier(), &call.array()).map(|()| 0)
}

pub(super) fn sw2hw_srq(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    let srqn = srqn(hca, call)?;
    hca.data.sw2hw_srq(&mut hca.card, srqn, &call.array()).map(|()| 0)
}

pub(super) fn hw2sw_srq(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    let srqn = srqn(hca, call)?;
    let context = hca.data.query_srq(srqn)?;
    out.iter_mut().zip(context).for_each(|(out, byte)| *out = byte);
    hca.data.hw2sw_srq(&mut hca.card, srqn).map(|()| 0)
}

pub(super) fn query_srq(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    out.copy_from_slice(&hca.data.query_srq(srqn(hca, call)?)?);
    Ok(0)
}

/// The limit is the immediate argument (mlx4/srq.c, `mlx4_ARM_SRQ`).
pub(super) fn arm_srq(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    let srqn = srqn(hca, call)?;
    let limit = u16::try_from(call.command.in_param).map_err(|_| Status::BadParam)?;
    hca.data.arm_srq(&mut hca.card, srqn, limit).map(|()| 0)
}

/// Every transition; those without a mailbox get zeros.
pub(super) fn modify_qp(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    check_qpn(hca, call)?;
    let command = match call.command.opcode {
        0x19 => QpCommand::RstToInit,
        0x1a => QpCommand::InitToRtr,
        0x1b => QpCommand::RtrToRts,
        0x1c => QpCommand::RtsToRts,
        0x1d => QpCommand::SqErrToRts,
        0x1e => QpCommand::ToErr,
        0x1f => QpCommand::RtsToSqd,
        0x20 => QpCommand::SqdToRts,
        0x21 => QpCommand::ToRst,
        0x2d => QpCommand::InitToInit,
        0x38 => QpCommand::SqdToSqd,
        _ => return Err(Status::BadOp),
    };
    hca.data.modify_qp(&mut hca.card, command, call.modifier(), &call.array()).map(|()| 0)
}

pub(super) fn query_qp(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    check_qpn(hca, call)?;
    out.copy_from_slice(&hca.data.query_qp(call.modifier())?);
    Ok(0)
}

pub(super) fn conf_special_qp(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    hca.data.conf_special_qp(&mut hca.card, call.modifier()).map(|()| 0)
}
