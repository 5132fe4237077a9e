//! Ids: what a socket is to TCP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::address::{from_kernel, to_kernel};
use super::channel::ChannelInner;
use super::event::out_of_reach;
use super::{CmEvent, CmEventType, EventChannel, PortSpace};
use crate::error::{Error, Result};
use crate::sys::process::Process;
use crate::types::{Guid, PortNum};
use crate::uapi::ucm::{
    Bind, Listen, QueryAddrResp, RDMA_OPTION_ID_ACK_TIMEOUT, RDMA_OPTION_ID_AFONLY, RDMA_OPTION_ID_REUSEADDR,
    RDMA_OPTION_ID_TOS, ResolveAddr, ResolveRoute,
};
use crate::verbs::{Context, Waited};

const SCOPE: &str = "a link-local address needs its network device, as in fe80::1%eth0";
const PORT_TAKEN: &str = "somebody else has that port; choose another";

/// An id of the connection manager: a listener, or one side of a connection.
///
/// It is destroyed when dropped; a connection that it still has is ended then. See `rdma_create_id(3)`.
#[derive(Debug)]
pub struct CmId {
    pub(super) channel: Arc<ChannelInner>,
    pub(super) handle: u32,
    pub(super) user_handle: u64,
    pub(super) datagram: bool,
    /// What a client asked for, for ids of its requests: responder resources and initiator depth of this side.
    pub(super) asked: Option<(u8, u8)>,
    live: bool,
    created_by: Process,
    /// What errors call it by.
    target: Mutex<Option<SocketAddr>>,
    bound: OnceLock<Bound>,
}

/// The device that an id is bound to.
#[derive(Debug)]
struct Bound {
    context: Context,
    port: PortNum,
}

impl CmId {
    pub(super) fn create(channel: &Arc<ChannelInner>, space: PortSpace) -> Result<Self> {
        let user_handle = channel.next_user_handle(space.is_datagram(), false);
        let (ps, qp_type) = space.to_kernel();
        let handle = channel
            .ucma
            .create_id(user_handle, ps, qp_type)
            .map_err(|errno| Error::os("create_id", "rdma_cm", errno))?;
        Ok(Self::new(channel, handle, user_handle, space.is_datagram(), None))
    }

    /// The id that the kernel has made for a client's request. It has no user handle in the kernel until it is accepted.
    pub(super) fn of_request(
        channel: &Arc<ChannelInner>,
        handle: u32,
        datagram: bool,
        asked: (u8, u8),
    ) -> Self {
        Self::new(channel, handle, channel.next_user_handle(datagram, true), datagram, Some(asked))
    }

    fn new(
        channel: &Arc<ChannelInner>,
        handle: u32,
        user_handle: u64,
        datagram: bool,
        asked: Option<(u8, u8)>,
    ) -> Self {
        Self {
            channel: Arc::clone(channel),
            handle,
            user_handle,
            datagram,
            asked,
            live: true,
            created_by: Process::current(),
            target: Mutex::new(None),
            bound: OnceLock::new(),
        }
    }

    /// What its events carry.
    #[must_use]
    pub fn user_handle(&self) -> u64 {
        self.user_handle
    }

    /// Whether an event is about this id.
    #[must_use]
    pub fn owns(&self, event: &CmEvent) -> bool {
        event.user_handle == self.user_handle
    }

    /// The channel that delivers its events.
    #[must_use]
    pub fn channel(&self) -> EventChannel {
        EventChannel(Arc::clone(&self.channel))
    }

    /// Takes a local address: an unspecified one is of all devices, port 0 any that is free. See `rdma_bind_addr(3)`.
    ///
    /// # Errors
    /// No RDMA device has the address; the port is taken or needs a privilege; the id has an address already.
    pub fn bind(&self, address: SocketAddr) -> Result<()> {
        let (addr, addr_size) = to_kernel(address);
        let command = Bind { id: self.handle, addr_size, reserved: 0, addr };
        self.channel.ucma.tell(&command).map_err(|errno| {
            let error = Error::os("bind_addr", address.to_string(), errno);
            match errno {
                Errno::EADDRINUSE => error.with_hint(PORT_TAKEN),
                // The kernel says so too where somebody has the port on all addresses.
                Errno::EADDRNOTAVAIL if address.port() != 0 && self.has_device(address) => {
                    error.with_hint(PORT_TAKEN)
                }
                Errno::ENODEV | Errno::EADDRNOTAVAIL => error.with_hint("no RDMA device has that address"),
                Errno::EINVAL if lacks_scope(address) => error.with_hint(SCOPE),
                Errno::EACCES => error.with_hint("ports below 1024 take CAP_NET_BIND_SERVICE"),
                _ => error,
            }
        })
    }

    /// Whether an address can be had at some port.
    fn has_device(&self, address: SocketAddr) -> bool {
        let any_port = SocketAddr::new(address.ip(), 0);
        self.channel().create_id(PortSpace::Tcp).is_ok_and(|id| id.bind(any_port).is_ok())
    }

    /// Lets clients ask; up to `backlog` requests wait to be fetched. An id that is not bound takes a free port of all addresses.
    /// See `rdma_listen(3)`.
    ///
    /// # Errors
    /// The port is taken, or the id is a connection's.
    pub fn listen(&self, backlog: u32) -> Result<()> {
        self.channel.ucma.tell(&Listen { id: self.handle, backlog }).map_err(|errno| {
            let error = self.error("listen", errno);
            match errno {
                Errno::EADDRINUSE => error.with_hint(PORT_TAKEN),
                _ => error,
            }
        })
    }

    /// Looks for the device and the hardware address by which `peer` is reached, from `source` where one is given.
    ///
    /// Event `ADDR_RESOLVED` or `ADDR_ERROR`. See `rdma_resolve_addr(3)`.
    ///
    /// # Errors
    /// The addresses are of two families, or no RDMA device is on the way.
    pub fn resolve_addr(
        &self,
        source: Option<SocketAddr>,
        peer: SocketAddr,
        timeout: Duration,
    ) -> Result<()> {
        *self.target() = Some(peer);
        let (src_addr, src_size) = source.map(to_kernel).unwrap_or_default();
        let (dst_addr, dst_size) = to_kernel(peer);
        let timeout_ms = milliseconds(timeout);
        let command =
            ResolveAddr { id: self.handle, timeout_ms, src_size, dst_size, reserved: 0, src_addr, dst_addr };
        self.channel.ucma.tell(&command).map_err(|errno| {
            let error = self.error("resolve_addr", errno);
            match (errno, source) {
                (Errno::ENODEV | Errno::EADDRNOTAVAIL, Some(source)) => {
                    error.with_hint(format!("does an RDMA device have the address {}?", source.ip()))
                }
                (Errno::EINVAL, Some(source)) if source.is_ipv4() != peer.is_ipv4() => {
                    error.with_hint(format!("the source {} is of another family", source.ip()))
                }
                (Errno::EINVAL, Some(source)) if lacks_scope(source) => error.with_hint(SCOPE),
                _ => out_of_reach(error, errno),
            }
        })
    }

    /// Looks for the way to the peer. Event `ROUTE_RESOLVED` or `ROUTE_ERROR`. See `rdma_resolve_route(3)`.
    ///
    /// # Errors
    /// The address is not resolved, or no RDMA device is on the way: the loopback's addresses may resolve without one.
    pub fn resolve_route(&self, timeout: Duration) -> Result<()> {
        let command = ResolveRoute { id: self.handle, timeout_ms: milliseconds(timeout) };
        let told = self.channel.ucma.tell(&command);
        told.map_err(|errno| out_of_reach(self.error("resolve_route", errno), errno))
    }

    /// Waits for this id's next event, which must be `wanted`.
    ///
    /// For channels that no other id uses: an event of another one is an error too. A caught signal does not end the wait.
    ///
    /// # Errors
    /// Another event came, whose meaning the error is; or none within `timeout`.
    pub fn wait_for(&self, wanted: CmEventType, timeout: Duration) -> Result<CmEvent> {
        let start = Instant::now();
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            match self.channel().wait(Some(left))? {
                Waited::Ready(event)
                    if self.owns(&event) && event.event_type == wanted && event.status == 0 =>
                {
                    return Ok(event);
                }
                Waited::Ready(event) => {
                    return Err(self.failure(&event).unwrap_or_else(|| {
                        let why = format!("received {} instead of {wanted}", event.event_type);
                        Error::bad_answer("wait", self.object(), why)
                    }));
                }
                Waited::TimedOut => {
                    return Err(self.error("wait", Errno::ETIMEDOUT).with_hint(format!("no {wanted}")));
                }
                Waited::Interrupted => {}
            }
        }
    }

    /// The error that an event means for this id; `None` where it is no failure.
    #[must_use]
    pub fn failure(&self, event: &CmEvent) -> Option<Error> {
        event.failure(self.object())
    }

    /// The address of this side. See `rdma_get_local_addr(3)`.
    ///
    /// # Errors
    /// The id is not bound.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        let none = || Error::invalid("get_local_addr", "rdma_cm", "the id is not bound to an address");
        from_kernel(&self.query()?.src_addr).ok_or_else(none)
    }

    /// The address of the peer. See `rdma_get_peer_addr(3)`.
    ///
    /// # Errors
    /// The id has none: it listens, or has not resolved an address.
    pub fn peer_addr(&self) -> Result<SocketAddr> {
        let none = || Error::invalid("get_peer_addr", "rdma_cm", "the id has no peer");
        // Of one that is bound or listens the kernel says that its peer is nobody at port 0.
        let is_somebody = |peer: &SocketAddr| peer.port() != 0 || !peer.ip().is_unspecified();
        from_kernel(&self.query()?.dst_addr).filter(is_somebody).ok_or_else(none)
    }

    /// The device that it is bound to. All ids of a channel share one context for each device, which is closed with the last of
    /// them and of the objects made from it.
    ///
    /// # Errors
    /// It is bound to none yet: an address must be resolved, or a local one taken that is of one device. The device cannot be
    /// opened.
    pub fn context(&self) -> Result<Context> {
        self.bound().map(|bound| bound.context.clone())
    }

    /// The port of the device that it is bound to.
    ///
    /// # Errors
    /// As [`CmId::context`].
    pub fn port(&self) -> Result<PortNum> {
        self.bound().map(|bound| bound.port)
    }

    fn bound(&self) -> Result<&Bound> {
        if let Some(bound) = self.bound.get() {
            return Ok(bound);
        }
        let answer = self.query()?;
        let port = PortNum::new(answer.port_num.into()).map_err(|_| {
            Error::invalid("find the device", self.object(), "the id is not bound to a device yet")
                .with_hint("resolve an address, or bind it to one of a device")
        })?;
        let context = self.channel.context(answer.ibdev_index, Guid(answer.node_guid))?;
        Ok(self.bound.get_or_init(|| Bound { context, port }))
    }

    fn query(&self) -> Result<QueryAddrResp> {
        self.channel.ucma.query_addr(self.handle).map_err(|errno| Error::os("query", "rdma_cm", errno))
    }

    /// The type of service of packets (`RDMA_OPTION_ID_TOS`), before an address is resolved. See `rdma_set_option(3)`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_tos(&self, tos: u8) -> Result<()> {
        self.option("set TOS", RDMA_OPTION_ID_TOS, &tos)
    }

    /// Lets several ids be bound to one address (`RDMA_OPTION_ID_REUSEADDR`); a listener must have it alone.
    ///
    /// # Errors
    /// The id is bound already.
    pub fn set_reuseaddr(&self, reuse: bool) -> Result<()> {
        self.option("set REUSEADDR", RDMA_OPTION_ID_REUSEADDR, &i32::from(reuse))
    }

    /// Lets an id that is bound to all IPv6 addresses leave IPv4 to another (`RDMA_OPTION_ID_AFONLY`).
    ///
    /// # Errors
    /// The id is bound already.
    pub fn set_afonly(&self, only: bool) -> Result<()> {
        self.option("set AFONLY", RDMA_OPTION_ID_AFONLY, &i32::from(only))
    }

    /// How long a queue pair waits for an acknowledgement: 4.096 µs · 2^timeout (`RDMA_OPTION_ID_ACK_TIMEOUT`).
    ///
    /// # Errors
    /// The id is for datagrams. Linux 5.1.
    pub fn set_ack_timeout(&self, timeout: u8) -> Result<()> {
        self.option("set ACK_TIMEOUT", RDMA_OPTION_ID_ACK_TIMEOUT, &timeout)
    }

    fn option(
        &self,
        operation: &'static str,
        name: u32,
        value: &(impl zerocopy::IntoBytes + zerocopy::Immutable),
    ) -> Result<()> {
        let set = self.channel.ucma.set_option(self.handle, name, value);
        set.map_err(|errno| self.error(operation, errno))
    }

    /// Destroys it: a listener stops, a connection ends. See `rdma_destroy_id(3)`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn destroy(mut self) -> Result<()> {
        self.live = false;
        if !self.created_by.is_current() {
            let why = "it belongs to the process that this one was forked from";
            return Err(Error::invalid("destroy_id", "rdma_cm", why));
        }
        let done = self.channel.ucma.destroy_id(self.handle);
        done.map(drop).map_err(|errno| self.error("destroy_id", errno))
    }

    pub(super) fn error(&self, operation: &'static str, errno: Errno) -> Error {
        Error::os(operation, self.object(), errno)
    }

    fn target(&self) -> MutexGuard<'_, Option<SocketAddr>> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What errors call it by: its peer's address, or its own.
    pub(super) fn object(&self) -> String {
        if let Some(target) = *self.target() {
            return target.to_string();
        }
        let known = self.query().ok();
        let address = |known: QueryAddrResp| {
            from_kernel(&known.dst_addr).filter(|_| self.asked.is_some()).or(from_kernel(&known.src_addr))
        };
        known.and_then(address).map_or_else(|| "rdma_cm".into(), |address| address.to_string())
    }
}

impl Drop for CmId {
    fn drop(&mut self) {
        // The ids of a child process are its parent's.
        if self.live && self.created_by.is_current() {
            // There is nobody to report a refusal to.
            let _ = self.channel.ucma.destroy_id(self.handle);
        }
    }
}

/// Whether an address is of one link, and it is not said of which.
fn lacks_scope(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0)
}

fn milliseconds(timeout: Duration) -> u32 {
    // The kernel's is an int, and refuses 0.
    timeout.as_nanos().div_ceil(1_000_000).clamp(1, i32::MAX as u128) as u32
}
