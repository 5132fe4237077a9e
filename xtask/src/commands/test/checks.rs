//! Checks in guests that are booted for the first check that is wanted.

use super::{Arguments, Depth};
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
}

enum Booted {
    NotYet,
    Yes(Guests),
    /// They did not start, which has been counted as a failure.
    Never,
}

impl<'a> Checks<'a> {
    pub(super) fn new(vm: &'a Vm, kernel: &'a Kernel, place: &'a str, arguments: &'a Arguments) -> Self {
        Self { vm, arguments, place, kernel, booted: Booted::NotYet, tally: Tally::default() }
    }

    /// How much is checked on this kernel.
    pub(super) fn depth(&self) -> Depth {
        self.arguments.depth(self.kernel)
    }

    /// Runs and counts a check, unless the command line asks for others.
    pub(super) fn check(&mut self, name: &str, run: impl FnOnce(&Guests) -> Result<()>) {
        let verbose = self.arguments.verbose;
        self.with_guests(name, |guests, name, tally| {
            let took = tally.timed(name, || run(guests));
            if verbose {
                println!("{name} ({})", human(took));
            }
        });
    }

    /// Like [`check`](Self::check), for a check that counts its own parts.
    pub(super) fn part(&mut self, name: &str, run: impl FnOnce(&Guests) -> Result<Tally>) {
        self.with_guests(name, |guests, name, tally| super::part(tally, name, || run(guests)));
    }

    /// Like [`part`](Self::part), for a harness that selects the wanted tests itself.
    pub(super) fn suite(&mut self, name: &str, run: impl FnOnce(&Guests) -> Result<Tally>) {
        let name = format!("{}: {name}", self.place);
        self.booted(|guests, tally| super::part(tally, &name, || run(guests)));
    }

    fn with_guests(&mut self, name: &str, run: impl FnOnce(&Guests, &str, &mut Tally)) {
        let name = format!("{}: {name}", self.place);
        if self.arguments.wants(&name) {
            self.booted(|guests, tally| run(guests, &name, tally));
        }
    }

    /// Boots the guests unless they are booted, and does this with them if they started.
    fn booted(&mut self, run: impl FnOnce(&Guests, &mut Tally)) {
        if let Booted::NotYet = self.booted {
            let place = self.place;
            self.booted = Booted::Never;
            let (vm, booted) = (self.vm, &mut self.booted);
            self.tally.timed(&format!("{place}: boot"), || {
                *booted = Booted::Yes(vm.boot()?);
                Ok(())
            });
        }
        if let Booted::Yes(guests) = &self.booted {
            run(guests, &mut self.tally);
        }
    }

    /// Checks that no object of a program is left in the kernel.
    pub(super) fn nothing_is_left(&mut self, nodes: usize) {
        const KINDS: [&str; 6] = ["qp", "cq", "mr", "pd", "srq", "cm_id"];
        self.check("nothing is left in the kernel", |guests| {
            for (node, kind) in (1..=nodes).flat_map(|node| KINDS.map(|kind| (node, kind))) {
                let list = guests.node(node).run(Run::new(["rdma", "resource", "show", kind]))?.ok()?.text();
                // The kernel's own objects have their module's name in place of a process number.
                if let Some(left) = list.lines().find(|line| line.contains(" pid ")) {
                    return Err(format!("guest {node}: {kind}: {left}"));
                }
            }
            Ok(())
        });
    }

    /// Shuts the guests down. Trouble in their kernels' logs and a bad exit of their cards' emulator are failures.
    pub(super) fn finish(self) -> Tally {
        let place = format!("{}: shutdown, kernel log", self.place);
        self.finish_with(|ended, tally| tally.check(&place, ended))
    }

    /// Shuts the guests down; `judge` counts how that ended.
    pub(super) fn finish_with(mut self, judge: impl FnOnce(Result<()>, &mut Tally)) -> Tally {
        if let Booted::Yes(guests) = self.booted {
            judge(guests.shutdown(), &mut self.tally);
        }
        self.tally
    }
}
