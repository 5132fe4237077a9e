//! Work requests: what programs post to queues.

use std::fmt;

use nix::errno::Errno;

use super::{Access, Lkey, Qkey, Qpn, Remote, Rkey, Srqn, flags};

/// A scatter/gather element: a part of a local memory region (`struct ibv_sge`).
///
/// It only names memory. A device completes a request whose element is out of bounds, or whose region is deregistered, with a
/// protection error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sge {
    /// The address within the region, as registered.
    pub addr: u64,
    /// The length in bytes.
    pub length: u32,
    /// The region's local key.
    pub lkey: Lkey,
}

/// The operation of a send request (`enum ibv_wr_opcode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendOp {
    /// Sends a message into a receive that the peer has posted.
    Send,
    /// Sends a message with 32 bits of immediate data, which the peer's completion carries.
    SendWithImm(u32),
    /// Sends a message and invalidates a remote key of the peer.
    SendWithInv(Rkey),
    /// RDMA write: writes the peer's memory without notice to the peer.
    Write(Remote),
    /// RDMA write with immediate data: consumes a receive of the peer, whose completion carries the 32 bits.
    WriteWithImm(Remote, u32),
    /// RDMA read: reads the peer's memory.
    Read(Remote),
    /// Atomic compare and swap of a 64-bit word in the peer's memory; returns the old value.
    CompareSwap {
        /// The word; its address must be a multiple of 8, or the peer rejects the request.
        remote: Remote,
        /// The expected value.
        compare: u64,
        /// The value that replaces it.
        swap: u64,
    },
    /// Atomic fetch and add on a 64-bit word in the peer's memory; returns the old value.
    FetchAdd {
        /// The word; its address must be a multiple of 8, or the peer rejects the request.
        remote: Remote,
        /// The value to add.
        add: u64,
    },
    /// Binds a memory window to a part of a region under a new remote key.
    BindMw(MwBind),
    /// Invalidates the remote key of a memory window.
    LocalInv(Rkey),
}

/// Type of a memory window (`enum ibv_mw_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MwType {
    /// Type 1: belongs to the protection domain and may be bound again at any time.
    One,
    /// Type 2: bound by one queue pair until it is invalidated; the program chooses the low 8 bits of the key.
    Two,
}

/// Binding of a memory window (`struct ibv_mw_bind_info`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MwBind {
    /// The window's type.
    pub mw_type: MwType,
    /// The window's current key.
    pub window: Rkey,
    /// The window's new key; its upper 24 bits must equal those of the current one.
    pub rkey: Rkey,
    /// The part of the region; its length must not be 0.
    pub part: Sge,
    /// The access that peers get.
    pub access: Access,
}

impl SendOp {
    /// Returns whether the operation is atomic.
    #[must_use]
    pub const fn is_atomic(&self) -> bool {
        matches!(self, Self::CompareSwap { .. } | Self::FetchAdd { .. })
    }
}

flags! {
    /// Flags of a send request (`enum ibv_send_flags`).
    pub SendFlags {
        /// Starts only after earlier RDMA reads and atomics of the queue pair have completed.
        FENCE = 1 << 0;
        /// Reports success by a completion. Failures are always reported.
        SIGNALED = 1 << 1;
        /// The peer's receive completion is a solicited one.
        SOLICITED = 1 << 2;
    }
}

/// The data of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Data<'a> {
    None,
    One(Sge),
    List(&'a [Sge]),
    Inline(&'a [u8]),
}

impl Data<'_> {
    /// Returns the scatter/gather elements; none for inline data.
    #[cfg(test)]
    pub(crate) fn sges(&self) -> &[Sge] {
        match self {
            Self::None | Self::Inline(_) => &[],
            Self::One(sge) => std::slice::from_ref(sge),
            Self::List(sges) => sges,
        }
    }

    /// Returns the total length in bytes.
    #[inline]
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::One(sge) => sge.length.into(),
            Self::List(sges) => sges.iter().map(|sge| u64::from(sge.length)).sum(),
            Self::Inline(bytes) => bytes.len() as u64,
        }
    }
}

/// Destination of a send request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Dest<'a> {
    /// The peer that the queue pair is connected to.
    Connected,
    /// An address (UD).
    Ud(UdAddr<'a>),
    /// A shared receive queue of the peer (XRC).
    Xrc(Srqn),
}

/// Destination of a datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UdAddr<'a> {
    pub(crate) ah: &'a DeviceAh,
    pub(crate) qpn: Qpn,
    pub(crate) qkey: Qkey,
}

/// How a provider names an address handle in requests; opaque to everyone else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DeviceAh(pub(crate) [u32; 10]);

/// Ethernet destination of a datagram, for devices that need it in the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct EthAddr {
    /// The MAC address.
    pub(crate) mac: [u8; 6],
    /// The VLAN, if any.
    pub(crate) vlan: Option<u16>,
}

/// A request for the send queue: created by one of the named constructors, then refined.
///
/// ```
/// use bareverbs::{Remote, SendWr, Sge};
/// let sge = Sge::default();
/// let wr = SendWr::rdma_write(7, Remote::default()).sge(sge).signaled().fence();
/// # let _ = wr;
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct SendWr<'a> {
    pub(crate) wr_id: u64,
    pub(crate) op: SendOp,
    pub(crate) flags: SendFlags,
    pub(crate) data: Data<'a>,
    pub(crate) dest: Dest<'a>,
}

impl<'a> SendWr<'a> {
    /// Creates a request whose completion carries `wr_id`.
    pub const fn new(wr_id: u64, op: SendOp) -> Self {
        Self { wr_id, op, flags: SendFlags::empty(), data: Data::None, dest: Dest::Connected }
    }

    /// [`SendOp::Send`]
    pub const fn send(wr_id: u64) -> Self {
        Self::new(wr_id, SendOp::Send)
    }

    /// [`SendOp::SendWithImm`]
    pub const fn send_with_imm(wr_id: u64, imm: u32) -> Self {
        Self::new(wr_id, SendOp::SendWithImm(imm))
    }

    /// [`SendOp::SendWithInv`]
    pub const fn send_with_inv(wr_id: u64, rkey: Rkey) -> Self {
        Self::new(wr_id, SendOp::SendWithInv(rkey))
    }

    /// [`SendOp::Write`]
    pub const fn rdma_write(wr_id: u64, to: Remote) -> Self {
        Self::new(wr_id, SendOp::Write(to))
    }

    /// [`SendOp::WriteWithImm`]
    pub const fn rdma_write_with_imm(wr_id: u64, to: Remote, imm: u32) -> Self {
        Self::new(wr_id, SendOp::WriteWithImm(to, imm))
    }

    /// [`SendOp::Read`]
    pub const fn rdma_read(wr_id: u64, from: Remote) -> Self {
        Self::new(wr_id, SendOp::Read(from))
    }

    /// [`SendOp::CompareSwap`]; the local data must be 8 bytes.
    pub const fn compare_swap(wr_id: u64, remote: Remote, compare: u64, swap: u64) -> Self {
        Self::new(wr_id, SendOp::CompareSwap { remote, compare, swap })
    }

    /// [`SendOp::FetchAdd`]; the local data must be 8 bytes.
    pub const fn fetch_add(wr_id: u64, remote: Remote, add: u64) -> Self {
        Self::new(wr_id, SendOp::FetchAdd { remote, add })
    }

    /// [`SendOp::LocalInv`]
    pub const fn local_inv(wr_id: u64, rkey: Rkey) -> Self {
        Self::new(wr_id, SendOp::LocalInv(rkey))
    }

    /// Sets the local data: one element.
    pub const fn sge(mut self, sge: Sge) -> Self {
        self.data = Data::One(sge);
        self
    }

    /// Sets the local data: several elements, in order.
    pub const fn sges(mut self, sges: &'a [Sge]) -> Self {
        self.data = Data::List(sges);
        self
    }

    /// Sets inline data: the bytes are copied into the request when it is posted and need not be registered.
    pub const fn inline(mut self, bytes: &'a [u8]) -> Self {
        self.data = Data::Inline(bytes);
        self
    }

    /// Sets the peer's shared receive queue that the message goes to (XRC only).
    pub const fn xrc_srqn(mut self, srqn: Srqn) -> Self {
        self.dest = Dest::Xrc(srqn);
        self
    }

    /// Replaces the request's flags.
    pub const fn flags(self, flags: SendFlags) -> Self {
        Self { flags, ..self }
    }

    /// [`SendFlags::SIGNALED`]
    pub const fn signaled(self) -> Self {
        self.flag(SendFlags::SIGNALED)
    }

    /// [`SendFlags::SOLICITED`]
    pub const fn solicited(self) -> Self {
        self.flag(SendFlags::SOLICITED)
    }

    /// [`SendFlags::FENCE`]
    pub const fn fence(self) -> Self {
        self.flag(SendFlags::FENCE)
    }

    const fn flag(mut self, flag: SendFlags) -> Self {
        self.flags = self.flags.union(flag);
        self
    }
}

/// A request for a receive queue.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct RecvWr<'a> {
    pub(crate) wr_id: u64,
    pub(crate) data: Data<'a>,
}

impl<'a> RecvWr<'a> {
    /// Creates a request without memory, whose completion carries `wr_id`.
    pub const fn new(wr_id: u64) -> Self {
        Self { wr_id, data: Data::None }
    }

    /// Sets the memory for the message: one element.
    pub const fn sge(mut self, sge: Sge) -> Self {
        self.data = Data::One(sge);
        self
    }

    /// Sets the memory for the message: several elements, filled in order.
    pub const fn sges(mut self, sges: &'a [Sge]) -> Self {
        self.data = Data::List(sges);
        self
    }
}

/// Why a request was not posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PostErrorKind {
    /// The queue holds as many outstanding requests as it was created for.
    QueueFull,
    /// More scatter/gather elements than the queue was created for.
    TooManySges {
        /// The maximum number of elements.
        max: u32,
    },
    /// More inline data than the queue was created for.
    InlineTooLong {
        /// The maximum in bytes.
        max: u32,
    },
    /// A message of more than 2³¹ bytes.
    MessageTooLong,
    /// A datagram that does not fit into one packet.
    DatagramTooLong {
        /// The port's MTU in bytes.
        max: u32,
    },
    /// A datagram without an address: each send of a UD queue pair needs [`SendWr::ud_addr`].
    AddressMissing,
    /// The request has a datagram address or an XRC SRQ number that a queue pair of this type does not take.
    AddressNotAllowed,
    /// The queue pair has no such queue: it uses a shared receive queue, or it only sends, or only receives.
    NoQueue,
    /// An atomic operation whose local data are not 8 bytes.
    AtomicLength,
    /// A memory window operation with data.
    DataNotAllowed,
    /// Inline data with an operation that is neither a send nor an RDMA write.
    InlineNotAllowed,
    /// The device cannot do this operation, or not with these flags.
    Unsupported,
    /// The requests are in the queue, but the kernel refused the doorbell with this errno.
    Doorbell(i32),
}

impl fmt::Display for PostErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueFull => f.write_str("the queue is full"),
            Self::TooManySges { max } => write!(f, "more than {max} scatter/gather elements"),
            Self::InlineTooLong { max } => write!(f, "more than {max} inline bytes"),
            Self::MessageTooLong => f.write_str("a message of more than 2^31 bytes"),
            Self::DatagramTooLong { max } => write!(f, "a datagram of more than {max} bytes, the port's MTU"),
            Self::AddressMissing => f.write_str("a datagram needs an address"),
            Self::AddressNotAllowed => f.write_str("only a send of a datagram queue pair has an address"),
            Self::NoQueue => f.write_str("the queue pair has no such queue"),
            Self::AtomicLength => f.write_str("an atomic operation needs 8 bytes"),
            Self::DataNotAllowed => f.write_str("an operation on a memory window has no data"),
            Self::InlineNotAllowed => f.write_str("only sends and writes can have inline data"),
            Self::Unsupported => f.write_str("the device cannot do this operation, or not with these flags"),
            Self::Doorbell(errno) => {
                let errno = Errno::from_raw(*errno);
                write!(f, "the doorbell failed: {} ({errno:?})", errno.desc())
            }
        }
    }
}

/// Posting stopped at a request: `ibv_post_send(3)`'s `bad_wr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostError {
    /// How many requests were posted before it, which is its index.
    pub posted: usize,
    /// Why it was not posted.
    pub kind: PostErrorKind,
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.posted, self.kind) {
            (_, PostErrorKind::Doorbell(_)) | (0, _) => self.kind.fmt(f),
            (posted, kind) => write!(f, "after {posted} requests: {kind}"),
        }
    }
}

impl std::error::Error for PostError {}

impl From<PostError> for std::io::Error {
    fn from(error: PostError) -> Self {
        let kind = match error.kind {
            PostErrorKind::QueueFull => std::io::ErrorKind::WouldBlock,
            PostErrorKind::Doorbell(errno) => Self::from_raw_os_error(errno).kind(),
            _ => std::io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}
