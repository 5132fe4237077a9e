//! Attributes by `RDMA_VERBS_IOCTL`.

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use zerocopy::{FromBytes, IntoBytes};

use crate::Context;
use crate::error::Result;
use crate::sys::linux;
use crate::uapi::ioctl::{IoctlAttr, IoctlHdr, UVERBS_ATTR_F_MANDATORY, UVERBS_ATTR_F_VALID_OUTPUT};

/// What the place for a handle holds until the kernel writes one.
const UNWRITTEN: u64 = u64::MAX;
const HEADER: usize = size_of::<IoctlHdr>();
const ATTR: usize = size_of::<IoctlAttr>();

/// A method of one of the kernel's objects, with its attributes. It borrows the memory that they point to.
#[derive(Debug)]
#[must_use]
pub struct Ioctl<'a> {
    object: u16,
    method: u16,
    attrs: Vec<IoctlAttr>,
    /// An attribute was left out, which is longer than its length can say.
    too_long: bool,
    borrowed: PhantomData<&'a mut [u8]>,
}

impl<'a> Ioctl<'a> {
    /// A method (`UVERBS_METHOD_*`) of an object (`UVERBS_OBJECT_*`), without attributes.
    pub fn new(object: u16, method: u16) -> Self {
        Self { object, method, attrs: Vec::new(), too_long: false, borrowed: PhantomData }
    }

    fn push(mut self, attr_id: u16, len: usize, data: u64) -> Self {
        let flags = UVERBS_ATTR_F_MANDATORY;
        match u16::try_from(len) {
            Ok(len) => self.attrs.push(IoctlAttr { attr_id, len, flags, reserved: 0, data }),
            Err(_) => self.too_long = true,
        }
        self
    }

    /// Adds a constant: a number, flags or an enumeration (`UVERBS_ATTR_CONST_IN`, `UVERBS_ATTR_FLAGS_IN`).
    pub fn constant(self, attr: u16, value: u64) -> Self {
        self.push(attr, 8, value)
    }

    /// Adds bytes for the kernel (`UVERBS_ATTR_PTR_IN`): up to 8 travel in the attribute, more by their address.
    pub fn input(self, attr: u16, bytes: &'a [u8]) -> Self {
        let mut inline = [0; 8];
        match inline.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.push(attr, bytes.len(), u64::from_ne_bytes(inline))
            }
            None => self.push(attr, bytes.len(), bytes.as_ptr().expose_provenance() as u64),
        }
    }

    /// Adds room for bytes from the kernel (`UVERBS_ATTR_PTR_OUT`).
    pub fn output(self, attr: u16, bytes: &'a mut [u8]) -> Self {
        self.push(attr, bytes.len(), bytes.as_mut_ptr().expose_provenance() as u64)
    }

    /// Adds an existing object by its [`handle`](super::handle()) (`UVERBS_ATTR_IDR`).
    pub fn handle(self, attr: u16, handle: u32) -> Self {
        self.push(attr, 0, handle.into())
    }

    /// Asks for the handle, or the descriptor, of the object that the method creates: [`IoctlAnswer::new_handle`].
    pub fn new_handle(self, attr: u16) -> Self {
        self.push(attr, 0, UNWRITTEN)
    }

    /// Adds a descriptor that stands for an object, such as a completion channel (`UVERBS_ATTR_FD`).
    pub fn fd(self, attr: u16, fd: BorrowedFd<'a>) -> Self {
        self.push(attr, 0, fd.as_raw_fd() as u64)
    }

    /// Lets the kernel ignore the attribute that was added last if it does not know it (without `UVERBS_ATTR_F_MANDATORY`).
    pub fn optional(mut self) -> Self {
        if let Some(last) = self.attrs.last_mut() {
            last.flags = 0;
        }
        self
    }

    /// Sends it with the id of the context's driver, whatever [`Encoding`](crate::Encoding) the context has.
    ///
    /// # Errors
    /// The kernel's errno: `EPROTONOSUPPORT` where it knows no such method or attribute, `ENOTTY` where it has no ioctl. `E2BIG` for an
    /// attribute of more than 65535 bytes, or too many attributes.
    ///
    /// # Safety
    /// Addresses that are part of an input are those of memory that the kernel and the device may access as the method does, for as long as
    /// they do. Each attribute is of the kind that the method has, and an output has room for what the kernel writes. The method does not
    /// destroy an object that the library holds, and leaves registered what the device still uses.
    pub unsafe fn send(self, ctx: &Context) -> Result<IoctlAnswer> {
        let uverbs = ctx.uverbs();
        let error = |errno| uverbs.error("raw ioctl", errno);
        let (header, mut words) = self.frame(uverbs.driver()).ok_or_else(|| error(Errno::E2BIG))?;
        // SAFETY: a header and as many attributes as it says. Their addresses come from slices that `self` borrows until this call
        // has returned; the caller vouches for the rest.
        unsafe { linux::verbs_ioctl(uverbs.as_fd(), words.as_mut_ptr()) }.map_err(error)?;
        let attrs = words.as_bytes()[HEADER..].chunks_exact(ATTR).take(header.num_attrs.into());
        Ok(IoctlAnswer { attrs: attrs.filter_map(|bytes| IoctlAttr::read_from_bytes(bytes).ok()).collect() })
    }

    /// The header, and the whole command in aligned memory.
    fn frame(&self, driver_id: u32) -> Option<(IoctlHdr, Vec<u64>)> {
        if self.too_long {
            return None;
        }
        let length = HEADER + self.attrs.len() * ATTR;
        let header = IoctlHdr {
            length: length.try_into().ok()?,
            object_id: self.object,
            method_id: self.method,
            num_attrs: self.attrs.len().try_into().ok()?,
            driver_id,
            ..IoctlHdr::default()
        };
        let mut words = vec![0u64; length / size_of::<u64>()];
        let (first, rest) = words.as_mut_bytes().split_at_mut(HEADER);
        first.copy_from_slice(header.as_bytes());
        rest.copy_from_slice(self.attrs.as_bytes());
        Some((header, words))
    }
}

/// What the kernel wrote into the attributes.
#[derive(Debug)]
pub struct IoctlAnswer {
    attrs: Vec<IoctlAttr>,
}

impl IoctlAnswer {
    fn attr(&self, id: u16) -> Option<&IoctlAttr> {
        self.attrs.iter().find(|attr| attr.attr_id == id)
    }

    /// Returns the handle, or descriptor, of the object that the method created: of the attribute that was added with
    /// [`Ioctl::new_handle`]. Whoever wraps a descriptor must be its only owner.
    #[must_use]
    pub fn new_handle(&self, attr: u16) -> Option<u32> {
        let written = self.attr(attr).map(|attr| attr.data).filter(|data| *data != UNWRITTEN)?;
        written.try_into().ok()
    }

    /// Whether the kernel wrote an output. Some outputs are written only by newer kernels.
    #[must_use]
    pub fn written(&self, attr: u16) -> bool {
        self.attr(attr).is_some_and(|attr| attr.flags & UVERBS_ATTR_F_VALID_OUTPUT != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same bytes as those of the library's own framing: `frames_a_method_with_a_handle` in `uverbs/ioctl.rs`.
    #[test]
    fn a_frame_is_a_header_and_attributes() {
        let (_, words) = Ioctl::new(1, 0).handle(0, 7).input(3, &[1, 2]).optional().frame(14).unwrap();
        #[rustfmt::skip]
        let expected = [
            56, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,
            3, 0, 2, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(words.as_bytes(), expected);
    }

    #[test]
    fn what_does_not_fit_has_no_frame() {
        assert!(Ioctl::new(0, 0).input(0, &vec![0; 65_535]).frame(0).is_some());
        assert!(Ioctl::new(0, 0).input(0, &vec![0; 65_536]).frame(0).is_none());
        let many = (0..4095).fold(Ioctl::new(0, 0), |ioctl, n| ioctl.constant(n, 0));
        assert!(many.frame(0).is_none());
    }
}
