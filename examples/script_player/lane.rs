//! Lanes: two ends of this process, each with its queues, connected to each other.

use std::collections::VecDeque;
use std::time::Duration;

use bareverbs::{
    Access, Ah, ConnectAttr, Context, Cq, CqInit, Endpoint, Mtu, Pd, PortNum, Qp, QpAttr, QpInit, QpState,
    RecvWr, Srq, SrqInit, Srqn, Wait, Wc, Xrcd,
};

use crate::Outcome;

const DEPTH: u32 = 64;
const SGES: u32 = 4;
const INLINE: u32 = 128;

/// What a peer may do.
pub(crate) const REMOTE: Access =
    Access::REMOTE_WRITE.union(Access::REMOTE_READ).union(Access::REMOTE_ATOMIC);

/// What lanes are made from.
pub(crate) struct Parents {
    pub(crate) ctx: Context,
    pub(crate) pd: Pd,
    pub(crate) gid_index: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rc,
    Uc,
    Ud,
    Xrc,
}

pub(crate) struct Lane {
    kind: Kind,
    pub(crate) ends: [End; 2],
    pd: Pd,
    gid_index: Option<u32>,
}

/// One end of a lane.
pub(crate) struct End {
    pub(crate) qp: Qp,
    /// Of XRC, the queue pair that receives.
    receiver: Option<Qp>,
    srq: Option<Srq>,
    cq: Cq,
    /// Of UD, the way to the peer.
    pub(crate) ah: Option<Ah>,
    /// The peer's queue pair that receives, and of XRC its shared queue.
    pub(crate) peer: Endpoint,
    pub(crate) peer_srqn: Option<Srqn>,
    /// What has come and was not asked for yet: of sends, of receives.
    arrivals: [VecDeque<Wc>; 2],
}

impl Lane {
    pub(crate) fn new(parents: &Parents, kind: &str, srq: bool) -> Outcome<Self> {
        let kind = match kind {
            "rc" => Kind::Rc,
            "uc" => Kind::Uc,
            "ud" => Kind::Ud,
            "xrc" => Kind::Xrc,
            other => return Err(format!("there are no lanes of {other}").into()),
        };
        let xrcd = match kind {
            Kind::Xrc => Some(parents.ctx.open_xrcd(None, nix::libc::O_CREAT)?),
            _ => None,
        };
        let end = || End::new(parents, kind, srq, xrcd.as_ref());
        let mut lane =
            Self { kind, ends: [end()?, end()?], pd: parents.pd.clone(), gid_index: parents.gid_index };
        lane.connect()?;
        Ok(lane)
    }

    /// Both ends from RESET to RTS.
    pub(crate) fn connect(&mut self) -> Outcome {
        let gid_index = self.gid_index;
        let endpoint = |qp: &mut Qp| -> Outcome<Endpoint> {
            qp.modify(&QpAttr::to(QpState::RESET))?;
            Ok(qp.init_endpoint(PortNum::ONE, gid_index)?)
        };
        let [a, b] = &mut self.ends;
        let senders = [endpoint(&mut a.qp)?, endpoint(&mut b.qp)?];
        let mut receivers = senders;
        for (end, receiver) in [&mut *a, &mut *b].into_iter().zip(&mut receivers) {
            if let Some(qp) = &mut end.receiver {
                *receiver = endpoint(qp)?;
            }
        }
        let numbers = [a, b].map(|end| end.srq.as_ref().and_then(Srq::srq_num));
        for (here, there) in [(0, 1), (1, 0)] {
            let end = &mut self.ends[here];
            (end.peer, end.peer_srqn) = (receivers[there], numbers[there]);
            end.connect(&self.pd, self.kind, &senders[there])?;
        }
        Ok(())
    }

    /// Both ends to ERR.
    pub(crate) fn fail(&mut self) -> Outcome {
        for end in &mut self.ends {
            for qp in [Some(&mut end.qp), end.receiver.as_mut()].into_iter().flatten() {
                qp.modify(&QpAttr::to(QpState::ERR))?;
            }
        }
        Ok(())
    }
}

impl End {
    fn new(parents: &Parents, kind: Kind, srq: bool, xrcd: Option<&Xrcd>) -> Outcome<Self> {
        let Parents { ctx, pd, .. } = parents;
        let cq = ctx.create_cq(CqInit::new(2 * DEPTH).own_channel())?;
        let sizes = SrqInit::new(DEPTH).max_sge(SGES);
        let srq = match xrcd {
            Some(xrcd) => Some(pd.create_srq(sizes.xrc(xrcd, &cq))?),
            None if srq => Some(pd.create_srq(sizes)?),
            None => None,
        };
        let receiver = xrcd.map(Xrcd::create_recv_qp).transpose()?;
        let init = match kind {
            Kind::Rc => QpInit::rc(&cq, &cq),
            Kind::Uc => QpInit::uc(&cq, &cq),
            Kind::Ud => QpInit::ud(&cq, &cq),
            Kind::Xrc => QpInit::xrc_send(&cq),
        };
        let init = init.max_send_wr(DEPTH).max_send_sge(SGES).max_inline_data(INLINE);
        let init = match &srq {
            Some(_) if kind == Kind::Xrc => init,
            Some(srq) => init.srq(srq),
            None => init.max_recv_wr(DEPTH).max_recv_sge(SGES),
        };
        let qp = pd.create_qp(init)?;
        let (peer, peer_srqn, arrivals) = (Endpoint::default(), None, Default::default());
        Ok(Self { qp, receiver, srq, cq, ah: None, peer, peer_srqn, arrivals })
    }

    /// `sender` is the peer's queue pair that sends.
    fn connect(&mut self, pd: &Pd, kind: Kind, sender: &Endpoint) -> Outcome {
        if kind == Kind::Ud {
            self.qp.start()?;
            self.ah = Some(pd.create_ah(&self.qp.address(&self.peer)?)?);
            return Ok(());
        }
        let rights = if kind == Kind::Uc { Access::REMOTE_WRITE } else { REMOTE };
        // An emulated device may be slow; and being late has to be told from giving up.
        let mut attr =
            ConnectAttr::new().mtu(Mtu::MTU_1024).access(rights).max_rd_atomic(4).retry(18, 7).rnr_retry(7);
        attr.min_rnr_timer = 1;
        if let Some(receiver) = &mut self.receiver {
            receiver.connect(sender, attr)?;
        }
        self.qp.connect(&self.peer, attr)?;
        Ok(())
    }

    pub(crate) fn post_recv(&mut self, wr: RecvWr<'_>) -> Outcome {
        match &mut self.srq {
            Some(srq) => srq.post_recv(wr)?,
            None => self.qp.post_recv(wr)?,
        }
        Ok(())
    }

    /// The next completion of one direction, as soon as there is one.
    pub(crate) fn next(&mut self, received: bool, how: Wait, receives: &dyn Fn(u64) -> bool) -> Outcome<Wc> {
        loop {
            if let Some(wc) = self.arrivals[usize::from(received)].pop_front() {
                return Ok(wc);
            }
            if self.take(how, Duration::from_secs(30), receives)? == 0 {
                return Err("no completion within 30 s".into());
            }
        }
    }

    /// What has come that nobody asked for.
    pub(crate) fn left(&mut self, receives: &dyn Fn(u64) -> bool) -> Outcome<Option<Wc>> {
        while self.take(Wait::Poll, Duration::ZERO, receives)? > 0 {}
        Ok(self.arrivals.iter_mut().find_map(VecDeque::pop_front))
    }

    fn take(&mut self, how: Wait, patience: Duration, receives: &dyn Fn(u64) -> bool) -> Outcome<usize> {
        let mut wcs = [Wc::default(); 16];
        let came = self.cq.wait(&mut wcs, how, Some(patience))?.completions();
        for wc in came {
            // A failure's completion does not say what failed.
            self.arrivals[usize::from(receives(wc.wr_id))].push_back(*wc);
        }
        Ok(came.len())
    }
}
