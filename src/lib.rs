//! RDMA verbs on the bare kernel ABI, in pure Rust: no libibverbs, no C.
//!
//! A [`Device`] is opened to a [`Context`]; from it come protection domains ([`Pd`]), completion queues ([`Cq`]), registered
//! memory ([`Mr`]) and queue pairs ([`Qp`]). Requests ([`SendWr`], [`RecvWr`]) are posted to a queue pair, completions ([`Wc`])
//! are taken from a completion queue.
//!
//! ```no_run
//! use bareverbs::{Access, CqInit, Device, PortNum, QpInit, ConnectAttr, RecvWr, SendWr, Wait, Wc};
//!
//! # fn exchange(ours: &bareverbs::Endpoint) -> std::io::Result<bareverbs::Endpoint> { Ok(*ours) }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ctx = Device::by_name("rxe0")?.open()?;
//! let pd = ctx.alloc_pd()?;
//! let mut cq = ctx.create_cq(CqInit::new(16).own_channel())?;
//! let mut mr = pd.alloc_mr(4096, Access::LOCAL_WRITE)?;
//! let mut qp = pd.create_qp(QpInit::rc(&cq, &cq).max_send_wr(4).max_recv_wr(4))?;
//!
//! // Each side sends the other its endpoint, over a socket for instance, and connects to the one it receives.
//! let ours = qp.init_endpoint(PortNum::ONE, Some(1))?;
//! qp.post_recv(RecvWr::new(1).sge(mr.slice(..2048)))?;
//! let theirs = exchange(&ours)?;
//! qp.connect(&theirs, ConnectAttr::new())?;
//!
//! mr.write(2048, b"hello");
//! qp.post_send(SendWr::send(2).sge(mr.slice(2048..2053)).signaled())?;
//! let mut wcs = [Wc::default(); 4];
//! for wc in cq.wait(&mut wcs, Wait::default(), None)? {
//!     println!("request {}: {}, {} bytes", wc.wr_id, wc.status, wc.byte_len);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Where to look
//!
//! | to | see | example program |
//! |---|---|---|
//! | find devices and ask them | [`Device`], [`Context::query_device`], [`discover`] | `devices` |
//! | send and receive | [`Qp::post_send`], [`Qp::post_recv`], [`Cq::poll`] | `rc_send_recv` |
//! | write and read a peer's memory | [`Mr::remote`], [`SendWr::rdma_write`], [`SendWr::rdma_read`] | `rdma_write_read` |
//! | change a peer's words atomically | [`SendWr::fetch_add`], [`SendWr::compare_swap`] | `atomics` |
//! | lend a part of a region | [`Mw`], [`SendWr::send_with_inv`] | `memory_window` |
//! | connect by IP address | [`cm`]: [`EventChannel`], [`CmId`] | `cm_echo` |
//! | send datagrams, to one or to a group | [`QpInit::ud`], [`Ah`], [`SendWr::ud_addr`], [`Qp::attach_mcast`] | `datagrams` |
//! | let queue pairs share receives | [`Srq`], [`QpInit::srq`]; on devices with XRC [`Xrcd`] | `shared_receive_queue` |
//! | wait | [`Cq::wait`], or [`CompChannel`], [`EventChannel`] and [`AsyncEvents`] in an event loop | `events`, `tokio` |
//! | share the work among threads | [`Cq::handle`], [`Srq::handle`], [`Qp::into_split`] | `threads` |
//! | make queue pairs' transitions by hand | [`Qp::modify`], [`QpAttr`], [`Qp::query`] | `qp_states` |
//! | make a device in software | [`netlink::Nldev::link_add`] | `links` |
//! | see what a failure means | [`Error`], [`PostError`], [`WcStatus`] | |
//!
//! # What holds everywhere
//!
//! - **Only `Pd::register_mr`, `MrInit::foreign` and `Pd::reg_implicit_mr` are unsafe.** Memory that a device may reach is copied in and out and never lent as a
//!   slice; an [`Mr`] is deregistered before its memory is freed.
//! - **Children hold their parents**, so objects may be dropped in any order. A drop does not report what the kernel refused;
//!   `destroy()` and [`Context::close`] do.
//! - **A queue has one owner.** Posting and polling take `&mut self` and no lock; [`Qp::into_split`] gives each half to a thread,
//!   and a [`CqHandle`] lets one thread create queue pairs on a queue that another polls.
//! - **The data path does nothing hidden.** Posting and polling allocate nothing. On rxe a receive and a poll make no
//!   system call, and a post of sends makes one, however many it posts; on mlx4 none of them makes any.
//! - **Errors are one line**: the operation, the object, the errno, and the likely fix.
//!
//! # After a fork
//!
//! A child process has copies of its parent's objects, on the same open files. They stay the parent's:
//!
//! - **What the child drops is not destroyed.** `destroy()` in the child returns an error. The parent's traffic goes on.
//! - **The child cannot post or poll.** Queues, doorbell records and registers are not mapped in it (`MADV_DONTFORK`); an access
//!   is a segmentation fault, or lands in memory that the child has mapped there since. Commands ([`Qp::modify`], say) would act on
//!   the parent's objects, and events that the child reads are lost to the parent: do neither. A child that wants RDMA opens the
//!   device itself.
//! - **Registered memory** is copied where the kernel copies pinned pages at a fork ([`netlink::Nldev::copies_on_fork`], Linux 5.13
//!   and later). Then the parent's regions go on working, and the child has a snapshot. On an older kernel, do not fork while
//!   regions are registered.
//! - `std::process::Command` is no problem: descriptors are closed on exec.
//!
//! # What there is and is not
//!
//! Queues can be created on devices of rxe and siw, the kernel's software RoCE and iWARP, and of mlx4; other devices can be found, opened
//! and queried. Over iWARP there are reliable connections alone, made by [`cm`].
//! There are reliable and unreliable connections, datagrams, multicast and shared receive queues; mlx4 has extended reliable
//! connections ([`Xrcd`]) too, which rxe does not. Linux 6.1, 6.12 and 7.3 are tested, on x86-64.
//!
//! # The layers
//!
//! Each imports only what stands below it. `ARCHITECTURE.md` walks through them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cm`] | RDMA-CM: connections by IP address and port |
//! | `verbs` | what a program holds: device, context, PD, MR, CQ, QP; its items stand in this module too |
//! | [`raw`] | kernel handles, the command descriptor, raw commands |
//! | `provider` | how a device's queues look in memory: rings, WQEs, CQEs, doorbells |
//! | [`discover`] | which devices there are: RDMA netlink first, sysfs after |
//! | [`netlink`] | RDMA netlink (`RDMA_NLDEV`): devices, ports, links |
//! | `uverbs` | the kernel's commands, one file per kernel object, in each encoding |
//! | `sys` | system calls, memory shared with the kernel |
//! | `types` | keys, numbers, addresses, states, work requests and completions; they stand in this module too |
//! | `error` | the one error type |
//! | `uapi` | the kernel's structures, checked against its headers by `cargo xtask abi` |

pub mod cm;
pub mod discover;
mod error;
pub mod netlink;
mod provider;
pub mod raw;
mod sys;
mod types;
mod uapi;
mod uverbs;
mod verbs;

// Devices.
pub use types::{
    DriverCaps, Gid, GidEntry, GidType, Guid, Lid, LinkLayer, Mtu, PhysState, PortNum, PortState,
    ServiceLevel,
};
pub use uverbs::Encoding;
pub use verbs::{AtomicCap, Context, Device, DeviceAttr, OdpCaps, OpenOptions, PortAttr, RssCaps, TmCaps};

// Memory.
pub use types::{Access, Lkey, MwBind, MwType, Remote, Rkey, Sge};
pub use verbs::{Mr, MrInit, Mw, OpaqueMr, Pd, Rereg};

// Completion queues.
pub use types::{Wc, WcExtra, WcOpcode, WcStatus};
pub use verbs::{CompChannel, CompEvent, Completions, Cq, CqFd, CqHandle, CqInit, Wait, Waited};

// Queue pairs.
pub use types::{Endpoint, Psn, Qkey, QpState, QpType, Qpn, Srqn};
pub use verbs::{
    AddressVector, Ah, ConnectAttr, JoinError, Qp, QpAttr, QpCap, QpInit, RecvQueue, SendQueue, Srq, SrqAttr,
    SrqHandle, SrqInit, Xrcd,
};

// Work requests.
pub use types::{PostError, PostErrorKind, RecvWr, SendFlags, SendOp, SendWr};

// Events and errors.
pub use error::{Error, ErrorKind, Result};
pub use types::OutOfRange;
pub use verbs::{AsyncEvent, AsyncEventType, AsyncEvents, EventSource};

// Connections by IP address.
pub use cm::{CmEvent, CmEventType, CmId, ConnParam, DatagramPeer, EventChannel, PortSpace};
