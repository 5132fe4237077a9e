//! What `rping` prints of its steps, beside librdmacm's; what was measured, of interrupted runs too.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::rping::{C, CLIENT_END, OURS, SERVER_END, SOON, good, pair};
use crate::support::{Resources, Running, await_cm_listener, bareverbs, fresh_port, ipv4, text};

/// Ours under the old name.
pub fn old_name() -> &'static str {
    const LINK: &str = "/tmp/rping";
    if !Path::new(LINK).exists() {
        symlink(bareverbs(), LINK).unwrap();
    }
    LINK
}

/// A line without what is another one in each run: addresses, keys, ports.
fn shape(line: &str) -> String {
    const NAMES: [&str; 5] = ["addr", "laddr", "lkey", "port", "rkey"];
    let mut words: Vec<&str> = line.split(' ').collect();
    for at in 1..words.len() {
        if words[at].starts_with("0x") || NAMES.contains(&words[at - 1]) {
            words[at] = "X";
        }
    }
    words.join(" ")
}

/// The lines of a run with `-d`, sorted: C's threads print them in any order. Two may come or not with either: the last request's
/// completion, and the client's event at the end. C's alone has a thread to tell of.
fn steps(text: &str) -> Vec<String> {
    let mut steps: Vec<String> = text.lines().map(shape).collect();
    steps.retain(|step| {
        !["send completion", "cq_thread started."].contains(&step.as_str()) && !step.contains("DISCONNECTED")
    });
    steps.sort();
    steps
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn steps_are_those_of_the_c_tool() {
    for options in ["-C 2 -v", "-q -V -C 1"] {
        let of = |tool: &str| {
            let (server, client) = (format!("{tool} -d -s {options}"), format!("{tool} -d -c {options}"));
            let (served, asked) = pair(&server, &client, ipv4());
            [good(&served, &server, SERVER_END), good(&asked, &client, CLIENT_END)]
        };
        for (ours, cs) in of(old_name()).iter().zip(of(C)) {
            assert_eq!(steps(ours), steps(&cs), "{options}:\n{ours}\n{cs}");
            assert!(ours.contains("send completion\n"));
        }
    }
}

fn object(output: &Output) -> Value {
    let out = text(&output.stdout);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn json_of_both_sides() {
    let line = |side: &str| format!("{OURS} {side} --json -C 40 -S 100");
    let (served, asked) = pair(&line("-s"), &line("-c"), ipv4());
    for (output, said) in [(served, SERVER_END), (asked, CLIENT_END)] {
        good(&output, OURS, said);
        let told = object(&output);
        assert!(told["iterations"] == 40 && told["size"] == 100 && told["complete"] == true, "{told}");
        let peer: SocketAddr = told["peer"].as_str().unwrap().parse().unwrap();
        assert_eq!(peer.ip(), ipv4());
        let (seconds, usec) =
            (told["seconds"].as_f64().unwrap(), told["usec_per_iteration"].as_f64().unwrap());
        assert!(seconds > 0.0 && (seconds * 1e6 / 40.0 - usec).abs() < 1e-6 * usec, "{told}");
    }
}

/// A server and a client without end, in the midst of it.
fn running(server: &str, client: &str) -> [Running; 2] {
    let port = fresh_port();
    let server = Running::start(&format!("{server} -s -p {port}"));
    await_cm_listener(port);
    let client = Running::start(&format!("{client} -c -p {port} -a {}", ipv4()));
    client.await_connected();
    std::thread::sleep(Duration::from_millis(100));
    [server, client]
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn an_interrupt_prints_what_was_measured() {
    let before = Resources::now();
    let ours = format!("{OURS} --json");
    for (interrupted, signal) in [(0, Signal::SIGTERM), (1, Signal::SIGINT)] {
        let sides = running(&ours, &ours);
        sides[interrupted].signal(signal);
        let outputs = sides.map(|side| side.finish(SOON));
        for output in &outputs {
            let told = object(output);
            assert!(told["iterations"].as_u64().unwrap() > 0, "{told}");
        }
        let output = &outputs[interrupted];
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(130) && said.contains("interrupted\n"), "{said}");
        assert_eq!(object(output)["complete"], false);
    }
    // One that has nobody yet; and the old name, which has no handler.
    let port = fresh_port();
    let server = Running::start(&format!("{ours} -s -p {port}"));
    await_cm_listener(port);
    server.signal(Signal::SIGINT);
    let output = server.finish(SOON);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(130), String::new()));
    for tool in [old_name(), C] {
        let [server, client] = running(tool, tool);
        client.signal(Signal::SIGINT);
        assert_eq!(client.finish(SOON).status.signal(), Some(Signal::SIGINT as i32), "{tool}");
        drop(server);
    }
    before.are_back();
}
