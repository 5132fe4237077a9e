//! `pingpong xsrq`: extended reliable connections. The server talks to several clients; each message names the shared receive
//! queue that it goes to, and the server sends to each client over every connection in turn.
//!
//! One TCP connection for each client lasts as long as the run: endpoints at its beginning (the client's first), and at its end
//! `END` from the client and `END` back, when nobody needs the other's queues any more.
//!
//! A client hears nothing while the server waits for other clients, to come or to be done: how long that takes is no limit's
//! affair. Then only the connection tells whether the server is still there.

use std::fs::{File, OpenOptions};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use bareverbs::{
    Access, AddressVector, Context, Cq, CqInit, Endpoint, Mr, Qp, QpAttr, QpInit, QpState, QpType, RecvWr,
    SendWr, Srq, SrqInit, Wait, Wc, Xrcd,
};
use nix::libc::O_CREAT;
use serde::Serialize;

use super::dest::{Dest, Peer};
use super::plan::Plan;
use super::play::{Silence, broken, failure};
use super::setup::{self, RECV};
use super::{INTERRUPTED, exchange, limits};
use crate::json;
use crate::outcome::{Failure, InC, Outcome};
use crate::output::Tool;
use crate::signals;

/// Processes of one machine that open the same file share the domain.
const DOMAIN_FILE: &str = "/tmp/xrc_domain";

/// What went wrong, as one line.
type Result<T> = std::result::Result<T, String>;

/// The two queue pairs of a connection, and what became of it.
struct Connection {
    recv: Qp,
    send: Qp,
    local: Dest,
    peer: Option<Peer>,
    /// Messages that were sent to its peer.
    sent: u32,
}

/// Everything that is set up before the peers meet. Fields drop in this order.
struct Run {
    connections: Vec<Connection>,
    srq: Srq,
    recv_cq: Cq,
    send_cq: Cq,
    mr: Mr,
    _file: Option<File>,
    ctx: Context,
}

/// Plays with every client, or with the server.
pub(super) fn run(tool: &Tool, plan: &Plan) -> Outcome {
    let mut run = Run::new(tool, plan)?;
    for _ in 0..run.connections.len() {
        run.post_receive()?;
    }
    match plan.host() {
        Some(host) => {
            let stream = exchange::dial(&host, plan.port, plan.timeout)?;
            run.meet(tool, plan, 0, stream, host)?;
        }
        None => {
            let listener = exchange::listen(plan.port)?;
            for n in 0..run.connections.len() {
                let (stream, from) = exchange::incoming(&listener, plan.timeout)?;
                run.meet(tool, plan, n, stream, from)?;
            }
            for n in 0..run.connections.len() {
                run.post_send(plan, n)?;
            }
        }
    }
    signals::watch();
    if let Err(why) = run.play(plan).and_then(|()| run.part(plan)) {
        if !signals::interrupted() {
            return Err((why + run.hint()).into());
        }
        tool.say("interrupted");
        return Err(Failure::said(INTERRUPTED));
    }
    if !plan.json {
        return tool.print("success\n");
    }
    let clients = run.connections.len();
    let done = Done { clients, size: plan.size, iterations: plan.iters, complete: true };
    tool.print(&json::text(&done)?)
}

#[derive(Serialize)]
struct Done {
    clients: usize,
    size: u32,
    iterations: u32,
    complete: bool,
}

impl Run {
    fn new(tool: &Tool, plan: &Plan) -> std::result::Result<Self, Failure> {
        let ctx = setup::open(plan)?;
        let port = ctx.query_port(plan.ib_port).in_c(plan.kind.no_port(plan.ib_port))?;
        limits::check(plan, &ctx, &port)?;
        limits::check_lid(plan, &ctx, &port)?;
        let clients = if plan.server.is_some() { 1 } else { plan.clients };

        let pd = ctx.alloc_pd().in_c("Couldn't allocate PD")?;
        let (mr, _) = limits::region(plan, &pd)?;
        let (xrcd, file) = domain(tool, &ctx)?;
        let mut init = CqInit::new(clients);
        if plan.wait != Wait::Poll {
            init = init.own_channel();
        }
        let recv_cq = ctx.create_cq(init).in_c("Couldn't create recv CQ")?;
        // A failure flushes what is under way: of each client one message, and one whose acknowledgement its reply outran.
        let send_cq = ctx.create_cq(clients.saturating_mul(2)).in_c("Couldn't create send CQ")?;
        let srq = pd.create_srq(SrqInit::new(clients).xrc(&xrcd, &recv_cq)).in_c("Couldn't create SRQ")?;
        let srqn = srq.srq_num().unwrap_or_default();
        let mut connections = Vec::new();
        for n in 0..clients {
            let mut recv = xrcd.create_recv_qp().in_c(format!("Couldn't create recv QP[{n}]"))?;
            recv.init(plan.ib_port, Access::REMOTE_WRITE | Access::REMOTE_READ)?;
            let wanted = QpInit::xrc_send(&send_cq).max_send_wr(clients.saturating_mul(plan.iters));
            let mut send = pd.create_qp(wanted).in_c(format!("Couldn't create send QP[{n}]"))?;
            let endpoint = recv.init_endpoint(plan.ib_port, plan.gid_index);
            let Endpoint { lid, psn, gid, .. } = endpoint.in_c(plan.kind.no_gid(plan.gid_index))?;
            send.init_endpoint(plan.ib_port, plan.gid_index)?;
            let (recv_qpn, send_qpn) = (recv.qp_num(), send.qp_num());
            let local = Dest { lid, recv_qpn, send_qpn, psn, srqn, gid };
            connections.push(Connection { recv, send, local, peer: None, sent: 0 });
        }
        Ok(Self { connections, srq, recv_cq, send_cq, mr, _file: file, ctx })
    }

    /// Exchanges endpoints with a peer and connects to it. The client speaks first.
    fn meet(
        &mut self,
        tool: &Tool,
        plan: &Plan,
        n: usize,
        mut stream: TcpStream,
        from: String,
    ) -> std::result::Result<(), Failure> {
        let connection = &mut self.connections[n];
        let local = connection.local;
        let shown = |side: &str, dest: &Dest| match plan.json {
            true => Ok(()),
            false => tool.report(&dest.line(side)),
        };
        if plan.server.is_some() {
            shown("local", &local)?;
            local.tell(&mut stream, &from)?;
        }
        let dest = Dest::hear(&mut stream, &from)?;
        shown("remote", &dest)?;
        if plan.server.is_none() {
            shown("local", &local)?;
            local.tell(&mut stream, &from)?;
        }
        connection.connect(plan, &dest).in_c(plan.kind.no_peer())?;
        connection.peer = Some(Peer { dest, stream, host: from });
        Ok(())
    }

    /// What may be behind any failure of a server: what is meant for one client comes over the connection of another.
    fn hint(&self) -> &'static str {
        let mut ports =
            self.connections.iter().flat_map(|c| &c.peer).map(|peer| (peer.dest.lid, peer.dest.gid));
        let first = ports.next();
        match ports.any(|port| Some(port) != first) {
            true => " (the clients have several ports: are all on one machine, whose XRC domain they share?)",
            false => "",
        }
    }

    fn post_receive(&mut self) -> Result<()> {
        let wr = RecvWr::new(RECV).sge(self.mr.slice(..));
        self.srq.post_recv(wr).map_err(|e| format!("Failed to post receive to SRQ: {e}"))
    }

    /// Sends to the n-th peer, over each connection in turn; the last one asks for a completion.
    fn post_send(&mut self, plan: &Plan, n: usize) -> Result<()> {
        let count = self.connections.len();
        let to = &mut self.connections[n];
        let Some(peer) = &to.peer else { return Ok(()) };
        let mut wr = SendWr::send(n as u64).sge(self.mr.slice(..)).xrc_srqn(peer.dest.srqn);
        let over = (n + to.sent as usize) % count;
        to.sent += 1;
        if to.sent >= plan.iters {
            wr = wr.signaled();
        }
        self.connections[over].send.post_send(wr).map_err(|e| format!("Couldn't post send: {e}"))
    }

    /// Answers until everything has come and gone.
    fn play(&mut self, plan: &Plan) -> Result<()> {
        let clients = self.connections.len() as u64;
        let total = clients * u64::from(plan.iters);
        let timeout = (plan.wait == Wait::Poll).then_some(Duration::from_secs(1));
        let mut silent = Silence::new(plan.timeout);
        let (mut received, mut completed) = (0, 0);
        let mut wcs = [Wc::default()];
        while received < total || completed < clients {
            if signals::interrupted() {
                return Err("interrupted".into());
            }
            let waited = match received < total {
                true => self.recv_cq.wait(&mut wcs, plan.wait, timeout),
                false => self.send_cq.wait(&mut wcs, Wait::Poll, Some(Duration::from_secs(1))),
            };
            match waited.map_err(|e| e.to_string())?.completions() {
                [wc] if !wc.is_success() => return Err(failure(wc)),
                [wc] if received < total => {
                    let from = wc.qp_num;
                    received += 1;
                    self.post_receive()?;
                    let n = self.connections.iter().position(|c| c.recv.qp_num() == from).unwrap_or(0);
                    if self.connections[n].sent < plan.iters {
                        self.post_send(plan, n)?;
                    }
                }
                [_] => completed += 1,
                _ => {
                    if let Some(why) = broken(&self.ctx) {
                        return Err(why);
                    }
                    if received == 0 && plan.server.is_some() {
                        self.connections.iter().flat_map(|c| &c.peer).try_for_each(Peer::is_there)?;
                        continue;
                    }
                    // A send that failed tells more than silence.
                    if received < total {
                        completed += self.sent()?;
                    }
                    if let Some(time) = silent.too_long((received as u32, completed as u32)) {
                        return Err(format!("nothing has come from a peer for {} s", time.as_secs()));
                    }
                }
            }
        }
        Ok(())
    }

    /// How many sends have completed since somebody looked.
    fn sent(&mut self) -> Result<u64> {
        let mut wcs = [Wc::default(); 16];
        let wcs = self.send_cq.poll(&mut wcs);
        match wcs.iter().find(|wc| !wc.is_success()) {
            Some(wc) => Err(failure(wc)),
            None => Ok(wcs.len() as u64),
        }
    }

    /// Waits until no side needs the other's queues any more.
    fn part(&mut self, plan: &Plan) -> Result<()> {
        let mut peers: Vec<&mut Peer> = self.connections.iter_mut().flat_map(|c| &mut c.peer).collect();
        if plan.server.is_some() {
            return peers.into_iter().try_for_each(|server| {
                server.say_end()?;
                server.has_time()?;
                server.hear_end()
            });
        }
        peers.iter_mut().try_for_each(|client| client.hear_end())?;
        peers.iter_mut().try_for_each(|client| client.say_end())
    }
}

impl Connection {
    fn connect(&mut self, plan: &Plan, peer: &Dest) -> std::result::Result<(), bareverbs::Error> {
        let ends = [(&mut self.recv, peer.send_qpn), (&mut self.send, peer.recv_qpn)];
        for (qp, dest_qp_num) in ends {
            let requester = qp.qp_type() == QpType::XRC_SEND;
            let at = Endpoint { lid: peer.lid, gid: peer.gid, ..Endpoint::default() };
            let av = AddressVector { sl: plan.sl, hop_limit: 5, ..qp.address(&at)? };
            qp.modify(&QpAttr {
                av: Some(av),
                path_mtu: Some(plan.mtu),
                dest_qp_num: Some(dest_qp_num),
                rq_psn: Some(peer.psn),
                max_dest_rd_atomic: (!requester).then_some(0),
                min_rnr_timer: (!requester).then_some(12),
                ..QpAttr::to(QpState::RTR)
            })?;
            qp.modify(&QpAttr {
                sq_psn: Some(self.local.psn),
                timeout: Some(14),
                retry_cnt: requester.then_some(7),
                rnr_retry: requester.then_some(7),
                max_rd_atomic: requester.then_some(0),
                ..QpAttr::to(QpState::RTS)
            })?;
        }
        Ok(())
    }
}

/// The domain that every process of this machine shares by a file; one of its own where there can be no file.
fn domain(tool: &Tool, ctx: &Context) -> std::result::Result<(Xrcd, Option<File>), Failure> {
    let file = OpenOptions::new().read(true).custom_flags(O_CREAT).mode(0o440).open(DOMAIN_FILE);
    let xrcd = ctx
        .open_xrcd(file.as_ref().ok().map(|file| file.as_fd()), O_CREAT)
        .map_err(|e| Failure::new(format!("Couldn't Open the XRC Domain: {e}")))?;
    if let Err(e) = &file {
        tool.say(&format!(
            "Couldn't create the file for the XRC Domain but not stopping: {DOMAIN_FILE}: {e}"
        ));
    }
    Ok((xrcd, file.ok()))
}
