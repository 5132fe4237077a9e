//! Guests that connect and disconnect, by the client side of vfio-user on the socket of the binary.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::AsRawFd,
        unix::{fs::FileExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::{
        memfd::{MFdFlags, memfd_create},
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use vfio_user::Client;

/// `VFIO_PCI_CONFIG_REGION_INDEX`.
const CONFIG: u32 = 7;
/// Mellanox, ConnectX-3, as in configuration space.
const IDENTITY: [u8; 4] = [0xb3, 0x15, 0x03, 0x10];
/// The command register of configuration space, and its bit that allows accesses to memory.
const COMMAND: u64 = 4;
const MEMORY: u8 = 2;

struct Server(Child);

impl Server {
    fn start(sockets: &[&Path]) -> Self {
        Self::of(serve(sockets), sockets)
    }

    fn of(mut command: Command, sockets: &[&Path]) -> Self {
        let child = command.spawn().unwrap();
        let start = Instant::now();
        // The file exists a moment before the server listens.
        while !sockets.iter().all(|socket| UnixStream::connect(socket).is_ok()) {
            assert!(start.elapsed() < Duration::from_secs(10), "no socket");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self(child)
    }

    /// Ends it by a signal. Returns its output and exit code.
    fn end(mut self) -> (Vec<String>, Option<i32>) {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).unwrap();
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (said.lines().map(str::to_owned).collect(), self.0.wait().unwrap().code())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(sockets: &[&Path]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_connectx"));
    command.args(["serve", "--strict"]).args(sockets).stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Posts a firmware command with a toggle bit, which must alternate; mailboxes are at 0 and 4096.
fn command(guest: &mut Client, opcode: u32, modifier: u32, toggle: bool) {
    const HCR: u64 = 0x80680;
    let last = 1 << 23 | u32::from(toggle) << 21 | opcode;
    for (at, word) in (HCR..).step_by(4).zip([0, 0, modifier, 0, 4096, 0, last]) {
        guest.region_write(0, at, &word.to_be_bytes()).unwrap();
    }
    let mut status = [0; 4];
    guest.region_read(0, HCR + 24, &mut status).unwrap();
    assert_eq!(status[0], 0, "the command's status");
}

/// Starts the firmware as a driver does: gives it memory (MAP_FA) and runs it (RUN_FW).
fn start_firmware(guest: &mut Client) -> File {
    let memory = File::from(memfd_create("guest", MFdFlags::MFD_ALLOW_SEALING).unwrap());
    memory.set_len(1 << 20).unwrap();
    // One chunk of 64 pages.
    memory.write_all_at(&(0x4_0000_u64 | 6).to_be_bytes(), 8).unwrap();
    guest.dma_map(0, 0, 1 << 20, memory.as_raw_fd()).unwrap();
    command(guest, 0xfff, 1, true);
    command(guest, 0xff6, 0, false);
    memory
}

/// QUERY_FW and QUERY_ADAPTER report firmware and board, and the trace shows both commands.
#[test]
fn options_set_the_identity_and_the_trace() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let socket = socket(&folder);
    let mut serving = serve(&[&socket]);
    serving.args(["--firmware", "2.42.5000", "--board", "MT_1090120019", "--trace"]).arg(&trace);
    let server = Server::of(serving, &[&socket]);
    let mut client = Client::new(&socket).unwrap();
    let memory = start_firmware(&mut client);
    let answer = |client: &mut Client, opcode, toggle| {
        command(client, opcode, 0, toggle);
        let mut bytes = [0; 256];
        memory.read_exact_at(&mut bytes, 4096).unwrap();
        bytes
    };
    // The sub-minor number comes before the minor one, and the bytes of the board's words are swapped.
    let firmware = answer(&mut client, 0x004, true)[2..8].to_vec();
    assert_eq!(firmware, [2, 5000, 42].map(u16::to_be_bytes).concat());
    let board = answer(&mut client, 0x006, false)[0xf0..].to_vec();
    let board: Vec<u8> = board.chunks(4).flat_map(|word| word.iter().rev()).copied().collect();
    assert_eq!(board, b"MT_1090120019\0\0\0");
    drop(client);
    assert_eq!(server.end().1, Some(0));
    let said = std::fs::read_to_string(trace).unwrap();
    let mut lines = said.lines();
    for wanted in [
        "hca: MAP_FA: 64 pages at 0x40000",
        "hca: RUN_FW out 0x1000: OK",
        "hca: QUERY_FW out 0x1000: OK",
        "hca: QUERY_ADAPTER out 0x1000: OK",
    ] {
        assert!(lines.any(|line| line == wanted), "no {wanted:?}, or not in its place, in\n{said}");
    }
}

#[test]
fn invalid_options_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for (option, value) in [
        ("--firmware", "2.9"),
        ("--board", "MT_12345678901234"),
        ("--guid", "xyz"),
        ("--lid", "49152"),
        ("--trace", "/nowhere/trace"),
    ] {
        let output = serve(&[&socket(&folder)]).args([option, value]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(value), "{option} {value}: {said}");
        assert!(!socket(&folder).exists(), "{option} {value}");
    }
}

/// The output of a server that refuses to start.
fn refusal(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success() && said.lines().count() == 1, "{status}: {said}");
    said
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
fn a_card_is_reset_between_guests() {
    let folder = tempfile::tempdir().unwrap();
    let _server = Server::start(&[&socket(&folder)]);
    for guest in 1..=3 {
        let mut client = Client::new(&socket(&folder)).unwrap();
        assert_eq!(config(&mut client, 0), IDENTITY, "guest {guest}");
        // The settings of the previous guest are gone.
        assert_eq!(config::<1>(&mut client, COMMAND)[0] & MEMORY, 0, "guest {guest}");
        client.region_write(CONFIG, COMMAND, &[MEMORY, 0]).unwrap();
        assert_eq!(config::<1>(&mut client, COMMAND)[0] & MEMORY, MEMORY, "guest {guest}");
        client.shutdown().unwrap();
    }
}

#[test]
fn a_socket_in_use_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let _server = Server::start(&[&socket(&folder)]);
    let said = refusal(&mut serve(&[&socket(&folder)]));
    assert!(said.contains(&*socket(&folder).to_string_lossy()) && said.contains("in use"), "{said}");
}

#[test]
fn two_cards_with_one_lid_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let said = refusal(serve(&[&one, &two]).args(["--lid", "9", "--lid", "9"]));
    assert!(said.contains("HCAs 1 and 2 both have LID 9"), "{said}");
    // The second card's default LID is 9 as well.
    let said = refusal(serve(&[&one, &two]).args(["--lid", "9"]));
    assert!(said.contains("LID 9"), "{said}");
    assert!(!one.exists() && !two.exists());
}

#[test]
fn reboots_and_disconnects_are_reported_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[&socket(&folder)]);
    let mut client = Client::new(&socket(&folder)).unwrap();
    // A reset before any driver comes from the guest's firmware and is not reported.
    client.reset().unwrap();
    start_firmware(&mut client);
    client.reset().unwrap();
    client.shutdown().unwrap();
    drop(client);
    // A client that connects without a request is not reported.
    drop(UnixStream::connect(socket(&folder)).unwrap());
    let mut client = Client::new(&socket(&folder)).unwrap();
    assert_eq!(config(&mut client, 0), IDENTITY);
    let (said, code) = server.end();
    let expected =
        ["waiting for a guest", "the guest is reset or reboots", "the guest is gone", "violations: 0"];
    assert_eq!((said.len(), code), (expected.len(), Some(0)), "{said:?}");
    assert!(said.iter().zip(expected).all(|(line, part)| line.contains(part)), "{said:?}");
}

/// A vfio-user message: number, command, size and flags, then bytes.
fn message(command: u16, size: u32, rest: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 0];
    message.extend(command.to_ne_bytes());
    message.extend(size.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(rest);
    message
}

/// `VFIO_USER_VERSION` with version data that are unterminated, malformed or missing; and accesses of 4 GiB.
#[test]
fn a_malformed_client_is_refused_in_one_line_and_others_continue() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let server = Server::start(&[&one, &two]);
    let mut other = Client::new(&two).unwrap();
    let version = [0, 0, 1, 0];
    let nonsense = [
        message(1, 28, &[&version[..], b"none", b"{}{}"].concat()),
        message(1, 16, &version),
        message(1, 20, &version),
        message(1, u32::MAX, &version),
        message(77, 16, &[]),
        message(9, 32, &[&[0; 8][..], &7_u32.to_ne_bytes(), &u32::MAX.to_ne_bytes()].concat()),
    ];
    for message in &nonsense {
        let mut client = UnixStream::connect(&one).unwrap();
        client.write_all(message).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        // The server answers with an error, or not at all.
        let _answer = client.read_to_end(&mut Vec::new());
        assert_eq!(config(&mut other, 0), IDENTITY);
    }
    let mut client = Client::new(&one).unwrap();
    assert_eq!(config(&mut client, 0), IDENTITY);
    let (said, code) = server.end();
    assert_eq!(code, Some(0), "{said:?}");
    assert!(said.iter().all(|line| !line.contains("panicked")), "{said:?}");
    let refused = said.iter().filter(|line| line.contains("hca 1: refused a client")).count();
    // Two lines at the start, one at the end; the three with bad version data in between.
    assert_eq!((refused, said.len()), (3, 6), "{said:?}");
}

/// A file that shrinks under a card would end the process by a signal, and all other cards with it.
#[test]
fn a_guest_whose_memory_can_shrink_is_refused_and_others_continue() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let server = Server::start(&[&one, &two]);
    let mut other = Client::new(&two).unwrap();
    let mut client = Client::new(&one).unwrap();
    let memory = File::from(memfd_create("guest", MFdFlags::empty()).unwrap());
    memory.set_len(1 << 20).unwrap();
    // The client does not look at the status of the reply.
    client.dma_map(0, 0, 1 << 20, memory.as_raw_fd()).unwrap();
    drop(client);
    // Memory that the card has sealed cannot shrink any more.
    let mut client = Client::new(&one).unwrap();
    let memory = start_firmware(&mut client);
    memory.set_len(1 << 12).unwrap_err();
    assert_eq!(config(&mut other, 0), IDENTITY);
    let (said, code) = server.end();
    let refused: Vec<_> = said.iter().filter(|line| line.contains("refused guest memory")).collect();
    assert!(refused.len() == 1 && refused[0].contains("memory-backend-memfd"), "{said:?}");
    assert_eq!(code, Some(0), "{said:?}");
}
