//! Commands on completion queues, shared receive queues and queue pairs.

use super::{Answer, Call};
use crate::{
    mlx4::{data_path::DataPath, hca::Hca, status::Status},
    transport::Transition,
};

/// The number that the command names, of `1 << log` queues.
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

/// Checks the number of a queue pair. Its top bit marks the target side of XRC.
fn check_qpn(hca: &Hca, call: &Call<'_>) -> Result<(), Status> {
    const XRC: u32 = 1 << 23;
    let qpn = call.modifier() & 0xff_ffff & !XRC;
    if qpn >> hca.card.tables.log_qps == 0 { Ok(()) } else { Err(Status::BadIndex) }
}

pub(super) fn sw2hw_cq(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    let cqn = cqn(hca, call)?;
    hca.data.cqs.create(&mut hca.card, cqn, &call.array()).map(|()| 0)
}

pub(super) fn hw2sw_cq(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    let cqn = cqn(hca, call)?;
    let context = hca.data.cqs.query(cqn)?;
    out.iter_mut().zip(context).for_each(|(out, byte)| *out = byte);
    hca.data.cqs.destroy(cqn).map(|()| 0)
}

pub(super) fn query_cq(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    out.copy_from_slice(&hca.data.cqs.query(cqn(hca, call)?)?);
    Ok(0)
}

pub(super) fn modify_cq(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    let cqn = cqn(hca, call)?;
    hca.data.cqs.modify(&mut hca.card, call.now, cqn, call.op_modifier(), &call.array()).map(|()| 0)
}

pub(super) fn sw2hw_srq(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    let srqn = srqn(hca, call)?;
    hca.data.srqs.create(&hca.card, srqn, &call.array()).map(|()| 0)
}

pub(super) fn hw2sw_srq(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    let srqn = srqn(hca, call)?;
    let context = hca.data.srqs.query(srqn)?;
    out.iter_mut().zip(context).for_each(|(out, byte)| *out = byte);
    hca.data.srqs.destroy(srqn).map(|()| 0)
}

pub(super) fn query_srq(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    out.copy_from_slice(&hca.data.srqs.query(srqn(hca, call)?)?);
    Ok(0)
}

/// The limit is the immediate argument (mlx4/srq.c, `mlx4_ARM_SRQ`).
pub(super) fn arm_srq(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    let srqn = srqn(hca, call)?;
    let limit = u16::try_from(call.command.in_param).map_err(|_| Status::BadParam)?;
    hca.data.srqs.arm(&mut hca.card, srqn, limit).map(|()| 0)
}

/// All transitions. Those without a mailbox get zeros.
pub(super) fn modify_qp(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    check_qpn(hca, call)?;
    let transition = match call.command.opcode {
        0x19 => Transition::RstToInit,
        0x1a => Transition::InitToRtr,
        0x1b => Transition::RtrToRts,
        0x1c => Transition::RtsToRts,
        0x1d => Transition::SqErrToRts,
        0x1e => Transition::ToErr,
        0x1f => Transition::RtsToSqd,
        0x20 => Transition::SqdToRts,
        0x21 => Transition::ToRst,
        0x2d => Transition::InitToInit,
        0x38 => Transition::SqdToSqd,
        _ => return Err(Status::BadOp),
    };
    let Hca { card, data: DataPath { cqs, srqs, qps, .. }, .. } = hca;
    qps.modify(card, (cqs, srqs), call.now, transition, call.modifier(), &call.array()).map(|()| 0)
}

pub(super) fn query_qp(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    check_qpn(hca, call)?;
    out.copy_from_slice(&hca.data.qps.query(call.modifier())?);
    Ok(0)
}

pub(super) fn conf_special_qp(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    DataPath::conf_special_qp(&mut hca.card, call.modifier()).map(|()| 0)
}
