//! Tables and limits: INIT_HCA, QUERY_HCA, CLOSE_HCA (mlx4/fw.c, `INIT_HCA_*_OFFSET`).

use super::{Answer, Call, Stage, mcg};
use crate::{
    be::{get32, get64, put32},
    mlx4::{card::Tables, clock, hca::Hca, icm::PAGE, status::Status},
};

/// Offsets in the mailbox.
mod field {
    pub(super) const VERSION: usize = 0x000;
    pub(super) const FLAGS: usize = 0x014;
    const QPC: usize = 0x020;
    pub(super) const QPC_BASE: usize = QPC + 0x10;
    pub(super) const LOG_QP: usize = QPC + 0x17;
    pub(super) const SRQC_BASE: usize = QPC + 0x28;
    pub(super) const LOG_SRQ: usize = QPC + 0x2f;
    pub(super) const CQC_BASE: usize = QPC + 0x30;
    pub(super) const LOG_CQ: usize = QPC + 0x37;
    pub(super) const ENTRY_SIZES: usize = QPC + 0x38;
    pub(super) const STRIDES: usize = QPC + 0x3b;
    pub(super) const EQC_BASE: usize = QPC + 0x60;
    const MCAST: usize = 0x0c0;
    pub(super) const MC_BASE: usize = MCAST;
    pub(super) const LOG_MC_ENTRY: usize = MCAST + 0x13;
    pub(super) const LOG_MC_HASH: usize = MCAST + 0x17;
    pub(super) const LOG_MC_TABLE: usize = MCAST + 0x1b;
    const TPT: usize = 0x0f0;
    pub(super) const DMPT_BASE: usize = TPT;
    pub(super) const WINDOWS: usize = TPT + 0x08;
    pub(super) const LOG_MPT: usize = TPT + 0x0b;
    pub(super) const MTT_BASE: usize = TPT + 0x10;
    pub(super) const LOG_UAR: usize = 0x120 + 0x0a;
    pub(super) const UAR_PAGE: usize = 0x120 + 0x0b;
    /// QUERY_HCA only: the frequency of the clock in MHz, 16 bits.
    pub(super) const CLOCK: usize = 0x00c;
}

pub(super) fn init_hca(hca: &mut Hca, call: &Call<'_>, _: &mut [u8]) -> Answer {
    if hca.firmware.stage != Stage::Running {
        return Err(Status::BadSysState);
    }
    let input = call.input;
    let byte = |at: usize| input[at];
    if byte(field::VERSION) != 2 {
        hca.card.violation("HCR", None, "INIT_HCA: a layout of another version than 2", &input[..4]);
        return Err(Status::BadParam);
    }
    if get32(input, field::FLAGS) & 2 != 0 {
        // Queues of a big-endian host.
        return Err(Status::BadParam);
    }
    let tables = Tables {
        dmpt_base: get64(input, field::DMPT_BASE),
        log_mpts: byte(field::LOG_MPT) & 0x3f,
        mtt_base: get64(input, field::MTT_BASE),
        mc_base: get64(input, field::MC_BASE),
        log_mc_entry: byte(field::LOG_MC_ENTRY) & 0x1f,
        log_mc_hash: byte(field::LOG_MC_HASH) & 0x1f,
        log_mc_table: byte(field::LOG_MC_TABLE) & 0x1f,
        log_qps: byte(field::LOG_QP) & 0x1f,
        log_cqs: byte(field::LOG_CQ) & 0x1f,
        log_srqs: byte(field::LOG_SRQ) & 0x1f,
        cqe64: byte(field::ENTRY_SIZES) & 0x40 != 0,
        eqe64: byte(field::ENTRY_SIZES) & 0x20 != 0,
        windows: byte(field::WINDOWS) & 0x80 != 0,
    };
    if tables.log_qps > 24
        || tables.log_cqs > 24
        || tables.log_srqs > 24
        || tables.log_mpts > 24
        || tables.log_mc_table > 24
        || !(5..=12).contains(&tables.log_mc_entry)
        || tables.log_mc_hash > tables.log_mc_table
    {
        return Err(Status::ExceedLim);
    }
    // Strides over 64 bytes are not a capability of this card, and there are 4 KiB UAR pages only.
    if byte(field::STRIDES) != 0 || byte(field::UAR_PAGE) != 0 || byte(field::LOG_UAR) & 0xf > 10 {
        return Err(Status::BadParam);
    }
    // The firmware writes the reserved first entries of these tables, so they must be mapped.
    for (name, base) in [
        ("QPC", get64(input, field::QPC_BASE) & !0x1f),
        ("SRQC", get64(input, field::SRQC_BASE) & !0x1f),
        ("CQC", get64(input, field::CQC_BASE) & !0x1f),
        ("EQC", get64(input, field::EQC_BASE) & !0x1f),
        ("dMPT", tables.dmpt_base),
        ("MTT", tables.mtt_base),
        ("MC", tables.mc_base),
    ] {
        if hca.card.icm.dma(base & !(PAGE - 1)).is_none() {
            let what = format!("INIT_HCA: nothing is mapped where the {name} table begins, {base:#x}");
            hca.card.violation("HCR", None, what, &[]);
            return Err(Status::IcmError);
        }
    }
    if hca.card.trace.on() {
        hca.card.trace.line(format_args!("INIT_HCA: {tables:x?}"));
    }
    hca.card.tables = tables;
    mcg::clear(hca)?;
    hca.firmware.init_hca = input.to_vec();
    hca.firmware.stage = Stage::Initialised;
    Ok(0)
}

/// The mailbox of INIT_HCA, and the clock.
pub(super) fn query_hca(hca: &mut Hca, _: &Call<'_>, out: &mut [u8]) -> Answer {
    if hca.firmware.init_hca.len() == out.len() {
        out.copy_from_slice(&hca.firmware.init_hca);
    }
    // The bytes before it are an input to INIT_HCA.
    put32(out, field::CLOCK, if hca.card.clock { clock::MHZ << 16 } else { 0 });
    Ok(0)
}

pub(super) fn close_hca(hca: &mut Hca, _: &Call<'_>, _: &mut [u8]) -> Answer {
    hca.close();
    Ok(0)
}
