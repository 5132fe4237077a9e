//! Guests broken on purpose: doctor names what is broken, says the command that fixes it, and that command fixes it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

use crate::faults::{NetdevDown, NoLink, Put, as_nobody, await_gid, netdev};
use crate::support::{Running, command, run, text};

const DOCTOR: &str = "ours doctor --json --ping";
const NODE: &str = "/dev/infiniband/uverbs0";

/// What doctor says, once as text and once as values.
struct Diagnosis {
    code: i32,
    value: Value,
}

impl Diagnosis {
    fn of(output: &Output) -> Self {
        let (code, said) = (output.status.code(), text(&output.stderr));
        assert_eq!(said, "", "doctor has no other last words than its findings");
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        let count = |level: &str| {
            value["findings"].as_array().unwrap().iter().filter(|finding| finding["level"] == level).count()
        };
        let (failures, warnings) = (count("fail"), count("warning"));
        assert_eq!((&value["failures"], &value["warnings"]), (&failures.into(), &warnings.into()));
        let wanted = if failures > 0 { 2 } else { i32::from(warnings > 0) };
        assert_eq!(code, Some(wanted), "{value:#}");
        Self { code: wanted, value }
    }

    fn now() -> Self {
        Self::of(&run(DOCTOR))
    }

    fn finding(&self, check: &str, object: &str) -> &Value {
        let findings = self.value["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["check"] == check && finding["object"] == object);
        found.unwrap_or_else(|| panic!("no finding {check} {object}: {:#}", self.value))
    }

    /// Asserts a finding that is not well, and gives its fix.
    fn names(&self, check: &str, object: &str, level: &str, reason: &str) -> String {
        let finding = self.finding(check, object);
        assert_eq!(finding["level"], level, "{finding:#}");
        let said = finding["reason"].as_str().unwrap();
        assert!(said.contains(reason), "{check} {object} does not say {reason:?} but {said:?}");
        finding["fix"].as_str().unwrap_or_default().to_owned()
    }

    /// Asserts that nothing but these checks is not well.
    fn only(&self, checks: &[&str]) {
        for finding in self.value["findings"].as_array().unwrap() {
            let known = checks.contains(&finding["check"].as_str().unwrap());
            assert!(known || finding["level"] == "ok", "{finding:#}");
        }
    }
}

/// Runs a fix as a shell would, without one: commands joined by `&&`.
fn fix(commands: &str) {
    for line in commands.split(" && ") {
        let mut words = line.split_whitespace();
        match (words.next(), words.collect::<Vec<_>>().as_slice()) {
            (Some("mkdir"), ["-p", folder]) => std::fs::create_dir_all(folder).unwrap(),
            (Some("rm"), [file]) => std::fs::remove_file(file).unwrap(),
            (Some("chmod"), [mode, file]) => {
                let mode = u32::from_str_radix(mode, 8).unwrap();
                std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            (Some("mknod"), ["-m", mode, file, "c", major, minor]) => {
                use nix::sys::stat::{Mode, SFlag, makedev, mknod};
                let mode = Mode::from_bits_truncate(u32::from_str_radix(mode, 8).unwrap());
                let device = makedev(major.parse().unwrap(), minor.parse().unwrap());
                mknod(*file, SFlag::S_IFCHR, mode, device).unwrap();
                let permissions = std::fs::Permissions::from_mode(mode.bits());
                std::fs::set_permissions(file, permissions).unwrap();
            }
            (Some("bareverbs"), words) => {
                let output = run(&format!("ours {}", words.join(" ")));
                assert!(output.status.success(), "{line}: {}", text(&output.stderr));
            }
            (Some("ip"), words) => {
                let output = Command::new("ip").args(words).output().unwrap();
                assert!(output.status.success(), "{line}: {}", text(&output.stderr));
            }
            other => panic!("{line}: {other:?} is not a command that this test knows"),
        }
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_healthy_guest_has_nothing_to_fix() {
    let diagnosis = Diagnosis::now();
    assert_eq!(diagnosis.code, 0, "{:#}", diagnosis.value);
    assert_eq!((&diagnosis.value["failures"], &diagnosis.value["warnings"]), (&0.into(), &0.into()));
    assert_eq!(diagnosis.finding("gid", "rxe0/1")["gid_index"], 1);
    assert_eq!(diagnosis.finding("ping", "rxe0/1")["level"], "ok");
    for module in ["ib_uverbs", "rdma_rxe", "rdma_ucm"] {
        assert_eq!(diagnosis.finding("module", module)["level"], "ok");
    }
    let plain = run("ours doctor");
    assert!(plain.status.success());
    let plain = text(&plain.stdout);
    assert!(plain.ends_with(" checks: all well\n") && !plain.contains("ping"), "{plain}");
    // The index it names is one that works.
    let (served, asked) = crate::support::pair(
        "ours pingpong rc -g 1 -n 10 -p PORT",
        "ours pingpong rc -g 1 -n 10 -p PORT 127.0.0.1",
    );
    assert!(served.status.success() && asked.status.success());
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn no_device() {
    let _again = NoLink;
    NoLink::remove();
    let diagnosis = Diagnosis::now();
    let command = diagnosis.names("device", "", "fail", "there is none");
    assert_eq!(command, format!("bareverbs link add rxe0 type rxe netdev {}", netdev()));
    diagnosis.only(&["device"]);
    fix(&command);
    await_gid();
    assert_eq!(Diagnosis::now().code, 0);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_node_that_is_missing_wrong_or_closed() {
    let number = std::fs::read_to_string("/sys/class/infiniband_verbs/uverbs0/dev").unwrap();
    let mknod = format!("mknod -m 666 {NODE} c {}", number.trim().replace(':', " "));
    std::fs::rename(NODE, "/dev/hidden").unwrap();
    let _back = Put(|| std::fs::rename("/dev/hidden", NODE).unwrap());

    let missing = Diagnosis::now();
    let command = missing.names("node", NODE, "fail", "missing");
    assert_eq!(command, format!("mkdir -p /dev/infiniband && {mknod}"));
    missing.names("ping", "rxe0/1", "fail", "not tried: the device does not open");
    missing.only(&["node", "ping"]);
    fix(&command);
    assert_eq!(Diagnosis::now().code, 0);

    std::fs::remove_file(NODE).unwrap();
    std::os::unix::fs::symlink("/dev/null", NODE).unwrap();
    let command = Diagnosis::now().names("node", NODE, "fail", "the node is 1:3");
    assert_eq!(command, format!("rm {NODE} && {mknod}"));
    fix(&command);
    assert_eq!(Diagnosis::now().code, 0);

    // A number of old, behind which nothing is any more.
    std::fs::remove_file(NODE).unwrap();
    fix(&format!("mknod -m 666 {NODE} c 231 255"));
    let command = Diagnosis::now().names("node", NODE, "fail", "the node is 231:255");
    assert_eq!(command, format!("rm {NODE} && {mknod}"));
    fix(&command);
    {
        const FOLDER: &str = "/dev/infiniband";
        mount(Some("none"), FOLDER, Some("tmpfs"), MsFlags::MS_NODEV, None::<&str>).unwrap();
        let _off = Put(|| umount(FOLDER).unwrap());
        fix(&mknod);
        let command = Diagnosis::now().names("node", NODE, "fail", "nodev");
        assert!(command.contains("--device") && command.contains("without nodev"), "{command}");
    }
    assert_eq!(Diagnosis::now().code, 0);

    std::fs::set_permissions(NODE, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(Diagnosis::now().code, 0, "root may");
    let nobody = || Diagnosis::of(&Running::spawn(as_nobody(DOCTOR), DOCTOR).finish(Duration::from_secs(30)));
    let closed = nobody();
    let command = closed.names("node", NODE, "fail", "EACCES");
    assert_eq!(command, format!("as root: chmod 666 {NODE}"));
    // What needs no node is still told.
    closed.names("port", "rxe0/1", "ok", "ACTIVE");
    fix(command.strip_prefix("as root: ").unwrap());
    nobody().only(&["memlock"]);

    let cm = std::fs::metadata("/dev/infiniband/rdma_cm").unwrap();
    std::fs::rename("/dev/infiniband/rdma_cm", "/dev/hidden_cm").unwrap();
    let without = Diagnosis::now();
    let command = without.names("node", "/dev/infiniband/rdma_cm", "warning", "missing");
    fix(&command);
    let made = std::fs::metadata("/dev/infiniband/rdma_cm").unwrap();
    std::fs::rename("/dev/hidden_cm", "/dev/infiniband/rdma_cm").unwrap();
    assert_eq!((without.code, made.rdev()), (1, cm.rdev()));
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_memlock_limit_of_64_kib() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
    let limited = |line: &str, as_root: bool| {
        setrlimit(Resource::RLIMIT_MEMLOCK, 65536, hard).unwrap();
        let _back = Put(|| setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard).unwrap());
        let command = if as_root { command(line) } else { as_nobody(line) };
        Diagnosis::of(&Running::spawn(command, line).finish(Duration::from_secs(30)))
    };
    let root = limited(DOCTOR, true);
    assert_eq!(root.code, 0, "no limit holds for root");
    std::fs::set_permissions(NODE, std::fs::Permissions::from_mode(0o666)).unwrap();
    let nobody = limited(DOCTOR, false);
    let command = nobody.names("memlock", "", "warning", "64 KiB");
    assert_eq!(command, "ulimit -l unlimited");
    assert_eq!(nobody.code, 1);
    nobody.only(&["memlock"]);
    assert_eq!(nobody.finding("ping", "rxe0/1")["level"], "ok", "64 bytes fit");
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_port_that_is_down() {
    let _up = NetdevDown::new();
    let diagnosis = Diagnosis::now();
    let command = diagnosis.names("port", "rxe0/1", "fail", "DOWN");
    assert_eq!(command, format!("ip link set dev {} up", netdev()));
    diagnosis.names("ping", "rxe0/1", "fail", "not tried: the port is not active");
    diagnosis.only(&["port", "ping", "gid"]);
    fix(&command);
    await_gid();
    assert_eq!(Diagnosis::now().code, 0);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn no_ipv4_address() {
    let address = "ip address add 10.0.0.1/24 dev";
    fix(&format!("ip address del 10.0.0.1/24 dev {}", netdev()));
    let _back = Put(|| {
        run(&format!("{address} {}", netdev()));
        await_gid();
    });
    let start = std::time::Instant::now();
    // The kernel takes the GID out of the table a moment later.
    let diagnosis = loop {
        let diagnosis = Diagnosis::now();
        if diagnosis.code != 0 {
            break diagnosis;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the GID does not go");
    };
    assert_eq!(diagnosis.code, 1);
    let command = diagnosis.names("gid", "rxe0/1", "warning", "no IPv4 address; index 0 is fe80::");
    diagnosis.only(&["gid"]);
    assert_eq!(diagnosis.finding("ping", "rxe0/1")["level"], "ok", "the link-local GID does for a ping");
    fix(&command.replace("ADDRESS", "10.0.0.1"));
    await_gid();
    assert_eq!(Diagnosis::now().code, 0);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn packets_that_do_not_fit() {
    let set = |mtu: &str| fix(&format!("ip link set dev {} mtu {mtu}", netdev()));
    set("250");
    let _back = Put(|| {
        set("9000");
        run(&format!("ip address add 10.0.0.1/24 dev {}", netdev()));
        await_gid();
    });
    let command = Diagnosis::now().names("mtu", "rxe0/1", "warning", "256 bytes, do not fit into");
    assert_eq!(command, format!("ip link set dev {} mtu 1500", netdev()));
    fix(&command);
    let fixed = Diagnosis::now();
    assert_eq!(fixed.finding("mtu", "rxe0/1")["level"], "ok", "{:#}", fixed.value);
    assert!(fixed.finding("mtu", "rxe0/1")["reason"].as_str().unwrap().contains("1024 bytes active"));
}

/// Netlink and the devices tell what /sys would.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn no_sysfs() {
    let diagnosis = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        umount2("/sys", MntFlags::MNT_DETACH).unwrap();
        let mut command = command(DOCTOR);
        // By write() it would tell nothing of GIDs.
        command.env("BAREVERBS_ABI", "ioctl");
        Diagnosis::of(&Running::spawn(command, DOCTOR).finish(Duration::from_secs(30)))
    });
    let diagnosis = diagnosis.join().unwrap();
    let command = diagnosis.names("mount", "/sys", "warning", "sysfs is not mounted");
    assert_eq!(command, "mount -t sysfs sysfs /sys");
    diagnosis.only(&["mount"]);
    for node in [NODE, "/dev/infiniband/rdma_cm"] {
        assert_eq!(diagnosis.finding("node", node)["level"], "ok");
    }
}

/// In shared mode a device is seen from every network namespace, its addresses are not.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn another_network_namespace() {
    let diagnosis = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        Diagnosis::now()
    });
    let diagnosis = diagnosis.join().unwrap();
    let command = diagnosis.names("gid", "rxe0/1", "warning", "another network namespace");
    assert!(command.contains("ip netns exec"), "{command}");
    assert_eq!(diagnosis.finding("namespace", "")["level"], "ok");
    assert_eq!(
        diagnosis.finding("ping", "rxe0/1")["level"],
        "ok",
        "verbs may use the address: {:#}",
        diagnosis.value
    );
}
