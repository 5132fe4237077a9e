//! Decoding requests, segment by segment.

use super::{
    super::{
        Queue, built, frames,
        mpt::{INVALID_LKEY, Rights},
        qpc::Kind,
        violate,
    },
    Bind, CHUNK, CONTROL, FastRegister, Head, Local, Malformed, OWNER, opcode,
};
use crate::{
    be,
    fabric::{ethernet, packet::Operation},
    mlx4::card::Card,
    transport::{
        Data, Datagram, Element, Elements, EthernetPath, Global, Path, Receive, Send, Tail, Vlan, Work,
    },
};

const DATAGRAM: usize = 48;
const REMOTE_ADDRESS: usize = 16;
const ATOMIC: usize = 16;
const MASKED_ATOMIC: usize = 32;
const BIND: usize = 32;
const FAST_REGISTER: usize = 48;
const INVALIDATE: usize = 32;
const ELEMENT: usize = 16;

const NO_ERROR_COMPLETION: u32 = 1 << 29;
const LARGE_HEADER: u32 = 1 << 6;
const COUNTER: u32 = 0xffff << 8;
const OPCODE: u32 = 0x1f;
const INLINE: u32 = 1 << 31;
/// The tag of an address vector is valid.
const IN_VLAN: u32 = 1 << 29;

/// Decodes the elements of a receive request: to the end, or to the key that ends the list.
pub(crate) fn receive(card: &mut Card, queue: Queue, index: u16, bytes: &[u8]) -> Receive {
    let mut elements = Vec::new();
    for element in bytes.chunks_exact(ELEMENT) {
        let (length, lkey) = (be::get32(element, 0), be::get32(element, 4));
        if lkey == INVALID_LKEY {
            break;
        }
        if length & INLINE != 0 {
            violate(
                card,
                queue,
                Some(index.into()),
                "a receive element with a length of 2 GiB or more",
                element,
            );
            break;
        }
        if length != 0 {
            elements.push(Element::Memory { lkey, address: be::get64(element, 8), length });
        }
    }
    if card.trace.on() {
        card.trace.line(format_args!("{queue} [{index}] receive: {}", Elements(&elements)));
    }
    Receive { index, elements }
}

/// Reads segments one after the other.
pub(crate) struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Segments<'a> {
    fn next(&mut self, name: &str, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at + length;
        let segment = self.bytes.get(self.at..end).ok_or_else(|| {
            Malformed(format!("its size ends before the {name} segment does: {} bytes", self.bytes.len()))
        })?;
        self.at = end;
        Ok(segment)
    }

    fn rest(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The remaining elements, each on a boundary of 16 bytes.
    fn elements(&mut self) -> Result<Data, Malformed> {
        let mut data = Data::default();
        while self.rest() >= ELEMENT {
            let element = self.element()?;
            data.length += element.length();
            if element.length() != 0 {
                data.elements.push(element);
            }
        }
        Ok(data)
    }

    pub(crate) fn element(&mut self) -> Result<Element, Malformed> {
        let start = self.at;
        let count = be::get32(self.bytes, start);
        if count & INLINE == 0 {
            let segment = self.next("data", ELEMENT)?;
            if count == 0 {
                return Err(format!("a length of 0 at byte {start}, which means 2 GiB").into());
            }
            let (lkey, address) = (be::get32(segment, 4), be::get64(segment, 8));
            return Ok(Element::Memory { lkey, address, length: count });
        }
        let length = (count & !INLINE) as usize;
        let first = start + 4;
        if length >= CHUNK || first / CHUNK != (first + length.max(1) - 1) / CHUNK {
            let what = format!("{length} inline bytes at byte {start} cross a boundary of {CHUNK}");
            return Err(what.into());
        }
        let end = first + length;
        let inline = self.bytes.get(first..end).ok_or("inline data after its end")?;
        self.at = end.next_multiple_of(16).min(self.bytes.len());
        Ok(Element::Inline(inline.to_vec()))
    }
}

/// Decodes the send request with counter `index` of queue pair `qpn`; `bytes` has the length of its size field.
///
/// # Errors
///
/// What a card would refuse or misread.
pub(crate) fn send(
    kind: Kind,
    qpn: u32,
    index: u16,
    bytes: &[u8],
) -> Result<(Send, Option<Local>), Malformed> {
    let mut segments = Segments { bytes, at: 0 };
    let control = segments.next("control", CONTROL)?;
    let (owner_opcode, flags, immediate) =
        (be::get32(control, 0), be::get32(control, 8), be::get32(control, 12));
    let head = Head::parse(control);
    let opcode = (owner_opcode & OPCODE) as u8;
    if owner_opcode & !(OWNER | NO_ERROR_COMPLETION | COUNTER | LARGE_HEADER | OPCODE | 0x1800_0000) != 0 {
        return Err(format!("reserved bits in its first word: {owner_opcode:#010x}").into());
    }
    if head.counter() != 0 && head.counter() != index {
        return Err(format!("its counter is {}, and {index} is next", head.counter()).into());
    }
    let is_mlx = matches!(kind, Kind::Mlx(_));
    if !is_mlx && kind != Kind::Raw && head.qpn() != 0 && head.qpn() != qpn {
        return Err(format!("it names QP {:#x}", head.qpn()).into());
    }
    if control[7] & 0x80 != 0 {
        return Err(format!("reserved bits beside its size: {:#04x}", control[7]).into());
    }
    let completion = flags >> 2 & 3;
    if completion != 0 && completion != 3 {
        return Err(format!("an unknown request for completion: {completion}").into());
    }
    let srqn = if kind == Kind::Xrc { flags >> 8 } else { 0 };
    let checksums = 0b11 << 4;
    let reserved = match kind {
        Kind::Xrc => 1 << 6 | checksums,
        Kind::Ud => 0xffff_ff00 | 1 << 6,
        Kind::Rc | Kind::Uc => 0xffff_ff00 | 1 << 6 | checksums,
        Kind::Mlx(_) | Kind::Raw | Kind::Rss => 0,
    };
    if flags & reserved != 0 {
        return Err(format!("reserved flags: {flags:#010x}").into());
    }
    let (work, local) = match kind {
        _ if opcode == opcode::NOP => (Work::Nop, None),
        Kind::Ud => (datagram(&mut segments, opcode, immediate)?, None),
        Kind::Mlx(link) => (built::work(&mut segments, link, flags)?, None),
        Kind::Raw | Kind::Rss => (Work::Local, Some(Local::Frame(frames::offload(control, opcode)?))),
        Kind::Rc | Kind::Uc | Kind::Xrc => match local(&mut segments, opcode)? {
            Some(local) => (Work::Local, Some(local)),
            None => (connected(&mut segments, kind, opcode, immediate)?, None),
        },
    };
    let mut data = segments.elements()?;
    if is_mlx && opcode != opcode::NOP {
        built::drop_icrc(&mut data)?;
    }
    let takes_data = matches!(local, None | Some(Local::Frame(_)));
    if !takes_data && !data.elements.is_empty() {
        return Err("data elements in a request that has none".into());
    }
    if matches!(work, Work::Read { .. } | Work::Atomic { .. })
        && data.elements.iter().any(|element| matches!(element, Element::Inline(_)))
    {
        return Err("inline data in a request that fetches".into());
    }
    if matches!(work, Work::Atomic { .. }) && data.length != 8 {
        return Err(format!("an atomic operation on {} bytes", data.length).into());
    }
    let send = Send {
        index,
        opcode,
        signaled: completion != 0,
        solicited: flags & 1 << 1 != 0 && !is_mlx,
        fence: control[7] & 1 << 6 != 0,
        strong_order: flags & 1 << 7 != 0 && !is_mlx,
        force_loopback: flags & 1 != 0,
        srqn,
        work,
        data,
    };
    Ok((send, local))
}

fn message_tail(opcode: u8, immediate: u32) -> Option<Tail> {
    match opcode {
        opcode::SEND => Some(Tail::Nothing),
        opcode::SEND_IMMEDIATE => Some(Tail::Immediate(immediate)),
        opcode::SEND_INVALIDATE => Some(Tail::Invalidate(immediate)),
        _ => None,
    }
}

pub(crate) fn unknown(opcode: u8) -> Malformed {
    Malformed(format!("opcode {opcode:#04x}, which its transport does not have"))
}

fn connected(segments: &mut Segments<'_>, kind: Kind, opcode: u8, immediate: u32) -> Result<Work, Malformed> {
    if let Some(tail) = message_tail(opcode, immediate) {
        return Ok(Work::Message { tail, datagram: None });
    }
    let written = matches!(opcode, opcode::WRITE | opcode::WRITE_IMMEDIATE);
    if kind == Kind::Uc && !written {
        return Err(unknown(opcode));
    }
    match opcode {
        opcode::WRITE | opcode::WRITE_IMMEDIATE => {
            let (address, rkey) = remote_address(segments)?;
            let immediate = (opcode == opcode::WRITE_IMMEDIATE).then_some(immediate);
            Ok(Work::Write { address, rkey, immediate })
        }
        opcode::READ => {
            let (address, rkey) = remote_address(segments)?;
            Ok(Work::Read { address, rkey })
        }
        opcode::COMPARE_SWAP | opcode::FETCH_ADD | opcode::MASKED_FETCH_ADD | opcode::MASKED_COMPARE_SWAP => {
            atomic(segments, opcode)
        }
        _ => Err(unknown(opcode)),
    }
}

/// Decodes a request that changes a key, if it is one.
fn local(segments: &mut Segments<'_>, opcode: u8) -> Result<Option<Local>, Malformed> {
    match opcode {
        opcode::BIND => bind(segments.next("bind", BIND)?).map(Some),
        opcode::FAST_REGISTER => fast_register(segments.next("fast register", FAST_REGISTER)?).map(Some),
        opcode::INVALIDATE => {
            let segment = segments.next("local invalidate", INVALIDATE)?;
            let key = be::get32(segment, 8);
            reserved(&[&segment[0..8], &segment[12..32]], "local invalidate")?;
            Ok(Some(Local::Invalidate { key }))
        }
        _ => Ok(None),
    }
}

/// Refuses bytes that must be 0.
fn reserved(fields: &[&[u8]], name: &str) -> Result<(), Malformed> {
    let set = fields.iter().any(|field| field.iter().any(|byte| *byte != 0));
    if set { Err(format!("reserved fields of the {name} segment are set").into()) } else { Ok(()) }
}

fn remote_address(segments: &mut Segments<'_>) -> Result<(u64, u32), Malformed> {
    let segment = segments.next("remote address", REMOTE_ADDRESS)?;
    reserved(&[&segment[12..16]], "remote address")?;
    Ok((be::get64(segment, 0), be::get32(segment, 8)))
}

fn atomic(segments: &mut Segments<'_>, opcode: u8) -> Result<Work, Malformed> {
    let (address, rkey) = remote_address(segments)?;
    let masked = opcode == opcode::MASKED_COMPARE_SWAP;
    let segment = segments.next("atomic", if masked { MASKED_ATOMIC } else { ATOMIC })?;
    let (swap_add, compare) = (be::get64(segment, 0), be::get64(segment, 8));
    let all = u64::MAX;
    let (operation, compare, masks) = match opcode {
        opcode::COMPARE_SWAP => (Operation::CompareSwap, compare, [all, all]),
        opcode::FETCH_ADD => (Operation::FetchAdd, 0, [0, 0]),
        opcode::MASKED_FETCH_ADD => (Operation::MaskedFetchAdd, 0, [compare, 0]),
        _ => (Operation::MaskedCompareSwap, compare, [be::get64(segment, 16), be::get64(segment, 24)]),
    };
    if opcode == opcode::FETCH_ADD {
        reserved(&[&segment[8..16]], "atomic")?;
    }
    Ok(Work::Atomic { operation, address, rkey, swap_add, compare, masks })
}

/// The rights of remote peers in bind and fast register segments (`MLX4_WQE_FMR_AND_BIND_PERM_*`).
fn rights(flags: u32) -> Rights {
    let pairs = [
        (27, Rights::LOCAL_READ),
        (28, Rights::LOCAL_WRITE),
        (29, Rights::REMOTE_READ),
        (30, Rights::REMOTE_WRITE),
        (31, Rights::REMOTE_ATOMIC),
    ];
    Rights(
        pairs.into_iter().filter(|(bit, _)| flags >> bit & 1 != 0).fold(0, |all, (_, right)| all | right.0),
    )
}

fn bind(segment: &[u8]) -> Result<Local, Malformed> {
    let (flags1, flags2) = (be::get32(segment, 0), be::get32(segment, 4));
    if flags1 & 0x1fff_ffff != 0 || flags2 & 0x3fff_ffff != 0 {
        return Err("reserved fields of the bind segment are set".into());
    }
    Ok(Local::Bind(Bind {
        rights: rights(flags1),
        type_2: flags2 & 1 << 31 != 0,
        zero_based: flags2 & 1 << 30 != 0,
        rkey: be::get32(segment, 8),
        lkey: be::get32(segment, 12),
        address: be::get64(segment, 16),
        length: be::get64(segment, 24),
    }))
}

fn fast_register(segment: &[u8]) -> Result<Local, Malformed> {
    let flags = be::get32(segment, 0);
    let page_shift = be::get32(segment, 36);
    if flags & 0x07ff_ffff != 0 {
        return Err("reserved fields of the fast register segment are set".into());
    }
    reserved(&[&segment[32..36], &segment[40..48]], "fast register")?;
    if !(12..=31).contains(&page_shift) {
        return Err(format!("pages of 2^{page_shift} bytes").into());
    }
    Ok(Local::FastRegister(FastRegister {
        rights: rights(flags),
        key: be::get32(segment, 4),
        pages: be::get64(segment, 8),
        start: be::get64(segment, 16),
        length: be::get64(segment, 24),
        page_shift: page_shift as u8,
    }))
}

fn datagram(segments: &mut Segments<'_>, opcode: u8, immediate: u32) -> Result<Work, Malformed> {
    let tail = match message_tail(opcode, immediate) {
        Some(tail @ (Tail::Nothing | Tail::Immediate(_))) => tail,
        _ => return Err(unknown(opcode)),
    };
    let segment = segments.next("datagram", DATAGRAM)?;
    reserved(&[&segment[4..5], &segment[8..9]], "address vector")?;
    let port_pd = be::get32(segment, 0);
    let sl_tclass_flow = be::get32(segment, 12);
    let mut dgid = [0; 16];
    dgid.copy_from_slice(&segment[16..32]);
    let global = Global {
        sgid_index: segment[9] & 0x7f,
        hop_limit: segment[11],
        tclass: (sl_tclass_flow >> 20) as u8,
        flow_label: sl_tclass_flow & 0xf_ffff,
        dgid,
    };
    let path = Path {
        dlid: be::get16(segment, 6),
        path_bits: segment[5] & 0x7f,
        sl: (sl_tclass_flow >> 28) as u8,
        pkey_index: 0,
        grh: (segment[5] & 0x80 != 0).then_some(global),
        ethernet: EthernetPath {
            destination: ethernet::mac(segment, 42),
            source_index: 0,
            vlan: if port_pd & IN_VLAN != 0 { Vlan::Tag(be::get16(segment, 40)) } else { Vlan::None },
        },
    };
    if be::get32(segment, 32) > 0xff_ffff {
        return Err(format!("the destination QP is {:#x}", be::get32(segment, 32)).into());
    }
    let datagram = Datagram::Addressed {
        path,
        global,
        pd: port_pd & 0xff_ffff,
        qpn: be::get32(segment, 32),
        qkey: be::get32(segment, 36),
        force_loopback: port_pd & 1 << 31 != 0,
    };
    Ok(Work::Message { tail, datagram: Some(Box::new(datagram)) })
}
