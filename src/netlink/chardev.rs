//! The character device by which a program reaches an RDMA device.

use std::fmt;

use super::exchange::What;
use super::message::{Attributes, Malformed, Read, required};
use super::{DriverId, Nldev};
use crate::error::Result;
use crate::uapi::netlink as nl;

/// A character device of an RDMA device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CharDevice {
    /// Its name under /dev/infiniband, such as `uverbs0`.
    pub name: String,
    /// What its node must be made with.
    pub number: DeviceNumber,
    /// For `uverbs`: the version of the driver's own ABI, which a provider must know.
    pub abi: u64,
    /// For `uverbs`: the driver, where the kernel tells it (Linux 5.1; mthca and hns do not).
    pub driver: Option<DriverId>,
}

/// The major and minor number of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

impl DeviceNumber {
    /// From the kernel's wide encoding: 12 bits of major number between 8 low and 12 high bits of the minor one.
    const fn from_kernel(encoded: u64) -> Self {
        Self {
            major: (encoded >> 8 & 0xfff) as u32,
            minor: (encoded & 0xff | encoded >> 12 & 0xf_ff00) as u32,
        }
    }

    /// From what `stat` gives as `st_rdev`.
    pub(crate) fn from_rdev(rdev: libc::dev_t) -> Self {
        Self { major: libc::major(rdev), minor: libc::minor(rdev) }
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl Nldev {
    /// Finds the character device of kind `kind` (`uverbs`, say) of the device with this index.
    ///
    /// The kernel loads the module of that kind (`ib_uverbs`) where it can.
    ///
    /// # Errors
    ///
    /// From the kernel: `EINVAL` where the device is gone or the kernel is older than 5.1, `EOPNOTSUPP` or `ENOENT`
    /// where the device has no character device of that kind. `BadAnswer` where the answer cannot be read.
    ///
    /// Linux 5.1, `RDMA_NLDEV_CMD_GET_CHARDEV`.
    pub fn char_device(&mut self, index: u32, kind: &str) -> Result<CharDevice> {
        self.find_char_device(Some(index), kind)
    }

    /// Finds the one character device of kind `kind` that serves all devices: `rdma_cm`.
    ///
    /// The kernel loads the module of that kind (`rdma_ucm`) where it can.
    ///
    /// # Errors
    ///
    /// From the kernel: `ENOENT` or `EOPNOTSUPP` where there is none of that kind, `EINVAL` where it is older than 5.1.
    /// `BadAnswer` where the answer cannot be read.
    ///
    /// Linux 5.1, `RDMA_NLDEV_CMD_GET_CHARDEV`.
    pub fn global_char_device(&mut self, kind: &str) -> Result<CharDevice> {
        self.find_char_device(None, kind)
    }

    fn find_char_device(&mut self, index: Option<u32>, kind: &str) -> Result<CharDevice> {
        let what = What { operation: "find character device", object: kind };
        self.exchange.get(
            what,
            nl::RDMA_NLDEV_CMD_GET_CHARDEV,
            |request| {
                let request = match index {
                    Some(index) => request.u32(nl::RDMA_NLDEV_ATTR_DEV_INDEX, index),
                    None => request,
                };
                request.string(nl::RDMA_NLDEV_ATTR_CHARDEV_TYPE, kind)
            },
            read,
        )
    }
}

/// Reads a character device's attributes.
fn read(attributes: Attributes<'_>) -> Read<CharDevice> {
    let (mut name, mut number, mut abi, mut driver) = (None, None, None, None);
    for attribute in attributes {
        let a = attribute?;
        match a.kind {
            nl::RDMA_NLDEV_ATTR_CHARDEV_NAME => name = Some(a.text()),
            nl::RDMA_NLDEV_ATTR_CHARDEV => number = Some(DeviceNumber::from_kernel(a.u64()?)),
            nl::RDMA_NLDEV_ATTR_CHARDEV_ABI => abi = Some(a.u64()?),
            // The header calls it 64 bits wide, every kernel sends 32.
            nl::RDMA_NLDEV_ATTR_UVERBS_DRIVER_ID => driver = Some(DriverId(a.u32()?)),
            _ => {}
        }
    }
    let name = required(name, nl::RDMA_NLDEV_ATTR_CHARDEV_NAME)?;
    // It becomes part of a path.
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(Malformed::new(format!("a character device called {name:?}")));
    }
    Ok(CharDevice {
        name,
        number: required(number, nl::RDMA_NLDEV_ATTR_CHARDEV)?,
        abi: required(abi, nl::RDMA_NLDEV_ATTR_CHARDEV_ABI)?,
        driver,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_split_as_the_kernel_joins_them() {
        // uverbs0, and one with all bits of both halves in use
        assert_eq!(DeviceNumber::from_kernel(0xe7c0), DeviceNumber { major: 231, minor: 192 });
        let wide = DeviceNumber::from_kernel(0x1234_5678);
        assert_eq!(wide, DeviceNumber { major: 0x456, minor: 0x1_2378 });
        assert_eq!(wide.to_string(), "1110:74616");
    }

    #[test]
    fn a_name_that_would_leave_the_folder_is_refused() {
        for name in ["../sda", "", ".", "a/b"] {
            let mut request =
                crate::netlink::message::Request::new(0, 0).string(nl::RDMA_NLDEV_ATTR_CHARDEV_NAME, name);
            assert!(read(Attributes::new(&request.numbered(0)[16..])).is_err(), "{name:?}");
        }
    }
}
