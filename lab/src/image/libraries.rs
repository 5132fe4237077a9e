//! Dynamically linked programs of the host: what they link to, and how a guest starts them.
//!
//! Their loader and libraries go to a folder of their own, because the C tools bring an older C library to the standard places.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::elf::Elf;
use crate::{Result, process};

/// The guest's folder with the host's loader and libraries.
const FOLDER: &str = "/host/lib";

/// A program of the host, and what a guest needs to start it.
#[derive(Debug, Clone)]
pub struct Linked {
    /// The loader and the libraries: each file's path on the host and in the guest.
    pub files: Vec<(PathBuf, String)>,
    /// The loader and its arguments, which precede the program on its command line. Empty for a static program.
    pub loader: Vec<String>,
}

/// Resolves a program's libraries with the host's own loader.
///
/// # Errors
///
/// The program cannot be read, is for another machine, or needs a library that the host does not have.
pub fn of(program: &Path) -> Result<Linked> {
    let shown = program.display().to_string();
    let bytes = super::read(program)?;
    let elf = Elf::parse(&shown, &bytes)?;
    if !elf.is_x86_64() {
        return Err(format!("{shown}: not for x86_64, which the guests are"));
    }
    let Some(loader) = elf.interpreter() else {
        return Ok(Linked { files: Vec::new(), loader: Vec::new() });
    };
    let mut list = Command::new(&loader);
    let listed = process::output(list.arg("--list").arg(program))
        .map_err(|error| format!("{shown}: its libraries: {error}"))?;
    let mut files = vec![placed(&loader)?];
    for library in listed.lines().filter_map(|line| parse(line).transpose()) {
        let library =
            placed(&library.map_err(|name| format!("{shown}: its library {name} is not installed"))?)?;
        if !files.contains(&library) {
            files.push(library);
        }
    }
    let loader = vec![files[0].1.clone(), "--library-path".into(), FOLDER.into()];
    Ok(Linked { files, loader })
}

/// A library's path on the host and in the guest.
fn placed(path: &Path) -> Result<(PathBuf, String)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| format!("{}: no file name in UTF-8", path.display()))?;
    Ok((path.into(), format!("{FOLDER}/{name}")))
}

/// The file that one line of the loader's list names, if any; the library's name as an error if there is no such file.
fn parse(line: &str) -> std::result::Result<Option<PathBuf>, String> {
    let line = line.trim();
    let (name, found) = line.split_once(" => ").unwrap_or((line, line));
    if found == "not found" {
        return Err(name.to_owned());
    }
    // Neither a static program's line nor the kernel's own library, linux-vdso, has a path.
    let path = found.rsplit_once(" (0x").map_or("", |(path, _)| path);
    Ok(path.starts_with('/').then(|| path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_loaders_list() {
        let libc = "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1234560000)";
        assert_eq!(parse(libc), Ok(Some("/lib/x86_64-linux-gnu/libc.so.6".into())));
        let loader = "\t/lib64/ld-linux-x86-64.so.2 (0x00007f12345a0000)";
        assert_eq!(parse(loader), Ok(Some("/lib64/ld-linux-x86-64.so.2".into())));
        assert_eq!(parse("\tlinux-vdso.so.1 (0x00007ffd123fe000)"), Ok(None));
        assert_eq!(parse("\tstatically linked"), Ok(None));
        assert_eq!(parse("\tlibmissing.so.3 => not found"), Err("libmissing.so.3".into()));
    }

    #[test]
    fn this_test_program_links_to_its_loader() {
        let linked = of(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(linked.loader.is_empty(), linked.files.is_empty());
        assert!(linked.files.iter().all(|(host, guest)| host.is_file() && guest.starts_with(FOLDER)));
    }
}
