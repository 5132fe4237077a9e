//! Keys, numbers, addresses and states: small types that keep one quantity from being taken for another.

mod access;
mod address;
mod driver_caps;
mod endpoint;
mod flags;
mod guid;
mod number;
mod open_enum;
mod state;
mod wc;
mod wr;

pub use access::Access;
pub use address::{Gid, GidEntry, GidType, Lid, ServiceLevel};
pub use driver_caps::DriverCaps;
pub use endpoint::{Endpoint, Remote};
pub(crate) use flags::flags;
pub use guid::Guid;
pub use number::{Lkey, OutOfRange, PortNum, Psn, Qkey, Qpn, Rkey, Srqn};
pub(crate) use open_enum::open_enum;
pub use state::{LinkLayer, Mtu, PhysState, PortState, QpState, QpType};
pub use wc::{Wc, WcExtra, WcOpcode, WcStatus};
pub(crate) use wr::{Data, Dest, DeviceAh, EthAddr, UdAddr};
pub use wr::{MwBind, MwType, PostError, PostErrorKind, RecvWr, SendFlags, SendOp, SendWr, Sge};
