//! Requests that change keys: binding windows, registering and invalidating (sections 10.6.6 and 10.6.7).

use super::{
    card::Card,
    mpt::{self, Mpt, Rights},
    wqe::{Bind, FastRegister},
};
use crate::transport::{Access, Error, KeyError, Right, User};

/// The bit of a translation entry that marks a page as present.
const PRESENT: u64 = 1;

/// Binds a window to part of a region; a window of type 1 with length 0 is unbound.
pub(crate) fn bind(card: &mut Card, user: User, bind: &Bind) -> Result<(), Error> {
    try_bind(card, user, bind).map_err(|error| {
        card.trace.line(format_args!("bind of window {:#x} to {:#x}: {error}", bind.rkey, bind.lkey));
        Error::MemoryWindowBind
    })
}

fn try_bind(card: &mut Card, user: User, bind: &Bind) -> Result<(), KeyError> {
    let index = mpt::index(card, bind.rkey);
    let mut window = Mpt::of(card, bind.rkey)?;
    if window.is_region() || window.is_type_2() != bind.type_2 {
        return Err(KeyError::NoSuchKey);
    }
    if window.pd() != user.pd & 0x1_ffff {
        return Err(KeyError::Domain);
    }
    // A window of type 2 must have been invalidated first, which unbinds it from its region.
    if bind.type_2 && !window.is_free() {
        return Err(KeyError::Free);
    }
    let unbind = !bind.type_2 && bind.length == 0;
    if !unbind {
        let writes = Rights(Rights::REMOTE_WRITE.0 | Rights::REMOTE_ATOMIC.0);
        let needs_write = bind.rights.0 & writes.0 != 0;
        let need = Rights(Rights::BIND.0 | if needs_write { Rights::LOCAL_WRITE.0 } else { 0 });
        let Bind { lkey: key, address, length, .. } = *bind;
        let access = Access { user, key, address, length, right: Right::LocalRead };
        mpt::check_bind(card, &access, need)?;
    }
    release(card, &window)?;
    window.set_key(bind.rkey);
    window.set_free(false);
    if unbind {
        window.set_range(0, 0);
        window.set_region(0, 0);
        window.set_rights(Rights(0));
    } else {
        window.set_range(if bind.zero_based { 0 } else { bind.address }, bind.length);
        window.set_region(bind.lkey, bind.address);
        window.set_rights(bind.rights);
        count(card, bind.lkey, 1)?;
    }
    if bind.type_2 {
        window.set_bound_qpn(user.qpn);
    }
    window.write(card, index)
}

/// Decrements the window count of the window's region.
fn release(card: &Card, window: &Mpt) -> Result<(), KeyError> {
    if window.region_key() == 0 || window.is_free() { Ok(()) } else { count(card, window.region_key(), -1) }
}

/// Changes the window count of a region.
fn count(card: &Card, key: u32, change: i32) -> Result<(), KeyError> {
    let Ok(mut region) = Mpt::of(card, key) else { return Ok(()) };
    region.set_windows(region.windows().saturating_add_signed(change));
    region.write(card, mpt::index(card, key))
}

/// Unbinds the window at `index` from its region, before HW2SW_MPT takes the entry back.
pub(super) fn unbind(card: &Card, index: u32) {
    if let Ok(window) = Mpt::read(card, index)
        && !window.is_region()
    {
        let _gone = release(card, &window);
    }
}

/// Registers memory: gives a key new pages, a new range and new rights.
pub(crate) fn register(card: &mut Card, user: User, register: &FastRegister) -> Result<(), Error> {
    try_register(card, user, register).map_err(|error| {
        card.trace.line(format_args!("registration of key {:#x}: {error}", register.key));
        Error::MemoryWindowBind
    })
}

fn try_register(card: &mut Card, user: User, register: &FastRegister) -> Result<(), KeyError> {
    let index = mpt::index(card, register.key);
    let mut region = Mpt::of(card, register.key)?;
    if !region.is_region() || !region.may_be_registered() {
        return Err(KeyError::NoSuchKey);
    }
    if region.pd() != user.pd & 0x1_ffff {
        return Err(KeyError::Domain);
    }
    if !region.is_free() {
        return Err(KeyError::Free);
    }
    let page = 1_u64 << register.page_shift;
    let pages =
        (register.start & (page - 1)).checked_add(register.length).ok_or(KeyError::Bounds)?.div_ceil(page);
    if pages > u64::from(region.translation_entries()) {
        return Err(KeyError::Bounds);
    }
    let table = region.pages().first;
    for number in 0..pages {
        let entry: [u8; 8] = card.memory.array(register.pages.wrapping_add(number * 8))?;
        let entry = u64::from_be_bytes(entry) | PRESENT;
        let place = card.tables.mtt_base.wrapping_add(table).wrapping_add(number * 8);
        card.icm.write(&card.memory, place, &entry.to_be_bytes())?;
    }
    region.set_key(register.key);
    region.set_free(false);
    region.set_rights(register.rights);
    region.set_range(register.start, register.length);
    region.set_page_shift(register.page_shift);
    region.write(card, index)
}

/// Invalidates a key by a request of its owner.
pub(crate) fn invalidate_locally(card: &mut Card, user: User, key: u32) -> Result<(), Error> {
    invalidate(card, user, key).map_err(|error| {
        card.trace.line(format_args!("invalidation of key {key:#x}: {error}"));
        Error::MemoryWindowBind
    })
}

/// Invalidates a region's or a type 2 window's key, which can then be used only after a new registration or binding.
pub(crate) fn invalidate(card: &Card, user: User, key: u32) -> Result<(), KeyError> {
    let mut entry = Mpt::of(card, key)?;
    if entry.key() != key || !entry.may_be_invalidated() || entry.windows() != 0 {
        return Err(KeyError::NoSuchKey);
    }
    if entry.pd() != user.pd & 0x1_ffff {
        return Err(KeyError::Domain);
    }
    if !entry.is_region() {
        entry.check_bound_to(user)?;
        release(card, &entry)?;
        entry.set_region(0, 0);
    }
    entry.set_free(true);
    entry.write(card, mpt::index(card, key))
}
