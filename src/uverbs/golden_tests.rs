//! Our commands beside rdma-core's, for the same inputs.
//!
//! `tests/golden/*.txt` are traces of C tools; each says which command made it. A test takes the inputs out of a traced command,
//! has this crate frame the same one, and compares all that the kernel looks at. Addresses differ, of course; what else
//! differs is listed where it does, with the reason.

#![allow(unsafe_code)] // registering memory that the kernel of a test does not touch

use std::cell::RefCell;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use super::cq::CqParams;
use super::qp::QpParams;
use super::srq::SrqParams;
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::sys::linux::testing::{Attr, Command, Reply, install, parse};
use crate::uapi::ioctl::verbs::QpCap;
use crate::uapi::ioctl::{self as abi, IoctlAttr, IoctlHdr};
use crate::uapi::verbs as legacy;

const PINGPONG: &str = include_str!("../../tests/golden/rc_pingpong.txt");
const UD_PINGPONG: &str = include_str!("../../tests/golden/ud_pingpong.txt");
const SRQ_PINGPONG: &str = include_str!("../../tests/golden/srq_pingpong.txt");
const DEVINFO: &str = include_str!("../../tests/golden/devinfo.txt");

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
        .collect()
}

/// The traced commands under the comment `name`.
fn traced(trace: &str, name: &str) -> Vec<Command> {
    let mut found = Vec::new();
    let mut under = "";
    for line in trace.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["#", ..] => under = line.get(2..).unwrap_or_default(),
            _ if under != name => {}
            ["ioctl", header, "=", _] => {
                found.push(Command::Ioctl { header: parse(&unhex(header)), attrs: Vec::new() });
            }
            ["write", bytes, "=", _] => found.push(Command::Write(unhex(bytes))),
            ["attr", raw, ref rest @ ..] => {
                let Some(Command::Ioctl { attrs, .. }) = found.last_mut() else { panic!("{line}") };
                let raw: IoctlAttr = parse(&unhex(raw));
                // The trace takes what looks like an address for one; short inputs are themselves.
                let memory = rest.get(1).map_or(Vec::new(), |bytes| unhex(bytes));
                attrs.push(Attr { raw, memory: if raw.len > 8 { memory } else { Vec::new() } });
            }
            _ => {}
        }
    }
    assert!(!found.is_empty(), "the trace has {name}");
    found
}

fn ioctls(trace: &str, name: &str) -> (IoctlHdr, Vec<Attr>) {
    match traced(trace, name).swap_remove(0) {
        Command::Ioctl { header, attrs } => (header, attrs),
        Command::Write(_) => panic!("{name} is a write"),
    }
}

/// The input of an invoked legacy command.
fn core_in<T: FromBytes + IntoBytes>(trace: &str, name: &str) -> T {
    let attrs = ioctls(trace, name).1;
    let core = attr(&attrs, abi::UVERBS_ATTR_CORE_IN);
    if core.raw.len > 8 { parse(&core.memory) } else { parse(core.raw.data.as_bytes()) }
}

fn attr(attrs: &[Attr], id: u16) -> &Attr {
    attrs.iter().find(|attr| attr.raw.attr_id == id).expect("an attribute that is there")
}

/// Drops an answer of which only the question counts.
fn sent_off<T>(_answer: Result<T, Errno>) {}

/// What this crate sends; the kernel answers nothing but yes.
fn sent<T>(encoding: Encoding, call: impl FnOnce(&Uverbs) -> T) -> Command {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    install(move |command| {
        log.borrow_mut().push(command.clone());
        Ok(Vec::new())
    });
    call(&uverbs(encoding));
    let mut seen = seen.borrow_mut();
    assert!(!seen.is_empty());
    seen.swap_remove(0)
}

fn uverbs(encoding: Encoding) -> Uverbs {
    let fd: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    Uverbs::new(fd, abi::RDMA_DRIVER_RXE, "test".to_owned(), encoding)
}

/// What differs on purpose.
#[derive(Default)]
struct Differences {
    /// Attributes that the kernel writes, in place or at an address: only the lengths can agree.
    outputs: &'static [u16],
    /// Attributes that only rdma-core sends.
    theirs: &'static [u16],
    /// Attributes that only this crate sends.
    ours: &'static [u16],
    /// Attributes that this crate lets the kernel ignore.
    optional: &'static [u16],
    /// Bytes of the legacy input at its beginning that are an address, which the kernel ignores inside the ioctl.
    response: usize,
}

fn compare(trace: &str, name: &str, differences: &Differences, call: impl FnOnce(&Uverbs)) {
    let (their_header, theirs) = ioctls(trace, name);
    let Command::Ioctl { header, attrs } = sent(Encoding::Ioctl, call) else { panic!("{name} is written") };
    assert_eq!(usize::from(header.length), 24 + 16 * attrs.len(), "{name}");
    assert_eq!(usize::from(header.num_attrs), attrs.len(), "{name}");
    let ours_alone = IoctlHdr { length: their_header.length, num_attrs: their_header.num_attrs, ..header };
    assert_eq!(ours_alone, their_header, "{name}: the header but for the number of attributes");
    let normal = |attrs: &[Attr], alone: &[u16], mine: bool| -> Vec<Attr> {
        assert!(alone.iter().all(|id| attrs.iter().any(|attr| attr.raw.attr_id == *id)), "{name}: {alone:?}");
        let mut kept: Vec<_> =
            attrs.iter().filter(|attr| !alone.contains(&attr.raw.attr_id)).cloned().collect();
        kept.sort_by_key(|attr| attr.raw.attr_id);
        for attr in &mut kept {
            let id = attr.raw.attr_id;
            if differences.outputs.contains(&id) {
                attr.memory.clear();
            }
            if differences.outputs.contains(&id) || attr.raw.len > 8 {
                attr.raw.data = 0;
            }
            if id == abi::UVERBS_ATTR_CORE_IN && their_header.method_id == abi::UVERBS_METHOD_INVOKE_WRITE {
                let response = differences.response;
                match attr.memory.get_mut(..response) {
                    Some(address) => address.fill(0),
                    None => attr.raw.data = if response > 0 { 0 } else { attr.raw.data },
                }
            }
            if mine && differences.optional.contains(&id) {
                assert_eq!(attr.raw.flags, 0);
                attr.raw.flags = abi::UVERBS_ATTR_F_MANDATORY;
            }
        }
        kept
    };
    assert_eq!(normal(&attrs, differences.ours, true), normal(&theirs, differences.theirs, false), "{name}");
}

const NONE: Differences = Differences { outputs: &[], theirs: &[], ours: &[], optional: &[], response: 0 };

/// An invoked command with an answer.
const ANSWERED: Differences = Differences { outputs: &[abi::UVERBS_ATTR_CORE_OUT], response: 8, ..NONE };

#[test]
fn the_context_and_its_events() {
    for trace in [DEVINFO, PINGPONG] {
        let outputs =
            &[abi::UVERBS_ATTR_GET_CONTEXT_NUM_COMP_VECTORS, abi::UVERBS_ATTR_GET_CONTEXT_CORE_SUPPORT];
        // A kernel before 5.10 does not know it, and nothing here depends on it.
        let optional = &[abi::UVERBS_ATTR_GET_CONTEXT_CORE_SUPPORT];
        compare(trace, "GET_CONTEXT", &Differences { outputs, optional, ..NONE }, |uverbs| {
            let _ = uverbs.get_context(Udata::none());
        });
        let outputs = &[abi::UVERBS_ATTR_ASYNC_EVENT_ALLOC_FD_HANDLE];
        compare(trace, "ASYNC_EVENT_ALLOC", &Differences { outputs, ..NONE }, |uverbs| {
            drop(uverbs.alloc_async_fd())
        });
    }
}

#[test]
fn queries_of_device_and_port() {
    compare(
        DEVINFO,
        "INVOKE_WRITE: QUERY_DEVICE, extended",
        &Differences { response: 0, ..ANSWERED },
        |uverbs| {
            let _ = uverbs.query_device();
        },
    );
    let outputs = &[abi::UVERBS_ATTR_QUERY_PORT_RESP];
    for trace in [DEVINFO, PINGPONG] {
        compare(trace, "QUERY_PORT", &Differences { outputs, ..NONE }, |uverbs| drop(uverbs.query_port(1)));
    }
}

#[test]
fn channel_domain_and_region() {
    compare(PINGPONG, "INVOKE_WRITE: CREATE_COMP_CHANNEL", &ANSWERED, |uverbs| {
        let _ = uverbs.create_comp_channel();
    });
    compare(PINGPONG, "INVOKE_WRITE: ALLOC_PD", &ANSWERED, |uverbs| drop(uverbs.alloc_pd(Udata::none())));
    let name = "INVOKE_WRITE: REG_MR";
    let theirs: legacy::RegMr = core_in(PINGPONG, name);
    assert_eq!((theirs.length, theirs.access_flags), (4096, 1), "what ibv_rc_pingpong registers");
    compare(PINGPONG, name, &ANSWERED, |uverbs| {
        let legacy::RegMr { start, length, hca_va, pd_handle, access_flags, .. } = theirs;
        let region = super::mr::NewMr { pd_handle, start, length, iova: hca_va, access_flags };
        // SAFETY: no kernel gets the command.
        #[allow(unsafe_code)]
        let _ = unsafe { uverbs.reg_mr(&region, Udata::none()) };
    });
    let handle = handle_of(PINGPONG, "MR_DESTROY", abi::UVERBS_ATTR_DESTROY_MR_HANDLE);
    compare(PINGPONG, "MR_DESTROY", &NONE, |uverbs| sent_off(uverbs.dereg_mr(handle)));
    let handle = handle_of(PINGPONG, "PD_DESTROY", abi::UVERBS_ATTR_DESTROY_PD_HANDLE);
    compare(PINGPONG, "PD_DESTROY", &NONE, |uverbs| sent_off(uverbs.dealloc_pd(handle)));
}

fn handle_of(trace: &str, name: &str, id: u16) -> u32 {
    attr(&ioctls(trace, name).1, id).raw.data as u32
}

#[test]
fn completion_queues() {
    const CHANNEL: u16 = abi::UVERBS_ATTR_CREATE_CQ_COMP_CHANNEL;
    let theirs = ioctls(PINGPONG, "CQ_CREATE").1;
    let number = |id| attr(&theirs, id).raw.data;
    let channel = std::fs::File::open("/dev/null").unwrap();
    let differences = Differences {
        outputs: &[
            abi::UVERBS_ATTR_CREATE_CQ_HANDLE,
            abi::UVERBS_ATTR_CREATE_CQ_RESP_CQE,
            abi::UVERBS_ATTR_UHW_OUT,
        ],
        // The file of async events; without it the kernel takes the context's.
        theirs: &[abi::UVERBS_ATTR_CREATE_CQ_EVENT_FD, CHANNEL],
        // Compared below: a test cannot choose its descriptor's number.
        ours: &[CHANNEL],
        ..NONE
    };
    let init = CqParams {
        cqe: number(abi::UVERBS_ATTR_CREATE_CQ_CQE) as u32,
        channel: Some(channel.as_fd()),
        comp_vector: number(abi::UVERBS_ATTR_CREATE_CQ_COMP_VECTOR) as u32,
        user_handle: number(abi::UVERBS_ATTR_CREATE_CQ_USER_HANDLE),
        timestamps: false,
    };
    let mut answer = crate::uapi::rxe::CreateCqResp::default();
    compare(PINGPONG, "CQ_CREATE", &differences, |uverbs| {
        let _ = uverbs.create_cq(&init, Udata::answer(&mut answer));
    });
    let Command::Ioctl { attrs, .. } =
        sent(Encoding::Ioctl, |uverbs| drop(uverbs.create_cq(&init, Udata::none())))
    else {
        panic!("it is an ioctl");
    };
    let theirs = attr(&theirs, CHANNEL).raw;
    assert_eq!(attr(&attrs, CHANNEL).raw, IoctlAttr { data: channel.as_raw_fd() as u64, ..theirs });

    let name = "INVOKE_WRITE: REQ_NOTIFY_CQ";
    let theirs: legacy::ReqNotifyCq = core_in(PINGPONG, name);
    compare(PINGPONG, name, &NONE, |uverbs| sent_off(uverbs.req_notify_cq(theirs.cq_handle, false)));
    let differences = Differences { outputs: &[abi::UVERBS_ATTR_DESTROY_CQ_RESP], ..NONE };
    let handle = handle_of(PINGPONG, "CQ_DESTROY", abi::UVERBS_ATTR_DESTROY_CQ_HANDLE);
    compare(PINGPONG, "CQ_DESTROY", &differences, |uverbs| sent_off(uverbs.destroy_cq(handle)));
}

/// Connected, for datagrams, and with a shared receive queue.
#[test]
fn queue_pairs() {
    for (trace, qp_type, max_recv_wr) in [(PINGPONG, 2, 500), (UD_PINGPONG, 4, 500), (SRQ_PINGPONG, 2, 0)] {
        queue_pair(trace, qp_type, max_recv_wr);
    }
    let differences = Differences { outputs: &[abi::UVERBS_ATTR_DESTROY_QP_RESP], ..NONE };
    let handle = handle_of(PINGPONG, "QP_DESTROY", abi::UVERBS_ATTR_DESTROY_QP_HANDLE);
    compare(PINGPONG, "QP_DESTROY", &differences, |uverbs| sent_off(uverbs.destroy_qp(handle)));
}

fn queue_pair(trace: &str, qp_type: u8, max_recv_wr: u32) {
    let theirs = ioctls(trace, "QP_CREATE").1;
    let number = |id| attr(&theirs, id).raw.data as u32;
    let differences = Differences {
        outputs: &[
            abi::UVERBS_ATTR_CREATE_QP_HANDLE,
            abi::UVERBS_ATTR_CREATE_QP_RESP_CAP,
            abi::UVERBS_ATTR_CREATE_QP_RESP_QP_NUM,
            abi::UVERBS_ATTR_UHW_OUT,
        ],
        // As with completion queues.
        theirs: &[abi::UVERBS_ATTR_CREATE_QP_EVENT_FD],
        // No flags, said with a zero where rdma-core says nothing.
        ours: &[abi::UVERBS_ATTR_CREATE_QP_FLAGS],
        ..NONE
    };
    let cap: QpCap = parse(&attr(&theirs, abi::UVERBS_ATTR_CREATE_QP_CAP).memory);
    assert_eq!(
        (cap.max_send_wr, cap.max_recv_wr, cap.max_send_sge),
        (1, max_recv_wr, 1),
        "what the tool asks for"
    );
    assert_eq!(number(abi::UVERBS_ATTR_CREATE_QP_TYPE), u32::from(qp_type));
    let shared = abi::UVERBS_ATTR_CREATE_QP_SRQ_HANDLE;
    let init = QpParams {
        pd_handle: Some(number(abi::UVERBS_ATTR_CREATE_QP_PD_HANDLE)),
        send_cq_handle: Some(number(abi::UVERBS_ATTR_CREATE_QP_SEND_CQ_HANDLE)),
        recv_cq_handle: Some(number(abi::UVERBS_ATTR_CREATE_QP_RECV_CQ_HANDLE)),
        srq_handle: (max_recv_wr == 0).then(|| number(shared)),
        xrcd_handle: None,
        qp_type,
        sq_sig_all: false,
        cap,
        user_handle: attr(&theirs, abi::UVERBS_ATTR_CREATE_QP_USER_HANDLE).raw.data,
    };
    let mut answer = crate::uapi::rxe::CreateQpResp::default();
    compare(trace, "QP_CREATE", &differences, |uverbs| {
        let _ = uverbs.create_qp(&init, Udata::answer(&mut answer));
    });
}

#[test]
fn address_handles() {
    let name = "INVOKE_WRITE: CREATE_AH";
    let theirs: legacy::CreateAh = core_in(UD_PINGPONG, name);
    assert_eq!((theirs.attr.is_global, theirs.attr.grh.sgid_index, theirs.attr.grh.hop_limit), (1, 1, 1));
    // What the kernel hands back with events, which address handles do not have.
    let mut answer = crate::uapi::rxe::CreateAhResp::default();
    let differences =
        Differences { outputs: &[abi::UVERBS_ATTR_CORE_OUT, abi::UVERBS_ATTR_UHW_OUT], response: 16, ..NONE };
    compare(UD_PINGPONG, name, &differences, |uverbs| {
        let _ = uverbs.create_ah(theirs.pd_handle, theirs.attr, Udata::answer(&mut answer));
    });
    let handle = handle_of(UD_PINGPONG, "AH_DESTROY", abi::UVERBS_ATTR_DESTROY_AH_HANDLE);
    compare(UD_PINGPONG, "AH_DESTROY", &NONE, |uverbs| sent_off(uverbs.destroy_ah(handle)));
}

#[test]
fn shared_receive_queues() {
    let theirs = ioctls(SRQ_PINGPONG, "SRQ_CREATE").1;
    let number = |id| attr(&theirs, id).raw.data;
    let differences = Differences {
        outputs: &[
            abi::UVERBS_ATTR_CREATE_SRQ_HANDLE,
            abi::UVERBS_ATTR_CREATE_SRQ_RESP_MAX_WR,
            abi::UVERBS_ATTR_CREATE_SRQ_RESP_MAX_SGE,
            abi::UVERBS_ATTR_UHW_OUT,
        ],
        // As with completion queues.
        theirs: &[abi::UVERBS_ATTR_CREATE_SRQ_EVENT_FD],
        ..NONE
    };
    let init = SrqParams {
        pd_handle: number(abi::UVERBS_ATTR_CREATE_SRQ_PD_HANDLE) as u32,
        max_wr: number(abi::UVERBS_ATTR_CREATE_SRQ_MAX_WR) as u32,
        max_sge: number(abi::UVERBS_ATTR_CREATE_SRQ_MAX_SGE) as u32,
        srq_limit: number(abi::UVERBS_ATTR_CREATE_SRQ_LIMIT) as u32,
        xrc: None,
        user_handle: number(abi::UVERBS_ATTR_CREATE_SRQ_USER_HANDLE),
    };
    assert_eq!((init.max_wr, init.max_sge, init.srq_limit), (500, 1, 0), "what ibv_srq_pingpong asks for");
    let mut answer = crate::uapi::rxe::CreateSrqResp::default();
    compare(SRQ_PINGPONG, "SRQ_CREATE", &differences, |uverbs| {
        let _ = uverbs.create_srq(&init, Udata::answer(&mut answer));
    });
    let differences = Differences { outputs: &[abi::UVERBS_ATTR_DESTROY_SRQ_RESP], ..NONE };
    let handle = handle_of(SRQ_PINGPONG, "SRQ_DESTROY", abi::UVERBS_ATTR_DESTROY_SRQ_HANDLE);
    compare(SRQ_PINGPONG, "SRQ_DESTROY", &differences, |uverbs| sent_off(uverbs.destroy_srq(handle)));
}

#[test]
fn transitions() {
    for step in ["RESET to INIT", "INIT to RTR", "RTR to RTS"] {
        let name = format!("INVOKE_WRITE: MODIFY_QP, {step}");
        let theirs: legacy::ModifyQp = core_in(PINGPONG, &name);
        compare(PINGPONG, &name, &NONE, |uverbs| sent_off(uverbs.modify_qp(&theirs)));
    }
    let name = "INVOKE_WRITE: QUERY_QP";
    let legacy::QueryQp { qp_handle, attr_mask, .. } = core_in(PINGPONG, name);
    compare(PINGPONG, name, &ANSWERED, |uverbs| drop(uverbs.query_qp(qp_handle, attr_mask)));
}

#[test]
fn the_doorbell() {
    let Command::Write(theirs) = traced(PINGPONG, "POST_SEND: the doorbell").swap_remove(0) else {
        panic!("it is a write");
    };
    let command: legacy::PostSend = parse(&theirs[8..]);
    let Command::Write(mut ours) = sent(Encoding::Auto, |uverbs| uverbs.ring_send_queue(command.qp_handle))
    else {
        panic!("it is a write");
    };
    ours[8..16].copy_from_slice(&theirs[8..16]);
    // rdma-core gives the size of its own `struct ibv_send_wr`; the kernel wants that of `struct ib_uverbs_send_wr` at least.
    assert_eq!((ours[28..].to_vec(), theirs[28..].to_vec()), (vec![56, 0, 0, 0], vec![128, 0, 0, 0]));
    assert_eq!(ours[..28], theirs[..28], "but for the address of the answer");
}

/// Answers that are short or contradict themselves.
#[test]
fn answers_that_make_no_sense_are_errors() {
    install(|_| Ok(vec![]));
    let error = uverbs(Encoding::Ioctl).alloc_pd(Udata::none()).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EBADMSG), "the handle was not written");
    install(|_| Ok(vec![Reply::Handle(abi::UVERBS_ATTR_ASYNC_EVENT_ALLOC_FD_HANDLE, u32::MAX)]));
    let error = uverbs(Encoding::Ioctl).alloc_async_fd().unwrap_err().to_string();
    assert!(error.ends_with("the kernel gave descriptor 0xffffffff"), "{error}");
    // A place that the kernel leaves as it was is no handle of anything, and no descriptor 0.
    for encoding in [Encoding::Ioctl, Encoding::Write] {
        install(|command| match command {
            Command::Ioctl { .. } => Ok(vec![Reply::Bytes(abi::UVERBS_ATTR_CORE_OUT, vec![])]),
            Command::Write(_) => Ok(vec![]),
        });
        let error = uverbs(encoding).create_comp_channel().unwrap_err().to_string();
        assert!(error.ends_with("the kernel gave descriptor 0xffffffff"), "{error}");
    }
    install(|_| Ok(vec![]));
    assert!(uverbs(Encoding::Write).get_context(Udata::none()).is_err());
    let uverbs_of_ioctl = uverbs(Encoding::Ioctl);
    assert_eq!(uverbs_of_ioctl.alloc_async_fd().unwrap_err().errno(), Some(Errno::EBADMSG));
    let init = CqParams { cqe: 1, channel: None, comp_vector: 0, user_handle: 0, timestamps: false };
    let made = uverbs_of_ioctl.create_cq(&init, Udata::none());
    assert_eq!(made.map(drop).unwrap_err().errno(), Some(Errno::EBADMSG));
    let used = abi::UVERBS_ATTR_QUERY_GID_TABLE_RESP_NUM_ENTRIES;
    install(move |_| Ok(vec![Reply::Bytes(used, u64::MAX.to_ne_bytes().to_vec())]));
    let error = uverbs(Encoding::Ioctl).query_gid_table(4).unwrap().unwrap_err().to_string();
    assert!(error.ends_with("the kernel says 18446744073709551615 entries where 4 fit"), "{error}");
    install(|_| Ok(vec![Reply::Bytes(abi::UVERBS_ATTR_CORE_OUT, vec![0; 8])]));
    let error = uverbs(Encoding::Ioctl).query_device().unwrap_err().to_string();
    assert!(error.ends_with("the kernel's answer has 0 bytes"), "{error}");
}
