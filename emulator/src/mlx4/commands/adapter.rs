//! Identity and capabilities: QUERY_FW, QUERY_DEV_CAP, QUERY_ADAPTER.
//!
//! Layouts are those of drivers/net/ethernet/mellanox/mlx4/fw.c, under the macros named at each field.

use super::{Answer, Call};
use crate::{
    be::{put16, put32, put64},
    mlx4::{
        clock,
        hca::{CATASTROPHE, CATASTROPHE_WORDS, CLEAR_INTERRUPT, Hca},
        identity::Model,
    },
};

/// The number of pages that the firmware needs from MAP_FA.
pub(super) const FW_PAGES: u16 = 64;
/// Base-2 logarithm of the number of reserved protection entries.
pub(super) const LOG_RESERVED_MPTS: u8 = 4;

/// Which capabilities a card has (include/linux/mlx4/device.h, `MLX4_DEV_CAP_FLAG_*`), by bit.
mod flag {
    pub(super) const RC: u64 = 1 << 0;
    pub(super) const UC: u64 = 1 << 1;
    pub(super) const UD: u64 = 1 << 2;
    pub(super) const XRC: u64 = 1 << 3;
    pub(super) const SRQ: u64 = 1 << 6;
    pub(super) const PKEY_COUNTER: u64 = 1 << 8;
    pub(super) const QKEY_COUNTER: u64 = 1 << 9;
    pub(super) const WINDOWS: u64 = 1 << 16;
    pub(super) const ATOMIC: u64 = 1 << 18;
    pub(super) const UD_AV_PORT: u64 = 1 << 20;
    pub(super) const UD_MULTICAST: u64 = 1 << 21;
    pub(super) const IBOE: u64 = 1 << 30;
    pub(super) const UNICAST_STEERING: u64 = 1 << 41;
    pub(super) const MULTICAST_STEERING: u64 = 1 << 42;
    pub(super) const EQE64: u64 = 1 << 61;
    pub(super) const CQE64: u64 = 1 << 62;
}

/// Extensions of memory management (device.h, `MLX4_BMME_FLAG_*`).
mod bmme {
    pub(super) const WINDOW_TYPE_2B: u32 = 1 << 1;
    pub(super) const LOCAL_INVALIDATE: u32 = 1 << 6;
    pub(super) const REMOTE_INVALIDATE: u32 = 1 << 7;
    pub(super) const WINDOW_TYPE_2: u32 = 1 << 9;
}

/// `QUERY_FW_*_OFFSET`.
pub(super) fn query_fw(hca: &mut Hca, _: &Call<'_>, out: &mut [u8]) -> Answer {
    let (major, minor, subminor) = hca.firmware.identity.firmware;
    put16(out, 0x00, FW_PAGES);
    put16(out, 0x02, major);
    // The sub-minor version comes before the minor one.
    put16(out, 0x04, subminor);
    put16(out, 0x06, minor);
    // The revision of the command interface: the one with the newer port commands.
    put16(out, 0x0a, 3);
    // 16 commands at once.
    out[0x0f] = 4;
    put64(out, 0x20, CLEAR_INTERRUPT);
    put64(out, 0x30, CATASTROPHE);
    put32(out, 0x38, CATASTROPHE_WORDS);
    if hca.card.clock {
        // QUERY_FW_CLOCK_OFFSET; the BAR, after it, is 0.
        put64(out, 0x50, clock::REGISTER);
    }
    Ok(0)
}

/// `QUERY_ADAPTER_*_OFFSET` and `VSD_OFFSET_*`.
pub(super) fn query_adapter(hca: &mut Hca, _: &Call<'_>, out: &mut [u8]) -> Answer {
    const BOARD: usize = 0x20 + 0xd0;
    // The interrupt pin, which is not used.
    out[0x10] = 62;
    let board = hca.firmware.identity.board.as_bytes();
    let board = &board[..board.len().min(16)];
    out[BOARD..BOARD + board.len()].copy_from_slice(board);
    // The bytes of each word are swapped.
    for word in out[BOARD..BOARD + 16].chunks_mut(4) {
        word.reverse();
    }
    Ok(0)
}

/// `QUERY_DEV_CAP_*_OFFSET`.
pub(super) fn query_dev_cap(hca: &mut Hca, _: &Call<'_>, out: &mut [u8]) -> Answer {
    let newer = hca.firmware.identity.model == Model::ConnectX3;
    // Base-2 logarithms, one byte each: the number of resources, and how many are reserved.
    for (offset, value) in [
        (0x10, 14),                // MAX_SRQ_SZ
        (0x11, 14),                // MAX_QP_SZ
        (0x12, 6),                 // RSVD_QP
        (0x13, 18),                // MAX_QP
        (0x14, 6 << 4),            // RSVD_SRQ
        (0x15, 16),                // MAX_SRQ
        (0x19, 22),                // MAX_CQ_SZ
        (0x1a, 7),                 // RSVD_CQ
        (0x1b, 16),                // MAX_CQ
        (0x1d, 19),                // MAX_MPT
        (0x1e, 2),                 // RSVD_EQ
        (0x1f, 9),                 // MAX_EQ
        (0x20, 4 << 4),            // RSVD_MTT
        (0x22, LOG_RESERVED_MPTS), // RSVD_MRW
        (0x29, 7),                 // MAX_REQ_QP
        (0x2b, 7),                 // MAX_RES_QP
        (0x2f, 22),                // MAX_RDMA
        (0x35, 15),                // ACK_DELAY
        (0x36, 0x53),              // MTU_WIDTH, for drivers that use the older port commands
        (0x37, 0x81),              // VL_PORT: one port
        (0x38, 30),                // MAX_MSG_SZ
        (0x3b, 7),                 // MAX_GID
        (0x3f, 7),                 // MAX_PKEY
        (0x48, 1 << 4),            // RSVD_UAR
        (0x49, 2),                 // UAR_SZ: 4 MiB
        (0x4b, 12),                // PAGE_SZ
        (0x4c, 0x80),              // BF: there is BlueFlame
        (0x4d, 9),                 // LOG_BF_REG_SZ
        (0x4e, 3),                 // LOG_MAX_BF_REGS_PER_PAGE
        (0x51, 62),                // MAX_SG_SQ
        (0x55, 32),                // MAX_SG_RQ
        (0x61, 8),                 // MAX_QP_MCG
        (0x63, 13),                // MAX_MCG
        (0x64, 2 << 4),            // RSVD_PD
        (0x65, 17),                // MAX_PD
        (0x66, 1 << 4),            // RSVD_XRC
        (0x67, 16),                // MAX_XRC
    ] {
        out[offset] = value;
    }
    // RATE_SUPPORT: every static rate, from 2.5 Gb/s on.
    put16(out, 0x3c, 0xff80);
    put16(out, 0x52, 1008); // MAX_DESC_SZ_SQ
    put16(out, 0x56, 512); // MAX_DESC_SZ_RQ
    for (offset, bytes) in [
        (0x80, 32),  // RDMARC_ENTRY_SZ
        (0x82, 256), // QPC_ENTRY_SZ
        (0x84, 256), // AUX_ENTRY_SZ
        (0x86, 64),  // ALTC_ENTRY_SZ
        (0x88, 64),  // EQC_ENTRY_SZ
        (0x8a, 64),  // CQC_ENTRY_SZ
        (0x8c, 64),  // SRQ_ENTRY_SZ
        (0x8e, 64),  // C_MPT_ENTRY_SZ
        (0x90, 8),   // MTT_ENTRY_SZ
        (0x92, 64),  // D_MPT_ENTRY_SZ
    ] {
        put16(out, offset, bytes);
    }
    put64(out, 0xa0, 1 << 40); // MAX_ICM_SZ
    out[0x3e] = if hca.card.clock { 0x80 } else { 0 }; // CQ_TS_SUPPORT

    let mut flags = flag::RC
        | flag::UC
        | flag::UD
        | flag::XRC
        | flag::SRQ
        | flag::PKEY_COUNTER
        | flag::QKEY_COUNTER
        | flag::ATOMIC
        | flag::UD_AV_PORT
        | flag::UD_MULTICAST;
    let mut extensions = bmme::LOCAL_INVALIDATE | bmme::REMOTE_INVALIDATE;
    if hca.card.port.ethernet.is_some() {
        // Not among `bmme` bits is RoCE version 2, which came with ConnectX-3 Pro.
        flags |= flag::IBOE | flag::UNICAST_STEERING | flag::MULTICAST_STEERING;
        // RSS: Toeplitz, over up to 128 queues.
        out[0x2e] = 1 << 4 | 7;
    }
    if newer {
        flags |= flag::WINDOWS | flag::EQE64 | flag::CQE64;
        extensions |= bmme::WINDOW_TYPE_2 | bmme::WINDOW_TYPE_2B;
    }
    put32(out, 0x40, (flags >> 32) as u32); // EXT_FLAGS
    put32(out, 0x44, flags as u32); // FLAGS
    put32(out, 0x94, extensions); // BMME_FLAGS
    Ok(0)
}
