//! The kernel's answers about one device, and what can go wrong while asking.

use std::fmt;

use super::super::devices;
use bareverbs::discover::Transport;
use bareverbs::{Device, DeviceAttr, DriverCaps, Error, GidEntry, PortAttr, PortNum};

/// What one device said.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) name: String,
    pub(super) transport: Transport,
    pub(super) attr: DeviceAttr,
    pub(super) board_id: Option<String>,
    pub(super) num_comp_vectors: u32,
    pub(super) provider: ProviderCaps,
    pub(super) ports: Vec<PortReport>,
}

/// What one port said.
#[derive(Debug, Clone)]
pub(super) struct PortReport {
    pub(super) number: PortNum,
    pub(super) attr: PortAttr,
    /// In verbose mode alone, since the table may be long.
    pub(super) gids: Vec<GidEntry>,
}

/// What a driver says in its own part of the answer: nothing, for software devices and for those whose part is not read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ProviderCaps {
    pub(super) max_tso: u32,
    pub(super) tso_qpts: u32,
    pub(super) rx_hash_function: u8,
    pub(super) rx_hash_fields_mask: u64,
    /// kbit/s.
    pub(super) rate_limit_min: u32,
    /// kbit/s.
    pub(super) rate_limit_max: u32,
    pub(super) rate_limit_qpts: u32,
}

impl ProviderCaps {
    fn of(attr: &DeviceAttr) -> Self {
        let DriverCaps { max_tso, tso_qpts, rx_hash_function, rx_hash_fields_mask, .. } = attr.driver;
        Self { max_tso, tso_qpts, rx_hash_function, rx_hash_fields_mask, ..Self::default() }
    }
}

/// What went wrong with one device; the others are shown all the same.
#[derive(Debug)]
pub(super) enum Problem {
    Open(Error),
    QueryDevice(Error),
    NoSuchPort { device: String, asked: u32, count: u8 },
    QueryPort(u8, Error),
    QueryGids(u8, Error),
}

impl Report {
    /// Asks a device, and one of its ports or all; what was learnt before something went wrong is kept.
    pub(super) fn gather(
        device: &Device,
        port: Option<u32>,
        verbose: bool,
    ) -> (Option<Self>, Option<Problem>) {
        let mut report = match Self::of_device(device, port) {
            Ok((report, ctx)) => (report, ctx),
            Err(problem) => return (None, Some(problem)),
        };
        let problem = report.0.ask_ports(&report.1, port, verbose).err();
        (Some(report.0), problem)
    }

    fn of_device(device: &Device, port: Option<u32>) -> Result<(Self, bareverbs::Context), Problem> {
        let ctx = devices::open_device(device).map_err(Problem::Open)?;
        let attr = ctx.query_device().map_err(Problem::QueryDevice)?;
        if let Some(asked) = port.filter(|asked| *asked > attr.phys_port_cnt.into()) {
            let (device, count) = (device.name().to_owned(), attr.phys_port_cnt);
            return Err(Problem::NoSuchPort { device, asked, count });
        }
        let report = Self {
            name: device.name().to_owned(),
            transport: device.info().transport(),
            board_id: device.info().board_id(),
            num_comp_vectors: ctx.num_comp_vectors(),
            provider: ProviderCaps::of(&attr),
            attr,
            ports: Vec::new(),
        };
        Ok((report, ctx))
    }

    fn ask_ports(
        &mut self,
        ctx: &bareverbs::Context,
        wanted: Option<u32>,
        verbose: bool,
    ) -> Result<(), Problem> {
        let all = (1..=self.attr.phys_port_cnt.into()).filter_map(|n| PortNum::new(n).ok());
        for number in all.filter(|n| wanted.is_none_or(|wanted| wanted == u32::from(n.get()))) {
            let attr = ctx.query_port(number).map_err(|e| Problem::QueryPort(number.get(), e))?;
            let gids = if verbose { ctx.query_gids_of(number, &attr) } else { Ok(Vec::new()) };
            let (gids, problem) = match gids {
                Ok(gids) => (gids, None),
                Err(error) => (Vec::new(), Some(Problem::QueryGids(number.get(), error))),
            };
            self.ports.push(PortReport { number, attr, gids });
            if let Some(problem) = problem {
                return Err(problem);
            }
        }
        Ok(())
    }
}

impl Problem {
    /// The line of `ibv_devinfo`; where that says less than is known, with the rest behind it.
    pub(super) fn as_c(&self) -> String {
        match self {
            Self::Open(error) => format!("Failed to open device: {error}"),
            Self::QueryDevice(error) => format!("Failed to query device props: {error}"),
            Self::NoSuchPort { .. } => "Invalid port requested for device".to_owned(),
            Self::QueryPort(port, error) => format!("Failed to query port {port} props: {error}"),
            Self::QueryGids(port, error) => format!("Failed to query gid to port {port}: {error}"),
        }
    }

    /// The exit code of `ibv_devinfo`, to be or-ed with those of other devices.
    pub(super) fn code_of_c(&self) -> u8 {
        match self {
            Self::Open(_) => 1,
            Self::QueryDevice(_) => 2,
            Self::NoSuchPort { .. } => 4,
            Self::QueryPort(_, error) | Self::QueryGids(_, error) => {
                error.raw_os_error().map_or(u8::MAX, |errno| (errno & 0xff) as u8)
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error)
            | Self::QueryDevice(error)
            | Self::QueryPort(_, error)
            | Self::QueryGids(_, error) => error.fmt(f),
            Self::NoSuchPort { device, asked, count: 0 } => {
                write!(f, "{device}: port {asked} is out of range: it has none")
            }
            Self::NoSuchPort { device, asked, count: 1 } => {
                write!(f, "{device}: port {asked} is out of range: it has only port 1")
            }
            Self::NoSuchPort { device, asked, count } => {
                write!(f, "{device}: port {asked} is out of range: it has ports 1 to {count}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_too_many_is_told_in_both_manners() {
        let problem = |count| Problem::NoSuchPort { device: "mlx4_0".into(), asked: 3, count };
        assert_eq!(problem(1).to_string(), "mlx4_0: port 3 is out of range: it has only port 1");
        assert_eq!(problem(2).to_string(), "mlx4_0: port 3 is out of range: it has ports 1 to 2");
        assert_eq!(problem(2).as_c(), "Invalid port requested for device");
        assert_eq!(problem(2).code_of_c(), 4);
    }
}
