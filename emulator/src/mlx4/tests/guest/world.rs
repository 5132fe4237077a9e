//! Guests on a fabric, with simulated time.

use std::time::Duration;

use super::{Guest, Qp};
use crate::fabric::{
    packet::Packet,
    switch::{Delivery, Switch},
};
use crate::transport::Next;

/// Guests on a fabric.
pub(crate) struct World {
    pub(crate) guests: Vec<Guest>,
    pub(crate) switch: Switch,
    pub(crate) now: Duration,
    /// The packets that were sent, in order.
    pub(crate) log: Vec<String>,
    /// Packets that the switch has not forwarded yet.
    on_the_way: Vec<(usize, Packet)>,
}

impl World {
    /// Guests with LIDs 1, 9, …
    pub(crate) fn new(guests: usize) -> Self {
        let guests = (0..guests).map(|number| Guest::new(number as u16 * 8 + 1)).collect();
        let mut world = Self {
            guests,
            switch: Switch::default(),
            now: Duration::from_secs(1),
            log: Vec::new(),
            on_the_way: Vec::new(),
        };
        world.learn();
        world
    }

    pub(crate) fn learn(&mut self) {
        for (number, guest) in self.guests.iter().enumerate() {
            self.switch.learn(number, &guest.card.port);
        }
    }

    /// Runs until nothing happens at the current time, and returns when something will.
    pub(crate) fn settle(&mut self) -> Option<Duration> {
        for _ in 0..100_000 {
            let mut next = self.switch.next().map_or(Next::Idle, Next::At);
            let mut deliveries = Vec::new();
            self.switch.due(self.now, &mut deliveries);
            for (number, guest) in self.guests.iter_mut().enumerate() {
                guest.now = self.now;
                let mut out = Vec::new();
                next = next.or(guest.data.run(&mut guest.card, self.now, &mut out));
                self.on_the_way.extend(out.into_iter().map(|packet| (number, packet)));
            }
            for (number, packet) in self.on_the_way.drain(..) {
                self.log.push(format!("{:?}", packet.bth.opcode.operation));
                self.switch.send(self.now, number, packet, &mut deliveries);
            }
            let quiet = deliveries.is_empty();
            for Delivery { to, packet } in deliveries {
                let guest = &mut self.guests[to];
                let mut out = Vec::new();
                guest.data.receive(&mut guest.card, self.now, packet, &mut out);
                self.on_the_way.extend(out.into_iter().map(|packet| (to, packet)));
            }
            match next {
                _ if !quiet => {}
                Next::Now => {}
                Next::At(time) => return Some(time),
                Next::Idle => return None,
            }
        }
        panic!("no end");
    }

    /// Runs, advancing time, until nothing more happens or `time` has passed.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.settle() {
            if next > end {
                break;
            }
            self.now = next.max(self.now);
        }
        self.now = self.now.max(end);
    }

    pub(crate) fn violations(&self) -> u64 {
        self.guests.iter().map(|guest| guest.card.violations.count()).sum()
    }

    /// Connects two queue pairs, and makes both ready to send.
    pub(crate) fn connect(&mut self, one: (usize, &mut Qp), other: (usize, &mut Qp)) {
        let lids = [one.0, other.0].map(|guest| self.guests[guest].card.port.lid);
        let (a, b) = (one.1.qpn, other.1.qpn);
        self.guests[one.0].ready(one.1, b, lids[1]);
        self.guests[other.0].ready(other.1, a, lids[0]);
    }
}
