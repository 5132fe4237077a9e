//! An echo server over RDMA-CM, and clients that compare what comes back.
//!
//! ```text
//! cargo build --release --example cm_echo --target x86_64-unknown-linux-musl
//! cargo xtask vm -- target/x86_64-unknown-linux-musl/release/examples/cm_echo 10.0.0.1:7471
//! ```
//!
//! `cm_echo ADDRESS:PORT` runs a server and three clients in this process. Between machines: `cm_echo server 0.0.0.0:7471 3`
//! serves three clients at a time or one after another and ends, `cm_echo client ADDRESS:PORT` is one of them.

use std::error::Error;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use bareverbs::{
    Access, CmEventType, CmId, CompChannel, ConnParam, Cq, CqInit, EventChannel, Mr, PortSpace, Qp, QpInit,
    RecvWr, SendWr, Sge, Wait, Wc, WcOpcode,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Bytes of a message.
const SIZE: usize = 64;
const MESSAGES: usize = 10;
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["server", address, clients] => serve(&listen(address.parse()?)?, clients.parse()?),
        ["client", address] => ask(address.parse()?, "client"),
        [address] => all(address.parse()?),
        _ => Err("cm_echo ADDRESS:PORT | server ADDRESS:PORT CLIENTS | client ADDRESS:PORT".into()),
    }
}

/// A server on a thread, and three clients.
fn all(address: SocketAddr) -> Outcome {
    const CLIENTS: [&str; 3] = ["anna", "berta", "clara"];
    let listener = listen(address)?;
    let serving = std::thread::spawn(move || {
        // Its clients only see that nothing comes back.
        serve(&listener, CLIENTS.len()).map_err(|e| e.to_string()).inspect_err(|e| eprintln!("server: {e}"))
    });
    let asking =
        CLIENTS.map(|name| std::thread::spawn(move || ask(address, name).map_err(|e| e.to_string())));
    for thread in asking.into_iter().chain([serving]) {
        thread.join().map_err(|_| "a thread died")??;
    }
    Ok(())
}

fn listen(address: SocketAddr) -> Outcome<CmId> {
    let listener = EventChannel::open()?.create_id(PortSpace::Tcp)?;
    listener.bind(address)?;
    listener.listen(8)?;
    println!("server: listening on {}", listener.local_addr()?);
    Ok(listener)
}

/// A client, as the server has it.
struct Client {
    id: CmId,
    qp: Qp,
    cq: Cq,
    channel: CompChannel,
    /// Messages that came, which are also those that go back.
    messages: Mr,
}

const RECV: u64 = 1;
const SEND: u64 = 2;

/// Places for messages: the next one may be here before it is known that the reply to the last has arrived.
const PLACES: usize = 2;

fn place(messages: &Mr, at: usize, length: usize) -> Sge {
    messages.slice(at * SIZE..at * SIZE + length)
}

/// One thread, any number of clients: whatever descriptor is readable has something to be done.
fn serve(listener: &CmId, clients: usize) -> Outcome {
    let events = listener.channel();
    let mut present: Vec<Client> = Vec::new();
    let mut gone = 0;
    while gone < clients {
        let mut fds = vec![PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        fds.extend(present.iter().map(|client| PollFd::new(client.channel.as_fd(), PollFlags::POLLIN)));
        poll(&mut fds, PollTimeout::NONE)?;
        drop(fds);
        for client in &mut present {
            client.echo()?;
        }
        while let Some(event) = events.next_event()? {
            match (event.event_type, event.request) {
                (CmEventType::CONNECT_REQUEST, Some(id)) => match Client::accept(id) {
                    Ok(client) => present.push(client),
                    // It has given up; others have not.
                    Err(error) => eprintln!("server: {error}"),
                },
                (CmEventType::ESTABLISHED, _) => {}
                // It has left, or has given up before it was connected.
                _ => {
                    let Some(at) =
                        present.iter().position(|client| client.id.user_handle() == event.user_handle)
                    else {
                        continue;
                    };
                    let mut client = present.swap_remove(at);
                    let _ = client.id.disconnect(&mut client.qp);
                    gone += 1;
                }
            }
        }
    }
    println!("server: {gone} clients have come and gone");
    Ok(())
}

impl Client {
    fn accept(id: CmId) -> Outcome<Self> {
        let ctx = id.context()?;
        let pd = ctx.alloc_pd()?;
        let channel = ctx.create_comp_channel()?;
        let places = PLACES as u32;
        let mut cq = ctx.create_cq(CqInit::new(2 * places).channel(&channel))?;
        let messages = pd.alloc_mr(PLACES * SIZE, Access::LOCAL_WRITE)?;
        let mut qp = id.create_qp(&pd, QpInit::rc(&cq, &cq).max_send_wr(places).max_recv_wr(places))?;
        for at in 0..PLACES {
            qp.post_recv(RecvWr::new(at as u64).sge(place(&messages, at, SIZE)))?;
        }
        cq.req_notify(false)?;
        id.accept(&mut qp, &ConnParam::new().private_data(b"echo"))?;
        Ok(Self { id, qp, cq, channel, messages })
    }

    /// Sends back what has come, and receives in its place when that has gone.
    fn echo(&mut self) -> Outcome {
        while self.channel.next_event()?.is_some() {
            self.cq.req_notify(false)?;
        }
        let mut wcs = [Wc::default()];
        while let [wc] = *self.cq.poll(&mut wcs) {
            // What is left when the client goes is flushed.
            if !wc.is_success() {
                continue;
            }
            let at = wc.wr_id as usize;
            if wc.opcode == WcOpcode::RECV {
                let reply = place(&self.messages, at, wc.byte_len as usize);
                self.qp.post_send(SendWr::send(wc.wr_id).sge(reply).signaled())?;
            } else {
                self.qp.post_recv(RecvWr::new(wc.wr_id).sge(place(&self.messages, at, SIZE)))?;
            }
        }
        Ok(())
    }
}

/// A client: one id on a channel of its own, so each step can simply be waited for.
fn ask(address: SocketAddr, name: &str) -> Outcome {
    let id = EventChannel::open()?.create_id(PortSpace::Tcp)?;
    id.resolve_addr(None, address, PATIENCE)?;
    id.wait_for(CmEventType::ADDR_RESOLVED, PATIENCE)?;
    id.resolve_route(PATIENCE)?;
    id.wait_for(CmEventType::ROUTE_RESOLVED, PATIENCE)?;

    let ctx = id.context()?;
    let pd = ctx.alloc_pd()?;
    let mut cq = ctx.create_cq(CqInit::new(4).own_channel())?;
    let mut sent = pd.alloc_mr(SIZE, Access::empty())?;
    let received = pd.alloc_mr(SIZE, Access::LOCAL_WRITE)?;
    let mut qp = id.create_qp(&pd, QpInit::rc(&cq, &cq))?;
    id.connect(&qp, &ConnParam::new())?;
    let response = id.wait_for(CmEventType::CONNECT_RESPONSE, PATIENCE)?;
    if !response.private_data().starts_with(b"echo") {
        return Err("that is no echo server".into());
    }
    id.establish(&mut qp)?;

    for n in 0..MESSAGES {
        let text = format!("{name}, message {n}");
        sent.write(0, text.as_bytes());
        qp.post_recv(RecvWr::new(RECV).sge(received.slice(..)))?;
        qp.post_send(SendWr::send(SEND).sge(sent.slice(..text.len())).signaled())?;
        let mut completed = 0;
        while completed < 2 {
            let mut wcs = [Wc::default(); 2];
            let wcs = cq.wait(&mut wcs, Wait::default(), Some(PATIENCE))?.completions();
            if wcs.is_empty() {
                return Err("the server says nothing".into());
            }
            for wc in wcs {
                if !wc.is_success() {
                    return Err(format!("{name}: {}", wc.status).into());
                }
                completed += 1;
            }
        }
        let mut back = vec![0; text.len()];
        received.read(0, &mut back);
        if back != text.as_bytes() {
            return Err(format!("{text:?} came back as {:?}", String::from_utf8_lossy(&back)).into());
        }
    }
    println!("{name}: {MESSAGES} messages came back as they were sent");
    id.disconnect(&mut qp)?;
    id.wait_for(CmEventType::DISCONNECTED, PATIENCE)?;
    Ok(())
}
