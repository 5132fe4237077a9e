//! What the two sides of a connection agree on.

use crate::types::{QpType, Qpn};
use crate::uapi::ucm::{self, RDMA_PS_IB, RDMA_PS_IPOIB, RDMA_PS_TCP, RDMA_PS_UDP};

/// Whose ports an id's port is one of, and with it what kind of queue pair it connects (`enum rdma_port_space`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortSpace {
    /// Reliable connections.
    Tcp,
    /// Datagrams.
    Udp,
    /// Datagrams to peers of IP over InfiniBand.
    Ipoib,
    /// InfiniBand's own service ids, for any type of queue pair.
    Ib(QpType),
}

impl PortSpace {
    /// The kernel's encoding: the space, and the type of the queue pair where the space does not settle it.
    pub(super) fn to_kernel(self) -> (u16, u8) {
        match self {
            Self::Tcp => (RDMA_PS_TCP, QpType::RC.into()),
            Self::Udp => (RDMA_PS_UDP, QpType::UD.into()),
            Self::Ipoib => (RDMA_PS_IPOIB, QpType::UD.into()),
            Self::Ib(qp_type) => (RDMA_PS_IB, qp_type.into()),
        }
    }

    /// Whether nothing is connected, and a peer is only found.
    pub(super) fn is_datagram(self) -> bool {
        matches!(self, Self::Udp | Self::Ipoib | Self::Ib(QpType::UD))
    }
}

/// What one side proposes to the other (`struct rdma_conn_param`).
///
/// Private data are bytes for the peer's program. A request takes 56 of them, an acceptance 196, a rejection 148 (over
/// InfiniBand and RoCE, where 36 of a request are the addresses); for datagrams it is 180, 136 and 136.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct ConnParam<'a> {
    private_data: &'a [u8],
    responder_resources: u8,
    initiator_depth: u8,
    retry_count: u8,
    rnr_retry_count: u8,
    flow_control: bool,
}

impl Default for ConnParam<'_> {
    /// No private data, one read or atomic each way, seven retries.
    fn default() -> Self {
        Self {
            private_data: &[],
            responder_resources: 1,
            initiator_depth: 1,
            retry_count: 7,
            rnr_retry_count: 7,
            flow_control: false,
        }
    }
}

impl<'a> ConnParam<'a> {
    /// The defaults: no private data, one read or atomic each way, seven retries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes for the peer's program.
    pub fn private_data(mut self, bytes: &'a [u8]) -> Self {
        self.private_data = bytes;
        self
    }

    /// Reads and atomics of the peer's that may be outstanding at this side.
    pub fn responder_resources(mut self, n: u8) -> Self {
        self.responder_resources = n;
        self
    }

    /// Reads and atomics of this side's that may be outstanding at the peer.
    pub fn initiator_depth(mut self, n: u8) -> Self {
        self.initiator_depth = n;
        self
    }

    /// How often a packet is sent again, 0 to 7. The accepting side takes the asking side's.
    pub fn retry_count(mut self, n: u8) -> Self {
        self.retry_count = n;
        self
    }

    /// How often the peer tries a send again when this side has no receive posted; 7 is for ever.
    pub fn rnr_retry_count(mut self, n: u8) -> Self {
        self.rnr_retry_count = n;
        self
    }

    /// Whether the device has hardware flow control.
    pub fn flow_control(mut self, has: bool) -> Self {
        self.flow_control = has;
        self
    }

    /// Holds what an accepting side offers to at most what was asked of it.
    pub(super) fn at_most(mut self, responder_resources: u8, initiator_depth: u8) -> Self {
        self.responder_resources = self.responder_resources.min(responder_resources);
        self.initiator_depth = self.initiator_depth.min(initiator_depth);
        self
    }

    pub(super) fn depths(&self) -> (u8, u8) {
        (self.responder_resources, self.initiator_depth)
    }

    /// The kernel's encoding; `None` if the private data are longer than anything carries.
    pub(super) fn to_kernel(self, qp_num: Qpn) -> Option<ucm::ConnParam> {
        let mut raw = ucm::ConnParam {
            qp_num: qp_num.get(),
            private_data_len: u8::try_from(self.private_data.len()).ok()?,
            responder_resources: self.responder_resources,
            initiator_depth: self.initiator_depth,
            flow_control: self.flow_control.into(),
            retry_count: self.retry_count,
            rnr_retry_count: self.rnr_retry_count,
            valid: 1,
            ..ucm::ConnParam::default()
        };
        raw.private_data.get_mut(..self.private_data.len())?.copy_from_slice(self.private_data);
        Some(raw)
    }

    pub(super) fn private_data_len(&self) -> usize {
        self.private_data.len()
    }
}
