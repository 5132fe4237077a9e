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
    /// The attributes of the method that the kernel writes to by address.
    outputs: &'static [u16],
    /// Every attribute is one of the method's, as far as this crate knows it.
    sendable: bool,
    borrowed: PhantomData<&'a mut [u8]>,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Frame {
    header: IoctlHdr,
    attrs: [IoctlAttr; MAX_ATTRS],
}

/// A method of an object, and which of its attributes the kernel writes to by address. Only those listed in [`method`] exist.
pub(super) struct Method {
    object: u16,
    method: u16,
    outputs: &'static [u16],
}

/// The methods that this crate uses.
pub(super) mod method {
    use super::{Method, abi::*};

    macro_rules! methods {
        ($( $name:ident = $object:ident, $method:ident [ $($output:ident)* ]; )*) => {
            $( pub(in super::super) const $name: Method =
                Method { object: $object, method: $method, outputs: &[ $($output),* ] }; )*
        };
    }

    methods! {
        GET_CONTEXT = UVERBS_OBJECT_DEVICE, UVERBS_METHOD_GET_CONTEXT
            [UVERBS_ATTR_GET_CONTEXT_NUM_COMP_VECTORS UVERBS_ATTR_GET_CONTEXT_CORE_SUPPORT];
        QUERY_PORT = UVERBS_OBJECT_DEVICE, UVERBS_METHOD_QUERY_PORT [UVERBS_ATTR_QUERY_PORT_RESP];
        QUERY_GID_TABLE = UVERBS_OBJECT_DEVICE, UVERBS_METHOD_QUERY_GID_TABLE
            [UVERBS_ATTR_QUERY_GID_TABLE_RESP_ENTRIES UVERBS_ATTR_QUERY_GID_TABLE_RESP_NUM_ENTRIES];
        ASYNC_EVENT_ALLOC = UVERBS_OBJECT_ASYNC_EVENT, UVERBS_METHOD_ASYNC_EVENT_ALLOC [];
        PD_DESTROY = UVERBS_OBJECT_PD, UVERBS_METHOD_PD_DESTROY [];
        MR_DESTROY = UVERBS_OBJECT_MR, UVERBS_METHOD_MR_DESTROY [];
        ADVISE_MR = UVERBS_OBJECT_MR, UVERBS_METHOD_ADVISE_MR [];
        REG_DMABUF_MR = UVERBS_OBJECT_MR, UVERBS_METHOD_REG_DMABUF_MR
            [UVERBS_ATTR_REG_DMABUF_MR_RESP_LKEY UVERBS_ATTR_REG_DMABUF_MR_RESP_RKEY];
        MW_DESTROY = UVERBS_OBJECT_MW, UVERBS_METHOD_MW_DESTROY [];
        AH_DESTROY = UVERBS_OBJECT_AH, UVERBS_METHOD_AH_DESTROY [];
        XRCD_DESTROY = UVERBS_OBJECT_XRCD, UVERBS_METHOD_XRCD_DESTROY [];
        CQ_CREATE = UVERBS_OBJECT_CQ, UVERBS_METHOD_CQ_CREATE [UVERBS_ATTR_CREATE_CQ_RESP_CQE];
        CQ_DESTROY = UVERBS_OBJECT_CQ, UVERBS_METHOD_CQ_DESTROY [UVERBS_ATTR_DESTROY_CQ_RESP];
        QP_CREATE = UVERBS_OBJECT_QP, UVERBS_METHOD_QP_CREATE
            [UVERBS_ATTR_CREATE_QP_RESP_CAP UVERBS_ATTR_CREATE_QP_RESP_QP_NUM];
        QP_DESTROY = UVERBS_OBJECT_QP, UVERBS_METHOD_QP_DESTROY [UVERBS_ATTR_DESTROY_QP_RESP];
        SRQ_CREATE = UVERBS_OBJECT_SRQ, UVERBS_METHOD_SRQ_CREATE
            [UVERBS_ATTR_CREATE_SRQ_RESP_MAX_WR UVERBS_ATTR_CREATE_SRQ_RESP_MAX_SGE
             UVERBS_ATTR_CREATE_SRQ_RESP_SRQ_NUM];
        SRQ_DESTROY = UVERBS_OBJECT_SRQ, UVERBS_METHOD_SRQ_DESTROY [UVERBS_ATTR_DESTROY_SRQ_RESP];
    }
}

impl<'a> Request<'a> {
    /// A command that has no attribute yet.
    pub(super) fn new(method: &'static Method) -> Self {
        let Method { object, method, outputs } = *method;
        let header = IoctlHdr { object_id: object, method_id: method, ..IoctlHdr::default() };
        let frame = Frame { header, attrs: [IoctlAttr::default(); MAX_ATTRS] };
        Self { frame, outputs, sendable: true, borrowed: PhantomData }
    }

    /// The method that carries the legacy command `number`.
    ///
    /// # Safety
    /// `command` and `answer` are those of the command. Every address in `command`, other than that of the answer, is that of memory
    /// which the kernel and the device may access as the command says, for as long as they do.
    pub(super) unsafe fn invoke_write(number: u32, command: &'a [u8], answer: &'a mut [u8]) -> Self {
        const INVOKE_WRITE: Method = Method {
            object: abi::UVERBS_OBJECT_DEVICE,
            method: abi::UVERBS_METHOD_INVOKE_WRITE,
            outputs: &[abi::UVERBS_ATTR_CORE_OUT],
        };
        Self::new(&INVOKE_WRITE)
            .constant(abi::UVERBS_ATTR_WRITE_CMD, number.into())
            .bytes_in(abi::UVERBS_ATTR_CORE_IN, command)
            .bytes_out(abi::UVERBS_ATTR_CORE_OUT, answer)
    }

    /// Adds an attribute. One that the kernel would take otherwise than it is meant makes the command one that is not sent.
    fn push(mut self, id: u16, len: usize, data: u64, is_output: bool) -> Self {
        let n = usize::from(self.frame.header.num_attrs);
        let known = self.outputs.contains(&id) || id == abi::UVERBS_ATTR_UHW_OUT;
        match (self.frame.attrs.get_mut(n), u16::try_from(len)) {
            (Some(attr), Ok(len)) if known == is_output => {
                let flags = abi::UVERBS_ATTR_F_MANDATORY;
                *attr = IoctlAttr { attr_id: id, len, flags, reserved: 0, data };
                self.frame.header.num_attrs += 1;
            }
            _ => self.sendable = false,
        }
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
        self.push(id, 8, value, false)
    }

    /// Bytes for the kernel: in the attribute itself up to eight, else by address.
    pub(super) fn bytes_in(self, id: u16, bytes: &'a [u8]) -> Self {
        if bytes.len() <= 8 {
            let mut inline = [0; 8];
            inline[..bytes.len()].copy_from_slice(bytes);
            return self.push(id, bytes.len(), u64::from_ne_bytes(inline), false);
        }
        self.push(id, bytes.len(), bytes.as_ptr().expose_provenance() as u64, false)
    }

    /// A structure for the kernel, which takes addresses in the methods above from attributes alone.
    pub(super) fn input<T: IntoBytes + Immutable>(self, id: u16, value: &'a T) -> Self {
        self.bytes_in(id, value.as_bytes())
    }

    /// Bytes from the kernel; an empty slice asks for nothing.
    pub(super) fn bytes_out(self, id: u16, bytes: &'a mut [u8]) -> Self {
        if bytes.is_empty() {
            return self;
        }
        self.push(id, bytes.len(), bytes.as_mut_ptr().expose_provenance() as u64, true)
    }

    /// A structure from the kernel.
    pub(super) fn output<T: FromBytes + IntoBytes>(self, id: u16, value: &'a mut T) -> Self {
        self.bytes_out(id, value.as_mut_bytes())
    }

    /// An object that exists.
    pub(super) fn handle(self, id: u16, handle: u32) -> Self {
        self.push(id, 0, handle.into(), false)
    }

    /// Asks for the handle (or descriptor) of what the command creates.
    pub(super) fn new_handle(self, id: u16) -> Self {
        self.push(id, 0, UNWRITTEN, false)
    }

    /// A file descriptor that the command uses.
    pub(super) fn fd(self, id: u16, fd: BorrowedFd<'a>) -> Self {
        self.push(id, 0, fd.as_raw_fd() as u64, false)
    }

    /// The driver's own part.
    pub(super) fn udata(mut self, driver: &'a mut Udata<'_>) -> Self {
        let (input, output) = driver.parts();
        if !input.is_empty() {
            self = self.bytes_in(abi::UVERBS_ATTR_UHW_IN, input);
        }
        self.bytes_out(abi::UVERBS_ATTR_UHW_OUT, output)
    }

    /// Sends the command to the driver with this id.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for attributes that are not the method's.
    pub(super) fn send(mut self, fd: BorrowedFd<'_>, driver: u32) -> Result<Answer, Errno> {
        if !self.sendable {
            return Err(Errno::EINVAL);
        }
        let attrs = usize::from(self.frame.header.num_attrs);
        self.frame.header.length = (size_of::<IoctlHdr>() + attrs * size_of::<IoctlAttr>()) as u16;
        self.frame.header.driver_id = driver;
        // SAFETY: `frame` is a header and `num_attrs` attributes. What the kernel writes to by address are the outputs of the method
        // (`push` sees to it), and each is a slice that this request still borrows, with that slice's length; it reads inputs in the
        // same way. `Udata` and `invoke_write` vouch for addresses inside their structures.
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

    /// Whether the kernel wrote the answer of the legacy command that this one carried.
    pub(super) fn has_core_answer(&self) -> bool {
        let answer = self.attr(abi::UVERBS_ATTR_CORE_OUT);
        answer.is_some_and(|attr| attr.flags & abi::UVERBS_ATTR_F_VALID_OUTPUT != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UVERBS_METHOD_PD_DESTROY`, as the last command of `tests/golden/rc_pingpong.txt` but for the handle, which is 7 here:
    /// 24 bytes of header, 16 of attribute.
    #[test]
    fn frames_a_method_with_a_handle() {
        let mut request = Request::new(&method::PD_DESTROY).handle(abi::UVERBS_ATTR_DESTROY_PD_HANDLE, 7);
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
        let request = Request::new(&method::PD_DESTROY).input(1, &value).constant(2, 5).optional();
        assert_eq!((request.frame.attrs[0].len, request.frame.attrs[0].data), (4, 0x1122_3344));
        assert_eq!((request.frame.attrs[1].len, request.frame.attrs[1].flags), (8, 0));
    }
    #[test]
    fn no_attribute_is_sent_as_what_it_is_not() {
        let value = 0x1234_5678_9abc_def0u64;
        let mut answer = 0u64;
        let wrong = [
            // The kernel would write to the address that the number is.
            Request::new(&method::QUERY_PORT).constant(abi::UVERBS_ATTR_QUERY_PORT_RESP, value),
            Request::new(&method::CQ_CREATE).input(abi::UVERBS_ATTR_CREATE_CQ_RESP_CQE, &value),
            Request::new(&method::QP_DESTROY).handle(abi::UVERBS_ATTR_DESTROY_QP_RESP, 7),
            Request::new(&method::PD_DESTROY).constant(abi::UVERBS_ATTR_UHW_OUT, value),
            Request::new(&method::PD_DESTROY).output(abi::UVERBS_ATTR_DESTROY_PD_HANDLE, &mut answer),
        ];
        let file = std::fs::File::open("/dev/null").unwrap();
        linux::testing::install(|_| panic!("nothing is sent"));
        for request in wrong {
            let outcome = request.send(std::os::fd::AsFd::as_fd(&file), abi::RDMA_DRIVER_RXE);
            assert_eq!(outcome.err(), Some(Errno::EINVAL));
        }
    }
}
