//! `pingpong xsrq` beside `ibv_xsrq_pingpong`, with several clients, and how it ends. rxe has no XRC: this is for the card.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{sleep, spawn};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::pingpong::{good, shape};
use crate::support::{Resources, Running, assert_refused, await_listener, fresh_port, text};

const OURS: &str = "ours pingpong xsrq";
const C: &str = "ibv_xsrq_pingpong";
const SOON: Duration = Duration::from_secs(30);

/// A server that waits for so many clients, and its port.
fn server(line: &str, clients: usize) -> (Running, u16) {
    let port = fresh_port();
    let server = Running::start(&format!("{line} -p {port} -c {clients}"));
    await_listener(port);
    (server, port)
}

fn client(line: &str, port: u16) -> Running {
    Running::start(&format!("{line} -p {port} 127.0.0.1"))
}

/// Runs a server and its clients, all at once, to their good ends: what they print.
fn all(serves: &str, ask: &[&str], options: &str) -> (String, Vec<String>) {
    let (server, port) = server(&format!("{serves} {options}"), ask.len());
    let clients: Vec<Running> = ask.iter().map(|line| client(&format!("{line} {options}"), port)).collect();
    let asked = clients.into_iter().zip(ask).map(|(client, line)| good(&client.finish(SOON), line, options));
    let asked = asked.collect();
    (good(&server.finish(SOON), serves, options), asked)
}

/// Where one side of each connection is.
fn addresses<'o>(outs: impl IntoIterator<Item = &'o String>, side: &str) -> Vec<&'o str> {
    let lines = outs.into_iter().flat_map(|out| out.lines()).map(str::trim_start);
    let mut addresses: Vec<&str> = lines.filter_map(|line| line.strip_prefix(side)).collect();
    addresses.sort_unstable();
    addresses
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn several_clients_of_both_kinds() {
    let before = Resources::now();
    for options in ["-n 20", "-n 50 -e", "-n 5 -s 100000 -m 2048 -g GID"] {
        let (served, asked) = all(OURS, &[OURS, C, OURS], options);
        let (served_by_c, asked_of_c) = all(C, &[OURS, C, OURS], options);
        assert_eq!(shape(&served), shape(&served_by_c), "{options}");
        for asked in asked.iter().chain(&asked_of_c) {
            assert_eq!(shape(asked), shape(&asked_of_c[1]), "{options}");
        }
        for (served, asked) in [(&served, &asked), (&served_by_c, &asked_of_c)] {
            assert_eq!(addresses([served], "local:").len(), 3, "{served}");
            assert_eq!(addresses([served], "local:"), addresses(asked, "remote:"), "{options}");
            assert_eq!(addresses([served], "remote:"), addresses(asked, "local:"), "{options}");
        }
    }
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn json_counts_the_clients() {
    let (served, asked) = all(OURS, &[OURS, OURS], "-n 7 -s 100 --poll --json");
    for (out, clients) in [(&served, 2), (&asked[0], 1), (&asked[1], 1)] {
        let said: serde_json::Value = serde_json::from_str(out).unwrap();
        let wanted =
            serde_json::json!({ "clients": clients, "size": 100, "iterations": 7, "complete": true });
        assert_eq!(said, wanted);
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_client_that_comes_early_waits_for_the_others() {
    for way in ["", "-e", "--poll"] {
        let line = format!("{OURS} --timeout 1 {way}");
        let (server, port) = server(&line, 2);
        let early = client(&line, port);
        early.await_connected();
        sleep(Duration::from_millis(2500));
        for running in [client(&line, port), early, server] {
            good(&running.finish(SOON), &line, "");
        }
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_client_that_waits_sees_its_server_go_and_can_be_interrupted() {
    let (server, port) = server(OURS, 3);
    let [left, interrupted] = [client(OURS, port), client(OURS, port)];
    left.await_connected();
    interrupted.await_connected();
    // Connected is a little before signals are watched.
    sleep(Duration::from_millis(500));
    assert_interrupted(interrupted);
    server.signal(Signal::SIGKILL);
    assert_refused(&left.finish(SOON), "client", &["127.0.0.1 closed the connection"]);
}

/// What the failed send tells: of silence nothing is said before 10 s.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_client_that_is_gone_is_told_by_its_failed_completion() {
    let (server, port) = server(OURS, 3);
    let gone = client(OURS, port);
    gone.await_connected();
    gone.signal(Signal::SIGKILL);
    drop(gone);
    let _others = [client(OURS, port), client(OURS, port)];
    assert_refused(&server.finish(SOON), "server", &["Failed status", "the peer was killed"]);
}

fn assert_interrupted(running: Running) {
    running.signal(Signal::SIGINT);
    let output = running.finish(SOON);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(130), "interrupted\n"));
}

/// Stands between a client and a server that listens on `port`: lets them meet, and keeps the client's `END` for itself. Gives
/// the port that it listens on, and in the end both connections.
fn relay(port: u16) -> (u16, Receiver<[TcpStream; 2]>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let door = listener.local_addr().unwrap().port();
    let (ended, end) = channel();
    spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut dest = [0; 66];
        client.read_exact(&mut dest).unwrap();
        server.write_all(&dest).unwrap();
        server.read_exact(&mut dest).unwrap();
        client.write_all(&dest).unwrap();
        client.read_exact(&mut dest[..4]).unwrap();
        assert_eq!(dest[..4], *b"END\0");
        ended.send([client, server]).unwrap();
    });
    (door, end)
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_server_gives_up_a_client_that_does_not_end_and_a_client_has_patience() {
    let (server, port) = server(&format!("{OURS} --timeout 3"), 1);
    let (door, end) = relay(port);
    let client = client(&format!("{OURS} --timeout 1"), door);
    let _connections = end.recv_timeout(SOON).unwrap();
    assert_refused(&server.finish(SOON), "server", &["127.0.0.1 is silent: 0 of 4 bytes came"]);
    assert_interrupted(client);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_server_that_waits_for_an_end_can_be_interrupted_and_a_client_sees_it_go() {
    let (server, port) = server(OURS, 1);
    let (door, end) = relay(port);
    let client = client(OURS, door);
    let connections = end.recv_timeout(SOON).unwrap();
    assert_interrupted(server);
    drop(connections);
    let parts = ["127.0.0.1 closed the connection after 0 of 4 bytes"];
    assert_refused(&client.finish(SOON), "client", &parts);
}
