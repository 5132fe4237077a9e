//! How two pingpongs tell each other their endpoints: one TCP connection, three messages, as rdma-core's tools do it.
//!
//! Client: its endpoints. Server: its own. Client: `done`. Each message ends with a zero byte. How many endpoints travel is
//! settled by the service; those that are not used are zero.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use bareverbs::{Endpoint, Gid, Lid, Psn, Qpn};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6, sockopt};

use crate::signals;

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
    let [lid, qp_num, psn, gid] = hex_fields(message, [4, 6, 6, 32])?;
    Some(Endpoint {
        lid: Lid(lid as u16),
        qp_num: Qpn::truncate(qp_num as u32),
        psn: Psn::truncate(psn as u32),
        gid: Gid(gid.to_be_bytes()),
    })
}

/// The hexadecimal numbers of a message, between colons and of so many digits at the most; a zero byte ends it.
pub(super) fn hex_fields<const N: usize>(message: &[u8], widths: [usize; N]) -> Option<[u128; N]> {
    let text = std::str::from_utf8(message).ok()?.strip_suffix('\0')?;
    let mut fields = text.split(':');
    let mut numbers = [0; N];
    for (number, width) in numbers.iter_mut().zip(widths) {
        let field = fields.next()?;
        // from_str_radix alone would take a sign.
        if field.len() > width || !field.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        *number = u128::from_str_radix(field, 16).ok()?;
    }
    fields.next().is_none().then_some(numbers)
}

/// As many endpoints as `wire` says, in its form.
fn encode_all(endpoints: &[Endpoint], wire: usize) -> Vec<u8> {
    let unused = std::iter::repeat(Endpoint::default());
    endpoints.iter().copied().chain(unused).take(wire).flat_map(|endpoint| encode(&endpoint)).collect()
}

/// The client's side.
pub(super) fn connect(
    host: &str,
    port: u16,
    timeout: Option<Duration>,
    local: &[Endpoint],
    wire: usize,
) -> Result<Vec<Endpoint>> {
    let mut stream = dial(host, port, timeout)?;
    stream
        .write_all(&encode_all(local, wire))
        .map_err(|e| format!("Couldn't send local address to {host}: {e}"))?;
    let peer = receive_all(&mut stream, host, local.len(), wire)?;
    stream.write_all(DONE).map_err(|e| format!("couldn't end the exchange with {host}: {e}"))?;
    Ok(peer)
}

/// The server's side: waits for a client, and connects to it (`join`) before it is answered.
pub(super) fn accept<E: From<String>>(
    listener: &TcpListener,
    timeout: Option<Duration>,
    local: &[Endpoint],
    wire: usize,
    join: impl FnOnce(&[Endpoint]) -> std::result::Result<(), E>,
) -> std::result::Result<Vec<Endpoint>, E> {
    let (mut stream, from) = incoming(listener, timeout)?;
    let peer = receive_all(&mut stream, &from, local.len(), wire)?;
    join(&peer)?;
    stream
        .write_all(&encode_all(local, wire))
        .map_err(|e| format!("Couldn't send local address to {from}: {e}"))?;
    let mut done = [0; DONE.len()];
    read(&mut stream, &mut done, &from)?;
    if done != *DONE {
        return Err(format!("{from} said \"{}\" where \"done\" was due", done.escape_ascii()).into());
    }
    Ok(peer)
}

/// The next client, and how it can be called.
pub(super) fn incoming(listener: &TcpListener, timeout: Option<Duration>) -> Result<(TcpStream, String)> {
    let (stream, from) = listener.accept().map_err(|e| format!("accept() failed: {e}"))?;
    set_timeout(&stream, timeout)?;
    Ok((stream, from.ip().to_canonical().to_string()))
}

/// A socket that listens on every address of this machine.
pub(super) fn listen(port: u16) -> Result<TcpListener> {
    match listen_v6(port) {
        // A kernel without IPv6.
        Err(Errno::EAFNOSUPPORT) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
        bound => bound.map_err(std::io::Error::from),
    }
    .map_err(|e| format!("Couldn't listen to port {port}: {e}; choose another with -p"))
}

/// IPv4's clients come to this one too, whatever net.ipv6.bindv6only says.
fn listen_v6(port: u16) -> nix::Result<TcpListener> {
    let socket = socket::socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    socket::setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    socket::setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    let all = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
    socket::bind(socket.as_raw_fd(), &SockaddrIn6::from(all))?;
    socket::listen(&socket, Backlog::MAXCONN)?;
    Ok(socket.into())
}

/// A connection to a server.
pub(super) fn dial(host: &str, port: u16, timeout: Option<Duration>) -> Result<TcpStream> {
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
    Err(format!("Couldn't connect to {host}:{port}: {why}"))
}

pub(super) fn set_timeout(stream: &TcpStream, timeout: Option<Duration>) -> Result<()> {
    stream
        .set_read_timeout(timeout)
        .and_then(|()| stream.set_write_timeout(timeout))
        .map_err(|e| format!("couldn't set a time-out: {e}"))
}

/// As many of the peer's endpoints as there are of ours; it must use no fewer and no more.
fn receive_all(stream: &mut TcpStream, from: &str, count: usize, wire: usize) -> Result<Vec<Endpoint>> {
    let all = (0..wire).map(|_| receive(stream, from)).collect::<Result<Vec<Endpoint>>>()?;
    if wire == 1 {
        return Ok(all);
    }
    let used = all.iter().take_while(|endpoint| endpoint.qp_num.get() != 0).count();
    if used != count {
        return Err(format!(
            "{from} has {used} queue pairs where {count} are due: give both sides the same number (-q)"
        ));
    }
    Ok(all.into_iter().take(count).collect())
}

fn receive(stream: &mut TcpStream, from: &str) -> Result<Endpoint> {
    let mut message = [0; LEN];
    read(stream, &mut message, from)?;
    decode(&message).ok_or_else(|| {
        format!("{from} does not speak the pingpong protocol: it sent \"{}\"", message.escape_ascii())
    })
}

/// Fills `buffer`, or says how far it came. An interrupt ends that too.
pub(super) fn read(stream: &mut TcpStream, buffer: &mut [u8], from: &str) -> Result<()> {
    let limit = stream.read_timeout().map_err(|e| format!("couldn't read a time-out: {e}"))?;
    fill(stream, limit, buffer, from)
}

/// A signal makes the stream count its time anew, so that the tick of `signals` would let it wait for ever: it is counted here.
fn fill(stream: &mut impl Read, limit: Option<Duration>, buffer: &mut [u8], from: &str) -> Result<()> {
    let (mut got, mut since) = (0, Instant::now());
    while got < buffer.len() {
        match stream.read(&mut buffer[got..]) {
            Ok(0) => {
                return Err(format!("{from} closed the connection after {got} of {} bytes", buffer.len()));
            }
            Ok(n) => (got, since) = (got + n, Instant::now()),
            Err(e)
                if e.kind() == ErrorKind::Interrupted
                    && !signals::interrupted()
                    && limit.is_none_or(|limit| since.elapsed() < limit) => {}
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
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
        let server =
            std::thread::spawn(move || accept(&listener, None, &[endpoint()], 1, |_| Ok::<_, String>(())));
        let mine = Endpoint { lid: Lid(9), ..endpoint() };
        let theirs = connect("127.0.0.1", port, None, &[mine], 1);
        assert_eq!(theirs, Ok(vec![endpoint()]));
        assert_eq!(server.join().unwrap(), Ok(vec![mine]));
    }

    #[test]
    fn several_endpoints_travel_as_256() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let several = |count| vec![endpoint(); count];
        assert_eq!(encode_all(&several(3), 256).len(), 256 * LEN);
        assert_eq!(encode_all(&several(3), 256)[3 * LEN..][..19], *b"0000:000000:000000:");
        let serve = |count| {
            let listener = listener.try_clone().unwrap();
            std::thread::spawn(move || {
                accept(&listener, None, &vec![endpoint(); count], 256, |_| Ok::<_, String>(()))
            })
        };
        let server = serve(3);
        assert_eq!(connect("127.0.0.1", port, None, &several(3), 256), Ok(several(3)));
        assert_eq!(server.join().unwrap(), Ok(several(3)));
        let server = serve(4);
        assert!(connect("127.0.0.1", port, None, &several(3), 256).is_err());
        assert_eq!(
            server.join().unwrap().unwrap_err(),
            "127.0.0.1 has 3 queue pairs where 4 are due: give both sides the same number (-q)"
        );
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
            let answer = connect("127.0.0.1", port, Some(Duration::from_millis(200)), &[endpoint()], 1);
            peer.join().unwrap();
            answer.unwrap_err()
        };
        assert!(said(b"0").contains("is silent: 1 of 52 bytes came"));
        assert!(
            said(b"0001:000241").contains("after 11 of 52 bytes") || said(b"0001:000241").contains("reset")
        );
        assert!(said(&[b'x'; LEN]).contains("does not speak the pingpong protocol"));
    }

    #[test]
    fn a_tick_does_not_prolong_the_wait() {
        struct Ticks(u32);
        impl Read for Ticks {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                std::thread::sleep(Duration::from_millis(10));
                self.0 += 1;
                assert!(self.0 < 100, "it would wait for ever");
                Err(ErrorKind::Interrupted.into())
            }
        }
        let said = fill(&mut Ticks(0), Some(Duration::from_millis(50)), &mut [0; 4], "host");
        assert_eq!(said, Err("host is silent: 0 of 4 bytes came".into()));
    }
}
