//! RDMA-CM: connections by IP address and port, over /dev/infiniband/rdma_cm.
//!
//! An [`EventChannel`] is an open file of the kernel's connection manager. A [`CmId`] made from it is what a socket is to TCP: it
//! listens, or it resolves an address and connects. Everything that takes time ends in a [`CmEvent`] of the channel, which
//! never blocks and can be waited for by any event loop ([`AsFd`](std::os::fd::AsFd)), or with [`EventChannel::wait`].
//!
//! Queue pairs stay with their owner. An id brings one to its states, with what the connection managers have agreed on, when it
//! is handed to [`CmId::init_qp`], [`CmId::accept`], [`CmId::establish`] or [`CmId::disconnect`].
//!
//! | a client | a server |
//! |---|---|
//! | [`resolve_addr`](CmId::resolve_addr), event `ADDR_RESOLVED` | [`bind`](CmId::bind), [`listen`](CmId::listen) |
//! | [`resolve_route`](CmId::resolve_route), event `ROUTE_RESOLVED` | |
//! | [`create_qp`](CmId::create_qp), post receives | |
//! | [`connect`](CmId::connect) | event `CONNECT_REQUEST` with a new id |
//! | | [`create_qp`](CmId::create_qp) for that id, post receives, [`accept`](CmId::accept) |
//! | event `CONNECT_RESPONSE`, [`establish`](CmId::establish) | event `ESTABLISHED` |
//! | [`disconnect`](CmId::disconnect), event `DISCONNECTED` | event `DISCONNECTED`, [`disconnect`](CmId::disconnect) |
//!
//! Events are values that refer to no id, so none needs to be acknowledged, and an id can be destroyed at any time: what the
//! kernel had not delivered of it by then is never delivered. [`CmId::owns`] tells whose an event is; no later id of the channel is
//! taken for one that is gone.
//!
//! A connection's data go past the connection manager. The first message may come before the event that the connection is
//! established; nothing need be done about that, but [`CmId::notify`] can end the wait for the event.
//!
//! The man pages are `rdma_cm(7)` and those that it lists; names here are theirs without `rdma_`. Linux 6.1 is the oldest tested.
//!
//! | file | what it holds |
//! |---|---|
//! | `channel` | the event channel, and one context for each device |
//! | `id` | an id: made, bound, resolved, destroyed |
//! | `connect` | an id and a queue pair: connected, accepted, disconnected |
//! | `event` | what happened, and what it means |
//! | `param` | what two sides agree on |
//! | `address` | addresses as the kernel has them |
//! | `ucma` | the commands |

mod address;
mod channel;
mod connect;
mod event;
mod id;
mod param;
mod ucma;

pub use channel::EventChannel;
pub use event::{CmEvent, CmEventType, DatagramPeer};
pub use id::CmId;
pub use param::{ConnParam, PortSpace};
