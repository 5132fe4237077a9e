//! Memory keys: the memory protection table.
//!
//! Entries are read from ICM at each use, because the driver also writes them in place
//! (drivers/net/ethernet/mellanox/mlx4/mr.c, `mlx4_mr_hw_write_mpt`).

use crate::{
    be,
    bus::memory::Outside,
    mlx4::{
        card::Card,
        icm::IcmError,
        mtt::{Mtt, MttError},
    },
    transport::{Access, KeyError, Right, User},
};

/// Bytes of an entry (`struct mlx4_mpt_entry`).
pub(super) const ENTRY: usize = 64;
/// The key that QUERY_DEV_CAP reports. It covers all memory by DMA address, in queue pairs that may use it.
pub(super) const RESERVED_LKEY: u32 = 0x0800;
/// The key that ends a list of receive elements.
pub(crate) const INVALID_LKEY: u32 = 0x0100;

const STATUS: u32 = 0xf << 28;
const STATUS_FREE: u32 = 0x3 << 28;
const FLAG_PHYSICAL: u32 = 1 << 9;
const FLAG_REGION: u32 = 1 << 8;
const PD_MASK: u32 = 0x1_ffff;
const PD_FLAG_INVALIDATE: u32 = 0x3 << 24;
const PD_FLAG_FAST_REGISTER: u32 = 1 << 27;
const QP_FLAG_BOUND: u32 = 1 << 7;

/// Rights, as in the flags of an entry (include/linux/mlx4/device.h, `MLX4_PERM_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rights(pub(crate) u32);

impl Rights {
    pub(crate) const LOCAL_READ: Self = Self(1 << 10);
    pub(crate) const LOCAL_WRITE: Self = Self(1 << 11);
    pub(crate) const REMOTE_READ: Self = Self(1 << 12);
    pub(crate) const REMOTE_WRITE: Self = Self(1 << 13);
    pub(crate) const REMOTE_ATOMIC: Self = Self(1 << 14);
    pub(crate) const BIND: Self = Self(1 << 15);
    pub(crate) const ALL: Self = Self(0xfc00);

    pub(crate) fn contain(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// An entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mpt {
    bytes: [u8; ENTRY],
}

/// Memory behind a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Memory {
    /// By DMA address: a virtual address plus `to_address`.
    Physical { to_address: u64 },
    /// By the pages of a region: a virtual address plus `to_offset` is the offset in them.
    Pages { pages: Mtt, to_offset: u64 },
}

/// The index of a key's entry in the table.
pub(crate) fn index(card: &Card, key: u32) -> u32 {
    key.rotate_right(8) & 1_u32.checked_shl(card.tables.log_mpts.into()).unwrap_or(0).wrapping_sub(1)
}

impl Mpt {
    /// Reads entry `index`.
    pub(crate) fn read(card: &Card, index: u32) -> Result<Self, KeyError> {
        let mut bytes = [0; ENTRY];
        card.icm.read(&card.memory, Self::place(card, index), &mut bytes)?;
        Ok(Self { bytes })
    }

    /// Writes it as entry `index`.
    pub(crate) fn write(&self, card: &Card, index: u32) -> Result<(), KeyError> {
        Ok(card.icm.write(&card.memory, Self::place(card, index), &self.bytes)?)
    }

    /// The entry of `key`, unless the driver owns it.
    pub(crate) fn of(card: &Card, key: u32) -> Result<Self, KeyError> {
        let entry = Self::read(card, index(card, key))?;
        if entry.status() == STATUS { Err(KeyError::NoSuchKey) } else { Ok(entry) }
    }

    fn place(card: &Card, index: u32) -> u64 {
        card.tables.dmpt_base.wrapping_add(u64::from(index) * ENTRY as u64)
    }

    fn flags(&self) -> u32 {
        be::get32(&self.bytes, 0)
    }

    fn status(&self) -> u32 {
        self.flags() & STATUS
    }

    /// Whether it was invalidated, or has not been registered or bound yet.
    pub(crate) fn is_free(&self) -> bool {
        self.status() == STATUS_FREE
    }

    pub(crate) fn set_free(&mut self, free: bool) {
        let status = if free { STATUS_FREE } else { 0 };
        let flags = self.flags() & !STATUS | status;
        be::put32(&mut self.bytes, 0, flags);
    }

    /// Whether it is a region, not a window.
    pub(crate) fn is_region(&self) -> bool {
        self.flags() & FLAG_REGION != 0
    }

    pub(crate) fn key(&self) -> u32 {
        be::get32(&self.bytes, 0x08).rotate_left(8)
    }

    pub(crate) fn set_key(&mut self, key: u32) {
        be::put32(&mut self.bytes, 0x08, key.rotate_right(8));
    }

    pub(crate) fn rights(&self) -> Rights {
        Rights(self.flags() & Rights::ALL.0)
    }

    pub(crate) fn set_rights(&mut self, rights: Rights) {
        let flags = self.flags() & !Rights::ALL.0 | rights.0;
        be::put32(&mut self.bytes, 0, flags);
    }

    pub(crate) fn pd(&self) -> u32 {
        be::get32(&self.bytes, 0x0c) & PD_MASK
    }

    /// Whether requests may invalidate it.
    pub(crate) fn may_be_invalidated(&self) -> bool {
        be::get32(&self.bytes, 0x0c) & PD_FLAG_INVALIDATE != 0
    }

    /// Whether a request may register it.
    pub(crate) fn may_be_registered(&self) -> bool {
        be::get32(&self.bytes, 0x0c) & PD_FLAG_FAST_REGISTER != 0
    }

    /// Whether a window has type 2, and is bound to a queue pair.
    pub(crate) fn is_type_2(&self) -> bool {
        be::get32(&self.bytes, 0x04) & QP_FLAG_BOUND != 0
    }

    /// Checks that a bound window of type 2 belongs to the user's queue pair.
    pub(crate) fn check_bound_to(&self, user: User) -> Result<(), KeyError> {
        let bound_to = be::get32(&self.bytes, 0x04) >> 8;
        if self.is_type_2() && !self.is_free() && bound_to != user.qpn {
            Err(KeyError::QueuePair)
        } else {
            Ok(())
        }
    }

    pub(crate) fn set_bound_qpn(&mut self, qpn: u32) {
        be::put32(&mut self.bytes, 0x04, qpn << 8 | QP_FLAG_BOUND);
    }

    pub(crate) fn start(&self) -> u64 {
        be::get64(&self.bytes, 0x10)
    }

    pub(crate) fn length(&self) -> u64 {
        be::get64(&self.bytes, 0x18)
    }

    pub(crate) fn set_range(&mut self, start: u64, length: u64) {
        be::put64(&mut self.bytes, 0x10, start);
        be::put64(&mut self.bytes, 0x18, length);
    }

    /// The key of a window's region.
    pub(crate) fn region_key(&self) -> u32 {
        be::get32(&self.bytes, 0x20)
    }

    /// Sets the key of a window's region, and the address in the region of the window's first byte.
    pub(crate) fn set_region(&mut self, lkey: u32, address: u64) {
        be::put32(&mut self.bytes, 0x20, lkey);
        be::put64(&mut self.bytes, 0x2c, address);
    }

    fn region_address(&self) -> u64 {
        be::get64(&self.bytes, 0x2c)
    }

    /// The number of windows that are bound to a region.
    pub(crate) fn windows(&self) -> u32 {
        be::get32(&self.bytes, 0x24)
    }

    pub(crate) fn set_windows(&mut self, count: u32) {
        be::put32(&mut self.bytes, 0x24, count);
    }

    /// The number of translation entries of a region that requests may register.
    pub(crate) fn translation_entries(&self) -> u32 {
        be::get32(&self.bytes, 0x34)
    }

    pub(crate) fn set_page_shift(&mut self, shift: u8) {
        be::put32(&mut self.bytes, 0x38, shift.into());
    }

    pub(crate) fn pages(&self) -> Mtt {
        let shift = be::get32(&self.bytes, 0x38) & 0x3f;
        Mtt { first: be::get64(&self.bytes, 0x2c), page_shift: u8::try_from(shift).unwrap_or(12) }
    }

    fn is_physical(&self) -> bool {
        self.flags() & FLAG_PHYSICAL != 0
    }

    /// Whether `length` bytes at `address` are all inside.
    pub(crate) fn covers(&self, address: u64, length: u64) -> bool {
        // The region of all memory has a length of 2^64 - 1.
        let from_start = address.wrapping_sub(self.start());
        address >= self.start() && from_start <= self.length() && length <= self.length() - from_start
    }

    /// Its memory; `moved` is added to a virtual address first.
    fn memory(&self, moved: u64) -> Memory {
        if self.is_physical() {
            return Memory::Physical { to_address: moved };
        }
        let pages = self.pages();
        let in_first_page = self.start() & ((1_u64 << pages.page_shift) - 1);
        Memory::Pages { pages, to_offset: moved.wrapping_sub(self.start()).wrapping_add(in_first_page) }
    }
}

/// The memory of an access, if its key permits it. `reserved_lkey` is whether the queue pair may use [`RESERVED_LKEY`].
pub(crate) fn translate(card: &Card, reserved_lkey: bool, access: &Access) -> Result<Memory, KeyError> {
    let need = rights(access.right);
    if access.right.is_remote() {
        return remote(card, access, need);
    }
    if access.key == RESERVED_LKEY && reserved_lkey {
        return Ok(Memory::Physical { to_address: 0 });
    }
    local(card, access, need)
}

/// The right of an entry that an access needs.
fn rights(right: Right) -> Rights {
    match right {
        Right::LocalRead => Rights::LOCAL_READ,
        Right::LocalWrite => Rights::LOCAL_WRITE,
        Right::RemoteRead => Rights::REMOTE_READ,
        Right::RemoteWrite => Rights::REMOTE_WRITE,
        Right::RemoteAtomic => Rights::REMOTE_ATOMIC,
    }
}

/// The memory of an L_Key, which names a region.
fn local(card: &Card, access: &Access, need: Rights) -> Result<Memory, KeyError> {
    let entry = Mpt::of(card, access.key)?;
    check(&entry, access, need)?;
    if entry.is_region() { Ok(entry.memory(0)) } else { Err(KeyError::NoSuchKey) }
}

/// Checks whether a region permits binding a window to the range of `access`, with `need` for its own rights.
pub(crate) fn check_bind(card: &Card, access: &Access, need: Rights) -> Result<(), KeyError> {
    local(card, access, need).map(drop)
}

/// The memory of an R_Key, which names a region or a window.
fn remote(card: &Card, access: &Access, need: Rights) -> Result<Memory, KeyError> {
    let entry = Mpt::of(card, access.key)?;
    check(&entry, access, need)?;
    if entry.is_region() {
        return Ok(entry.memory(0));
    }
    entry.check_bound_to(access.user)?;
    let moved = entry.region_address().wrapping_sub(entry.start());
    let region = Mpt::of(card, entry.region_key())?;
    if region.key() != entry.region_key() || region.is_free() || !region.is_region() {
        return Err(KeyError::NoSuchKey);
    }
    if !region.covers(access.address.wrapping_add(moved), access.length) {
        return Err(KeyError::Bounds);
    }
    Ok(region.memory(moved))
}

fn check(entry: &Mpt, access: &Access, need: Rights) -> Result<(), KeyError> {
    if entry.key() != access.key {
        Err(KeyError::NoSuchKey)
    } else if entry.is_free() {
        Err(KeyError::Free)
    } else if entry.pd() != access.user.pd & PD_MASK {
        Err(KeyError::Domain)
    } else if !entry.rights().contain(need) {
        Err(KeyError::Right)
    } else if !entry.covers(access.address, access.length) {
        Err(KeyError::Bounds)
    } else {
        Ok(())
    }
}

impl Memory {
    /// Reads at a virtual address that the key was checked for.
    pub(crate) fn read(&self, card: &Card, address: u64, bytes: &mut [u8]) -> Result<(), KeyError> {
        match self {
            Self::Physical { to_address } => card.memory.read(address.wrapping_add(*to_address), bytes)?,
            Self::Pages { pages, to_offset } => pages.read(card, address.wrapping_add(*to_offset), bytes)?,
        }
        Ok(())
    }

    /// Writes at a virtual address that the key was checked for.
    pub(crate) fn write(&self, card: &Card, address: u64, bytes: &[u8]) -> Result<(), KeyError> {
        match self {
            Self::Physical { to_address } => card.memory.write(address.wrapping_add(*to_address), bytes)?,
            Self::Pages { pages, to_offset } => pages.write(card, address.wrapping_add(*to_offset), bytes)?,
        }
        Ok(())
    }
}

impl From<Outside> for KeyError {
    fn from(Outside { address, length }: Outside) -> Self {
        Self::Outside { address, length }
    }
}

impl From<IcmError> for KeyError {
    fn from(error: IcmError) -> Self {
        match error {
            IcmError::Unmapped(address) | IcmError::Outside(Outside { address, .. }) => {
                Self::Table { address }
            }
        }
    }
}

impl From<MttError> for KeyError {
    fn from(error: MttError) -> Self {
        match error {
            MttError::Icm(error) => error.into(),
            MttError::NotPresent(address) => Self::NoPage { address },
            MttError::Outside(outside) => outside.into(),
        }
    }
}
