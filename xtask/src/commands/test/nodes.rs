//! rxe in each of two guests: the pingpongs and rping between them, and the examples in one.

use super::checks::Checks;
use super::programs::Programs;
use super::{Arguments, Work, examples, pingpong, rping};
use crate::Result;
use crate::vm::Vm;

/// Runs it on the first kernel, with `--full` on each.
pub(super) fn suite<'a>(arguments: &'a Arguments, programs: &Programs) -> Result<Vec<Work<'a>>> {
    let mut list = Vec::new();
    for kernel in arguments.first_kernel() {
        let vm = programs.add(Vm::new(kernel.clone()).nodes(2).c_tools(true), "bareverbs")?;
        let vm = examples::add(vm, programs)?;
        let place = format!("nodes {kernel}");
        list.push(Work::new(place.clone(), "pingpong and rping between two guests with rxe", move || {
            let mut checks = Checks::new(&vm, &kernel, &place, arguments);
            pingpong::ours(&mut checks, &pingpong::RXE);
            rping::ours(&mut checks, &rping::WIRE);
            examples::quiet(&mut checks, &examples::RXE);
            checks.nothing_is_left(2);
            Ok(checks.finish())
        }));
    }
    Ok(list)
}
