//! The server's side: it reads what the client names, and writes it where the client says.

use bareverbs::SendWr;

use super::args::Plan;
use super::wire::Buffer;
use super::wires::{READ, SEND, WRITE, Wires, unposted};
use crate::outcome::Failure;
use crate::output::Tool;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The client's message about what is to be read.
    Source,
    /// The read.
    Read,
    /// The client's message about where it is to be written.
    Sink,
}

pub(super) struct Server {
    phase: Phase,
    verbose: bool,
    size: u32,
    pings: u32,
    /// The client's text with the zero byte that ends it, once read.
    text: Vec<u8>,
}

impl Server {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { phase: Phase::Source, verbose: plan.verbose, size: plan.size, pings: 0, text: Vec::new() }
    }

    /// A message has come.
    #[inline]
    pub(super) fn is_told(&mut self, tool: &Tool, wires: &mut Wires, told: Buffer) -> Result<(), Failure> {
        wires.log(tool, || {
            let Buffer { addr, rkey, size } = told;
            format!("Received rkey {rkey:x} addr {addr:x} len {size} from peer\nserver received sink adv\n")
        })?;
        match self.phase {
            Phase::Source => self.read(tool, wires, told),
            Phase::Sink => self.write(tool, wires, told),
            Phase::Read => Err(Failure::new(
                "wait for RDMA_READ_COMPLETE: the client has sent a message where none was due",
            )),
        }
    }

    fn read(&mut self, tool: &Tool, wires: &mut Wires, source: Buffer) -> Result<(), Failure> {
        if source.size == 0 || source.size > self.size {
            return Err(Failure::new(format!(
                "the client's messages have {} bytes, this side's {}: give both the same size (-S)",
                source.size, self.size
            )));
        }
        self.text.resize(source.size as usize, 0);
        let here = wires.data.slice(..source.size as usize);
        let wr = SendWr::rdma_read(READ, source.remote()).sge(here).signaled();
        wires.qp.post_sends(&[wr]).map_err(unposted)?;
        self.phase = Phase::Read;
        wires.log(tool, || "server posted rdma read req \n".into())
    }

    /// The client's text is here.
    #[inline]
    pub(super) fn has_read(&mut self, tool: &Tool, wires: &mut Wires) -> Result<(), Failure> {
        wires.log(tool, || "server received read complete\n".into())?;
        wires.data.read(0, &mut self.text);
        let end = self
            .text
            .iter()
            .position(|byte| *byte == 0)
            .ok_or_else(|| Failure::new("the client's text does not end: there is no zero byte in it"))?;
        self.text.truncate(end + 1);
        if self.verbose {
            let text = String::from_utf8_lossy(&self.text[..end]);
            tool.report(&format!("server ping data: {text}\n"))?;
        }
        self.phase = Phase::Sink;
        wires.send(Buffer::default())?;
        wires.log(tool, || "server posted go ahead\n".into())
    }

    /// The write and the message that it is done go out by one doorbell, in this order.
    fn write(&mut self, tool: &Tool, wires: &mut Wires, sink: Buffer) -> Result<(), Failure> {
        if (sink.size as usize) < self.text.len() {
            return Err(Failure::new(format!(
                "the client has room for {} bytes where its text has {}",
                sink.size,
                self.text.len()
            )));
        }
        let here = wires.data.slice(..self.text.len());
        wires.log(tool, || {
            format!("rdma write from lkey {:x} laddr {:x} len {}\n", here.lkey.0, here.addr, here.length)
        })?;
        let go_on = Buffer::default().encode();
        let mut wrs = [SendWr::rdma_write(WRITE, sink.remote()).sge(here), SendWr::send(SEND).inline(&go_on)];
        if wires.signals() {
            wrs = wrs.map(SendWr::signaled);
        }
        wires.qp.post_sends(&wrs).map_err(unposted)?;
        self.phase = Phase::Source;
        self.pings = self.pings.wrapping_add(1);
        wires.log(tool, || "server posted go ahead\n".into())
    }

    pub(super) fn pings(&self) -> u32 {
        self.pings
    }

    /// What is waited for, and whether the client may leave now.
    pub(super) fn waits_for(&self) -> (&'static str, bool) {
        match self.phase {
            Phase::Source => ("RDMA_READ_ADV", true),
            Phase::Read => ("RDMA_READ_COMPLETE", false),
            Phase::Sink => ("RDMA_WRITE_ADV", false),
        }
    }
}
