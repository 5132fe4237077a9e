use std::collections::VecDeque;

use super::super::message::tests::Seeded;
use super::*;
use crate::uapi::linux_netlink::Nlmsghdr;
use crate::uapi::netlink::{RDMA_NLDEV_ATTR_DEV_INDEX, RDMA_NLDEV_CMD_GET, RDMA_NLDEV_CMD_PORT_GET};
use zerocopy::IntoBytes;

const WHAT: What<'_> = What { operation: "ask", object: "it" };

/// A datagram on its way.
#[derive(Clone)]
struct Datagram {
    bytes: Vec<u8>,
    len: usize,
    truncated: bool,
    from_kernel: bool,
}

/// A kernel that has its answers ready, one list of datagrams for each request.
#[derive(Default)]
struct Scripted {
    answers: VecDeque<Vec<Datagram>>,
    queue: VecDeque<Datagram>,
    /// How many datagrams it hands out at once.
    at_once: usize,
}

impl Transport for Scripted {
    fn send(&mut self, _request: &[u8]) -> std::result::Result<(), Errno> {
        self.queue.extend(self.answers.pop_front().unwrap_or_default());
        Ok(())
    }

    fn receive(&mut self, slots: &mut [Slot; SLOTS]) -> std::result::Result<usize, Errno> {
        let count = self.queue.len().min(self.at_once);
        if count == 0 {
            return Err(Errno::ETIMEDOUT);
        }
        for (slot, datagram) in slots.iter_mut().zip(self.queue.drain(..count)) {
            slot.bytes[..datagram.bytes.len()].copy_from_slice(&datagram.bytes);
            slot.len = datagram.len;
            slot.truncated = datagram.truncated;
            slot.from_kernel = datagram.from_kernel;
        }
        Ok(count)
    }
}

fn exchange<const N: usize>(answers: [Vec<Datagram>; N]) -> Exchange<Scripted> {
    Exchange::new(Scripted { answers: answers.into(), queue: VecDeque::new(), at_once: 1 })
}

fn datagram(parts: &[Vec<u8>]) -> Datagram {
    let bytes = parts.concat();
    Datagram { len: bytes.len(), bytes, truncated: false, from_kernel: true }
}

fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let header = Nlmsghdr {
        nlmsg_len: 16 + payload.len() as u32,
        nlmsg_type: kind,
        nlmsg_flags: flags,
        nlmsg_seq: sequence,
        nlmsg_pid: 77,
    };
    [header.as_bytes(), payload].concat()
}

fn item(flags: u16, sequence: u32, value: u32) -> Vec<u8> {
    let mut request = Request::new(0, 0).u32(RDMA_NLDEV_ATTR_DEV_INDEX, value);
    message(message_type(RDMA_NLDEV_CMD_GET), flags, sequence, &request.numbered(0)[16..])
}

fn done(sequence: u32, code: i32) -> Vec<u8> {
    message(NLMSG_DONE, NLM_F_MULTI, sequence, &code.to_ne_bytes())
}

fn index(attributes: Attributes<'_>) -> Read<u32> {
    attributes.map(|a| a?.u32()).sum()
}

fn dump(exchange: &mut Exchange<Scripted>) -> Result<Vec<u32>> {
    exchange.dump(WHAT, RDMA_NLDEV_CMD_GET, |r| r, index)
}

#[test]
fn a_list_goes_on_to_its_end_mark_over_datagrams() {
    let m = NLM_F_MULTI;
    for at_once in 1..=SLOTS {
        let mut e = exchange([vec![
            datagram(&[item(m, 1, 5), item(m, 1, 6)]),
            datagram(&[item(m, 1, 7)]),
            datagram(&[done(1, 0)]),
        ]]);
        e.transport.at_once = at_once;
        assert_eq!(dump(&mut e).unwrap(), [5, 6, 7]);
    }
}

#[test]
fn a_list_that_changed_is_read_again() {
    let m = NLM_F_MULTI;
    let mut e = exchange([
        vec![datagram(&[item(m, 1, 5), item(m | NLM_F_DUMP_INTR, 1, 6), done(1, 0)])],
        vec![datagram(&[item(m, 2, 6), done(2, 0)])],
    ]);
    assert_eq!(dump(&mut e).unwrap(), [6]);
}

#[test]
fn a_list_that_never_settles_is_an_error() {
    let answers: [_; DUMP_TRIES + 1] = std::array::from_fn(|n| {
        vec![datagram(&[item(NLM_F_MULTI | NLM_F_DUMP_INTR, n as u32 + 1, 5), done(n as u32 + 1, 0)])]
    });
    let error = dump(&mut exchange(answers)).unwrap_err();
    assert!(error.to_string().contains("kept changing"), "{error}");
}

#[test]
fn an_end_mark_may_carry_a_refusal() {
    let mut e = exchange([vec![datagram(&[done(1, -(Errno::ENOMEM as i32))])]]);
    assert_eq!(dump(&mut e).unwrap_err().errno(), Some(Errno::ENOMEM));
}

#[test]
fn strangers_and_old_answers_are_passed_over() {
    let mut stranger = datagram(&[item(0, 1, 66)]);
    stranger.from_kernel = false;
    let mut e = exchange([vec![stranger, datagram(&[item(0, 99, 67)]), datagram(&[item(0, 1, 5)])]]);
    let got = e.get(WHAT, RDMA_NLDEV_CMD_PORT_GET, |r| r, index).unwrap();
    assert_eq!(got, 5);
}

#[test]
fn a_flood_of_strangers_ends() {
    let flood = (0..200).map(|_| datagram(&[item(0, 99, 67)])).collect();
    let error = dump(&mut exchange([flood])).unwrap_err();
    assert!(error.to_string().contains("other questions"), "{error}");
}

#[test]
fn silence_a_cut_datagram_and_a_refusal_are_three_errors() {
    let error = dump(&mut exchange([vec![]])).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ETIMEDOUT));

    let mut cut = datagram(&[item(NLM_F_MULTI, 1, 5)]);
    cut.truncated = true;
    let error = dump(&mut exchange([vec![cut]])).unwrap_err();
    assert!(error.to_string().contains("cut short"), "{error}");

    let refusal = (-(Errno::EPERM as i32)).to_ne_bytes();
    let mut e = exchange([vec![datagram(&[message(NLMSG_ERROR, 0, 1, &refusal)])]]);
    let error = e.act(WHAT, 3, |r| r).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EPERM));
}

#[test]
fn an_acknowledgement_is_no_answer_and_an_answer_no_acknowledgement() {
    let ack = || message(NLMSG_ERROR, 0, 1, &0i32.to_ne_bytes());
    let mut e = exchange([vec![datagram(&[ack()])]]);
    assert!(e.get(WHAT, RDMA_NLDEV_CMD_GET, |r| r, index).is_err());
    let mut e = exchange([vec![datagram(&[item(0, 1, 5)]), datagram(&[ack()])]]);
    e.act(WHAT, 3, |r| r).unwrap();
    let mut e = exchange([vec![datagram(&[message(NLMSG_ERROR, 0, 1, &[0, 0])])]]);
    assert!(e.act(WHAT, 3, |r| r).is_err());
    // No errno is that large, and negating the least number would overflow.
    let mut e = exchange([vec![datagram(&[message(NLMSG_ERROR, 0, 1, &i32::MIN.to_ne_bytes())])]]);
    assert!(e.act(WHAT, 3, |r| r).is_err());
}

#[test]
fn no_datagram_makes_it_panic_or_hang() {
    let mut seeded = Seeded(0x0bad_5eed);
    for _ in 0..5_000 {
        let answers = (0..4)
            .map(|_| {
                let mut bytes = [item(NLM_F_MULTI, 1, 5), done(1, 0), item(0, 1, 9)].concat();
                for _ in 0..seeded.below(6) {
                    let at = seeded.below(bytes.len());
                    bytes[at] = seeded.next() as u8;
                }
                bytes.truncate(seeded.below(bytes.len() + 1));
                // A length that the transport made up must not be believed either.
                let len = if seeded.below(16) == 0 { usize::MAX } else { bytes.len() };
                Datagram { bytes, len, truncated: false, from_kernel: seeded.below(8) > 0 }
            })
            .collect();
        let _ = dump(&mut exchange([answers]));
    }
}
