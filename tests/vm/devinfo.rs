//! In a guest: devices and devinfo under their old names against the C tools, and what they cost.
//!
//! `cargo xtask test` runs this in a guest that has rxe0, the C tools and strace, once for each command encoding.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bareverbs::netlink::Nldev;
use serde_json::Value;

const NODE: &str = "/dev/infiniband/uverbs0";

fn bin() -> PathBuf {
    std::env::var_os("BAREVERBS_BIN").map_or_else(|| "/bin/bareverbs".into(), PathBuf::from)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs our tool, under our name or under an old one.
fn ours(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(bin());
    command.arg0(name).args(arguments);
    command
}

fn theirs(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).env("LC_ALL", "C");
    command
}

fn output(mut command: Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Both outputs, of which standard output and exit code must be the same.
fn alike(name: &str, arguments: &[&str], change: impl Fn(&mut Command)) -> (Output, Output) {
    let (mut theirs, mut ours) = (theirs(name, arguments), ours(name, arguments));
    change(&mut theirs);
    change(&mut ours);
    let (theirs, ours) = (output(theirs), output(ours));
    let shown = format!("{name} {}", arguments.join(" "));
    assert_eq!(text(&ours.stdout), text(&theirs.stdout), "{shown}: stdout; stderr: {}", text(&ours.stderr));
    assert_eq!(ours.status, theirs.status, "{shown}");
    (theirs, ours)
}

/// The same to the byte, standard error included.
fn same(name: &str, arguments: &[&str]) {
    let (theirs, ours) = alike(name, arguments, |_| {});
    assert_eq!(text(&ours.stderr), text(&theirs.stderr), "{name} {}: stderr", arguments.join(" "));
}

/// Standard error has C's words first, and then the cause, on one line.
fn same_with_cause(name: &str, arguments: &[&str], cause: &str, change: impl Fn(&mut Command)) {
    let (theirs, ours) = alike(name, arguments, change);
    let (theirs, ours) = (text(&theirs.stderr), text(&ours.stderr));
    assert!(ours.starts_with(theirs.trim_end()), "{ours:?} after {theirs:?}");
    assert!(ours.contains(cause) && ours.lines().count() == 1, "{ours:?} with {cause:?}");
}

/// Undoes a change of the guest when its test ends, however it ends.
struct Undo<F: FnMut()>(F);

impl<F: FnMut()> Drop for Undo<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn output_is_that_of_the_c_tools() {
    for arguments in [
        "",
        "-v",
        "-l",
        "-d rxe0",
        "-drxe0 -v",
        "--ib-dev=rxe0",
        "--ib-dev rxe0 --verb",
        "-d nosuch",
        "-i 1",
        "-i 2",
        "-vi1",
        "-i 0x1 -v",
        "-i 01",
        "-i 77",
        "-i 0",
        "-i -1",
        "-l -i 0",
        "-i 0 -l",
        "-x",
        "-vx",
        "--nope",
        "--ib=1",
        "--list=1",
        "-d",
        "-i",
        "--ib-port",
        "operand -d rxe0",
        "-d nosuch -l",
        "-- -x",
        "-d nosuch -d rxe0",
        "-d nosuch -i 2",
    ] {
        same("ibv_devinfo", &arguments.split_whitespace().collect::<Vec<_>>());
    }
    same("ibv_devinfo", &["-d", ""]);
    same("ibv_devices", &[]);
    same("ibv_devices", &["-x", "whatever"]);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn our_names_print_the_same() {
    for (old, new, arguments) in
        [("ibv_devices", "devices", ""), ("ibv_devinfo", "devinfo", ""), ("ibv_devinfo", "devinfo", "-v")]
    {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let theirs = output(theirs(old, &arguments));
        let ours = output(ours("bareverbs", &[&[new], &arguments[..]].concat()));
        assert_eq!(text(&ours.stdout), text(&theirs.stdout));
        assert!(ours.status.success() && ours.stderr.is_empty(), "{}", text(&ours.stderr));
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn two_devices_come_in_c_s_order() {
    let mut nldev = Nldev::open().unwrap();
    nldev.link_add("a_second_rxe", "rxe", "lo").unwrap();
    let _undo = Undo(|| Nldev::open().unwrap().link_del("a_second_rxe").unwrap());
    for arguments in [&[][..], &["-v"], &["-l"], &["-d", "a_second_rxe", "-v"], &["-i", "2"]] {
        same("ibv_devinfo", arguments);
    }
    same("ibv_devices", &[]);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn no_device_is_told_as_c_tells_it() {
    let netdev = netdev();
    Nldev::open().unwrap().link_del("rxe0").unwrap();
    let _undo = Undo(|| {
        Nldev::open().unwrap().link_add("rxe0", "rxe", &netdev).unwrap();
        await_gids();
    });
    for arguments in [&[][..], &["-v"], &["-l"], &["-d", "rxe0"]] {
        same("ibv_devinfo", arguments);
    }
    same("ibv_devices", &[]);
    let ours = output(ours("bareverbs", &["devinfo"]));
    let stderr = text(&ours.stderr);
    assert!(
        !ours.status.success()
            && stderr.starts_with("bareverbs devinfo: ")
            && stderr.contains("rdma link add"),
        "{stderr}"
    );
}

/// The network device under rxe0.
fn netdev() -> String {
    fs::read_to_string("/sys/class/infiniband/rxe0/parent").unwrap().trim().to_owned()
}

/// The kernel fills the GID table of a new link a moment later; other tests compare it.
fn await_gids() {
    for _ in 0..500 {
        let gid = fs::read_to_string("/sys/class/infiniband/rxe0/ports/1/gids/1").unwrap_or_default();
        if gid.contains(":ffff:") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("rxe0 has no IPv4 GID after 5 s");
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_missing_node_hides_the_device_and_is_named() {
    let aside = "/dev/infiniband/aside";
    fs::rename(NODE, aside).unwrap();
    let _undo = Undo(|| fs::rename(aside, NODE).unwrap());
    same("ibv_devices", &[]);
    same("ibv_devinfo", &[]);
    same("ibv_devinfo", &["-l"]);
    same_with_cause("ibv_devinfo", &["-d", "rxe0"], "mknod", |_| {});

    let number = fs::read_to_string("/sys/class/infiniband_verbs/uverbs0/dev").unwrap();
    for arguments in [&["devinfo"][..], &["devinfo", "-d", "rxe0"], &["devices"]] {
        let ours = output(ours("bareverbs", arguments));
        let stderr = text(&ours.stderr);
        assert!(stderr.contains(number.trim()) && stderr.contains("ENOENT"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert_eq!(ours.status.success(), arguments == ["devices"]);
    }
    let described = json(&["devices", "--json"]);
    assert_eq!(described[0]["node"]["path"], NODE);
    assert!(described[0]["obstacle"].as_str().is_some_and(|why| why.contains("ENOENT")), "{described}");
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_forbidden_node_is_eacces() {
    const NOBODY: u32 = 65534;
    let mode = fs::metadata(NODE).unwrap().permissions();
    fs::set_permissions(NODE, PermissionsExt::from_mode(0o600)).unwrap();
    let _undo = Undo(|| fs::set_permissions(NODE, mode.clone()).unwrap());
    same_with_cause("ibv_devinfo", &[], "EACCES", |command| {
        command.uid(NOBODY);
    });
    let mut command = ours("bareverbs", &["devinfo"]);
    command.uid(NOBODY);
    let ours = output(command);
    let stderr = text(&ours.stderr);
    assert!(
        ours.status.code() == Some(1)
            && stderr.starts_with("bareverbs devinfo: ")
            && stderr.contains("EACCES"),
        "{stderr}"
    );
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn bad_wishes_get_one_clear_line() {
    for (arguments, words) in [
        (&["devinfo", "-i", "2"][..], "rxe0: port 2 is out of range: it has only port 1"),
        (&["devinfo", "-d", "nosuch"], "there are: rxe0"),
        (&["devinfo", "-i", "1x"], "1x"),
    ] {
        let ours = output(ours("bareverbs", arguments));
        let stderr = text(&ours.stderr);
        assert!(!ours.status.success() && ours.stdout.is_empty());
        assert!(stderr.starts_with("bareverbs devinfo: ") && stderr.contains(words), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    let mut command = ours("bareverbs", &["devinfo"]);
    command.env("BAREVERBS_ABI", "mmap");
    let stderr = text(&output(command).stderr);
    assert!(stderr.contains("auto, ioctl, write") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_reader_that_leaves_is_no_error_and_a_full_disk_is_one() {
    for name in ["ibv_devinfo", "ibv_devices"] {
        let mut command = ours(name, &["-v"]);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let left = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert!(left.status.success() && left.stderr.is_empty(), "{}: {}", left.status, text(&left.stderr));

        let mut command = ours(name, &["-v"]);
        command.stdout(File::options().write(true).open("/dev/full").unwrap());
        let full = output(command);
        assert_eq!(full.status.code(), Some(1));
        assert!(text(&full.stderr).contains("ENOSPC"), "{}", text(&full.stderr));
    }
}

fn json(arguments: &[&str]) -> Value {
    let ours = output(ours("bareverbs", arguments));
    assert!(ours.status.success(), "{}", text(&ours.stderr));
    serde_json::from_slice(&ours.stdout).unwrap()
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn json_says_what_the_text_says() {
    let devices = json(&["devices", "--json"]);
    assert_eq!(devices.as_array().map(Vec::len), Some(1));
    assert_eq!(devices[0]["name"], "rxe0");
    assert_eq!(devices[0]["driver"]["name"], "rxe");
    assert_eq!(devices[0]["node"]["path"], NODE);
    assert!(devices[0]["obstacle"].is_null());

    let devinfo = json(&["devinfo", "--json"]);
    let verbose = text(&output(ours("ibv_devinfo", &["-v"])).stdout);
    let value = |label: &str| {
        let line = verbose.lines().find_map(|line| line.trim_start().strip_prefix(label)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    let device = &devinfo[0];
    for label in ["node_guid", "sys_image_guid"] {
        assert_eq!(device[label], value(label));
    }
    for label in
        ["max_qp", "max_qp_wr", "max_sge", "max_cqe", "max_srq_wr", "vendor_part_id", "num_comp_vectors"]
    {
        assert_eq!(device[label].to_string(), value(&format!("{label}:")), "{label}");
    }
    let port = &device["ports"][0];
    let state = format!("{} ({})", port["state"]["name"].as_str().unwrap(), port["state"]["value"]);
    assert_eq!(state, value("state:"));
    let gids = port["gids"].as_array().unwrap();
    assert_eq!(gids.len(), verbose.matches("GID[").count());
    for gid in gids {
        assert!(verbose.contains(gid["gid"].as_str().unwrap()), "{gid}");
    }
    assert_eq!(json(&["devinfo", "-l", "--json"]), serde_json::json!(["rxe0"]));
}

/// System calls of a run of ours, `execve` and `exit_group` included.
fn system_calls(name: &str, arguments: &[&str]) -> usize {
    let folder = Path::new("/tmp/vm_devinfo");
    fs::create_dir_all(folder).unwrap();
    let link = folder.join(name);
    let _ = fs::remove_file(&link);
    symlink(bin(), &link).unwrap();
    let log = folder.join("strace");
    let mut words = vec![OsStr::new("-qq"), OsStr::new("-o"), log.as_os_str(), link.as_os_str()];
    words.extend(arguments.iter().map(OsStr::new));
    let run = Command::new("strace").args(words).output().unwrap();
    assert!(run.status.success(), "strace {name}: {}", text(&run.stderr));
    let calls = fs::read_to_string(&log).unwrap();
    let count = calls.lines().count();
    println!("{name} {}: {count} system calls, of which the first:", arguments.join(" "));
    calls.lines().take(60).for_each(|call| println!("{call}"));
    count
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn system_calls_are_few() {
    let devices = system_calls("ibv_devices", &[]);
    let ours = system_calls("bareverbs", &["devices"]);
    assert!(devices.max(ours) <= 30, "devices: {devices}, {ours}");
    let devinfo = system_calls("ibv_devinfo", &[]);
    assert!(devinfo <= 40, "devinfo: {devinfo}");
    let verbose = system_calls("ibv_devinfo", &["-v"]);
    // There is no legacy command for the GID table: with write() alone its 1024 entries are read from sysfs, file by file. A
    // build with assertions makes five calls for each, since std checks a descriptor before it closes it.
    let most = if std::env::var("BAREVERBS_ABI").as_deref() == Ok("write") { 5 * 1024 + 100 } else { 60 };
    assert!(verbose <= most, "devinfo -v: {verbose}");
}
