//! The poller's table of the work queues that complete into its completion queue, by the number that entries carry.
//!
//! It belongs to the poller alone, so a look costs a multiplication and a few loads. Changes come from
//! [`Shared`](super::registry::Shared).

use std::sync::Arc;

use super::cqe::Key;
use super::registry::Registered;

/// A hash table with open addressing. At most half of its slots are in use, so every search ends.
#[derive(Debug)]
pub(super) struct Table {
    /// The number of a node, or [`NONE`].
    slots: Box<[u32]>,
    /// 64 less log2 of the slots: which bits of a hash choose one.
    hash_shift: u32,
    nodes: Vec<Node>,
    /// The first unused node, linked by `next`.
    unused: u32,
    len: usize,
}

/// A registration in a table. Registrations of the same key form a list in the order they were made, of which the table has the
/// first; all but the last have ended.
#[derive(Debug)]
struct Node {
    key: Key,
    next: u32,
    registered: Option<Arc<Registered>>,
}

/// No node.
pub(super) const NONE: u32 = u32::MAX;

impl Table {
    /// A table that holds `capacity` registrations without an allocation.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let slots = (2 * capacity).max(2).next_power_of_two();
        Self {
            slots: vec![NONE; slots].into(),
            hash_shift: 64 - slots.trailing_zeros(),
            nodes: Vec::with_capacity(capacity),
            unused: NONE,
            len: 0,
        }
    }

    /// How many registrations there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Moves everything into a larger table, which takes the place of this one. Returns the former, empty one.
    pub(super) fn replace(&mut self, larger: Self) -> Self {
        let mut former = std::mem::replace(self, larger);
        self.nodes.append(&mut former.nodes);
        (self.unused, self.len) = (former.unused, former.len);
        for node in former.slots.iter().filter(|node| **node != NONE) {
            if let Some(Node { key, .. }) = self.nodes.get(*node as usize) {
                let slot = self.slot(*key);
                self.slots[slot] = *node;
            }
        }
        former
    }

    /// Returns a registration by its node, if it has this key.
    #[inline(always)]
    pub(super) fn at(&self, node: u32, key: Key) -> Option<&Registered> {
        let node = self.nodes.get(node as usize).filter(|node| node.key == key)?;
        node.registered.as_deref()
    }

    /// Returns the registration to which the entry with this key and index belongs, and its node: the first one of the key
    /// that had not ended when the device wrote the entry.
    #[inline(always)]
    pub(super) fn find(&self, key: Key, index: u64) -> Option<(u32, &Registered)> {
        let mask = self.slots.len() - 1;
        let mut slot = self.home(key) & mask;
        let mut at = self.slots[slot];
        loop {
            let node = self.nodes.get(at as usize)?;
            let registered = node.registered.as_deref()?;
            if node.key != key {
                slot = (slot + 1) & mask;
                at = self.slots[slot];
            } else if registered.has(index) {
                return Some((at, registered));
            } else {
                at = node.next;
            }
        }
    }

    /// Adds a registration behind those of the same key.
    pub(super) fn insert(&mut self, registered: Arc<Registered>) {
        if self.nodes.len() * 2 >= self.slots.len() && self.unused == NONE {
            // Not needed: whoever registers has made room.
            let larger = Self::with_capacity(self.slots.len());
            self.replace(larger);
        }
        let key = registered.key;
        let node = Node { key, next: NONE, registered: Some(Arc::clone(&registered)) };
        let new = match self.nodes.get_mut(self.unused as usize) {
            Some(unused) => {
                let new = std::mem::replace(&mut self.unused, unused.next);
                *unused = node;
                new
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        self.len += 1;
        let slot = self.slot(key);
        let mut at = self.slots[slot];
        if at == NONE {
            self.slots[slot] = new;
            return;
        }
        while let Some(node) = self.nodes.get_mut(at as usize) {
            if let Some(before) = &node.registered {
                before.end_before(&registered);
            }
            at = node.next;
            if at == NONE {
                node.next = new;
            }
        }
    }

    /// Removes a registration, if it is there.
    pub(super) fn remove(&mut self, registered: &Arc<Registered>) {
        let slot = self.slot(registered.key);
        let mut before = NONE;
        let mut at = self.slots[slot];
        while let Some(node) = self.nodes.get_mut(at as usize) {
            if node.registered.as_ref().is_some_and(|found| Arc::ptr_eq(found, registered)) {
                node.registered = None;
                let next = std::mem::replace(&mut node.next, self.unused);
                self.unused = at;
                self.len -= 1;
                match self.nodes.get_mut(before as usize) {
                    Some(before) => before.next = next,
                    None if next != NONE => self.slots[slot] = next,
                    None => self.empty(slot),
                }
                return;
            }
            (before, at) = (at, node.next);
        }
    }

    /// Calls a function for each registration.
    pub(super) fn for_each(&self, call: impl FnMut(&Registered)) {
        self.nodes.iter().filter_map(|node| node.registered.as_deref()).for_each(call);
    }

    /// The slot that has this key, or the one to put it into.
    #[inline(always)]
    fn slot(&self, key: Key) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.home(key) & mask;
        while let Some(node) = self.nodes.get(self.slots[slot] as usize)
            && node.key != key
        {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// The slot in which the search for a key begins.
    #[inline(always)]
    fn home(&self, key: Key) -> usize {
        // 2⁶⁴ divided by the golden ratio: keys that follow each other are spread.
        (u64::from(key.get()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.hash_shift) as usize
    }

    /// Empties a slot, and moves the keys after it that its former key had pushed away.
    fn empty(&mut self, mut gap: usize) {
        let mask = self.slots.len() - 1;
        let mut slot = gap;
        loop {
            slot = (slot + 1) & mask;
            let Some(node) = self.nodes.get(self.slots[slot] as usize) else { break };
            // How far each is from where the search for the key begins.
            let home = self.home(node.key);
            if slot.wrapping_sub(home) & mask >= slot.wrapping_sub(gap) & mask {
                self.slots[gap] = self.slots[slot];
                gap = slot;
            }
        }
        self.slots[gap] = NONE;
    }
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
