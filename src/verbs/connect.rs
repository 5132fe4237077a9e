//! Connecting a queue pair to its peer, for those who need not see every state.

use std::hash::{BuildHasher, Hasher};

use super::{AddressVector, Qp, QpAttr};
use crate::error::{Error, Result};
use crate::types::{
    Access, Endpoint, Gid, LinkLayer, Mtu, PortNum, Psn, Qkey, QpState, QpType, ServiceLevel,
};

/// Which way out of the device an endpoint has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    port: PortNum,
    gid_index: Option<u32>,
}

/// How a connection behaves, of any type that has one: reliable, unreliable, and extended reliable. What a type has no use for is
/// ignored. The defaults are those of rdma-core's examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct ConnectAttr {
    /// The path MTU; `None` takes the port's active MTU.
    pub mtu: Option<Mtu>,
    /// The service level.
    pub sl: ServiceLevel,
    /// The traffic class of packets with a global routing header; on RoCE v2 the IP header's type of service.
    pub traffic_class: u8,
    /// The index of the partition key in the port's table.
    pub pkey_index: u16,
    /// What the peer may do to this side's memory.
    pub access: Access,
    /// 4.096 µs · 2^timeout until a packet is sent again.
    pub timeout: u8,
    /// How often it is sent again, 0 to 7.
    pub retry_cnt: u8,
    /// How often a send is tried again when the peer has no receive posted, 0 to 6; 7 is without limit.
    pub rnr_retry: u8,
    /// How long the peer waits before it tries again to send where no receive is posted here: a code of 0 to 31, 12 is 0.64 ms,
    /// 1 is 0.01 ms and 0 is 655.36 ms (`ibv_modify_qp(3)`).
    pub min_rnr_timer: u8,
    /// Maximum number of outstanding reads and atomics, both ways.
    pub max_rd_atomic: u8,
    /// How many routers a packet may pass.
    pub hop_limit: u8,
}

impl Default for ConnectAttr {
    fn default() -> Self {
        Self {
            mtu: None,
            sl: ServiceLevel(0),
            traffic_class: 0,
            pkey_index: 0,
            access: Access::empty(),
            timeout: 14,
            retry_cnt: 7,
            rnr_retry: 7,
            min_rnr_timer: 12,
            max_rd_atomic: 1,
            hop_limit: 64,
        }
    }
}

impl ConnectAttr {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the path MTU.
    pub fn mtu(mut self, mtu: Mtu) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// Sets what the peer may do to this side's memory.
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Sets the service level.
    pub fn sl(mut self, sl: ServiceLevel) -> Self {
        self.sl = sl;
        self
    }

    /// Sets the traffic class of packets with a global routing header; on RoCE v2 the IP header's type of service.
    pub fn traffic_class(mut self, traffic_class: u8) -> Self {
        self.traffic_class = traffic_class;
        self
    }

    /// Sets the index of the partition key in the port's table.
    pub fn pkey_index(mut self, index: u16) -> Self {
        self.pkey_index = index;
        self
    }

    /// Sets the maximum number of outstanding reads and atomics, both ways.
    pub fn max_rd_atomic(mut self, n: u8) -> Self {
        self.max_rd_atomic = n;
        self
    }

    /// Sets how long it takes until a packet is sent again (4.096 µs · 2^timeout), and how often it is.
    pub fn retry(mut self, timeout: u8, retry_cnt: u8) -> Self {
        (self.timeout, self.retry_cnt) = (timeout, retry_cnt);
        self
    }

    /// Sets how often a send is tried again when the peer has no receive posted; 7 is without limit.
    pub fn rnr_retry(mut self, rnr_retry: u8) -> Self {
        self.rnr_retry = rnr_retry;
        self
    }

    /// Sets the code of how long the peer waits before it tries again to send where no receive is posted here.
    pub fn min_rnr_timer(mut self, code: u8) -> Self {
        self.min_rnr_timer = code;
        self
    }

    /// Sets how many routers a packet may pass.
    pub fn hop_limit(mut self, hop_limit: u8) -> Self {
        self.hop_limit = hop_limit;
        self
    }
}

impl Qp {
    /// The key that [`Qp::init_endpoint`] and [`Qp::init`] give a datagram queue pair; rdma-core's examples use the same.
    pub const DEFAULT_QKEY: Qkey = Qkey(0x1111_1111);

    /// Moves a new queue pair from RESET to INIT, where receives can be posted, and returns what the peer needs to connect to it.
    ///
    /// In any other state the state stays, and only the endpoint is made anew, with another packet number. Ethernet ports need a `gid_index`; InfiniBand ports need one only across subnets.
    ///
    /// # Errors
    /// The port or the index is out of range, or the GID there is not in use.
    pub fn init_endpoint(&mut self, port: PortNum, gid_index: Option<u32>) -> Result<Endpoint> {
        let ctx = self.context();
        let attr = ctx.query_port(port)?;
        let gid = match gid_index {
            Some(index) => ctx.query_gid(port, index)?,
            None => Gid::ZERO,
        };
        if attr.link_layer == LinkLayer::ETHERNET && gid.is_zero() {
            let why = match gid_index {
                Some(index) => format!("GID index {index} of port {port} is not in use"),
                None => format!("port {port} is Ethernet and needs a GID index"),
            };
            return Err(Error::invalid("make an endpoint", ctx.info().name.as_str(), why)
                .with_hint("devinfo -v lists the GIDs"));
        }
        if self.state()? == QpState::RESET {
            self.init(port, Access::empty())?;
        }
        let endpoint = Endpoint { lid: attr.lid, qp_num: self.qp_num(), psn: random_psn(), gid };
        self.send.core.settings().local = Some((endpoint, Path { port, gid_index }));
        Ok(endpoint)
    }

    /// RESET to INIT.
    ///
    /// # Errors
    /// The port does not exist, or the queue pair is in another state.
    pub fn init(&mut self, port: PortNum, access: Access) -> Result<()> {
        self.context().check_port(port, "modify_qp")?;
        let attr = QpAttr { pkey_index: Some(0), port: Some(port), ..QpAttr::to(QpState::INIT) };
        self.modify(&match self.qp_type() {
            QpType::UD => QpAttr { qkey: Some(Qp::DEFAULT_QKEY), ..attr },
            _ => QpAttr { access: Some(access), ..attr },
        })
    }

    /// Connects to a peer: INIT to RTR to RTS. The peer must do the same with what [`Qp::init_endpoint`] returned on this side.
    ///
    /// Datagram queue pairs have no peer: [`Qp::start`] is theirs.
    ///
    /// # Errors
    /// [`Qp::init_endpoint`] was not called, or the kernel cannot reach the peer.
    pub fn connect(&mut self, peer: &Endpoint, attr: ConnectAttr) -> Result<()> {
        let (local, path) = self.local("connect")?;
        let qp_type = self.qp_type();
        // The two ends of a reliable connection, which XRC has in queue pairs of their own.
        let requester = matches!(qp_type, QpType::RC | QpType::XRC_SEND);
        let responder = matches!(qp_type, QpType::RC | QpType::XRC_RECV);
        let mtu = match attr.mtu {
            Some(mtu) => mtu,
            None => self.context().query_port(path.port)?.active_mtu,
        };
        let av = AddressVector {
            sl: attr.sl,
            hop_limit: attr.hop_limit,
            traffic_class: attr.traffic_class,
            ..self.address(peer)?
        };
        self.modify(&QpAttr {
            av: Some(av),
            path_mtu: Some(mtu),
            // INIT has set index 0.
            pkey_index: (attr.pkey_index != 0).then_some(attr.pkey_index),
            dest_qp_num: Some(peer.qp_num),
            rq_psn: Some(peer.psn),
            access: (!attr.access.is_empty()).then_some(attr.access),
            max_dest_rd_atomic: responder.then_some(attr.max_rd_atomic),
            min_rnr_timer: responder.then_some(attr.min_rnr_timer),
            ..QpAttr::to(QpState::RTR)
        })?;
        self.modify(&QpAttr {
            sq_psn: Some(local.psn),
            timeout: (requester || responder).then_some(attr.timeout),
            retry_cnt: requester.then_some(attr.retry_cnt),
            rnr_retry: requester.then_some(attr.rnr_retry),
            max_rd_atomic: requester.then_some(attr.max_rd_atomic),
            ..QpAttr::to(QpState::RTS)
        })
    }

    /// Makes a datagram queue pair ready to receive and to send: INIT to RTR to RTS.
    ///
    /// # Errors
    /// [`Qp::init_endpoint`] was not called, or the queue pair is of another type.
    pub fn start(&mut self) -> Result<()> {
        let (local, _) = self.local("start")?;
        self.modify(&QpAttr::to(QpState::RTR))?;
        self.modify(&QpAttr { sq_psn: Some(local.psn), ..QpAttr::to(QpState::RTS) })
    }

    /// The way to a peer from this side's endpoint, on service level 0 and over up to 64 routers; [`super::Pd::create_ah`]
    /// makes an address handle of it.
    ///
    /// # Errors
    /// [`Qp::init_endpoint`] was not called, or the kernel cannot take the GID index.
    pub fn address(&self, peer: &Endpoint) -> Result<AddressVector> {
        let (_, path) = self.local("make an address")?;
        let sgid_index = match path.gid_index.map(u8::try_from) {
            None => 0,
            Some(Ok(index)) => index,
            Some(Err(_)) => {
                let why = "the kernel takes GID indices up to 255 here";
                return Err(Error::invalid("make an address", self.context().info().name.as_str(), why));
            }
        };
        Ok(AddressVector {
            dgid: (peer.gid.interface_id() != 0).then_some(peer.gid),
            sgid_index,
            hop_limit: 64,
            ..AddressVector::local(path.port, peer.lid)
        })
    }

    /// What [`Qp::init_endpoint`] has settled.
    pub(super) fn local(&self, operation: &'static str) -> Result<(Endpoint, Path)> {
        self.send.core.settings().local.ok_or_else(|| {
            let name = self.context().info().name.clone();
            Error::invalid(operation, name, "there is no endpoint yet")
                .with_hint("call init_endpoint() first")
        })
    }
}

/// A packet number that a peer of an earlier connection does not expect.
fn random_psn() -> Psn {
    // The standard library seeds its hashers from the kernel's random numbers.
    Psn::truncate(std::hash::RandomState::new().build_hasher().finish() as u32)
}
