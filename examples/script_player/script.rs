//! Scripts: their lines as values.

use std::fmt::Display;
use std::str::FromStr;

use crate::Outcome;

/// One end's side of a lane: the lane's number, and 0 or 1 for the end `a` or `b`.
pub(crate) type Place = (usize, usize);

/// A range of an end's memory; `bad` if its key is invalid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) offset: usize,
    pub(crate) length: usize,
    pub(crate) bad: bool,
}

#[derive(Debug)]
pub(crate) struct Recv {
    pub(crate) at: Place,
    pub(crate) id: u64,
    pub(crate) parts: Vec<Part>,
}

/// Whose key a request gives for the peer's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Memory,
    Window,
    Nobody,
}

#[derive(Debug)]
pub(crate) struct Send {
    pub(crate) at: Place,
    pub(crate) id: u64,
    pub(crate) opcode: String,
    pub(crate) signaled: bool,
    pub(crate) solicited: bool,
    pub(crate) fence: bool,
    pub(crate) inline: bool,
    /// Posted in one list with the next request of the same place.
    pub(crate) more: bool,
    pub(crate) imm: u32,
    pub(crate) target: Option<(Target, i64)>,
    /// What is added or compared.
    pub(crate) operand: u64,
    pub(crate) swap: u64,
    pub(crate) window: Option<Part>,
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug)]
pub(crate) enum Line {
    Lane {
        kind: String,
        srq: bool,
    },
    Fill {
        end: usize,
        part: Part,
        seed: u64,
    },
    Recv(Recv),
    Send(Send),
    Ready,
    Pause,
    Go {
        events: bool,
    },
    /// A completion is to come; the rest of the line says which, and is compared by who reads what is printed.
    Done {
        at: Place,
        received: bool,
    },
    Clear {
        end: usize,
        part: Part,
    },
    Sum {
        end: usize,
    },
    Break {
        lane: usize,
    },
    Connect {
        lane: usize,
    },
}

/// The lines of a script.
pub(crate) fn parse(text: &str) -> Outcome<Vec<Line>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    lines
        .map(|(at, line)| {
            self::line(line)
                .map_err(|error| format!("line {} of the script ({line}): {error}", at + 1).into())
        })
        .collect()
}

fn line(text: &str) -> Outcome<Line> {
    let mut words = text.split_whitespace();
    let mut next = || words.next().ok_or("it ends too early");
    Ok(match next()? {
        "lane" => {
            next()?;
            Line::Lane { kind: next()?.to_owned(), srq: next() == Ok("srq") }
        }
        "fill" => Line::Fill { end: end(next()?)?, part: part(next()?)?, seed: number(next()?)? },
        "recv" => {
            let at = (number(next()?)? as usize, end(next()?)?);
            let id = number(next()?)?;
            Line::Recv(Recv { at, id, parts: words.map(part).collect::<Outcome<_>>()? })
        }
        "send" => {
            let at = (number(next()?)? as usize, end(next()?)?);
            let (id, opcode) = (number(next()?)?, next()?.to_owned());
            Line::Send(send(at, id, opcode, words)?)
        }
        "ready" => Line::Ready,
        "pause" => Line::Pause,
        "go" => Line::Go { events: next()? == "events" },
        "done" => {
            let at = (number(next()?)? as usize, end(next()?)?);
            Line::Done { at, received: next()? == "recv" }
        }
        "clear" => Line::Clear { end: end(next()?)?, part: part(next()?)? },
        "sum" => Line::Sum { end: end(next()?)? },
        "break" => Line::Break { lane: number(next()?)? as usize },
        "connect" => Line::Connect { lane: number(next()?)? as usize },
        other => return Err(format!("there are no lines {other}").into()),
    })
}

fn send<'t>(at: Place, id: u64, opcode: String, words: impl Iterator<Item = &'t str>) -> Outcome<Send> {
    let mut send = Send {
        at,
        id,
        opcode,
        signaled: false,
        solicited: false,
        fence: false,
        inline: false,
        more: false,
        imm: 0,
        target: None,
        operand: 0,
        swap: 0,
        window: None,
        parts: Vec::new(),
    };
    for word in words {
        match word.split_once('=') {
            Some(("imm", value)) => send.imm = number(value)? as u32,
            Some(("to", value)) => send.target = Some(target(value)?),
            Some(("add" | "compare", value)) => send.operand = number(value)?,
            Some(("swap", value)) => send.swap = number(value)?,
            Some(("window", value)) => send.window = Some(part(value)?),
            Some((other, _)) => return Err(format!("there is no {other}=").into()),
            None => match word {
                "signaled" => send.signaled = true,
                "solicited" => send.solicited = true,
                "fence" => send.fence = true,
                "inline" => send.inline = true,
                "more" => send.more = true,
                element => send.parts.push(part(element)?),
            },
        }
    }
    Ok(send)
}

fn end(word: &str) -> Outcome<usize> {
    match word {
        "a" => Ok(0),
        "b" => Ok(1),
        other => Err(format!("{other} is no end").into()),
    }
}

fn target(word: &str) -> Outcome<(Target, i64)> {
    let (whose, offset) = word.split_once(':').ok_or("a target has an offset")?;
    let whose = match whose {
        "memory" => Target::Memory,
        "window" => Target::Window,
        "nobody" => Target::Nobody,
        other => return Err(format!("{other} has no memory").into()),
    };
    Ok((whose, parsed(offset)?))
}

/// `OFF+LEN`, with `!` for the wrong key.
fn part(word: &str) -> Outcome<Part> {
    let (stretch, bad) = word.strip_suffix('!').map_or((word, false), |stretch| (stretch, true));
    let (offset, length) =
        stretch.split_once('+').ok_or_else(|| format!("{word} is no stretch of memory"))?;
    Ok(Part { offset: parsed(offset)?, length: parsed(length)?, bad })
}

fn number(word: &str) -> Outcome<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).map_err(|error| format!("{word}: {error}").into()),
        None => parsed(word),
    }
}

fn parsed<T: FromStr<Err: Display>>(word: &str) -> Outcome<T> {
    word.parse().map_err(|error| format!("{word}: {error}").into())
}
