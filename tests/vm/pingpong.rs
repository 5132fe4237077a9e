//! `pingpong rc` beside `ibv_rc_pingpong`, both ways.

use std::process::Output;

use crate::support::{pair, run, text};

const OURS: &str = "ours pingpong rc -p PORT -g 1";
const C: &str = "ibv_rc_pingpong -p PORT -g 1";

/// Options that change the wire or the queues.
const OPTIONS: [&str; 11] = [
    "-n 100",
    "-n 100 -s 1",
    "-n 100 -s 16",
    "-n 20 -s 65536",
    "-n 3 -s 8388608 -r 4",
    "-n 100 -m 256 -l 3",
    "-n 20 -s 65536 -m 4096",
    "-n 100 -r 1",
    "-n 100 -r 2 -e",
    "-n 100 -e",
    // Of two, the last counts.
    "-n 20 -g 0",
];

fn good(output: &Output, line: &str, options: &str) -> String {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{line} {options}: {:?}\n{out}{err}", output.status);
    assert_eq!(err, "", "{line} {options}");
    out
}

/// The lines with their numbers taken out.
fn shape(out: &str) -> String {
    let word = |word: &str| match word.trim_end_matches(',') {
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

fn together(server: &str, client: &str) {
    for options in OPTIONS {
        let (served, asked) = pair(&format!("{server} {options}"), &format!("{client} {options} 127.0.0.1"));
        let (served, asked) = (good(&served, server, options), good(&asked, client, options));
        assert_eq!(shape(&served), shape(&asked), "{options}");
        let address = |out: &str, side: &str| {
            let line = out.lines().find(|line| line.trim_start().starts_with(side)).unwrap_or_default();
            line.split_once("LID").map(|(_, rest)| rest.to_owned())
        };
        assert_eq!(address(&served, "local"), address(&asked, "remote"));
        assert_eq!(address(&served, "remote"), address(&asked, "local"));
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
    let (_, c) = pair(&format!("{C} -n 50"), &format!("{C} -n 50 127.0.0.1"));
    let (_, ours) = pair(&format!("{OURS} -n 50"), &format!("{OURS} -n 50 127.0.0.1"));
    assert_eq!(shape(&text(&c.stdout)), shape(&text(&ours.stdout)));
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn ways_of_waiting_and_checking() {
    for options in
        ["--poll -n 50", "-n 50 -c -s 100000", "-n 50 -N", "-n 50 -d rxe0 -i 1", "-n 50 --timeout 0"]
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
}

/// What this device cannot serve is refused in the C tool's own words.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn refuses_as_the_c_tool_does() {
    for options in ["-t", "-j", "-O", "-o -j", "-P"] {
        let c = run(&format!("ibv_rc_pingpong -g 1 -p 1 {options}"));
        let ours = run(&format!("ours pingpong rc -g 1 -p 1 {options}"));
        assert_eq!(c.status.code(), ours.status.code(), "{options}");
        let said = text(&ours.stderr);
        assert_eq!(said.lines().count(), 1, "{options}: {said}");
        let words = text(&c.stderr);
        assert!(said.trim_end().ends_with(words.trim_end()), "{options}: {words:?} is not in {said:?}");
    }
}
