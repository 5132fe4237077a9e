//! `rping` and peers that are none.

use std::io::{PipeWriter, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bareverbs::{
    Access, CmEventType, CmId, ConnParam, Cq, CqInit, Mr, PortSpace, Qp, QpInit, RecvWr, Rkey, SendWr, Wait,
    Wc,
};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;

use crate::faults::NoLink;
use crate::rping::{CLIENT_END, OURS, SOON, good};
use crate::rping_output::old_name;
use crate::support::{
    Resources, Running, assert_refused, await_cm_listener, command, completion, fresh_port, ipv4, run, text,
};

/// A peer that connects as rping does, and then does something else.
struct Odd {
    qp: Qp,
    cq: Cq,
    mr: Mr,
    id: CmId,
    /// Whether the other side has left: nothing more is awaited of it then.
    left: bool,
}

/// Where in its region it has its text, and its message.
const TEXT: usize = 2048;
const MESSAGE: usize = 1024;

/// The ids of its requests.
const RECEIVE: u64 = 1;
const SEND: u64 = 2;

impl Odd {
    fn connect(address: SocketAddr) -> Self {
        let id = crate::support::event_channel().create_id(PortSpace::Tcp).unwrap();
        id.resolve_addr(None, address, SOON).unwrap();
        id.wait_for(CmEventType::ADDR_RESOLVED, SOON).unwrap();
        id.resolve_route(SOON).unwrap();
        id.wait_for(CmEventType::ROUTE_RESOLVED, SOON).unwrap();
        let mut odd = Self::over(id);
        odd.id.connect(&odd.qp, &ConnParam::new()).unwrap();
        odd.id.wait_for(CmEventType::CONNECT_RESPONSE, SOON).unwrap();
        odd.id.establish(&mut odd.qp).unwrap();
        odd
    }

    /// A server of one client.
    fn accept(listener: &CmId) -> Self {
        let event = listener.wait_for(CmEventType::CONNECT_REQUEST, SOON).unwrap();
        let mut odd = Self::over(event.request.unwrap());
        odd.id.accept(&mut odd.qp, &ConnParam::new()).unwrap();
        odd.id.wait_for(CmEventType::ESTABLISHED, SOON).unwrap();
        odd
    }

    fn over(id: CmId) -> Self {
        let ctx = id.context().unwrap();
        let pd = ctx.alloc_pd().unwrap();
        let cq = ctx.create_cq(CqInit::new(16).own_channel()).unwrap();
        let rights = Access::LOCAL_WRITE | Access::REMOTE_READ | Access::REMOTE_WRITE;
        let mr = pd.alloc_mr(4096, rights).unwrap();
        let qp = id.create_qp(&pd, QpInit::rc(&cq, &cq).max_send_wr(4).max_recv_wr(4)).unwrap();
        let mut odd = Self { qp, cq, mr, id, left: false };
        (0..3).for_each(|_| odd.post_recv());
        odd
    }

    fn post_recv(&mut self) {
        self.qp.post_recv(RecvWr::new(RECEIVE).sge(self.mr.slice(..64))).unwrap();
    }

    /// Sends so many bytes of its message.
    fn say(&mut self, len: usize) {
        self.post_send(SEND, len);
        self.await_answer();
    }

    fn post_send(&mut self, wr_id: u64, len: usize) {
        let message = self.mr.slice(MESSAGE..MESSAGE + len);
        self.qp.post_send(SendWr::send(wr_id).sge(message).signaled()).unwrap();
    }

    /// Lends 64 bytes that begin with `text`.
    fn lend(&mut self, rkey: Rkey, text: &[u8]) {
        self.mr.write(TEXT, text);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(self.mr.addr() + TEXT as u64).to_be_bytes());
        bytes[8..12].copy_from_slice(&rkey.0.to_be_bytes());
        bytes[12..].copy_from_slice(&64u32.to_be_bytes());
        self.mr.write(MESSAGE, &bytes);
        self.say(16);
    }

    /// Waits until the other side has answered, or has left.
    fn await_answer(&mut self) {
        let start = Instant::now();
        let mut answered = false;
        while !answered && !self.left {
            assert!(start.elapsed() < SOON, "the other side neither answers nor leaves");
            let mut wcs = [Wc::default()];
            let come =
                self.cq.wait(&mut wcs, Wait::Events, Some(Duration::from_millis(20))).unwrap().completions();
            answered = come.iter().any(|wc| wc.wr_id == RECEIVE);
            if answered && come.iter().all(Wc::is_success) {
                self.post_recv();
            }
            self.left |= self.id.channel().next_event().unwrap().is_some();
        }
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn clients_that_are_no_rping() {
    type Does = fn(&mut Odd);
    let before = Resources::now();
    let (port, ip) = (fresh_port(), ipv4());
    let address = SocketAddr::new(ip, port);
    let cases: [(&str, Does, &[&str]); 5] = [
        (
            "leaves in the middle",
            |odd| odd.lend(odd.mr.rkey(), b"text\0"),
            &["RDMA_WRITE_ADV state 10", "middle of message 0"],
        ),
        ("sends 10 bytes", |odd| odd.say(10), &["Received bogus data, size 10", "16 bytes"]),
        ("sends 40 bytes", |odd| odd.say(40), &["cq completion failed"]),
        (
            "lends what it has not",
            |odd| odd.lend(Rkey(0xdead_beef), b""),
            &["cq completion failed status 10", "remote access error"],
        ),
        ("does not end its text", |odd| odd.lend(odd.mr.rkey(), &[b'x'; 64]), &["no zero byte"]),
    ];
    for (name, does, parts) in cases {
        let serving = Running::start(&format!("{OURS} -s -p {port}"));
        await_cm_listener(port);
        let mut odd = Odd::connect(address);
        does(&mut odd);
        drop(odd);
        let served = serving.finish(SOON);
        let said = text(&served.stderr);
        assert_eq!(served.status.code(), Some(1), "a client that {name}: {said}");
        for part in parts {
            assert!(said.contains(part), "a client that {name}: no {part:?} in {said:?}");
        }
        let errors = said.lines().filter(|line| !line.contains("DISCONNECT EVENT")).count();
        assert_eq!(errors, 1, "a client that {name}: {said}");
    }
    // One that says nothing at all.
    let serving = Running::start(&format!("{OURS} -s -p {port} --timeout 1"));
    await_cm_listener(port);
    Odd::connect(address).await_answer();
    assert_refused(&serving.finish(SOON), "a silent client", &["RDMA_READ_ADV", "for 1 s"]);
    // A persistent server outlives all of them.
    let serving = Running::start(&format!("{OURS} -s -P -p {port}"));
    await_cm_listener(port);
    for (_, does, _) in cases {
        does(&mut Odd::connect(address));
    }
    let asked = run(&format!("{OURS} -c -V -C 3 -p {port} -a {ip}"));
    good(&asked, "after odd clients", CLIENT_END);
    serving.signal(Signal::SIGTERM);
    serving.finish(SOON);
    before.are_back();
}

fn listener(address: SocketAddr) -> CmId {
    let listener = crate::support::event_channel().create_id(PortSpace::Tcp).unwrap();
    listener.bind(address).unwrap();
    listener.listen(4).unwrap();
    listener
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn servers_that_are_no_rping() {
    type Does = fn(&mut Odd);
    let before = Resources::now();
    let address = SocketAddr::new(ipv4(), fresh_port());
    let listener = listener(address);
    let cases: [(&str, Does, &[&str]); 5] = [
        (
            "leaves at once",
            |odd| odd.id.disconnect(&mut odd.qp).unwrap(),
            &["wait for RDMA_WRITE_ADV state 10", "the server has left after 0 of 3 messages"],
        ),
        ("sends 10 bytes", |odd| odd.say(10), &["Received bogus data, size 10", "16 bytes"]),
        ("sends 40 bytes", |odd| odd.say(40), &["cq completion failed"]),
        (
            "neither reads nor writes",
            |odd| (0..3).for_each(|_| odd.say(16)),
            &["data mismatch!", "of message 0, byte 0 came back as 0x00 and not as 0x72"],
        ),
        (
            "says nothing",
            |odd| (0..2).for_each(|_| odd.await_answer()),
            &["wait for RDMA_WRITE_ADV: nothing has come from the peer for 1 s"],
        ),
    ];
    for (name, does, parts) in cases {
        let (ip, port) = (address.ip(), address.port());
        let client = Running::start(&format!("{OURS} -c -V -C 3 -a {ip} -p {port} --timeout 1"));
        let mut odd = Odd::accept(&listener);
        does(&mut odd);
        drop(odd);
        let asked = client.finish(SOON);
        let said = text(&asked.stderr);
        assert_eq!(asked.status.code(), Some(1), "a server that {name}: {said}");
        for part in parts {
            assert!(said.contains(part), "a server that {name}: no {part:?} in {said:?}");
        }
        let errors = said.lines().filter(|line| !line.contains("DISCONNECT EVENT")).count();
        assert_eq!(errors, 1, "a server that {name}: {said}");
    }
    drop(listener);
    before.are_back();
}

/// Leaves no room in a pipe.
fn fill(pipe: &mut PipeWriter) {
    let set = |pipe: &PipeWriter, flags| fcntl(pipe, FcntlArg::F_SETFL(flags)).map(drop).unwrap();
    set(pipe, OFlag::O_NONBLOCK);
    for size in [4096, 1] {
        while pipe.write(&[b'\n'; 4096][..size]).is_ok() {}
    }
    set(pipe, OFlag::empty());
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_server_that_leaves_with_its_last_answer() {
    const LAST: u64 = 3;
    let address = SocketAddr::new(ipv4(), fresh_port());
    let listener = listener(address);
    let line = format!("{OURS} -c -d -C 1 -a {} -p {}", address.ip(), address.port());
    let (mut steps, mut full) = std::io::pipe().unwrap();
    let client = command(&line).stdout(full.try_clone().unwrap()).spawn().unwrap();
    let mut odd = Odd::accept(&listener);
    odd.say(16);
    // The client sleeps by now. It has no room to print the first event that it gets, and sees all others afterwards.
    std::thread::sleep(Duration::from_millis(300));
    fill(&mut full);
    let pd = odd.id.context().unwrap().alloc_pd().unwrap();
    let mut unused = odd.id.create_qp(&pd, QpInit::rc(&odd.cq, &odd.cq)).unwrap();
    odd.id.disconnect(&mut unused).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    odd.post_send(LAST, 16);
    while completion(&mut odd.cq).wr_id != LAST {}
    drop(full);
    steps.read_to_end(&mut Vec::new()).unwrap();
    good(&client.wait_with_output().unwrap(), &line, CLIENT_END);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn the_clock_stops_with_the_last_message() {
    let address = SocketAddr::new(ipv4(), fresh_port());
    let listener = listener(address);
    let start = Instant::now();
    let client = Running::start(&format!("{OURS} -c --json -C 1 -a {} -p {}", address.ip(), address.port()));
    let mut odd = Odd::accept(&listener);
    odd.say(16);
    odd.say(16);
    // That the client has left is not confirmed, and it waits for that for 2 s.
    let told: serde_json::Value = serde_json::from_str(&good(&client.finish(SOON), OURS, "")).unwrap();
    let (seconds, whole) = (told["seconds"].as_f64().unwrap(), start.elapsed().as_secs_f64());
    assert!(whole > 2.0 && seconds < whole - 2.0, "{seconds} s of {whole} s");
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_client_is_not_persistent() {
    let address = SocketAddr::new(ipv4(), fresh_port());
    let listener = listener(address);
    let line = format!("{} -c -P -C 3 -a {} -p {}", old_name(), address.ip(), address.port());
    let client = Running::start(&line);
    let mut odd = Odd::accept(&listener);
    odd.id.disconnect(&mut odd.qp).unwrap();
    let asked = client.finish(SOON);
    assert_eq!(asked.status.code(), Some(255), "{}", text(&asked.stderr));
}

/// What nobody reads of one client's figures is no reason to send the others away, nor to say that an interrupt was a good end.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_persistent_server_outlives_its_reader() {
    for options in ["--json", "-v -d"] {
        let port = fresh_port();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut server = command(&format!("ours rping -s -P {options} -p {port}"));
        let mut server = server.stdout(writer).spawn().unwrap();
        await_cm_listener(port);
        for _ in 0..2 {
            let asked = run(&format!("ours rping -c -a {} -p {port} -C 3", ipv4()));
            assert!(asked.status.success(), "{options}: {}", text(&asked.stderr));
        }
        let pid = nix::unistd::Pid::from_raw(server.id() as i32);
        nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
        assert_eq!(server.wait().unwrap().code(), Some(130), "{options}");
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_persistent_server_outlives_its_device() {
    let (port, ip) = (fresh_port(), ipv4());
    let serving = Running::start(&format!("{OURS} -s -P -p {port}"));
    await_cm_listener(port);
    let client = Running::start(&format!("{OURS} -c -p {port} -a {ip}"));
    client.await_connected();
    {
        let _again = NoLink;
        NoLink::remove();
        assert_eq!(client.finish(SOON).status.code(), Some(1));
    }
    await_cm_listener(port);
    let asked = run(&format!("{OURS} -c -V -C 3 -p {port} -a {ip}"));
    good(&asked, "after the device came back", CLIENT_END);
    serving.signal(Signal::SIGTERM);
    let served = serving.finish(SOON);
    assert_eq!(served.status.code(), Some(130), "{}", text(&served.stderr));
}
