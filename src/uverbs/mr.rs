//! Memory regions.

#![allow(unsafe_code)] // regions name memory that the kernel pins and devices reach

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use zerocopy::IntoBytes;

use super::{Udata, Uverbs, ioctl};
use crate::error::Result;
use crate::uapi::ioctl as abi;
use crate::uapi::verbs::{
    DeregMr, IB_USER_VERBS_CMD_REG_MR, IB_USER_VERBS_CMD_REREG_MR, RegMr, RegMrResp, ReregMr, ReregMrResp,
    Sge,
};

/// Memory to be registered.
pub(crate) struct NewMr {
    pub(crate) pd_handle: u32,
    /// Address of the first byte in this process.
    pub(crate) start: u64,
    pub(crate) length: u64,
    /// Address of the first byte in requests.
    pub(crate) iova: u64,
    pub(crate) access_flags: u32,
}

/// What is to be changed of a region.
pub(crate) struct Rereg {
    pub(crate) access_flags: Option<u32>,
    pub(crate) pd_handle: Option<u32>,
    /// Address in this process, length, and address in requests.
    pub(crate) memory: Option<(u64, u64, u64)>,
}

/// A range of a dma-buf to be registered.
pub(crate) struct RegDmabufMr<'a> {
    pub(crate) pd_handle: u32,
    pub(crate) fd: BorrowedFd<'a>,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) iova: u64,
    pub(crate) access_flags: u32,
}

/// `enum ib_mr_rereg_flags` of the kernel, which no header for user space has; rdma-core's `enum ibv_rereg_mr_flags`.
mod rereg_flags {
    pub(super) const TRANSLATION: u32 = 1 << 0;
    pub(super) const PD: u32 = 1 << 1;
    pub(super) const ACCESS: u32 = 1 << 2;
}

impl Uverbs {
    /// Registers memory; returns the handle and the keys.
    ///
    /// # Safety
    /// The memory stays mapped, and nobody uses it through Rust references, until the region is deregistered: the
    /// device may read and write it at any time.
    pub(crate) unsafe fn reg_mr(&self, region: &NewMr, driver: Udata<'_>) -> Result<RegMrResp> {
        let &NewMr { pd_handle, start, length, iova, access_flags } = region;
        let command = RegMr { start, length, hca_va: iova, pd_handle, access_flags, ..RegMr::default() };
        let mut answer = RegMrResp::default();
        // SAFETY: structures and number belong together; the caller vouches for the memory.
        unsafe { self.legacy_with_addresses(IB_USER_VERBS_CMD_REG_MR, &command, driver, &mut answer) }
            .map_err(|e| self.error("reg_mr", e))?;
        Ok(answer)
    }

    /// Changes a region; returns its keys.
    ///
    /// # Safety
    /// As for [`reg_mr`](Self::reg_mr), both for new memory and, unless this succeeds, for what the region had.
    pub(crate) unsafe fn rereg_mr(&self, mr_handle: u32, change: &Rereg) -> Result<ReregMrResp, Errno> {
        let (start, length, hca_va) = change.memory.unwrap_or_default();
        let flag = |named: bool, flag| if named { flag } else { 0 };
        let command = ReregMr {
            mr_handle,
            flags: flag(change.memory.is_some(), rereg_flags::TRANSLATION)
                | flag(change.pd_handle.is_some(), rereg_flags::PD)
                | flag(change.access_flags.is_some(), rereg_flags::ACCESS),
            start,
            length,
            hca_va,
            pd_handle: change.pd_handle.unwrap_or_default(),
            access_flags: change.access_flags.unwrap_or_default(),
            ..ReregMr::default()
        };
        let mut answer = ReregMrResp::default();
        // SAFETY: as in `reg_mr`.
        unsafe {
            self.legacy_with_addresses(IB_USER_VERBS_CMD_REREG_MR, &command, Udata::none(), &mut answer)?
        };
        Ok(answer)
    }

    /// Registers a range of a dma-buf, which the kernel keeps; returns the handle and the keys. Linux 5.12.
    pub(crate) fn reg_dmabuf_mr(&self, region: &RegDmabufMr<'_>) -> Result<RegMrResp> {
        let (mut lkey, mut rkey) = (0u32, 0u32);
        let fd = region.fd.as_raw_fd();
        let request = ioctl::Request::new(&ioctl::method::REG_DMABUF_MR)
            .new_handle(abi::UVERBS_ATTR_REG_DMABUF_MR_HANDLE)
            .handle(abi::UVERBS_ATTR_REG_DMABUF_MR_PD_HANDLE, region.pd_handle)
            .input(abi::UVERBS_ATTR_REG_DMABUF_MR_OFFSET, &region.offset)
            .input(abi::UVERBS_ATTR_REG_DMABUF_MR_LENGTH, &region.length)
            .input(abi::UVERBS_ATTR_REG_DMABUF_MR_IOVA, &region.iova)
            .input(abi::UVERBS_ATTR_REG_DMABUF_MR_FD, &fd)
            .input(abi::UVERBS_ATTR_REG_DMABUF_MR_ACCESS_FLAGS, &region.access_flags)
            .output(abi::UVERBS_ATTR_REG_DMABUF_MR_RESP_LKEY, &mut lkey)
            .output(abi::UVERBS_ATTR_REG_DMABUF_MR_RESP_RKEY, &mut rkey);
        // There is no legacy command.
        self.attributes(request)
            .unwrap_or(Err(Errno::EOPNOTSUPP))
            .and_then(|answer| answer.handle(abi::UVERBS_ATTR_REG_DMABUF_MR_HANDLE))
            .map(|mr_handle| RegMrResp { mr_handle, lkey, rkey })
            .map_err(|e| self.error("reg_dmabuf_mr", e))
    }

    /// Deregisters a region: once this has succeeded, no device reaches the memory any more.
    pub(crate) fn dereg_mr(&self, mr_handle: u32) -> Result<(), Errno> {
        let request = ioctl::Request::new(&ioctl::method::MR_DESTROY)
            .handle(abi::UVERBS_ATTR_DESTROY_MR_HANDLE, mr_handle);
        self.destroy(request, &DeregMr { mr_handle })
    }

    /// Brings in the pages of parts of on-demand regions for writing before they are needed.
    pub(crate) fn prefetch(&self, pd_handle: u32, parts: &[Sge]) -> Result<(), Errno> {
        let request = ioctl::Request::new(&ioctl::method::ADVISE_MR)
            .handle(abi::UVERBS_ATTR_ADVISE_MR_PD_HANDLE, pd_handle)
            .constant(
                abi::UVERBS_ATTR_ADVISE_MR_ADVICE,
                abi::IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE.into(),
            )
            .constant(abi::UVERBS_ATTR_ADVISE_MR_FLAGS, abi::IB_UVERBS_ADVISE_MR_FLAG_FLUSH.into())
            .bytes_in(abi::UVERBS_ATTR_ADVISE_MR_SGE_LIST, parts.as_bytes());
        // There is no legacy command; a kernel whose driver has no such call has no such method.
        self.attributes(request).unwrap_or(Err(Errno::EOPNOTSUPP)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use super::*;
    use crate::sys::linux::testing::{Attr, Command, Reply, install};
    use crate::uverbs::Encoding;

    fn uverbs() -> Uverbs {
        let fd: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        Uverbs::new(fd, abi::RDMA_DRIVER_RXE, "test".to_owned(), Encoding::Ioctl)
    }

    fn value(attrs: &[Attr], id: u16) -> u64 {
        attrs.iter().find(|attr| attr.raw.attr_id == id).map_or(u64::MAX, |attr| attr.raw.data)
    }

    /// The attributes of `UVERBS_METHOD_REG_DMABUF_MR`, and the answer's three parts.
    #[test]
    fn a_dmabuf_is_named_by_its_descriptor() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let fd = file.as_fd();
        let number = fd.as_raw_fd() as u64;
        install(move |command| {
            let Command::Ioctl { header, attrs } = command else { panic!("{command:?}") };
            assert_eq!((header.object_id, header.method_id), (7, 4));
            let values = [1, 2, 3, 4, 5, 6].map(|id| value(attrs, id));
            assert_eq!(values, [9, 0x1000, 0x2000, 0x3000, number, 7]);
            let bytes = |id, value: u32| Reply::Bytes(id, value.to_ne_bytes().to_vec());
            Ok(vec![Reply::Handle(0, 77), bytes(7, 0x11), bytes(8, 0x22)])
        });
        let request =
            RegDmabufMr { pd_handle: 9, fd, offset: 0x1000, length: 0x2000, iova: 0x3000, access_flags: 7 };
        let made = uverbs().reg_dmabuf_mr(&request).unwrap();
        assert_eq!((made.mr_handle, made.lkey, made.rkey), (77, 0x11, 0x22));
    }

    /// Flags name what changes, and the fields of what does not are zero.
    #[test]
    fn a_change_of_a_region_names_what_changes() {
        let changes = [
            (Rereg { access_flags: Some(3), pd_handle: None, memory: None }, [4, 0, 0, 0, 0, 3]),
            (Rereg { access_flags: None, pd_handle: Some(5), memory: None }, [2, 0, 0, 0, 5, 0]),
            (
                Rereg { access_flags: Some(1), pd_handle: Some(5), memory: Some((0x7000, 9, 0x8000)) },
                [7, 0x7000, 9, 0x8000, 5, 1],
            ),
        ];
        for (change, [flags, start, length, hca_va, pd_handle, access_flags]) in changes {
            let expected = ReregMr {
                response: 0,
                mr_handle: 6,
                flags: flags as u32,
                start,
                length,
                hca_va,
                pd_handle: pd_handle as u32,
                access_flags: access_flags as u32,
                driver_data: [],
            };
            install(move |command| {
                let Command::Ioctl { attrs, .. } = command else { panic!("{command:?}") };
                let core = attrs.iter().find(|attr| attr.raw.attr_id == abi::UVERBS_ATTR_CORE_IN).unwrap();
                assert_eq!(value(attrs, abi::UVERBS_ATTR_WRITE_CMD), u64::from(IB_USER_VERBS_CMD_REREG_MR));
                assert_eq!(core.memory, expected.as_bytes());
                let answer = ReregMrResp { lkey: 0x33, rkey: 0x44, driver_data: [] };
                Ok(vec![Reply::Bytes(abi::UVERBS_ATTR_CORE_OUT, answer.as_bytes().to_vec())])
            });
            // SAFETY: no kernel gets the command.
            let keys = unsafe { uverbs().rereg_mr(6, &change) }.unwrap();
            assert_eq!((keys.lkey, keys.rkey), (0x33, 0x44));
        }
    }
}
