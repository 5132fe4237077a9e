//! Payload, read from and written to the elements of requests.

use super::{
    Adapter,
    key::{Access, KeyError, Right, User},
    request::Element,
};

/// Reads `length` bytes, from `offset` on, of the data that the elements describe.
///
/// # Errors
///
/// A key does not permit it.
pub fn gather(
    adapter: &dyn Adapter,
    user: User,
    elements: &[Element],
    offset: u64,
    length: u64,
) -> Result<Vec<u8>, KeyError> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    each(elements, offset, length, |element, within, range| {
        let part = &mut bytes[range];
        match element {
            Element::Inline(inline) => {
                part.copy_from_slice(&inline[within as usize..within as usize + part.len()]);
                Ok(())
            }
            Element::Memory { lkey, address, .. } => {
                let (address, length) = (address.wrapping_add(within), part.len() as u64);
                adapter.read(&Access { user, key: *lkey, address, length, right: Right::LocalRead }, part)
            }
        }
    })?;
    Ok(bytes)
}

/// Writes `bytes` to the elements, from byte `offset` of them on.
///
/// # Errors
///
/// A key does not permit it.
pub fn scatter(
    adapter: &mut dyn Adapter,
    user: User,
    elements: &[Element],
    offset: u64,
    bytes: &[u8],
) -> Result<(), KeyError> {
    each(elements, offset, bytes.len() as u64, |element, within, range| {
        let Element::Memory { lkey, address, .. } = element else { return Ok(()) };
        let part = &bytes[range];
        let (address, length) = (address.wrapping_add(within), part.len() as u64);
        adapter.write(&Access { user, key: *lkey, address, length, right: Right::LocalWrite }, part)
    })
}

/// Calls `visit` for each element that overlaps the `length` bytes from `offset` on, with the offset in the element and
/// the range of those bytes.
fn each(
    elements: &[Element],
    offset: u64,
    length: u64,
    mut visit: impl FnMut(&Element, u64, std::ops::Range<usize>) -> Result<(), KeyError>,
) -> Result<(), KeyError> {
    let (mut skip, mut done) = (offset, 0_u64);
    for element in elements {
        if done == length {
            break;
        }
        let whole = element.length();
        if skip >= whole {
            skip -= whole;
            continue;
        }
        let part = (whole - skip).min(length - done);
        visit(element, skip, done as usize..(done + part) as usize)?;
        done += part;
        skip = 0;
    }
    Ok(())
}
