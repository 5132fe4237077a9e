//! How two pingpongs tell each other their endpoints: one TCP connection, three messages, as rdma-core's tools do it.
//!
//! Client: its endpoint. Server: its own. Client: `done`. Each ends with a zero byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use bareverbs::{Endpoint, Gid, Lid, Psn, Qpn};

/// `0000:000000:000000:` and 32 digits, and the zero byte.
const LEN: usize = 52;

const DONE: &[u8; 5] = b"done\0";

/// What went wrong, as one line.
type Result<T> = std::result::Result<T, String>;

/// An endpoint in the wire's form.
fn encode(endpoint: &Endpoint) -> [u8; LEN] {
    let text = format!(
        "{:04x}:{:06x}:{:06x}:{:032x}\0",
        endpoint.lid.0,
        endpoint.qp_num.get(),
        endpoint.psn.get(),
        u128::from_be_bytes(endpoint.gid.0)
    );
    let mut message = [0; LEN];
    message.copy_from_slice(text.as_bytes());
    message
}

/// The endpoint of a message, where it is one.
fn decode(message: &[u8]) -> Option<Endpoint> {
    let text = std::str::from_utf8(message).ok()?.strip_suffix('\0')?;
    let mut fields = text.split(':');
    let mut field = |digits: usize| {
        let field = fields.next()?;
        // from_str_radix alone would take a sign.
        let plain = field.len() <= digits && field.bytes().all(|b| b.is_ascii_hexdigit());
        u128::from_str_radix(field, 16).ok().filter(|_| plain)
    };
    let (lid, qp_num, psn, gid) = (field(4)?, field(6)?, field(6)?, field(32)?);
    if fields.next().is_some() {
        return None;
    }
    Some(Endpoint {
        lid: Lid(lid as u16),
        qp_num: Qpn::truncate(qp_num as u32),
        psn: Psn::truncate(psn as u32),
        gid: Gid(gid.to_be_bytes()),
    })
}

/// The client's side.
pub(super) fn connect(
    host: &str,
    port: u16,
    timeout: Option<Duration>,
    local: &Endpoint,
) -> Result<Endpoint> {
    let mut stream = dial(host, port, timeout)?;
    stream.write_all(&encode(local)).map_err(|e| format!("couldn't send local address to {host}: {e}"))?;
    let peer = receive(&mut stream, host)?;
    stream.write_all(DONE).map_err(|e| format!("couldn't end the exchange with {host}: {e}"))?;
    Ok(peer)
}

/// The server's side: waits for a client, and connects to it (`join`) before it is answered.
pub(super) fn accept(
    listener: &TcpListener,
    timeout: Option<Duration>,
    local: &Endpoint,
    join: impl FnOnce(&Endpoint) -> Result<()>,
) -> Result<Endpoint> {
    let (mut stream, from) = listener.accept().map_err(|e| format!("accept() failed: {e}"))?;
    let from = from.ip().to_canonical().to_string();
    set_timeout(&stream, timeout)?;
    let peer = receive(&mut stream, &from)?;
    join(&peer)?;
    stream.write_all(&encode(local)).map_err(|e| format!("couldn't send local address to {from}: {e}"))?;
    let mut done = [0; DONE.len()];
    read(&mut stream, &mut done, &from)?;
    if done != *DONE {
        return Err(format!("{from} said \"{}\" where \"done\" was due", done.escape_ascii()));
    }
    Ok(peer)
}

/// A socket that listens on every address of this machine.
pub(super) fn listen(port: u16) -> Result<TcpListener> {
    let all = |ip: std::net::IpAddr| TcpListener::bind(SocketAddr::new(ip, port));
    match all(Ipv6Addr::UNSPECIFIED.into()) {
        // A kernel without IPv6.
        Err(e) if e.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => all(Ipv4Addr::UNSPECIFIED.into()),
        bound => bound,
    }
    .map_err(|e| format!("couldn't listen to port {port}: {e}; choose another with -p"))
}

fn dial(host: &str, port: u16, timeout: Option<Duration>) -> Result<TcpStream> {
    let mut addresses: Vec<SocketAddr> = match (host, port).to_socket_addrs() {
        Ok(found) => found.collect(),
        // A node without /etc/hosts.
        Err(_) if host == "localhost" => Vec::new(),
        Err(e) => return Err(format!("couldn't resolve {}: {e}", host.escape_debug())),
    };
    if addresses.is_empty() {
        addresses = vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()];
    }
    let mut last = None;
    for address in &addresses {
        let dialled = match timeout {
            Some(timeout) => TcpStream::connect_timeout(address, timeout),
            None => TcpStream::connect(address),
        };
        match dialled {
            Ok(stream) => {
                set_timeout(&stream, timeout)?;
                return Ok(stream);
            }
            Err(e) => last = Some(e),
        }
    }
    let why = last.map_or_else(
        || "it has no address".to_owned(),
        |e| match e.kind() {
            ErrorKind::ConnectionRefused => "nothing listens there: start the server first".to_owned(),
            ErrorKind::TimedOut | ErrorKind::WouldBlock => "no answer".to_owned(),
            _ => e.to_string(),
        },
    );
    Err(format!("couldn't connect to {host}:{port}: {why}"))
}

fn set_timeout(stream: &TcpStream, timeout: Option<Duration>) -> Result<()> {
    stream
        .set_read_timeout(timeout)
        .and_then(|()| stream.set_write_timeout(timeout))
        .map_err(|e| format!("couldn't set a time-out: {e}"))
}

fn receive(stream: &mut TcpStream, from: &str) -> Result<Endpoint> {
    let mut message = [0; LEN];
    read(stream, &mut message, from)?;
    decode(&message).ok_or_else(|| {
        format!("{from} does not speak the pingpong protocol: it sent \"{}\"", message.escape_ascii())
    })
}

fn read(stream: &mut TcpStream, buffer: &mut [u8], from: &str) -> Result<()> {
    let mut got = 0;
    while got < buffer.len() {
        match stream.read(&mut buffer[got..]) {
            Ok(0) => {
                return Err(format!("{from} closed the connection after {got} of {} bytes", buffer.len()));
            }
            Ok(n) => got += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(format!("{from} is silent: {got} of {} bytes came", buffer.len()));
            }
            Err(e) => return Err(format!("couldn't read remote address from {from}: {e}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8; LEN] = b"0001:000241:20e9d5:fe8000000000000010d2c91000006bd1\0";

    fn endpoint() -> Endpoint {
        Endpoint {
            lid: Lid(1),
            qp_num: Qpn::truncate(0x241),
            psn: Psn::truncate(0x20_e9d5),
            gid: Gid([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x10, 0xd2, 0xc9, 0x10, 0, 0, 0x6b, 0xd1]),
        }
    }

    #[test]
    fn endpoints_travel_as_text() {
        assert_eq!(encode(&endpoint()), *MESSAGE);
        assert_eq!(decode(MESSAGE), Some(endpoint()));
    }

    #[test]
    fn nonsense_is_no_endpoint() {
        for change in [0usize, 4, 18, 51] {
            let mut message = *MESSAGE;
            message[change] = b'+';
            assert_eq!(decode(&message), None, "byte {change}");
        }
        assert_eq!(decode(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n....\0"), None);
        assert_eq!(decode(&[0xff; LEN]), None);
    }

    #[test]
    fn both_sides_agree() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || accept(&listener, None, &endpoint(), |_| Ok(())));
        let mine = Endpoint { lid: Lid(9), ..endpoint() };
        let theirs = connect("127.0.0.1", port, None, &mine);
        assert_eq!(theirs, Ok(endpoint()));
        assert_eq!(server.join().unwrap(), Ok(mine));
    }

    #[test]
    fn bad_peers_are_named() {
        let said = |bytes: &'static [u8]| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let peer = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(bytes).unwrap();
                if bytes.len() < 2 {
                    std::thread::sleep(Duration::from_millis(400));
                }
            });
            let answer = connect("127.0.0.1", port, Some(Duration::from_millis(200)), &endpoint());
            peer.join().unwrap();
            answer.unwrap_err()
        };
        assert!(said(b"0").contains("is silent: 1 of 52 bytes came"));
        assert!(
            said(b"0001:000241").contains("after 11 of 52 bytes") || said(b"0001:000241").contains("reset")
        );
        assert!(said(&[b'x'; LEN]).contains("does not speak the pingpong protocol"));
    }
}
