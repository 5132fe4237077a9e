//! How a tool ends: well, or with an exit code and a line that says why.

/// What a tool's work comes to.
pub(crate) type Outcome = Result<(), Failure>;

/// A bad end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    words: Words,
    code: u8,
    /// What the C tool says first, where it is not said by the line.
    in_c: Option<String>,
}

/// What is left to say.
#[derive(Debug, PartialEq, Eq)]
enum Words {
    /// Nothing: it was said already, or nobody listens.
    Said,
    /// A line, after the tool's name.
    Line(String),
    /// A line as a C tool says it, without a name.
    Bare(String),
}

impl Failure {
    /// The exit code of a command line that makes no sense.
    pub(crate) const USAGE: u8 = 2;
    /// The exit code after an interrupt.
    pub(crate) const INTERRUPTED: u8 = 130;

    /// Says this line after the tool's name and exits with 1.
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self::with(Words::Line(line.into()), 1)
    }

    /// Says this line alone and exits with 1.
    pub(crate) fn bare(line: impl Into<String>) -> Self {
        Self::with(Words::Bare(line.into()), 1)
    }

    /// Says nothing more.
    pub(crate) fn said(code: u8) -> Self {
        Self::with(Words::Said, code)
    }

    fn with(words: Words, code: u8) -> Self {
        Self { words, code, in_c: None }
    }

    /// Exits with this code instead.
    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Says its line without the tool's name, after the C tool's words ([`InC`]), and exits with `code`, as C tools that have
    /// one code for all errors; a quiet end stays what it is.
    pub(crate) fn unnamed(self, code: u8) -> Self {
        match (&self.words, &self.in_c) {
            (Words::Line(line), None) => Self::bare(line).code(code),
            (Words::Line(line), Some(words)) => Self::bare(format!("{words}: {line}")).code(code),
            _ => self,
        }
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        self.code
    }

    /// The whole line for standard error, where there is something to say.
    pub(crate) fn line(&self, name: &str) -> Option<String> {
        match &self.words {
            Words::Said => None,
            Words::Line(line) => Some(format!("{name}: {line}")),
            Words::Bare(line) => Some(line.clone()),
        }
    }
}

/// An error of which the C tool has words of its own.
pub(crate) trait InC<T> {
    /// Under the C tool's name these words come first.
    fn in_c(self, words: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> InC<T> for Result<T, E> {
    fn in_c(self, words: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure { in_c: Some(words.into()), ..error.into() })
    }
}

/// Ends with `code`, whatever became of the output; what is to be said of that is still said.
pub(crate) fn ending(printed: Outcome, code: u8) -> Outcome {
    match printed {
        printed if code == 0 => printed,
        Ok(()) => Err(Failure::said(code)),
        Err(failure) => Err(failure.code(code)),
    }
}

impl From<bareverbs::Error> for Failure {
    fn from(error: bareverbs::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<String> for Failure {
    fn from(line: String) -> Self {
        Self::new(line)
    }
}

impl From<&str> for Failure {
    fn from(line: &str) -> Self {
        Self::new(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_named_and_a_bare_one_is_not() {
        assert_eq!(Failure::new("no").line("tool"), Some("tool: no".to_owned()));
        assert_eq!(Failure::bare("no").code(255).line("tool"), Some("no".to_owned()));
        assert_eq!(Failure::said(4).line("tool"), None);
    }

    #[test]
    fn under_the_old_name_the_c_tool_speaks_first() {
        let failure = || Err::<(), _>("no (EPERM)").in_c("Couldn't do it").unwrap_err();
        assert_eq!(failure().line("tool"), Some("tool: no (EPERM)".to_owned()));
        assert_eq!(failure().unnamed(1).line("tool"), Some("Couldn't do it: no (EPERM)".to_owned()));
        assert_eq!(Failure::new("no").unnamed(255).line("tool"), Some("no".to_owned()));
        assert_eq!(Failure::said(130).unnamed(1), Failure::said(130));
    }

    #[test]
    fn a_reader_that_leaves_does_not_change_a_bad_end() {
        assert_eq!(ending(Ok(()), 0), Ok(()));
        assert_eq!(ending(Err(Failure::said(0)), 4), Err(Failure::said(4)));
        assert_eq!(ending(Err(Failure::new("full")), 4), Err(Failure::new("full").code(4)));
        assert_eq!(ending(Err(Failure::new("full")), 0), Err(Failure::new("full")));
    }
}
