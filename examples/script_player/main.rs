//! Plays a random script of `verbscheck` (`emulator/checker/README.md` describes them) by this library, and prints what came of it
//! in the script's own words: the lines `done` and `sum`. They are the script's, and rdma-core's log's, if all is well.
//!
//! ```text
//! verbscheck script --first-seed 7 --ops 1000 > script
//! script_player [DEVICE [GID-INDEX]] < script
//! ```
//!
//! Without a GID index addresses are LIDs, as on InfiniBand.

mod lane;
mod play;
mod script;

use std::error::Error;
use std::io::{BufWriter, Write};

use bareverbs::Device;

/// A failure is one line.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let device = match arguments.next() {
        Some(name) => Device::by_name(&name)?,
        None => Device::first()?,
    };
    let gid_index = arguments.next().map(|index| index.parse()).transpose()?;
    let script = script::parse(&std::io::read_to_string(std::io::stdin())?)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let played = play::Player::new(&device.open()?, gid_index)?.play(&script, &mut out);
    out.flush()?;
    played
}
