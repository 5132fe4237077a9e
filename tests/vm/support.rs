//! Processes with a time limit, pairs of them, and queue pairs connected to each other.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use bareverbs::netlink::{DriverId, Nldev};
use bareverbs::{
    Access, ConnectAttr, Context, Cq, CqInit, Device, EventChannel, Gid, Lid, LinkLayer, Mr, OpenOptions, Pd,
    PortNum, Qp, QpInit, Wait, Waited, Wc,
};

/// How devices are opened: with the command interface that the test run is about, `BAREVERBS_ABI`.
pub fn options() -> OpenOptions {
    let encoding = std::env::var("BAREVERBS_ABI").unwrap_or_else(|_| "auto".into());
    OpenOptions::new().encoding(encoding.parse().unwrap())
}

/// Opens the device under test.
pub fn open() -> Context {
    options().open(&Device::first().unwrap()).unwrap()
}

/// Opens the connection manager.
pub fn event_channel() -> EventChannel {
    EventChannel::open_with(options()).unwrap()
}

/// Whether the device under test is rxe's.
pub fn is_rxe() -> bool {
    Device::first().unwrap().info().driver == DriverId::RXE
}

/// Whether the device is on InfiniBand, where peers have LIDs, and addresses are those of IP over InfiniBand.
pub fn infiniband() -> bool {
    let port = open().query_port(PortNum::ONE).unwrap();
    port.link_layer == LinkLayer::INFINIBAND
}

/// The index of the GID that connections are made with: the IPv4 one of rxe, the only one of an InfiniBand card.
pub fn gid_index() -> u32 {
    if infiniband() { 0 } else { 1 }
}

/// A multicast group that only this number uses. On InfiniBand its LID is chosen here too.
pub fn group(number: u8) -> (Gid, Lid) {
    if !infiniband() {
        return (Ipv4Addr::new(239, 7, 7, number).to_ipv6_mapped().into(), Lid(0));
    }
    let mut gid = [0; 16];
    gid[..4].copy_from_slice(&[0xff, 0x12, 0x40, 0x1b]);
    gid[15] = number;
    (Gid(gid), Lid(0xc100 + u16::from(number)))
}

/// The rows of a table of options that this run uses: all of them, or only the first where the host asks for a brief run. Another kernel
/// has them all then.
pub fn rows<T>(table: &[T]) -> &[T] {
    if std::env::var_os("BAREVERBS_BRIEF").is_some() { &table[..1] } else { table }
}

/// The binary under test.
pub fn bareverbs() -> String {
    std::env::var("BAREVERBS_BIN").unwrap_or_else(|_| "/bin/bareverbs".into())
}

/// A TCP port that no test has used.
pub fn fresh_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A command line in words; `ours` stands for the binary under test, `DEVICE` and `GID` for the device's name and the index of
/// its GID.
pub fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let program = match words.next() {
        Some("ours") => bareverbs(),
        Some(program) => program.to_owned(),
        None => panic!("an empty command line"),
    };
    let mut command = Command::new(program);
    let word = |word: &str| match word {
        "DEVICE" => Device::first().unwrap().name().to_owned(),
        "GID" => gid_index().to_string(),
        other => other.to_owned(),
    };
    command.args(words.map(word)).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running process that is killed when nobody waits for it any more.
pub struct Running(Option<Child>, String);

impl Running {
    pub fn start(line: &str) -> Self {
        Self::spawn(command(line), line)
    }

    pub fn spawn(mut command: Command, line: &str) -> Self {
        Self(Some(command.spawn().unwrap_or_else(|e| panic!("{line}: {e}"))), line.to_owned())
    }

    fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// Waits until it has a queue pair that can send.
    pub fn await_connected(&self) {
        let (start, pid) = (Instant::now(), format!(" pid {} ", self.pid()));
        loop {
            let listed = text(&run("rdma resource show qp").stdout);
            if listed.lines().any(|line| line.contains("state RTS") && line.contains(&pid)) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{}: no connection in\n{listed}", self.1);
        }
    }

    /// Waits for the end, which must come within `limit`.
    pub fn finish(mut self, limit: Duration) -> Output {
        let mut child = self.0.take().unwrap();
        let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let read_out = std::thread::spawn(move || read_all(&mut out));
        let read_err = std::thread::spawn(move || read_all(&mut err));
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > limit {
                child.kill().unwrap();
                child.wait().unwrap();
                let (out, err) = (read_out.join().unwrap(), read_err.join().unwrap());
                panic!("{} still ran after {limit:?}:\n{}{}", self.1, text(&out), text(&err));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let (stdout, stderr) = (read_out.join().unwrap(), read_err.join().unwrap());
        assert!(!text(&stderr).contains("panicked at"), "{}: {}", self.1, text(&stderr));
        Output { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn read_all(from: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    bytes
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command to its end.
pub fn run(line: &str) -> Output {
    Running::start(line).finish(Duration::from_secs(60))
}

/// The same with our binary under the C tool's name, which the line begins with.
pub fn under_old_name(line: &str) -> Running {
    let (name, rest) = line.split_once(' ').unwrap();
    let mut command = command(&format!("ours {rest}"));
    command.arg0(name);
    Running::spawn(command, line)
}

/// Runs a command that must fail, with one line on stderr that has all of `parts`.
pub fn refused(line: &str, parts: &[&str]) {
    assert_refused(&run(line), line, parts);
}

pub fn assert_refused(output: &Output, line: &str, parts: &[&str]) {
    let said = text(&output.stderr);
    assert!(!output.status.success(), "{line} succeeded: {}", text(&output.stdout));
    assert!(output.status.code().is_some(), "{line} died: {:?} {said}", output.status);
    for part in parts {
        assert!(said.contains(part), "{line} does not say {part:?} but {said:?}");
    }
    let lines = said.lines().count();
    assert!(lines == 1, "{line} says {lines} lines: {said}");
}

/// Waits until something listens on a TCP port.
pub fn await_listener(port: u16) {
    let wanted = format!(":{port:04X} ");
    let start = Instant::now();
    loop {
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let table = std::fs::read_to_string(table).unwrap_or_default();
            let listens = |line: &str| {
                let mut fields = line.split_whitespace().skip(1);
                let local = fields.next().unwrap_or_default();
                format!("{local} ").ends_with(&wanted) && fields.nth(1) == Some("0A")
            };
            if table.lines().any(listens) {
                return;
            }
        }
        assert!(start.elapsed() < Duration::from_secs(20), "nothing listens on port {port}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until something listens on a port of the connection manager, which shows it on each device.
pub fn await_cm_listener(port: u16) {
    let start = Instant::now();
    loop {
        let listed = text(&run("rdma resource show cm_id").stdout);
        if listed.lines().any(|line| line.contains("LISTEN") && line.contains(&format!(":{port} "))) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "nothing listens on port {port}:\n{listed}");
    }
}

/// The guest's address.
pub fn ipv4() -> IpAddr {
    if infiniband() { "10.1.0.1" } else { "10.0.0.1" }.parse().unwrap()
}

/// An IPv6 address of the guest. Software RoCE loses it each time that its network device goes down.
pub fn ipv6() -> IpAddr {
    const ADDRESS: &str = "fd00::1";
    if infiniband() {
        return "fd01::1".parse().unwrap();
    }
    let line = format!("ip -6 addr replace {ADDRESS}/64 dev {} nodad", crate::faults::netdev());
    let added = run(&line);
    assert!(added.status.success(), "{line}: {}", text(&added.stderr));
    await_gid_of("fd00:0000:");
    ADDRESS.parse().unwrap()
}

pub fn await_gid_of(beginning: &str) {
    let start = Instant::now();
    let has_it = |n: u32| {
        let gid = std::fs::read_to_string(format!("/sys/class/infiniband/rxe0/ports/1/gids/{n}"));
        gid.is_ok_and(|gid| gid.starts_with(beginning))
    };
    while !(0..8).any(has_it) {
        assert!(start.elapsed() < Duration::from_secs(20), "no GID {beginning}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How many objects there are on the first device.
pub struct Resources(Vec<(String, u64)>);

impl Resources {
    pub fn now() -> Self {
        let index = Device::first().unwrap().info().index.unwrap();
        let counts = Nldev::open().unwrap().resource_counts(index).unwrap();
        Self(counts.iter().map(|(kind, count)| (kind.to_owned(), count)).collect())
    }

    /// How many more of a kind there are now.
    pub fn more(&self, kind: &str) -> u64 {
        let of = |counts: &Self| {
            counts.0.iter().find(|(name, _)| name == kind).unwrap_or_else(|| panic!("no count of {kind}")).1
        };
        of(&Self::now()) - of(self)
    }

    /// Asserts that as many objects exist as before, and no RDMA-CM id. The kernel may take a moment to clean up a killed process.
    pub fn are_back(&self) {
        let start = Instant::now();
        let mut now = Self::now();
        while now.0 != self.0 && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
            now = Self::now();
        }
        assert_eq!(now.0, self.0);
        assert_eq!(now.0.iter().find(|(kind, _)| kind == "cm_id").map(|(_, count)| *count), Some(0));
    }
}

/// Runs a server and a client of a pingpong to their ends; `PORT` in both lines becomes a fresh TCP port.
pub fn pair(server: &str, client: &str) -> (Output, Output) {
    let port = fresh_port();
    let (server, client) =
        (server.replace("PORT", &port.to_string()), client.replace("PORT", &port.to_string()));
    let serving = Running::start(&server);
    await_listener(port);
    let asked = Running::start(&client).finish(Duration::from_secs(60));
    (serving.finish(Duration::from_secs(60)), asked)
}

/// Two queue pairs of this process, connected to each other, and what they need.
pub struct Loop {
    pub left: Qp,
    pub right: Qp,
    pub left_cq: Cq,
    pub right_cq: Cq,
    pub pd: Pd,
    pub ctx: Context,
}

impl Loop {
    pub fn new() -> Self {
        Self::with(ConnectAttr::new(), 4)
    }

    pub fn with(attr: ConnectAttr, sges: u32) -> Self {
        Self::made(open(), attr, sges)
    }

    /// The same on an open device, with a protection domain of their own.
    pub fn new_in(ctx: &Context) -> Self {
        Self::made(ctx.clone(), ConnectAttr::new(), 4)
    }

    fn made(ctx: Context, attr: ConnectAttr, sges: u32) -> Self {
        let pd = ctx.alloc_pd().unwrap();
        let left_cq = ctx.create_cq(CqInit::new(64).own_channel()).unwrap();
        let right_cq = ctx.create_cq(CqInit::new(64).own_channel()).unwrap();
        let qp = |cq| {
            let sizes = QpInit::rc(cq, cq)
                .max_send_wr(32)
                .max_recv_wr(32)
                .max_send_sge(sges)
                .max_recv_sge(sges)
                .max_inline_data(128);
            pd.create_qp(sizes).unwrap()
        };
        let (mut left, mut right) = (qp(&left_cq), qp(&right_cq));
        connect(&mut left, &mut right, attr);
        Self { left, right, left_cq, right_cq, pd, ctx }
    }

    /// A region that a peer may do anything with.
    pub fn region(&self, length: usize) -> Mr {
        let all = Access::LOCAL_WRITE
            | Access::REMOTE_READ
            | Access::REMOTE_WRITE
            | Access::REMOTE_ATOMIC
            | Access::MW_BIND;
        self.pd.alloc_mr(length, all).unwrap()
    }
}

/// Connects two queue pairs of this process.
pub fn connect(left: &mut Qp, right: &mut Qp, attr: ConnectAttr) {
    let rights = Access::LOCAL_WRITE | Access::REMOTE_READ | Access::REMOTE_WRITE | Access::REMOTE_ATOMIC;
    let attr = attr.access(rights).max_rd_atomic(4);
    let at_left = left.init_endpoint(PortNum::ONE, Some(gid_index())).unwrap();
    let at_right = right.init_endpoint(PortNum::ONE, Some(gid_index())).unwrap();
    left.connect(&at_right, attr).unwrap();
    right.connect(&at_left, attr).unwrap();
}

/// The next completion, which must come soon.
pub fn completion(cq: &mut Cq) -> Wc {
    let mut wcs = [Wc::default()];
    match cq.wait(&mut wcs, Wait::default(), Some(Duration::from_secs(20))).unwrap().completions() {
        [wc] => *wc,
        _ => panic!("no completion within 20 s"),
    }
}

/// Sets a signal's handler, which must do only what is allowed in one.
#[allow(unsafe_code)]
pub fn handle_signal(signal: nix::sys::signal::Signal, action: &nix::sys::signal::SigAction) {
    // SAFETY: the handlers of these tests do nothing, or exit.
    unsafe { nix::sys::signal::sigaction(signal, action) }.unwrap();
}

/// Asserts that nothing completes for a moment.
pub fn assert_quiet(cq: &mut Cq) {
    let mut wcs = [Wc::default()];
    let got = cq.wait(&mut wcs, Wait::Events, Some(Duration::from_millis(50))).unwrap();
    assert_eq!(got, Waited::TimedOut);
}

/// Bytes that look random and are the same every time.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Fills a region with noise and gives what it holds.
pub fn fill(mr: &mut Mr, noise: &mut Noise) -> Vec<u8> {
    let bytes = noise.bytes(mr.len());
    mr.write(0, &bytes);
    bytes
}

/// Compares every byte of a region; the error names the first that differs.
pub fn compare(mr: &Mr, expected: &[u8]) -> Result<(), String> {
    let mut found = vec![0; mr.len()];
    mr.read(0, &mut found);
    assert_eq!(found.len(), expected.len());
    match found.iter().zip(expected).position(|(found, expected)| found != expected) {
        None => Ok(()),
        Some(at) => Err(format!("byte {at} is {:#04x}, not {:#04x}", found[at], expected[at])),
    }
}

/// The system's allocator, and a count of what is asked of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it is.
#[allow(unsafe_code)]
unsafe impl std::alloc::GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { std::alloc::System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: as above.
        unsafe { std::alloc::System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How often this thread has asked for memory.
pub fn allocations() -> u64 {
    ALLOCATIONS.with(std::cell::Cell::get)
}
