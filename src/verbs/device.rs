//! Devices, before they are opened.

use super::{Context, OpenOptions};
use crate::discover::{self, DeviceInfo};
use crate::error::{Cause, Error, Result};
use crate::provider;
use crate::types::Guid;

/// An RDMA device of this machine.
#[derive(Debug, Clone)]
pub struct Device(DeviceInfo);

impl Device {
    /// Every device, in the order of `ibv_get_device_list(3)`.
    ///
    /// # Errors
    /// The kernel shows no trace of RDMA.
    pub fn list() -> Result<Vec<Self>> {
        Ok(discover::devices()?.into_iter().map(Self).collect())
    }

    /// The device with this name, such as `rxe0`.
    ///
    /// # Errors
    /// There is none (the error names those there are), or the kernel shows no trace of RDMA.
    pub fn by_name(name: &str) -> Result<Self> {
        discover::device(name).map(Self)
    }

    /// The device that RDMA-CM means.
    pub(crate) fn by_number(index: u32, node_guid: Guid) -> Result<Self> {
        discover::device_by_number(index, node_guid).map(Self)
    }

    /// The first device of the list.
    ///
    /// # Errors
    /// There is none.
    pub fn first() -> Result<Self> {
        Self::list()?.into_iter().next().ok_or_else(|| {
            Error::new("find a device", "", Cause::NotFound("there is no RDMA device".into()))
                .with_hint("software ones are made with: rdma link add rxe0 type rxe netdev DEVICE")
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What is known of it without opening it.
    #[must_use]
    pub fn info(&self) -> &DeviceInfo {
        &self.0
    }

    /// Whether its queues can be driven; any other can be opened and asked, where its driver lets strangers do so.
    #[must_use]
    pub fn has_provider(&self) -> bool {
        provider::drives(self.0.driver.0)
    }

    /// Opens it. See `ibv_open_device(3)`.
    ///
    /// # Errors
    /// Its node is missing, not permitted, or somebody else's; the kernel refuses a context.
    pub fn open(&self) -> Result<Context> {
        OpenOptions::new().open(self)
    }
}
