//! Forwarding of frames and RoCE packets.

use super::{Frame, Mac, is_group, mac};
use crate::fabric::switch::Switch;

impl Switch {
    /// The cards that a packet to this address is for. Unlike with an Ethernet switch, that may be the sender.
    pub(crate) fn ethernet_targets(&self, from: usize, destination: Mac) -> Vec<usize> {
        let active = |number: &usize| self.links.get(*number).is_some_and(|link| link.active);
        if !active(&from) {
            return Vec::new();
        }
        let all = (0..self.links.len()).filter(active);
        if is_group(destination) {
            return all.collect();
        }
        match all.clone().find(|number| self.links[*number].macs.contains(&destination)) {
            Some(card) => vec![card],
            // Unknown addresses are flooded.
            None => all.filter(|number| *number != from).collect(),
        }
    }

    /// The cards that a frame is for.
    pub(crate) fn forward(&self, from: usize, frame: &Frame) -> Vec<usize> {
        let mut targets = self.ethernet_targets(from, mac(&frame.bytes, 0));
        if !frame.loopback {
            targets.retain(|number| *number != from);
        }
        targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::{ethernet::EthernetPort, port::Port};

    #[test]
    fn frames_are_forwarded_by_address_and_flooded_if_it_is_unknown() {
        let mut switch = Switch::default();
        for number in 0..3_u8 {
            let mut port = Port::new(u64::from(number), 1, 1);
            let mut ethernet = EthernetPort::new([2, 0, 0, 0, 0, number]);
            ethernet.macs[0] = Some(ethernet.mac);
            port.ethernet = Some(Box::new(ethernet));
            port.enabled = true;
            switch.learn(number.into(), &port);
        }
        let go = |destination: Mac, loopback| {
            let bytes = [&destination[..], &[0; 8]].concat();
            switch.forward(0, &Frame { bytes, loopback })
        };
        assert_eq!(go([2, 0, 0, 0, 0, 1], false), [1]);
        assert_eq!(go([2, 0, 0, 0, 0, 9], false), [1, 2]);
        assert_eq!(go([0xff; 6], false), [1, 2]);
        assert!(go([2, 0, 0, 0, 0, 0], false).is_empty());
        assert_eq!(go([2, 0, 0, 0, 0, 0], true), [0]);
        assert_eq!(switch.ethernet_targets(0, [0x33; 6]), [0, 1, 2]);
    }
}
