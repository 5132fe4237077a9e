//! `asyncwatch` beside `ibv_asyncwatch`, while a port goes down and comes back.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::faults::NetdevDown;
use crate::support::{command, refused};

/// A watching process and the lines that it prints, as they come.
struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    fn start(line: &str) -> Self {
        let mut child = command(line).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines() {
                let _ = sender.send(line.unwrap_or_default());
            }
        });
        Self { child, lines }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(20)).unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_port_that_goes_down_and_comes_back() {
    let watches = ["ours asyncwatch", "ibv_asyncwatch", "ours asyncwatch -d rxe0 --json"].map(Watch::start);
    let [ours, theirs, json] = &watches;
    for watch in [ours, theirs] {
        let first = watch.next();
        let fd = first.strip_prefix("rxe0: async event FD ").unwrap();
        assert!(fd.parse::<u32>().is_ok(), "{first}");
    }
    // Its first line comes with the first event: it must be there before.
    let opened = || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", json.child.id())).unwrap();
        let links = fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().contains("infinibandevent")).count() > 0
    };
    let start = std::time::Instant::now();
    while !opened() {
        assert!(start.elapsed() < Duration::from_secs(20), "no event file is opened");
        std::thread::yield_now();
    }
    // The kernel tells each watcher from a work item of its own event: two events that come together may be told in either order.
    let down = NetdevDown::new();
    // A port that comes back may get its addresses anew, which is an event too.
    let next = |watch: &Watch| loop {
        let line = watch.next();
        if !line.contains("IBV_EVENT_GID_CHANGE") {
            return line;
        }
    };
    let reported = |event: &str| {
        for watch in [ours, theirs] {
            assert_eq!(next(watch), format!("  event_type {event}, port 1"));
        }
        let object: serde_json::Value = serde_json::from_str(&next(json)).unwrap();
        let name = object["event"]["name"].as_str().unwrap();
        assert!(event.starts_with(&format!("{name} (")) && object["port"] == 1, "{event} {object}");
    };
    reported("IBV_EVENT_PORT_ERR (10)");
    drop(down);
    reported("IBV_EVENT_PORT_ACTIVE (9)");
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_device_that_is_not_there() {
    refused("ours asyncwatch -d nosuch", &["nosuch", "rxe0"]);
}
