//! What is to be played, through whichever door it was asked for; and the C tools' command lines.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use bareverbs::{Mtu, PortNum, ServiceLevel, Wait};

use super::service::{Kind, MAX_QP};
use crate::getopt::Getopt;
use crate::number::between;
use crate::outcome::{Failure, ending};
use crate::output::Tool;

/// A pingpong with all its options.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) kind: Kind,
    pub(super) server: Option<OsString>,
    pub(super) port: u16,
    pub(super) ib_dev: Option<OsString>,
    pub(super) ib_port: PortNum,
    pub(super) size: u32,
    pub(super) mtu: Mtu,
    pub(super) num_qp: u32,
    pub(super) rx_depth: u32,
    pub(super) iters: u32,
    pub(super) clients: u32,
    pub(super) sl: ServiceLevel,
    pub(super) wait: Wait,
    pub(super) gid_index: Option<u32>,
    pub(super) odp: bool,
    pub(super) iodp: bool,
    pub(super) prefetch: bool,
    pub(super) ts: bool,
    pub(super) chk: bool,
    pub(super) dm: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) json: bool,
}

impl Plan {
    /// The defaults.
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            server: None,
            port: 18515,
            ib_dev: None,
            ib_port: PortNum::ONE,
            size: kind.default_size(),
            mtu: Mtu::MTU_1024,
            num_qp: if kind == Kind::Srq { 16 } else { 1 },
            rx_depth: 500,
            iters: if kind == Kind::Xsrq { 5 } else { 1000 },
            clients: 1,
            sl: ServiceLevel(0),
            wait: Wait::default(),
            gid_index: None,
            odp: false,
            iodp: false,
            prefetch: false,
            ts: false,
            chk: false,
            dm: false,
            timeout: Some(Duration::from_secs(10)),
            json: false,
        }
    }

    /// Reads the C tool's command line.
    ///
    /// # Errors
    /// It makes no sense: then the complaint and the usage have been printed, as by the C tool.
    pub(super) fn as_c(kind: Kind, tool: &Tool, arguments: Vec<OsString>) -> Result<Self, Failure> {
        let mut plan = Self::new(kind);
        let mut getopt = Getopt::new(kind.options(), arguments);
        for given in getopt.by_ref() {
            let taken = match given {
                Ok((letter, value)) => {
                    plan.take(letter, value).map_err(|why| format!("option -{letter}: {why}"))
                }
                Err(complaint) => Err(complaint),
            };
            if let Err(complaint) = taken {
                tool.complain(&complaint);
                return Err(plan.usage(tool));
            }
        }
        let mut operands = getopt.operands().into_iter();
        plan.server = operands.next();
        match operands.next() {
            None => Ok(plan),
            Some(_) => Err(plan.usage(tool)),
        }
    }

    fn take(&mut self, letter: char, value: OsString) -> Result<(), String> {
        let text = value.to_string_lossy();
        match letter {
            'p' => self.port = tcp_port(&text)?,
            'd' => self.ib_dev = Some(value),
            'i' => self.ib_port = ib_port(&text)?,
            's' => self.size = count(&text)?,
            'm' => self.mtu = mtu(&text)?,
            'q' => self.num_qp = count(&text)?,
            'r' => self.rx_depth = count(&text)?,
            'n' => self.iters = count(&text)?,
            'l' => self.sl = ServiceLevel(service_level(&text)?),
            'e' => self.wait = Wait::Events,
            'g' => self.gid_index = u32::try_from(gid_index(&text)?).ok(),
            'o' => self.odp = true,
            'O' => (self.odp, self.iodp) = (true, true),
            'P' => self.prefetch = true,
            't' => self.ts = true,
            'c' if self.kind == Kind::Xsrq => self.clients = count(&text)?,
            'c' => self.chk = true,
            'j' => self.dm = true,
            _ => {}
        }
        Ok(())
    }

    fn usage(&self, tool: &Tool) -> Failure {
        let printed = tool.print(&self.kind.usage(tool.name()));
        ending(printed, 1).err().unwrap_or_else(|| Failure::said(1))
    }

    /// The server's name, as it can be shown.
    pub(super) fn host(&self) -> Option<String> {
        self.server.as_deref().map(|host| OsStr::to_string_lossy(host).into_owned())
    }

    /// What is wrong with the options together, in the C tools' words.
    pub(super) fn contradiction(&self) -> Option<String> {
        let (num_qp, rx_depth) = (self.num_qp, self.rx_depth);
        if num_qp > rx_depth {
            return Some(format!(
                "rx_depth {rx_depth} is too small for {num_qp} QPs -- must have at least one receive per QP."
            ));
        }
        if num_qp >= MAX_QP {
            return Some(format!("num_qp {num_qp} must be less than {}", MAX_QP - 1));
        }
        if self.odp && self.dm {
            return Some("DM memory region can't be on demand".into());
        }
        (self.prefetch && !self.odp).then(|| "prefetch is valid only with on-demand memory region".into())
    }
}

pub(super) fn tcp_port(text: &str) -> Result<u16, String> {
    between(text, 0, u16::MAX)
}

pub(super) fn ib_port(text: &str) -> Result<PortNum, String> {
    PortNum::new(between(text, 1, 255)?).map_err(|e| e.to_string())
}

pub(super) fn count(text: &str) -> Result<u32, String> {
    between(text, 1, u32::MAX)
}

pub(super) fn mtu(text: &str) -> Result<Mtu, String> {
    let bytes = between(text, 0, u32::MAX)?;
    Mtu::from_bytes(bytes).ok_or_else(|| format!("{bytes} is no MTU: it is 256, 512, 1024, 2048 or 4096"))
}

pub(super) fn service_level(text: &str) -> Result<u8, String> {
    between(text, 0, 15)
}

pub(super) fn gid_index(text: &str) -> Result<i32, String> {
    between(text, i32::MIN, i32::MAX)
}

pub(super) fn seconds(text: &str) -> Result<u32, String> {
    between(text, 0, u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_usage_of_all_its_options() {
        for kind in [Kind::Rc, Kind::Uc, Kind::Ud, Kind::Srq, Kind::Xsrq] {
            let usage = kind.usage("tool");
            assert!(usage.starts_with("Usage:\n  tool            start a server"), "{usage}");
            for spec in kind.options() {
                let option = format!("\n  -{}, --{}", spec.letter, spec.long);
                assert_eq!(usage.matches(&option).count(), 1, "{kind:?} {option}: {usage}");
            }
            assert_eq!(usage.lines().count(), 5 + kind.options().len());
        }
    }

    #[test]
    fn the_same_letter_may_mean_something_else() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect();
        let tool = Tool::new("tool", crate::output::Manner::C);
        let plan = Plan::as_c(Kind::Xsrq, &tool, words("-c 3 -n 7")).unwrap();
        assert_eq!((plan.clients, plan.iters, plan.chk), (3, 7, false));
        let plan = Plan::as_c(Kind::Srq, &tool, words("-c -q 600 host")).unwrap();
        assert_eq!((plan.num_qp, plan.chk, plan.host()), (600, true, Some("host".into())));
        assert_eq!(
            plan.contradiction().as_deref(),
            Some("rx_depth 500 is too small for 600 QPs -- must have at least one receive per QP.")
        );
        let plan = Plan { num_qp: 256, ..plan };
        assert_eq!(plan.contradiction().as_deref(), Some("num_qp 256 must be less than 255"));
    }
}
