//! Links made, shown and removed by our tool, beside iproute2's `rdma`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use bareverbs::netlink::Nldev;
use serde_json::Value;

use crate::faults::{Put, as_nobody};
use crate::support::{Running, assert_refused, command, refused, run, text};

/// Runs a command that must succeed.
fn done(line: &str) -> String {
    let output = run(line);
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The links of ours and of iproute2 are the same to the byte, and the same objects.
fn same_as_iproute2() {
    assert_eq!(done("ours link"), done("rdma link"));
    assert_eq!(done("ours link show"), done("rdma link"));
    let objects = |line| serde_json::from_str::<Value>(&done(line)).unwrap();
    assert_eq!(objects("ours link --json"), objects("rdma -j link"));
}

/// A second network device, and no rxe1 on it any more when this is dropped.
fn second_netdev() -> Put<impl FnMut()> {
    done("ip link add dummy1 type dummy");
    Put(|| {
        run("rdma link delete rxe1");
        run("ip link delete dummy1");
    })
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn links_are_made_shown_and_removed() {
    let _gone = second_netdev();
    same_as_iproute2();
    assert_eq!(done("ours link add rxe1 type rxe netdev dummy1"), "");
    same_as_iproute2();
    assert_eq!(done("ours link show rxe1/1"), done("rdma link show rxe1/1"));
    assert_eq!(done("ours link show rxe1"), done("ours link show rxe1/1"));
    assert!(
        done("ours link show rxe1")
            .starts_with("link rxe1/1 state DOWN physical_state DISABLED netdev dummy1")
    );
    assert!(done("ours devices").contains("rxe1"));
    assert_eq!(done("ours link delete rxe1"), "");
    same_as_iproute2();
    refused("ours link show rxe1", &["\"rxe1\"", "no RDMA device has that name", "rxe0"]);
    refused("ours link show rxe0/2", &["rxe0/2", "has 1 port"]);
    assert_eq!(run("ours link show rxe0/x").status.code(), Some(2));
    // What others made can be removed too.
    done("rdma link add rxe1 type rxe netdev dummy1");
    same_as_iproute2();
    done("ours link del rxe1");
    same_as_iproute2();
}

/// A device that goes between the list and the question about its port is no reason to tell nothing of the others.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_link_that_goes_meanwhile_is_left_out() {
    let _gone = second_netdev();
    let churn = std::thread::spawn(|| {
        let mut nldev = Nldev::open().unwrap();
        for _ in 0..100 {
            nldev.link_add("rxe1", "rxe", "dummy1").unwrap();
            nldev.link_del("rxe1").unwrap();
        }
    });
    let mut lists = 0;
    while !churn.is_finished() {
        assert!(done("ours link").contains("link rxe0/1 "));
        lists += 1;
    }
    churn.join().unwrap();
    assert!(lists > 10, "only {lists} lists");
}

/// As in a container that was given the second device alone.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn the_first_device_with_a_node_is_the_default() {
    const NODE: &str = "/dev/infiniband/uverbs0";
    let _gone = second_netdev();
    done("ours link add rxe1 type rxe netdev dummy1");
    refused("ours pingpong rc -i 2", &["rxe0", "port 2"]);
    std::fs::rename(NODE, "/dev/hidden").unwrap();
    let _back = Put(|| std::fs::rename("/dev/hidden", NODE).unwrap());
    refused("ours pingpong rc -i 2", &["rxe1", "port 2"]);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn what_the_kernel_refuses_is_explained() {
    let _gone = second_netdev();
    refused("ours link add rxe1 type rxe netdev nosuch", &["rxe1", "ENODEV", "network device nosuch"]);
    refused("ours link add rxe0 type rxe netdev dummy1", &["rxe0", "ENFILE", "has that name already"]);
    // The module of siw is not in the guest; nothing makes links of type nosuch anywhere.
    refused("ours link add siw0 type siw netdev dummy1", &["siw0", "EINVAL", "modprobe siw"]);
    refused("ours link add x type nosuch netdev dummy1", &["EINVAL", "links of type nosuch", "rdma_rxe"]);
    refused("ours link add a/b type rxe netdev dummy1", &["a/b", "has a '/' in it"]);
    refused("ours link add rxe1 type rxe netdev a-name-of-20-letters", &["15 at most"]);
    refused(&format!("ours link add {} type rxe netdev dummy1", "x".repeat(64)), &["64 bytes, 63 at most"]);
    for words in
        [&["add", "NAME", "type", "rxe", "netdev", "dummy1"][..], &["delete", "NAME"], &["show", "NAME"]]
    {
        let name = |word| if word == "NAME" { OsStr::from_bytes(b"x\xff") } else { OsStr::new(word) };
        let mut command = command("ours link");
        command.args(words.iter().copied().map(name));
        let output = Running::spawn(command, "ours link").finish(Duration::from_secs(30));
        assert_refused(&output, "ours link", &["\"x\\xFF\": the name is not UTF-8"]);
    }
    refused("ours link delete nosuch", &["nosuch", "no RDMA device has that name"]);
    done("ours link add rxe1 type rxe netdev dummy1");
    refused("ours link add rxe2 type rxe netdev dummy1", &["rxe2", "EEXIST", "dummy1 carries a device"]);
    for line in ["ours link add rxe2 type rxe netdev dummy1", "ours link delete rxe1"] {
        let output = Running::spawn(as_nobody(line), line).finish(Duration::from_secs(30));
        assert_refused(&output, line, &["EPERM", "CAP_NET_ADMIN"]);
    }
    assert!(done("ours link").contains("rxe1/1"));
    let nobody = Running::spawn(as_nobody("ours link"), "ours link").finish(Duration::from_secs(30));
    assert_eq!(text(&nobody.stdout), done("rdma link"), "showing takes no privilege");
}
