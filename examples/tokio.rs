//! tokio: a completion channel, a queue's own channel, RDMA-CM events and async events, each in an `AsyncFd`.
//!
//! ```text
//! cargo build --release --example tokio --target x86_64-unknown-linux-musl
//! cargo xtask vm -- target/x86_64-unknown-linux-musl/release/examples/tokio ADDRESS:PORT
//! ```
//!
//! `ADDRESS` is one of an RDMA device of this machine. Descriptors never block and keep what they need, so a task owns them next to
//! the context.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use bareverbs::{
    Access, AsyncEventType, AsyncEvents, CmEvent, CmEventType, CmId, CompChannel, CompEvent, ConnParam, Cq,
    CqFd, CqInit, EventChannel, PortSpace, QpInit, RecvWr, SendWr, Wc,
};
use tokio::io::unix::AsyncFd;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Outcome {
    let address = std::env::args().nth(1).ok_or("usage: tokio ADDRESS:PORT")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), run(address)).await })?
}

async fn run(address: SocketAddr) -> Outcome {
    let events = EventChannel::open()?;
    let listener = events.create_id(PortSpace::Tcp)?;
    listener.bind(address)?;
    listener.listen(1)?;
    let server = tokio::spawn(serve(events));
    client(address).await?;
    server.await?
}

/// Answers one message. Its two completion queues share a channel.
async fn serve(events: EventChannel) -> Outcome {
    let events = watched(events)?;
    let request = cm_event(&events, CmEventType::CONNECT_REQUEST).await?;
    let id = request.request.ok_or("a request without an id")?;
    let ctx = id.context()?;
    let pd = ctx.alloc_pd()?;
    let channel = ctx.create_comp_channel()?;
    let mut send_cq = ctx.create_cq(CqInit::new(16).channel(&channel))?;
    let mut recv_cq = ctx.create_cq(CqInit::new(16).channel(&channel))?;
    let mut srq = pd.create_srq(4)?;
    let mr = pd.alloc_mr(128, Access::LOCAL_WRITE)?;
    srq.post_recvs(&[RecvWr::new(1).sge(mr.slice(..64)), RecvWr::new(2).sge(mr.slice(64..))])?;
    let mut qp = id.create_qp(&pd, QpInit::rc(&send_cq, &recv_cq).srq(&srq))?;

    // An async event is due once fewer than two receives are left: another task reports it.
    srq.set_limit(2)?;
    let alarm = tokio::spawn(limit_reached(ctx.async_events()?, srq.user_handle()));
    recv_cq.req_notify(false)?;
    send_cq.req_notify(false)?;
    let channel = watched(channel)?;
    id.accept(&mut qp, &ConnParam::new())?;

    // Which queue an event belongs to is one look into a map, however many queues there are.
    let mut queues = HashMap::from([(recv_cq.user_handle(), recv_cq), (send_cq.user_handle(), send_cq)]);
    let mut sent = false;
    while !sent {
        let event = comp_event(&channel).await?;
        let cq = queues.get_mut(&event.user_handle()).ok_or("an event of no queue")?;
        for wc in cq.completions() {
            println!("server: request {} {}: {}", wc.wr_id, wc.opcode, wc.status);
            if !wc.is_success() {
                return Err(wc.status.to_string().into());
            }
            if wc.opcode.is_recv() {
                let message = mr.slice(..wc.byte_len as usize);
                qp.post_send(SendWr::send(3).sge(message).signaled())?;
            } else {
                sent = true;
            }
        }
    }
    alarm.await??;
    cm_event(&events, CmEventType::ESTABLISHED).await?;
    cm_event(&events, CmEventType::DISCONNECTED).await?;
    id.disconnect(&mut qp)?;
    Ok(())
}

/// Sends a message and waits for its answer, by the completion queue's own channel.
async fn client(address: SocketAddr) -> Outcome {
    let events = EventChannel::open()?;
    let id: CmId = events.create_id(PortSpace::Tcp)?;
    let events = watched(events)?;
    id.resolve_addr(None, address, PATIENCE)?;
    cm_event(&events, CmEventType::ADDR_RESOLVED).await?;
    id.resolve_route(PATIENCE)?;
    cm_event(&events, CmEventType::ROUTE_RESOLVED).await?;
    let ctx = id.context()?;
    let pd = ctx.alloc_pd()?;
    let mut cq = ctx.create_cq(CqInit::new(16).own_channel())?;
    let fd = watched(cq.own_channel().ok_or("a queue without a channel")?)?;
    let mr = pd.alloc_mr(64, Access::LOCAL_WRITE)?;
    let mut qp = id.create_qp(&pd, QpInit::rc(&cq, &cq).max_inline_data(32))?;
    qp.post_recv(RecvWr::new(1).sge(mr.slice(..)))?;
    id.connect(&qp, &ConnParam::new())?;
    cm_event(&events, CmEventType::CONNECT_RESPONSE).await?;
    id.establish(&mut qp)?;

    let text = b"hello, tokio";
    qp.post_send(SendWr::send(2).inline(text).signaled())?;
    let mut completed = 0;
    while completed < 2 {
        let mut wcs = [Wc::default(); 4];
        for wc in completions(&mut cq, &fd, &mut wcs).await? {
            println!("client: request {} {}: {}", wc.wr_id, wc.opcode, wc.status);
            if !wc.is_success() {
                return Err(wc.status.to_string().into());
            }
            completed += 1;
        }
    }
    let mut answer = [0; 12];
    mr.read(0, &mut answer);
    if answer != *text {
        return Err("the answer is not the message".into());
    }
    id.disconnect(&mut qp)?;
    cm_event(&events, CmEventType::DISCONNECTED).await?;
    Ok(())
}

/// A descriptor in the runtime's event loop. It stays open and the same for as long as its owner lives, which the `AsyncFd` is.
#[allow(deprecated)] // later tokios prefer an unsafe function that earlier ones do not have
fn watched<T: AsRawFd>(owner: T) -> std::io::Result<AsyncFd<T>> {
    AsyncFd::new(owner)
}

/// The next event of RDMA-CM, which must be of this type.
async fn cm_event(events: &AsyncFd<EventChannel>, wanted: CmEventType) -> Outcome<CmEvent> {
    loop {
        let mut ready = events.readable().await?;
        match ready.get_inner().next_event()? {
            Some(event) if event.event_type == wanted => return Ok(event),
            Some(event) => return Err(format!("{} came where {wanted} was due", event.event_type).into()),
            None => ready.clear_ready(),
        }
    }
}

/// The next event of a completion channel.
async fn comp_event(channel: &AsyncFd<CompChannel>) -> Outcome<CompEvent> {
    loop {
        let mut ready = channel.readable().await?;
        match ready.get_inner().next_event()? {
            Some(event) => return Ok(event),
            None => ready.clear_ready(),
        }
    }
}

/// The next completions of a queue with a channel of its own.
async fn completions<'w>(cq: &mut Cq, fd: &AsyncFd<CqFd>, wcs: &'w mut [Wc]) -> Outcome<&'w [Wc]> {
    loop {
        let taken = cq.poll_or_arm(wcs)?.len();
        if taken > 0 {
            return Ok(&wcs[..taken]);
        }
        fd.readable().await?.clear_ready();
    }
}

/// Waits for the event that the limit of the shared receive queue with this user handle is reached.
async fn limit_reached(events: AsyncEvents, user_handle: u64) -> Outcome {
    let events = watched(events)?;
    loop {
        let mut ready = events.readable().await?;
        match ready.get_inner().next_event()? {
            Some(event) => {
                println!("server: async event {} of {}", event.event_type, event.element);
                if event.event_type == AsyncEventType::SRQ_LIMIT_REACHED && event.element == user_handle {
                    return Ok(());
                }
            }
            None => ready.clear_ready(),
        }
    }
}
