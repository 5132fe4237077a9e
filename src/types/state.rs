//! States and types of queue pairs and ports.

use super::open_enum::open_enum;

open_enum! {
    /// State of a queue pair (`enum ibv_qp_state`, `ibv_modify_qp(3)`).
    QpState: u8 {
        /// Just created or reset: nothing can be posted.
        RESET = 0, "RESET";
        /// Receives can be posted; nothing is sent or received.
        INIT = 1, "INIT";
        /// Ready to receive.
        RTR = 2, "RTR";
        /// Ready to send.
        RTS = 3, "RTS";
        /// Send queue drained, or draining.
        SQD = 4, "SQD";
        /// Send queue in error (UC and UD only).
        SQE = 5, "SQE";
        /// Error: all outstanding and new requests are flushed.
        ERR = 6, "ERR";
    }
}

open_enum! {
    /// Transport service of a queue pair (`enum ibv_qp_type`).
    QpType: u8 {
        /// Reliable connection.
        RC = 2, "RC";
        /// Unreliable connection.
        UC = 3, "UC";
        /// Unreliable datagram.
        UD = 4, "UD";
        /// Extended reliable connection, initiator (sends only).
        XRC_SEND = 9, "XRC_SEND";
        /// Extended reliable connection, target (receives only).
        XRC_RECV = 10, "XRC_RECV";
    }
}

open_enum! {
    /// Maximum transfer unit: the largest payload of a packet (`enum ibv_mtu`).
    Mtu: u8 {
        /// 256 bytes.
        MTU_256 = 1, "256";
        /// 512 bytes.
        MTU_512 = 2, "512";
        /// 1024 bytes.
        MTU_1024 = 3, "1024";
        /// 2048 bytes.
        MTU_2048 = 4, "2048";
        /// 4096 bytes.
        MTU_4096 = 5, "4096";
    }
}

impl Mtu {
    /// Returns the MTU of exactly `bytes` bytes, if there is one.
    #[must_use]
    pub const fn from_bytes(bytes: u32) -> Option<Self> {
        Some(match bytes {
            256 => Self::MTU_256,
            512 => Self::MTU_512,
            1024 => Self::MTU_1024,
            2048 => Self::MTU_2048,
            4096 => Self::MTU_4096,
            _ => return None,
        })
    }

    /// Returns the size in bytes, or `None` for an unknown value.
    #[must_use]
    pub const fn bytes(self) -> Option<u32> {
        match self.0 {
            n @ 1..=5 => Some(128 << n),
            _ => None,
        }
    }
}

open_enum! {
    /// Logical state of a port (`enum ibv_port_state`).
    PortState: u8 {
        /// Reserved; no port reports it.
        NOP = 0, "NOP";
        /// The link is down.
        DOWN = 1, "DOWN";
        /// The link is up and waits for a subnet manager.
        INIT = 2, "INIT";
        /// Configured by the subnet manager, not active yet.
        ARMED = 3, "ARMED";
        /// Ready for traffic.
        ACTIVE = 4, "ACTIVE";
        /// Active, recovering from link errors.
        ACTIVE_DEFER = 5, "ACTIVE_DEFER";
    }
}

open_enum! {
    /// Link layer of a port (`link_layer` of `struct ibv_port_attr`).
    LinkLayer: u8 {
        /// The driver does not say.
        UNSPECIFIED = 0, "Unspecified";
        /// InfiniBand.
        INFINIBAND = 1, "InfiniBand";
        /// Ethernet: RoCE or iWARP.
        ETHERNET = 2, "Ethernet";
    }
}

open_enum! {
    /// Physical state of a port (`enum ib_port_phys_state`; IBTA, PortInfo).
    PhysState: u8 {
        /// Sleeping.
        SLEEP = 1, "SLEEP";
        /// Polling for a link partner.
        POLLING = 2, "POLLING";
        /// Disabled by the administrator.
        DISABLED = 3, "DISABLED";
        /// Training the link.
        PORT_CONFIGURATION_TRAINING = 4, "PORT_CONFIGURATION_TRAINING";
        /// The link is up.
        LINK_UP = 5, "LINK_UP";
        /// Recovering from link errors.
        LINK_ERROR_RECOVERY = 6, "LINK_ERROR_RECOVERY";
        /// Under test.
        PHY_TEST = 7, "PHY_TEST";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mtus_convert_to_bytes_and_back() {
        assert_eq!(Mtu::from_bytes(4096), Some(Mtu::MTU_4096));
        assert_eq!(Mtu::from_bytes(4095), None);
        for mtu in (1..=5).map(Mtu) {
            assert_eq!(mtu.bytes().and_then(Mtu::from_bytes), Some(mtu));
            assert_eq!(mtu.bytes().map(|bytes| bytes.to_string()).as_deref(), mtu.name());
        }
        assert_eq!((Mtu(0).bytes(), Mtu(7).bytes()), (None, None));
    }
}
