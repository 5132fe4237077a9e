//! Process 1: the setup, then the host's requests until power-off.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::termios::{BaudRate, SetArg, cfmakeraw, cfsetspeed, tcdrain, tcgetattr, tcsetattr};

use crate::jobs::Jobs;
use crate::protocol::{Event, HEARTBEAT, Request, receive, send};
use crate::setup;

/// The serial port of the protocol; the first one carries the kernel's log.
const CONTROL: &str = "/dev/ttyS1";

/// The connection to the host.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Mutex<File>>);

impl Wire {
    /// Sends an event. Errors are ignored: a host that is gone has killed the virtual machine.
    pub(crate) fn tell(&self, event: &Event) {
        self.tell_with(event, &[]);
    }

    /// Sends an event and the bytes that follow it.
    pub(crate) fn tell_with(&self, event: &Event, bytes: &[u8]) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = send(&mut *file, event).and_then(|()| file.write_all(bytes));
    }

    fn drain(&self) {
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = tcdrain(file.as_fd());
    }
}

/// Runs the guest from the start of process 1 to power-off.
pub(crate) fn run() -> ! {
    if let Err(reason) = serve() {
        // There is no connection to the host; the console is the kernel's log.
        eprintln!("rdma-lab-guest: {reason}");
    }
    power_off()
}

fn serve() -> Result<(), String> {
    setup::mounts()?;
    let (wire, mut requests) = open_control()?;
    wire.tell(&Event::Doing("reading the boot file".into()));
    let prepared = setup::boot_file().and_then(|boot| {
        let lifetime = boot.lifetime;
        spawn(move || {
            sleep(lifetime);
            eprintln!("rdma-lab-guest: the guest's time of {} s is up", lifetime.as_secs());
            power_off()
        });
        setup::apply(&boot, |what| wire.tell(&Event::Doing(what)))?;
        Ok(boot)
    });
    let boot = match prepared {
        Ok(boot) => boot,
        Err(reason) => {
            wire.tell(&Event::Failed(reason));
            wire.drain();
            return Ok(());
        }
    };
    let jobs = Jobs::new(wire.clone(), boot.init);
    let heard = Arc::new(Mutex::new(Instant::now()));
    watch(heard.clone());
    wire.tell(&Event::Ready);
    while let Some(request) = receive(&mut requests).map_err(|error| format!("{CONTROL}: {error}"))? {
        *heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        match request {
            Request::Start { job, command } => jobs.start(job, &command),
            Request::Signal { job, signal } => jobs.signal(job, signal),
            Request::Alive => {}
            Request::Off => break,
        }
    }
    jobs.end();
    // Complaints of the kernel about the removal belong to the run. A test may have removed the device itself, so the result
    // is ignored; a removal that hangs is reported by the host, which waits in vain.
    for link in &boot.links {
        wire.tell(&Event::Doing(format!("removing {}", link.name)));
        let _ = setup::remove_link(&link.name);
    }
    wire.tell(&Event::Bye);
    wire.drain();
    Ok(())
}

/// Powers the guest off when its host has been silent for a minute, so that no abandoned guest keeps running.
fn watch(heard: Arc<Mutex<Instant>>) {
    spawn(move || {
        loop {
            sleep(HEARTBEAT);
            let silence = heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
            if silence > HEARTBEAT * 6 {
                eprintln!("rdma-lab-guest: nothing from the host for {} s", silence.as_secs());
                power_off()
            }
        }
    });
}

fn open_control() -> Result<(Wire, BufReader<File>), String> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(CONTROL)
        .map_err(|error| format!("{CONTROL}: {error}; the kernel needs CONFIG_SERIAL_8250"))?;
    let mut settings = tcgetattr(&file).map_err(|errno| format!("{CONTROL}: {errno}"))?;
    cfmakeraw(&mut settings);
    cfsetspeed(&mut settings, BaudRate::B115200).map_err(|errno| format!("{CONTROL}: {errno}"))?;
    tcsetattr(&file, SetArg::TCSANOW, &settings).map_err(|errno| format!("{CONTROL}: {errno}"))?;
    let reader = file.try_clone().map_err(|error| format!("{CONTROL}: {error}"))?;
    Ok((Wire(Arc::new(Mutex::new(file))), BufReader::new(reader)))
}

fn power_off() -> ! {
    loop {
        // There is nothing else to try.
        let _ = reboot(RebootMode::RB_POWER_OFF);
        sleep(Duration::from_secs(1));
    }
}
