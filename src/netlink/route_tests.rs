use std::collections::VecDeque;
use std::net::Ipv4Addr;

use super::*;
use crate::sys::netlink::{SLOTS, Slot};

/// A kernel with one answer, to the question numbered 1, that keeps what it was asked.
#[derive(Default)]
struct Kernel {
    answers: VecDeque<Vec<u8>>,
    asked: Vec<u8>,
}

impl Transport for Kernel {
    fn send(&mut self, request: &[u8]) -> std::result::Result<(), Errno> {
        self.asked = request.to_vec();
        Ok(())
    }

    fn receive(&mut self, slots: &mut [Slot; SLOTS]) -> std::result::Result<usize, Errno> {
        let (Some(answer), Some(slot)) = (self.answers.pop_front(), slots.first_mut()) else {
            return Err(Errno::ETIMEDOUT);
        };
        slot.bytes[..answer.len()].copy_from_slice(&answer);
        slot.len = answer.len();
        slot.truncated = false;
        slot.from_kernel = true;
        Ok(1)
    }
}

/// Routes of a kernel that answers with this message.
fn routes(kind: u16, header: &[u8], attributes: &[(u16, &[u8])]) -> Routes<Kernel> {
    let message = Request::of(kind, 0).family(header);
    let mut message = attributes.iter().fold(message, |message, (kind, bytes)| message.bytes(*kind, bytes));
    let kernel = Kernel { answers: [message.numbered(1).to_vec()].into(), asked: Vec::new() };
    Routes(Exchange::new(kernel))
}

fn route(kind: u8, attributes: &[(u16, &[u8])]) -> Routes<Kernel> {
    let header = Rtmsg { rtm_family: FAMILIES[0], rtm_dst_len: 32, rtm_type: kind, ..Rtmsg::default() };
    routes(24, header.as_bytes(), attributes)
}

fn neighbour(state: u16, attributes: &[(u16, &[u8])]) -> Routes<Kernel> {
    let header = Ndmsg { ndm_family: FAMILIES[0], ndm_ifindex: 2, ndm_state: state, ..Ndmsg::default() };
    routes(28, header.as_bytes(), attributes)
}

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

#[test]
fn a_hop_is_here_a_neighbour_or_a_gateway() {
    let gateway = Ipv4Addr::new(10, 0, 0, 254);
    assert_eq!(route(RTN_LOCAL, &[]).hop(PEER, 2).unwrap(), Hop::Here);
    assert_eq!(route(RTN_UNICAST, &[(RTA_OIF, &[2, 0, 0, 0])]).hop(PEER, 2).unwrap(), Hop::Neighbour(PEER));
    let mut far = route(RTN_UNICAST, &[(RTA_GATEWAY, &gateway.octets())]);
    assert_eq!(far.hop(PEER, 2).unwrap(), Hop::Neighbour(gateway.into()));
    let nowhere = route(3, &[]).hop(PEER, 2).unwrap_err();
    assert_eq!(nowhere.errno(), Some(Errno::ENETUNREACH));
    assert!(route(RTN_UNICAST, &[(RTA_GATEWAY, &[1, 2])]).hop(PEER, 2).is_err());
}

/// As rtnetlink(7) lays them out, on a little-endian machine.
#[test]
fn questions_are_the_kernels_bytes() {
    let mut routes = route(RTN_LOCAL, &[]);
    routes.hop(PEER, 2).unwrap();
    let asked = routes.0.into_transport().asked;
    assert_eq!(asked[..8], [44, 0, 0, 0, 26, 0, 1, 0]);
    assert_eq!(asked[16..28], [2, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(asked[28..], [8, 0, 1, 0, 10, 0, 0, 2, 8, 0, 4, 0, 2, 0, 0, 0]);
    let mut routes = neighbour(NUD_STALE, &[]);
    routes.neighbour(PEER, 2).unwrap();
    let asked = routes.0.into_transport().asked;
    assert_eq!(asked[..8], [36, 0, 0, 0, 30, 0, 1, 0]);
    assert_eq!(asked[16..28], [2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(asked[28..], [8, 0, 1, 0, 10, 0, 0, 2]);
}

#[test]
fn a_neighbours_address_counts_in_some_states() {
    const INCOMPLETE: u16 = 0x01;
    const FAILED: u16 = 0x20;
    let mac = [2, 0, 0, 0, 0, 9];
    for state in [NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE, NUD_NOARP, NUD_PERMANENT] {
        assert_eq!(neighbour(state, &[(NDA_LLADDR, &mac)]).neighbour(PEER, 2).unwrap(), Some(mac));
    }
    for state in [INCOMPLETE, FAILED] {
        assert_eq!(neighbour(state, &[(NDA_LLADDR, &mac)]).neighbour(PEER, 2).unwrap(), None);
    }
    assert_eq!(neighbour(NUD_REACHABLE, &[(NDA_LLADDR, &mac[..5])]).neighbour(PEER, 2).unwrap(), None);
    let refusal = |errno: i32| [(-errno).to_ne_bytes(), [0; 4]].concat();
    assert_eq!(routes(2, &refusal(libc::ENOENT), &[]).neighbour(PEER, 2).unwrap(), None);
    assert!(routes(2, &refusal(libc::EOPNOTSUPP), &[]).neighbour(PEER, 2).is_err());
}
