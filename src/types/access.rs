//! Access rights of memory regions and queue pairs.

use super::flags;
use crate::uapi::ioctl as abi;

flags! {
    /// Access flags of `ibv_reg_mr(3)`, and of a queue pair (`qp_access_flags` of `ibv_modify_qp(3)`).
    ///
    /// Local read is always allowed. Remote write and remote atomic need local write too.
    pub Access {
        /// The device may write the memory for local requests: receives, RDMA reads and atomics.
        LOCAL_WRITE = abi::IB_UVERBS_ACCESS_LOCAL_WRITE;
        /// A peer may write the memory.
        REMOTE_WRITE = abi::IB_UVERBS_ACCESS_REMOTE_WRITE;
        /// A peer may read the memory.
        REMOTE_READ = abi::IB_UVERBS_ACCESS_REMOTE_READ;
        /// A peer may execute atomic operations on the memory.
        REMOTE_ATOMIC = abi::IB_UVERBS_ACCESS_REMOTE_ATOMIC;
        /// Memory windows may be bound to the region.
        MW_BIND = abi::IB_UVERBS_ACCESS_MW_BIND;
        /// Addresses in the region start at zero.
        ZERO_BASED = abi::IB_UVERBS_ACCESS_ZERO_BASED;
        /// On-demand paging: the device faults pages in, they are not pinned.
        ON_DEMAND = abi::IB_UVERBS_ACCESS_ON_DEMAND;
        /// The device may reorder its accesses. Optional: a device without it ignores the flag.
        RELAXED_ORDERING = abi::IB_UVERBS_ACCESS_RELAXED_ORDERING;
    }
}
