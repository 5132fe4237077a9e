//! Memory from the driver: for the firmware itself (MAP_FA), its scratch memory (MAP_ICM_AUX), and tables (MAP_ICM).
//!
//! Mailboxes are lists of 16-byte entries, ICM address and DMA address, of which the low bits are the size
//! (mlx4/fw.c, `mlx4_map_cmd`).

use super::{Answer, Call, Stage, adapter::FW_PAGES};
use crate::{
    be::get64,
    mlx4::{hca::Hca, icm::PAGE, status::Status},
};

/// Entries of a mailbox.
const ENTRIES: u32 = 256;

/// One chunk of a list: ICM address, DMA address, pages.
struct Chunk {
    virt: u64,
    dma: u64,
    pages: u64,
}

/// Reads a list. Each chunk must be aligned to its size and inside guest memory.
fn chunks(hca: &mut Hca, call: &Call<'_>, what: &str) -> Result<Vec<Chunk>, Status> {
    let count = call.modifier();
    if count == 0 || count > ENTRIES {
        return Err(Status::BadParam);
    }
    let mut list = Vec::new();
    for entry in call.input.chunks(16).take(count as usize) {
        let (virt, dma) = (get64(entry, 0), get64(entry, 8));
        let log = dma & (PAGE - 1);
        let dma = dma & !(PAGE - 1);
        let bytes =
            1_u64.checked_shl(u32::try_from(log).unwrap_or(64)).and_then(|pages| pages.checked_mul(PAGE));
        let length = bytes.and_then(|bytes| usize::try_from(bytes).ok());
        let Some(length) = length.filter(|length| log < 32 && dma.is_multiple_of(*length as u64)) else {
            hca.card.violation(
                "HCR",
                None,
                format!("{what}: a chunk that is not aligned to its size"),
                entry,
            );
            return Err(Status::BadParam);
        };
        if what != "MAP_ICM" && virt != 0 {
            hca.card.violation("HCR", None, format!("{what}: an ICM address, which is reserved"), entry);
        }
        if !hca.card.memory.contains(dma, length) {
            hca.card.violation("HCR", None, format!("{what}: a chunk that is not in memory"), entry);
            return Err(Status::BadParam);
        }
        if hca.card.trace.on() {
            let place = if what == "MAP_ICM" { format!("ICM {virt:#x}, ") } else { String::new() };
            let pages = length as u64 / PAGE;
            hca.card.trace.line(format_args!("{what}: {place}{pages} pages at {dma:#x}"));
        }
        list.push(Chunk { virt, dma, pages: length as u64 / PAGE });
    }
    Ok(list)
}

pub(super) fn map_fa(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    if hca.firmware.stage != Stage::Reset {
        return Err(Status::BadSysState);
    }
    hca.firmware.fa_pages += chunks(hca, call, "MAP_FA")?.iter().map(|chunk| chunk.pages).sum::<u64>();
    Ok(0)
}

pub(super) fn unmap_fa(hca: &mut Hca, _: &Call<'_>, _: &mut [u8]) -> Answer {
    if hca.firmware.stage == Stage::Initialised {
        return Err(Status::BadSysState);
    }
    hca.firmware.fa_pages = 0;
    hca.firmware.stage = Stage::Reset;
    Ok(0)
}

pub(super) fn run_fw(hca: &mut Hca, _: &Call<'_>, _: &mut [u8]) -> Answer {
    if hca.firmware.stage != Stage::Reset || hca.firmware.fa_pages < u64::from(FW_PAGES) {
        return Err(Status::BadSysState);
    }
    hca.firmware.stage = Stage::Running;
    Ok(0)
}

/// Takes the size of ICM in bytes, and returns the number of pages of scratch memory that it needs.
pub(super) fn set_icm_size(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    let bytes = call.command.in_param;
    if bytes == 0 || bytes > 1 << 40 {
        return Err(Status::ExceedLim);
    }
    // The emulator keeps nothing there; a real card needs about a thousandth.
    hca.firmware.aux_needed = (bytes >> 22).max(1);
    Ok(hca.firmware.aux_needed)
}

pub(super) fn map_icm_aux(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    hca.firmware.aux_pages += chunks(hca, call, "MAP_ICM_AUX")?.iter().map(|chunk| chunk.pages).sum::<u64>();
    Ok(0)
}

pub(super) fn unmap_icm_aux(hca: &mut Hca, _: &Call<'_>, _: &mut [u8]) -> Answer {
    if hca.firmware.stage == Stage::Initialised {
        return Err(Status::BadSysState);
    }
    hca.firmware.aux_pages = 0;
    Ok(0)
}

pub(super) fn map_icm(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    if hca.firmware.aux_pages < hca.firmware.aux_needed {
        return Err(Status::IcmError);
    }
    for chunk in chunks(hca, call, "MAP_ICM")? {
        // Guest memory limits the size of a chunk, but the same memory may be mapped at many addresses.
        if hca.card.icm.mapped() as u64 + chunk.pages > 1 << 22 {
            return Err(Status::ExceedLim);
        }
        if !chunk.virt.is_multiple_of(PAGE) {
            hca.card.violation(
                "HCR",
                None,
                "MAP_ICM: an ICM address inside a page",
                &chunk.virt.to_be_bytes(),
            );
            return Err(Status::BadParam);
        }
        for page in 0..chunk.pages {
            let virt = chunk.virt.wrapping_add(page * PAGE);
            if hca.card.icm.dma(virt).is_some() {
                hca.card.violation("HCR", None, format!("MAP_ICM: {virt:#x} is mapped already"), &[]);
            }
            hca.card.icm.map(virt, chunk.dma + page * PAGE);
        }
    }
    Ok(0)
}

/// The ICM address is the immediate argument, the number of pages the modifier (mlx4/icm.c, `mlx4_UNMAP_ICM`).
pub(super) fn unmap_icm(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    let virt = call.command.in_param;
    if !virt.is_multiple_of(PAGE) {
        return Err(Status::BadParam);
    }
    // Drivers unmap whole chunks of 256 KiB. The last chunk of a table may be smaller, so not all of it is mapped.
    hca.card.icm.unmap(virt, call.modifier().into());
    Ok(0)
}
