//! Two processes, which tell each other over TCP what their queue pairs need, then talk by RDMA alone.
//!
//! ```text
//! cargo build --release --example two_processes --target x86_64-unknown-linux-musl
//! cargo xtask vm -- target/x86_64-unknown-linux-musl/release/examples/two_processes
//! ```
//!
//! `two_processes [DEVICE [GID-INDEX [listen|connect ADDRESS]]]`. On two machines, run `listen 0.0.0.0:7470` on one and `connect
//! HOST:7470` on the other. Without a role it plays both: it listens, and starts itself as the process that connects.
//!
//! What travels by TCP is the encoding of [`Endpoint`] and [`Remote`], 48 bytes each way. With the feature `serde` they can travel in
//! any other format.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use bareverbs::{
    Access, ConnectAttr, Cq, CqInit, Device, Endpoint, Mr, PortNum, Qp, QpInit, RecvWr, Remote, SendWr, Wait,
    Wc, WcStatus,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const REQUEST: &[u8] = b"what lies in your memory?";
const TREASURE: &[u8] = b"a treasure";

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let device = match arguments.first() {
        Some(name) => Device::by_name(name)?,
        None => Device::first()?,
    };
    let gid_index = arguments.get(1).map_or(Ok(1), |index| index.parse())?;
    match arguments.get(2..).unwrap_or_default() {
        [] => both(&device, gid_index),
        [role, address] if role == "listen" => serve(&device, gid_index, &TcpListener::bind(address)?),
        [role, address] if role == "connect" => ask(&device, gid_index, address),
        _ => Err("usage: two_processes [DEVICE [GID-INDEX [listen|connect ADDRESS]]]".into()),
    }
}

/// Listens, and starts this program once more as the process that connects.
fn both(device: &Device, gid_index: u32) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut child = Command::new(std::env::current_exe()?)
        .args([device.name(), &gid_index.to_string(), "connect", &listener.local_addr()?.to_string()])
        .spawn()?;
    let served = serve(device, gid_index, &listener);
    if served.is_err() {
        let _ = child.kill();
    }
    let status = child.wait()?;
    served?;
    if status.success() { Ok(()) } else { Err(format!("the process that connects: {status}").into()) }
}

/// What each process has.
struct Side {
    cq: Cq,
    qp: Qp,
    /// The first half for messages; the peer may read the second.
    mr: Mr,
    endpoint: Endpoint,
}

impl Side {
    fn new(device: &Device, gid_index: u32) -> Outcome<Self> {
        let ctx = device.open()?;
        let pd = ctx.alloc_pd()?;
        let cq = ctx.create_cq(CqInit::new(8).own_channel())?;
        let mut qp = pd.create_qp(QpInit::rc(&cq, &cq).max_send_wr(2).max_recv_wr(2))?;
        let mr = pd.alloc_mr(8192, Access::LOCAL_WRITE | Access::REMOTE_READ)?;
        let endpoint = qp.init_endpoint(PortNum::ONE, Some(gid_index))?;
        Ok(Self { cq, qp, mr, endpoint })
    }

    /// Sends the peer this side's endpoint and the address of its memory, gets the peer's, and connects.
    fn meet(&mut self, stream: &mut TcpStream) -> Outcome<Remote> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(&self.endpoint.to_bytes())?;
        stream.write_all(&self.mr.remote(4096).to_bytes())?;
        let (mut endpoint, mut remote) = ([0; Endpoint::ENCODED_LEN], [0; Remote::ENCODED_LEN]);
        stream.read_exact(&mut endpoint)?;
        stream.read_exact(&mut remote)?;
        self.qp.connect(&Endpoint::from_bytes(&endpoint)?, ConnectAttr::new().access(Access::REMOTE_READ))?;
        // A packet that comes before its queue pair is connected is lost: neither side sends before both are.
        stream.write_all(b"c")?;
        stream.read_exact(&mut [0])?;
        Ok(Remote::from_bytes(&remote)?)
    }

    /// Waits for the next completion, which must be a success.
    fn completion(&mut self) -> Outcome<Wc> {
        let mut wcs = [Wc::default()];
        match self.cq.wait(&mut wcs, Wait::default(), Some(Duration::from_secs(10)))?.completions() {
            [wc] if wc.status == WcStatus::SUCCESS => Ok(*wc),
            [wc] => Err(format!("request {}: {}", wc.wr_id, wc.status).into()),
            _ => Err("no completion within 10 s".into()),
        }
    }

    fn received(&mut self) -> Outcome<String> {
        let length = self.completion()?.byte_len as usize;
        let mut text = vec![0; length];
        self.mr.read(0, &mut text);
        Ok(String::from_utf8(text)?)
    }
}

/// Waits for a peer, lets it read the treasure, and answers its message.
fn serve(device: &Device, gid_index: u32, listener: &TcpListener) -> Outcome {
    let mut side = Side::new(device, gid_index)?;
    side.mr.write(4096, TREASURE);
    // Posted before the peer can send.
    side.qp.post_recv(RecvWr::new(1).sge(side.mr.slice(..4096)))?;
    let mut stream = accept(listener)?;
    let peer = side.meet(&mut stream)?;
    println!(
        "process {}: the peer's memory is at {:#x} with key {}",
        std::process::id(),
        peer.addr,
        peer.rkey
    );
    let request = side.received()?;
    println!("process {}: {request}", std::process::id());
    if request.as_bytes() != REQUEST {
        return Err("that is not the request".into());
    }
    // The memory stays until the peer says that it has read it.
    stream.read_exact(&mut [0])?;
    Ok(())
}

/// Accepts a connection, which must come within 30 s.
fn accept(listener: &TcpListener) -> Outcome<TcpStream> {
    listener.set_nonblocking(true)?;
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(e) => return Err(format!("accept: {e}").into()),
        }
    }
}

/// Sends the message and reads the other process's memory.
fn ask(device: &Device, gid_index: u32, address: &str) -> Outcome {
    let mut side = Side::new(device, gid_index)?;
    let mut stream = TcpStream::connect(address)?;
    let peer = side.meet(&mut stream)?;
    side.mr.write(0, REQUEST);
    side.qp.post_send(SendWr::send(1).sge(side.mr.slice(..REQUEST.len())).signaled())?;
    side.completion()?;
    side.qp.post_send(SendWr::rdma_read(2, peer).sge(side.mr.slice(..TREASURE.len())).signaled())?;
    side.completion()?;
    let mut treasure = [0; TREASURE.len()];
    side.mr.read(0, &mut treasure);
    println!("process {}: {}", std::process::id(), String::from_utf8_lossy(&treasure));
    stream.write_all(&[0])?;
    if treasure == TREASURE { Ok(()) } else { Err("that is not the treasure".into()) }
}
