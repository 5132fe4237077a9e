//! `bareverbs completions` and `bareverbs man`: shell completions and man pages, generated from the definition of the
//! command line, so that a node needs only the binary.
//!
//! The C tools' names have theirs too: the options of our tool that the C tool's parser knows.

use std::path::{Path, PathBuf};

use clap::{Args, Command, ValueEnum};
use clap_complete::shells;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::outcome::{Failure, Outcome};
use super::output::{Tool, reason};
use super::{OLD_NAMES, OldName};

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  bareverbs completions bash --out /usr/share/bash-completion/completions
  bareverbs completions zsh --out /usr/local/share/zsh/site-functions
  bareverbs completions fish --out /usr/share/fish/vendor_completions.d
  source <(bareverbs completions bash)    for this shell only";

const MAN_EXAMPLES: &str = "\
Examples:
  bareverbs man --out /usr/local/share/man/man1   every page, those of the old names included
  bareverbs man bareverbs-devinfo | man -l -      one page, without installing it";

/// What `bareverbs completions` takes.
#[derive(Debug, Args)]
#[command(infer_long_args = true, after_help = COMPLETIONS_EXAMPLES)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
    /// A command's name: bareverbs, or an old name
    #[arg(default_value = "bareverbs")]
    name: String,
    /// Write a file for every name into this folder, under the names that the shell looks for
    #[arg(long, value_name = "FOLDER", conflicts_with = "name")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Fish,
    Zsh,
}

/// What `bareverbs man` takes.
#[derive(Debug, Args)]
#[command(infer_long_args = true, after_help = MAN_EXAMPLES)]
pub(crate) struct Manual {
    /// A page: bareverbs, bareverbs-devinfo, an old name, ...
    #[arg(default_value = "bareverbs")]
    page: String,
    /// Write every page into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "page")]
    out: Option<PathBuf>,
}

/// Runs `completions`.
pub(crate) fn completions(tool: &Tool, arguments: &Completions) -> Outcome {
    let made = commands().into_iter().map(|command| complete(arguments.shell, command)).collect();
    deliver(tool, made, &arguments.name, arguments.out.as_deref())
}

/// Runs `man`.
pub(crate) fn manual(tool: &Tool, arguments: &Manual) -> Outcome {
    let mut pages = Vec::new();
    for command in commands() {
        add_pages(&mut pages, &command)?;
    }
    deliver(tool, pages, &arguments.page, arguments.out.as_deref())
}

/// A document of a command, the file that it belongs into, and its text.
struct Document {
    name: String,
    file: String,
    text: Vec<u8>,
}

/// Prints the document of this name, or writes all of them.
fn deliver(tool: &Tool, documents: Vec<Document>, name: &str, out: Option<&Path>) -> Outcome {
    let Some(folder) = out else {
        let Some(document) = documents.iter().find(|document| document.name == name) else {
            let names: Vec<&str> = documents.iter().map(|document| document.name.as_str()).collect();
            let line = format!("there is none for {name:?}; there are: {}", names.join(", "));
            return Err(Failure::new(line).code(Failure::USAGE));
        };
        return tool.print(&String::from_utf8_lossy(&document.text));
    };
    let failed = |path: &Path, error: &std::io::Error| {
        Failure::new(format!("write {}: {}", path.display(), reason(error)))
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    // fish has nothing to be told of a command without options.
    for document in documents.iter().filter(|document| !document.text.is_empty()) {
        let path = folder.join(&document.file);
        std::fs::write(&path, &document.text).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

/// Our command and those that it stands in for.
fn commands() -> Vec<Command> {
    let mut ours = super::command().disable_help_subcommand(true);
    ours.build();
    let old: Vec<Command> = OLD_NAMES.iter().filter_map(|old| in_c(&ours, old)).collect();
    [ours].into_iter().chain(old).collect()
}

/// A C tool, as its options are here.
fn in_c(ours: &Command, old: &OldName) -> Option<Command> {
    let twin = old.twin.iter().try_fold(ours, |command, name| command.find_subcommand(name))?;
    let knows = |argument: &&clap::Arg| {
        argument.is_positional()
            || old.options.iter().any(|option| {
                argument.get_short() == Some(option.letter) || argument.get_long() == Some(option.long)
            })
    };
    let help = format!(
        "This is bareverbs under the name of rdma-core's tool, whose options it takes and whose output it prints; \
         {} has more options.",
        twin.get_bin_name().unwrap_or_default()
    );
    let command = Command::new(old.name)
        .about(twin.get_about().cloned().unwrap_or_default())
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .after_help(help);
    Some(command.args(twin.get_arguments().filter(knows).cloned()))
}

fn complete(shell: Shell, mut command: Command) -> Document {
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    let file = match shell {
        // The name alone is what every version of bash-completion looks for.
        Shell::Bash => name.clone(),
        Shell::Fish => format!("{name}.fish"),
        Shell::Zsh => format!("_{name}"),
    };
    match shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut command, &name, &mut text),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut command, &name, &mut text),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, &name, &mut text),
    }
    Document { name, file, text }
}

/// The pages of a command and of its subcommands.
fn add_pages(pages: &mut Vec<Document>, command: &Command) -> Outcome {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let text = page(command).map_err(|error| Failure::new(format!("page {name}: {}", reason(&error))))?;
    pages.push(Document { file: format!("{name}.1"), name, text });
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .try_for_each(|command| add_pages(pages, command))
}

fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .manual("bareverbs")
        .source(concat!("bareverbs ", env!("CARGO_PKG_VERSION")));
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut out)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    let mut roff = Roff::new();
    if let Some(help) = command.get_after_help() {
        after_help(&mut roff, &help.to_string());
    }
    if command.get_name() == "bareverbs" {
        roff.control("SH", ["EXIT STATUS"]);
        roff.text([roman(
            "0 success, 1 failure, 2 a command line that makes no sense, 130 interrupted. doctor has codes of its own.",
        )]);
    } else {
        roff.control("SH", ["SEE ALSO"]);
        roff.text([bold("bareverbs"), roman("(1)")]);
    }
    out.extend(roff.to_roff().into_bytes());
    Ok(out)
}

/// The text after the options: examples are shown as they are, the rest is filled.
fn after_help(roff: &mut Roff, text: &str) {
    for (at, part) in text.split("\n\n").enumerate() {
        match part.strip_prefix("Examples:\n") {
            Some(examples) => {
                roff.control("SH", ["EXAMPLES"]).control("nf", []);
                for line in examples.lines() {
                    roff.text([roman(line)]);
                }
                roff.control("fi", []);
            }
            None => {
                let _ = if at < 2 { roff.control("SH", ["NOTES"]) } else { roff.control("PP", []) };
                for line in part.lines() {
                    roff.text([roman(line)]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<T>(items: impl IntoIterator<Item = T>, name: impl Fn(T) -> String) -> Vec<String> {
        items.into_iter().map(name).collect()
    }

    #[test]
    fn an_old_name_has_the_c_tool_s_options_and_no_others() {
        let commands = commands();
        for old in OLD_NAMES {
            let command = commands.iter().find(|command| command.get_name() == old.name).unwrap();
            let mut letters: Vec<char> = command.get_arguments().filter_map(clap::Arg::get_short).collect();
            let mut wanted: Vec<char> = old.options.iter().map(|option| option.letter).collect();
            letters.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(letters, wanted, "{}", old.name);
            let longs = names(command.get_opts(), |option| option.get_long().unwrap_or_default().to_owned());
            assert!(!longs.contains(&"json".to_owned()), "{longs:?}");
        }
    }

    #[test]
    fn every_command_has_a_page_and_completions() {
        let mut pages = Vec::new();
        commands().iter().for_each(|command| add_pages(&mut pages, command).unwrap());
        let found = names(&pages, |page| page.name.clone());
        for wanted in
            ["bareverbs", "bareverbs-devinfo", "bareverbs-link-add", "bareverbs-pingpong-rc", "ibv_devinfo"]
        {
            assert!(found.contains(&wanted.to_owned()), "{wanted}: {found:?}");
        }
        for shell in Shell::value_variants() {
            for document in commands().into_iter().map(|command| complete(*shell, command)) {
                assert!(document.file.contains(&document.name));
                assert!(
                    !document.text.is_empty() || document.file == "ibv_devices.fish",
                    "{}",
                    document.file
                );
            }
        }
    }
}
