//! A netlink socket: bytes out, datagrams in.

use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libc::{iovec, mmsghdr, sockaddr_nl};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};

/// Milliseconds that an answer may take. The kernel queues it before `send` returns, so only a fault gets near.
const PATIENCE: u16 = 5_000;

/// Bytes for one datagram. The kernel makes none longer than the receiver's buffer or 8 KiB (`NLMSG_GOODSIZE`).
const SLOT: usize = 8 * 1024;

/// Datagrams that one system call may bring: a short list and its end mark come together.
pub(crate) const SLOTS: usize = 4;

/// Room for one datagram, and what came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    /// The datagram, `len` bytes of it.
    pub(crate) bytes: [u8; SLOT],
    /// Bytes that were received.
    pub(crate) len: usize,
    /// There was more than fits.
    pub(crate) truncated: bool,
    /// Port 0, which is the kernel's and nobody else's, sent it.
    pub(crate) from_kernel: bool,
}

impl Slot {
    /// Room for one datagram.
    pub(crate) const EMPTY: Self = Self { bytes: [0; SLOT], len: 0, truncated: false, from_kernel: false };
}

/// A netlink socket, closed on exec, that never waits for ever.
#[derive(Debug)]
pub(crate) struct NetlinkSocket(OwnedFd);

impl NetlinkSocket {
    /// Opens one for RDMA; the kernel loads `ib_core` for it where it can.
    ///
    /// # Errors
    ///
    /// `EPROTONOSUPPORT`: this kernel has no RDMA netlink, `ib_core` is not there.
    pub(crate) fn rdma() -> Result<Self, Errno> {
        Self::open(SockProtocol::NetlinkRDMA)
    }

    /// Opens one for routes and neighbours.
    pub(crate) fn route() -> Result<Self, Errno> {
        Self::open(SockProtocol::NetlinkRoute)
    }

    fn open(protocol: SockProtocol) -> Result<Self, Errno> {
        // Neither bind nor connect: the kernel picks a port at the first send, and unaddressed messages go to it.
        let flags = SockFlag::SOCK_CLOEXEC;
        socket::socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).map(Self)
    }

    /// Sends one request.
    ///
    /// The kernel serves it before this returns, module loading included.
    pub(crate) fn send(&self, request: &[u8]) -> Result<(), Errno> {
        let sent = retry(|| socket::send(self.0.as_raw_fd(), request, MsgFlags::empty()))?;
        // A datagram goes whole or not at all.
        if sent == request.len() { Ok(()) } else { Err(Errno::EMSGSIZE) }
    }

    /// Receives what datagrams are there, one at least, and returns how many.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT`: nothing came in time.
    pub(crate) fn receive(&self, slots: &mut [Slot; SLOTS]) -> Result<usize, Errno> {
        match retry(|| self.receive_now(slots)) {
            Err(Errno::EAGAIN) => {}
            done => return done,
        }
        let mut wanted = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match retry(|| poll(&mut wanted, PollTimeout::from(PATIENCE)))? {
            0 => Err(Errno::ETIMEDOUT),
            _ => retry(|| self.receive_now(slots)),
        }
    }

    /// Receives without waiting.
    fn receive_now(&self, slots: &mut [Slot; SLOTS]) -> Result<usize, Errno> {
        let mut senders = [MaybeUninit::<sockaddr_nl>::zeroed(); SLOTS];
        let mut parts = slots
            .each_mut()
            .map(|slot| iovec { iov_base: slot.bytes.as_mut_ptr().cast(), iov_len: slot.bytes.len() });
        let mut headers = [MaybeUninit::<mmsghdr>::zeroed(); SLOTS].map(|header| {
            // SAFETY: all its fields are integers and pointers, for which zero is a value.
            unsafe { header.assume_init() }
        });
        for ((header, part), sender) in headers.iter_mut().zip(&mut parts).zip(&mut senders) {
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = sender.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = size_of::<sockaddr_nl>() as u32;
        }
        // SAFETY: each header points to one iovec and one address, each iovec to the bytes of one slot; all of them live
        // in this function's frame or in `slots`, which it borrows mutably, and the kernel keeps none of them.
        let count = unsafe {
            libc::recvmmsg(
                self.0.as_raw_fd(),
                headers.as_mut_ptr(),
                SLOTS as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = Errno::result(count)?.unsigned_abs() as usize;
        for ((slot, header), sender) in slots.iter_mut().zip(&headers).zip(&senders).take(count) {
            // SAFETY: it was zeroed, which is a value of it, and the kernel may have written over that.
            let sender = unsafe { sender.assume_init_ref() };
            let named = header.msg_hdr.msg_namelen as usize >= size_of::<sockaddr_nl>();
            slot.len = header.msg_len as usize;
            slot.truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            slot.from_kernel = named && sender.nl_pid == 0;
        }
        Ok(count)
    }
}

/// Repeats a call that a signal broke off.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}
