//! Software devices over network devices: `rdma link add` and `del`.

use nix::errno::Errno;

use super::Nldev;
use super::exchange::What;
use crate::error::{Cause, Error, Result};
use crate::uapi::netlink::{
    RDMA_NLDEV_ATTR_DEV_INDEX, RDMA_NLDEV_ATTR_DEV_NAME, RDMA_NLDEV_ATTR_LINK_TYPE,
    RDMA_NLDEV_ATTR_NDEV_NAME, RDMA_NLDEV_CMD_DELLINK, RDMA_NLDEV_CMD_NEWLINK,
};

/// The kernel's `IB_DEVICE_NAME_MAX` without the NUL.
const DEVICE_NAME_MAX: usize = 63;

/// The kernel's `IFNAMSIZ` without the NUL.
const INTERFACE_NAME_MAX: usize = 15;

impl Nldev {
    /// Makes a software RDMA device `name` of `kind` (`rxe`, `siw`) over the network device `netdev`.
    ///
    /// The kernel loads the module of that kind if it finds a `modprobe`. The device is usable when this returns;
    /// its address-derived GIDs follow a moment later.
    ///
    /// # Errors
    ///
    /// `Invalid`: a name is empty, too long, or has a `%`, `/` or NUL in it. From the kernel: `EPERM` without
    /// `CAP_NET_ADMIN`, `ENODEV` where there is no such network device, `EINVAL` where no module of that kind is loaded,
    /// `EEXIST` where the network device carries one already, `ENFILE` where the name is taken, `ENOENT` where the
    /// kernel cannot find a CRC32 implementation.
    ///
    /// Linux 5.1, `RDMA_NLDEV_CMD_NEWLINK`; `rdma-link(8)`.
    pub fn link_add(&mut self, name: &str, kind: &str, netdev: &str) -> Result<()> {
        const OPERATION: &str = "link add";
        check(OPERATION, "device name", name, DEVICE_NAME_MAX)?;
        check(OPERATION, "link kind", kind, INTERFACE_NAME_MAX)?;
        check(OPERATION, "network device name", netdev, INTERFACE_NAME_MAX)?;
        let what = What { operation: OPERATION, object: name };
        self.exchange
            .act(what, RDMA_NLDEV_CMD_NEWLINK, |request| {
                request
                    .string(RDMA_NLDEV_ATTR_DEV_NAME, name)
                    .string(RDMA_NLDEV_ATTR_LINK_TYPE, kind)
                    .string(RDMA_NLDEV_ATTR_NDEV_NAME, netdev)
            })
            .map_err(|error| match add_hint(error.errno(), kind, netdev) {
                Some(hint) => error.with_hint(hint),
                None => error,
            })
    }

    /// Removes the software RDMA device `name`; programs that use it see it go away.
    ///
    /// # Errors
    ///
    /// `NotFound` where there is no such device. From the kernel: `EPERM` without `CAP_NET_ADMIN`, `EINVAL` where the
    /// device is not a software one.
    ///
    /// Linux 5.1, `RDMA_NLDEV_CMD_DELLINK`; `rdma-link(8)`.
    pub fn link_del(&mut self, name: &str) -> Result<()> {
        let what = What { operation: "link del", object: name };
        let devices = self.devices()?;
        let Some(device) = devices.iter().find(|device| device.name == name) else {
            return Err(Error::new(
                what.operation,
                name,
                Cause::NotFound("no RDMA device has that name".into()),
            ));
        };
        self.exchange
            .act(what, RDMA_NLDEV_CMD_DELLINK, |request| request.u32(RDMA_NLDEV_ATTR_DEV_INDEX, device.index))
            .map_err(|error| match error.errno() {
                Some(Errno::EPERM) => error.with_hint("it needs CAP_NET_ADMIN: run it as root"),
                Some(Errno::EINVAL) => error.with_hint("only software devices (rxe, siw) can be removed"),
                _ => error,
            })
    }
}

/// What a refusal of `NEWLINK` most likely means.
fn add_hint(errno: Option<Errno>, kind: &str, netdev: &str) -> Option<String> {
    Some(match errno? {
        Errno::EPERM => {
            format!(
                "it needs CAP_NET_ADMIN: run it as root (root gets this error if {netdev} is a VLAN device)"
            )
        }
        Errno::ENODEV => format!("is there a network device {netdev} in this network namespace?"),
        Errno::EINVAL if matches!(kind, "rxe" | "siw") => {
            format!("is the module loaded that makes {kind} links? try: modprobe {}", module(kind))
        }
        Errno::EINVAL => {
            format!(
                "no module makes links of type {kind}: there are rxe (module rdma_rxe) and siw (module siw)"
            )
        }
        Errno::EEXIST => format!("{netdev} carries a device of kind {kind} already"),
        Errno::ENFILE => "an RDMA device has that name already".to_owned(),
        Errno::ENOENT => format!(
            "the kernel finds no CRC32 implementation, which rxe of Linux 6.12 and older takes from a module: \
             try modprobe crc32_generic (or crc32-pclmul), and see that {} is loaded",
            module(kind)
        ),
        _ => return None,
    })
}

/// The module that makes links of this kind.
fn module(kind: &str) -> &str {
    if kind == "rxe" { "rdma_rxe" } else { kind }
}

/// Refuses a name that the kernel would refuse or, worse, cut short.
fn check(operation: &'static str, which: &str, name: &str, max: usize) -> Result<()> {
    let why = if name.is_empty() {
        format!("the {which} is empty")
    } else if name.len() > max {
        format!("the {which} has {} bytes, {max} at most are allowed", name.len())
    } else if let Some(bad) = name.chars().find(|c| matches!(c, '%' | '/' | '\0')) {
        format!("the {which} has a {bad:?} in it")
    } else {
        return Ok(());
    };
    Err(Error::invalid(operation, name.escape_debug().to_string(), why))
}
