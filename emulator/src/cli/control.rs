//! `connectx control`: sends a request to a server's control socket and prints the answer.

use std::{
    io::{BufRead, BufReader, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;

const EXAMPLES: &str = "\
Examples:
  connectx control /tmp/control 'port 1 down'       disconnect the cable of the first HCA
  connectx control /tmp/control help                list all requests";

#[derive(Parser)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The socket that `connectx serve --control` listens on
    socket: PathBuf,
    /// The request, as one argument or several
    #[arg(required = true)]
    request: Vec<String>,
}

/// Sends the request and prints the answer.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let shown = arguments.socket.display();
    let failed = |error: std::io::Error| format!("{shown}: {error}");
    let mut stream = UnixStream::connect(&arguments.socket)
        .map_err(|error| format!("{shown}: {error}; is `connectx serve --control` running?"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(failed)?;
    writeln!(stream, "{}", arguments.request.join(" ")).map_err(failed)?;
    stream.shutdown(Shutdown::Write).map_err(failed)?;
    let mut good = true;
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(failed)?;
        if let Some(error) = line.strip_prefix("error: ") {
            good = false;
            eprintln!("connectx: {error}");
        } else {
            println!("{line}");
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
