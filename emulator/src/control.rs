//! The control socket: status, and faults on request, one line each.

use std::{
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    device::Device,
    fabric::{Fabric, port::PortState, switch::Fault},
};

/// The longest line that is accepted, in bytes.
const MAX_LINE: usize = 4096;
/// Connections at the same time.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to send a line, and to read an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The requests.
const HELP: &str = "\
help                        this text
status                      a line for each HCA
violations                  the number of violations
port HCA down               disconnect the cable of HCA (1, 2, ...)
port HCA up                 connect it
catastrophe HCA             a catastrophic error: no answers until the driver resets the card
stall HCA [COMMAND]         the next firmware command, or the next with that name, gets no answer
overrun HCA CQN             completion queue CQN overruns
drop|duplicate|corrupt|flip|delay MS [from HCA] [qp QPN] [rc|uc|ud|xrc] [KIND] [skip N] [count N]
                            lose packets, duplicate them, damage them with a bad CRC, damage their data with a good
                            CRC, or delay them; skip N packets (0) and affect N (1); KIND is request, response, send,
                            write, read, read-response, atomic, atomic-response or ack
faults                      the packet faults that are still pending, one line each
clear                       remove all pending packet faults
quit                        stop the server";

/// Serves the control socket. Each connection has its own thread, so a client that is silent, or does not read its
/// answers, delays nobody. `quit` ends the process.
///
/// # Errors
///
/// The socket fails.
pub fn serve(fabric: &Fabric, listener: &UnixListener, quit: impl Fn() + Sync) -> io::Result<()> {
    serve_within(fabric, listener, PATIENCE, quit)
}

fn serve_within(
    fabric: &Fabric,
    listener: &UnixListener,
    patience: Duration,
    quit: impl Fn() + Sync,
) -> io::Result<()> {
    let connections = AtomicUsize::new(0);
    thread::scope(|scope| {
        loop {
            let (stream, _) = listener.accept()?;
            if connections.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
                connections.fetch_sub(1, Ordering::Relaxed);
                let _ = refuse(stream);
                continue;
            }
            let (connections, quit) = (&connections, &quit);
            let talk = move || {
                // It fails when the client goes away or is too slow, which ends the connection and nothing else.
                let _ = talk(fabric, stream, patience, quit);
                connections.fetch_sub(1, Ordering::Relaxed);
            };
            if thread::Builder::new().spawn_scoped(scope, talk).is_err() {
                // The closure is gone, and the connection with it.
                connections.fetch_sub(1, Ordering::Relaxed);
            }
        }
    })
}

fn refuse(mut stream: UnixStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    writeln!(stream, "error: more than {MAX_CONNECTIONS} connections; try again later")
}

fn talk(fabric: &Fabric, mut stream: UnixStream, patience: Duration, quit: &impl Fn()) -> io::Result<()> {
    stream.set_write_timeout(Some(patience))?;
    let mut lines = Lines { stream: stream.try_clone()?, bytes: Vec::new(), patience };
    loop {
        let line = match lines.next() {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(error) => {
                writeln!(stream, "error: {error}")?;
                return Err(error);
            }
        };
        match line.trim() {
            "" => {}
            "quit" => {
                writeln!(stream, "ok")?;
                quit();
            }
            line => match request(fabric, line) {
                Ok(answer) => writeln!(stream, "{answer}")?,
                Err(error) => writeln!(stream, "error: {error}")?,
            },
        }
    }
}

/// The lines of a client, bounded in length and time.
struct Lines {
    stream: UnixStream,
    /// Received bytes that are not part of a returned line.
    bytes: Vec<u8>,
    /// How long a line may take.
    patience: Duration,
}

impl Lines {
    /// The next line, without its end; `None` at the end of the stream.
    fn next(&mut self) -> io::Result<Option<String>> {
        let deadline = Instant::now() + self.patience;
        let mut is_ended = false;
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let rest = self.bytes.split_off(end + 1);
                let line = std::mem::replace(&mut self.bytes, rest);
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            if self.bytes.len() > MAX_LINE {
                let what = format!("a line of more than {MAX_LINE} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            if is_ended {
                let line = std::mem::take(&mut self.bytes);
                return Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let what = format!("no line within {} s", self.patience.as_secs_f32());
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut part = [0; 1024];
            match self.stream.read(&mut part) {
                Ok(0) => is_ended = true,
                Ok(length) => self.bytes.extend_from_slice(&part[..length]),
                // The deadline is checked above.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Carries out a request.
///
/// # Errors
///
/// What is wrong with the line.
pub fn request(fabric: &Fabric, line: &str) -> Result<String, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["help"] => return Ok(HELP.to_owned()),
        ["status"] => return Ok(status(fabric)),
        ["violations"] => return Ok(fabric.violations().to_string()),
        ["faults"] => {
            let lines: Vec<String> = fabric.lock().switch.faults().map(ToString::to_string).collect();
            return Ok(lines.join("\n"));
        }
        ["port", hca, way @ ("up" | "down")] => on(fabric, hca, |hca| hca.plug(*way == "up"))?,
        ["catastrophe", hca] => on(fabric, hca, |hca| hca.break_down())?,
        ["stall", hca] => on(fabric, hca, |hca| hca.stall(None))??,
        ["stall", hca, command] => on(fabric, hca, |hca| hca.stall(Some(command)))??,
        ["overrun", hca, cqn] => {
            let number = parse(cqn).ok_or_else(|| format!("{cqn}: not a number"))?;
            let found = on(fabric, hca, |hca| hca.overrun(number))?;
            if !found {
                return Err(format!("{cqn}: the card has no such completion queue"));
            }
        }
        ["clear"] => fabric.lock().switch.clear_faults(),
        ["drop" | "duplicate" | "corrupt" | "flip" | "delay", ..] => {
            let mut fault: Fault = line.parse()?;
            if let Some(from) = &mut fault.filter.from {
                *from = from.checked_sub(1).ok_or("from 0: HCAs are counted from 1")?;
            }
            fabric.lock().switch.inject(fault);
        }
        _ => return Err(format!("{line}: unknown request; `help` lists all")),
    }
    Ok("ok".to_owned())
}

/// Does something with the HCA of this number, counted from 1.
fn on<T>(fabric: &Fabric, number: &str, act: impl FnOnce(&mut dyn Device) -> T) -> Result<T, String> {
    let missing = || format!("{number}: no such HCA; they are counted from 1");
    let number: usize = number.parse().map_err(|_| missing())?;
    let number = number.checked_sub(1).ok_or_else(missing)?;
    fabric.work(number, |hca, _| act(hca)).ok_or_else(missing)
}

/// A number, in hexadecimal after 0x.
fn parse(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn status(fabric: &Fabric) -> String {
    let fabric = fabric.lock();
    let lines = fabric.hcas.iter().map(|hca| {
        let state = match hca.port().state() {
            PortState::Active => "ACTIVE",
            _ => "DOWN",
        };
        let broken = if hca.is_broken() { ", broken down" } else { "" };
        let (name, stage, lid, violations) = (hca.name(), hca.stage(), hca.port().lid, hca.violations());
        format!("{name}: {stage}{broken}, LID {lid}, port {state}, violations {violations}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;
    use crate::{
        fabric::subnet::Agent,
        mlx4::{
            hca::Hca,
            identity::{Identity, Model},
        },
        trace::Trace,
    };

    fn fabric() -> Fabric {
        let hca = Hca::new("hca", Identity::new(Model::ConnectX3, 0x10), 1, 1, Trace::default());
        Fabric::new(vec![Box::new(hca)], Agent::new(1, Trace::default()))
    }

    /// A server on a socket of its own, and a way to connect to it.
    fn serving(patience: Duration) -> impl Fn() -> UnixStream {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || serve_within(&fabric(), &listener, patience, || {}));
        move || {
            let _kept = &folder;
            let stream = UnixStream::connect(&path).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream
        }
    }

    fn answer(stream: &UnixStream) -> String {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }

    fn asks(mut stream: UnixStream, request: &str) -> String {
        // A connection that is refused may be closed before the request is written.
        let _ = writeln!(stream, "{request}");
        answer(&stream)
    }

    #[test]
    fn silent_clients_and_those_that_do_not_read_delay_nobody() {
        let connect = serving(Duration::from_secs(3600));
        let _silent: Vec<_> = (0..8).map(|_| connect()).collect();
        let mut deaf = connect();
        deaf.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        // Until the answers fill the socket, and the server waits for them to be read.
        while writeln!(deaf, "help").is_ok() {}
        assert_eq!(asks(connect(), "violations"), "0\n");
    }

    #[test]
    fn slow_clients_are_disconnected() {
        let connect = serving(Duration::from_millis(100));
        let silent = connect();
        let mut slow = connect();
        let mut deaf = connect();
        deaf.set_nonblocking(true).unwrap();
        assert_eq!(answer(&silent), "error: no line within 0.1 s\n");
        let start = Instant::now();
        let is_closed =
            |result: io::Result<()>| result.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        // Neither a byte now and then nor answers that nobody reads keep a connection.
        let (mut slow_closed, mut deaf_closed) = (false, false);
        while !(slow_closed && deaf_closed) {
            assert!(start.elapsed() < Duration::from_secs(30), "slow {slow_closed}, deaf {deaf_closed}");
            slow_closed |= is_closed(slow.write_all(b"s"));
            deaf_closed |= is_closed(deaf.write_all(b"help\n"));
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let connect = serving(Duration::from_secs(3600));
        let mut endless = connect();
        // The server stops reading in the middle of it.
        let _ = endless.write_all(&[b'x'; 1 << 20]);
        assert_eq!(answer(&endless), format!("error: a line of more than {MAX_LINE} bytes\n"));
        assert_eq!(asks(connect(), &"x".repeat(MAX_LINE - 1)).split(':').next(), Some("error"));
    }

    #[test]
    fn too_many_connections_are_refused() {
        let connect = serving(Duration::from_secs(3600));
        let mut waiting: Vec<_> = (0..MAX_CONNECTIONS).map(|_| connect()).collect();
        assert!(answer(&connect()).starts_with("error: more than"));
        drop(waiting.pop());
        let start = Instant::now();
        // The server needs a moment to see that one has gone.
        while asks(connect(), "violations") != "0\n" {
            assert!(start.elapsed() < Duration::from_secs(30), "no connection is accepted any more");
        }
    }

    #[test]
    fn requests_are_carried_out_or_refused() {
        let fabric = fabric();
        assert_eq!(request(&fabric, "port 1 down").unwrap(), "ok");
        assert!(!fabric.lock().hcas[0].port().cable);
        assert_eq!(request(&fabric, "port 1 up").unwrap(), "ok");
        assert!(fabric.lock().hcas[0].port().cable);
        assert_eq!(request(&fabric, "stall 1 NOP").unwrap(), "ok");
        assert_eq!(request(&fabric, "drop rc from 1 count 2").unwrap(), "ok");
        assert!(request(&fabric, "faults").unwrap().starts_with("Drop 2 packets"));
        assert_eq!(request(&fabric, "clear").unwrap(), "ok");
        assert_eq!(request(&fabric, "faults").unwrap(), "");
        assert_eq!(request(&fabric, "catastrophe 1").unwrap(), "ok");
        assert!(request(&fabric, "status").unwrap().contains("broken down"));
        for wrong in [
            "port 2 down",
            "port 0 up",
            "port x up",
            "port 1",
            "stall 1 NOPE",
            "dance",
            "drop sideways",
            "drop from 0",
            "overrun 1 x",
            "overrun 1 0x80",
        ] {
            request(&fabric, wrong).unwrap_err();
        }
        assert_eq!(request(&fabric, "violations").unwrap(), "0");
    }
}
