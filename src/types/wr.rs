//! Work requests: what is posted to a queue.

use std::fmt;

use nix::errno::Errno;

use super::{Access, Lkey, Qkey, Qpn, Remote, Rkey, Srqn};

/// A piece of registered memory of this side: a scatter/gather element.
///
/// It is only a name: a device that is handed one which is out of bounds, or whose region is gone, answers with a
/// protection error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sge {
    /// The address, as registered.
    pub addr: u64,
    /// Bytes.
    pub length: u32,
    /// The region's key.
    pub lkey: Lkey,
}

/// What a send request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendOp {
    /// Into a receive that the peer has posted.
    Send,
    /// The same, with 32 bits that the peer finds in its completion.
    SendWithImm(u32),
    /// The same, and a key of the peer's becomes invalid.
    SendWithInv(Rkey),
    /// Into the peer's memory; the peer learns nothing of it.
    Write(Remote),
    /// Into the peer's memory; takes a receive of the peer's, whose completion carries the 32 bits.
    WriteWithImm(Remote, u32),
    /// From the peer's memory.
    Read(Remote),
    /// Replaces the 64-bit word there by `swap` if it is `compare`; what was there comes back.
    CompareSwap {
        /// An address that is a multiple of 8: the peer refuses others.
        remote: Remote,
        /// What must be there.
        compare: u64,
        /// What replaces it.
        swap: u64,
    },
    /// Adds to the 64-bit word there; what was there comes back.
    FetchAdd {
        /// An address that is a multiple of 8: the peer refuses others.
        remote: Remote,
        /// The summand.
        add: u64,
    },
    /// Binds a memory window to a part of a region, under a new key.
    BindMw(MwBind),
    /// Makes a window's key invalid.
    LocalInv(Rkey),
}

/// Who may bind and invalidate a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MwType {
    /// Bound by the protection domain, any number of times.
    One,
    /// Bound by one queue pair once, until it is invalidated; the program chooses the key.
    Two,
}

/// What a memory window is bound to, and under which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MwBind {
    /// The window's type.
    pub mw_type: MwType,
    /// The window, by the key it has.
    pub window: Rkey,
    /// The key it gets; its upper 24 bits are those of the old one.
    pub rkey: Rkey,
    /// The part of the region. Its length may not be 0.
    pub part: Sge,
    /// What a peer may do.
    pub access: Access,
}

impl SendOp {
    /// Whether it is one of the two atomic operations.
    #[must_use]
    pub const fn is_atomic(&self) -> bool {
        matches!(self, Self::CompareSwap { .. } | Self::FetchAdd { .. })
    }
}

bitflags::bitflags! {
    /// How a send request is carried out (`enum ibv_send_flags`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct SendFlags: u32 {
        /// Only after earlier reads and atomics have completed.
        const FENCE = 1 << 0;
        /// Its success is reported by a completion. Failure always is.
        const SIGNALED = 1 << 1;
        /// The peer's receive completion counts as solicited.
        const SOLICITED = 1 << 2;
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
    /// The elements, where it is not inline.
    #[cfg(test)]
    pub(crate) fn sges(&self) -> &[Sge] {
        match self {
            Self::None | Self::Inline(_) => &[],
            Self::One(sge) => std::slice::from_ref(sge),
            Self::List(sges) => sges,
        }
    }

    /// Bytes in all.
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

/// Where a send goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Dest<'a> {
    /// To the one peer that the queue pair is connected to.
    Connected,
    /// Of a datagram queue pair: to whoever is named.
    Ud(UdAddr<'a>),
    /// Of an XRC queue pair: to a shared receive queue of the peer's.
    #[allow(dead_code)] // read by providers whose devices have XRC
    Xrc(Srqn),
}

/// Where a datagram goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UdAddr<'a> {
    pub(crate) ah: &'a DeviceAh,
    pub(crate) qpn: Qpn,
    pub(crate) qkey: Qkey,
}

/// What a provider puts into a request to name an address handle. Only the provider knows the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DeviceAh(pub(crate) [u32; 10]);

/// Who gets a datagram on Ethernet: what its address says, where the device has to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Station {
    /// The hardware address.
    pub(crate) mac: [u8; 6],
    /// The VLAN, if it is in one.
    pub(crate) vlan: Option<u16>,
}

/// A request for the send queue; made by one of its named constructors and then refined.
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
    /// A request whose completion carries `wr_id`.
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

    /// [`SendOp::CompareSwap`]; its local data are 8 bytes.
    pub const fn compare_swap(wr_id: u64, remote: Remote, compare: u64, swap: u64) -> Self {
        Self::new(wr_id, SendOp::CompareSwap { remote, compare, swap })
    }

    /// [`SendOp::FetchAdd`]; its local data are 8 bytes.
    pub const fn fetch_add(wr_id: u64, remote: Remote, add: u64) -> Self {
        Self::new(wr_id, SendOp::FetchAdd { remote, add })
    }

    /// [`SendOp::LocalInv`]
    pub const fn local_inv(wr_id: u64, rkey: Rkey) -> Self {
        Self::new(wr_id, SendOp::LocalInv(rkey))
    }

    /// The data: one piece of memory.
    pub const fn sge(mut self, sge: Sge) -> Self {
        self.data = Data::One(sge);
        self
    }

    /// The data: several pieces of memory, one after the other.
    pub const fn sges(mut self, sges: &'a [Sge]) -> Self {
        self.data = Data::List(sges);
        self
    }

    /// The data: these bytes, copied into the request when it is posted. They need not be registered.
    pub const fn inline(mut self, bytes: &'a [u8]) -> Self {
        self.data = Data::Inline(bytes);
        self
    }

    /// The shared receive queue of the peer's that the message goes to; on XRC queue pairs.
    pub const fn xrc_srqn(mut self, srqn: Srqn) -> Self {
        self.dest = Dest::Xrc(srqn);
        self
    }

    /// Carried out as these flags say, in place of those that it has.
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

/// A request for the receive queue.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct RecvWr<'a> {
    pub(crate) wr_id: u64,
    pub(crate) data: Data<'a>,
}

impl<'a> RecvWr<'a> {
    /// A request whose completion carries `wr_id`, with no memory yet.
    pub const fn new(wr_id: u64) -> Self {
        Self { wr_id, data: Data::None }
    }

    /// Where the message goes: one piece of memory.
    pub const fn sge(mut self, sge: Sge) -> Self {
        self.data = Data::One(sge);
        self
    }

    /// Where the message goes: several pieces of memory, filled one after the other.
    pub const fn sges(mut self, sges: &'a [Sge]) -> Self {
        self.data = Data::List(sges);
        self
    }
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// As many requests are outstanding as the queue was made for.
    QueueFull,
    /// More elements than the queue was made for.
    TooManySges {
        /// How many it was made for.
        max: u32,
    },
    /// More inline bytes than the queue was made for.
    InlineTooLong {
        /// How many it was made for.
        max: u32,
    },
    /// A message of more than 2³¹ bytes.
    MessageTooLong,
    /// A datagram that does not fit one packet.
    DatagramTooLong {
        /// Bytes that fit: the port's MTU.
        max: u32,
    },
    /// A datagram queue pair has no peer of its own: each send needs an address ([`SendWr::ud_addr`]).
    AddressMissing,
    /// Only a send of a datagram queue pair has an address; an XRC one has the number of a queue.
    AddressNotAllowed,
    /// The queue pair has no such queue: it takes its receives from a shared one, or only sends, or only receives.
    NoQueue,
    /// An atomic operation whose data are not 8 bytes.
    AtomicLength,
    /// An operation on a memory window has no data.
    DataNotAllowed,
    /// An operation that reads into local memory cannot have inline data.
    InlineNotAllowed,
    /// The requests are in the queue, but the kernel refused the doorbell.
    Doorbell(Errno),
}

impl fmt::Display for Refusal {
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
            Self::Doorbell(errno) => write!(f, "the doorbell failed: {} ({errno:?})", errno.desc()),
        }
    }
}

/// A post that was not carried out whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostError {
    /// How many requests were taken before the one that was not.
    pub posted: usize,
    /// Why that one was not.
    pub refusal: Refusal,
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.posted, self.refusal) {
            (_, Refusal::Doorbell(_)) | (0, _) => self.refusal.fmt(f),
            (posted, refusal) => write!(f, "after {posted} requests: {refusal}"),
        }
    }
}

impl std::error::Error for PostError {}
