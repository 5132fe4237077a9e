//! Runs a program and prints every command that it gives to a uverbs device, with the bytes that strace leaves out.
//!
//! ```text
//! cargo build --example uverbs_trace --target x86_64-unknown-linux-musl
//! cargo xtask vm --c-tools -- target/x86_64-unknown-linux-musl/debug/examples/uverbs_trace ibv_devinfo
//! ```
//!
//! One line for a command: `ioctl`, the header of `RDMA_VERBS_IOCTL`, and the kernel's answer; then one for each attribute:
//! its 16 bytes as the program wrote them, `in` and what lay at its address before, `out` and what lies there after, where
//! that is something else. `write` is a command of that system call. All bytes are hexadecimal.

#[cfg(target_arch = "x86_64")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    trace::run(std::env::args_os().skip(1))
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    eprintln!("this example reads the registers of x86_64 only");
}

#[cfg(target_arch = "x86_64")]
mod trace {
    use std::error::Error;
    use std::ffi::OsString;
    use std::fmt::Write as _;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use nix::errno::Errno;
    use nix::sys::ptrace;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::Pid;

    /// `RDMA_VERBS_IOCTL`, and the bytes of its header and of an attribute.
    const REQUEST: u32 = 0xc018_1b01;
    const HEADER: usize = 24;
    const ATTR: usize = 16;

    pub(super) fn run(mut words: impl Iterator<Item = OsString>) -> Result<(), Box<dyn Error>> {
        let mut command = Command::new(words.next().ok_or("usage: uverbs_trace PROGRAM [ARGUMENT]...")?);
        command.args(words);
        // SAFETY: between fork and exec it makes one system call and allocates nothing.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(|| ptrace::traceme().map_err(std::io::Error::from));
        }
        let child = Pid::from_raw(i32::try_from(command.spawn()?.id())?);
        waitpid(child, None)?;
        let mut entered: Option<Call> = None;
        loop {
            ptrace::syscall(child, None)?;
            match waitpid(child, None)? {
                WaitStatus::Exited(_, 0) => return Ok(()),
                WaitStatus::Stopped(_, nix::sys::signal::Signal::SIGTRAP) => {}
                WaitStatus::Stopped(..) => continue,
                ended => return Err(format!("{ended:?}").into()),
            }
            let registers = ptrace::getregs(child)?;
            match entered.take() {
                // A system call is entered with -ENOSYS where its result will be.
                None if registers.rax as i64 == -(Errno::ENOSYS as i64) => {
                    entered = Some(Call::enter(child, &registers))
                }
                None => {}
                Some(call) => print!("{}", call.leave(child, registers.rax as i64)),
            }
        }
    }

    enum Call {
        Ioctl { header: Vec<u8>, attrs: Vec<Attr> },
        Write(Vec<u8>),
        Other,
    }

    struct Attr {
        bytes: Vec<u8>,
        address: u64,
        before: Option<Vec<u8>>,
    }

    impl Call {
        fn enter(child: Pid, registers: &nix::libc::user_regs_struct) -> Self {
            let (file, second, third) = (registers.rdi, registers.rsi, registers.rdx);
            match registers.orig_rax as i64 {
                // The kernel takes 32 bits; a C library whose request is an int leaves its sign above them.
                nix::libc::SYS_ioctl if second as u32 == REQUEST => {
                    let header = read(child, third, HEADER).unwrap_or_default();
                    let length = header
                        .first()
                        .zip(header.get(1))
                        .map_or(0, |(low, high)| usize::from(u16::from_le_bytes([*low, *high])));
                    let attrs = (HEADER..length)
                        .step_by(ATTR)
                        .filter_map(|at| read(child, third + at as u64, ATTR))
                        .map(|bytes| Attr::new(child, bytes))
                        .collect();
                    Self::Ioctl { header, attrs }
                }
                nix::libc::SYS_write if is_uverbs(child, file) => {
                    Self::Write(read(child, second, third as usize).unwrap_or_default())
                }
                _ => Self::Other,
            }
        }

        fn leave(&self, child: Pid, answer: i64) -> String {
            match self {
                Self::Other => String::new(),
                Self::Write(bytes) => format!("write {} = {answer}\n", hex(bytes)),
                Self::Ioctl { header, attrs } => {
                    let mut text = format!("ioctl {} = {answer}\n", hex(header));
                    for Attr { bytes, address, before } in attrs {
                        let _ = write!(text, "  attr {}", hex(bytes));
                        if let Some(before) = before {
                            let after = read(child, *address, before.len()).unwrap_or_default();
                            let _ = write!(text, " in {}", hex(before));
                            if after != *before {
                                let _ = write!(text, " out {}", hex(&after));
                            }
                        }
                        text.push('\n');
                    }
                    text
                }
            }
        }
    }

    impl Attr {
        fn new(child: Pid, bytes: Vec<u8>) -> Self {
            let length = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
            let address = bytes[8..].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
            // Up to eight bytes may stand in the attribute itself: an address is what can be read from.
            let before = if length == 0 { None } else { read(child, address, length) };
            Self { bytes, address, before }
        }
    }

    fn is_uverbs(child: Pid, file: u64) -> bool {
        std::fs::read_link(format!("/proc/{child}/fd/{file}"))
            .is_ok_and(|path| path.to_string_lossy().contains("uverbs"))
    }

    fn read(child: Pid, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            let word = ptrace::read(child, (address + bytes.len() as u64) as ptrace::AddressType).ok()?;
            bytes.extend(word.to_le_bytes());
        }
        bytes.truncate(length);
        Some(bytes)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}
