//! `pingpong` beside `ibv_rc_pingpong` and its sisters, both ways.

use std::process::Output;
use std::time::Duration;

use crate::support::{
    Resources, Running, assert_refused, await_listener, fresh_port, pair, refused, rows, run, text,
    under_old_name,
};

const SOON: Duration = Duration::from_secs(30);

const OURS: &str = "ours pingpong rc -p PORT -g GID";
const C: &str = "ibv_rc_pingpong -p PORT -g GID";

/// Options that change the wire or the queues. Messages of 8 MiB go between two guests.
const OPTIONS: [&str; 10] = [
    "-n 100",
    "-n 100 -s 1",
    "-n 100 -s 16",
    "-n 20 -s 65536",
    "-n 100 -m 256 -l 3",
    "-n 20 -s 65536 -m 4096",
    "-n 100 -r 1",
    "-n 100 -r 2 -e",
    "-n 100 -e",
    // Of two, the last counts.
    "-n 20 -g 0",
];

/// Returns what was printed by a run that succeeded.
pub fn good(output: &Output, line: &str, options: &str) -> String {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{line} {options}: {:?}\n{out}{err}", output.status);
    assert_eq!(err, "", "{line} {options}");
    out
}

/// Returns the lines with their numbers taken out.
pub fn shape(out: &str) -> String {
    let word = |word: &str| match word.trim_end_matches(',') {
        // The hexadecimal numbers of xsrq have no prefix.
        hex if matches!(hex.len(), 4 | 6) && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            format!("{} digits", hex.len())
        }
        number if number.parse::<f64>().is_ok() => "N".to_owned(),
        hex if hex.starts_with("0x") => format!("{}x", hex.len()),
        gid if gid.starts_with("::ffff:") || gid.starts_with("fe80::") => "GID".to_owned(),
        other => other.to_owned(),
    };
    let line = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        let words: Vec<String> = line.split(' ').map(word).collect();
        format!("{indent} {}\n", words.join(" "))
    };
    out.lines().map(line).collect()
}

/// Runs all pairs of `rc`, which leave nothing in the kernel.
fn together(server: &str, client: &str) {
    let before = Resources::now();
    for options in rows(&OPTIONS) {
        exchange(server, client, options);
    }
    before.are_back();
}

fn exchange(server: &str, client: &str, options: &str) {
    let (served, asked) = pair(&format!("{server} {options}"), &format!("{client} {options} 127.0.0.1"));
    let (served, asked) = (good(&served, server, options), good(&asked, client, options));
    assert_eq!(shape(&served), shape(&asked), "{options}");
    let addresses = |out: &str, side: &str| -> Vec<String> {
        let lines = out.lines().filter(|line| line.trim_start().starts_with(side));
        // Between the number and the GID of datagrams, one of the lines has another sign.
        lines.filter_map(|line| Some(line.split_once("LID")?.1.replace(": GID", ", GID"))).collect()
    };
    assert!(!addresses(&served, "local").is_empty(), "{served}");
    assert_eq!(addresses(&served, "local"), addresses(&asked, "remote"));
    assert_eq!(addresses(&served, "remote"), addresses(&asked, "local"));
}

/// The other services, and options that change their wire or queues.
const FAMILY: [(&str, &[&str]); 3] = [
    ("uc", &["-n 50 -s 1", "-n 10 -s 65536 -m 4096 -e", "-n 100 -r 2 -l 3"]),
    ("ud", &["-n 50", "-n 50 -s 4096 -e", "-n 100 -s 1 -r 1 -l 3"]),
    ("srq", &["-n 100", "-n 100 -q 1 -e", "-n 100 -e -s 1", "-n 60 -q 3 -r 3 -s 10000 -m 2048 -l 3", "-n 5"]),
];

fn family(ours_serves: bool, ours_asks: bool) {
    let before = Resources::now();
    for (kind, options) in FAMILY {
        let line = |ours| match ours {
            true => format!("ours pingpong {kind} -p PORT -g GID"),
            false => format!("ibv_{kind}_pingpong -p PORT -g GID"),
        };
        for options in rows(options) {
            exchange(&line(ours_serves), &line(ours_asks), options);
        }
    }
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn uc_ud_srq_ours_with_ours() {
    family(true, true);
    for kind in ["uc", "ud", "srq"] {
        let line = format!("ours pingpong {kind} -p PORT -g GID");
        exchange(&line, &line, "-n 50 --poll");
        exchange(&line, &line, "-n 50 -s 900 -c");
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn uc_ud_srq_our_client_with_the_c_server() {
    family(false, true);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn uc_ud_srq_the_c_client_with_our_server() {
    family(true, false);
    for kind in ["uc", "ud", "srq"] {
        let c = format!("ibv_{kind}_pingpong -p PORT -g GID");
        exchange(&format!("ours pingpong {kind} -p PORT -g GID"), &c, "-n 50 -s 3000 -c");
    }
}

/// A C tool's name makes our binary behave as the C tool: usage, complaints, exit codes, and how it runs.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn under_the_old_names() {
    let ours = |line: &str| under_old_name(line).finish(SOON);
    for kind in ["rc", "uc", "ud", "srq", "xsrq"] {
        for options in ["--nope", "-p", "--i=1", "host another", "-p 70000", "-i 0"] {
            // xsrq of C takes port 0, and then does not find it.
            if (kind, options) == ("xsrq", "-i 0") {
                continue;
            }
            let line = format!("ibv_{kind}_pingpong {options}");
            let (theirs, ours) = (run(&line), ours(&line));
            assert_eq!(text(&ours.stdout), text(&theirs.stdout), "{line}");
            assert_eq!(ours.status.code(), theirs.status.code(), "{line}");
            // An option out of range is explained, where C's prints its usage alone.
            if !text(&theirs.stderr).is_empty() {
                assert_eq!(text(&ours.stderr), text(&theirs.stderr), "{line}");
            }
        }
    }
    for options in ["-x", "-h", "--help", "-d"] {
        let line = format!("ibv_asyncwatch {options}");
        let (theirs, ours) = (run(&line), ours(&line));
        assert_eq!((text(&ours.stdout), text(&ours.stderr)), (text(&theirs.stdout), text(&theirs.stderr)));
        assert_eq!(ours.status.code(), theirs.status.code(), "{line}");
    }
}

/// Under the old name, an error begins with the C tool's words.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn errors_under_the_old_names() {
    let in_use = std::net::TcpListener::bind("[::]:0").unwrap();
    let taken = format!("-g GID -p {}", in_use.local_addr().unwrap().port());
    for kind in ["rc", "uc", "ud", "srq"] {
        for options in ["-d nosuch", "-i 2", "-g 1024", "-g GID 127.0.0.1", &taken] {
            let line = format!("ibv_{kind}_pingpong {options}");
            same_beginning(&line, &run(&line), &under_old_name(&line).finish(SOON));
        }
        // Without a GID no peer can be reached, which C's server says when there is one.
        let port = fresh_port();
        let line = format!("ibv_{kind}_pingpong -p {port}");
        let server = Running::start(&line);
        await_listener(port);
        let _client = Running::start(&format!("{line} 127.0.0.1"));
        same_beginning(&line, &server.finish(SOON), &under_old_name(&line).finish(SOON));
    }
    for line in ["ibv_xsrq_pingpong -d nosuch", "ibv_xsrq_pingpong -i 2", "ibv_asyncwatch -d nosuch"] {
        same_beginning(line, &run(line), &under_old_name(line).finish(SOON));
    }
}

pub fn same_beginning(line: &str, theirs: &Output, ours: &Output) {
    let (words, said) = (text(&theirs.stderr), text(&ours.stderr));
    let first = words.lines().next().unwrap();
    assert!(said.starts_with(&format!("{first}: ")), "{line}: {said:?} where C says {first:?}");
    assert_eq!((said.lines().count(), ours.status.code()), (1, theirs.status.code()), "{line}: {said}");
}

/// C's tool says what is bad and takes it for no failure; so does ours under its name.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn bad_data_are_no_failure_under_the_old_names() {
    for kind in ["rc", "uc", "ud"] {
        let [theirs, ours] = [Running::start, under_old_name].map(|start| {
            let line = format!("ibv_{kind}_pingpong -g GID -n 5 -p {}", fresh_port());
            let server = start(&format!("{line} -c"));
            await_listener(line.rsplit(' ').next().unwrap().parse().unwrap());
            good(&run(&format!("{line} 127.0.0.1")), &line, "");
            good(&server.finish(SOON), &line, "-c")
        });
        assert!(theirs.contains("invalid data in page 0\n"), "{theirs}");
        assert_eq!(shape(&ours), shape(&theirs), "{kind}");
    }
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

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn prints_what_the_c_tool_prints() {
    for kind in ["rc", "uc", "ud", "srq"] {
        let both = |line: String| pair(&format!("{line} -n 50"), &format!("{line} -n 50 127.0.0.1"));
        let (_, c) = both(format!("ibv_{kind}_pingpong -p PORT -g GID"));
        let (_, ours) = both(format!("ours pingpong {kind} -p PORT -g GID"));
        assert_eq!(shape(&text(&c.stdout)), shape(&text(&ours.stdout)));
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn ways_of_waiting_and_checking() {
    for options in
        ["--poll -n 50", "-n 50 -c -s 100000", "-n 50 -N", "-n 50 -d DEVICE -i 1", "-n 50 --timeout 0"]
    {
        let (served, asked) = pair(&format!("{OURS} {options}"), &format!("{OURS} {options} localhost"));
        good(&served, OURS, options);
        good(&asked, OURS, options);
    }
    for (server, client) in [(OURS, C), (C, OURS)] {
        let (served, asked) =
            pair(&format!("{server} -n 20 -c -s 20000"), &format!("{client} -n 20 -c -s 20000 127.0.0.1"));
        assert!(!good(&served, server, "-c").contains("invalid data"));
        good(&asked, client, "-c");
    }
}

/// C's tools can only poll or use events; so can ours beside them.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn polling_beside_c() {
    let services = [("rc", ""), ("uc", ""), ("ud", ""), ("srq", ""), ("srq", "-q 1")];
    for (kind, options) in rows(&services) {
        let ours = format!("ours pingpong {kind} -p PORT -g GID --poll");
        let c = format!("ibv_{kind}_pingpong -p PORT -g GID");
        exchange(&ours, &c, &format!("-n 50 {options}"));
        exchange(&c, &ours, &format!("-n 50 {options}"));
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn data_that_were_not_marked_fail_the_check() {
    let (served, asked) = pair(&format!("{OURS} -n 5 -c"), &format!("{OURS} -n 5 127.0.0.1"));
    good(&asked, OURS, "-n 5");
    assert_eq!(served.status.code(), Some(1));
    assert!(text(&served.stdout).contains("invalid data in page 0"));
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn json_says_the_same() {
    let (served, asked) =
        pair(&format!("{OURS} -n 30 -s 100 --json"), &format!("{OURS} -n 30 -s 100 --json 127.0.0.1"));
    let (served, asked) = (good(&served, OURS, "--json"), good(&asked, OURS, "--json"));
    let parse = |out: &str| serde_json::from_str::<serde_json::Value>(out).unwrap();
    let (served, asked) = (parse(&served), parse(&asked));
    assert_eq!(served["local"], asked["remote"]);
    assert_eq!(asked["iterations"], 30);
    assert_eq!(asked["bytes"], 6000);
    assert_eq!(asked["complete"], true);
    assert!(asked["usec_per_iteration"].as_f64().unwrap() > 0.0);
    let line = "ours pingpong srq -p PORT -g GID -n 30 -q 3 --json";
    let (served, asked) = pair(line, &format!("{line} 127.0.0.1"));
    let (served, asked) = (parse(&good(&served, line, "")), parse(&good(&asked, line, "")));
    assert_eq!(served["local"], asked["remote"]);
    assert_eq!((asked["local"].as_array().map(Vec::len), &asked["iterations"]), (Some(3), &30.into()));
}

fn refused_alike(kind: &str, options: &str) {
    let c = run(&format!("ibv_{kind}_pingpong -g GID -p 1 {options}"));
    let ours = run(&format!("ours pingpong {kind} -g GID -p 1 {options}"));
    assert_eq!(c.status.code(), ours.status.code(), "{kind} {options}");
    let said = text(&ours.stderr);
    assert_eq!(said.lines().count(), 1, "{kind} {options}: {said}");
    let words = text(&c.stderr);
    assert!(said.trim_end().ends_with(words.trim_end()), "{kind} {options}: {words:?} is not in {said:?}");
}

/// On devices that have it, each side's; elsewhere it is refused.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn on_demand_paging() {
    let device = crate::support::open().query_device().unwrap();
    let has_it = device.odp.general & 1 == 1;
    assert!(has_it || std::env::var("BAREVERBS_KERNEL").unwrap() != "7.3", "rxe of 7.3 has it");
    // libibverbs gives rxe no prefetch, and write() has no command for it.
    let write = std::env::var("BAREVERBS_ABI").is_ok_and(|abi| abi == "write");
    let warning = "Couldn't prefetch MR(95). Continue anyway\n";
    for (kind, options) in [("rc", "-o"), ("rc", "-o -P"), ("srq", "-o")] {
        if !has_it {
            refused_alike(kind, options);
            continue;
        }
        let ours = format!("ours pingpong {kind} -g GID -n 20 -s 20000 {options} -p PORT");
        let c = format!("ibv_{kind}_pingpong -g GID -n 20 -s 20000 {options} -p PORT");
        for (server, client) in [(&ours, &ours), (&c, &ours), (&ours, &c)] {
            let (served, asked) = pair(server, &format!("{client} 127.0.0.1"));
            for (line, output) in [(server, served), (client, asked)] {
                let warns = options.ends_with("-P") && (write || line == &c);
                assert_eq!(text(&output.stderr), if warns { warning } else { "" }, "{line}");
                assert!(output.status.success() && text(&output.stdout).contains("20 iters"), "{line}");
            }
        }
    }
}

/// What this device cannot serve is refused in the C tool's own words.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn refuses_as_the_c_tool_does() {
    for (kind, options) in [
        ("rc", "-t"),
        ("rc", "-j"),
        ("rc", "-O"),
        ("rc", "-o -j"),
        ("rc", "-P"),
        ("ud", "-s 4097"),
        ("ud", "-s 100000"),
        ("srq", "-q 600"),
        ("srq", "-q 256"),
        ("srq", "-q 17 -r 16"),
    ] {
        refused_alike(kind, options);
    }
    // The errno's number, which ours does not print, is that of an operation that the device does not have.
    let c = run("ibv_xsrq_pingpong -g GID");
    assert_eq!((text(&c.stderr).as_str(), c.status.code()), ("Couldn't Open the XRC Domain 95\n", Some(1)));
    let words = ["Couldn't Open the XRC Domain: ", "rxe0: it has no extended reliable connections (XRC)"];
    refused("ours pingpong xsrq -g GID", &words);
    refused("ours pingpong xsrq -g GID 127.0.0.1", &words);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn peers_of_the_family_that_disagree() {
    let disagree = |kind: &str, server: &str, client: &str| {
        let line = format!("ours pingpong {kind} -p PORT -g GID -n 50 --timeout 2");
        pair(&format!("{line} {server}"), &format!("{line} {client} 127.0.0.1"))
    };
    let (served, asked) = disagree("srq", "-q 4", "-q 3");
    assert_refused(&served, "server -q 4", &["3 queue pairs where 4 are due", "(-q)"]);
    assert_refused(&asked, "client -q 3", &["127.0.0.1"]);
    let (served, asked) = disagree("ud", "-s 1000", "-s 500");
    assert_refused(&served, "server -s 1000", &["500 bytes where 1000 are due", "(-s)"]);
    assert_refused(&asked, "client -s 500", &["nothing has come from the peer for 2 s"]);
    refused("ours pingpong srq -g GID -r 4294967295", &["4294967295", "shared receive queue", "max_srq_wr"]);
}
