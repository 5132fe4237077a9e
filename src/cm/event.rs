//! What the connection manager tells.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use nix::errno::Errno;
use zerocopy::{FromBytes, IntoBytes};

use super::CmId;
use super::channel::ChannelInner;
use crate::error::{Cause, Error};
use crate::types::{Qkey, Qpn, open_enum};
use crate::uapi::ucm::{ConnParam, EventResp, UdParam};
use crate::verbs::AddressVector;

open_enum! {
    /// Type of an RDMA-CM event (`enum rdma_cm_event_type`, `rdma_get_cm_event(3)`).
    ///
    /// `Display` prints the names of `rdma_event_str(3)`.
    CmEventType: u32 {
        /// The destination address and the local device to reach it are resolved.
        ADDR_RESOLVED = 0, "RDMA_CM_EVENT_ADDR_RESOLVED";
        /// Address resolution failed.
        ADDR_ERROR = 1, "RDMA_CM_EVENT_ADDR_ERROR";
        /// The route to the destination is resolved.
        ROUTE_RESOLVED = 2, "RDMA_CM_EVENT_ROUTE_RESOLVED";
        /// Route resolution failed.
        ROUTE_ERROR = 3, "RDMA_CM_EVENT_ROUTE_ERROR";
        /// A client asks to connect; the event carries a new id for it.
        CONNECT_REQUEST = 4, "RDMA_CM_EVENT_CONNECT_REQUEST";
        /// The peer accepted; call [`CmId::establish`].
        CONNECT_RESPONSE = 5, "RDMA_CM_EVENT_CONNECT_RESPONSE";
        /// Establishing the connection failed.
        CONNECT_ERROR = 6, "RDMA_CM_EVENT_CONNECT_ERROR";
        /// The peer does not respond.
        UNREACHABLE = 7, "RDMA_CM_EVENT_UNREACHABLE";
        /// The peer rejected the connection, or nothing listens there.
        REJECTED = 8, "RDMA_CM_EVENT_REJECTED";
        /// The connection is established, or, for datagrams, the peer is resolved.
        ESTABLISHED = 9, "RDMA_CM_EVENT_ESTABLISHED";
        /// The connection is closed, by the peer or by this side.
        DISCONNECTED = 10, "RDMA_CM_EVENT_DISCONNECTED";
        /// The device is being removed; the id can only be destroyed.
        DEVICE_REMOVAL = 11, "RDMA_CM_EVENT_DEVICE_REMOVAL";
        /// A multicast group was joined.
        MULTICAST_JOIN = 12, "RDMA_CM_EVENT_MULTICAST_JOIN";
        /// Joining a multicast group failed, or the group was left.
        MULTICAST_ERROR = 13, "RDMA_CM_EVENT_MULTICAST_ERROR";
        /// The hardware address of the network device changed.
        ADDR_CHANGE = 14, "RDMA_CM_EVENT_ADDR_CHANGE";
        /// The queue pair of a closed connection can be reused.
        TIMEWAIT_EXIT = 15, "RDMA_CM_EVENT_TIMEWAIT_EXIT";
    }
}

/// An event of a channel (`struct rdma_cm_event`).
///
/// One that is dropped with its `request` rejects the client.
pub struct CmEvent {
    /// What happened.
    pub event_type: CmEventType,
    /// 0 or a negated errno; over InfiniBand and RoCE also the peer's: for `REJECTED` the reason (`enum ib_cm_rej_reason`), for
    /// `UNREACHABLE` of datagrams the answer's status (`enum ib_cm_sidr_status`).
    pub status: i32,
    /// The id that a `CONNECT_REQUEST` is about.
    pub request: Option<CmId>,
    /// [`CmId::user_handle`] of the id that it is about; of the listener, for a `CONNECT_REQUEST`.
    pub user_handle: u64,
    param: Param,
}

/// What a peer said of itself.
enum Param {
    Connection(ConnParam),
    Datagram(UdParam),
}

/// Where datagrams to a peer go: what an address handle and a request are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatagramPeer {
    /// The peer's queue pair.
    pub qp_num: Qpn,
    /// The key that it takes.
    pub qkey: Qkey,
    /// Where it is.
    pub av: AddressVector,
}

/// Marks the user handles of ids for datagrams, since the kernel's events do not say which kind they are about.
pub(super) const DATAGRAM: u64 = 1;
/// Marks the user handles of ids of clients' requests.
pub(super) const PASSIVE: u64 = 1 << 1;

impl CmEvent {
    /// An event as the kernel tells it; `None` for one that is about nobody.
    pub(super) fn from_kernel(channel: &Arc<ChannelInner>, raw: &EventResp) -> Option<Self> {
        let mut event_type = CmEventType::from(raw.event);
        let datagram = raw.uid & DATAGRAM != 0;
        if event_type == CmEventType::ESTABLISHED && raw.uid & (DATAGRAM | PASSIVE) == 0 {
            // Over iWARP the kernel brings the client's queue pair to RTS and reports that. Over InfiniBand a client never gets
            // this event. Clients get CONNECT_RESPONSE on every fabric; over iWARP `establish` does nothing.
            event_type = CmEventType::CONNECT_RESPONSE;
        }
        let bytes = raw.param.as_bytes();
        let param = match datagram {
            true => Param::Datagram(UdParam::read_from_prefix(bytes).ok()?.0),
            false => Param::Connection(ConnParam::read_from_prefix(bytes).ok()?.0),
        };
        let mut event =
            Self { event_type, status: raw.status as i32, request: None, user_handle: raw.uid, param };
        if event_type == CmEventType::CONNECT_REQUEST {
            let asked = (event.responder_resources(), event.initiator_depth());
            event.request = Some(CmId::of_request(channel, raw.id, datagram, asked));
        }
        // Nobody has told the kernel a user handle of 0.
        (raw.uid != 0).then_some(event)
    }

    /// Bytes from the peer's program. A connection manager may have filled them up with zeros.
    #[must_use]
    pub fn private_data(&self) -> &[u8] {
        let (bytes, len) = match &self.param {
            Param::Connection(param) => (&param.private_data, param.private_data_len),
            Param::Datagram(param) => (&param.private_data, param.private_data_len),
        };
        bytes.get(..len.into()).unwrap_or_default()
    }

    /// The peer's queue pair.
    #[must_use]
    pub fn qp_num(&self) -> Qpn {
        Qpn::truncate(match &self.param {
            Param::Connection(param) => param.qp_num,
            Param::Datagram(param) => param.qp_num,
        })
    }

    /// How many reads and atomics of the peer's this side is to take at a time; 0 for datagrams.
    #[must_use]
    pub fn responder_resources(&self) -> u8 {
        match &self.param {
            Param::Connection(param) => param.responder_resources,
            Param::Datagram(_) => 0,
        }
    }

    /// How many reads and atomics of this side's the peer takes at a time; 0 for datagrams.
    #[must_use]
    pub fn initiator_depth(&self) -> u8 {
        match &self.param {
            Param::Connection(param) => param.initiator_depth,
            Param::Datagram(_) => 0,
        }
    }

    /// Where to send datagrams, once `ESTABLISHED`.
    #[must_use]
    pub fn datagram_peer(&self) -> Option<DatagramPeer> {
        match &self.param {
            Param::Datagram(param) if self.event_type == CmEventType::ESTABLISHED => Some(DatagramPeer {
                qp_num: Qpn::truncate(param.qp_num),
                qkey: Qkey(param.qkey),
                av: AddressVector::from_cm(&param.ah_attr)?,
            }),
            _ => None,
        }
    }

    /// The error of something that was tried on `object` and ended in this event; `None` if it is no failure.
    pub(super) fn failure(&self, object: String) -> Option<Error> {
        let operation = match self.event_type {
            CmEventType::ADDR_ERROR => "resolve_addr",
            CmEventType::ROUTE_ERROR => "resolve_route",
            CmEventType::CONNECT_ERROR | CmEventType::UNREACHABLE | CmEventType::REJECTED => "connect",
            // Else nobody has answered that this side disconnects.
            CmEventType::DISCONNECTED if self.status >= 0 => {
                return Some(Error::new("wait", object, Cause::Refused("the peer has disconnected".into())));
            }
            CmEventType::DISCONNECTED => "disconnect",
            CmEventType::DEVICE_REMOVAL => {
                return Some(Error::new(
                    "wait",
                    object,
                    Cause::NotFound("the device is being removed".into()),
                ));
            }
            _ if self.status < 0 => "wait",
            _ => return None,
        };
        if self.status >= 0 {
            let (why, hint) = match &self.param {
                Param::Connection(_) => reason(self.status),
                Param::Datagram(_) => sidr_status(self.status),
            };
            let error = Error::new(operation, object, Cause::Refused(why));
            return Some(match hint {
                Some(hint) => error.with_hint(hint),
                None => error,
            });
        }
        let errno = Errno::from_raw(self.status.saturating_neg());
        let error = Error::os(operation, object, errno);
        Some(match (errno, self.event_type) {
            (Errno::ETIMEDOUT, CmEventType::ADDR_ERROR) => error.with_hint("no machine answers to that address"),
            (Errno::ECONNREFUSED, _) => error.with_hint(LISTEN),
            (Errno::ETIMEDOUT, _) => error.with_hint(
                "the peer does not answer: is it up, does it have an RDMA device, is UDP port 4791 (RoCE) or the server's TCP \
                 port (iWARP) open?",
            ),
            _ => out_of_reach(error, errno),
        })
    }
}

impl fmt::Debug for CmEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CmEvent")
            .field("event_type", &self.event_type)
            .field("status", &self.status)
            .field("user_handle", &self.user_handle)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// Adds to an error what it says of the address that was asked for.
pub(super) fn out_of_reach(error: Error, errno: Errno) -> Error {
    match errno {
        Errno::ENODEV | Errno::EADDRNOTAVAIL => {
            error.with_hint("no RDMA device is on the way to that address")
        }
        Errno::ENETUNREACH | Errno::EHOSTUNREACH => error.with_hint("no route leads there: see ip route"),
        _ => error,
    }
}

/// What the peer's connection manager says, and what that calls for.
type Answer = (Cow<'static, str>, Option<&'static str>);

const NOBODY: &str = "nobody listens there";
pub(super) const LISTEN: &str = "is the server running, on that address and port?";
const REJECTED: &str = "the peer's program rejected it";

/// Why a connection was rejected: InfiniBand specification, section 12.6.7.2.
fn reason(reason: i32) -> Answer {
    let (text, hint) = match reason {
        1 => ("the peer has no queue pair for it", None),
        3 => ("the peer has no resources for it", None),
        4 => ("the peer gave up waiting", None),
        5 => ("the peer cannot do what was asked for", None),
        8 => (NOBODY, Some(LISTEN)),
        10 => ("the peer still has an old connection of this queue pair", None),
        28 => (REJECTED, None),
        _ => return (format!("rejected for reason {reason}").into(), None),
    };
    (format!("{text} (reason {reason})").into(), hint)
}

/// Why the peer does not tell where its queue pair for datagrams is: section 12.11.
fn sidr_status(status: i32) -> Answer {
    let (text, hint) = match status {
        1 => (NOBODY, Some(LISTEN)),
        2 => (REJECTED, None),
        3 => ("the peer has no queue pair for it", None),
        4 => ("the peer names another place, which is not followed", None),
        5 => ("the peer speaks another version", None),
        _ => return (format!("answered with status {status}").into(), None),
    };
    (format!("{text} (status {status})").into(), hint)
}
