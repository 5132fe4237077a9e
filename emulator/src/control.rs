//! The control socket: what shall go wrong, a line each.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::Arc,
    time::Duration,
};

use crate::{
    fabric::{Fabric, port::PortState, switch::Fault},
    mlx4::commands,
};

/// What can be asked for.
const HELP: &str = "\
help                        this text
status                      a line for each HCA
violations                  how many there were
port HCA down               pull the cable of HCA (1, 2, ...)
port HCA up                 plug it in
catastrophe HCA             a catastrophic error: no answers until the driver resets the card
stall HCA [COMMAND]         the next firmware command, or the next of that name, gets no answer
overrun HCA CQN             completion queue CQN overruns
drop|duplicate|corrupt|flip|delay MS [from HCA] [qp QPN] [rc|uc|ud|xrc] [KIND] [skip N] [count N]
                            what happens to packets: lost, doubled, with a bad CRC, with a wrong byte that no CRC shows,
                            late; to count (1) of them after skip (0); KIND is request, response, send, write, read,
                            read-response, atomic, atomic-response or ack
faults                      what is still to happen to packets, a line each
mend                        take back what was to happen to packets
quit                        end the server";

/// Serves the control socket, one connection after the other. `quit` ends the process.
///
/// # Errors
///
/// The socket fails.
pub fn serve(fabric: &Arc<Fabric>, listener: &UnixListener, quit: impl Fn()) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        // Whoever connects and says nothing must not keep others waiting for ever.
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        // A client that goes away in mid-sentence is its own affair.
        let _ = talk(fabric, stream, &quit);
    }
}

fn talk(fabric: &Fabric, stream: UnixStream, quit: &impl Fn()) -> io::Result<()> {
    let mut answers = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        match line.trim() {
            "" => {}
            "quit" => {
                writeln!(answers, "ok")?;
                quit();
            }
            line => match request(fabric, line) {
                Ok(answer) => writeln!(answers, "{answer}")?,
                Err(error) => writeln!(answers, "error: {error}")?,
            },
        }
    }
    Ok(())
}

/// Does what a line asks for.
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
        ["stall", hca] => on(fabric, hca, |hca| hca.stall(None))?,
        ["stall", hca, command] => {
            let opcode =
                commands::opcode(command).ok_or_else(|| format!("{command}: no such firmware command"))?;
            on(fabric, hca, |hca| hca.stall(Some(opcode)))?;
        }
        ["overrun", hca, cqn] => {
            let number = parse(cqn).ok_or_else(|| format!("{cqn}: not a number"))?;
            let found = on(fabric, hca, |hca| hca.overrun(number))?;
            if !found {
                return Err(format!("{cqn}: the card has no such completion queue"));
            }
        }
        ["mend"] => fabric.lock().switch.mend(),
        ["drop" | "duplicate" | "corrupt" | "flip" | "delay", ..] => {
            let mut fault: Fault = line.parse()?;
            if let Some(from) = &mut fault.filter.from {
                *from = from.checked_sub(1).ok_or("from 0: HCAs are counted from 1")?;
            }
            fabric.lock().switch.inject(fault);
        }
        _ => return Err(format!("{line}: not understood; `help` lists what can be asked for")),
    }
    Ok("ok".to_owned())
}

/// Does something with the HCA of this number, counted from 1.
fn on<T>(
    fabric: &Fabric,
    number: &str,
    act: impl FnOnce(&mut crate::mlx4::hca::Hca) -> T,
) -> Result<T, String> {
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
        let state = match hca.card.port.state() {
            PortState::Active => "ACTIVE",
            _ => "DOWN",
        };
        let broken = if hca.is_broken() { ", broken down" } else { "" };
        format!(
            "{}: {:?}{broken}, LID {}, port {state}, violations {}",
            hca.card.name,
            hca.firmware.stage,
            hca.card.port.lid,
            hca.card.violations.count()
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fabric::subnet::Agent,
        mlx4::{
            hca::Hca,
            identity::{Identity, Model},
        },
        trace::Trace,
    };

    #[test]
    fn lines_are_obeyed_or_refused() {
        let hca = Hca::new("hca", Identity::new(Model::ConnectX3, 0x10), 1, 1, Trace::default());
        let fabric = Fabric::new(vec![hca], Agent::new(1, Trace::default()));
        assert_eq!(request(&fabric, "port 1 down").unwrap(), "ok");
        assert!(!fabric.lock().hcas[0].card.port.cable);
        assert_eq!(request(&fabric, "port 1 up").unwrap(), "ok");
        assert!(fabric.lock().hcas[0].card.port.cable);
        assert_eq!(request(&fabric, "stall 1 NOP").unwrap(), "ok");
        assert_eq!(request(&fabric, "drop rc from 1 count 2").unwrap(), "ok");
        assert!(request(&fabric, "faults").unwrap().starts_with("Drop 2 packets"));
        assert_eq!(request(&fabric, "mend").unwrap(), "ok");
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
