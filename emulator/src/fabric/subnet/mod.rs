//! The agent of subnet administration: path records and multicast groups.
//!
//! Kernels ask it for the path to every peer that RDMA-CM and IP over InfiniBand find by a GID, and join groups through
//! it. It answers datagrams of class SubnAdm that are sent to QP1 at the subnet manager's LID (InfiniBand Architecture
//! Specification, volume 1, chapter 15). Other packets to that QP1 are for the port with that LID. As soon as a port
//! reports a subnet manager of its own, the agent stops answering.
//!
//! | file | idea |
//! |---|---|
//! | `mad` | a datagram: its header, its component mask, the status of the response |
//! | `select` | components with a selector: more than, less than, exactly |
//! | `path` | path records |
//! | `group` | multicast groups |
//! | `ports` | the ports of the subnet |

mod group;
mod mad;
mod path;
mod ports;
mod select;
#[cfg(test)]
mod tests;

use group::Groups;
use mad::{Mad, attribute, method, status};
use ports::Ports;

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
    ports: Ports,
    groups: Groups,
    trace: Trace,
    psn: Psn,
}

impl Agent {
    /// An agent at the LID of the subnet manager.
    pub fn new(lid: u16, trace: Trace) -> Self {
        Self { lid, ports: Ports::default(), groups: Groups::default(), trace, psn: Psn::default() }
    }

    /// Updates what the agent knows about the port of card `number`. Call it after anything that may change a port.
    pub fn learn(&mut self, number: usize, port: &Port) {
        if let Some(gone) = self.ports.learn(number, port) {
            self.groups.leave_all(&gone);
        }
    }

    /// Its LID; none while a port has a subnet manager of its own.
    pub fn lid(&self) -> Option<u16> {
        (!self.ports.have_manager()).then_some(self.lid)
    }

    /// Whether a packet to its LID is for the agent: a request of its class. Others are for the port with that LID.
    pub fn takes(packet: &Packet) -> bool {
        packet.bth.opcode.service == Service::Ud
            && packet.bth.dest_qpn == QP1
            && Mad::of(&packet.payload).is_some_and(|mad| mad.is_request())
    }

    /// Answers a packet, unless its keys are wrong.
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

    /// Turns a request from LID `from` into its response.
    fn answer(&mut self, mad: &mut Mad, from: u16) -> Result<(), u16> {
        mad.check_version()?;
        let Self { ports, groups, .. } = self;
        match (mad.attribute(), mad.method()) {
            (attribute::CLASS_PORT_INFO, method::GET) => {
                class_port_info(mad.data_mut());
                Ok(())
            }
            (attribute::PATH_RECORD, method::GET) => path::get(ports, mad, from),
            (attribute::MC_MEMBER_RECORD, method::GET) => groups.get(mad),
            (attribute::MC_MEMBER_RECORD, method::SET) => groups.join(ports, mad, from),
            (attribute::MC_MEMBER_RECORD, method::DELETE) => groups.leave(ports, mad, from),
            (attribute::CLASS_PORT_INFO | attribute::PATH_RECORD | attribute::MC_MEMBER_RECORD, _) => {
                Err(status::BAD_METHOD)
            }
            _ => Err(status::BAD_ATTRIBUTE),
        }
    }
}

/// ClassPortInfo (section 13.4.8.1): versions, capabilities, response time.
fn class_port_info(data: &mut [u8]) {
    /// Multicast groups can be joined and left. There are no optional records.
    const UD_MULTICAST: u16 = 1 << 9;
    /// In `CapabilityMask2`: send-only members may be full members.
    const SEND_ONLY_FULL_MEMBER: u32 = 1 << 12;
    const RESPONSE_TIME: u32 = 18;
    data.fill(0);
    data[..2].copy_from_slice(&[mad::BASE_VERSION, mad::CLASS_VERSION]);
    put16(data, 2, UD_MULTICAST);
    put32(data, 4, SEND_ONLY_FULL_MEMBER << 5 | RESPONSE_TIME);
}
