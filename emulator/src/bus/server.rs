//! The vfio-user server: an HCA on a socket, which QEMU's `vfio-user-pci` attaches to a guest.

use std::{
    any::Any,
    cell::Cell,
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::FileTypeExt,
            net::{UnixListener, UnixStream},
        },
    },
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE, VFIO_IRQ_INFO_NORESIZE, VFIO_IRQ_SET_ACTION_MASK,
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR5_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, Server, ServerBackend, ServerRegion};

use crate::{
    bus::{msix::VECTORS, pci::CONFIG_SIZE},
    device::Device,
    fabric::Fabric,
};

thread_local! {
    /// Whether the thread of a guest runs code of this crate.
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// The name of the threads that serve guests.
const THREAD: &str = "guest";
/// The longest access in bytes: clients can ask for any length.
const ACCESS: usize = 4096;

/// Listens on a socket at `path`. A socket that a killed server has left there is removed.
///
/// # Errors
///
/// One line that names the path: another server uses it, it is not a socket, or it cannot be created.
pub fn listen(path: &Path) -> Result<UnixListener, String> {
    let shown = path.display();
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(format!("{shown}: there is a file that is not a socket; name another path"));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(format!(
                "{shown}: the socket is in use by another server; stop it or name another path"
            ));
        }
        fs::remove_file(path).map_err(|error| format!("{shown}: cannot remove a stale socket: {error}"))?;
    }
    UnixListener::bind(path).map_err(|error| format!("{shown}: cannot listen: {error}"))
}

/// Serves HCA `number` (counted from 0) to one guest after the other. Calls `gone` when one has disconnected.
///
/// # Errors
///
/// The socket fails.
pub fn serve(
    fabric: &Arc<Fabric>,
    number: usize,
    listener: UnixListener,
    mut gone: impl FnMut(),
) -> Result<(), String> {
    let (name, bars) = fabric.with(number, |hca, _| (hca.name().to_owned(), hca.bars())).unwrap_or_default();
    let server = Server::from_owned_fd(OwnedFd::from(listener), true, interrupts(), regions(bars));
    loop {
        let mut guest = Guest { fabric: Arc::clone(fabric), number, seen: false };
        // vfio_user panics if a client sends a malformed version.
        let end = panic::catch_unwind(AssertUnwindSafe(|| server.run(&mut guest)));
        if fabric.is_broken() {
            return Err(format!("{name}: this is a defect of the emulator"));
        }
        fabric.with(number, |hca, _| hca.detach());
        let end = match end {
            Ok(end) => end,
            Err(panic) => {
                eprintln!("{name}: refused a client that speaks vfio-user wrongly: {}", text(&*panic));
                continue;
            }
        };
        match end {
            // Another server has checked whether the socket is in use.
            Ok(()) if !guest.seen => {}
            Ok(()) => eprintln!("{name}: the guest is gone"),
            Err(vfio_user::Error::SocketAccept(error)) => return Err(format!("{name}: {error}")),
            Err(error) => eprintln!("{name}: the guest is gone: {error}"),
        }
        if guest.seen {
            gone();
        }
    }
}

/// The first line of a panic's message.
fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.and_then(|text| text.lines().next()).unwrap_or("a panic")
}

/// Starts a thread for a guest. Its panics are not printed where they happen: [`serve`] reports them in one line.
pub fn spawn(serve: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(THREAD.to_owned()).spawn(serve).map(drop)
}

/// Leaves panics of vfio_user to [`serve`]. A panic of a thread that serves no guest ends the process.
pub fn catch_panics() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let is_guest = thread::current().name() == Some(THREAD);
        if !is_guest || OURS.get() {
            print(info);
        }
        if !is_guest {
            std::process::abort();
        }
    }));
}

/// The regions of a PCI device, by index.
fn regions(bars: [u64; 6]) -> Vec<ServerRegion> {
    (0..VFIO_PCI_NUM_REGIONS)
        .map(|index| {
            let size = match index {
                VFIO_PCI_BAR0_REGION_INDEX..=VFIO_PCI_BAR5_REGION_INDEX => {
                    bars[(index - VFIO_PCI_BAR0_REGION_INDEX) as usize]
                }
                VFIO_PCI_CONFIG_REGION_INDEX => CONFIG_SIZE as u64,
                _ => 0,
            };
            let access = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
            let region_info = vfio_region_info {
                argsz: size_of::<vfio_region_info>() as u32,
                flags: if size == 0 { 0 } else { access },
                index,
                size,
                ..Default::default()
            };
            ServerRegion { region_info, sparse_areas: Vec::new(), mmap_fd: None }
        })
        .collect()
}

/// Its interrupts, by index: MSI-X only.
fn interrupts() -> Vec<IrqInfo> {
    (0..VFIO_PCI_NUM_IRQS)
        .map(|index| {
            if index == VFIO_PCI_MSIX_IRQ_INDEX {
                let flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_NORESIZE;
                IrqInfo { index, flags, count: VECTORS.into() }
            } else {
                IrqInfo { index, flags: 0, count: 0 }
            }
        })
        .collect()
}

/// One guest's connection.
struct Guest {
    fabric: Arc<Fabric>,
    number: usize,
    /// Whether it has made a request.
    seen: bool,
}

impl Guest {
    fn with<T: Default>(&mut self, act: impl FnOnce(&mut dyn Device, Duration) -> T) -> T {
        self.enter(|fabric, number| fabric.with(number, act)).unwrap_or_default()
    }

    fn enter<T>(&mut self, act: impl FnOnce(&Fabric, usize) -> T) -> T {
        self.seen = true;
        OURS.set(true);
        let result = act(&self.fabric, self.number);
        OURS.set(false);
        result
    }
}

impl ServerBackend for Guest {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        if data.len() > ACCESS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.with(|hca, now| match region {
            VFIO_PCI_CONFIG_REGION_INDEX => hca.config_read(offset, data),
            bar => hca.read(now, bar, offset, data),
        });
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => self.with(|hca, _| hca.config_write(offset, data)),
            bar => {
                self.enter(|fabric, number| {
                    fabric.work(number, |hca, now| hca.write(now, bar, offset, data))
                });
            }
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        _flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<File>,
    ) -> io::Result<()> {
        // ROMs have no descriptor; the card does not access them.
        let Some(file) = file else { return Ok(()) };
        self.with(|hca, _| {
            let mapped = hca.memory().map(address, size, file, offset);
            if let Err(error) = &mapped {
                eprintln!("{}: refused guest memory at {address:#x}: {error}", hca.name());
            }
            Some(mapped)
        })
        .unwrap_or(Ok(()))
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        self.with(|hca, _| {
            if flags.contains(DmaUnmapFlags::UNMAP_ALL) {
                hca.memory().clear();
            } else {
                hca.memory().unmap(address, size);
            }
        });
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.with(|hca, _| {
            if hca.is_started() {
                eprintln!("{}: the guest is reset or reboots", hca.name());
            }
            hca.reset();
        });
        Ok(())
    }

    fn set_irqs(&mut self, index: u32, flags: u32, start: u32, count: u32, fds: Vec<File>) -> io::Result<()> {
        if index != VFIO_PCI_MSIX_IRQ_INDEX {
            return Ok(());
        }
        let count = count.min(u32::from(VECTORS));
        let vectors = || (0..count).map(move |at| start.saturating_add(at));
        self.with(|hca, _| {
            if flags & VFIO_IRQ_SET_ACTION_TRIGGER != 0 {
                if flags & VFIO_IRQ_SET_DATA_EVENTFD == 0 && count == 0 {
                    (0..u32::from(VECTORS)).for_each(|vector| hca.connect(vector, None));
                }
                if flags & VFIO_IRQ_SET_DATA_EVENTFD != 0 {
                    let mut fds = fds.into_iter();
                    vectors().for_each(|vector| hca.connect(vector, fds.next()));
                }
            }
            if flags & VFIO_IRQ_SET_ACTION_MASK != 0 {
                vectors().for_each(|vector| hca.mask(vector, true));
            }
            if flags & VFIO_IRQ_SET_ACTION_UNMASK != 0 {
                vectors().for_each(|vector| hca.mask(vector, false));
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_in_use_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hca");
        let first = listen(&path).unwrap();
        assert!(listen(&path).unwrap_err().contains("in use"));
        drop(first);
        // The socket is stale now.
        drop(listen(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "text").unwrap();
        assert!(listen(&path).unwrap_err().contains("not a socket"));
    }
}
