//! A kernel that is a closure: it sees the commands that this thread sends and answers them.

use std::cell::RefCell;

use nix::errno::Errno;
use zerocopy::{FromBytes, IntoBytes};

use crate::uapi::ioctl::{IoctlAttr, IoctlHdr, UVERBS_ATTR_F_VALID_OUTPUT};

/// A command, as the kernel would find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Ioctl { header: IoctlHdr, attrs: Vec<Attr> },
    Write(Vec<u8>),
}

/// An attribute, and what lies at its address where it is longer than what fits itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attr {
    pub(crate) raw: IoctlAttr,
    pub(crate) memory: Vec<u8>,
}

/// What the kernel puts into one attribute of an ioctl.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// A handle or a descriptor, into the attribute itself.
    Handle(u16, u32),
    /// Bytes to the attribute's address, no more than it has room for.
    Bytes(u16, Vec<u8>),
    /// Bytes to an address that the command has somewhere else.
    Memory(u64, Vec<u8>),
}

type Kernel = Box<dyn FnMut(&Command) -> Result<Vec<Reply>, Errno>>;

thread_local! {
    static KERNEL: RefCell<Option<Kernel>> = const { RefCell::new(None) };
}

/// From now on `kernel` answers what this thread sends.
pub(crate) fn install(kernel: impl FnMut(&Command) -> Result<Vec<Reply>, Errno> + 'static) {
    KERNEL.set(Some(Box::new(kernel)));
}

fn ask(command: &Command) -> Option<Result<Vec<Reply>, Errno>> {
    KERNEL.with_borrow_mut(|kernel| kernel.as_mut().map(|kernel| kernel(command)))
}

/// # Safety
/// As [`super::write_command`].
pub(super) unsafe fn write(command: &[u8]) -> Option<Result<(), Errno>> {
    let replies = match ask(&Command::Write(command.to_vec()))? {
        Ok(replies) => replies,
        Err(errno) => return Some(Err(errno)),
    };
    for reply in replies {
        let Reply::Memory(address, bytes) = reply else { panic!("a written command has no attributes") };
        // SAFETY: the caller vouches for the addresses in the command, and the test for the length.
        unsafe { store(address, &bytes) };
    }
    Some(Ok(()))
}

/// # Safety
/// The memory is writable.
unsafe fn store(address: u64, bytes: &[u8]) {
    let to = std::ptr::with_exposed_provenance_mut::<u8>(address as usize);
    // SAFETY: as the caller says.
    unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

/// # Safety
/// As [`super::verbs_ioctl`].
pub(super) unsafe fn ioctl(request: *mut u8) -> Option<Result<(), Errno>> {
    let at = |n: usize| request.wrapping_add(size_of::<IoctlHdr>() + n * size_of::<IoctlAttr>());
    // SAFETY: the caller vouches for a header, and for as many attributes as it says.
    let header = unsafe { request.cast::<IoctlHdr>().read() };
    let mut raw: Vec<_> = (0..header.num_attrs.into())
        .map(|n| {
            // SAFETY: as above.
            unsafe { at(n).cast::<IoctlAttr>().read() }
        })
        .collect();
    let attrs = raw.iter().map(|raw| Attr { raw: *raw, memory: memory(raw) }).collect();
    let replies = match ask(&Command::Ioctl { header, attrs })? {
        Ok(replies) => replies,
        Err(errno) => return Some(Err(errno)),
    };
    for reply in replies {
        let id = match reply {
            Reply::Handle(id, _) | Reply::Bytes(id, _) => id,
            Reply::Memory(address, bytes) => {
                // SAFETY: the caller vouches for the addresses in the command, and the test for the length.
                unsafe { store(address, &bytes) };
                continue;
            }
        };
        let n = raw.iter().position(|attr| attr.attr_id == id).expect("an attribute that was sent");
        match reply {
            Reply::Handle(_, handle) => raw[n].data = handle.into(),
            Reply::Bytes(_, bytes) => {
                let len = bytes.len().min(raw[n].len.into());
                // SAFETY: the caller vouches for the attribute's address and length.
                unsafe { store(raw[n].data, &bytes[..len]) };
                raw[n].flags |= UVERBS_ATTR_F_VALID_OUTPUT;
            }
            Reply::Memory(..) => {}
        }
        // SAFETY: as above; it was writable to begin with.
        unsafe { at(n).cast::<IoctlAttr>().write(raw[n]) };
    }
    Some(Ok(()))
}

/// Only what is longer than eight bytes is sure to lie at an address.
fn memory(attr: &IoctlAttr) -> Vec<u8> {
    let len = if attr.len > 8 { usize::from(attr.len) } else { 0 };
    let from = std::ptr::with_exposed_provenance::<u8>(attr.data as usize);
    // SAFETY: the caller of `ioctl` vouches for the attribute's address and length.
    (0..len).map(|n| unsafe { from.add(n).read() }).collect()
}

/// Reads a structure from the beginning of some bytes.
pub(crate) fn parse<T: FromBytes + IntoBytes>(bytes: &[u8]) -> T {
    let mut value = T::new_zeroed();
    let to = value.as_mut_bytes();
    let len = to.len();
    to.copy_from_slice(&bytes[..len]);
    value
}

/// A file of memory that is as long as a file can be, so that whatever is mapped of it is there.
pub(crate) fn endless_file() -> std::fs::File {
    // SAFETY: a name that ends, and flags.
    let fd = unsafe { libc::memfd_create(c"device".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: just made.
    let fd = unsafe { super::own_fd(fd) }.expect("a memory file");
    let file = std::fs::File::from(fd);
    file.set_len(i64::MAX as u64 & !0xfff).expect("a sparse file");
    file
}

/// Numbers that are the same in every run (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn word(&mut self) -> u32 {
        self.next() as u32
    }

    /// Less than `n`.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        self.word() % n
    }

    /// Any number, but small ones, edges and powers of two often.
    pub(crate) fn edgy(&mut self) -> u32 {
        match self.below(4) {
            0 => self.below(40),
            1 => u32::MAX - self.below(3),
            2 => (1 << self.below(32)) - self.below(2),
            _ => self.word(),
        }
    }
}
