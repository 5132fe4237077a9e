//! A firmware's version in words. The kernel passes on 64 bits; what they mean is between each driver and its provider.

use crate::netlink::DriverId;

/// The version as rdma-core writes it for a device of this driver.
pub(super) fn version(driver: DriverId, raw: u64) -> String {
    let (major, minor, sub) = ((raw >> 32) as u16, (raw >> 16) as u16, raw as u16);
    match driver {
        DriverId::BNXT_RE | DriverId::EFA => bytes(raw.to_ne_bytes()[..4].iter()),
        DriverId::CXGB4 | DriverId::QEDR => bytes((raw as u32).to_be_bytes().iter()),
        DriverId::IRDMA => format!("{major}.{sub}"),
        DriverId::MLX4 | DriverId::HNS | DriverId::VMW_PVRDMA => format!("{major}.{minor}.{sub:03}"),
        DriverId::MLX5 => format!("{major}.{minor}.{sub:04}"),
        _ => format!("{major}.{minor}.{sub}"),
    }
}

fn bytes<'a>(bytes: impl Iterator<Item = &'a u8>) -> String {
    bytes.map(u8::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Versions as the devices' documents write them.
    #[test]
    fn each_driver_has_its_own_way() {
        let words = |a: u64, b: u64, c: u64| a << 32 | b << 16 | c;
        assert_eq!(version(DriverId::MLX4, words(2, 7, 0)), "2.7.000");
        assert_eq!(version(DriverId::MLX4, words(2, 42, 5000)), "2.42.5000");
        assert_eq!(version(DriverId::MLX5, words(20, 31, 1014)), "20.31.1014");
        assert_eq!(version(DriverId::MLX5, words(16, 35, 64)), "16.35.0064");
        assert_eq!(version(DriverId::IRDMA, words(1, 0, 57)), "1.57");
        assert_eq!(version(DriverId::CXGB4, 0x0119_0400), "1.25.4.0");
        assert_eq!(version(DriverId::RXE, 0), "0.0.0");
        let broadcom = u64::from_ne_bytes([214, 0, 205, 0, 0, 0, 0, 0]);
        assert_eq!(version(DriverId::BNXT_RE, broadcom), "214.0.205.0");
    }
}
