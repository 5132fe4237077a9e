//! Question and answer: who sent it, to which question, is that all, and did the kernel refuse.

use nix::errno::Errno;

use super::message::{Attributes, Malformed, Message, Messages, Read, Request, message_type};
use crate::error::{Cause, Error, Result};
use crate::sys::netlink::{NetlinkSocket, SLOTS, Slot};
use crate::uapi::linux_netlink::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTI, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN,
};

/// How often a list that changed while it was read is read again.
const DUMP_TRIES: usize = 8;

/// How many datagrams that answer something else are passed over before giving up.
const FOREIGN_DATAGRAMS: usize = 64;

/// Where requests go and answers come from; tests put their own kernel here.
pub(crate) trait Transport {
    fn send(&mut self, request: &[u8]) -> std::result::Result<(), Errno>;
    fn receive(&mut self, slots: &mut [Slot; SLOTS]) -> std::result::Result<usize, Errno>;
}

impl Transport for NetlinkSocket {
    fn send(&mut self, request: &[u8]) -> std::result::Result<(), Errno> {
        NetlinkSocket::send(self, request)
    }

    fn receive(&mut self, slots: &mut [Slot; SLOTS]) -> std::result::Result<usize, Errno> {
        NetlinkSocket::receive(self, slots)
    }
}

/// What a request is called in errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct What<'a> {
    pub(crate) operation: &'static str,
    pub(crate) object: &'a str,
}

impl What<'_> {
    fn os(self, errno: Errno) -> Error {
        Error::os(self.operation, self.object, errno)
    }

    fn bad(self, Malformed(why): Malformed) -> Error {
        Error::new(self.operation, self.object, Cause::BadAnswer(why))
    }
}

/// What ends an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The first message that belongs to no list, or the end of the list.
    Data,
    /// An acknowledgement, good or bad.
    Ack,
}

/// The two ends of a socket and the number of the next question.
#[derive(Debug)]
pub(crate) struct Exchange<T> {
    transport: T,
    sequence: u32,
}

impl<T: Transport> Exchange<T> {
    pub(crate) fn new(transport: T) -> Self {
        Self { transport, sequence: 0 }
    }

    /// The transport, for tests that look at what went through it.
    #[cfg(test)]
    pub(super) fn into_transport(self) -> T {
        self.transport
    }

    /// Asks for a list; `read` makes an item of each message.
    pub(crate) fn dump<R>(
        &mut self,
        what: What<'_>,
        command: u16,
        fill: impl Fn(Request) -> Request,
        read: impl Fn(Attributes<'_>) -> Read<R>,
    ) -> Result<Vec<R>> {
        for _ in 0..DUMP_TRIES {
            let request = fill(Request::new(command, NLM_F_DUMP));
            let (items, whole) =
                self.ask(what, message_type(command), request, End::Data, &attributes(&read))?;
            if whole {
                return Ok(items);
            }
        }
        Err(what.bad(Malformed("the list kept changing while it was read".into())))
    }

    /// Asks for one thing.
    pub(crate) fn get<R>(
        &mut self,
        what: What<'_>,
        command: u16,
        fill: impl Fn(Request) -> Request,
        read: impl Fn(Attributes<'_>) -> Read<R>,
    ) -> Result<R> {
        self.get_message(what, message_type(command), fill(Request::new(command, 0)), attributes(&read))
    }

    /// Asks for one thing by a message of this type; `read` gets all that is behind the answer's header.
    pub(crate) fn get_message<R>(
        &mut self,
        what: What<'_>,
        kind: u16,
        request: Request,
        read: impl Fn(&[u8]) -> Read<R>,
    ) -> Result<R> {
        let (items, _) = self.ask(what, kind, request, End::Data, &read)?;
        items
            .into_iter()
            .next()
            .ok_or_else(|| what.bad(Malformed("an acknowledgement without an answer".into())))
    }

    /// Asks for something to be done.
    pub(crate) fn act(
        &mut self,
        what: What<'_>,
        command: u16,
        fill: impl Fn(Request) -> Request,
    ) -> Result<()> {
        let request = fill(Request::new(command, NLM_F_ACK));
        self.ask(what, message_type(command), request, End::Ack, &|_| Ok(()))?;
        Ok(())
    }

    /// Sends one request and collects its answer; false beside it: the list changed meanwhile.
    fn ask<R>(
        &mut self,
        what: What<'_>,
        kind: u16,
        mut request: Request,
        end: End,
        read: &impl Fn(&[u8]) -> Read<R>,
    ) -> Result<(Vec<R>, bool)> {
        self.sequence = self.sequence.wrapping_add(1);
        self.transport.send(request.numbered(self.sequence)).map_err(|e| what.os(e))?;

        // On the stack, since a block of this size costs two system calls on the heap.
        let mut slots = [Slot::EMPTY; SLOTS];
        let mut items = Vec::new();
        let mut whole = true;
        let mut foreign = 0;
        loop {
            let count = self.transport.receive(&mut slots).map_err(|e| what.os(e))?;
            for slot in slots.iter().take(count) {
                let ours = slot.from_kernel.then(|| datagram(what, slot)).transpose()?;
                let mut answered = false;
                for message in Messages::new(ours.unwrap_or_default()) {
                    let message = message.map_err(|why| what.bad(why))?;
                    // What is left of a question that was given up.
                    if message.sequence != self.sequence {
                        continue;
                    }
                    answered = true;
                    whole &= message.flags & NLM_F_DUMP_INTR == 0;
                    if one(what, kind, end, message, &mut items, read)? {
                        return Ok((items, whole));
                    }
                }
                foreign += usize::from(!answered);
            }
            if foreign > FOREIGN_DATAGRAMS {
                return Err(what.bad(Malformed("only answers to other questions came".into())));
            }
        }
    }
}

/// Reads what is behind the header as attributes.
fn attributes<R>(read: impl Fn(Attributes<'_>) -> Read<R>) -> impl Fn(&[u8]) -> Read<R> {
    move |payload| read(Attributes::new(payload))
}

/// The bytes of a datagram that came whole.
fn datagram<'a>(what: What<'_>, slot: &'a Slot) -> Result<&'a [u8]> {
    let whole = slot.bytes.get(..slot.len).filter(|_| !slot.truncated);
    whole.ok_or_else(|| what.bad(Malformed("a datagram that was cut short".into())))
}

/// Takes in one message; true: it was the last.
fn one<R>(
    what: What<'_>,
    asked: u16,
    end: End,
    message: Message<'_>,
    items: &mut Vec<R>,
    read: &impl Fn(&[u8]) -> Read<R>,
) -> Result<bool> {
    match message.kind {
        NLMSG_NOOP => Ok(false),
        NLMSG_OVERRUN => Err(what.bad(Malformed("the kernel lost part of the answer".into()))),
        NLMSG_ERROR => verdict(what, message.payload).map(|()| true),
        // Its number is absent on old kernels, and 0 or a negated errno on others.
        NLMSG_DONE if message.payload.is_empty() => Ok(true),
        NLMSG_DONE => verdict(what, message.payload).map(|()| true),
        kind if is_answer_to(asked, kind) => {
            if end == End::Data {
                items.push(read(message.payload).map_err(|why| what.bad(why))?);
            }
            Ok(end == End::Data && message.flags & NLM_F_MULTI == 0)
        }
        other => Err(what.bad(Malformed(format!("a message of unknown type {other:#x}").into()))),
    }
}

/// Whether a message of type `kind` may answer one of type `asked`.
///
/// Any of the same family may: `PORT_GET` and others are answered under the number of `GET`.
fn is_answer_to(asked: u16, kind: u16) -> bool {
    kind >> 10 == asked >> 10
}

/// The errno in front of an acknowledgement's or an end mark's payload.
fn verdict(what: What<'_>, payload: &[u8]) -> Result<()> {
    let Some(code) = payload.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes)) else {
        return Err(what.bad(Malformed("an acknowledgement without a verdict".into())));
    };
    match code {
        0 => Ok(()),
        1.. => Err(what.bad(Malformed(format!("a verdict of {code}").into()))),
        i32::MIN..0 => Err(what.os(Errno::from_raw(code.saturating_neg()))),
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
