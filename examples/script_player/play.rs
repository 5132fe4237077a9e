//! Playing: posting what a script says, printing what comes.

use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

use bareverbs::{
    Access, Context, Mr, Mw, MwType, Qp, RecvWr, Remote, Rkey, SendWr, Sge, Wait, Wc, WcExtra, WcOpcode,
};

use crate::Outcome;
use crate::lane::{End, Lane, Parents, REMOTE};
use crate::script::{Line, Part, Send, Target};

/// Bytes of each end's memory.
const MEMORY: usize = 1 << 18;
/// What makes a key invalid.
const WRONG: u32 = 0x00ff_00ff;

pub(crate) struct Player {
    parents: Parents,
    lanes: Vec<Lane>,
    /// Of each end. A region cannot go before a window that is bound to it.
    windows: [Option<Mw>; 2],
    memory: [Mr; 2],
    receives: HashSet<u64>,
    /// Requests that were posted in one list with an earlier one.
    chained: HashSet<u64>,
    how: Wait,
}

impl Player {
    pub(crate) fn new(ctx: &Context, gid_index: Option<u32>) -> Outcome<Self> {
        let pd = ctx.alloc_pd()?;
        // A device may have no windows; its scripts have none then.
        let window = || pd.alloc_mw(MwType::Two).ok();
        let windows = [window(), window()];
        let windowed = if windows[0].is_some() { Access::MW_BIND } else { Access::empty() };
        let memory = || pd.alloc_mr(MEMORY, Access::LOCAL_WRITE | REMOTE | windowed);
        let memory = [memory()?, memory()?];
        let parents = Parents { ctx: ctx.clone(), pd, gid_index };
        let (receives, chained) = Default::default();
        Ok(Self { parents, lanes: Vec::new(), windows, memory, receives, chained, how: Wait::Poll })
    }

    pub(crate) fn play(mut self, script: &[Line], out: &mut impl Write) -> Outcome {
        for at in 0..script.len() {
            self.line(script, at, out).map_err(|error| format!("{:?}: {error}", script[at]))?;
        }
        self.nothing_left()
    }

    fn line(&mut self, script: &[Line], at: usize, out: &mut impl Write) -> Outcome {
        match &script[at] {
            Line::Lane { kind, srq } => self.lanes.push(Lane::new(&self.parents, kind, *srq)?),
            Line::Fill { end, part, seed } => {
                self.memory[*end].write(part.offset, &noise(part.length, *seed));
            }
            Line::Recv(recv) => {
                self.receives.insert(recv.id);
                let sges = elements(&self.memory[recv.at.1], &recv.parts);
                self.end(recv.at)?.post_recv(RecvWr::new(recv.id).sges(&sges))?;
            }
            Line::Send(send) if self.chained.contains(&send.id) => {}
            Line::Send(_) => self.send(script, at)?,
            // A batch begins.
            Line::Ready => self.nothing_left()?,
            Line::Pause => std::thread::sleep(Duration::from_millis(2)),
            Line::Go { events } => self.how = if *events { Wait::Events } else { Wait::Poll },
            Line::Done { at, received } => {
                let how = self.how;
                let receives = std::mem::take(&mut self.receives);
                let wc = self.end(*at)?.next(*received, how, &|id| receives.contains(&id));
                self.receives = receives;
                tell(out, *at, *received, &wc?)?;
            }
            Line::Clear { end, part } => self.memory[*end].write(part.offset, &vec![0; part.length]),
            Line::Sum { end } => {
                let sum = checksum(&bytes(&self.memory[*end], 0, MEMORY));
                writeln!(out, "sum {} 0x{sum:016x}", name(*end))?;
            }
            Line::Break { lane } => {
                self.how = Wait::Poll;
                self.lane(*lane)?.fail()?;
            }
            Line::Connect { lane } => self.lane(*lane)?.connect()?,
        }
        Ok(())
    }

    fn lane(&mut self, number: usize) -> Outcome<&mut Lane> {
        self.lanes.get_mut(number).ok_or_else(|| "there is no such lane".into())
    }

    fn end(&mut self, (lane, end): (usize, usize)) -> Outcome<&mut End> {
        Ok(&mut self.lane(lane)?.ends[end])
    }

    /// Posts the list that begins with this line.
    fn send(&mut self, script: &[Line], at: usize) -> Outcome {
        let list = list(&script[at..]);
        let Some(first) = list.first() else { return Ok(()) };
        let (lane, here) = first.at;
        self.chained.extend(list.iter().map(|send| send.id));
        let memory = &self.memory;
        let sges: Vec<_> = list.iter().map(|send| elements(&memory[here], &send.parts)).collect();
        let inline = |send: &&Send| if send.inline { gather(&memory[here], &send.parts) } else { Vec::new() };
        let inline: Vec<_> = list.iter().map(inline).collect();
        let Some(lane) = self.lanes.get_mut(lane) else { return Err("there is no such lane".into()) };
        let End { qp, ah, peer, peer_srqn, .. } = &mut lane.ends[here];
        let mut wrs = Vec::new();
        for ((send, sges), inline) in list.iter().zip(&sges).zip(&inline) {
            let wr = operation(send, &self.memory, &mut self.windows)?;
            let wr = match send.opcode.as_str() {
                "bind_mw" | "local_inv" => wr,
                _ if send.inline => wr.inline(inline),
                _ => wr.sges(sges),
            };
            let wr = match (ah.as_ref(), *peer_srqn) {
                (Some(ah), _) => wr.ud_addr(ah, peer.qp_num, Qp::DEFAULT_QKEY),
                (None, Some(srqn)) => wr.xrc_srqn(srqn),
                (None, None) => wr,
            };
            let wr = if send.signaled { wr.signaled() } else { wr };
            let wr = if send.solicited { wr.solicited() } else { wr };
            wrs.push(if send.fence { wr.fence() } else { wr });
        }
        qp.post_sends(&wrs)?;
        // What is inline was taken when it was posted.
        for part in list.iter().filter(|send| send.inline).flat_map(|send| &send.parts) {
            let memory = &mut self.memory[here];
            let inverted: Vec<u8> = bytes(memory, part.offset, part.length).iter().map(|b| !b).collect();
            memory.write(part.offset, &inverted);
        }
        Ok(())
    }

    /// Nothing may have come that the script does not tell of.
    fn nothing_left(&mut self) -> Outcome {
        let receives = &self.receives;
        for end in self.lanes.iter_mut().flat_map(|lane| &mut lane.ends) {
            if let Some(wc) = end.left(&|id| receives.contains(&id))? {
                return Err(format!("a completion that nobody asked for: {wc:?}").into());
            }
        }
        Ok(())
    }
}

/// The requests that are posted together with the one that comes first here.
fn list(script: &[Line]) -> Vec<&Send> {
    let mut sends =
        script.iter().filter_map(|line| if let Line::Send(send) = line { Some(send) } else { None });
    let mut list: Vec<&Send> = sends.next().into_iter().collect();
    while let Some(last) = list.last().filter(|last| last.more) {
        let at = last.at;
        match sends.find(|send| send.at == at) {
            Some(send) => list.push(send),
            None => break,
        }
    }
    list
}

/// A request without its data and its flags.
fn operation(send: &Send, memory: &[Mr; 2], windows: &mut [Option<Mw>; 2]) -> Outcome<SendWr<'static>> {
    let (here, there) = (send.at.1, 1 - send.at.1);
    let key = |windows: &[Option<Mw>; 2], end: usize| match &windows[end] {
        Some(window) => Ok(window.rkey()),
        None => Err("the device has no memory windows"),
    };
    let remote = || -> Outcome<Remote> {
        let (target, offset) = send.target.ok_or("there is no to=")?;
        let region = memory[there].remote(0);
        let rkey = match target {
            Target::Memory => region.rkey,
            Target::Window => key(windows, there)?,
            Target::Nobody => Rkey(region.rkey.0 ^ WRONG),
        };
        Ok(Remote { addr: region.addr.wrapping_add_signed(offset), rkey })
    };
    let id = send.id;
    Ok(match send.opcode.as_str() {
        "send" => SendWr::send(id),
        "send_with_imm" => SendWr::send_with_imm(id, send.imm),
        "send_with_inv" => SendWr::send_with_inv(id, key(windows, there)?),
        "rdma_write" => SendWr::rdma_write(id, remote()?),
        "rdma_write_with_imm" => SendWr::rdma_write_with_imm(id, remote()?, send.imm),
        "rdma_read" => SendWr::rdma_read(id, remote()?),
        "compare_swap" => SendWr::compare_swap(id, remote()?, send.operand, send.swap),
        "fetch_add" => SendWr::fetch_add(id, remote()?, send.operand),
        "local_inv" => SendWr::local_inv(id, key(windows, here)?),
        "bind_mw" => {
            let part = send.window.ok_or("there is no window=")?;
            let window = windows[here].as_mut().ok_or("the device has no memory windows")?;
            let part = memory[here].slice(part.offset..part.offset + part.length);
            let bind = window.bind(id, part, Access::REMOTE_WRITE | Access::REMOTE_READ);
            // Requests that are posted with it may name the new key.
            window.bound();
            bind
        }
        other => return Err(format!("there is no operation {other}").into()),
    })
}

fn elements(memory: &Mr, parts: &[Part]) -> Vec<Sge> {
    let element = |part: &Part| {
        // Some are to fail: they lie behind the memory's end.
        let mut sge = memory.slice(..0);
        sge.addr = sge.addr.wrapping_add(part.offset as u64);
        sge.length = part.length as u32;
        sge.lkey.0 ^= if part.bad { WRONG } else { 0 };
        sge
    };
    parts.iter().map(element).collect()
}

fn bytes(memory: &Mr, offset: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    memory.read(offset, &mut bytes);
    bytes
}

fn gather(memory: &Mr, parts: &[Part]) -> Vec<u8> {
    parts.iter().flat_map(|part| bytes(memory, part.offset, part.length)).collect()
}

fn name(end: usize) -> char {
    if end == 0 { 'a' } else { 'b' }
}

/// Prints a completion in the words of the script.
fn tell(out: &mut impl Write, (lane, end): (usize, usize), received: bool, wc: &Wc) -> Outcome {
    const STATUSES: [&str; 22] = [
        "SUCCESS",
        "LOC_LEN_ERR",
        "LOC_QP_OP_ERR",
        "LOC_EEC_OP_ERR",
        "LOC_PROT_ERR",
        "WR_FLUSH_ERR",
        "MW_BIND_ERR",
        "BAD_RESP_ERR",
        "LOC_ACCESS_ERR",
        "REM_INV_REQ_ERR",
        "REM_ACCESS_ERR",
        "REM_OP_ERR",
        "RETRY_EXC_ERR",
        "RNR_RETRY_EXC_ERR",
        "LOC_RDD_VIOL_ERR",
        "REM_INV_RD_REQ_ERR",
        "REM_ABORT_ERR",
        "INV_EECN_ERR",
        "INV_EEC_STATE_ERR",
        "FATAL_ERR",
        "RESP_TIMEOUT_ERR",
        "GENERAL_ERR",
    ];
    let direction = if received { "recv" } else { "send" };
    let status = STATUSES.get(wc.status.0 as usize).unwrap_or(&"an unknown status");
    write!(out, "done {lane} {} {direction} {} {status}", name(end), wc.wr_id)?;
    if wc.is_success() {
        write!(out, " {:?}", wc.opcode)?;
        if received || [WcOpcode::RDMA_READ, WcOpcode::FETCH_ADD, WcOpcode::COMP_SWAP].contains(&wc.opcode) {
            write!(out, " {}", wc.byte_len)?;
        }
        match wc.extra {
            WcExtra::None => {}
            WcExtra::Imm(imm) => write!(out, " imm=0x{imm:08x}")?,
            WcExtra::Invalidated(_) => write!(out, " inv")?,
            other => write!(out, " {other:?}")?,
        }
    }
    writeln!(out)?;
    Ok(())
}

/// splitmix64's step.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Memory from a seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let start = mix(seed);
    (0..length.div_ceil(8) as u64).flat_map(|n| mix(start ^ n).to_le_bytes()).take(length).collect()
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
