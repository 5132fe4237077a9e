//! A fabric: its HCAs, what connects them, and the thread that moves their data.
//!
//! One lock protects all of it. The thread of a guest holds it for one access at a time. After a doorbell the same
//! thread also does the first pieces of the work that the doorbell starts: a short message, its acknowledgement and
//! the completions need no other thread to wake up. The rest is left to the engine, a thread that holds the lock for
//! one piece of work at a time, yields to the others, and sleeps until the next timer or doorbell.
//!
//! | module | what it holds |
//! |---|---|
//! | [`packet`] | packets |
//! | [`port`] | ports: addresses, partitions, counters |
//! | [`switch`] | the switch, and faults on request |
//! | [`ethernet`] | Ethernet frames, and what ports have in place of LIDs |
//! | [`subnet`] | subnet administration |

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
    device::Device,
    fabric::{
        packet::Packet,
        port::{GIDS, PKEYS, Port},
        subnet::Agent,
        switch::{Delivery, Switch},
    },
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
    /// How many threads wait for the state; the engine yields to them.
    waiting: AtomicUsize,
}

/// The state of a fabric, under its lock.
pub struct State {
    /// The HCAs, in the order of their sockets.
    pub hcas: Vec<Box<dyn Device>>,
    /// The switch.
    pub switch: Switch,
    /// The agent of subnet administration.
    agent: Agent,
    /// The addresses of each port, as the switch knows them.
    learnt: Vec<Address>,
    /// Packets on their way to an HCA.
    wire: VecDeque<Delivery>,
    /// Packets that the switch has just forwarded.
    forwarded: Vec<Delivery>,
    /// Packets that an HCA has just sent.
    sent: Vec<Packet>,
    /// Until when the engine sleeps, if it does.
    asleep: Option<Duration>,
}

/// The addresses of a port, as far as the switch has to know them.
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
    /// The counter of changes in the Ethernet tables.
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
    /// A fabric with these HCAs and this agent of subnet administration.
    pub fn new(hcas: Vec<Box<dyn Device>>, mut agent: Agent) -> Self {
        let mut switch = Switch::default();
        for (number, hca) in hcas.iter().enumerate() {
            switch.learn(number, hca.port());
            agent.learn(number, hca.port());
        }
        switch.attach_agent(hcas.len(), agent.lid());
        let learnt = hcas.iter().map(|hca| Address::of(hca.port())).collect();
        let state = State {
            hcas,
            switch,
            agent,
            learnt,
            wire: VecDeque::new(),
            forwarded: Vec::new(),
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

    /// The time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Locks the state.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // A thread that panicked while it held the lock ends the process; this access is the last.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        state
    }

    /// Whether a thread has panicked while it held the lock.
    pub fn is_broken(&self) -> bool {
        self.state.is_poisoned()
    }

    /// Calls `act` with HCA `number`, counted from 0.
    pub fn with<T>(&self, number: usize, act: impl FnOnce(&mut dyn Device, Duration) -> T) -> Option<T> {
        let now = self.now();
        self.lock().hcas.get_mut(number).map(|hca| act(&mut **hca, now))
    }

    /// Calls `act` with HCA `number`, which may start work of the data path, and does the first pieces of that work.
    pub fn work<T>(&self, number: usize, act: impl FnOnce(&mut dyn Device, Duration) -> T) -> Option<T> {
        let mut state = self.lock();
        let mut now = self.now();
        let result = state.hcas.get_mut(number).map(|hca| act(&mut **hca, now));
        let mut next = state.work(now);
        for _ in 1..PIECES {
            if next != Next::Now || self.waiting.load(Ordering::Relaxed) > 0 {
                break;
            }
            now = self.now();
            next = state.work(now);
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

    /// Moves the data of all HCAs, forever.
    pub fn run_engine(&self) -> ! {
        let mut state = self.lock();
        loop {
            match state.work(self.now()) {
                Next::Now => {
                    if self.waiting.load(Ordering::Relaxed) > 0 {
                        drop(state);
                        // The lock is not fair: a waiting thread needs a moment to take it.
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

    /// Returns the number of violations of all HCAs.
    pub fn violations(&self) -> u64 {
        self.lock().hcas.iter().map(|hca| hca.violations()).sum()
    }
}

impl State {
    /// Does a piece of work for all HCAs, and returns when there is more.
    fn work(&mut self, now: Duration) -> Next {
        self.learn();
        self.switch.due(now, &mut self.forwarded);
        self.wire.extend(self.forwarded.drain(..));
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
            // The work that the packet starts is left to the next call.
            next = Next::Now;
        }
        Next::Now
    }

    /// Updates the switch and the agent about ports that have changed.
    fn learn(&mut self) {
        for (number, (hca, learnt)) in self.hcas.iter().zip(&mut self.learnt).enumerate() {
            let address = Address::of(hca.port());
            if address == *learnt {
                continue;
            }
            self.switch.learn(number, hca.port());
            self.agent.learn(number, hca.port());
            self.switch.attach_agent(self.hcas.len(), self.agent.lid());
            if address.lid != learnt.lid {
                eprintln!("{}: the LID of the port is now {}", hca.name(), address.lid);
                if let Some(other) = same_lid(&self.hcas, number) {
                    let (name, other, lid) = (hca.name(), self.hcas[other].name(), address.lid);
                    eprintln!("{name}: {other} has LID {lid} too; packets for it go to the first of them");
                }
            }
            *learnt = address;
        }
    }

    /// Delivers the frames that HCA `number` has sent.
    fn send_frames(&mut self, now: Duration, number: usize) -> Next {
        let mut next = Next::Idle;
        for frame in self.hcas[number].take_frames() {
            for to in self.switch.forward(number, &frame) {
                self.hcas[to].receive_frame(now, &frame.bytes);
                next = Next::Now;
            }
        }
        next
    }

    /// Passes what HCA `number` has sent to the switch.
    fn send(&mut self, now: Duration, number: usize) {
        for packet in self.sent.drain(..) {
            self.switch.send(now, number, packet, &mut self.forwarded);
        }
        self.wire.extend(self.forwarded.drain(..));
    }
}

/// Returns another HCA whose port has a LID of this one's port: a subnet manager set both.
fn same_lid(hcas: &[Box<dyn Device>], number: usize) -> Option<usize> {
    let range = |hca: &dyn Device| {
        let Port { lid, lmc, .. } = *hca.port();
        u32::from(lid)..u32::from(lid) + (1 << lmc.min(7))
    };
    let own = range(&*hcas[number]);
    let overlaps = |hca: &dyn Device| range(hca).start < own.end && own.start < range(hca).end;
    (0..hcas.len()).find(|other| *other != number && own.start != 0 && overlaps(&*hcas[*other]))
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
        mlx4::{
            hca::Hca,
            identity::{Identity, Model},
        },
        trace::Trace,
    };

    /// Whether an access wakes an engine that sleeps until `until` when a packet is due in 100 ms.
    fn wakes(until: Duration) -> bool {
        let mut hca = Hca::new("hca", Identity::new(Model::ConnectX3, 0x10), 1, 1, Trace::default());
        hca.card.port.enabled = true;
        let fabric = Fabric::new(vec![Box::new(hca)], Agent::new(1, Trace::default()));
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
    fn ports_that_share_a_lid_are_found() {
        let all = |ports: [(u16, u8); 4]| {
            let hcas = (0..).zip(ports).map(|(number, (lid, lmc))| {
                let identity = Identity::new(Model::ConnectX3, 0x10 * number);
                let mut hca = Hca::new("hca", identity, lid, 1, Trace::default());
                hca.card.port.lmc = lmc;
                Box::new(hca) as Box<dyn Device>
            });
            let hcas: Vec<_> = hcas.collect();
            (0..4).map(|number| same_lid(&hcas, number)).collect::<Vec<_>>()
        };
        assert_eq!(all([(1, 0), (9, 0), (0, 0), (0, 0)]), [None; 4]);
        assert_eq!(all([(1, 0), (1, 0), (0, 0), (0, 0)]), [Some(1), Some(0), None, None]);
        // The last of four LIDs.
        assert_eq!(all([(4, 2), (7, 0), (0, 0), (0, 0)]), [Some(1), Some(0), None, None]);
    }

    #[test]
    fn the_engine_wakes_only_for_earlier_work() {
        assert!(wakes(Duration::from_secs(3600)));
        assert!(!wakes(Duration::from_millis(50)));
    }
}
