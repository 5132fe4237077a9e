//! The command line where there is no device: help, bad arguments, exit codes, streams that fail.

#![allow(clippy::unwrap_used)] // helpers are no #[test] functions, for which clippy.toml allows it

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

const BIN: &str = env!("CARGO_BIN_EXE_bareverbs");

const USAGE: &str = "\
Usage: ibv_devinfo             print the ca attributes

Options:
  -d, --ib-dev=<dev>     use IB device <dev> (default first device found)
  -i, --ib-port=<port>   use port <port> of IB device (default all ports)
  -l, --list             print only the IB devices names
  -v, --verbose          print all the attributes of the IB device(s)
";

fn run(name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    Command::new(BIN).arg0(name).args(arguments).env_remove("POSIXLY_CORRECT").output().unwrap()
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One line on standard error that begins with the tool's name, nothing on standard output.
fn one_line(output: &Output, name: &str) -> String {
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with(&format!("{name}: ")), "{stderr:?} begins with {name}");
    assert_eq!(stderr.lines().count(), 1, "{stderr:?}");
    assert_eq!(text(&output.stdout), "");
    stderr
}

#[test]
fn help_has_examples_and_goes_to_standard_output() {
    for (line, wanted) in [
        ("--help", "bareverbs devinfo -d rxe0 -v"),
        ("help", "devinfo"),
        ("devices --help", "bareverbs devices --json"),
        ("devinfo --help", "--ib-port <PORT>"),
        ("devinfo -h", "bareverbs devinfo -l"),
        ("link --help", "bareverbs link add rxe0 type rxe netdev eth0"),
        ("link add --help", "link add <NAME> type <TYPE> netdev <NETDEV>"),
    ] {
        let output = run("bareverbs", words(line));
        assert!(output.status.success() && output.stderr.is_empty(), "{line}");
        assert!(text(&output.stdout).contains(wanted), "{line}: {}", text(&output.stdout));
    }
}

#[test]
fn versions_are_told() {
    for (line, name) in [
        ("--version", "bareverbs"),
        ("devinfo --version", "bareverbs-devinfo"),
        ("devices -V", "bareverbs-devices"),
    ] {
        let output = run("bareverbs", words(line));
        assert!(output.status.success());
        assert_eq!(text(&output.stdout), format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn bad_arguments_are_one_line_and_code_2() {
    for (line, name, wanted) in [
        ("", "bareverbs", "--help"),
        ("devinfos", "bareverbs", "devinfos"),
        ("--nope", "bareverbs", "--nope"),
        ("devinfo --nope", "bareverbs devinfo", "--nope"),
        ("devinfo -i 0", "bareverbs devinfo", "0 is out of range: 1 to 255"),
        ("devinfo -i 256", "bareverbs devinfo", "256 is out of range: 1 to 255"),
        ("devinfo -i 1x", "bareverbs devinfo", "not a number"),
        ("devinfo -d", "bareverbs devinfo", "--ib-dev <DEVICE>"),
        ("devices extra", "bareverbs devices", "extra"),
        ("link frob", "bareverbs link", "frob"),
        ("link add rxe0", "bareverbs link", "<NETDEV>"),
        ("link add rxe0 kind rxe netdev eth0", "bareverbs link", "kind"),
        ("link delete", "bareverbs link", "<NAME>"),
    ] {
        let output = run("bareverbs", words(line));
        let stderr = one_line(&output, name);
        assert!(stderr.contains(wanted), "{line}: {stderr}");
        assert_eq!(output.status.code(), Some(2), "{line}");
    }
}

#[test]
fn the_old_name_has_c_s_usage_and_codes() {
    for (line, code, stderr) in [
        ("-i 0", 1, ""),
        ("-i -1", 1, ""),
        ("-x", 255, "ibv_devinfo: invalid option -- 'x'\n"),
        ("-vx", 255, "ibv_devinfo: invalid option -- 'x'\n"),
        ("-d", 255, "ibv_devinfo: option requires an argument -- 'd'\n"),
        ("--ib-d", 255, "ibv_devinfo: option '--ib-dev' requires an argument\n"),
        ("--help", 255, "ibv_devinfo: unrecognized option '--help'\n"),
        ("--ib", 255, "ibv_devinfo: option '--ib' is ambiguous; possibilities: '--ib-dev' '--ib-port'\n"),
        ("operand --list=2", 255, "ibv_devinfo: option '--list' doesn't allow an argument\n"),
    ] {
        let output = run("ibv_devinfo", words(line));
        assert_eq!(text(&output.stdout), USAGE, "{line}");
        assert_eq!(text(&output.stderr), stderr, "{line}");
        assert_eq!(output.status.code(), Some(code), "{line}");
    }
    let output = run("/opt/bin/ibv_devinfo", ["-i", "0"]);
    assert!(text(&output.stdout).starts_with("Usage: /opt/bin/ibv_devinfo  "));
    let output = run("ibv_devinfo", ["-i", "1x"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("\"1x\" is not a number"));
}

#[test]
fn arguments_that_are_not_utf_8_are_no_panic() {
    let odd = OsStr::from_bytes(b"rx\xff0");
    for arguments in
        [vec![OsStr::new("devinfo"), OsStr::new("-d"), odd], vec![OsStr::new("devinfo"), odd], vec![odd]]
    {
        let output = run("bareverbs", &arguments);
        let name = if arguments.len() > 1 { "bareverbs devinfo" } else { "bareverbs" };
        one_line(&output, name);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{}", output.status);
    }
    let output = run("ibv_devinfo", [OsStr::from_bytes(b"-\xff")]);
    assert_eq!(output.status.code(), Some(255));
    let output = run("ibv_devinfo", [OsStr::from_bytes(b"--ib-port=\xff")]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn without_rdma_there_is_one_clear_error() {
    // The library asks netlink, which loads ib_core where it may; what sysfs shows after that is what it found.
    let (ours, old) = (run("bareverbs", ["devices"]), run("ibv_devinfo", ["-l"]));
    if Path::new("/sys/class/infiniband").exists() {
        println!("this machine has an RDMA subsystem: the list must come");
        assert!(ours.status.success() && old.status.success());
        return;
    }
    assert!(one_line(&ours, "bareverbs devices").contains("modprobe"));
    assert_eq!(ours.status.code(), Some(1));
    let stderr = text(&old.stderr);
    assert!(stderr.starts_with("Failed to get IB devices list: ") && stderr.contains("modprobe"), "{stderr}");
    assert_eq!((old.status.code(), stderr.lines().count()), (Some(255), 1));
    assert_eq!(run("ibv_devices", [""; 0]).status.code(), Some(1));
    for name in ["ibv_rc_pingpong", "ibv_xsrq_pingpong", "ibv_asyncwatch"] {
        let output = run(name, [""; 0]);
        assert!(text(&output.stderr).starts_with("Failed to get IB devices list: "), "{name}");
        assert_eq!(output.status.code(), Some(1), "{name}");
    }
    for line in ["devinfo", "devinfo -l", "devinfo --json", "devinfo -d rxe0", "devices --json"] {
        let name = format!("bareverbs {}", words(line)[0]);
        let output = run("bareverbs", words(line));
        assert!(one_line(&output, &name).contains("modprobe"), "{line}");
        assert_eq!(output.status.code(), Some(1), "{line}");
    }
}

#[test]
fn a_reader_that_leaves_is_a_quiet_end() {
    for (name, line) in [("bareverbs", "--help"), ("bareverbs", "--version")] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(BIN);
        command.arg0(name).args(words(line)).stdout(writer);
        let output =
            command.stderr(std::process::Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(text(&output.stderr), "", "{line}");
        assert!(output.status.success(), "{line}: {}", output.status);
    }
    // A bad end stays one.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = Command::new(BIN).arg0("ibv_devinfo").arg("-i0").stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_full_disk_is_an_error() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for (name, line) in [("bareverbs", "--help"), ("ibv_devinfo", "-i 0")] {
        let mut command = Command::new(BIN);
        let output = command.arg0(name).args(words(line)).stdout(full()).output().unwrap();
        assert!(one_line(&output, name).contains("standard output: No space left on device (ENOSPC)"));
        assert_eq!(output.status.code(), Some(1));
    }
    // Nobody can be told, but nothing breaks.
    let output = Command::new(BIN).arg("--nope").stderr(full()).status().unwrap();
    assert_eq!(output.code(), Some(2));
}

/// A folder that is gone when the test is.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    /// Its files by name, with what they hold.
    fn files(&self) -> Vec<(String, String)> {
        let entries = std::fs::read_dir(&self.0).unwrap().map(Result::unwrap);
        entries
            .map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                (name, std::fs::read_to_string(entry.path()).unwrap())
            })
            .collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether this machine has a program; if not, that is said.
fn is_here(name: &str) -> bool {
    let here = Command::new(name).arg("--version").output().is_ok();
    if !here {
        eprintln!("{name} IS NOT ON THIS MACHINE: what needs it is not tried");
    }
    here
}

#[test]
fn man_pages_render_without_a_warning() {
    let folder = Scratch::new("man");
    assert!(
        run("bareverbs", [OsStr::new("man"), OsStr::new("--out"), folder.0.as_os_str()]).status.success()
    );
    let pages = folder.files();
    for wanted in ["bareverbs.1", "bareverbs-doctor.1", "bareverbs-pingpong-rc.1", "ibv_devinfo.1"] {
        assert!(pages.iter().any(|(name, _)| name == wanted), "{wanted}");
    }
    for (name, page) in &pages {
        for part in [".TH ", ".SH NAME", ".SH SYNOPSIS"] {
            assert!(page.contains(part), "{name}: {part}");
        }
    }
    let printed = run("bareverbs", ["man", "ibv_devinfo"]);
    assert!(pages.iter().any(|(_, page)| *page == text(&printed.stdout)));
    if !is_here("groff") {
        return;
    }
    for (name, _) in &pages {
        let output =
            Command::new("groff").args(["-man", "-Tutf8", "-ww"]).arg(folder.0.join(name)).output().unwrap();
        assert_eq!(text(&output.stderr), "", "{name}");
        assert!(output.stdout.len() > 300, "{name}");
    }
}

#[test]
fn bash_completes_with_what_is_generated() {
    let folder = Scratch::new("bash");
    let line = ["completions", "bash", "--out"].map(OsStr::new);
    assert!(run("bareverbs", line.into_iter().chain([folder.0.as_os_str()])).status.success());
    let names = folder.files().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert!(
        names.contains(&"bareverbs".to_owned()) && names.contains(&"ibv_rc_pingpong".to_owned()),
        "{names:?}"
    );
    if !is_here("bash") {
        return;
    }
    for (words, wanted) in [
        ("bareverbs doc", "doctor"),
        ("bareverbs link ad", "add"),
        ("bareverbs doctor --p", "--ping"),
        ("ibv_devinfo --ib-d", "--ib-dev"),
        ("ibv_devinfo --json", ""),
    ] {
        let script = format!(
            "set -eu; source \"$1/{name}\"; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=(); \
             _{name} {name} \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; echo \"${{COMPREPLY[*]-}}\"",
            name = words.split(' ').next().unwrap()
        );
        let output = Command::new("bash").args(["-c", &script, "bash"]).arg(&folder.0).output().unwrap();
        assert_eq!(text(&output.stderr), "", "{words}");
        assert_eq!(text(&output.stdout).trim(), wanted, "{words}");
    }
}

#[test]
fn documents_that_cannot_be_made_are_one_line() {
    let none = run("bareverbs", ["man", "nope"]);
    assert!(one_line(&none, "bareverbs man").contains("bareverbs-devinfo"));
    assert_eq!(none.status.code(), Some(2));
    let shell = run("bareverbs", ["completions", "tcsh"]);
    assert!(one_line(&shell, "bareverbs completions").contains("bash, fish, zsh"));
    assert_eq!(shell.status.code(), Some(2));
    let folder = run("bareverbs", ["man", "--out", "/dev/null/pages"]);
    assert!(one_line(&folder, "bareverbs man").contains("/dev/null/pages: Not a directory (ENOTDIR)"));
    assert_eq!(folder.status.code(), Some(1));
    let full = Command::new(BIN)
        .args(["man"])
        .stdout(File::options().write(true).open("/dev/full").unwrap())
        .output()
        .unwrap();
    assert!(one_line(&full, "bareverbs man").contains("ENOSPC"));
}

#[test]
fn doctor_tells_of_a_machine_without_rdma() {
    let output = run("bareverbs", ["doctor", "--ping"]);
    if Path::new("/sys/class/infiniband").exists() {
        println!("this machine has an RDMA subsystem: what doctor finds is its own affair");
        assert!(matches!(output.status.code(), Some(0..=2)), "{}", output.status);
        return;
    }
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(2), ""));
    let said = text(&output.stdout);
    assert!(
        said.contains("fail     device: ") && said.lines().last().unwrap().contains(" failures, "),
        "{said}"
    );
    let json = text(&run("bareverbs", ["doctor", "--json"]).stdout);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(value["failures"].as_u64().unwrap() >= 2, "{json}");
}
