//! Descriptors that deliver events: completion channels and the async event file.

#![allow(unsafe_code)] // descriptors that the kernel makes for us

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use zerocopy::{FromBytes, IntoBytes};

use super::{Udata, Uverbs, ioctl};
use crate::error::{Error, Result};
use crate::sys::linux;
use crate::uapi::ioctl as abi;
use crate::uapi::verbs::{CreateCompChannel, CreateCompChannelResp};

impl Uverbs {
    /// Creates a completion channel.
    pub(crate) fn create_comp_channel(&self) -> Result<OwnedFd> {
        let answer = self
            .legacy_over(
                &CreateCompChannel::default(),
                Udata::none(),
                // Not 0, which is a descriptor that somebody may own.
                CreateCompChannelResp { fd: u32::MAX },
            )
            .map_err(|e| self.error("create_comp_channel", e))?;
        self.adopt(answer.fd, "create_comp_channel")
    }

    /// Creates the file that delivers the context's async events, where the context did not come with one.
    pub(crate) fn alloc_async_fd(&self) -> Result<OwnedFd> {
        let request = ioctl::Request::new(&ioctl::method::ASYNC_EVENT_ALLOC)
            .new_handle(abi::UVERBS_ATTR_ASYNC_EVENT_ALLOC_FD_HANDLE);
        let fd = self
            .attributes(request)
            .unwrap_or(Err(Errno::EPROTONOSUPPORT))
            .and_then(|answer| answer.handle(abi::UVERBS_ATTR_ASYNC_EVENT_ALLOC_FD_HANDLE))
            .map_err(|e| self.error("open the async event file", e))?;
        self.adopt(fd, "open the async event file")
    }

    /// Owns the descriptor that the kernel's answer to `operation` names.
    pub(super) fn adopt(&self, fd: u32, operation: &'static str) -> Result<OwnedFd> {
        let open = i32::try_from(fd).ok().filter(|fd| linux::is_open(*fd));
        // SAFETY: the kernel has just made the descriptor for this command; nobody else knows it.
        open.and_then(|fd| unsafe { linux::own_fd(fd) }).ok_or_else(|| {
            Error::bad_answer(operation, self.device(), format!("the kernel gave descriptor {fd:#x}"))
        })
    }
}

/// Reads one event description; `None` where none is there (on a descriptor that does not block).
pub(crate) fn read_event<T: FromBytes + IntoBytes>(fd: BorrowedFd<'_>) -> Result<Option<T>, Errno> {
    let mut event = T::new_zeroed();
    match linux::read(fd.as_fd(), event.as_mut_bytes()) {
        Ok(n) if n == size_of::<T>() => Ok(Some(event)),
        Ok(_) => Err(Errno::EBADMSG),
        Err(Errno::EAGAIN) => Ok(None),
        Err(errno) => Err(errno),
    }
}
