//! `rping` beside librdmacm's, both ways.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Output;
use std::time::Duration;

use bareverbs::PortSpace;
use nix::sys::signal::Signal;

use crate::faults::Put;
use crate::support::{
    Resources, Running, assert_refused, await_cm_listener, await_gid_of, fresh_port, infiniband, ipv4, ipv6,
    refused, rows, run, text,
};

pub const OURS: &str = "ours rping";
pub const C: &str = "rping";
pub const SOON: Duration = Duration::from_secs(30);

/// What a server says when its client has left at the right time.
pub const SERVER_END: &str = "server DISCONNECT EVENT...\nwait for RDMA_READ_ADV state 10\n";
pub const CLIENT_END: &str = "client DISCONNECT EVENT...\n";
const CLIENT_RACED: &str = "client DISCONNECT EVENT...\nrdma_get_cm_event: Bad file descriptor\n";

pub fn good(output: &Output, line: &str, said: &str) -> String {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    // The C client closes its event channel while a thread of its own may still ask for events. The thread may be gone before
    // it has said its last word, or have one more and end the process, unless the end of `main` is there before.
    let c_client = line.starts_with(C) && said == CLIENT_END;
    let raced = c_client && [Some(0), Some(255)].contains(&output.status.code()) && err == CLIENT_RACED;
    assert!(output.status.success() || raced, "{line}: {:?}\n{out}{err}", output.status);
    assert!(err == said || raced || c_client && err.is_empty(), "{line}: {err:?}");
    out
}

/// Runs a server and a client to their ends.
pub fn pair(server: &str, client: &str, address: impl Display) -> (Output, Output) {
    let port = fresh_port();
    let serving = Running::start(&format!("{server} -p {port} -a {address}"));
    await_cm_listener(port);
    let asked = Running::start(&format!("{client} -p {port} -a {address}")).finish(SOON);
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
    let table = [
        (ipv6(), "-V -C 60"),
        (ipv4(), "-V -C 3 -S 65535"),
        (ipv4(), "-V -C 5 -S 23"),
        (ipv4(), "-V -q -C 5"),
    ];
    for &(ip, options) in rows(&table) {
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

/// The network device that has the guest's address.
fn netdev() -> String {
    let listed = text(&run(&format!("ip -o addr show to {}", ipv4())).stdout);
    listed.split_whitespace().nth(1).unwrap_or_else(|| panic!("nobody has {}", ipv4())).to_owned()
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn link_local_addresses_have_a_scope() {
    let netdev = netdev();
    let listed = text(&run(&format!("ip -o -6 addr show dev {netdev} scope link")).stdout);
    let address = listed.split_whitespace().find_map(|word| Some(word.strip_suffix("/64")?.to_owned()));
    let address = format!("{}%{netdev}", address.unwrap_or_else(|| panic!("no address in {listed}")));
    for (server, client) in [(OURS, OURS), (C, OURS), (OURS, C)] {
        let (served, asked) = pair(&format!("{server} -s"), &format!("{client} -c -V -C 3"), &address);
        good(&served, server, SERVER_END);
        good(&asked, client, CLIENT_END);
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_client_chooses_its_own_address() {
    let (netdev, IpAddr::V4(first)) = (netdev(), ipv4()) else { panic!("{}", ipv4()) };
    let [a, b, c, _] = first.octets();
    let second = Ipv4Addr::new(a, b, c, 77);
    let ip = |what: &str| assert!(run(&format!("ip addr {what} {second}/24 dev {netdev}")).status.success());
    ip("add");
    let _gone = Put(|| ip("delete"));
    if !infiniband() {
        await_gid_of(&format!("0000:0000:0000:0000:0000:ffff:{a:02x}{b:02x}:{c:02x}4d"));
    }
    for client in [OURS, C] {
        let (served, asked) =
            pair(&format!("{OURS} -s --json"), &format!("{client} -c -V -C 3 -I {second}"), first);
        good(&asked, client, CLIENT_END);
        let told: serde_json::Value = serde_json::from_str(&good(&served, OURS, SERVER_END)).unwrap();
        let peer: SocketAddr = told["peer"].as_str().unwrap().parse().unwrap();
        assert_eq!(peer.ip(), second);
    }
}

/// Twenty clients one after another, then so many at once; ours and C's, each to its address.
fn persistent(server: &str, clients: [(&str, IpAddr); 2], at_once: usize) {
    let before = Resources::now();
    let port = fresh_port();
    let serving = Running::start(&format!("{server} -s -P -p {port}"));
    await_cm_listener(port);
    let ask = |(client, ip): (&str, IpAddr), count: u32| {
        Running::start(&format!("{client} -c -V -v -C {count} -p {port} -a {ip}"))
    };
    for n in 0..20 {
        let client = clients[n % 2];
        assert_eq!(good(&ask(client, 3).finish(SOON), client.0, CLIENT_END), lines("ping data", 3));
    }
    let together: Vec<_> = (0..at_once).map(|n| (clients[n % 2].0, ask(clients[n % 2], 50))).collect();
    for (client, running) in together {
        assert_eq!(good(&running.finish(SOON), client, CLIENT_END), lines("ping data", 50));
    }
    serving.signal(Signal::SIGTERM);
    // C's has a thread for each client, whose words may mix.
    let said = text(&serving.finish(SOON).stderr);
    for line in SERVER_END.lines() {
        assert_eq!(said.matches(line).count(), 20 + at_once, "{line}: {said}");
    }
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_persistent_server() {
    persistent(OURS, [(OURS, ipv4()), (C, ipv4())], 8);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_persistent_server_of_both_families() {
    let server = format!("{OURS} -a ::");
    let clients =
        [[(OURS, ipv6()), (C, ipv4())], [(OURS, ipv6()), (C, ipv6())], [(OURS, ipv6()), (OURS, ipv4())]];
    rows(&clients).iter().for_each(|clients| persistent(&server, *clients, 8));
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn cs_persistent_server() {
    // At once is too much for it: it forgets a request when the next comes before it has seen to it.
    persistent(C, [(OURS, ipv4()), (OURS, ipv4())], 0);
}

/// While there is a network device, with a neighbour, that no RDMA device is on.
fn without_rdma(what: impl FnOnce()) {
    let ip = |line: &str| assert!(run(&format!("ip {line}")).status.success(), "ip {line}");
    ip("link add plain0 type dummy");
    ip("addr add 10.66.0.1/24 dev plain0");
    ip("link set dev plain0 up");
    what();
    ip("link delete plain0");
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
    refused(&format!("{OURS} -c -C 1 -a 192.0.2.1"), &["rdma_resolve_addr", "192.0.2.1", "no route"]);
    // The kernel gives the loopback's addresses to any InfiniBand device, and to no other.
    let loopback = if infiniband() { "nobody listens" } else { "no RDMA device is on the way" };
    refused(&format!("{OURS} -c -C 1 -a 127.0.0.1 -p {port}"), &["127.0.0.1", loopback]);
    refused(&format!("{OURS} -c -C 1 -a {four} -I 10.9.9.9"), &["rdma_resolve_addr", "10.9.9.9"]);
    without_rdma(|| {
        let parts = ["RDMA_CM_EVENT_ADDR_ERROR, error -19", "no RDMA device"];
        refused(&format!("{OURS} -c -C 1 -a 10.66.0.2"), &parts);
    });
    refused(&format!("{OURS} -s -a 10.9.9.9"), &["rdma_bind_addr", "no RDMA device has that address"]);
    refused(&format!("{OURS} -c -C 1 -a no.such.host"), &["no.such.host"]);
    // A port that is taken.
    let holder = crate::support::event_channel().create_id(PortSpace::Tcp).unwrap();
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
        let asked = holder.channel().wait(Some(SOON)).unwrap().ready().unwrap();
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
