//! One connection: its id, its queues, its memory, and whose turn it is.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use bareverbs::discover::Transport;
use bareverbs::{Access, CmId, CqInit, QpAttr, QpInit, QpState, Wc, WcStatus};

use super::args::Plan;
use super::client::Client;
use super::server::Server;
use super::wire;
use super::wires::{READ, SEND, WRITE, Wires};
use crate::outcome::Failure;
use crate::output::Tool;

/// The sizes of the C tool's queues.
const SQ_DEPTH: u32 = 16;
const RQ_DEPTH: usize = 2;

/// A connection and what is played over it. Fields drop in this order.
pub(super) struct Session {
    pub(super) wires: Wires,
    role: Role,
    /// When it was last seen that something had come, and whether something has since.
    since: Instant,
    moved: bool,
    /// When it was there, and when its last message was done; the latter is only noted where it is to be told.
    begun: Instant,
    done: Instant,
    timed: bool,
}

enum Role {
    Client(Client),
    Server(Server),
}

impl Session {
    /// Makes everything that a connection over `id` needs, and posts the first receives.
    pub(super) fn new(tool: &Tool, plan: &Plan, id: CmId) -> Result<Self, Failure> {
        let log = |line: String| if plan.debug { tool.report(&line) } else { Ok(()) };
        let ctx = id.context()?;
        let pd = ctx.alloc_pd()?;
        log(format!("created pd {:p}\n", &pd))?;
        let channel = ctx.create_comp_channel()?;
        log(format!("created channel {:p}\n", &channel))?;
        let cq = ctx.create_cq(CqInit::new(2 * SQ_DEPTH).channel(&channel))?;
        log(format!("created cq {:p}\n", &cq))?;
        let init = QpInit::rc(&cq, &cq)
            .max_send_wr(SQ_DEPTH)
            .max_recv_wr(RQ_DEPTH as u32)
            .max_inline_data(wire::LEN as u32);
        let qp = match plan.own_qp {
            false => id.create_qp(&pd, init)?,
            true => {
                let mut qp = pd.create_qp(init)?;
                qp.init(id.port()?, Access::empty())?;
                qp
            }
        };
        log(format!("created qp {:p}\n", &qp))?;
        log(format!("rping_setup_buffers called on cb {plan:p}\n"))?;
        let slots = pd.alloc_mr(RQ_DEPTH * wire::LEN, Access::LOCAL_WRITE)?;
        let (role, data) = if plan.server {
            let data = pd.alloc_mr(plan.size as usize, Access::LOCAL_WRITE)?;
            (Role::Server(Server::new(plan)), data)
        } else {
            let rights = Access::LOCAL_WRITE | Access::REMOTE_READ | Access::REMOTE_WRITE;
            let data = pd.alloc_mr(2 * plan.size as usize, rights)?;
            (Role::Client(Client::new(plan)), data)
        };
        log("allocated & registered buffers...\n".into())?;
        let debug = plan.debug;
        let mut wires = Wires { qp, cq, channel, armed: false, sent: 0, debug, slots, data, id };
        for slot in 0..RQ_DEPTH {
            wires.post_recv(slot)?;
        }
        let now = Instant::now();
        Ok(Self { wires, role, since: now, moved: false, begun: now, done: now, timed: plan.json })
    }

    /// Whether the kernel brings the client's queue pair to where it can send.
    pub(super) fn is_iwarp(&self) -> bool {
        self.wires.qp.context().info().transport() == Transport::IWARP
    }

    /// Brings the queue pair to where it can send, attribute by attribute (`-q`).
    pub(super) fn modify_by_hand(&mut self) -> Result<(), Failure> {
        let Wires { id, qp, .. } = &mut self.wires;
        for state in [QpState::INIT, QpState::RTR, QpState::RTS] {
            let attr: QpAttr = id.init_qp_attr(state)?;
            qp.modify(&attr)?;
        }
        Ok(())
    }

    /// The client's first message.
    pub(super) fn begin(&mut self, tool: &Tool) -> Result<(), Failure> {
        self.since = Instant::now();
        (self.begun, self.done) = (self.since, self.since);
        match &mut self.role {
            Role::Client(client) => client.ping(tool, &mut self.wires),
            Role::Server(_) => Ok(()),
        }
    }

    /// Handles what has completed; false if nothing has.
    #[inline]
    pub(super) fn turn(&mut self, tool: &Tool) -> Result<bool, Failure> {
        let mut wcs = [Wc::default(); 4];
        let wcs = self.wires.cq.poll(&mut wcs);
        let before = self.pings();
        for wc in wcs {
            self.take(tool, wc)?;
        }
        if self.timed && self.pings() != before {
            self.done = Instant::now();
        }
        self.moved |= !wcs.is_empty();
        Ok(!wcs.is_empty())
    }

    /// How long its messages took.
    pub(super) fn played(&self) -> Duration {
        self.done - self.begun
    }

    /// For how long nothing has come; the clock is only asked when somebody wants to know.
    pub(super) fn silence(&mut self) -> Duration {
        if std::mem::take(&mut self.moved) {
            self.since = Instant::now();
        }
        self.since.elapsed()
    }

    #[inline]
    fn take(&mut self, tool: &Tool, wc: &Wc) -> Result<(), Failure> {
        let wires = &mut self.wires;
        match (wc.status, wc.wr_id) {
            (WcStatus::SUCCESS, SEND) => wires.log(tool, || "send completion\n".into()),
            (WcStatus::SUCCESS, READ) => {
                wires.log(tool, || "rdma read completion\n".into())?;
                match &mut self.role {
                    Role::Server(server) => server.has_read(tool, wires),
                    Role::Client(_) => Ok(()),
                }
            }
            (WcStatus::SUCCESS, WRITE) => {
                wires.log(tool, || "rdma write completion\nserver rdma write complete \n".into())
            }
            (WcStatus::SUCCESS, slot) => {
                wires.log(tool, || "recv completion\n".into())?;
                if wc.byte_len as usize != wire::LEN {
                    return Err(Failure::new(format!(
                        "Received bogus data, size {}: a message of rping has {} bytes",
                        wc.byte_len,
                        wire::LEN
                    )));
                }
                let message = wires.message(slot as usize);
                wires.post_recv(slot as usize)?;
                match &mut self.role {
                    Role::Server(server) => server.is_told(tool, wires, message),
                    Role::Client(client) => client.may_go_on(tool, wires),
                }
            }
            // What is left when a connection ends; the event tells why.
            (WcStatus::WR_FLUSH_ERR, _) => Ok(()),
            (status, _) => Err(Failure::new(format!(
                "cq completion failed status {}: {status}{}",
                status.0,
                explain(status)
            ))),
        }
    }

    /// Whether the client has sent all its messages.
    pub(super) fn is_done(&self) -> bool {
        matches!(&self.role, Role::Client(client) if client.is_done())
    }

    /// Messages that have come back, or were sent back.
    pub(super) fn pings(&self) -> u32 {
        match &self.role {
            Role::Client(client) => client.pings(),
            Role::Server(server) => server.pings(),
        }
    }

    /// What is waited for, by the C tool's name, and whether the peer may leave now.
    pub(super) fn waits_for(&self) -> (&'static str, bool) {
        match &self.role {
            Role::Client(client) => (client.waits_for(), client.is_done()),
            Role::Server(server) => server.waits_for(),
        }
    }

    /// Arms the completion queue, unless it is; then looks once more.
    pub(super) fn arm(&mut self, tool: &Tool) -> Result<bool, Failure> {
        if !self.wires.armed {
            self.wires.cq.req_notify(false)?;
            self.wires.armed = true;
        }
        // What came before the queue was armed is not told.
        self.turn(tool)
    }

    /// Fetches the completion queue's event.
    pub(super) fn disarm(&mut self) -> Result<(), Failure> {
        if self.wires.channel.next_event()?.is_some() {
            self.wires.armed = false;
        }
        Ok(())
    }

    /// Ends the connection. That there is none any more is no failure.
    pub(super) fn disconnect(&mut self) {
        let Wires { id, qp, .. } = &mut self.wires;
        let _ = id.disconnect(qp);
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wires.channel.as_fd()
    }
}

/// What a failed completion usually means in an rping.
fn explain(status: WcStatus) -> &'static str {
    match status {
        WcStatus::RETRY_EXC_ERR => "; the peer cannot be reached any more",
        WcStatus::REM_ACCESS_ERR => "; the peer named memory that it does not lend",
        WcStatus::LOC_LEN_ERR
        | WcStatus::LOC_QP_OP_ERR
        | WcStatus::REM_INV_REQ_ERR
        | WcStatus::REM_OP_ERR => "; is the peer an rping?",
        _ => "",
    }
}
