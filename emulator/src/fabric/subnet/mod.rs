//! The agent of subnet administration: who has which path, and who belongs to which multicast group.
//!
//! Kernels ask it for the path to every peer that RDMA-CM and IP over InfiniBand find by a GID, and join groups
//! through it. It is at the subnet manager's LID and answers datagrams of class SubnAdm to QP1 there (InfiniBand
//! Architecture Specification, volume 1, chapter 15); what else comes to that QP1 is for the port that has the LID. As
//! soon as a port says that a subnet manager runs behind it, the agent leaves everything to that one.
//!
//! | file | idea |
//! |---|---|
//! | `mad` | a datagram: its header, its component mask, the status of its answer |
//! | `select` | what is asked for as more than, less than or exactly something |
//! | `path` | path records |
//! | `group` | multicast groups |
//! | `stations` | the ports of the subnet |

mod group;
mod mad;
mod path;
mod select;
mod stations;
#[cfg(test)]
mod tests;

use group::Groups;
use mad::{Mad, attribute, method, status};
use stations::Stations;

use crate::{
    be::{put16, put32},
    fabric::{
        packet::{Bth, Deth, Extended, Lrh, Opcode, Operation, Packet, Psn, Service},
        port::{DEFAULT_PKEY, Port, pkeys_match},
    },
    trace::Trace,
};

/// The queue pair of general services, on every port.
const QP1: u32 = 1;
/// Its queue key.
const QKEY: u32 = 0x8001_0000;

/// The agent.
pub struct Agent {
    lid: u16,
    stations: Stations,
    groups: Groups,
    trace: Trace,
    psn: Psn,
}

impl Agent {
    /// An agent at the LID of the subnet manager.
    pub fn new(lid: u16, trace: Trace) -> Self {
        Self { lid, stations: Stations::default(), groups: Groups::default(), trace, psn: Psn::default() }
    }

    /// Takes over what is to be known of the port of card `number`. To be called after whatever may change a port.
    pub fn learn(&mut self, number: usize, port: &Port) {
        if let Some(gone) = self.stations.learn(number, port) {
            self.groups.leave_all(&gone);
        }
    }

    /// Where it is to be found; nowhere while a port has a subnet manager of its own.
    pub fn lid(&self) -> Option<u16> {
        (!self.stations.have_manager()).then_some(self.lid)
    }

    /// Whether a packet to its LID is for the agent, not for the port of that LID: a request of its class.
    pub fn takes(packet: &Packet) -> bool {
        packet.bth.opcode.service == Service::Ud
            && packet.bth.dest_qpn == QP1
            && Mad::of(&packet.payload).is_some_and(|mad| mad.is_request())
    }

    /// Answers a packet, if it deserves an answer.
    pub fn receive(&mut self, packet: &Packet) -> Option<Packet> {
        let deth = packet.extended.deth?;
        let mut mad = Mad::of(&packet.payload)?;
        if packet.bad_icrc || deth.qkey != QKEY || !pkeys_match(packet.bth.pkey, DEFAULT_PKEY) {
            self.trace.line(format_args!("dropped: its CRC, Q_Key or P_Key is wrong: {packet}"));
            return None;
        }
        let asked = self.trace.on().then(|| mad.to_string());
        let result = self.answer(&mut mad, packet.lrh.slid);
        mad.finish(result);
        if let Some(asked) = asked {
            self.trace.line(format_args!("LID {}: {asked}: {}", packet.lrh.slid, mad.outcome()));
        }
        self.psn = self.psn.plus(1);
        Some(Packet {
            lrh: Lrh { sl: packet.lrh.sl, slid: self.lid, dlid: packet.lrh.slid, ..Lrh::default() },
            grh: packet.grh.map(|mut grh| {
                std::mem::swap(&mut grh.sgid, &mut grh.dgid);
                grh
            }),
            bth: Bth {
                opcode: Opcode { service: Service::Ud, operation: Operation::SendOnly },
                solicited: false,
                pkey: packet.bth.pkey,
                dest_qpn: deth.src_qpn,
                ack_request: false,
                psn: self.psn,
            },
            extended: Extended { deth: Some(Deth { qkey: QKEY, src_qpn: QP1 }), ..Extended::default() },
            payload: mad.bytes().to_vec(),
            bad_icrc: false,
        })
    }

    /// Puts the answer to a request from LID `from` into it.
    fn answer(&mut self, mad: &mut Mad, from: u16) -> Result<(), u16> {
        mad.check_version()?;
        let Self { stations, groups, .. } = self;
        match (mad.attribute(), mad.method()) {
            (attribute::CLASS_PORT_INFO, method::GET) => {
                class_port_info(mad.data_mut());
                Ok(())
            }
            (attribute::PATH_RECORD, method::GET) => path::get(stations, mad, from),
            (attribute::MC_MEMBER_RECORD, method::GET) => groups.get(mad),
            (attribute::MC_MEMBER_RECORD, method::SET) => groups.join(stations, mad, from),
            (attribute::MC_MEMBER_RECORD, method::DELETE) => groups.leave(stations, mad, from),
            (attribute::CLASS_PORT_INFO | attribute::PATH_RECORD | attribute::MC_MEMBER_RECORD, _) => {
                Err(status::BAD_METHOD)
            }
            _ => Err(status::BAD_ATTRIBUTE),
        }
    }
}

/// ClassPortInfo (section 13.4.8.1): versions, capabilities, the time that an answer may take.
fn class_port_info(data: &mut [u8]) {
    /// Multicast groups can be joined and left. Optional records there are none.
    const UD_MULTICAST: u16 = 1 << 9;
    /// Of `CapabilityMask2`: who only sends may be a full member.
    const SEND_ONLY_FULL_MEMBER: u32 = 1 << 12;
    const RESPONSE_TIME: u32 = 18;
    data.fill(0);
    data[..2].copy_from_slice(&[mad::BASE_VERSION, mad::CLASS_VERSION]);
    put16(data, 2, UD_MULTICAST);
    put32(data, 4, SEND_ONLY_FULL_MEMBER << 5 | RESPONSE_TIME);
}
