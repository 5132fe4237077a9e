//! Checks in guests that are booted for the first one that is wanted.

use std::time::Instant;

use super::Arguments;
use crate::Result;
use crate::progress::human;
use crate::tally::Tally;
use crate::vm::{Guests, Kernel, Run, Vm};

/// The checks of one boot.
pub(super) struct Checks<'a> {
    vm: &'a Vm,
    arguments: &'a Arguments,
    /// What the names of the checks begin with.
    pub(super) place: &'a str,
    pub(super) kernel: &'a Kernel,
    booted: Booted,
    tally: Tally,
    started: Instant,
}

enum Booted {
    NotYet,
    Yes(Guests),
    /// They did not start, which is a failure and counted.
    Never,
}

impl<'a> Checks<'a> {
    pub(super) fn new(vm: &'a Vm, kernel: &'a Kernel, place: &'a str, arguments: &'a Arguments) -> Self {
        Self {
            vm,
            arguments,
            place,
            kernel,
            booted: Booted::NotYet,
            tally: Tally::default(),
            started: Instant::now(),
        }
    }

    /// Runs and counts a check, unless the command line names others.
    pub(super) fn check(&mut self, name: &str, run: impl FnOnce(&Guests) -> Result<()>) {
        self.with_guests(name, |guests, name, tally| tally.check(name, run(guests)));
    }

    /// The same for a check that has parts.
    pub(super) fn part(&mut self, name: &str, run: impl FnOnce(&Guests) -> Result<Tally>) {
        self.with_guests(name, |guests, name, tally| super::part(tally, name, || run(guests)));
    }

    fn with_guests(&mut self, name: &str, run: impl FnOnce(&Guests, &str, &mut Tally)) {
        let name = format!("{}: {name}", self.place);
        if !self.arguments.wants(&name) {
            return;
        }
        if let Booted::NotYet = self.booted {
            self.booted = self.vm.boot().map_or_else(
                |error| {
                    self.tally.fail(format!("{}: {error}", self.place));
                    Booted::Never
                },
                Booted::Yes,
            );
        }
        if let Booted::Yes(guests) = &self.booted {
            run(guests, &name, &mut self.tally);
        }
    }

    /// Nothing that a program has made may be left in the kernel.
    pub(super) fn nothing_is_left(&mut self, nodes: usize) {
        const KINDS: [&str; 6] = ["qp", "cq", "mr", "pd", "srq", "cm_id"];
        self.check("nothing is left in the kernel", |guests| {
            for (node, kind) in (1..=nodes).flat_map(|node| KINDS.map(|kind| (node, kind))) {
                let list = guests.node(node).run(Run::new(["rdma", "resource", "show", kind]))?.ok()?.text();
                // What is the kernel's own has its module's name in place of a process's number.
                if let Some(left) = list.lines().find(|line| line.contains(" pid ")) {
                    return Err(format!("guest {node}: {kind}: {left}"));
                }
            }
            Ok(())
        });
    }

    /// Shuts the guests down, whose kernels' logs and emulator's exit code count too.
    pub(super) fn finish(self) -> Result<Tally> {
        let place = self.place;
        Ok(self.finish_with(|ended, tally| {
            if let Err(error) = ended {
                tally.fail(format!("{place}: {error}"));
            }
        }))
    }

    /// The same, when something else than a good end may be due.
    pub(super) fn finish_with(mut self, judge: impl FnOnce(Result<()>, &mut Tally)) -> Tally {
        let Booted::Yes(guests) = self.booted else { return self.tally };
        judge(guests.shutdown(), &mut self.tally);
        println!("{}: {} ({})", self.place, self.tally, human(self.started.elapsed()));
        self.tally
    }
}
