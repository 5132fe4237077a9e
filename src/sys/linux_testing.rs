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

pub(super) fn write(command: &[u8]) -> Option<Result<(), Errno>> {
    Some(ask(&Command::Write(command.to_vec()))?.map(drop))
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
        let (Reply::Handle(id, _) | Reply::Bytes(id, _)) = reply;
        let n = raw.iter().position(|attr| attr.attr_id == id).expect("an attribute that was sent");
        match reply {
            Reply::Handle(_, handle) => raw[n].data = handle.into(),
            Reply::Bytes(_, bytes) => {
                let to = std::ptr::with_exposed_provenance_mut::<u8>(raw[n].data as usize);
                let len = bytes.len().min(raw[n].len.into());
                // SAFETY: the caller vouches for the attribute's address and length.
                unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), len) };
                raw[n].flags |= UVERBS_ATTR_F_VALID_OUTPUT;
            }
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
