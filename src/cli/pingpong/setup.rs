//! What a run needs: an open device, a region, a completion queue, a queue pair.

use bareverbs::{
    Access, Context, Cq, CqInit, Device, DeviceAttr, Endpoint, LinkLayer, Mr, Mtu, Pd, PortAttr, PostError,
    Qp, QpInit, RecvWr, SendWr, Sge, Wait,
};

use super::args::Plan;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::output::Tool;

/// The id of every receive, and of every send; those of the C tools.
pub(super) const RECV: u64 = 1;
pub(super) const SEND: u64 = 2;

/// Every so many sends, one asks for a completion: a reply tells as much of the others.
pub(super) const SIGNAL_EVERY: u32 = 32;

/// Completions of sends that may lie in the completion queue at a time.
const SENDS_IN_CQ: u32 = 2;

/// Longer messages are not worth a copy.
const MAX_INLINE: usize = 256;

/// What fills a message.
const FILLER: u8 = 0x7b;

/// The first byte of every page of a message that is checked (`-c`); rdma-core's tools write and look at no other.
const MARK: u8 = 0;
const PAGE: usize = 4096;

/// Everything that is set up before the peers meet.
pub(super) struct Setup {
    pub(super) cq: Cq,
    pub(super) qp: Qp,
    pub(super) local: Endpoint,
    pub(super) active_mtu: Mtu,
    /// What went wrong and does not matter much.
    pub(super) warning: Option<String>,
    mr: Mr,
    message: Sge,
    rx_depth: u32,
    inline: bool,
}

impl Setup {
    pub(super) fn new(plan: &Plan) -> Result<Self, Failure> {
        let device = match &plan.ib_dev {
            Some(name) => Device::by_name(&name.to_string_lossy())?,
            None => Device::first()?,
        };
        let ctx = device.open()?;
        let port = ctx.query_port(plan.ib_port)?;
        let limits = ctx.query_device()?;
        check(plan, &ctx, &port, &limits)?;

        let pd = ctx.alloc_pd()?;
        let (mr, warning) = region(plan, &pd)?;
        let mut init = CqInit::new(plan.rx_depth + SENDS_IN_CQ);
        if plan.wait != Wait::Poll {
            init = init.own_channel();
        }
        let cq = ctx.create_cq(init)?;
        let sizes = QpInit::rc(&cq, &cq).max_send_wr(2 * SIGNAL_EVERY).max_recv_wr(plan.rx_depth);
        let mut qp = pd.create_qp(sizes)?;
        let local = qp.endpoint(plan.ib_port, plan.gid_index).map_err(|e| match port.link_layer {
            LinkLayer::Ethernet if plan.gid_index.is_none() => format!("{e}, -g chooses one"),
            _ => e.to_string(),
        })?;
        if port.link_layer != LinkLayer::Ethernet && local.lid.0 == 0 {
            return Err(format!(
                "port {} of {} has no LID: is a subnet manager running?",
                plan.ib_port,
                device.name()
            )
            .into());
        }
        let inline = plan.size <= qp.cap().max_inline_data.min(MAX_INLINE as u32);
        let message = mr.slice(..plan.size as usize);
        let active_mtu = port.active_mtu;
        Ok(Self { cq, qp, local, active_mtu, warning, mr, message, rx_depth: plan.rx_depth, inline })
    }

    /// Fills the receive queue.
    pub(super) fn post_first_receives(&mut self) -> Result<(), String> {
        self.post_receives(self.rx_depth)
    }

    /// Posts `count` receives into the region.
    #[inline]
    pub(super) fn post_receives(&mut self, count: u32) -> Result<(), String> {
        let wr = RecvWr::new(RECV).sge(self.message);
        for _ in 0..count {
            self.qp.post_recv(wr).map_err(|e| format!("couldn't post receive: {e}"))?;
        }
        Ok(())
    }

    /// Posts one send of the region.
    #[inline]
    pub(super) fn post_send(&mut self, signaled: bool) -> Result<(), String> {
        let posted = match (self.inline, signaled) {
            (false, false) => self.qp.post_send(SendWr::send(SEND).sge(self.message)),
            (false, true) => self.post_signaled(),
            (true, false) => self.post_inline(SendWr::send(SEND)),
            (true, true) => self.post_inline(SendWr::send(SEND).signaled()),
        };
        posted.map_err(|e| format!("couldn't post send: {e}"))
    }

    #[inline(never)]
    fn post_signaled(&mut self) -> Result<(), PostError> {
        self.qp.post_send(SendWr::send(SEND).sge(self.message).signaled())
    }

    #[inline(never)]
    fn post_inline(&mut self, wr: SendWr<'_>) -> Result<(), PostError> {
        let mut bytes = [0; MAX_INLINE];
        let bytes = &mut bytes[..self.message.length as usize];
        self.mr.read(0, bytes);
        self.qp.post_send(wr.inline(bytes))
    }

    /// Marks the pages of the message that the client sends, where it is to be checked.
    pub(super) fn mark(&mut self) {
        for page in (0..self.message.length as usize).step_by(PAGE) {
            self.mr.write(page, &[MARK]);
        }
    }

    /// Checks every byte that the server received last, where that was asked for.
    pub(super) fn check_received(&self, tool: &Tool, plan: &Plan) -> Outcome {
        if !plan.chk || plan.server.is_some() {
            return Ok(());
        }
        let mut page = [0; PAGE];
        let mut bad = Vec::new();
        for start in (0..self.message.length as usize).step_by(PAGE) {
            let page = &mut page[..PAGE.min(self.message.length as usize - start)];
            self.mr.read(start, page);
            if page[0] != MARK || page[1..].iter().any(|&byte| byte != FILLER) {
                bad.push(start / PAGE);
            }
        }
        if bad.is_empty() {
            return Ok(());
        }
        tool.print(&bad.iter().map(|page| format!("invalid data in page {page}\n")).collect::<String>())?;
        Err(format!("{} pages were not received as they were sent; did the client have -c too?", bad.len())
            .into())
    }
}

/// Checks the options against what the device can do, in the C tools' words where they have some.
fn check(plan: &Plan, ctx: &Context, port: &PortAttr, device: &DeviceAttr) -> Outcome {
    let name = &ctx.info().name;
    if plan.size > port.max_msg_sz {
        return Err(format!(
            "size {} (-s) is over the largest message of {name}, {} bytes (max_msg_sz)",
            plan.size, port.max_msg_sz
        )
        .into());
    }
    if plan.rx_depth > device.max_qp_wr {
        return Err(format!(
            "rx-depth {} (-r) is over the receive queue's limit on {name}, {} (max_qp_wr)",
            plan.rx_depth, device.max_qp_wr
        )
        .into());
    }
    if plan.rx_depth.saturating_add(SENDS_IN_CQ) > device.max_cqe {
        return Err(format!(
            "rx-depth {} (-r) needs a completion queue of {SENDS_IN_CQ} more, and the limit on {name} is {} (max_cqe)",
            plan.rx_depth, device.max_cqe
        )
        .into());
    }
    // Bits of `enum ibv_odp_general_caps` and `enum ibv_odp_transport_cap_bits`.
    const SUPPORT: u64 = 1;
    const IMPLICIT: u64 = 2;
    const SEND_AND_RECV: u32 = 3;
    if plan.odp || plan.iodp {
        let odp = &device.odp;
        if odp.general & SUPPORT == 0 || odp.rc & SEND_AND_RECV != SEND_AND_RECV {
            return Err(
                "The device isn't ODP capable or does not support RC send and receive with ODP".into()
            );
        }
        if plan.iodp && odp.general & IMPLICIT == 0 {
            return Err("The device doesn't support implicit ODP".into());
        }
        if plan.iodp {
            return Err("implicit on-demand paging (-O) is not done here; -o is".into());
        }
    }
    if plan.ts {
        return Err(match device.completion_timestamp_mask {
            0 => "The device isn't completion timestamp capable".into(),
            _ => "completions with timestamps (-t) are not read here yet".into(),
        });
    }
    if plan.dm {
        return Err(match device.max_dm_size {
            0 => "Device doesn't support dm allocation".into(),
            max if max < plan.size.into() => "Device memory is insufficient".into(),
            _ => "device memory (-j) is not allocated here yet".into(),
        });
    }
    Ok(())
}

/// The message's memory, filled.
fn region(plan: &Plan, pd: &Pd) -> Result<(Mr, Option<String>), Failure> {
    let odp = if plan.odp { Access::ON_DEMAND } else { Access::empty() };
    let mut mr = pd.alloc_mr(plan.size as usize, Access::LOCAL_WRITE | odp)?;
    let filler = [FILLER; PAGE];
    for start in (0..mr.len()).step_by(PAGE) {
        mr.write(start, &filler[..PAGE.min(mr.len() - start)]);
    }
    let warning = plan.prefetch.then(|| mr.prefetch().err()).flatten().map(|e| {
        let errno = e.errno().map_or(0, |errno| errno as i32);
        format!("Couldn't prefetch MR({errno}). Continue anyway")
    });
    Ok((mr, warning))
}
