//! A receive in its slot: the list of its elements, and where that is shorter than the slot, its end.

use super::{INLINE, SEGMENT};
use crate::sys::region::Slot;
use crate::sys::slots::Slots;
use crate::types::{Data, PostErrorKind, RecvWr, Sge};

/// The key that ends a receive's list where it is shorter than its slot.
pub(in super::super) const INVALID_LKEY: u32 = 0x100;

/// A receive queue's memory.
pub(in super::super) type Elements = Slots<SEGMENT>;

/// Writes a receive's elements from `first` on, where `max_sge` of them have room.
#[inline(always)]
pub(in super::super) fn write_recv(
    elements: &mut Elements,
    first: u32,
    wr: &RecvWr<'_>,
    max_sge: u32,
) -> Result<(), PostErrorKind> {
    match wr.data {
        Data::One(sge) if max_sge > 0 && sge.length != 0 && sge.length & INLINE == 0 => {
            scatter(&mut elements.slot(first), &sge);
            if max_sge > 1 {
                end(&mut elements.slot(first.wrapping_add(1)));
            }
            Ok(())
        }
        Data::One(sge) => scatter_list(elements, first, &[sge], max_sge),
        Data::List(sges) => scatter_list(elements, first, sges, max_sge),
        Data::None | Data::Inline(_) => scatter_list(elements, first, &[], max_sge),
    }
}

#[inline(never)]
fn scatter_list(
    elements: &mut Elements,
    first: u32,
    sges: &[Sge],
    max_sge: u32,
) -> Result<(), PostErrorKind> {
    if sges.len() > max_sge as usize {
        return Err(PostErrorKind::TooManySges { max: max_sge });
    }
    let mut number = first;
    // A count of 0 ends the list: elements that take nothing are left out.
    for sge in sges.iter().filter(|sge| sge.length != 0) {
        if sge.length & INLINE != 0 {
            return Err(PostErrorKind::MessageTooLong);
        }
        scatter(&mut elements.slot(number), sge);
        number = number.wrapping_add(1);
    }
    if number.wrapping_sub(first) < max_sge {
        end(&mut elements.slot(number));
    }
    Ok(())
}

#[inline(always)]
fn scatter(element: &mut Slot<'_, SEGMENT>, sge: &Sge) {
    element.put(0, [sge.length.to_be(), sge.lkey.0.to_be()]);
    element.put(8, sge.addr.to_be());
}

#[inline(always)]
fn end(element: &mut Slot<'_, SEGMENT>) {
    element.put(0, [0, INVALID_LKEY.to_be()]);
    element.put(8, 0u64);
}
