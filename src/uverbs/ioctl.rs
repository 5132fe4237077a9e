//! Framing of `RDMA_VERBS_IOCTL`: a header, then attributes.

#![allow(unsafe_code)] // attributes hand addresses to the kernel

use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Udata;
use crate::sys::linux;
use crate::uapi::ioctl::{self as abi, IoctlAttr, IoctlHdr};

/// More than the longest command of this crate has.
const MAX_ATTRS: usize = 16;

/// What stands in the place for a handle until the kernel writes one: not zero, which would be somebody's object, or standard
/// input.
const UNWRITTEN: u64 = u64::MAX;

/// A command being put together. It borrows everything that it points to, so nothing can move or go before it is sent.
pub(super) struct Request<'a> {
    frame: Frame,
    borrowed: PhantomData<&'a mut [u8]>,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Frame {
    header: IoctlHdr,
    attrs: [IoctlAttr; MAX_ATTRS],
}

impl<'a> Request<'a> {
    /// A method of an object (`UVERBS_OBJECT_*`, `UVERBS_METHOD_*`).
    pub(super) fn new(object: u16, method: u16) -> Self {
        let header = IoctlHdr { object_id: object, method_id: method, ..IoctlHdr::default() };
        Self { frame: Frame { header, attrs: [IoctlAttr::default(); MAX_ATTRS] }, borrowed: PhantomData }
    }

    /// The method that carries a legacy command.
    pub(super) fn invoke_write(number: u32) -> Self {
        Self::new(abi::UVERBS_OBJECT_DEVICE, abi::UVERBS_METHOD_INVOKE_WRITE)
            .constant(abi::UVERBS_ATTR_WRITE_CMD, number.into())
    }

    fn push(mut self, id: u16, len: usize, data: u64) -> Self {
        let n = usize::from(self.frame.header.num_attrs);
        // Lengths are those of this crate's structures: none comes near the limits.
        self.frame.attrs[n] = IoctlAttr {
            attr_id: id,
            len: len.try_into().unwrap_or(u16::MAX),
            flags: abi::UVERBS_ATTR_F_MANDATORY,
            reserved: 0,
            data,
        };
        self.frame.header.num_attrs += 1;
        self
    }

    /// The kernel may leave out the attribute before if it does not know it.
    pub(super) fn optional(mut self) -> Self {
        if let Some(last) = usize::from(self.frame.header.num_attrs).checked_sub(1) {
            self.frame.attrs[last].flags = 0;
        }
        self
    }

    /// A number (the kernel takes its width from the method).
    pub(super) fn constant(self, id: u16, value: u64) -> Self {
        self.push(id, 8, value)
    }

    /// Bytes for the kernel: in the attribute itself up to eight, else by address.
    pub(super) fn bytes_in(self, id: u16, bytes: &'a [u8]) -> Self {
        if bytes.len() <= 8 {
            let mut inline = [0; 8];
            inline[..bytes.len()].copy_from_slice(bytes);
            return self.push(id, bytes.len(), u64::from_ne_bytes(inline));
        }
        self.push(id, bytes.len(), bytes.as_ptr().expose_provenance() as u64)
    }

    /// A structure for the kernel.
    pub(super) fn input<T: IntoBytes + Immutable>(self, id: u16, value: &'a T) -> Self {
        self.bytes_in(id, value.as_bytes())
    }

    /// Bytes from the kernel; an empty slice asks for nothing.
    pub(super) fn bytes_out(self, id: u16, bytes: &'a mut [u8]) -> Self {
        if bytes.is_empty() {
            return self;
        }
        self.push(id, bytes.len(), bytes.as_mut_ptr().expose_provenance() as u64)
    }

    /// A structure from the kernel.
    pub(super) fn output<T: FromBytes + IntoBytes>(self, id: u16, value: &'a mut T) -> Self {
        self.bytes_out(id, value.as_mut_bytes())
    }

    /// An object that exists.
    pub(super) fn handle(self, id: u16, handle: u32) -> Self {
        self.push(id, 0, handle.into())
    }

    /// A place for the handle (or descriptor) of what the command makes.
    pub(super) fn new_handle(self, id: u16) -> Self {
        self.push(id, 0, UNWRITTEN)
    }

    /// A file descriptor that the command uses.
    pub(super) fn fd(self, id: u16, fd: BorrowedFd<'a>) -> Self {
        self.push(id, 0, fd.as_raw_fd() as u64)
    }

    /// The provider's own part.
    pub(super) fn udata(mut self, driver: Udata<'a>) -> Self {
        if !driver.input.is_empty() {
            self = self.bytes_in(abi::UVERBS_ATTR_UHW_IN, driver.input);
        }
        self.bytes_out(abi::UVERBS_ATTR_UHW_OUT, driver.output)
    }

    /// Sends the command to the driver with this id.
    pub(super) fn send(mut self, fd: BorrowedFd<'_>, driver: u32) -> Result<Answer, Errno> {
        let attrs = usize::from(self.frame.header.num_attrs);
        self.frame.header.length = (size_of::<IoctlHdr>() + attrs * size_of::<IoctlAttr>()) as u16;
        self.frame.header.driver_id = driver;
        // SAFETY: `frame` is a header and `num_attrs` attributes; every address in it comes from a slice that this
        // request still borrows, with that slice's length.
        unsafe { linux::verbs_ioctl(fd, &raw mut self.frame) }?;
        Ok(Answer { frame: self.frame })
    }
}

/// A command that the kernel has carried out.
pub(super) struct Answer {
    frame: Frame,
}

impl Answer {
    fn attr(&self, id: u16) -> Option<&IoctlAttr> {
        let n = usize::from(self.frame.header.num_attrs);
        self.frame.attrs[..n].iter().find(|attr| attr.attr_id == id)
    }

    /// The handle (or descriptor) that the kernel has put in the place for it.
    pub(super) fn handle(&self, id: u16) -> Result<u32, Errno> {
        let written = self.attr(id).map(|attr| attr.data).filter(|data| *data != UNWRITTEN);
        written.and_then(|data| data.try_into().ok()).ok_or(Errno::EBADMSG)
    }

    /// Whether the kernel wrote this output.
    pub(super) fn answered(&self, id: u16) -> bool {
        self.attr(id).is_some_and(|attr| attr.flags & abi::UVERBS_ATTR_F_VALID_OUTPUT != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UVERBS_METHOD_PD_DESTROY`, as the last command of `tests/golden/rc_pingpong.txt` but for the handle, which is 7 here:
    /// 24 bytes of header, 16 of attribute.
    #[test]
    fn frames_a_method_with_a_handle() {
        let mut request = Request::new(abi::UVERBS_OBJECT_PD, abi::UVERBS_METHOD_PD_DESTROY)
            .handle(abi::UVERBS_ATTR_DESTROY_PD_HANDLE, 7);
        request.frame.header.length = 40;
        request.frame.header.driver_id = abi::RDMA_DRIVER_RXE;
        #[rustfmt::skip]
        let header = [
            40, 0, /* PD */ 1, 0, /* destroy */ 0, 0, /* one attribute */ 1, 0,
            0, 0, 0, 0, 0, 0, 0, 0,
            /* rxe */ 14, 0, 0, 0, 0, 0, 0, 0,
        ];
        let attr = [0, 0, 0, 0, /* mandatory */ 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(request.frame.header.as_bytes(), header);
        assert_eq!(request.frame.attrs[0].as_bytes(), attr);
    }

    #[test]
    fn short_inputs_travel_in_the_attribute() {
        let value = 0x1122_3344u32;
        let request = Request::new(3, 0).input(1, &value).constant(2, 5).optional();
        assert_eq!((request.frame.attrs[0].len, request.frame.attrs[0].data), (4, 0x1122_3344));
        assert_eq!((request.frame.attrs[1].len, request.frame.attrs[1].flags), (8, 0));
    }
}
