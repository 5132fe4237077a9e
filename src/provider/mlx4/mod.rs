//! ConnectX-2 and ConnectX-3: the kernel's `mlx4_ib`, and the device itself.
//!
//! Queues are memory of this process that the kernel pins and the device reads and writes. A send is announced by a store to a
//! mapped register ([`uar`]), receives and freed completions by words in memory ([`dbrec`]): posting and polling make no
//! system call. Facts about the device are from Linux 6.1 (`drivers/infiniband/hw/mlx4`, `include/linux/mlx4`) and
//! rdma-core 44 (`providers/mlx4`).

mod ah;
mod buffer;
mod command;
mod cq;
mod cqe;
mod dbrec;
mod layout;
mod lookup;
#[cfg(all(bareverbs_loom, test))]
mod loom_tests;
#[cfg(test)]
mod mock;
mod qp;
mod registry;
mod srq;
mod uar;
mod wq;
mod wqe;

use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;

use self::cq::Cq;
use self::srq::Srq;
use self::uar::Uar;
use crate::error::{Cause, Error, Result};
use crate::provider::{Driver, Hold, NewAh, NewCq, NewPd, NewQp, NewSrq, Queues};
use crate::sys::mmio::Mmio;
use crate::sys::{barrier, linux};
use crate::types::{DriverCaps, EthAddr};
use crate::uapi::ioctl::verbs::QpCap;
use crate::uapi::mlx4 as abi;
use crate::uapi::verbs::{AhAttr, ExQueryDeviceResp};
use crate::uverbs::cq::CqParams;
use crate::uverbs::device::NewContext;
use crate::uverbs::qp::QpParams;
use crate::uverbs::srq::SrqParams;
use crate::uverbs::{Udata, Uverbs};

/// More requests than this cannot be told apart: completions carry 16 bits of a request's number.
const MAX_WR: u32 = 1 << 16;

/// More elements of a receive than any device takes.
const MAX_SGE: u32 = 64;

/// What the queues of a context share.
#[derive(Debug)]
pub(crate) struct Context {
    uar: Arc<Uar>,
    records: dbrec::Pool,
    /// Bytes of a completion queue's entry: 32 or 64.
    cqe_size: u32,
    /// The device's maximum requests and elements, once they have been queried.
    limits: OnceLock<(u32, u32)>,
}

/// A device's registers and sizes, as the kernel reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    cqe: u32,
    /// Bytes of a BlueFlame register, 0 if there is none, and the registers of a page.
    bf_reg: usize,
    bf_regs: usize,
}

/// Creates this file's context and maps its registers. `version` is the driver's version of this ABI.
fn open(uverbs: &Uverbs, version: u32) -> Result<(NewContext, Context)> {
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

impl Driver for Context {
    type Cq = Cq;
    type Sq = qp::Sq;
    type Rq = qp::Rq;
    type Srq = Srq;

    const TRANSLATES_BY_ADDRESS: bool = true; // up to Linux 7.3 at least

    fn open(uverbs: &Uverbs, abi: u32) -> Result<(NewContext, Self)> {
        open(uverbs, abi)
    }

    fn query_device(&self, uverbs: &Uverbs) -> Result<(ExQueryDeviceResp, DriverCaps)> {
        query_device(uverbs)
    }

    fn alloc_pd(&self, uverbs: &Uverbs) -> Result<NewPd> {
        let mut answer = abi::AllocPdResp::default();
        let handle = uverbs.alloc_pd(Udata::answer(&mut answer))?;
        Ok(NewPd { handle, hold: Hold::new(Pdn(answer.pdn)) })
    }

    fn create_cq(&self, uverbs: &Uverbs, params: &CqParams<'_>) -> Result<NewCq<Cq>> {
        cq::create(self, uverbs, params)
    }

    fn create_qp(
        &self,
        uverbs: &Uverbs,
        params: &QpParams,
        queues: Queues<'_>,
    ) -> Result<NewQp<Option<qp::Sq>, Option<qp::Rq>>> {
        qp::create(self, uverbs, params, queues)
    }

    fn create_srq(&self, uverbs: &Uverbs, params: &SrqParams, xrc_cq: Option<&Hold>) -> Result<NewSrq<Srq>> {
        srq::create(self, uverbs, params, xrc_cq)
    }

    fn create_ah(
        &self,
        uverbs: &Uverbs,
        _pd_handle: u32,
        pd: &Hold,
        attr: AhAttr,
        eth_addr: impl FnOnce(&AhAttr) -> Result<EthAddr>,
    ) -> Result<NewAh> {
        let Pdn(pdn) = *pd.get().unwrap_or(&Pdn(0));
        let device = ah::create(uverbs, pdn, &attr, eth_addr)?;
        Ok(NewAh { handle: None, device })
    }
}

/// The device's number for a protection domain.
#[derive(Debug)]
struct Pdn(u32);

/// Returns the device's attributes and those that its driver adds.
fn query_device(uverbs: &Uverbs) -> Result<(ExQueryDeviceResp, DriverCaps)> {
    let mut answer = abi::ExQueryDeviceResp::default();
    let mut device = uverbs.query_device_and_driver(Udata::answer(&mut answer))?;
    let base = &mut device.base;
    // A program that asks for a limit gets it, whatever the driver claims.
    base.max_qp_wr = base.max_qp_wr.min(MAX_WR);
    base.max_srq_wr = base.max_srq_wr.min(srq::MAX_WR - 1);
    base.max_cqe = base.max_cqe.min(cq::MAX_CQE);
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
    /// Refuses sizes that this driver does not know how to use.
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
        // At least two buffers of a chunk each, or no register.
        let fits = bf_reg.is_power_of_two() && bf_reg >= 128 && bf_reg <= page;
        if bf_reg != 0 && !fits {
            return Err(format!("BlueFlame registers of {bf_reg} bytes"));
        }
        // An old kernel may not report how many there are; there is at least one.
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
    fn log2_cqe_size(&self) -> u32 {
        self.cqe_size.trailing_zeros()
    }

    /// Refuses sizes over the device's and over those that the queues can express: the kernel looks at the slots alone.
    fn check(&self, uverbs: &Uverbs, cap: &QpCap) -> Result<(), Errno> {
        let (max_wr, max_sge) = *self.limits.get_or_init(|| match uverbs.query_device() {
            Ok(device) => (device.base.max_qp_wr.min(MAX_WR), device.base.max_sge.min(MAX_SGE)),
            // The kernel has the last word.
            Err(_) => (MAX_WR, MAX_SGE),
        });
        let wr = cap.max_send_wr.max(cap.max_recv_wr);
        let sge = cap.max_send_sge.max(cap.max_recv_sge);
        if wr > max_wr || sge > max_sge { Err(Errno::EINVAL) } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
