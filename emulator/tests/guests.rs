//! Guests that come and go, on the binary's own socket, by the client's side of vfio-user.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use vfio_user::Client;

/// `VFIO_PCI_CONFIG_REGION_INDEX`.
const CONFIG: u32 = 7;
/// Mellanox, ConnectX-3, as the bytes are in configuration space.
const IDENTITY: [u8; 4] = [0xb3, 0x15, 0x03, 0x10];
/// The command register of configuration space, and its bit that allows accesses to memory.
const COMMAND: u64 = 4;
const MEMORY: u8 = 2;

struct Server(Child);

impl Server {
    fn start(socket: &Path) -> Self {
        let child = serve(socket).spawn().unwrap();
        let start = Instant::now();
        while !socket.exists() {
            assert!(start.elapsed() < Duration::from_secs(10), "no socket");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_connectx3"));
    command.args(["serve", "--strict"]).arg(socket).stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

fn socket(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("hca")
}

fn config<const N: usize>(guest: &mut Client, offset: u64) -> [u8; N] {
    let mut bytes = [0; N];
    guest.region_read(CONFIG, offset, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_guest_goes_and_another_finds_the_card_as_new() {
    let folder = tempfile::tempdir().unwrap();
    let _server = Server::start(&socket(&folder));
    for guest in 1..=3 {
        let mut client = Client::new(&socket(&folder)).unwrap();
        assert_eq!(config(&mut client, 0), IDENTITY, "guest {guest}");
        // What the one before has set is not there any more.
        assert_eq!(config::<1>(&mut client, COMMAND)[0] & MEMORY, 0, "guest {guest}");
        client.region_write(CONFIG, COMMAND, &[MEMORY, 0]).unwrap();
        assert_eq!(config::<1>(&mut client, COMMAND)[0] & MEMORY, MEMORY, "guest {guest}");
        client.shutdown().unwrap();
    }
}

#[test]
fn a_socket_in_use_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let _server = Server::start(&socket(&folder));
    let Output { status, stderr, .. } = serve(&socket(&folder)).output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(!status.success());
    assert!(said.contains(&*socket(&folder).to_string_lossy()) && said.lines().count() == 1, "{said}");
}
