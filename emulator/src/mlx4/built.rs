//! Packet headers that the driver builds for management queue pairs (infiniband/hw/mlx4/qp.c, `build_mlx_header`).

use super::wqe::{Malformed, Segments};
use crate::{
    be,
    fabric::{
        ethernet::{self, frame},
        packet::{Bth, Deth, GRH_BYTES, Grh, Lrh, Opcode, Operation, Psn, Service},
        port::LinkLayer,
    },
    transport::{Data, Datagram, Element, Tail, Work},
};

const LRH: usize = 8;
const BTH: usize = 12;
const DETH: usize = 8;
const IMMEDIATE: usize = 4;
/// The opcodes of datagrams.
const SEND_ONLY: u8 = 0x64;
const SEND_ONLY_IMMEDIATE: u8 = 0x65;

/// Offsets of the headers after the link header.
#[derive(Clone, Copy)]
struct Layout {
    grh: Option<usize>,
    bth: usize,
}

impl Layout {
    /// The layout, as far as the beginning of the headers determines it.
    fn of(link: LinkLayer, header: &[u8]) -> Self {
        let (link_bytes, has_grh) = match link {
            LinkLayer::InfiniBand => (LRH, header.get(1).is_some_and(|byte| byte & 3 == 3)),
            LinkLayer::Ethernet => (frame::ADDRESSES + 2 + 4 * usize::from(is_tagged(header)), true),
        };
        let grh = has_grh.then_some(link_bytes);
        Self { grh, bth: link_bytes + grh.map_or(0, |_| GRH_BYTES) }
    }

    /// The length of all headers in bytes.
    fn length(self, header: &[u8]) -> usize {
        let immediate = if header.get(self.bth) == Some(&SEND_ONLY_IMMEDIATE) { IMMEDIATE } else { 0 };
        self.bth + BTH + DETH + immediate
    }
}

fn is_tagged(header: &[u8]) -> bool {
    header.get(frame::ADDRESSES..frame::ADDRESSES + 2) == Some(&frame::CUSTOMER_TAG.to_be_bytes())
}

/// Decodes the headers (link, GRH, BTH, DETH, immediate data) from one or two inline elements.
pub(crate) fn work(segments: &mut Segments<'_>, link: LinkLayer, flags: u32) -> Result<Work, Malformed> {
    let mut header = Vec::new();
    while header.len() < Layout::of(link, &header).length(&header) {
        match segments.element()? {
            Element::Inline(bytes) if !bytes.is_empty() => header.extend(bytes),
            _ => return Err("its headers are not inline".into()),
        }
    }
    let layout = Layout::of(link, &header);
    let length = layout.length(&header);
    if header.len() != length {
        return Err(format!("headers of {} bytes, where they say {length}", header.len()).into());
    }
    let mut lrh = match link {
        LinkLayer::InfiniBand => Lrh {
            sl: header[1] >> 4,
            slid: be::get16(&header, 6),
            dlid: be::get16(&header, 2),
            ..Lrh::default()
        },
        LinkLayer::Ethernet => Lrh { ethernet: Some(ethernet_header(&header)?), ..Lrh::default() },
    };
    lrh.force_loopback = flags & 1 != 0;
    let grh = layout.grh.map(|at| grh(&header[at..]));
    let (bth, tail, deth) = transport(&header[layout.bth..])?;
    let datagram = Some(Box::new(Datagram::Built { lrh, grh, bth, deth }));
    Ok(Work::Message { tail, datagram })
}

fn ethernet_header(header: &[u8]) -> Result<ethernet::Header, Malformed> {
    let tagged = is_tagged(header);
    let kind = be::get16(header, frame::ADDRESSES + if tagged { 4 } else { 0 });
    if kind != frame::ROCE {
        return Err(format!("headers of ethertype {kind:#06x}, which is not RoCE's").into());
    }
    let tag = tagged.then(|| be::get16(header, frame::ADDRESSES + 2));
    Ok(ethernet::Header { destination: ethernet::mac(header, 0), source: ethernet::mac(header, 6), tag })
}

fn grh(header: &[u8]) -> Grh {
    let first = be::get32(header, 0);
    let (mut sgid, mut dgid) = ([0; 16], [0; 16]);
    sgid.copy_from_slice(&header[8..24]);
    dgid.copy_from_slice(&header[24..40]);
    let tclass = (first >> 20) as u8;
    Grh { tclass, flow_label: first & 0xf_ffff, hop_limit: header[7], sgid, dgid }
}

fn transport(bth: &[u8]) -> Result<(Bth, Tail, Deth), Malformed> {
    let deth = &bth[BTH..];
    let (operation, tail) = match bth[0] {
        SEND_ONLY => (Operation::SendOnly, Tail::Nothing),
        SEND_ONLY_IMMEDIATE => (Operation::SendOnlyImmediate, Tail::Immediate(be::get32(deth, DETH))),
        other => return Err(format!("headers with BTH opcode {other:#04x}").into()),
    };
    let deth = Deth { qkey: be::get32(deth, 0), src_qpn: be::get24(deth, 4) };
    let bth = Bth {
        opcode: Opcode { service: Service::Ud, operation },
        solicited: bth[1] & 0x80 != 0,
        pkey: be::get16(bth, 2),
        dest_qpn: be::get24(bth, 4),
        ack_request: false,
        psn: Psn::new(be::get32(bth, 8)),
    };
    Ok((bth, tail, deth))
}

/// Removes the 4 inline bytes at the end of such a request, which the card replaces by the CRC.
pub(crate) fn drop_icrc(data: &mut Data) -> Result<(), Malformed> {
    match data.elements.pop() {
        Some(Element::Inline(bytes)) if bytes.len() == 4 => {
            data.length -= 4;
            Ok(())
        }
        _ => Err("no room for the CRC at its end".into()),
    }
}
