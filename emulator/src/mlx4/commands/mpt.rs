//! Memory protection and translation: SW2HW_MPT, HW2SW_MPT, QUERY_MPT, WRITE_MTT, SYNC_TPT.
//!
//! An entry is 64 bytes in ICM (mlx4/mlx4.h, `struct mlx4_mpt_entry`). Its first four bits tell who owns it: 0xf the
//! driver, 0 the card, 3 the card with the entry free. The driver also changes entries in place, between HW2SW_MPT and
//! SYNC_TPT (mlx4/mr.c, `mlx4_mr_hw_write_mpt`).

use super::{Answer, Call, adapter::LOG_RESERVED_MPTS};
use crate::{
    be::{get32, get64, put64},
    mlx4::{hca::Hca, icm::IcmError, status::Status, window},
};

/// Bytes of an entry.
pub(super) const ENTRY: usize = 64;
/// The driver owns the entry (`MLX4_MPT_FLAG_SW_OWNS`, in its first byte).
const SOFTWARE: u8 = 0xf0;
const KEY: usize = 0x08;
const PD_FLAGS: usize = 0x0c;
const START: usize = 0x10;
const LENGTH: usize = 0x18;
/// Windows that are bound to the region.
const WINDOWS: usize = 0x24;

/// The ICM address of entry `index`.
fn address(hca: &mut Hca, index: u32) -> Result<u64, Status> {
    if index >> hca.card.tables.log_mpts != 0 {
        return Err(Status::BadIndex);
    }
    if index < 1 << LOG_RESERVED_MPTS {
        return Err(Status::BadResource);
    }
    Ok(hca.card.tables.dmpt_base + u64::from(index) * ENTRY as u64)
}

fn unreachable(hca: &mut Hca, index: u32, error: IcmError) -> Status {
    hca.card.violation(
        format!("MPT {index:#x}"),
        None,
        format!("its memory cannot be reached: {error:?}"),
        &[],
    );
    Status::IcmError
}

fn load(hca: &mut Hca, index: u32) -> Result<[u8; ENTRY], Status> {
    let virt = address(hca, index)?;
    let mut entry = [0; ENTRY];
    match hca.card.icm.read(&hca.card.memory, virt, &mut entry) {
        Ok(()) => Ok(entry),
        Err(error) => Err(unreachable(hca, index, error)),
    }
}

fn store(hca: &mut Hca, index: u32, entry: &[u8; ENTRY]) -> Result<(), Status> {
    let virt = address(hca, index)?;
    hca.card.icm.write(&hca.card.memory, virt, entry).map_err(|error| unreachable(hca, index, error))
}

pub(super) fn sw2hw(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    let index = call.modifier();
    address(hca, index)?;
    if hca.firmware.mpts.get(&index) == Some(&true) {
        return Err(Status::BadResState);
    }
    let mut entry: [u8; ENTRY] = call.array();
    let mask = (1_u32 << hca.card.tables.log_mpts) - 1;
    if get32(&entry, KEY) & mask != index {
        hca.card.violation(
            format!("MPT {index:#x}"),
            None,
            "SW2HW_MPT with the key of another entry",
            &entry,
        );
        return Err(Status::BadParam);
    }
    if entry[0] & 0xf0 == SOFTWARE {
        entry[0] &= 0x0f;
    }
    store(hca, index, &entry)?;
    hca.firmware.mpts.insert(index, true);
    if hca.card.trace.on() {
        hca.card.trace.line(format_args!(
            "MPT {index:#x}: flags {:#010x} key {:#x} PD {:#x} start {:#x} length {:#x}",
            get32(&entry, 0),
            get32(&entry, KEY),
            get32(&entry, PD_FLAGS) & 0xff_ffff,
            get64(&entry, START),
            get64(&entry, LENGTH)
        ));
    }
    Ok(0)
}

pub(super) fn hw2sw(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    let index = call.modifier();
    let mut entry = load(hca, index)?;
    // The driver may return an entry in place after HW2SW_MPT; only the entry itself shows that.
    if !hca.firmware.mpts.contains_key(&index) || entry[0] & 0xf0 == SOFTWARE {
        return Err(Status::BadResState);
    }
    if get32(&entry, WINDOWS) != 0 {
        return Err(Status::RegBound);
    }
    window::unbind(&hca.card, index);
    entry[0] |= SOFTWARE;
    store(hca, index, &entry)?;
    out.iter_mut().zip(entry).for_each(|(out, byte)| *out = byte);
    hca.firmware.mpts.insert(index, false);
    Ok(0)
}

pub(super) fn query(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    out.copy_from_slice(&load(hca, call.modifier())?);
    Ok(0)
}

/// The mailbox has the index of the first entry, eight reserved bytes, then the entries (mr.c, `mlx4_write_mtt`).
pub(super) fn write_mtt(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    let count = call.modifier() as usize;
    let first = get64(call.input, 0);
    if count == 0 || 16 + count * 8 > call.input.len() {
        return Err(Status::BadParam);
    }
    let virt = hca.card.tables.mtt_base.wrapping_add(first.wrapping_mul(8));
    let mut entries = vec![0; count * 8];
    for (at, entry) in call.input[16..16 + count * 8].chunks(8).enumerate() {
        put64(&mut entries, at * 8, get64(entry, 0));
    }
    let written = hca.card.icm.write(&hca.card.memory, virt, &entries);
    written.map(|()| 0).map_err(|_| Status::IcmError)
}

/// The card caches no entries, so there is nothing to do.
pub(super) fn sync_tpt(_: &mut Hca, _: &Call<'_>, _: &mut [u8]) -> Answer {
    Ok(0)
}
