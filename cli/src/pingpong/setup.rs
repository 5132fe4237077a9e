//! What a run needs: an open device, a region, a completion queue, queue pairs, perhaps a queue that they share.

use bareverbs::{
    AddressVector, Ah, ConnectAttr, Context, Cq, CqInit, Endpoint, LinkLayer, Mr, Mtu, Pd, PostError, Qp,
    QpInit, Qpn, RecvWr, SendFlags, SendWr, Sge, Srq, Wait,
};

use super::limits;
use super::plan::Plan;
use super::service::Kind;
use crate::devices;
use crate::outcome::{Failure, InC, Outcome};
use crate::output::{Manner, Tool};

/// The id of every receive, and of every send; those of the C tools.
pub(super) const RECV: u64 = 1;
pub(super) const SEND: u64 = 2;

/// Every so many sends of a queue pair, a power of two, one asks for a completion: a reply tells as much of the others. All do
/// where the process sleeps: who is awake when the reply comes need not be woken, which takes longer than the completion. And
/// all do of several queue pairs: while a server's reply is on its way over one, the others may end the game, so that no reply
/// follows; and so many send queues are better short.
pub(super) fn signal_every(plan: &Plan) -> u32 {
    if plan.kind == Kind::Srq || plan.wait == Wait::Events { 1 } else { 32 }
}

/// Longer messages are not worth a copy.
const MAX_INLINE: usize = 256;

/// The first byte of every page of a message that is checked (`-c`); rdma-core's tools write and look at no other.
const MARK: u8 = 0;
const PAGE: usize = 4096;

/// Everything that is set up before the peers meet.
pub(super) struct Setup {
    pub(super) cq: Cq,
    pub(super) qps: Vec<Qp>,
    pub(super) local: Vec<Endpoint>,
    pub(super) active_mtu: Mtu,
    /// The bits of the device's clock that count, where completions have the time.
    pub(super) timestamp_mask: Option<u64>,
    /// What went wrong and does not matter much.
    pub(super) warning: Option<String>,
    srq: Option<Srq>,
    /// Where datagrams go, once the peer is known.
    to: Option<(Ah, Qpn)>,
    pd: Pd,
    mr: Mr,
    /// Where a message comes to, with what stands before it.
    room: Sge,
    message: Sge,
    rx_depth: u32,
    inline: bool,
    /// A send is no more than the message, as an element.
    plain: bool,
}

impl Setup {
    pub(super) fn new(plan: &Plan) -> Result<Self, Failure> {
        let ctx = open(plan)?;
        let port = ctx.query_port(plan.ib_port).in_c(plan.kind.no_port(plan.ib_port))?;
        limits::check(plan, &ctx, &port)?;

        let pd = ctx.alloc_pd().in_c("Couldn't allocate PD")?;
        let (mr, warning) = limits::region(plan, &pd)?;
        let mut init = CqInit::new(plan.rx_depth + limits::sends_in_cq(plan));
        if plan.wait != Wait::Poll {
            init = init.own_channel();
        }
        let mut timestamp_mask = None;
        if plan.ts {
            init = init.timestamps();
            timestamp_mask = Some(ctx.query_device()?.completion_timestamp_mask);
        }
        let cq = ctx.create_cq(init).in_c("Couldn't create CQ")?;
        let srq = match plan.kind {
            Kind::Srq => Some(pd.create_srq(plan.rx_depth).in_c("Couldn't create SRQ")?),
            _ => None,
        };
        let wanted = match (plan.kind, &srq) {
            (_, Some(srq)) => QpInit::rc(&cq, &cq).srq(srq),
            (Kind::Uc, _) => QpInit::uc(&cq, &cq).max_recv_wr(plan.rx_depth),
            (Kind::Ud, _) => QpInit::ud(&cq, &cq).max_recv_wr(plan.rx_depth),
            _ => QpInit::rc(&cq, &cq).max_recv_wr(plan.rx_depth),
        };
        let wanted = wanted.max_send_wr(2 * signal_every(plan));
        let (mut qps, mut local) = (Vec::new(), Vec::new());
        for n in 0..plan.num_qp as usize {
            let mut qp = pd.create_qp(wanted).in_c(format!("Couldn't create {}", plan.kind.qp(n)))?;
            let endpoint =
                qp.init_endpoint(plan.ib_port, plan.gid_index).map_err(|e| match port.link_layer {
                    LinkLayer::ETHERNET if plan.gid_index.is_none() => format!("{e}, -g chooses one"),
                    _ => e.to_string(),
                });
            let endpoint = endpoint.in_c(plan.kind.no_gid(plan.gid_index))?;
            local.push(endpoint);
            qps.push(qp);
        }
        limits::check_lid(plan, &ctx, &port)?;
        let inline = qps.iter().all(|qp| plan.size <= qp.cap().max_inline_data.min(MAX_INLINE as u32));
        let header = plan.kind.header() as usize;
        Ok(Self {
            cq,
            qps,
            local,
            active_mtu: port.active_mtu,
            timestamp_mask,
            warning,
            srq,
            to: None,
            pd,
            room: mr.slice(..),
            message: mr.slice(header..),
            mr,
            rx_depth: plan.rx_depth,
            inline,
            plain: !inline && plan.kind != Kind::Ud,
        })
    }

    /// Makes the queue pairs ready to send to the peer's, in their order.
    pub(super) fn join(&mut self, plan: &Plan, peers: &[Endpoint]) -> Outcome {
        self.reach(plan, peers).in_c(plan.kind.no_peer())
    }

    fn reach(&mut self, plan: &Plan, peers: &[Endpoint]) -> Result<(), String> {
        let attr = ConnectAttr::new().mtu(plan.mtu).sl(plan.sl).hop_limit(1);
        for (qp, peer) in self.qps.iter_mut().zip(peers) {
            if plan.kind == Kind::Ud {
                let av = qp.address(peer).map_err(|e| e.to_string())?;
                let av = AddressVector { sl: plan.sl, hop_limit: 1, ..av };
                let ah = qp.start().and_then(|()| self.pd.create_ah(&av));
                self.to = Some((ah.map_err(|e| e.to_string())?, peer.qp_num));
                continue;
            }
            qp.connect(peer, attr).map_err(|e| match self.active_mtu.bytes() {
                Some(active) if active < plan.mtu.bytes().unwrap_or_default() => {
                    let mtu = plan.mtu.bytes().unwrap_or_default();
                    format!("{e}; MTU {mtu} (-m) is over the port's active MTU of {active}")
                }
                _ => e.to_string(),
            })?;
        }
        Ok(())
    }

    /// Fills the receive queue.
    pub(super) fn post_first_receives(&mut self) -> Result<(), String> {
        self.post_receives(self.rx_depth)
    }

    /// Posts `count` receives into the region.
    #[inline]
    pub(super) fn post_receives(&mut self, count: u32) -> Result<(), String> {
        let wr = RecvWr::new(RECV).sge(self.room);
        let qp = &mut self.qps[0];
        let posted = match &mut self.srq {
            None => (0..count).try_for_each(|_| qp.post_recv(wr)),
            Some(srq) => (0..count).try_for_each(|_| srq.post_recv(wr)),
        };
        posted.map_err(|e| format!("Couldn't post receive: {e}"))
    }

    /// Posts one send of the region.
    #[inline(always)]
    pub(super) fn post_send(&mut self, qp: usize, signaled: bool) -> Result<(), String> {
        if !self.plain {
            return self.post_any(qp, signaled);
        }
        let wr = SendWr::send(SEND).flags(flags(signaled)).sge(self.message);
        self.qps[qp].post_send(wr).map_err(|e| refused(&e))
    }

    /// The same of whatever service and size.
    #[inline(never)]
    pub(super) fn post_any(&mut self, qp: usize, signaled: bool) -> Result<(), String> {
        let mut bytes = [0; MAX_INLINE];
        let wr = SendWr::send(SEND).flags(flags(signaled));
        let wr = if self.inline {
            let bytes = &mut bytes[..self.message.length as usize];
            self.mr.read((self.room.length - self.message.length) as usize, bytes);
            wr.inline(bytes)
        } else {
            wr.sge(self.message)
        };
        let wr = match &self.to {
            Some((ah, qp_num)) => wr.ud_addr(ah, *qp_num, Qp::DEFAULT_QKEY),
            None => wr,
        };
        self.qps[qp].post_sends(&[wr]).map_err(|e| refused(&e))
    }

    /// Marks the pages of the message that the client sends, where it is to be checked.
    pub(super) fn mark(&mut self) {
        let start = (self.room.length - self.message.length) as usize;
        for page in (start..self.mr.len()).step_by(PAGE) {
            self.mr.write(page, &[MARK]);
        }
    }

    /// Checks every byte that the server received last, where that was asked for.
    pub(super) fn check_received(&self, tool: &Tool, plan: &Plan) -> Outcome {
        if !plan.chk || plan.server.is_some() {
            return Ok(());
        }
        let header = plan.kind.header() as usize;
        let filler = plan.kind.filler();
        let mut page = [0; PAGE];
        let mut bad = Vec::new();
        for start in (0..self.message.length as usize).step_by(PAGE) {
            let page = &mut page[..PAGE.min(self.message.length as usize - start)];
            self.mr.read(header + start, page);
            if page[0] != MARK || page[1..].iter().any(|&byte| byte != filler) {
                bad.push(start / PAGE);
            }
        }
        if bad.is_empty() {
            return Ok(());
        }
        tool.report(&bad.iter().map(|page| format!("invalid data in page {page}\n")).collect::<String>())?;
        // To C's tool that is no failure.
        if tool.manner() == Manner::C {
            return Ok(());
        }
        Err(format!("{} pages were not received as they were sent; did the client have -c too?", bad.len())
            .into())
    }
}

fn flags(signaled: bool) -> SendFlags {
    if signaled { SendFlags::SIGNALED } else { SendFlags::empty() }
}

#[cold]
fn refused(why: &PostError) -> String {
    format!("Couldn't post send: {why}")
}

/// Opens the device that the options choose.
pub(super) fn open(plan: &Plan) -> Result<Context, Failure> {
    devices::open(plan.ib_dev.as_deref(), plan.kind.no_device())
}
