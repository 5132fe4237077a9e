//! Multicast groups: which datagrams besides its own a queue pair gets.

use nix::errno::Errno;

use super::{Udata, Uverbs};
use crate::uapi::verbs::{AttachMcast, DetachMcast};

impl Uverbs {
    /// Puts a queue pair into a group.
    pub(crate) fn attach_mcast(&self, qp_handle: u32, gid: [u8; 16], mlid: u16) -> Result<(), Errno> {
        let command = AttachMcast { gid, qp_handle, mlid, ..AttachMcast::default() };
        self.legacy(&command, Udata::none())
    }

    /// Takes it out again.
    pub(crate) fn detach_mcast(&self, qp_handle: u32, gid: [u8; 16], mlid: u16) -> Result<(), Errno> {
        let command = DetachMcast { gid, qp_handle, mlid, ..DetachMcast::default() };
        self.legacy(&command, Udata::none())
    }
}
