//! The trace of the data path.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use super::{super::wqe::opcode, guest::Wqe, rc::Pair};
use crate::trace::Trace;

/// The trace as written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The trace of the card during an action.
fn traced(done: impl FnOnce(&mut Pair)) -> String {
    let mut pair = Pair::new(1, |_| {});
    let lines = Lines::default();
    pair.world.guests[0].card.trace = Trace::to("hca 1", Box::new(lines.clone()));
    done(&mut pair);
    pair.run();
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

/// Checks for these lines in this order, perhaps with others in between.
fn told(trace: &str, wanted: &[&str]) {
    let mut lines = trace.lines();
    for wanted in wanted {
        let found = lines.any(|line| line.strip_prefix("hca 1: ") == Some(wanted));
        assert!(found, "no {wanted:?}, or not in its place, in\n{trace}");
    }
}

#[test]
fn the_trace_follows_a_message_from_doorbell_to_completion() {
    let trace = traced(|pair| {
        pair.recv(1, 0, 100);
        pair.world.guests[0].arm(&pair.cqs[1], false);
        let wqe = pair.sge(0, Wqe::new(opcode::SEND), 7, 33);
        pair.send(0, &wqe);
    });
    told(
        &trace,
        &[
            "CQ 0x42 armed Next at 0, sequence 1",
            "UAR 3 doorbell QP 0x45",
            "QP 0x45 SQ [0] send: 33 bytes at 0x7f0043000007 by 0x4300, signaled",
            "-> Rc SendOnly 1 -> 1 QP 0x46 PSN 0xfffffe ack 33 bytes",
            "<- Rc SendOnly 1 -> 1 QP 0x46 PSN 0xfffffe ack 33 bytes",
            "QP 0x46 RQ [0] receive: 100 bytes at 0x7f0044000000 by 0x4400",
            "CQ 0x42 [0] QP 0x46 RQ [0] Send: 33 bytes from LID 1, QP 0x45",
            "-> Rc Acknowledge 1 -> 1 QP 0x45 PSN 0xfffffe Ack MSN 1",
            "CQ 0x41 [0] QP 0x45 SQ [0] done: opcode 0x0a",
        ],
    );
}

#[test]
fn the_trace_shows_operations_and_their_results() {
    let trace = traced(|pair| {
        let wqe = pair.raddr(1, Wqe::new(opcode::WRITE), 0).inline(&[1; 4]).unsignaled();
        pair.world.guests[0].send_blueflame(&mut pair.qps[0], &wqe, None);
        let mut wqe = pair.raddr(1, Wqe::new(opcode::FETCH_ADD), 16).fenced();
        wqe.segments.extend(5_u64.to_be_bytes());
        wqe.segments.extend([0; 8]);
        let wqe = pair.sge(0, wqe, 0, 8);
        pair.send(0, &wqe);
        let wqe = pair.sge(0, pair.raddr(1, Wqe::new(opcode::READ), 1 << 20), 0, 8);
        pair.send(0, &wqe);
    });
    told(
        &trace,
        &[
            "UAR 3 BlueFlame QP 0x45 [0], 64 bytes",
            "QP 0x45 SQ [0] write to 0x7f0044000000 by R_Key 0x4400: 4 bytes inline",
            "QP 0x45 SQ [1] fetch and add 0x5 at 0x7f0044000010 by R_Key 0x4400: \
             8 bytes at 0x7f0043000000 by 0x4300, signaled, fenced",
            "QP 0x45 SQ [2] read from 0x7f0044100000 by R_Key 0x4400: \
             8 bytes at 0x7f0043000000 by 0x4300, signaled",
            "QP 0x46 refuses PSN 0x000000: remote access: outside the range of the key",
            "CQ 0x41 [1] QP 0x45 SQ [2] RemoteAccess: syndrome 0x13, vendor 0x88",
        ],
    );
}
