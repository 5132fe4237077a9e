//! What a memory region or a queue pair lets be done.

use crate::uapi::ioctl as abi;

bitflags::bitflags! {
    /// Access flags of `ibv_reg_mr(3)` and of a QP's `qp_access_flags`.
    ///
    /// Local read is always allowed. Remote write and remote atomic need local write too.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Access: u32 {
        /// The device may write the memory for local requests (receives, reads, atomics).
        const LOCAL_WRITE = abi::IB_UVERBS_ACCESS_LOCAL_WRITE;
        /// A peer may write the memory.
        const REMOTE_WRITE = abi::IB_UVERBS_ACCESS_REMOTE_WRITE;
        /// A peer may read the memory.
        const REMOTE_READ = abi::IB_UVERBS_ACCESS_REMOTE_READ;
        /// A peer may do atomic operations on the memory.
        const REMOTE_ATOMIC = abi::IB_UVERBS_ACCESS_REMOTE_ATOMIC;
        /// A memory window may be bound to the region.
        const MW_BIND = abi::IB_UVERBS_ACCESS_MW_BIND;
        /// Addresses count from zero at the start of the region.
        const ZERO_BASED = abi::IB_UVERBS_ACCESS_ZERO_BASED;
        /// Pages are faulted in by the device instead of being pinned.
        const ON_DEMAND = abi::IB_UVERBS_ACCESS_ON_DEMAND;
        /// The device may reorder its writes (optional: ignored where it cannot).
        const RELAXED_ORDERING = abi::IB_UVERBS_ACCESS_RELAXED_ORDERING;
    }
}
