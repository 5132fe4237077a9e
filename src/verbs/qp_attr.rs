//! The attributes of a queue pair, which `modify` takes and `query` returns.

use crate::types::{Access, Gid, Lid, Mtu, PortNum, Psn, Qkey, QpState, Qpn, ServiceLevel, flags};
use crate::uapi::verbs::{AhAttr, GlobalRoute, ModifyQp, QpDest, QueryQpResp};

flags! {
    /// Attributes that are given (`enum ibv_qp_attr_mask`).
    pub(super) Mask {
        STATE = 1 << 0;
        CUR_STATE = 1 << 1;
        ACCESS_FLAGS = 1 << 3;
        PKEY_INDEX = 1 << 4;
        PORT = 1 << 5;
        QKEY = 1 << 6;
        AV = 1 << 7;
        PATH_MTU = 1 << 8;
        TIMEOUT = 1 << 9;
        RETRY_CNT = 1 << 10;
        RNR_RETRY = 1 << 11;
        RQ_PSN = 1 << 12;
        MAX_QP_RD_ATOMIC = 1 << 13;
        MIN_RNR_TIMER = 1 << 15;
        SQ_PSN = 1 << 16;
        MAX_DEST_RD_ATOMIC = 1 << 17;
        DEST_QPN = 1 << 20;
    }
}

/// Where a peer is, and how packets get there (`struct ibv_ah_attr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressVector {
    /// The port that packets leave by.
    pub port: PortNum,
    /// The peer's LID; 0 on Ethernet.
    pub dlid: Lid,
    /// The service level.
    pub sl: ServiceLevel,
    /// The low bits of the LID that packets leave by, where the port has several.
    pub src_path_bits: u8,
    /// The rate that packets are kept to, as a code (`enum ibv_rate`); 0 is the port's own.
    pub static_rate: u8,
    /// The peer's GID, where packets carry a global routing header: always on Ethernet.
    pub dgid: Option<Gid>,
    /// The index of our GID in the port's table.
    pub sgid_index: u8,
    /// How many routers a packet may pass.
    pub hop_limit: u8,
    /// The traffic class.
    pub traffic_class: u8,
    /// The flow label (20 bits).
    pub flow_label: u32,
}

impl AddressVector {
    /// A peer on the subnet of `port`: no routing header, service level 0.
    #[must_use]
    pub const fn local(port: PortNum, dlid: Lid) -> Self {
        Self {
            port,
            dlid,
            sl: ServiceLevel(0),
            src_path_bits: 0,
            static_rate: 0,
            dgid: None,
            sgid_index: 0,
            hop_limit: 0,
            traffic_class: 0,
            flow_label: 0,
        }
    }

    fn to_raw(self) -> QpDest {
        QpDest {
            dgid: self.dgid.unwrap_or_default().0,
            flow_label: self.flow_label,
            dlid: self.dlid.0,
            sgid_index: self.sgid_index,
            hop_limit: self.hop_limit,
            traffic_class: self.traffic_class,
            sl: self.sl.0,
            src_path_bits: self.src_path_bits,
            static_rate: self.static_rate,
            is_global: self.dgid.is_some().into(),
            port_num: self.port.get(),
            ..QpDest::default()
        }
    }

    pub(super) fn to_ah(self) -> AhAttr {
        let QpDest { dgid, flow_label, dlid, sgid_index, hop_limit, traffic_class, sl, .. } = self.to_raw();
        AhAttr {
            grh: GlobalRoute { dgid, flow_label, sgid_index, hop_limit, traffic_class, reserved: 0 },
            dlid,
            sl,
            src_path_bits: self.src_path_bits,
            static_rate: self.static_rate,
            is_global: self.dgid.is_some().into(),
            port_num: self.port.get(),
            ..AhAttr::default()
        }
    }

    /// What RDMA-CM tells of a peer; `None` where it names a port that cannot be.
    pub(crate) fn from_cm(raw: &AhAttr) -> Option<Self> {
        Self::from_raw(&QpDest {
            dgid: raw.grh.dgid,
            flow_label: raw.grh.flow_label,
            dlid: raw.dlid,
            sgid_index: raw.grh.sgid_index,
            hop_limit: raw.grh.hop_limit,
            traffic_class: raw.grh.traffic_class,
            sl: raw.sl,
            src_path_bits: raw.src_path_bits,
            static_rate: raw.static_rate,
            is_global: raw.is_global,
            port_num: raw.port_num,
            ..QpDest::default()
        })
    }

    fn from_raw(raw: &QpDest) -> Option<Self> {
        Some(Self {
            port: PortNum::new(raw.port_num.into()).ok()?,
            dlid: Lid(raw.dlid),
            sl: ServiceLevel(raw.sl),
            src_path_bits: raw.src_path_bits,
            static_rate: raw.static_rate,
            dgid: (raw.is_global != 0).then_some(Gid(raw.dgid)),
            sgid_index: raw.sgid_index,
            hop_limit: raw.hop_limit,
            traffic_class: raw.traffic_class,
            flow_label: raw.flow_label,
        })
    }
}

macro_rules! qp_attr {
    ($( $(#[$meta:meta])* $field:ident: $ty:ty, $mask:ident; )*) => {
        /// Attributes of a queue pair: what `modify` changes (those that are `Some`), and what `query` tells.
        ///
        /// See `ibv_modify_qp(3)` and `ibv_query_qp(3)`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct QpAttr {
            $( $(#[$meta])* pub $field: Option<$ty>, )*
        }

        impl QpAttr {
            /// Which attributes are given.
            pub(super) fn mask(&self) -> Mask {
                let mut mask = Mask::empty();
                $( if self.$field.is_some() { mask |= Mask::$mask; } )*
                mask
            }
        }

        impl Mask {
            /// The names of the fields of [`QpAttr`] that it has.
            pub(super) fn fields(self) -> String {
                let mut names = Vec::new();
                $( if self.contains(Self::$mask) { names.push(stringify!($field)); } )*
                names.join(", ")
            }
        }
    };
}

qp_attr! {
    /// The state to go to.
    state: QpState, STATE;
    /// The state that the caller believes it is in.
    cur_state: QpState, CUR_STATE;
    /// What the peer may do to this side's memory.
    access: Access, ACCESS_FLAGS;
    /// The index of the partition key.
    pkey_index: u16, PKEY_INDEX;
    /// The port.
    port: PortNum, PORT;
    /// The key that datagrams must carry.
    qkey: Qkey, QKEY;
    /// Where the peer is.
    av: AddressVector, AV;
    /// The largest packet on the way.
    path_mtu: Mtu, PATH_MTU;
    /// How long to wait for an acknowledgement: 4.096 µs · 2^timeout; 0 is for ever.
    timeout: u8, TIMEOUT;
    /// How often to try again after that, 0 to 7.
    retry_cnt: u8, RETRY_CNT;
    /// How often to try again when the peer has no receive posted, 0 to 7; 7 is for ever.
    rnr_retry: u8, RNR_RETRY;
    /// The first packet number that is expected.
    rq_psn: Psn, RQ_PSN;
    /// Reads and atomics of this side that may be outstanding.
    max_rd_atomic: u8, MAX_QP_RD_ATOMIC;
    /// How long the peer is to wait when this side has no receive posted (a code, 0 to 31).
    min_rnr_timer: u8, MIN_RNR_TIMER;
    /// The first packet number that is sent.
    sq_psn: Psn, SQ_PSN;
    /// Reads and atomics of the peer's that may be outstanding.
    max_dest_rd_atomic: u8, MAX_DEST_RD_ATOMIC;
    /// The peer's queue pair.
    dest_qp_num: Qpn, DEST_QPN;
}

impl QpAttr {
    /// A transition to `state`, with no attribute yet.
    #[must_use]
    pub fn to(state: QpState) -> Self {
        Self { state: Some(state), ..Self::default() }
    }

    pub(super) fn to_raw(self, qp_handle: u32) -> ModifyQp {
        let state = |state: Option<QpState>| state.map_or(0, u8::from);
        ModifyQp {
            dest: self.av.map(AddressVector::to_raw).unwrap_or_default(),
            qp_handle,
            attr_mask: self.mask().bits(),
            qkey: self.qkey.unwrap_or_default().0,
            rq_psn: self.rq_psn.unwrap_or_default().get(),
            sq_psn: self.sq_psn.unwrap_or_default().get(),
            dest_qp_num: self.dest_qp_num.unwrap_or_default().get(),
            qp_access_flags: self.access.unwrap_or_default().bits(),
            pkey_index: self.pkey_index.unwrap_or_default(),
            qp_state: state(self.state),
            cur_qp_state: state(self.cur_state),
            path_mtu: self.path_mtu.map_or(0, u8::from),
            max_rd_atomic: self.max_rd_atomic.unwrap_or_default(),
            max_dest_rd_atomic: self.max_dest_rd_atomic.unwrap_or_default(),
            min_rnr_timer: self.min_rnr_timer.unwrap_or_default(),
            port_num: self.port.map_or(0, PortNum::get),
            timeout: self.timeout.unwrap_or_default(),
            retry_cnt: self.retry_cnt.unwrap_or_default(),
            rnr_retry: self.rnr_retry.unwrap_or_default(),
            ..ModifyQp::default()
        }
    }

    /// What RDMA-CM tells of a transition: those attributes that its mask names.
    pub(crate) fn from_cm(raw: &crate::uapi::ucm::QpAttr) -> Self {
        // A few bits say how RoCE's addresses were found; programs do not give them.
        let mask = Mask::from_bits(raw.qp_attr_mask);
        fn when<T>(mask: Mask, bit: Mask, value: T) -> Option<T> {
            mask.contains(bit).then_some(value)
        }
        let byte = |value: u32| value as u8;
        Self {
            state: when(mask, Mask::STATE, byte(raw.qp_state).into()),
            cur_state: when(mask, Mask::CUR_STATE, byte(raw.cur_qp_state).into()),
            access: when(mask, Mask::ACCESS_FLAGS, Access::from_bits(raw.qp_access_flags)),
            pkey_index: when(mask, Mask::PKEY_INDEX, raw.pkey_index),
            port: when(mask, Mask::PORT, raw.port_num).and_then(|port| PortNum::new(port.into()).ok()),
            qkey: when(mask, Mask::QKEY, Qkey(raw.qkey)),
            av: when(mask, Mask::AV, &raw.ah_attr).and_then(AddressVector::from_cm),
            path_mtu: when(mask, Mask::PATH_MTU, byte(raw.path_mtu).into()),
            timeout: when(mask, Mask::TIMEOUT, raw.timeout),
            retry_cnt: when(mask, Mask::RETRY_CNT, raw.retry_cnt),
            rnr_retry: when(mask, Mask::RNR_RETRY, raw.rnr_retry),
            rq_psn: when(mask, Mask::RQ_PSN, Psn::truncate(raw.rq_psn)),
            max_rd_atomic: when(mask, Mask::MAX_QP_RD_ATOMIC, raw.max_rd_atomic),
            min_rnr_timer: when(mask, Mask::MIN_RNR_TIMER, raw.min_rnr_timer),
            sq_psn: when(mask, Mask::SQ_PSN, Psn::truncate(raw.sq_psn)),
            max_dest_rd_atomic: when(mask, Mask::MAX_DEST_RD_ATOMIC, raw.max_dest_rd_atomic),
            dest_qp_num: when(mask, Mask::DEST_QPN, Qpn::truncate(raw.dest_qp_num)),
        }
    }

    pub(super) fn from_raw(raw: &QueryQpResp) -> Self {
        Self {
            state: Some(raw.qp_state.into()),
            cur_state: Some(raw.cur_qp_state.into()),
            access: Some(Access::from_bits(raw.qp_access_flags)),
            pkey_index: Some(raw.pkey_index),
            port: PortNum::new(raw.port_num.into()).ok(),
            qkey: Some(Qkey(raw.qkey)),
            av: AddressVector::from_raw(&raw.dest),
            path_mtu: Some(raw.path_mtu.into()),
            timeout: Some(raw.timeout),
            retry_cnt: Some(raw.retry_cnt),
            rnr_retry: Some(raw.rnr_retry),
            rq_psn: Some(Psn::truncate(raw.rq_psn)),
            max_rd_atomic: Some(raw.max_rd_atomic),
            min_rnr_timer: Some(raw.min_rnr_timer),
            sq_psn: Some(Psn::truncate(raw.sq_psn)),
            max_dest_rd_atomic: Some(raw.max_dest_rd_atomic),
            dest_qp_num: Some(Qpn::truncate(raw.dest_qp_num)),
        }
    }
}
