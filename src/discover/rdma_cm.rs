//! The character device of RDMA-CM, which serves all devices: /dev/infiniband/rdma_cm.

use std::os::fd::OwnedFd;
use std::path::Path;

use super::node::Node;
use super::{SYS, sysfs};
use crate::error::{Cause, Error, Result};
use crate::netlink::{DeviceNumber, Nldev};
use crate::uapi::ucm::RDMA_USER_CM_ABI_VERSION;

const NAME: &str = "rdma_cm";

/// Opens the connection manager's node for reading and writing, closed on exec.
///
/// Its minor number is another one on each machine; RDMA netlink tells it and loads the module where it can, sysfs tells it too.
///
/// # Errors
///
/// `NotFound`: the module is not loaded. `Unsupported`: its commands are of another version. Else as
/// [`DeviceInfo::open_node`](super::DeviceInfo::open_node).
pub(crate) fn open_rdma_cm() -> Result<OwnedFd> {
    let told = Nldev::open().and_then(|mut nldev| nldev.global_char_device(NAME));
    let (number, abi) = match told {
        Ok(found) => (found.number, found.abi),
        Err(_) => in_sysfs(Path::new(SYS)).ok_or_else(|| {
            let why = "the kernel has no connection manager for programs";
            Error::new("open", NAME, Cause::NotFound(why.into())).with_hint("try: modprobe rdma_ucm")
        })?,
    };
    if abi != RDMA_USER_CM_ABI_VERSION {
        let why = format!(
            "the kernel's rdma_cm has version {abi} of its commands, this crate knows {RDMA_USER_CM_ABI_VERSION}"
        );
        return Err(Error::new("open", NAME, Cause::Unsupported(why.into())));
    }
    Node { name: NAME, number, module: "rdma_ucm" }.open()
}

/// Its number and the version of its commands.
fn in_sysfs(sys: &Path) -> Option<(DeviceNumber, u64)> {
    let folder = sys.join("class/misc").join(NAME);
    let number = sysfs::device_number(&folder)?;
    let abi = sysfs::text(&folder.join("abi_version"))?.parse().ok()?;
    Some((number, abi))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::testing::Folder;

    #[test]
    fn sysfs_tells_number_and_version() {
        let sys = Folder::new("rdma-cm");
        assert_eq!(in_sysfs(sys.path()), None);
        let folder = sys.path().join("class/misc/rdma_cm");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("dev"), "10:58\n").unwrap();
        assert_eq!(in_sysfs(sys.path()), None);
        std::fs::write(folder.join("abi_version"), "4\n").unwrap();
        assert_eq!(in_sysfs(sys.path()), Some((DeviceNumber { major: 10, minor: 58 }, 4)));
    }
}
