//! An open device.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::event::AsyncEvents;
use super::{CompChannel, Cq, CqInit, Device, DeviceAttr, Pd, PortAttr, Xrcd};
use crate::discover::{DeviceInfo, DriverId};
use crate::error::{Cause, Error, Result};
use crate::provider::Provider;
use crate::sys::linux;
use crate::types::{Gid, GidEntry, PortNum};
use crate::uverbs::{Encoding, Uverbs};

/// Options for opening a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct OpenOptions {
    encoding: Encoding,
}

impl OpenOptions {
    /// Creates the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how commands are sent to the kernel.
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Opens the device.
    ///
    /// # Errors
    /// The same as [`Device::open`].
    pub fn open(&self, device: &Device) -> Result<Context> {
        Context::open(device.info(), self.encoding)
    }
}

/// An open device: what everything else is made from.
///
/// Cloning gives another handle on the same context. See `ibv_open_device(3)`.
#[derive(Debug, Clone)]
pub struct Context(pub(super) Arc<ContextInner>);

/// A context that may have been closed.
#[derive(Debug)]
pub(crate) struct WeakContext(Weak<ContextInner>);

impl WeakContext {
    /// The context, if somebody still holds it.
    pub(crate) fn upgrade(&self) -> Option<Context> {
        self.0.upgrade().map(Context)
    }
}

#[derive(Debug)]
pub(super) struct ContextInner {
    pub(super) uverbs: Uverbs,
    provider: Provider,
    pub(super) info: DeviceInfo,
    num_comp_vectors: u32,
    async_fd: OnceLock<Arc<OwnedFd>>,
    making_async_fd: Mutex<()>,
    user_handles: AtomicU64,
}

impl Context {
    /// The open device, for raw commands.
    pub(crate) fn uverbs(&self) -> &Uverbs {
        &self.0.uverbs
    }

    fn open(info: &DeviceInfo, encoding: Encoding) -> Result<Self> {
        Self::of_file(info.open_node()?, info, encoding)
    }

    /// Creates the context of an open uverbs file.
    pub(super) fn of_file(fd: OwnedFd, info: &DeviceInfo, encoding: Encoding) -> Result<Self> {
        // The kernel checks the driver's id in every ioctl; where nobody tells it, write() needs none.
        let encoding = match info.driver {
            DriverId::UNKNOWN if encoding == Encoding::Auto => Encoding::Write,
            _ => encoding,
        };
        let uverbs = Uverbs::new(fd, info.driver.0, info.name.clone(), encoding);
        let abi = info.uverbs.as_ref().map_or(0, |uverbs| uverbs.abi);
        let (new, provider) = Provider::open(&uverbs, info.driver.0, abi)?;
        let async_fd = OnceLock::new();
        if let Some(fd) = new.async_fd {
            let _ = async_fd.set(Arc::new(fd));
        }
        Ok(Self(Arc::new(ContextInner {
            uverbs,
            provider,
            info: info.clone(),
            num_comp_vectors: new.num_comp_vectors,
            async_fd,
            making_async_fd: Mutex::new(()),
            user_handles: AtomicU64::new(1),
        })))
    }

    /// What was known of the device when it was opened.
    #[must_use]
    pub fn info(&self) -> &DeviceInfo {
        &self.0.info
    }

    /// How many completion vectors (interrupts) it has.
    #[must_use]
    pub fn num_comp_vectors(&self) -> u32 {
        self.0.num_comp_vectors
    }

    /// Its identity and limits. See `ibv_query_device_ex(3)`.
    ///
    /// # Errors
    /// The device is gone.
    pub fn query_device(&self) -> Result<DeviceAttr> {
        let (attr, caps) = self.0.provider.query_device(&self.0.uverbs)?;
        Ok(DeviceAttr::new(self.0.info.driver, &attr, caps))
    }

    /// A port's state and limits. See `ibv_query_port(3)`.
    ///
    /// # Errors
    /// There is no such port (the error gives the range), or the device is gone.
    pub fn query_port(&self, port: PortNum) -> Result<PortAttr> {
        self.check_port(port, "query_port")?;
        Ok((&self.0.uverbs.query_port(port.get())?).into())
    }

    /// The entries of a port's GID table that are in use, by index. See `ibv_query_gid_table(3)`.
    ///
    /// # Errors
    /// As [`Context::query_port`].
    pub fn query_gids(&self, port: PortNum) -> Result<Vec<GidEntry>> {
        let length = self.query_port(port)?.gid_tbl_len;
        self.gids(port, length, 0..length)
    }

    /// The same for a caller who has asked the port before.
    ///
    /// # Errors
    /// As [`Context::query_port`].
    pub fn query_gids_of(&self, port: PortNum, attr: &PortAttr) -> Result<Vec<GidEntry>> {
        self.gids(port, attr.gid_tbl_len, 0..attr.gid_tbl_len)
    }

    /// Of a table of `length` entries those in use among `indices`, at least.
    fn gids(&self, port: PortNum, length: u32, indices: Range<u32>) -> Result<Vec<GidEntry>> {
        let ports = self.0.info.port_count.max(1);
        let capacity = (length as usize).saturating_mul(ports as usize).max(1);
        let entries = match self.0.uverbs.query_gid_table(capacity) {
            Some(entries) => entries?.iter().filter_map(GidEntry::from_raw).collect(),
            // The table has no legacy command.
            None => self.0.info.gids(port, indices),
        };
        Ok(entries
            .into_iter()
            .filter(|entry: &GidEntry| entry.port == port && !entry.gid.is_zero())
            .collect())
    }

    /// One entry of a port's GID table; zero where it is not in use. See `ibv_query_gid(3)`.
    ///
    /// # Errors
    /// The port or the index is out of range (the error gives the range), or the device is gone.
    pub fn query_gid(&self, port: PortNum, index: u32) -> Result<Gid> {
        let length = self.query_port(port)?.gid_tbl_len;
        if index >= length {
            return Err(Error::invalid(
                "query_gid",
                self.0.uverbs.device(),
                format!(
                    "GID index {index} is out of range: port {port} has indices 0 to {}",
                    length.saturating_sub(1)
                ),
            ));
        }
        let gids = self.gids(port, length, index..index + 1)?;
        Ok(gids.iter().find(|entry| entry.index == index).map_or(Gid::ZERO, |entry| entry.gid))
    }

    /// Makes a protection domain.
    ///
    /// # Errors
    /// The device has no more.
    pub fn alloc_pd(&self) -> Result<Pd> {
        Pd::alloc(&self.0)
    }

    /// Makes a completion channel.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn create_comp_channel(&self) -> Result<CompChannel> {
        CompChannel::create(&self.0)
    }

    /// Makes a completion queue: of so many entries, or as a [`CqInit`] says.
    ///
    /// # Errors
    /// The size is 0 or over the device's limit, or the device has no provider.
    pub fn create_cq(&self, init: impl Into<CqInit>) -> Result<Cq> {
        Cq::create(&self.0, &init.into())
    }

    /// Opens the XRC domain that `file` stands for, or one that no other process can share.
    ///
    /// `oflags` are flags of `open(2)`: with `O_CREAT` the domain is made where there is none, with `O_EXCL` it must be new.
    /// See `ibv_open_xrcd(3)`.
    ///
    /// # Errors
    /// The device has no XRC, or the flags do not fit what there is.
    pub fn open_xrcd(&self, file: Option<BorrowedFd<'_>>, oflags: i32) -> Result<Xrcd> {
        Xrcd::open(&self.0, file, oflags)
    }

    /// Returns the device's async events. See `ibv_get_async_event(3)`.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn async_events(&self) -> Result<AsyncEvents> {
        let inner = &self.0;
        let fd = inner.async_file()?;
        linux::set_nonblocking(fd.as_fd()).map_err(|e| inner.uverbs.error("get_async_event", e))?;
        Ok(AsyncEvents::new(inner, fd))
    }

    /// Closes the device.
    ///
    /// # Errors
    /// Objects made from it, or other handles on it, are still there: it closes when the last of them goes.
    pub fn close(self) -> Result<()> {
        Arc::try_unwrap(self.0).map(drop).map_err(|inner| {
            let cause = Cause::Invalid("objects made from it are still there".into());
            Error::new("close", inner.uverbs.device(), cause)
        })
    }

    pub(super) fn check_port(&self, port: PortNum, verb: &'static str) -> Result<()> {
        self.0.check_port(port, verb)
    }

    /// A handle that does not keep it open.
    pub(crate) fn downgrade(&self) -> WeakContext {
        WeakContext(Arc::downgrade(&self.0))
    }
}

impl ContextInner {
    /// The file of async events, made if there is none yet.
    ///
    /// The kernel settles where an object's events go when it makes the object, and takes the first file that the context
    /// had: whoever makes an object that has events asks for the file first.
    pub(super) fn async_file(&self) -> Result<&Arc<OwnedFd>> {
        // Two files at once would be one too many: the one that is closed again could be the first.
        let _making = self.making_async_fd.lock().unwrap_or_else(PoisonError::into_inner);
        if self.async_fd.get().is_none() {
            let _ = self.async_fd.set(Arc::new(self.uverbs.alloc_async_fd()?));
        }
        self.async_fd.get().ok_or_else(|| {
            Error::bad_answer("get_async_event", self.uverbs.device(), "there is no event file")
        })
    }

    /// A number that no other object of this context's has.
    pub(super) fn next_user_handle(&self) -> u64 {
        self.user_handles.fetch_add(1, Ordering::Relaxed)
    }

    /// Who knows this device's queues.
    pub(super) fn provider(&self) -> &Provider {
        &self.provider
    }

    pub(super) fn check_port(&self, port: PortNum, verb: &'static str) -> Result<()> {
        let last = self.info.port_count;
        if last == 0 || u32::from(port.get()) <= last {
            return Ok(());
        }
        let range = if last == 1 { "only port 1".to_owned() } else { format!("ports 1 to {last}") };
        Err(Error::invalid(
            verb,
            self.uverbs.device(),
            format!("port {port} is out of range: it has {range}"),
        ))
    }
}
