//! Bad arguments, bad peers, bad kernels' answers and devices that go: one clear line, and no hang.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

use bareverbs::netlink::Nldev;
use nix::sys::signal::Signal;

use crate::pingpong::same_beginning;
use crate::support::{
    Running, assert_refused, await_listener, bareverbs, command, fresh_port, pair, refused, run, text,
    under_old_name,
};

const RC: &str = "ours pingpong rc -g 1";
const SOON: Duration = Duration::from_secs(30);

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn arguments() {
    refused("ours devinfo -d nosuch", &["nosuch", "rxe0"]);
    refused(&format!("{RC} -d nosuch"), &["nosuch", "rxe0"]);
    refused(&format!("{RC} -i 2"), &["port 2 is out of range", "only port 1"]);
    refused("ours pingpong rc -g 1024", &["GID index 1024", "0 to 1023"]);
    refused("ours pingpong rc -g 900", &["GID index 900 of port 1 is not in use"]);
    refused("ours pingpong rc", &["needs a GID index", "-g"]);
    refused(&format!("{RC} -s 4294967295"), &["4294967295", "max_msg_sz"]);
    refused(&format!("{RC} -r 4294967295"), &["4294967295", "max_qp_wr"]);
    for zero in ["-s 0", "-n 0", "-r 0", "-m 1000", "-m 0", "-s -1", "-n x", "-p 65536", "-i 0", "-l 16"] {
        let output = run(&format!("{RC} {zero}"));
        let said = text(&output.stderr);
        assert!(output.status.code().is_some_and(|code| code != 0), "{zero}: {:?}", output.status);
        let value = zero.split(' ').nth(1).unwrap();
        assert!(said.contains(&format!("'{value}'")) || said.contains(value), "{zero}: {said}");
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn servers_that_are_not_there() {
    refused(&format!("{RC} no.such.host.invalid"), &["couldn't resolve no.such.host.invalid"]);
    let port = fresh_port();
    refused(&format!("{RC} -p {port} 127.0.0.1"), &[&format!("127.0.0.1:{port}"), "nothing listens there"]);
}

/// Sockets of IPv6 accept clients of IPv4 only if asked to.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn clients_of_both_families_come() {
    const SWITCH: &str = "/proc/sys/net/ipv6/bindv6only";
    std::fs::write(SWITCH, "1").unwrap();
    let _back = Put(|| std::fs::write(SWITCH, "0").unwrap());
    for host in ["127.0.0.1", "::1"] {
        let (served, asked) = pair(&format!("{RC} -p PORT -n 5"), &format!("{RC} -p PORT -n 5 {host}"));
        for output in [served, asked] {
            assert!(output.status.success(), "{host}: {}", text(&output.stderr));
        }
    }
}

/// A peer that accepts and then says `bytes`.
fn server_saying(bytes: &'static [u8], linger: Duration) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut hello = [0; 52];
        stream.read_exact(&mut hello).unwrap();
        stream.write_all(bytes).unwrap();
        std::thread::sleep(linger);
    });
    port
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn servers_that_speak_nonsense() {
    let ask = |bytes, linger, parts: &[&str]| {
        let port = server_saying(bytes, linger);
        refused(&format!("{RC} -p {port} --timeout 1 127.0.0.1"), parts);
    };
    ask(b"", Duration::from_secs(3), &["127.0.0.1 is silent", "0 of 52 bytes"]);
    ask(b"0000:", Duration::ZERO, &["closed the connection after 5 of 52 bytes"]);
    ask(&[b'\n'; 52], Duration::ZERO, &["does not speak the pingpong protocol"]);
    ask(&[b'0'; 4000], Duration::ZERO, &["does not speak the pingpong protocol"]);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn clients_that_speak_nonsense() {
    let tell = |bytes: &[u8], stays: bool, parts: &[&str]| {
        let port = fresh_port();
        let line = format!("{RC} -p {port} --timeout 1");
        let server = Running::start(&line);
        await_listener(port);
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(bytes).unwrap();
        let _stays = stays.then_some(stream);
        assert_refused(&server.finish(SOON), &line, parts);
    };
    tell(b"", true, &["is silent", "0 of 52 bytes"]);
    tell(b"0000:", false, &["after 5 of 52 bytes"]);
    tell(&[0xff; 52], false, &["does not speak the pingpong protocol"]);
    let mut endless = b"0000:000011:000011:00000000000000000000ffff0a000001\0".to_vec();
    endless.extend([b'x'; 4000]);
    tell(&endless, true, &["\"xxxxx\" where \"done\" was due"]);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn peers_that_disagree() {
    let disagree = |server: &str, client: &str| {
        let line = format!("{RC} -p PORT --timeout 3");
        pair(&format!("{line} {server}"), &format!("{line} {client} 127.0.0.1"))
    };
    // Most of the time they wait for what does not come.
    std::thread::scope(|at_once| {
        at_once.spawn(|| {
            let (served, asked) = disagree("-n 50 -s 1000", "-n 50 -s 2000");
            assert_refused(&served, "server -s 1000", &["size (-s)"]);
            assert_refused(&asked, "client -s 2000", &["Failed status"]);
        });
        at_once.spawn(|| {
            let (served, asked) = disagree("-n 50 -s 2000", "-n 50 -s 1000");
            assert_refused(&served, "server -s 2000", &["1000 bytes where 2000 are due", "(-s)"]);
            assert!(!asked.status.success());
        });
        at_once.spawn(|| {
            let (served, asked) = disagree("-n 60", "-n 50");
            assert_refused(&served, "server -n 60", &["(-n)"]);
            assert!(asked.status.success(), "{}", text(&asked.stderr));
            assert!(text(&served.stdout).contains("50 iters in"), "{}", text(&served.stdout));
        });
    });
}

/// Ways of waiting for the peer, which is given up after 2 s.
const WAYS: [&str; 3] = ["--timeout 2", "-e --timeout 2", "--poll --timeout 2"];

/// A server and a client in the midst of a long run.
fn running(options: &str) -> (Running, Running) {
    let port = fresh_port();
    let server = Running::start(&format!("{RC} -p {port} -n 10000000 {options}"));
    await_listener(port);
    let client = Running::start(&format!("{RC} -p {port} -n 10000000 {options} 127.0.0.1"));
    client.await_connected();
    std::thread::sleep(Duration::from_millis(100));
    (server, client)
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_peer_that_is_killed() {
    let runs = WAYS.map(|options| (options, running(options)));
    for (_, (_, client)) in &runs {
        client.signal(Signal::SIGKILL);
    }
    for (options, (server, _)) in runs {
        let output = server.finish(SOON);
        assert_refused(&output, options, &["killed"]);
        assert!(text(&output.stdout).contains("usec/iter"), "{options}: what was measured is not printed");
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn an_interrupt_prints_what_was_measured() {
    for options in ["", "-e", "--poll", "--json"] {
        let (server, client) = running(options);
        client.signal(Signal::SIGINT);
        let output = client.finish(SOON);
        assert_eq!(output.status.code(), Some(130), "{options}");
        let said = text(&output.stderr);
        assert!(
            said.starts_with("interrupted after ") && said.contains(" of 10000000 "),
            "{options}: {said}"
        );
        let out = text(&output.stdout);
        assert!(out.contains(if options == "--json" { "\"complete\": false" } else { "usec/iter" }), "{out}");
        server.signal(Signal::SIGTERM);
        assert_eq!(server.finish(SOON).status.code(), Some(130));
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_reader_that_leaves_ends_no_run() {
    let port = fresh_port();
    let line = format!("{RC} -p {port} -n 100");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut server = command(&line);
    let mut server = server.stdout(writer).spawn().unwrap();
    await_listener(port);
    let asked = run(&format!("{line} --timeout 3 127.0.0.1"));
    assert!(asked.status.success(), "{}", text(&asked.stderr));
    assert!(server.wait().unwrap().success());
}

/// Removes the link, and makes it again at the end.
pub struct NoLink;

impl NoLink {
    pub fn remove() {
        Nldev::open().unwrap().link_del("rxe0").unwrap();
    }
}

impl Drop for NoLink {
    fn drop(&mut self) {
        let _ = Nldev::open().unwrap().link_add("rxe0", "rxe", &netdev());
        await_gid();
    }
}

pub fn netdev() -> String {
    match Path::new("/sys/class/net/dummy0").exists() {
        true => "dummy0".into(),
        false => "eth0".into(),
    }
}

pub fn await_gid() {
    let start = Instant::now();
    let gid = || std::fs::read_to_string("/sys/class/infiniband/rxe0/ports/1/gids/1").unwrap_or_default();
    while !gid().contains("ffff:") {
        assert!(start.elapsed() < SOON, "GID 1 does not come back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn no_device() {
    let _again = NoLink;
    NoLink::remove();
    refused("ours devinfo", &["there is no RDMA device", "rdma link add"]);
    refused(RC, &["no RDMA device"]);
    refused(&format!("{RC} -d rxe0"), &["rxe0"]);
    for line in ["ibv_rc_pingpong -g 1", "ibv_xsrq_pingpong -g 1", "ibv_asyncwatch -d rxe0"] {
        same_beginning(line, &run(line), &under_old_name(line).finish(SOON));
    }
    let none = run("ours devices --json");
    assert!(none.status.success());
    assert_eq!(text(&none.stdout).trim(), "[]");
}

/// rxe waits for its users to close before a link goes: the run must neither hang nor die, and the link must go.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_link_that_is_deleted() {
    let _again = NoLink;
    let runs = WAYS.map(|options| (options, running(options)));
    let deleting = std::thread::spawn(NoLink::remove);
    std::thread::sleep(Duration::from_millis(500));
    for (_, (_, client)) in &runs {
        client.signal(Signal::SIGINT);
    }
    for (options, (server, client)) in runs {
        for (side, output) in [("client", client.finish(SOON)), ("server", server.finish(SOON))] {
            let code = output.status.code();
            assert!(code.is_some(), "{options}: the {side} died: {:?}", output.status);
            assert_ne!(code, Some(0), "{options}: the {side} claims success");
        }
    }
    deleting.join().unwrap();
    assert!(!Path::new("/sys/class/infiniband/rxe0").exists());
}

/// The network device is down as long as this lives.
pub struct NetdevDown;

impl NetdevDown {
    pub fn new() -> Self {
        set_up(false);
        Self
    }
}

impl Drop for NetdevDown {
    fn drop(&mut self) {
        set_up(true);
        await_gid();
    }
}

fn set_up(up: bool) {
    let flags = format!("/sys/class/net/{}/flags", netdev());
    let now = std::fs::read_to_string(&flags).unwrap();
    let now = u32::from_str_radix(now.trim().trim_start_matches("0x"), 16).unwrap();
    const IFF_UP: u32 = 1;
    std::fs::write(&flags, format!("{:#x}", if up { now | IFF_UP } else { now & !IFF_UP })).unwrap();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_port_that_goes_down() {
    let (server, client) = running("--timeout 2");
    {
        let _down = NetdevDown::new();
        for output in [client.finish(SOON), server.finish(SOON)] {
            // What fails first depends on who was to send when the port went.
            let said = text(&output.stderr);
            assert!(said.contains("is the port still up?") || said.contains("the peer"), "{said}");
            assert!(output.status.code().is_some_and(|code| code != 0));
        }
    }
    let (served, _) = pair(&format!("{RC} -p PORT -n 10"), &format!("{RC} -p PORT -n 10 127.0.0.1"));
    assert!(served.status.success(), "{}", text(&served.stderr));
}

/// Something is different as long as this lives.
pub struct Put<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for Put<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn device_nodes() {
    const NODE: &str = "/dev/infiniband/uverbs0";
    let number = std::fs::read_to_string("/sys/class/infiniband_verbs/uverbs0/dev").unwrap();
    {
        std::fs::rename(NODE, "/dev/hidden").unwrap();
        let _back = Put(|| std::fs::rename("/dev/hidden", NODE).unwrap());
        refused(RC, &[NODE, "mknod", &number.trim().replace(':', " ")]);
    }
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(NODE, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o600);
    let _back = Put(move || mode(0o666));
    let output = Running::spawn(as_nobody(RC), RC).finish(SOON);
    assert_refused(&output, RC, &[NODE, "EACCES"]);
}

pub fn as_nobody(line: &str) -> std::process::Command {
    let mut command = command(line);
    command.uid(65534).gid(65534);
    command
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_memlock_limit_that_is_too_low() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions("/dev/infiniband/uverbs0", std::fs::Permissions::from_mode(0o666)).unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
    setrlimit(Resource::RLIMIT_MEMLOCK, 65536, hard).unwrap();
    let line = format!("{RC} -s 1048576");
    let start = |line: &str| Running::spawn(as_nobody(line), line);
    let mut old_name = as_nobody(&line.replace("pingpong rc", ""));
    old_name.arg0("ibv_rc_pingpong");
    let running = [start(&line), start("ibv_rc_pingpong -g 1 -s 1048576"), Running::spawn(old_name, &line)];
    setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard).unwrap();
    let [ours, theirs, old_name] = running.map(|running| running.finish(SOON));
    assert_refused(&ours, &line, &["memlock limit is 65536 bytes", "1048576", "ulimit -l"]);
    same_beginning(&line, &theirs, &old_name);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn names_that_are_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    for before in [["pingpong", "rc", "-d"].as_slice(), &["pingpong", "rc"], &["devinfo", "-d"]] {
        let mut command = command("ours");
        command.args(before).arg(std::ffi::OsStr::from_bytes(b"rx\xff0"));
        let output = Running::spawn(command, "not UTF-8").finish(SOON);
        assert!(
            output.status.code().is_some_and(|code| code != 0 && code < 128),
            "{before:?}: {:?}",
            output.status
        );
        assert!(!output.stderr.is_empty());
    }
    assert!(Path::new(&bareverbs()).exists());
}
