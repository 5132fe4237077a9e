//! The `bareverbs` command line: one binary, every tool, each also under its old name.

mod cli;

/// musl's allocator maps and unmaps a page for nearly every size that a short run asks for; this one maps 64 KiB once.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
