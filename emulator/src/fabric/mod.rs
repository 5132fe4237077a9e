//! The HCAs of one fabric, and who may touch them when.
//!
//! Each HCA's guest has a thread, which holds the fabric for one access at a time, and after a doorbell for the work that
//! it asks for: a message, its acknowledgement and the completions, so that no other thread has to wake for them. What is
//! more than a few pieces of work, or comes when another thread wants the fabric, is the engine's. That is a thread which
//! holds the fabric for a piece, gives way to the others, and sleeps until the next timer or doorbell.

pub mod ethernet;
pub mod packet;
pub mod port;
pub mod subnet;
pub mod switch;

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    fabric::{
        packet::Packet,
        port::{GIDS, PKEYS, Port},
        subnet::Agent,
        switch::{Delivery, Switch},
    },
    mlx4::hca::Hca,
    transport::Next,
};

/// Packets that are delivered in one piece of work.
const PIECE: usize = 64;
/// Pieces of work that a guest's thread does after an access.
const PIECES: usize = 16;

/// A fabric.
pub struct Fabric {
    state: Mutex<State>,
    /// Wakes the engine.
    work: Condvar,
    start: Instant,
    /// Threads that want the state: the engine gives way to them.
    waiting: AtomicUsize,
}

/// What the lock protects.
pub struct State {
    /// The HCAs, in the order of their sockets.
    pub hcas: Vec<Hca>,
    /// What joins them.
    pub switch: Switch,
    /// Who answers what the subnet's administration is asked.
    agent: Agent,
    /// What the switch knows of each port.
    learnt: Vec<Address>,
    /// Packets under way.
    wire: VecDeque<Delivery>,
    /// Packets that the switch has just passed on.
    passed: Vec<Delivery>,
    /// Packets that an HCA has just sent.
    sent: Vec<Packet>,
    /// Until when the engine sleeps, if it does.
    asleep: Option<Duration>,
}

/// What a switch has to know of a port.
#[derive(Clone, PartialEq, Eq)]
struct Address {
    lid: u16,
    lmc: u8,
    prefix: u64,
    guids: [u64; GIDS],
    pkeys: [u16; PKEYS],
    mtu: u8,
    capabilities: u32,
    active: bool,
    /// Changes of the tables of Ethernet.
    changes: u64,
}

impl Address {
    fn of(port: &Port) -> Self {
        let Port { lid, lmc, prefix, guids, pkeys, active_mtu: mtu, capabilities, .. } = *port;
        let changes = port.ethernet.as_ref().map_or(0, |ethernet| ethernet.changes);
        Self { lid, lmc, prefix, guids, pkeys, mtu, capabilities, active: port.is_active(), changes }
    }
}

impl Fabric {
    /// A fabric of these HCAs and this agent.
    pub fn new(hcas: Vec<Hca>, mut agent: Agent) -> Self {
        let mut switch = Switch::default();
        for (number, hca) in hcas.iter().enumerate() {
            switch.learn(number, &hca.card.port);
            agent.learn(number, &hca.card.port);
        }
        switch.attach_agent(hcas.len(), agent.lid());
        let learnt = hcas.iter().map(|hca| Address::of(&hca.card.port)).collect();
        let state = State {
            hcas,
            switch,
            agent,
            learnt,
            wire: VecDeque::new(),
            passed: Vec::new(),
            sent: Vec::new(),
            asleep: None,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            start: Instant::now(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The HCAs, for one access.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Whoever panicked with it ends the process, and looks at it for the last time.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        state
    }

    /// Whether a thread has panicked in the middle of something.
    pub fn is_broken(&self) -> bool {
        self.state.is_poisoned()
    }

    /// Does something with HCA `number`, counted from 0.
    pub fn with<T>(&self, number: usize, act: impl FnOnce(&mut Hca, Duration) -> T) -> Option<T> {
        let now = self.now();
        self.lock().hcas.get_mut(number).map(|hca| act(hca, now))
    }

    /// Does something with HCA `number` that may give the data path work, and the first pieces of that work.
    pub fn work<T>(&self, number: usize, act: impl FnOnce(&mut Hca, Duration) -> T) -> Option<T> {
        let mut state = self.lock();
        let mut now = self.now();
        let result = state.hcas.get_mut(number).map(|hca| act(hca, now));
        let mut next = state.turn(now);
        for _ in 1..PIECES {
            if next != Next::Now || self.waiting.load(Ordering::Relaxed) > 0 {
                break;
            }
            now = self.now();
            next = state.turn(now);
        }
        let early = match (next, state.asleep) {
            (_, None) | (Next::Idle, _) => false,
            (Next::Now, Some(_)) => true,
            (Next::At(then), Some(until)) => then < until,
        };
        if early {
            state.asleep = None;
            self.work.notify_one();
        }
        result
    }

    /// Moves the data of all HCAs, for ever.
    pub fn run_engine(&self) -> ! {
        let mut state = self.lock();
        loop {
            match state.turn(self.now()) {
                Next::Now => {
                    if self.waiting.load(Ordering::Relaxed) > 0 {
                        drop(state);
                        // The lock is not fair: whoever waits for it needs a moment to take it.
                        thread::yield_now();
                        state = self.lock();
                    }
                }
                next => {
                    let now = self.now();
                    let until = match next {
                        Next::At(then) => then,
                        _ => now + Duration::from_secs(3600),
                    };
                    state.asleep = Some(until);
                    let patience = until.saturating_sub(now);
                    state = self.work.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
                    state.asleep = None;
                }
            }
        }
    }

    /// Violations of all HCAs.
    pub fn violations(&self) -> u64 {
        self.lock().hcas.iter().map(|hca| hca.card.violations.count()).sum()
    }
}

impl State {
    /// A bounded piece of work of all HCAs, and when there is more.
    fn turn(&mut self, now: Duration) -> Next {
        self.learn();
        self.switch.due(now, &mut self.passed);
        self.wire.extend(self.passed.drain(..));
        let mut next = Next::Idle;
        for number in 0..self.hcas.len() {
            next = next.or(self.hcas[number].run(now, &mut self.sent));
            self.send(now, number);
            next = next.or(self.send_frames(now, number));
        }
        for _ in 0..PIECE {
            let Some(Delivery { to, packet }) = self.wire.pop_front() else {
                return self.switch.next().map_or(next, |due| next.or(Next::At(due)));
            };
            match self.hcas.get_mut(to) {
                Some(hca) => hca.receive(now, packet, &mut self.sent),
                None => self.sent.extend(self.agent.receive(&packet)),
            }
            self.send(now, to);
            // What a packet makes possible is the business of the next turn.
            next = Next::Now;
        }
        Next::Now
    }

    /// Tells the switch and the agent of ports that have changed.
    fn learn(&mut self) {
        for (number, (hca, learnt)) in self.hcas.iter().zip(&mut self.learnt).enumerate() {
            let address = Address::of(&hca.card.port);
            if address == *learnt {
                continue;
            }
            self.switch.learn(number, &hca.card.port);
            self.agent.learn(number, &hca.card.port);
            self.switch.attach_agent(self.hcas.len(), self.agent.lid());
            if address.lid != learnt.lid {
                eprintln!("{}: the port's LID is {} now", hca.card.name, address.lid);
                if let Some(other) = same_lid(&self.hcas, number) {
                    let (name, other, lid) = (&hca.card.name, &self.hcas[other].card.name, address.lid);
                    eprintln!("{name}: {other} has LID {lid} too; packets for it go to the first of them");
                }
            }
            *learnt = address;
        }
    }

    /// Delivers the frames that HCA `number` has sent. Whoever gets one has a turn after it.
    fn send_frames(&mut self, now: Duration, number: usize) -> Next {
        let mut next = Next::Idle;
        for frame in std::mem::take(&mut self.hcas[number].card.frames) {
            for to in self.switch.forward(number, &frame) {
                self.hcas[to].receive_frame(now, &frame.bytes);
                next = Next::Now;
            }
        }
        next
    }

    /// Gives the switch what HCA `number` has sent.
    fn send(&mut self, now: Duration, number: usize) {
        for packet in self.sent.drain(..) {
            self.switch.send(now, number, packet, &mut self.passed);
        }
        self.wire.extend(self.passed.drain(..));
    }
}

/// Another HCA with a LID of this one's port, which a subnet manager has set.
fn same_lid(hcas: &[Hca], number: usize) -> Option<usize> {
    let range = |hca: &Hca| {
        let Port { lid, lmc, .. } = hca.card.port;
        u32::from(lid)..u32::from(lid) + (1 << lmc.min(7))
    };
    let own = range(&hcas[number]);
    let overlaps = |hca: &Hca| range(hca).start < own.end && own.start < range(hca).end;
    (0..hcas.len()).find(|other| *other != number && own.start != 0 && overlaps(&hcas[*other]))
}

impl fmt::Debug for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fabric").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fabric::switch::tests::packet,
        mlx4::identity::{Identity, Model},
        trace::Trace,
    };

    /// Whether an access wakes the engine out of a sleep until then, where a packet is due in 100 ms.
    fn wakes(until: Duration) -> bool {
        let mut hca = Hca::new("hca", Identity::new(Model::ConnectX3, 0x10), 1, 1, Trace::default());
        hca.card.port.enabled = true;
        let fabric = Fabric::new(vec![hca], Agent::new(1, Trace::default()));
        let now = fabric.now();
        let mut state = fabric.lock();
        let mut at_once = Vec::new();
        state.switch.inject("delay 100".parse().unwrap());
        state.switch.send(now, 0, packet(1), &mut at_once);
        assert!(at_once.is_empty());
        state.asleep = Some(now + until);
        drop(state);
        fabric.work(0, |_, _| {}).unwrap();
        let state = fabric.lock();
        state.asleep.is_none()
    }

    #[test]
    fn two_ports_with_one_lid_are_found() {
        let hca =
            |guid, lid| Hca::new("hca", Identity::new(Model::ConnectX3, guid), lid, 1, Trace::default());
        let mut hcas = vec![hca(0x10, 1), hca(0x20, 9), hca(0x30, 0), hca(0x40, 0)];
        let all = |hcas: &[Hca]| (0..4).map(|number| same_lid(hcas, number)).collect::<Vec<_>>();
        assert_eq!(all(&hcas), [None; 4]);
        hcas[1].card.port.lid = 1;
        assert_eq!(all(&hcas), [Some(1), Some(0), None, None]);
        // Of four LIDs the last.
        hcas[0].card.port.lid = 4;
        hcas[0].card.port.lmc = 2;
        hcas[1].card.port.lid = 7;
        assert_eq!(all(&hcas), [Some(1), Some(0), None, None]);
    }

    #[test]
    fn the_engine_sleeps_on_if_nothing_comes_earlier() {
        assert!(wakes(Duration::from_secs(3600)));
        assert!(!wakes(Duration::from_millis(50)));
    }
}
