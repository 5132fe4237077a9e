//! The RDMA netlink socket: bytes out, datagrams in.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// How long an answer may take. The kernel queues it before `send` returns, so only a fault gets near.
const PATIENCE_SECONDS: i64 = 5;

/// One datagram, as it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes that are in the buffer.
    pub(crate) len: usize,
    /// There was more than the buffer could take.
    pub(crate) truncated: bool,
    /// Port 0, which is the kernel's and nobody else's, sent it.
    pub(crate) from_kernel: bool,
}

/// A `NETLINK_RDMA` socket, closed on exec, that never waits for ever.
#[derive(Debug)]
pub(crate) struct RdmaSocket(OwnedFd);

impl RdmaSocket {
    /// Opens it; the kernel loads `ib_core` for it where it can.
    ///
    /// # Errors
    ///
    /// `EPROTONOSUPPORT`: this kernel has no RDMA netlink, `ib_core` is not there.
    pub(crate) fn open() -> Result<Self, Errno> {
        // Neither bind nor connect: the kernel picks a port at the first send, and unaddressed messages go to it.
        let fd = socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRDMA,
        )?;
        socket::setsockopt(
            &fd,
            sockopt::ReceiveTimeout,
            &TimeVal::seconds(PATIENCE_SECONDS),
        )?;
        Ok(Self(fd))
    }

    /// Sends one request.
    ///
    /// The kernel serves it before this returns, module loading included.
    pub(crate) fn send(&self, request: &[u8]) -> Result<(), Errno> {
        let sent = retry(|| socket::send(self.0.as_raw_fd(), request, MsgFlags::empty()))?;
        // A datagram goes whole or not at all.
        if sent == request.len() {
            Ok(())
        } else {
            Err(Errno::EMSGSIZE)
        }
    }

    /// Receives one datagram.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: nothing came in time.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<Received, Errno> {
        retry(|| {
            let mut parts = [IoSliceMut::new(buffer)];
            let got = socket::recvmsg::<NetlinkAddr>(
                self.0.as_raw_fd(),
                &mut parts,
                None,
                MsgFlags::empty(),
            )?;
            Ok(Received {
                len: got.bytes,
                truncated: got.flags.contains(MsgFlags::MSG_TRUNC),
                from_kernel: got.address.is_some_and(|sender| sender.pid() == 0),
            })
        })
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
