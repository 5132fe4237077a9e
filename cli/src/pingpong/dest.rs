//! What the two sides of `xsrq` tell each other over their TCP connection: endpoints, and that they are done.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use bareverbs::{Gid, Lid, Psn, Qpn, Srqn};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::exchange;

/// `0000:000000:000000:000000:000000:` and 32 digits, and the zero byte.
const LEN: usize = 66;

const END: &[u8; 4] = b"END\0";

/// What went wrong, as one line.
type Result<T> = std::result::Result<T, String>;

/// What one side tells the other of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dest {
    pub(super) lid: Lid,
    pub(super) recv_qpn: Qpn,
    pub(super) send_qpn: Qpn,
    pub(super) psn: Psn,
    pub(super) srqn: Srqn,
    pub(super) gid: Gid,
}

impl Dest {
    fn encode(&self) -> [u8; LEN] {
        let text = format!(
            "{:04x}:{:06x}:{:06x}:{:06x}:{:06x}:{:032x}\0",
            self.lid.0,
            self.recv_qpn.get(),
            self.send_qpn.get(),
            self.psn.get(),
            self.srqn.get(),
            u128::from_be_bytes(self.gid.0)
        );
        let mut message = [0; LEN];
        message.copy_from_slice(text.as_bytes());
        message
    }

    fn decode(message: &[u8]) -> Option<Self> {
        let [lid, recv_qpn, send_qpn, psn, srqn, gid] = exchange::hex_fields(message, [4, 6, 6, 6, 6, 32])?;
        Some(Self {
            lid: Lid(lid as u16),
            recv_qpn: Qpn::truncate(recv_qpn as u32),
            send_qpn: Qpn::truncate(send_qpn as u32),
            psn: Psn::truncate(psn as u32),
            srqn: Srqn::truncate(srqn as u32),
            gid: Gid(gid.to_be_bytes()),
        })
    }

    /// The C tool's line.
    pub(super) fn line(&self, side: &str) -> String {
        format!(
            "{side:>8}: LID {:04x}, QPN RECV {:06x} SEND {:06x}, PSN {:06x}, SRQN {:06x}, GID {}\n",
            self.lid.0,
            self.recv_qpn.get(),
            self.send_qpn.get(),
            self.psn.get(),
            self.srqn.get(),
            self.gid
        )
    }

    /// Tells it to a peer.
    pub(super) fn tell(&self, stream: &mut TcpStream, host: &str) -> Result<()> {
        stream.write_all(&self.encode()).map_err(|e| format!("Couldn't send local address to {host}: {e}"))
    }

    /// Is told a peer's.
    pub(super) fn hear(stream: &mut TcpStream, host: &str) -> Result<Self> {
        let mut message = [0; LEN];
        exchange::read(stream, &mut message, host)?;
        Self::decode(&message).ok_or_else(|| {
            let sent = message.escape_ascii();
            format!("{host} does not speak the pingpong protocol: it sent \"{sent}\"")
        })
    }
}

/// The other side of a connection.
pub(super) struct Peer {
    pub(super) dest: Dest,
    pub(super) stream: TcpStream,
    pub(super) host: String,
}

impl Peer {
    /// Tells it that this side needs its queues no more.
    pub(super) fn say_end(&mut self) -> Result<()> {
        self.stream.write_all(END).map_err(|e| format!("Couldn't send termination ack to {}: {e}", self.host))
    }

    /// Waits until it has said the same.
    pub(super) fn hear_end(&mut self) -> Result<()> {
        let mut end = [0; END.len()];
        exchange::read(&mut self.stream, &mut end, &self.host)?;
        match end == *END {
            true => Ok(()),
            false => Err(format!("{} said \"{}\" where \"END\" was due", self.host, end.escape_ascii())),
        }
    }

    /// Lets it be silent for as long as it likes.
    pub(super) fn has_time(&self) -> Result<()> {
        exchange::set_timeout(&self.stream, None)
    }

    /// An error where it has closed the connection.
    pub(super) fn is_there(&self) -> Result<()> {
        match recv(self.stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Ok(0) => Err(format!("{} closed the connection before its first message", self.host)),
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(errno) => Err(format!("lost the connection to {}: {} ({errno:?})", self.host, errno.desc())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_travel_as_text() {
        let dest = Dest {
            lid: Lid(1),
            recv_qpn: Qpn::truncate(0x241),
            send_qpn: Qpn::truncate(0x242),
            psn: Psn::truncate(0x20_e9d5),
            srqn: Srqn::truncate(7),
            gid: Gid([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x10, 0xd2, 0xc9, 0x10, 0, 0, 0x6b, 0xd1]),
        };
        let message = b"0001:000241:000242:20e9d5:000007:fe8000000000000010d2c91000006bd1\0";
        assert_eq!(dest.encode(), *message);
        assert_eq!(Dest::decode(message), Some(dest));
        assert_eq!(Dest::decode(&[b'0'; LEN]), None);
        assert_eq!(
            dest.line("local"),
            "   local: LID 0001, QPN RECV 000241 SEND 000242, PSN 20e9d5, SRQN 000007, GID fe80::10d2:c910:0:6bd1\n"
        );
    }
}
