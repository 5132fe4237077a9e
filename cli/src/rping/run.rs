//! Connections: begun, told of by the connection manager, ended.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bareverbs::{CmEvent, CmEventType, CmId, ConnParam, EventChannel, PortSpace, Waited};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::super::devices::open_options;
use super::args::Plan;
use super::report;
use super::session::Session;
use crate::outcome::{Failure, Outcome};
use crate::output::Tool;
use crate::signals;

/// How long an address and a route may take to be found, as in the C tool.
const RESOLVE: Duration = Duration::from_millis(2000);

/// How long the peer's answer to a disconnection is waited for.
const FAREWELL: Duration = Duration::from_secs(2);

/// Requests that wait to be taken.
const BACKLOG: u32 = 128;

/// What the epoll calls the connection manager; sessions have their ids' user handles, which are never 0.
pub(super) const EVENTS: u64 = 0;

/// The connections, and what they are waited for with.
pub(super) struct Run<'a> {
    pub(super) tool: &'a Tool,
    pub(super) plan: &'a Plan,
    pub(super) events: EventChannel,
    /// Of a server.
    listener: Option<CmId>,
    pub(super) sessions: Vec<Session>,
    pub(super) epoll: Epoll,
    /// A server that is for one client has had it.
    pub(super) served: bool,
}

/// Opens the connection manager and is server or client, to the end.
pub(super) fn run(tool: &Tool, plan: &Plan) -> Outcome {
    let events = open_options()
        .and_then(EventChannel::open_with)
        .map_err(|e| Failure::new(format!("failed to create RDMA CM event channel: {e}")))?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|e| unwatched("epoll_create", e))?;
    epoll
        .add(events.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, EVENTS))
        .map_err(|e| unwatched("epoll_ctl", e))?;
    let id = events.create_id(PortSpace::Tcp)?;
    let handle = id.user_handle();
    let mut run = Run { tool, plan, events, listener: None, sessions: Vec::new(), epoll, served: false };
    run.log(|| format!("created cm_id {handle:#x}\n"))?;
    let done = match plan.server {
        true => run.serve(id),
        false => run.ask(id),
    };
    done.and(run.log(|| format!("destroy cm_id {handle:#x}\n")))
}

impl Run<'_> {
    fn serve(&mut self, id: CmId) -> Outcome {
        id.bind(self.plan.address).map_err(|e| Failure::new(format!("rdma_bind_addr: {e}")))?;
        self.log(|| "rdma_bind_addr successful\nrdma_listen\n".into())?;
        id.listen(BACKLOG).map_err(|e| Failure::new(format!("rdma_listen: {e}")))?;
        self.listener = Some(id);
        let played = self.play();
        // Those that are still there when it is interrupted.
        while let Some(mut session) = self.sessions.pop() {
            session.disconnect();
            self.over(&session, false)?;
        }
        played
    }

    fn ask(&mut self, id: CmId) -> Outcome {
        id.resolve_addr(self.plan.source, self.plan.address, RESOLVE)
            .map_err(|e| Failure::new(format!("rdma_resolve_addr: {e}")))?;
        self.await_event(&id, CmEventType::ADDR_RESOLVED, Some(2 * RESOLVE))?;
        id.resolve_route(RESOLVE).map_err(|e| Failure::new(format!("rdma_resolve_route: {e}")))?;
        self.await_event(&id, CmEventType::ROUTE_RESOLVED, Some(2 * RESOLVE))?;
        self.log(|| "rdma_resolve_addr - rdma_resolve_route successful\n".into())?;

        let mut session = Session::new(self.tool, self.plan, id)?;
        let wires = &mut session.wires;
        wires
            .id
            .connect(&wires.qp, &ConnParam::new())
            .map_err(|e| Failure::new(format!("rdma_connect: {e}")))?;
        self.await_event(&session.wires.id, CmEventType::CONNECT_RESPONSE, self.plan.timeout)?;
        if self.plan.own_qp && !session.is_iwarp() {
            session.modify_by_hand()?;
            session.wires.id.confirm()?;
        } else {
            let wires = &mut session.wires;
            wires.id.establish(&mut wires.qp)?;
        }
        self.log(|| "rdma_connect successful\n".into())?;
        self.watch(&session)?;
        let begun = session.begin(self.tool);
        self.sessions.push(session);
        begun?;
        let played = self.play();
        self.part(played)
    }

    /// The client's end, good or bad.
    fn part(&mut self, played: Outcome) -> Outcome {
        let Some(mut session) = self.sessions.pop() else { return played };
        session.disconnect();
        // A server that has not disconnected itself says that it knows.
        let end = Instant::now() + FAREWELL;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.events.wait(Some(left)) {
                Ok(Waited::Ready(event)) if event.event_type == CmEventType::DISCONNECTED => {
                    self.told(&event, &session.wires.id)?;
                    self.tool.say("client DISCONNECT EVENT...");
                    break;
                }
                Ok(Waited::Ready(_) | Waited::Interrupted) => {}
                _ => break,
            }
        }
        self.over(&session, played.is_ok())?;
        played
    }

    /// Waits for an event of an id that has nothing else to do.
    fn await_event(&self, id: &CmId, wanted: CmEventType, timeout: Option<Duration>) -> Outcome {
        let start = Instant::now();
        loop {
            let left = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
            match self.events.wait(left)? {
                Waited::Ready(event) => {
                    self.told(&event, id)?;
                    if event.event_type == wanted && event.status == 0 {
                        return Ok(());
                    }
                    return Err(bad_event(id, &event));
                }
                Waited::TimedOut => {
                    return Err(Failure::new(format!(
                        "no {} from {} within {} s: is it up, is UDP port 4791 (RoCE) open?",
                        wanted,
                        self.plan.address,
                        start.elapsed().as_secs()
                    )));
                }
                Waited::Interrupted => self.interrupted()?,
            }
        }
    }

    /// Ends the run after an interrupt.
    pub(super) fn interrupted(&self) -> Outcome {
        if !signals::interrupted() {
            return Ok(());
        }
        self.tool.say("interrupted");
        Err(Failure::said(Failure::INTERRUPTED))
    }

    /// What the connection manager tells while connections are played.
    pub(super) fn handle(&mut self, event: CmEvent) -> Outcome {
        let at = self.sessions.iter().position(|session| session.wires.id.owns(&event));
        match (at, self.listener.as_ref()) {
            (Some(at), _) => self.told(&event, &self.sessions[at].wires.id)?,
            (None, Some(listener)) => self.told(&event, event.request.as_ref().unwrap_or(listener))?,
            (None, None) => {}
        }
        match (event.event_type, at) {
            (CmEventType::CONNECT_REQUEST, _) => match event.request {
                Some(id) if self.plan.persistent || !self.served => self.accept(id),
                // Dropping it tells the client no.
                _ => Ok(()),
            },
            (CmEventType::ESTABLISHED, _) => Ok(()),
            (CmEventType::DISCONNECTED, Some(at)) => self.left(at),
            (CmEventType::DEVICE_REMOVAL, at) => {
                let why = Failure::new("cma detected device removal!!!!");
                match at {
                    Some(at) => self.lose(at, why),
                    None => Err(why),
                }
            }
            (_, Some(at)) => match self.sessions[at].wires.id.failure(&event) {
                Some(_) => {
                    let why = bad_event(&self.sessions[at].wires.id, &event);
                    self.lose(at, why)
                }
                None => self.unhandled(&event),
            },
            _ => self.unhandled(&event),
        }
    }

    fn unhandled(&self, event: &CmEvent) -> Outcome {
        self.tool.say(&format!("unhandled event: {}, ignoring", event_name(event)));
        Ok(())
    }

    /// Takes a client.
    fn accept(&mut self, id: CmId) -> Outcome {
        self.served = true;
        self.log(|| format!("child cma {:#x}\n", id.user_handle()))?;
        let accepted = || -> Result<Session, Failure> {
            let mut session = Session::new(self.tool, self.plan, id)?;
            self.log(|| "accepting client connection request\n".into())?;
            let param = ConnParam::new();
            let done = match self.plan.own_qp {
                false => {
                    let wires = &mut session.wires;
                    wires.id.accept(&mut wires.qp, &param)
                }
                true => {
                    session.modify_by_hand()?;
                    session.wires.id.answer(session.wires.qp.qp_num(), &param)
                }
            };
            done.map_err(|e| Failure::new(format!("rdma_accept: {e}")))?;
            self.watch(&session)?;
            session.begin(self.tool)?;
            Ok(session)
        };
        match accepted() {
            Ok(session) => {
                self.sessions.push(session);
                Ok(())
            }
            Err(why) => self.survive(why),
        }
    }

    /// A peer has left: at its right time, or early.
    fn left(&mut self, at: usize) -> Outcome {
        // What it sent before it left is still to be seen to.
        let turned = self.sessions[at].turn(self.tool);
        let (wanted, may_leave) = self.sessions[at].waits_for();
        let side = if self.plan.server { "server" } else { "client" };
        self.tool.say(&format!("{side} DISCONNECT EVENT..."));
        let mut session = self.sessions.swap_remove(at);
        session.disconnect();
        self.over(&session, may_leave && turned.is_ok())?;
        if let Err(why) = turned {
            // What went wrong before explains more than that the peer has left.
            return self.survive(why);
        }
        const DISCONNECTED: u32 = 10;
        let line = format!("wait for {wanted} state {DISCONNECTED}");
        if may_leave {
            if self.plan.server {
                self.tool.say(&line);
            }
            return Ok(());
        }
        let pings = session.pings();
        let why = match self.plan.count {
            count if count > 0 && !self.plan.server => {
                format!("{line}: the server has left after {pings} of {count} messages")
            }
            _ if self.plan.server => format!("{line}: the client has left in the middle of message {pings}"),
            _ => format!("{line}: the server has left after {pings} messages"),
        };
        self.survive(Failure::new(why))
    }

    /// A connection that failed is over.
    pub(super) fn lose(&mut self, at: usize, why: Failure) -> Outcome {
        if !self.plan.server {
            // The client still has to part.
            return Err(why);
        }
        let mut session = self.sessions.swap_remove(at);
        session.disconnect();
        self.over(&session, false)?;
        self.survive(why)
    }

    /// A persistent server says what became of a client, and goes on; others end.
    fn survive(&self, why: Failure) -> Outcome {
        if !self.plan.persistent || why.exit_code() == 0 {
            return Err(why);
        }
        if let Some(line) = why.line(self.tool.name()) {
            self.tool.say(&line);
        }
        Ok(())
    }

    fn watch(&self, session: &Session) -> Outcome {
        let wanted = EpollEvent::new(EpollFlags::EPOLLIN, session.wires.id.user_handle());
        self.epoll.add(session.as_fd(), wanted).map_err(|e| unwatched("epoll_ctl", e))
    }

    /// The last of a connection: what was measured, where that is to be told.
    fn over(&self, session: &Session, complete: bool) -> Outcome {
        if self.plan.json {
            self.tool.report(&report::json(self.plan, session, complete)?)?;
        }
        self.log(|| format!("rping_free_buffers called on cb {:p}\n", self.plan))
    }

    /// A line of the steps, where they are printed.
    fn log(&self, line: impl FnOnce() -> String) -> Outcome {
        if self.plan.debug { self.tool.report(&line()) } else { Ok(()) }
    }

    fn told(&self, event: &CmEvent, id: &CmId) -> Outcome {
        let whose = if event.request.is_some() || self.plan.server && self.owns_none(event) {
            "child"
        } else {
            "parent"
        };
        self.log(|| {
            let name = match event.event_type {
                // librdmacm establishes the connection itself if it owns the queue pair, and reports that instead.
                CmEventType::CONNECT_RESPONSE if !self.plan.own_qp => "RDMA_CM_EVENT_ESTABLISHED",
                _ => event_name(event),
            };
            let mut lines = format!("cma_event type {name} cma_id {:#x} ({whose})\n", id.user_handle());
            if let Some(state @ ("ESTABLISHED" | "CONNECT_RESPONSE")) = name.strip_prefix("RDMA_CM_EVENT_") {
                lines += &format!("{state}\n");
            }
            lines
        })
    }

    fn owns_none(&self, event: &CmEvent) -> bool {
        self.listener.as_ref().is_none_or(|listener| !listener.owns(event))
    }
}

/// The name that `rdma_event_str()` gives to the event.
fn event_name(event: &CmEvent) -> &'static str {
    event.event_type.name().unwrap_or("UNKNOWN EVENT")
}

/// An event that is not the one that was due, in the C tool's words and with its meaning.
fn bad_event(id: &CmId, event: &CmEvent) -> Failure {
    let words = format!("cma event {}, error {}", event_name(event), event.status);
    Failure::new(match id.failure(event) {
        Some(meaning) => format!("{words}: {meaning}"),
        None => words,
    })
}

pub(super) fn unwatched(call: &str, errno: Errno) -> Failure {
    Failure::new(format!("{call}: {} ({errno:?})", errno.desc()))
}
