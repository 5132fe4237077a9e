//! Statuses of firmware commands.

use std::fmt;

/// The status byte of a firmware command (drivers/net/ethernet/mellanox/mlx4/cmd.c, `CMD_STAT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Internal error of the card.
    InternalErr = 0x01,
    /// The opcode or the opcode modifier is not known.
    BadOp = 0x02,
    /// A parameter is wrong or not supported.
    BadParam = 0x03,
    /// The card is not initialized far enough for the command.
    BadSysState = 0x04,
    /// The resource's number is wrong: reserved or over the limit.
    BadResource = 0x05,
    /// The resource is in use.
    ResourceBusy = 0x06,
    /// A limit is exceeded.
    ExceedLim = 0x08,
    /// The resource is in the wrong state.
    BadResState = 0x09,
    /// An index is out of range.
    BadIndex = 0x0a,
    /// The firmware image is bad.
    BadNvmem = 0x0b,
    /// ICM error: memory for the table is not mapped.
    IcmError = 0x0c,
    /// The queue pair is not in the state that the command requires.
    BadQpState = 0x10,
    /// The segment's parameters are wrong.
    BadSegParam = 0x20,
    /// Memory windows are still bound to the region.
    RegBound = 0x21,
    /// A local address is not present.
    LamNotPre = 0x22,
    /// A management datagram of the wrong size.
    BadPkt = 0x30,
    /// The new queue is too small.
    BadSize = 0x40,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::InternalErr => "INTERNAL_ERR",
            Self::BadOp => "BAD_OP",
            Self::BadParam => "BAD_PARAM",
            Self::BadSysState => "BAD_SYS_STATE",
            Self::BadResource => "BAD_RESOURCE",
            Self::ResourceBusy => "RESOURCE_BUSY",
            Self::ExceedLim => "EXCEED_LIM",
            Self::BadResState => "BAD_RES_STATE",
            Self::BadIndex => "BAD_INDEX",
            Self::BadNvmem => "BAD_NVMEM",
            Self::IcmError => "ICM_ERROR",
            Self::BadQpState => "BAD_QP_STATE",
            Self::BadSegParam => "BAD_SEG_PARAM",
            Self::RegBound => "REG_BOUND",
            Self::LamNotPre => "LAM_NOT_PRE",
            Self::BadPkt => "BAD_PKT",
            Self::BadSize => "BAD_SIZE",
        };
        write!(f, "{name} ({:#04x})", *self as u8)
    }
}
