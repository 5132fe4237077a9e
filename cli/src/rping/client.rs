//! The client's side: it names what is to be read, then where it is to be written, and compares.

use std::io::Write;

use super::args::Plan;
use super::wire::Buffer;
use super::wires::Wires;
use crate::outcome::Failure;
use crate::output::Tool;

/// The bytes that texts are filled with, in turn: from `A` to `z`.
const FIRST: u8 = b'A';
const LETTERS: usize = (b'z' - b'A' + 1) as usize;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The server's message that it has read.
    Read,
    /// The server's message that it has written.
    Written,
}

pub(super) struct Client {
    phase: Phase,
    verbose: bool,
    validate: bool,
    /// 0 is without end.
    count: u32,
    pings: u32,
    /// All letters, and again as many as a text has.
    letters: Vec<u8>,
    text: Vec<u8>,
    back: Vec<u8>,
}

impl Client {
    pub(super) fn new(plan: &Plan) -> Self {
        let size = plan.size as usize;
        Self {
            phase: Phase::Read,
            verbose: plan.verbose,
            validate: plan.validate,
            count: plan.count,
            pings: 0,
            letters: (FIRST..=b'z').cycle().take(LETTERS + size).collect(),
            text: vec![0; size],
            back: vec![0; size],
        }
    }

    /// Begins the next message: writes its text, and tells the server where it is.
    #[inline]
    pub(super) fn ping(&mut self, tool: &Tool, wires: &mut Wires) -> Result<(), Failure> {
        fill(&mut self.text, self.pings, &self.letters);
        wires.data.write(0, &self.text);
        self.phase = Phase::Read;
        self.lend(tool, wires, 0)
    }

    /// The server has done what was asked.
    #[inline]
    pub(super) fn may_go_on(&mut self, tool: &Tool, wires: &mut Wires) -> Result<(), Failure> {
        match self.phase {
            Phase::Read => {
                self.phase = Phase::Written;
                self.lend(tool, wires, self.text.len())
            }
            Phase::Written => {
                self.has_come_back(tool, wires)?;
                self.pings = self.pings.wrapping_add(1);
                if self.is_done() { Ok(()) } else { self.ping(tool, wires) }
            }
        }
    }

    /// Tells the server of the buffer at `offset`.
    #[inline]
    fn lend(&self, tool: &Tool, wires: &mut Wires, offset: usize) -> Result<(), Failure> {
        let remote = wires.data.remote(offset);
        let buffer = Buffer { addr: remote.addr, rkey: remote.rkey.0, size: self.text.len() as u32 };
        wires.log(tool, || {
            format!("RDMA addr {:x} rkey {:x} len {}\n", buffer.addr, buffer.rkey, buffer.size)
        })?;
        wires.send(buffer)
    }

    fn has_come_back(&mut self, tool: &Tool, wires: &Wires) -> Result<(), Failure> {
        if !self.verbose && !self.validate {
            return Ok(());
        }
        wires.data.read(self.text.len(), &mut self.back);
        if self.validate
            && let Some(at) = self.text.iter().zip(&self.back).position(|(sent, back)| sent != back)
        {
            return Err(Failure::new(format!(
                "data mismatch!: of message {}, byte {at} came back as {:#04x} and not as {:#04x}",
                self.pings, self.back[at], self.text[at]
            )));
        }
        if self.verbose {
            let end = self.back.iter().position(|byte| *byte == 0).unwrap_or(self.back.len());
            tool.print(&format!("ping data: {}\n", String::from_utf8_lossy(&self.back[..end])))?;
        }
        Ok(())
    }

    pub(super) fn is_done(&self) -> bool {
        self.count != 0 && self.pings >= self.count
    }

    pub(super) fn pings(&self) -> u32 {
        self.pings
    }

    pub(super) fn waits_for(&self) -> &'static str {
        match self.phase {
            Phase::Read => "RDMA_WRITE_ADV",
            Phase::Written => "RDMA_WRITE_COMPLETE",
        }
    }
}

/// Writes message `ping`: its number, letters that begin with another one each time, and a zero byte.
fn fill(text: &mut [u8], ping: u32, letters: &[u8]) {
    let size = text.len();
    let mut rest = &mut *text;
    // The C tool's number is an int.
    let _ = write!(rest, "rdma-ping-{}: ", ping as i32);
    let start = ping as usize % LETTERS;
    let filled = rest.len();
    rest.copy_from_slice(&letters[start..start + filled]);
    text[size - 1] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ping: u32, size: usize) -> String {
        let plan = Plan { size: size as u32, ..Plan::default() };
        let mut client = Client::new(&plan);
        fill(&mut client.text, ping, &client.letters);
        let (last, text) = client.text.split_last().unwrap();
        assert_eq!(*last, 0);
        String::from_utf8(text.to_vec()).unwrap()
    }

    #[test]
    fn texts_are_those_of_the_c_tool() {
        assert_eq!(text(0, 64), r"rdma-ping-0: ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefghijklmnopqr");
        assert_eq!(text(10, 64), r"rdma-ping-10: KLMNOPQRSTUVWXYZ[\]^_`abcdefghijklmnopqrstuvwxyzA");
        assert_eq!(text(19, 64), r"rdma-ping-19: TUVWXYZ[\]^_`abcdefghijklmnopqrstuvwxyzABCDEFGHIJ");
        // After z comes A again, for the first letters too.
        assert!(text(57, 64).starts_with("rdma-ping-57: zABC"));
        assert!(text(58, 64).starts_with("rdma-ping-58: ABC"));
        assert_eq!(text(i32::MAX as u32, 23), "rdma-ping-2147483647: ");
        assert_eq!(text(0, 65535).len(), 65534);
    }
}
