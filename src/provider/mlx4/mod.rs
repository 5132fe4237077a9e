//! ConnectX-2 and ConnectX-3: the kernel's `mlx4_ib`, and the device itself.
//!
//! Queues are memory of this process that the kernel pins and the device reads and writes. Sends are announced by a store to a
//! mapped register ([`uar`]), receives and freed completions by words in memory ([`dbrec`]): posting and polling make no
//! system call. Facts about the device are from Linux 6.1 (`drivers/infiniband/hw/mlx4`, `include/linux/mlx4`) and
//! rdma-core 44 (`providers/mlx4`).

pub(crate) mod ah;
pub(crate) mod cq;
mod cqe;
pub(crate) mod dbrec;
mod layout;
#[cfg(test)]
mod mock;
pub(crate) mod qp;
mod queues;
mod ring;
pub(crate) mod srq;
mod uar;
mod wqe;

use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;

pub(crate) use self::cq::Cq;
pub(crate) use self::srq::Srq;
use self::uar::Uar;
use crate::error::{Cause, Error, Result};
use crate::sys::mmio::Mmio;
use crate::sys::{barrier, linux};
use crate::types::DriverCaps;
use crate::uapi::ioctl::verbs::QpCap;
use crate::uapi::mlx4 as abi;
use crate::uapi::verbs::ExQueryDeviceResp;
use crate::uverbs::device::NewContext;
use crate::uverbs::{Udata, Uverbs};

/// What the queues of a context share.
#[derive(Debug)]
pub(crate) struct Context {
    uar: Arc<Uar>,
    records: dbrec::Pool,
    /// Bytes of a completion queue's entry: 32 or 64.
    cqe_size: u32,
    /// The device's most requests and elements, once somebody needed to know.
    limits: OnceLock<(u32, u32)>,
}

/// What the kernel says of a device's registers and sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    cqe: u32,
    /// Bytes of a BlueFlame register, and how many there are in a page; 0 where there are none.
    bf_reg: usize,
    bf_regs: usize,
}

/// Makes this file's context and maps its registers. `version` is the driver's, of this ABI.
pub(crate) fn open(uverbs: &Uverbs, version: u32) -> Result<(NewContext, Context)> {
    let unsupported = |why: String| Error::new("open", uverbs.device(), Cause::Unsupported(why.into()));
    if !barrier::KNOWN {
        return Err(unsupported("the order of accesses to a device is not known for this processor".into()));
    }
    let (new, answer) = match version {
        abi::MLX4_IB_UVERBS_ABI_VERSION => {
            let mut answer = abi::AllocUcontextResp::default();
            (uverbs.get_context(Udata::answer(&mut answer))?, answer)
        }
        abi::MLX4_IB_UVERBS_NO_DEV_CAPS_ABI_VERSION => {
            let mut answer = abi::AllocUcontextRespV3::default();
            let new = uverbs.get_context(Udata::answer(&mut answer))?;
            let abi::AllocUcontextRespV3 { qp_tab_size, bf_reg_size, bf_regs_per_page } = answer;
            let answer =
                abi::AllocUcontextResp { qp_tab_size, bf_reg_size, bf_regs_per_page, ..Default::default() };
            (new, answer)
        }
        other => {
            let why = format!("version {other} of mlx4's ABI is not known, only 3 and 4");
            return Err(unsupported(why).with_hint("a newer bareverbs may know this kernel"));
        }
    };
    let sizes = Sizes::of(&answer, linux::page_size())
        .map_err(|why| Error::bad_answer("get_context", uverbs.device(), why))?;
    Ok((new, Context::new(uverbs, sizes)?))
}

/// Makes a protection domain; gives its handle and the device's number for it.
pub(crate) fn alloc_pd(uverbs: &Uverbs) -> Result<(u32, u32)> {
    let mut answer = abi::AllocPdResp::default();
    let handle = uverbs.alloc_pd(Udata::answer(&mut answer))?;
    Ok((handle, answer.pdn))
}

/// The device's attributes, and what its driver adds.
pub(crate) fn query_device(uverbs: &Uverbs) -> Result<(ExQueryDeviceResp, DriverCaps)> {
    let mut answer = abi::ExQueryDeviceResp::default();
    let device = uverbs.query_device_and_driver(Udata::answer(&mut answer))?;
    let abi::ExQueryDeviceResp { rss_caps, tso_caps, .. } = answer;
    let caps = DriverCaps {
        max_tso: tso_caps.max_tso,
        tso_qpts: tso_caps.supported_qpts,
        rx_hash_function: rss_caps.rx_hash_function,
        rx_hash_fields_mask: rss_caps.rx_hash_fields_mask,
    };
    Ok((device, caps))
}

impl Sizes {
    /// Refuses what this driver would not know how to use.
    fn of(answer: &abi::AllocUcontextResp, page: usize) -> Result<Self, String> {
        let large = answer.dev_caps & abi::MLX4_USER_DEV_CAP_LARGE_CQE != 0;
        let cqe = if large { answer.cqe_size } else { 32 };
        if cqe != 32 && cqe != 64 {
            return Err(format!("completion queue entries of {cqe} bytes"));
        }
        let qps = answer.qp_tab_size;
        if !qps.is_power_of_two() || qps > 1 << 24 {
            return Err(format!("a table of {qps} queue pairs"));
        }
        let (bf_reg, bf_regs) = (usize::from(answer.bf_reg_size), usize::from(answer.bf_regs_per_page));
        // Two buffers of a chunk at least, or none.
        let fits = bf_reg.is_power_of_two() && bf_reg >= 128 && bf_reg <= page;
        if bf_reg != 0 && !fits {
            return Err(format!("BlueFlame registers of {bf_reg} bytes"));
        }
        // An old kernel may not say how many; there is one at least.
        Ok(Self { cqe, bf_reg, bf_regs: bf_regs.max(1) })
    }
}

impl Context {
    fn new(uverbs: &Uverbs, sizes: Sizes) -> Result<Self> {
        let map = |what: &str, page: u64| {
            Mmio::map(uverbs.as_fd(), page * linux::page_size() as u64).map_err(|errno| {
                uverbs.error("open", errno).with_hint(format!("mapping the device's {what} page failed"))
            })
        };
        let doorbells = map("doorbell", 0)?;
        let blueflame = match sizes.bf_reg {
            0 => None,
            size => Some((map("BlueFlame", 1)?, size, sizes.bf_regs)),
        };
        let uar = Arc::new(Uar::new(doorbells, blueflame));
        Ok(Self { uar, records: dbrec::Pool::default(), cqe_size: sizes.cqe, limits: OnceLock::new() })
    }

    /// Log2 of the bytes of a completion queue's entry.
    fn cqe_shift(&self) -> u32 {
        self.cqe_size.trailing_zeros()
    }

    /// Refuses sizes over the device's: the kernel looks at the slots alone.
    fn check(&self, uverbs: &Uverbs, cap: &QpCap) -> Result<(), Errno> {
        let (max_wr, max_sge) = *self.limits.get_or_init(|| match uverbs.query_device() {
            Ok(device) => (device.base.max_qp_wr, device.base.max_sge),
            // What no device exceeds; the kernel has the last word.
            Err(_) => (1 << 16, 64),
        });
        let wr = cap.max_send_wr.max(cap.max_recv_wr);
        let sge = cap.max_send_sge.max(cap.max_recv_sge);
        if wr > max_wr || sge > max_sge { Err(Errno::EINVAL) } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
