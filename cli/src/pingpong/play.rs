//! The loop that is measured: a message goes out when the peer's has come.
//!
//! The peer's reply says that the last message of its queue pair has arrived, so only every so many sends of each, and the
//! last, which no reply follows, ask for a completion of their own (`setup::signal_every`). The C tools ask for all.

use std::time::{Duration, Instant};

use bareverbs::{AsyncEventType, Context, Qpn, Wait, Waited, Wc, WcStatus};

use super::cycles::Cycles;
use super::plan::Plan;
use super::setup::{RECV, SEND, Setup, signal_every};
use crate::signals;

/// Completions that are taken out at a time.
const BATCH: usize = 16;

/// How a run went.
pub(super) struct Score {
    /// Exchanges that are complete.
    pub(super) done: u32,
    pub(super) elapsed: Duration,
    pub(super) end: End,
    pub(super) cycles: Option<Cycles>,
}

/// How a run ended.
pub(super) enum End {
    Complete,
    Interrupted,
    /// The reason, as one line.
    Failed(String),
}

/// Where a run stands.
struct Game {
    /// Sends that have completed, or whose completion the next reply stands for.
    sent: u32,
    /// Sends that were posted.
    begun: u32,
    received: u32,
    /// Receives that are posted.
    posted: u32,
    /// Receives are posted anew when no more than so many are left.
    low: u32,
    /// The queue pairs, in their order, and the number of the first.
    lanes: Vec<Lane>,
    first: u32,
    /// Of so many sends of a queue pair the last asks for a completion: a power of two.
    signal_every: u32,
    /// The number of the last send, which asks for one too.
    last: u32,
    /// Of a run that asks the device for the time.
    cycles: Option<Cycles>,
}

/// A queue pair in the game.
struct Lane {
    qp_num: Qpn,
    /// Sends that were posted.
    begun: u32,
    /// Ids of what must complete before the next send.
    pending: u64,
}

/// Plays the game to its end.
pub(super) fn run(setup: &mut Setup, plan: &Plan) -> Score {
    let mut game = Game {
        sent: 0,
        begun: 0,
        received: 0,
        posted: plan.rx_depth,
        low: plan.num_qp,
        lanes: setup
            .local
            .iter()
            .map(|local| Lane { qp_num: local.qp_num, begun: 0, pending: RECV })
            .collect(),
        first: setup.local[0].qp_num.get(),
        signal_every: signal_every(plan),
        last: plan.iters - 1,
        cycles: setup.timestamp_mask.map(Cycles::new),
    };
    let client = plan.server.is_some();
    if client && plan.chk {
        setup.mark();
    }
    let start = Instant::now();
    let serves = if client { setup.qps.len().min(plan.iters as usize) } else { 0 };
    let end = match game.serve(setup, serves) {
        Ok(()) => game.play(setup, plan),
        Err(why) => End::Failed(why),
    };
    Score { done: game.sent.min(game.received), elapsed: start.elapsed(), end, cycles: game.cycles }
}

impl Game {
    /// The first sends, of the side that begins.
    fn serve(&mut self, setup: &mut Setup, count: usize) -> Result<(), String> {
        (0..count).try_for_each(|qp| setup.post_any(qp, self.begin(qp)))
    }

    fn play(&mut self, setup: &mut Setup, plan: &Plan) -> End {
        let how = plan.wait;
        // The tick of `signals` ends every sleep; only a wait that never sleeps must look at the clock.
        let timeout = (how == Wait::Poll).then_some(Duration::from_secs(1));
        let mut wcs = [Wc::default(); BATCH];
        let mut silent = Silence::new(plan.timeout);
        while self.received < plan.iters || self.sent < plan.iters {
            if signals::interrupted() {
                return End::Interrupted;
            }
            match setup.cq.wait(&mut wcs, how, timeout) {
                Ok(Waited::TimedOut | Waited::Interrupted) => {
                    if let Some(why) = broken(&setup.qps[0].context()) {
                        return End::Failed(why);
                    }
                    if let Some(time) = silent.too_long((self.sent, self.received)) {
                        return End::Failed(format!(
                            "nothing has come from the peer for {} s: it was killed, or has fewer iterations (-n)",
                            time.as_secs()
                        ));
                    }
                }
                Ok(Waited::Ready(wcs)) => {
                    for wc in wcs {
                        if let Err(why) = self.take(setup, plan, wc) {
                            return End::Failed(why);
                        }
                    }
                }
                Err(e) => return End::Failed(e.to_string()),
            }
        }
        End::Complete
    }

    #[inline(always)]
    fn take(&mut self, setup: &mut Setup, plan: &Plan, wc: &Wc) -> Result<(), String> {
        if !wc.is_success() {
            return Err(failure(wc));
        }
        let Some(qp) = self.lane(wc.qp_num) else {
            return Err(format!("completion for unknown QPN {}", wc.qp_num));
        };
        match wc.wr_id {
            SEND => self.sent += 1,
            RECV => {
                let header = plan.kind.header();
                if wc.byte_len != plan.size + header {
                    return Err(format!(
                        "the peer sent {} bytes where {} are due: give both sides the same size (-s)",
                        wc.byte_len.saturating_sub(header),
                        plan.size
                    ));
                }
                self.posted = self.posted.wrapping_sub(1);
                if self.posted <= self.low {
                    setup.post_receives(plan.rx_depth - self.posted)?;
                    self.posted = plan.rx_depth;
                }
                self.received += 1;
                if let Some(cycles) = &mut self.cycles {
                    cycles.note(wc.timestamp);
                }
            }
            other => return Err(format!("Completion for unknown wr_id {other}")),
        }
        self.lanes[qp].pending &= !wc.wr_id;
        if self.lanes[qp].pending == 0 && self.begun < plan.iters {
            let signaled = self.begin(qp);
            setup.post_send(qp, signaled)?;
        }
        Ok(())
    }

    /// Counts a send that is about to be posted; whether it asks for a completion. The last of all has no reply to wait for.
    #[inline(always)]
    fn begin(&mut self, qp: usize) -> bool {
        let lane = &mut self.lanes[qp];
        lane.begun += 1;
        let signaled = lane.begun & (self.signal_every - 1) == 0 || self.begun == self.last;
        self.begun += 1;
        if signaled {
            lane.pending = RECV | SEND;
        } else {
            lane.pending = RECV;
            self.sent += 1;
        }
        signaled
    }

    /// The place of a queue pair. Numbers are mostly given out in order.
    #[inline(always)]
    fn lane(&self, qp_num: Qpn) -> Option<usize> {
        let guess = qp_num.get().wrapping_sub(self.first) as usize;
        match self.lanes.get(guess) {
            Some(lane) if lane.qp_num == qp_num => Some(guess),
            _ => self.lanes.iter().position(|lane| lane.qp_num == qp_num),
        }
    }
}

/// A failed completion, with what it usually means in a pingpong.
pub(super) fn failure(wc: &Wc) -> String {
    let why = match (wc.status, wc.wr_id) {
        (WcStatus::RETRY_EXC_ERR, _) => {
            ": the peer was killed, has fewer iterations (-n), or cannot be reached"
        }
        (WcStatus::LOC_LEN_ERR | WcStatus::REM_INV_REQ_ERR | WcStatus::REM_OP_ERR, _)
        | (WcStatus::LOC_QP_OP_ERR, RECV) => ": give both sides the same size (-s)",
        (WcStatus::LOC_QP_OP_ERR | WcStatus::WR_FLUSH_ERR, _) => {
            ": the queue pair failed; is the port still up?"
        }
        (WcStatus::RNR_RETRY_EXC_ERR, _) => ": the peer has no receive posted",
        _ => "",
    };
    let status = wc.status.name().unwrap_or("unknown");
    format!("Failed status {status} ({}) for wr_id {}{why}", wc.status.0, wc.wr_id)
}

/// What the device has told of itself that no completion tells, because none comes any more.
pub(super) fn broken(ctx: &Context) -> Option<String> {
    let events = ctx.async_events().ok()?;
    while let Ok(Some(event)) = events.next_event() {
        match event.event_type {
            AsyncEventType::DEVICE_FATAL => return Some("the device has failed or is gone".into()),
            AsyncEventType::CQ_ERR => return Some("the completion queue has overflowed".into()),
            _ => {}
        }
    }
    None
}

/// Watches for a peer that says nothing any more.
pub(super) struct Silence {
    limit: Option<Duration>,
    since: Instant,
    /// Sends and receives, when last looked at.
    seen: (u32, u32),
}

impl Silence {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, since: Instant::now(), seen: (0, 0) }
    }

    /// The limit, when there has been no progress for so long.
    pub(super) fn too_long(&mut self, progress: (u32, u32)) -> Option<Duration> {
        if progress != self.seen {
            (self.seen, self.since) = (progress, Instant::now());
        }
        self.limit.filter(|limit| self.since.elapsed() >= *limit)
    }
}
