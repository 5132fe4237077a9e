//! The context, and what can be asked of the device and its ports.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use zerocopy::{FromZeros, IntoBytes};

use super::{Udata, Uverbs, ioctl};
use crate::error::{Error, Result};
use crate::uapi::ioctl::verbs::{GidEntry, QueryPortRespEx};
use crate::uapi::ioctl::{self as abi};
use crate::uapi::verbs::{
    ExQueryDevice, ExQueryDeviceResp, GetContext, GetContextResp, QueryDevice, QueryDeviceResp, QueryPort,
};

/// What came with a new context.
pub(crate) struct NewContext {
    pub(crate) num_comp_vectors: u32,
    /// The async event file, where the encoding makes one together with the context.
    pub(crate) async_fd: Option<OwnedFd>,
}

impl Uverbs {
    /// Creates this file's context, without which it takes no other command.
    pub(crate) fn get_context(&self, mut driver: Udata<'_>) -> Result<NewContext> {
        let mut num_comp_vectors = 0u32;
        let mut core_support = 0u64;
        let request = ioctl::Request::new(&ioctl::method::GET_CONTEXT)
            .output(abi::UVERBS_ATTR_GET_CONTEXT_NUM_COMP_VECTORS, &mut num_comp_vectors)
            .output(abi::UVERBS_ATTR_GET_CONTEXT_CORE_SUPPORT, &mut core_support)
            .optional()
            .udata(&mut driver);
        if let Some(done) = self.attributes(request) {
            done.map_err(|e| self.error("get_context", e))?;
            return Ok(NewContext { num_comp_vectors, async_fd: None });
        }
        let answer = self
            .legacy_over(
                &GetContext::default(),
                driver,
                // Not 0, which is a descriptor that somebody may own.
                GetContextResp { async_fd: u32::MAX, ..GetContextResp::default() },
            )
            .map_err(|e| self.error("get_context", e))?;
        let async_fd = Some(self.adopt(answer.async_fd, "get_context")?);
        Ok(NewContext { num_comp_vectors: answer.num_comp_vectors, async_fd })
    }

    /// The device's attributes; what an old kernel does not report is zero.
    pub(crate) fn query_device(&self) -> Result<ExQueryDeviceResp> {
        self.query_device_and_driver(Udata::none())
    }

    /// The same, and in `udata` the driver's part, where the driver has one.
    pub(crate) fn query_device_and_driver(&self, udata: Udata<'_>) -> Result<ExQueryDeviceResp> {
        match self.legacy(&ExQueryDevice::default(), udata) {
            Ok(answer) if (answer.response_length as usize) < size_of::<QueryDeviceResp>() => {
                Err(Error::bad_answer(
                    "query_device",
                    self.device(),
                    format!("the kernel's answer has {} bytes", answer.response_length),
                ))
            }
            Ok(answer) => Ok(answer),
            // A driver without the extended command.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL | Errno::EPROTONOSUPPORT) => {
                let base = self
                    .legacy(&QueryDevice::default(), Udata::none())
                    .map_err(|e| self.error("query_device", e))?;
                Ok(ExQueryDeviceResp { base, ..ExQueryDeviceResp::default() })
            }
            Err(errno) => Err(self.error("query_device", errno)),
        }
    }

    /// A port's attributes.
    pub(crate) fn query_port(&self, port: u8) -> Result<QueryPortRespEx> {
        let mut answer = QueryPortRespEx::new_zeroed();
        let request = ioctl::Request::new(&ioctl::method::QUERY_PORT)
            .constant(abi::UVERBS_ATTR_QUERY_PORT_PORT_NUM, port.into())
            .output(abi::UVERBS_ATTR_QUERY_PORT_RESP, &mut answer);
        let done = match self.attributes(request) {
            Some(done) => done.map(drop),
            None => self.legacy(&QueryPort { port_num: port, ..QueryPort::default() }, Udata::none()).map(
                |legacy_resp| {
                    answer = QueryPortRespEx { legacy_resp, ..QueryPortRespEx::default() };
                },
            ),
        };
        done.map(|()| answer).map_err(|e| self.error("query_port", e))
    }

    /// Every GID table entry that is in use, of all ports; `None` where this encoding has no command for it.
    ///
    /// `capacity` is the number of entries that the ports' tables have together.
    pub(crate) fn query_gid_table(&self, capacity: usize) -> Option<Result<Vec<GidEntry>>> {
        let entry_size = size_of::<GidEntry>();
        // An attribute's length has 16 bits.
        let capacity = capacity.min(usize::from(u16::MAX) / entry_size);
        let mut entries = vec![GidEntry::new_zeroed(); capacity];
        let mut used = 0u64;
        let request = ioctl::Request::new(&ioctl::method::QUERY_GID_TABLE)
            .constant(abi::UVERBS_ATTR_QUERY_GID_TABLE_ENTRY_SIZE, entry_size as u64)
            .constant(abi::UVERBS_ATTR_QUERY_GID_TABLE_FLAGS, 0)
            .bytes_out(abi::UVERBS_ATTR_QUERY_GID_TABLE_RESP_ENTRIES, entries.as_mut_bytes())
            .output(abi::UVERBS_ATTR_QUERY_GID_TABLE_RESP_NUM_ENTRIES, &mut used);
        let done = self.attributes(request)?;
        Some(done.map_err(|e| self.error("query_gid_table", e)).and_then(|_| match usize::try_from(used) {
            Ok(n) if n <= capacity => {
                entries.truncate(n);
                Ok(entries)
            }
            _ => Err(Error::bad_answer(
                "query_gid_table",
                self.device(),
                format!("the kernel says {used} entries where {capacity} fit"),
            )),
        }))
    }
}
