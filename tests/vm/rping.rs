//! `rping` beside librdmacm's, both ways.

use std::net::{IpAddr, SocketAddr};
use std::process::Output;
use std::time::{Duration, Instant};

use bareverbs::{
    Access, CmEventType, CmId, ConnParam, Cq, CqInit, EventChannel, Mr, PortSpace, Qp, QpInit, RecvWr, Rkey,
    SendWr, Wait, Wc,
};

use crate::support::{
    Resources, Running, assert_refused, await_cm_listener, fresh_port, ipv4, ipv6, refused, run, text,
};

const OURS: &str = "ours rping";
const C: &str = "rping";
const SOON: Duration = Duration::from_secs(30);

/// What a server says when its client has left at the right time.
const SERVER_END: &str = "server DISCONNECT EVENT...\nwait for RDMA_READ_ADV state 10\n";
const CLIENT_END: &str = "client DISCONNECT EVENT...\n";

fn good(output: &Output, line: &str, said: &str) -> String {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{line}: {:?}\n{out}{err}", output.status);
    // The C client may be gone before its thread has said its last word.
    let cut_short = line.starts_with(C) && said == CLIENT_END && err.is_empty();
    assert!(err == said || cut_short, "{line}: {err:?}");
    out
}

/// Runs a server and a client to their ends.
fn pair(server: &str, client: &str, ip: IpAddr) -> (Output, Output) {
    let port = fresh_port();
    let serving = Running::start(&format!("{server} -p {port} -a {ip}"));
    await_cm_listener(port);
    let asked = Running::start(&format!("{client} -p {port} -a {ip}")).finish(SOON);
    (serving.finish(SOON), asked)
}

/// The lines of `count` messages of 64 bytes.
fn lines(before: &str, count: usize) -> String {
    let letter = |n: usize| char::from(b'A' + (n % 58) as u8);
    (0..count)
        .map(|n| {
            let head = format!("rdma-ping-{n}: ");
            let rest: String = (0..63 - head.len()).map(|at| letter(n + at)).collect();
            format!("{before}: {head}{rest}\n")
        })
        .collect()
}

fn together(server: &str, client: &str) {
    let before = Resources::now();
    // The reference transcript.
    let (served, asked) = pair(&format!("{server} -s -v -C 20"), &format!("{client} -c -v -C 20"), ipv4());
    assert_eq!(good(&served, server, SERVER_END), lines("server ping data", 20));
    assert_eq!(good(&asked, client, CLIENT_END), lines("ping data", 20));
    for (ip, options) in [
        (ipv6(), "-V -C 60"),
        (ipv4(), "-V -C 3 -S 65535"),
        (ipv4(), "-V -C 5 -S 23"),
        (ipv4(), "-V -q -C 5"),
    ] {
        let (served, asked) = pair(&format!("{server} -s {options}"), &format!("{client} -c {options}"), ip);
        assert_eq!(good(&served, &format!("{server} {options}"), SERVER_END), "");
        assert_eq!(good(&asked, &format!("{client} {options}"), CLIENT_END), "");
    }
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn ours_with_ours() {
    together(OURS, OURS);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn our_client_with_the_c_server() {
    together(C, OURS);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn the_c_client_with_our_server() {
    together(OURS, C);
}

/// Twenty clients one after another, then eight at once; ours and C's.
fn persistent(server: &str, clients: [&str; 2]) {
    let before = Resources::now();
    let (port, ip) = (fresh_port(), ipv4());
    let serving = Running::start(&format!("{server} -s -P -p {port}"));
    await_cm_listener(port);
    let ask =
        |client: &str, count: u32| Running::start(&format!("{client} -c -V -v -C {count} -p {port} -a {ip}"));
    for n in 0..20 {
        let client = clients[n % 2];
        assert_eq!(good(&ask(client, 3).finish(SOON), client, CLIENT_END), lines("ping data", 3));
    }
    let at_once: Vec<_> = (0..8).map(|n| (clients[n % 2], ask(clients[n % 2], 50))).collect();
    for (client, running) in at_once {
        assert_eq!(good(&running.finish(SOON), client, CLIENT_END), lines("ping data", 50));
    }
    serving.signal(nix::sys::signal::Signal::SIGTERM);
    let served = serving.finish(SOON);
    assert_eq!(text(&served.stderr), SERVER_END.repeat(28));
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_persistent_server() {
    persistent(OURS, [OURS, C]);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn what_does_not_fit_together() {
    let before = Resources::now();
    let port = fresh_port();
    let (four, six) = (ipv4(), ipv6());
    // Nobody listens; no RDMA device; no route; an address of somebody else's.
    refused(
        &format!("{OURS} -c -C 1 -a {four} -p {port}"),
        &["RDMA_CM_EVENT_REJECTED, error 8", "nobody listens"],
    );
    refused(&format!("{OURS} -c -C 1 -a {six} -p {port}"), &["RDMA_CM_EVENT_REJECTED, error 8"]);
    refused(&format!("{OURS} -c -C 1 -a 192.0.2.1"), &["rdma_resolve_addr", "192.0.2.1", "ENETUNREACH"]);
    refused(&format!("{OURS} -c -C 1 -a {four} -I 10.9.9.9"), &["rdma_resolve_addr", "10.9.9.9"]);
    refused(&format!("{OURS} -s -a 10.9.9.9"), &["rdma_bind_addr", "no RDMA device has that address"]);
    refused(&format!("{OURS} -c -C 1 -a no.such.host"), &["no.such.host"]);
    // A port that is taken.
    let holder = EventChannel::open().unwrap().create_id(PortSpace::Tcp).unwrap();
    holder.bind(SocketAddr::new(four, port)).unwrap();
    holder.listen(4).unwrap();
    refused(
        &format!("{OURS} -s -p {port}"),
        &["rdma_bind_addr", "somebody else has that port", "choose another"],
    );
    // A server that says nothing.
    refused(
        &format!("{OURS} -c -C 1 -a {four} -p {port} --timeout 1"),
        &["no RDMA_CM_EVENT_CONNECT_RESPONSE", "1 s"],
    );
    // One that says no. The request of the client before is still there.
    let client = Running::start(&format!("{OURS} -c -C 1 -a {four} -p {port}"));
    for _ in 0..2 {
        let asked = holder.channel().wait(Some(SOON)).unwrap().unwrap();
        let _ = asked.request.unwrap().reject(&[]);
    }
    assert_refused(&client.finish(SOON), "a rejected client", &["RDMA_CM_EVENT_REJECTED, error 28"]);
    drop(holder);
    // Sizes.
    let (served, asked) = pair(&format!("{OURS} -s -S 100"), &format!("{OURS} -c -C 2 -S 200"), four);
    assert_refused(&served, "a server of 100 bytes", &["200 bytes", "100", "-S"]);
    assert!(!asked.status.success());
    // A server that leaves before the connection is there on both sides has rejected it.
    let said = text(&asked.stderr);
    assert!(said.contains("wait for RDMA_WRITE_ADV state 10") || said.contains("REJECTED"), "{said}");
    before.are_back();
}

/// A client that connects as rping does, and then does something else.
struct Odd {
    qp: Qp,
    cq: Cq,
    mr: Mr,
    id: CmId,
}

/// Where in its region the odd client has its text, and its message.
const TEXT: usize = 2048;
const MESSAGE: usize = 1024;

impl Odd {
    fn connect(address: SocketAddr) -> Self {
        let id = EventChannel::open().unwrap().create_id(PortSpace::Tcp).unwrap();
        id.resolve_addr(None, address, SOON).unwrap();
        id.wait_for(CmEventType::AddrResolved, SOON).unwrap();
        id.resolve_route(SOON).unwrap();
        id.wait_for(CmEventType::RouteResolved, SOON).unwrap();
        let ctx = id.context().unwrap();
        let pd = ctx.alloc_pd().unwrap();
        let cq = ctx.create_cq(CqInit::new(16).own_channel()).unwrap();
        let mr = pd.alloc_mr(4096, Access::LOCAL_WRITE | Access::REMOTE_READ).unwrap();
        let mut qp = id.create_qp(&pd, QpInit::rc(&cq, &cq).max_recv_wr(4)).unwrap();
        qp.post_recv(RecvWr::new(1).sge(mr.slice(..64))).unwrap();
        id.connect(&qp, &ConnParam::new()).unwrap();
        id.wait_for(CmEventType::ConnectResponse, SOON).unwrap();
        id.establish(&mut qp).unwrap();
        Self { qp, cq, mr, id }
    }

    /// Sends so many bytes of its message.
    fn say(&mut self, len: usize) {
        let message = self.mr.slice(MESSAGE..MESSAGE + len);
        self.qp.post_send(SendWr::send(2).sge(message)).unwrap();
        self.await_answer();
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

    /// Waits until the server has answered, or has left.
    fn await_answer(&mut self) {
        let start = Instant::now();
        while start.elapsed() < SOON {
            let mut wcs = [Wc::default()];
            let answered =
                !self.cq.wait(&mut wcs, Wait::Events, Some(Duration::from_millis(20))).unwrap().is_empty();
            if answered || self.id.channel().next_event().unwrap().is_some() {
                return;
            }
        }
        panic!("the server neither answers nor leaves");
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
    serving.signal(nix::sys::signal::Signal::SIGTERM);
    serving.finish(SOON);
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn without_the_connection_manager() {
    const NODE: &str = "/dev/infiniband/rdma_cm";
    let number = std::fs::read_to_string("/sys/class/misc/rdma_cm/dev").unwrap();
    std::fs::rename(NODE, "/dev/hidden_cm").unwrap();
    let output = run(&format!("{OURS} -c -C 1 -a {}", ipv4()));
    std::fs::rename("/dev/hidden_cm", NODE).unwrap();
    assert_refused(
        &output,
        OURS,
        &["RDMA CM event channel", NODE, "mknod", &number.trim().replace(':', " ")],
    );
}
