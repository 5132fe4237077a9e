//! Our command line: `bareverbs`, a tool's name, and for some families one word more.
//!
//! Tools stand in a table and not in an enum that derives clap's traits: of such an enum the compiler makes one function, in
//! which every tool's definition is expanded into all the others'.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command, FromArgMatches};

use super::outcome::{Failure, Outcome};
use super::output::{Manner, Tool};

/// A word of the command line, and what it stands for.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// What it does, in a line.
    pub(crate) about: &'static str,
    pub(crate) is: Is,
}

/// What a word stands for.
pub(crate) enum Is {
    /// A tool.
    Tool {
        /// Adds what it takes.
        takes: fn(Command) -> Command,
        /// Runs it with what it was given.
        run: fn(&Tool, ArgMatches) -> Outcome,
    },
    /// Several tools, one of which is named by the next word.
    Family(&'static [Entry]),
}

/// Adds a table to a command.
pub(crate) fn with(command: Command, entries: &[Entry]) -> Command {
    let tools = entries.iter().map(|entry| {
        let command = Command::new(entry.name);
        let command = match entry.is {
            Is::Tool { takes, .. } => takes(command),
            Is::Family(entries) => with(command, entries),
        };
        // Last: a structure of arguments says in its documentation what it is, which clap takes for this.
        command.about(entry.about)
    });
    command.subcommand_required(true).arg_required_else_help(true).subcommands(tools)
}

/// Runs a tool with its structure of arguments, made of what it was given.
pub(crate) fn call<A: FromArgMatches>(
    tool: &Tool,
    mut given: ArgMatches,
    run: fn(&Tool, &A) -> Outcome,
) -> Outcome {
    match A::from_arg_matches_mut(&mut given) {
        Ok(arguments) => run(tool, &arguments),
        Err(error) => unparsed(tool, &error),
    }
}

/// Runs the tool of the table that the command line asks for.
pub(crate) fn main(command: Command, entries: &[Entry], arguments: &[OsString]) -> ExitCode {
    let name = command.get_name().to_owned();
    let first = arguments.get(1).and_then(|first| command.find_subcommand(first));
    let named = first.map_or(name.clone(), |first| format!("{name} {}", first.get_name()));
    match command.try_get_matches_from(arguments) {
        Ok(matches) => run(name, entries, matches),
        Err(error) => {
            let tool = Tool::new(named, Manner::Ours);
            tool.conclude(unparsed(&tool, &error))
        }
    }
}

/// The entry of the table that was chosen, and what it was given.
pub(crate) fn chosen<'e>(entries: &'e [Entry], matches: &mut ArgMatches) -> Option<(&'e Entry, ArgMatches)> {
    let (word, given) = matches.remove_subcommand()?;
    entries.iter().find(|entry| entry.name == word).map(|entry| (entry, given))
}

fn run(name: String, entries: &[Entry], mut matches: ArgMatches) -> ExitCode {
    let Some((entry, given)) = chosen(entries, &mut matches) else {
        let tool = Tool::new(name, Manner::Ours);
        return tool.conclude(Err(no_command(&tool)));
    };
    let name = format!("{name} {}", entry.name);
    match entry.is {
        Is::Tool { run, .. } => {
            let tool = Tool::new(name, Manner::Ours);
            tool.conclude(run(&tool, given))
        }
        Is::Family(entries) => self::run(name, entries, given),
    }
}

fn no_command(tool: &Tool) -> Failure {
    Failure::new(format!("no command; try: {} --help", tool.name())).code(Failure::USAGE)
}

/// What clap has to say instead of arguments: the help that was asked for, or a refusal, which becomes one line.
fn unparsed(tool: &Tool, error: &clap::Error) -> Outcome {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => tool.print(&text),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Err(no_command(tool)),
        _ => {
            let first = text.split("\n\n").next().unwrap_or_default();
            let words: Vec<&str> = first.trim_start_matches("error: ").split_whitespace().collect();
            let line = format!("{}; try: {} --help", words.join(" "), tool.name());
            Err(Failure::new(line).code(Failure::USAGE))
        }
    }
}
