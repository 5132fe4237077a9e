//! States and kinds that the kernel reports: open enums, since a newer kernel may report more.

/// An enum of the kernel's numbers, and a place for those that have no name yet.
macro_rules! open_enum {
    ($(#[$meta:meta])* $name:ident: $repr:ty { $( $(#[$vmeta:meta])* $variant:ident = $value:literal ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[$vmeta])* $variant, )*
            /// A value that this crate has no name for.
            Other($repr),
        }

        impl From<$repr> for $name {
            fn from(value: $repr) -> Self {
                match value {
                    $( $value => Self::$variant, )*
                    other => Self::Other(other),
                }
            }
        }

        impl From<$name> for $repr {
            fn from(value: $name) -> Self {
                match value {
                    $( $name::$variant => $value, )*
                    $name::Other(other) => other,
                }
            }
        }
    };
}

pub(crate) use open_enum;

open_enum! {
    /// The state of a queue pair (`enum ibv_qp_state`).
    QpState: u8 {
        /// Just made: nothing can be posted.
        Reset = 0,
        /// Receives can be posted, nothing moves.
        Init = 1,
        /// Ready to receive.
        Rtr = 2,
        /// Ready to send.
        Rts = 3,
        /// The send queue is drained or draining.
        Sqd = 4,
        /// The send queue failed (UC, UD).
        Sqe = 5,
        /// Failed: every request is flushed.
        Err = 6,
    }
}

open_enum! {
    /// The service that a queue pair gives (`enum ibv_qp_type`).
    QpType: u8 {
        /// Reliable connection.
        Rc = 2,
        /// Unreliable connection.
        Uc = 3,
        /// Unreliable datagram.
        Ud = 4,
        /// The sending side of an extended reliable connection.
        XrcSend = 9,
        /// The receiving side of an extended reliable connection.
        XrcRecv = 10,
    }
}

open_enum! {
    /// The largest payload of a packet (`enum ibv_mtu`).
    Mtu: u8 {
        /// 256 bytes.
        Mtu256 = 1,
        /// 512 bytes.
        Mtu512 = 2,
        /// 1024 bytes.
        Mtu1024 = 3,
        /// 2048 bytes.
        Mtu2048 = 4,
        /// 4096 bytes.
        Mtu4096 = 5,
    }
}

impl Mtu {
    /// The MTU of exactly `bytes` bytes.
    #[must_use]
    pub fn from_bytes(bytes: u32) -> Option<Self> {
        Some(match bytes {
            256 => Self::Mtu256,
            512 => Self::Mtu512,
            1024 => Self::Mtu1024,
            2048 => Self::Mtu2048,
            4096 => Self::Mtu4096,
            _ => return None,
        })
    }

    /// Bytes, where the value is known.
    #[must_use]
    pub fn bytes(self) -> Option<u32> {
        match u8::from(self) {
            n @ 1..=5 => Some(128 << n),
            _ => None,
        }
    }
}

open_enum! {
    /// The logical state of a port (`enum ibv_port_state`).
    PortState: u8 {
        /// Nothing has happened yet.
        Nop = 0,
        /// No link.
        Down = 1,
        /// The link is up and waits for a subnet manager.
        Init = 2,
        /// The subnet manager has set the port up.
        Armed = 3,
        /// Ready for traffic.
        Active = 4,
        /// Active, with errors that are being recovered from.
        ActiveDefer = 5,
    }
}

open_enum! {
    /// What a port's link is made of.
    LinkLayer: u8 {
        /// The driver does not say.
        Unspecified = 0,
        /// InfiniBand.
        InfiniBand = 1,
        /// Ethernet.
        Ethernet = 2,
    }
}

open_enum! {
    /// The physical state of a port (IBA, PortInfo).
    PhysState: u8 {
        /// Asleep.
        Sleep = 1,
        /// Looking for a link.
        Polling = 2,
        /// Switched off.
        Disabled = 3,
        /// Training.
        Training = 4,
        /// Up.
        LinkUp = 5,
        /// Recovering from errors.
        Recovery = 6,
        /// Under test.
        Test = 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_values_stay_what_they_were() {
        assert_eq!(QpState::from(9), QpState::Other(9));
        assert_eq!(u8::from(QpState::Other(9)), 9);
        assert_eq!(Mtu::from_bytes(4096).map(u8::from), Some(5));
        assert_eq!(Mtu::Mtu4096.bytes(), Some(4096));
        assert_eq!(Mtu::Other(7).bytes(), None);
    }
}
