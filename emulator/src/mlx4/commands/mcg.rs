//! Multicast groups: READ_MCG, WRITE_MCG, MGID_HASH (mlx4/mcg.c).
//!
//! The table is in ICM: entries that are found by a hash of the MGID, then the entries that they are chained to.

use super::{Answer, Call, ethernet};
use crate::mlx4::{hca::Hca, status::Status};

/// The index of a group's first entry, of `1 << log_hash` entries that are found by hash.
///
/// The function is up to the card: drivers ask for it by MGID_HASH.
pub fn hash(mgid: &[u8; 16], log_hash: u8) -> u32 {
    let folded = mgid.chunks(2).fold(0_u32, |sum, pair| {
        (sum.rotate_left(5) ^ (u32::from(pair[0]) << 8 | u32::from(pair[1]))) & 0xff_ffff ^ sum >> 19
    });
    (folded ^ folded >> 16) & ((1 << log_hash.min(16)) - 1) & 0xffff
}

/// ICM address and size of entry `index`.
fn place(hca: &Hca, index: u32) -> Result<(u64, usize), Status> {
    let tables = &hca.card.tables;
    if index >> tables.log_mc_table != 0 {
        return Err(Status::BadIndex);
    }
    Ok((tables.mc_base + (u64::from(index) << tables.log_mc_entry), 1 << tables.log_mc_entry))
}

/// Empties all entries that are found by hash: drivers read them before they write any.
///
/// # Errors
///
/// Their memory cannot be accessed.
pub(super) fn clear(hca: &mut Hca) -> Result<(), Status> {
    let tables = hca.card.tables;
    let nothing = vec![0; 1 << tables.log_mc_entry];
    for index in 0..1_u64 << tables.log_mc_hash {
        let virt = tables.mc_base.wrapping_add(index << tables.log_mc_entry);
        if hca.card.icm.write(&hca.card.memory, virt, &nothing).is_err() {
            let what = format!("INIT_HCA: the MC table's entry {index:#x} is not mapped");
            hca.card.violation("HCR", None, what, &virt.to_be_bytes());
            return Err(Status::IcmError);
        }
    }
    Ok(())
}

pub(super) fn read(hca: &mut Hca, call: &Call<'_>, out: &mut [u8]) -> Answer {
    let (virt, bytes) = place(hca, call.modifier())?;
    hca.card.icm.read(&hca.card.memory, virt, &mut out[..bytes]).map(|()| 0).map_err(|_| Status::IcmError)
}

/// Opcode modifier 1 sets the queue pairs that receive frames without an entry, on Ethernet.
pub(super) fn write(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    match call.op_modifier() {
        0 => {}
        1 => return ethernet::write_promiscuous(hca, call),
        _ => return Err(Status::BadOp),
    }
    let (virt, bytes) = place(hca, call.modifier())?;
    hca.card.icm.write(&hca.card.memory, virt, &call.input[..bytes]).map(|()| 0).map_err(|_| Status::IcmError)
}

pub(super) fn mgid_hash(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    Ok(hash(&call.array(), hca.card.tables.log_mc_hash).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_fits_the_table_and_spreads() {
        let mut seen = std::collections::BTreeSet::new();
        for low in 0..=255 {
            let mut mgid = [0xff; 16];
            mgid[15] = low;
            let index = hash(&mgid, 12);
            assert!(index < 1 << 12);
            seen.insert(index);
        }
        assert!(seen.len() > 200, "{} places for 256 groups", seen.len());
        assert_eq!(hash(&[7; 16], 0), 0);
    }
}
