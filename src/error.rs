//! One error type: what was tried, on what, what came back, and what probably mends it.

use std::borrow::Cow;
use std::fmt;

use nix::errno::Errno;

/// The result of every fallible call of this crate that is not on the data path.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation.
///
/// Its [`Display`](fmt::Display) form is one line: the operation, the object it was tried on, the cause
/// (with the errno's name where the kernel gave one), and a hint where the likely mend is known.
pub struct Error(Box<Inner>);

struct Inner {
    operation: &'static str,
    object: String,
    cause: Cause,
    hint: Option<Cow<'static, str>>,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The kernel refused with this errno.
    Os(Errno),
    /// The thing asked for does not exist.
    NotFound(Cow<'static, str>),
    /// The kernel, the device or this crate cannot do it.
    Unsupported(Cow<'static, str>),
    /// An argument is out of range or contradicts another.
    Invalid(Cow<'static, str>),
    /// The kernel, the device or a peer answered something that makes no sense.
    BadAnswer(Cow<'static, str>),
    /// The peer, or the machine where none was found, does not want it.
    Refused(Cow<'static, str>),
}

impl Error {
    /// An error of `operation` on `object` with `cause`.
    pub(crate) fn new(operation: &'static str, object: impl Into<String>, cause: Cause) -> Self {
        Self(Box::new(Inner { operation, object: object.into(), cause, hint: None }))
    }

    /// The kernel's errno for `operation` on `object`.
    pub(crate) fn os(operation: &'static str, object: impl Into<String>, errno: Errno) -> Self {
        Self::new(operation, object, Cause::Os(errno))
    }

    /// An argument that cannot be taken.
    pub(crate) fn invalid(
        operation: &'static str,
        object: impl Into<String>,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(operation, object, Cause::Invalid(why.into()))
    }

    /// An answer that cannot be believed.
    pub(crate) fn bad_answer(
        operation: &'static str,
        object: impl Into<String>,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(operation, object, Cause::BadAnswer(why.into()))
    }

    /// Says what probably mends it; the first hint given stays.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint.get_or_insert(hint.into());
        self
    }

    /// The verb or step that failed, such as `create_qp`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// What it was tried on, such as a device name or a path.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.0.object
    }

    /// Why it failed.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// What probably mends it.
    #[must_use]
    pub fn mend(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The kernel's errno, where the kernel was the one to refuse.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self.0.cause {
            Cause::Os(errno) => Some(errno),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, object, cause, hint } = &*self.0;
        f.write_str(operation)?;
        if !object.is_empty() {
            write!(f, " on {object}")?;
        }
        match cause {
            Cause::Os(errno) => write!(f, ": {} ({errno:?})", errno.desc())?,
            Cause::NotFound(why)
            | Cause::Unsupported(why)
            | Cause::Invalid(why)
            | Cause::BadAnswer(why)
            | Cause::Refused(why) => write!(f, ": {why}")?,
        }
        match hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({self})")
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.cause() {
            Cause::Os(errno) => std::io::Error::from_raw_os_error(*errno as i32).kind(),
            Cause::NotFound(_) => std::io::ErrorKind::NotFound,
            Cause::Unsupported(_) => std::io::ErrorKind::Unsupported,
            Cause::Invalid(_) => std::io::ErrorKind::InvalidInput,
            Cause::BadAnswer(_) => std::io::ErrorKind::InvalidData,
            Cause::Refused(_) => std::io::ErrorKind::ConnectionRefused,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_operation_object_errno_and_fix() {
        let e = Error::os("open", "/dev/infiniband/uverbs0", Errno::EACCES).hint("try root");
        assert_eq!(e.to_string(), "open on /dev/infiniband/uverbs0: Permission denied (EACCES); try root");
        assert_eq!(e.errno(), Some(Errno::EACCES));
    }
}
