//! The programs that guests run, built before the first guest boots.

use std::path::PathBuf;
use std::time::Instant;

use super::{Arguments, Part, examples, siw};
use crate::progress::human;
use crate::vm::{Mlx4, Vm};
use crate::{Result, cargo, checker};

/// Programs of this repository, by the names of their targets.
pub(super) struct Programs(Vec<(String, PathBuf)>);

impl Programs {
    /// Builds what the wanted parts need. The Rust programs are built in one go and with the same settings, so that what they share is
    /// built once. `--full` tests the release binary in place of one that is quicker to build.
    pub(super) fn build(arguments: &Arguments) -> Result<Self> {
        let started = Instant::now();
        println!(
            "programs for the guests … the tools, the suite, the examples, the emulator, a checker in C"
        );
        let wants = |parts: &[Part]| parts.iter().any(|part| arguments.wants_part(*part));
        let mut targets = Vec::new();
        if wants(&[Part::Vm, Part::Siw, Part::Nodes, Part::Driver]) && !arguments.full {
            targets.extend(["--bin", "bareverbs"]);
        }
        if wants(&[Part::Vm, Part::Siw, Part::Driver]) {
            targets.extend(["--test", "vm"]);
        }
        if wants(&[Part::Nodes, Part::Driver]) {
            targets.extend(examples::names().flat_map(|name| ["--example", name]));
        }
        if wants(&[Part::Driver, Part::Mlx4, Part::Cards]) {
            targets.extend(["--bin", cargo::EMULATOR]);
        }
        targets.extend(["--bin", cargo::GUEST_INIT]);
        let mut built = cargo::build(&[&["build"], &cargo::GUEST_PACKAGES[..], &targets].concat())?;
        cargo::adopt(&built);
        if arguments.full {
            built.push(("bareverbs".into(), cargo::release_binary()?));
        }
        if wants(&[Part::Driver, Part::Mlx4]) {
            built.push((checker::NAME.into(), checker::build()?));
        }
        // Packages and the emulator: nothing that guests wait for is fetched or built while they run.
        for kernel in arguments.kernels() {
            let vm = Vm::new(kernel).c_tools(true);
            if wants(&[Part::Driver, Part::Mlx4, Part::Cards]) {
                vm.clone().mlx4(Mlx4::default()).prepare()?;
            }
            if wants(&[Part::Vm, Part::Nodes]) {
                vm.prepare()?;
            }
        }
        if wants(&[Part::Siw]) {
            for kernel in siw::kernels(arguments) {
                Vm::new(kernel).siw().c_tools(true).prepare()?;
            }
        }
        println!("programs for the guests: built ({})", human(started.elapsed()));
        Ok(Self(built))
    }

    /// Adds a program to a guest, under its own name in `/bin`.
    pub(super) fn add(&self, vm: Vm, name: &str) -> Result<Vm> {
        let (_, path) = self
            .0
            .iter()
            .find(|(built, _)| built == name)
            .ok_or_else(|| format!("{name} has not been built"))?;
        Ok(vm.file(path, format!("/bin/{name}")))
    }
}
