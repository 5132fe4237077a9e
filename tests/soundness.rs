//! What each public type may do across threads, and what results cost, checked as this file compiles.
//!
//! Programs that must not compile are doc tests in `src/verbs/soundness.rs`.

use bareverbs::{
    Ah, AsyncEvents, CmEvent, CmId, CompChannel, CompEvent, Completions, ConnParam, Context, Cq, CqFd,
    CqHandle, CqInit, Device, Endpoint, Error, EventChannel, JoinError, Mr, Pd, PostError, Qp, QpAttr,
    QpInit, RecvQueue, RecvWr, Remote, SendQueue, SendWr, Sge, Srq, SrqHandle, SrqInit, Wc, Xrcd,
};

const fn send_and_sync<T: Send + Sync>() {}
const fn owned<T: 'static>() {}

/// One owner at a time is what `&mut self` sees to; which thread has it does not matter, nor who looks on.
const _: () = {
    send_and_sync::<Device>();
    send_and_sync::<Context>();
    send_and_sync::<Pd>();
    send_and_sync::<Mr>();
    send_and_sync::<CompChannel>();
    send_and_sync::<CqInit>();
    send_and_sync::<(Cq, CqHandle)>();
    send_and_sync::<Qp>();
    send_and_sync::<SendQueue>();
    send_and_sync::<RecvQueue>();
    send_and_sync::<(Ah, Srq, SrqHandle, Xrcd)>();
    send_and_sync::<SrqInit<'_>>();
    send_and_sync::<QpInit<'_>>();
    send_and_sync::<(AsyncEvents, CqFd, Completions<'_>, JoinError)>();
    send_and_sync::<SendWr<'_>>();
    send_and_sync::<RecvWr<'_>>();
    send_and_sync::<(Wc, Sge, Remote, CompEvent, QpAttr, Endpoint)>();
    send_and_sync::<(EventChannel, CmId, CmEvent, ConnParam<'_>)>();
    send_and_sync::<(Error, PostError)>();
};

/// Objects hold what they need: none borrows its parent.
const _: () = {
    owned::<(Context, Pd, Mr, CompChannel, Cq, Qp)>();
    owned::<(Ah, Srq, Xrcd)>();
    owned::<(CqHandle, SrqHandle, CqFd)>();
    owned::<(AsyncEvents, SendQueue, RecvQueue, JoinError)>();
    owned::<(EventChannel, CmId, CmEvent)>();
};

/// An error that is not there costs no more than a pointer, so `Result<()>` comes back in a register.
const _: () = assert!(size_of::<Error>() == size_of::<usize>());
const _: () = assert!(size_of::<Result<(), Error>>() == size_of::<usize>());
const _: () = assert!(size_of::<PostError>() <= 24);

/// Whether a type is `Clone`, found by which of two methods the compiler prefers.
struct Probe<T>(std::marker::PhantomData<T>);

trait NotClone {
    const CLONE: bool = false;
}

impl<T> NotClone for Probe<T> {}

impl<T: Clone> Probe<T> {
    const CLONE: bool = true;
}

/// What has one owner cannot get a second.
#[test]
fn owners_are_not_doubled() {
    let doubled = [
        Probe::<Cq>::CLONE,
        Probe::<Qp>::CLONE,
        Probe::<Mr>::CLONE,
        Probe::<SendQueue>::CLONE,
        Probe::<RecvQueue>::CLONE,
        Probe::<Ah>::CLONE,
        Probe::<Srq>::CLONE,
        Probe::<CmId>::CLONE,
    ];
    assert_eq!(doubled, [false; 8]);
    let shared =
        [Probe::<Context>::CLONE, Probe::<Pd>::CLONE, Probe::<CqHandle>::CLONE, Probe::<SrqHandle>::CLONE];
    assert_eq!(shared, [true; 4], "handles on what is shared");
}
