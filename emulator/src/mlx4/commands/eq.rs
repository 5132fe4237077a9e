//! Commands on event queues (mlx4/eq.c); the queues themselves are in [`crate::mlx4::eq`].

use super::{Answer, Call};
use crate::mlx4::{hca::Hca, status::Status};

/// The number of event queues, as QUERY_DEV_CAP reports it.
const EQS: u32 = 512;

fn number(call: &Call<'_>) -> Result<u32, Status> {
    let eqn = call.modifier();
    if eqn < EQS { Ok(eqn) } else { Err(Status::BadIndex) }
}

/// The mask of event types is the immediate argument. Bit 31 of the modifier removes them.
pub(super) fn map(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    let (mask, eqn) = (call.command.in_param, call.modifier() & 0x3ff);
    let undo = call.modifier() >> 31 == 1;
    if !undo && !hca.firmware.eqs.has(eqn) {
        hca.card.violation(
            format!("EQ {eqn:#x}"),
            None,
            "MAP_EQ to a queue that the card does not have",
            &mask.to_be_bytes(),
        );
        return Err(Status::BadResState);
    }
    hca.firmware.eqs.route(mask, (!undo).then_some(eqn));
    Ok(0)
}

pub(super) fn sw2hw(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    hca.firmware.eqs.create(&mut hca.card, number(call)?, &call.array()).map(|()| 0)
}

pub(super) fn hw2sw(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    let eqn = number(call)?;
    let context = hca.firmware.eqs.query(eqn)?;
    out.iter_mut().zip(context).for_each(|(out, byte)| *out = byte);
    hca.firmware.eqs.destroy(eqn).map(|()| 0)
}

pub(super) fn query(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    out.copy_from_slice(&hca.firmware.eqs.query(number(call)?)?);
    Ok(0)
}
