//! The error type of this crate.

use std::borrow::Cow;
use std::fmt;

use nix::errno::Errno;

/// The result of fallible calls, except of posting, which returns a [`PostError`](crate::PostError).
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation.
///
/// `Display` prints one line: the operation, the object, the cause (with the name of the errno, if the kernel returned one) and,
/// if the likely fix is known, a hint:
///
/// ```text
/// open on /dev/infiniband/uverbs0: Permission denied (EACCES); is the user in the group of the file?
/// ```
///
/// [`kind`](Self::kind) tells an error of the kernel from one that this crate found; [`raw_os_error`](Self::raw_os_error) tells
/// the kernel's errors apart. A node without permission is `EACCES`, a missing node `ENOENT`, a denied device access (such as by a
/// cgroup) `EPERM`; a device that does not exist is [`ErrorKind::NotFound`] without an errno.
pub struct Error(Box<Inner>);

struct Inner {
    operation: &'static str,
    object: String,
    cause: Cause,
    hint: Option<Cow<'static, str>>,
}

/// Category of an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The kernel returned an error; [`Error::raw_os_error`] returns its errno.
    Os,
    /// The requested object does not exist.
    NotFound,
    /// The kernel, the device or this crate does not support the operation.
    Unsupported,
    /// An argument is out of range or contradicts another one.
    InvalidInput,
    /// The kernel, the device or a peer sent an answer that makes no sense.
    InvalidData,
    /// The peer rejected the connection, or nothing listens there.
    ConnectionRefused,
}

/// Why an operation failed, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The kernel returned this errno.
    Os(Errno),
    /// [`ErrorKind::NotFound`]
    NotFound(Cow<'static, str>),
    /// [`ErrorKind::Unsupported`]
    Unsupported(Cow<'static, str>),
    /// [`ErrorKind::InvalidInput`]
    Invalid(Cow<'static, str>),
    /// [`ErrorKind::InvalidData`]
    BadAnswer(Cow<'static, str>),
    /// [`ErrorKind::ConnectionRefused`]
    Refused(Cow<'static, str>),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(errno) => write!(f, "{} ({errno:?})", errno.desc()),
            Self::NotFound(why)
            | Self::Unsupported(why)
            | Self::Invalid(why)
            | Self::BadAnswer(why)
            | Self::Refused(why) => f.write_str(why),
        }
    }
}

impl Error {
    /// Creates an error of `operation` on `object`.
    pub(crate) fn new(operation: &'static str, object: impl Into<String>, cause: Cause) -> Self {
        Self(Box::new(Inner { operation, object: object.into(), cause, hint: None }))
    }

    /// Creates an error from the kernel's errno.
    pub(crate) fn os(operation: &'static str, object: impl Into<String>, errno: Errno) -> Self {
        Self::new(operation, object, Cause::Os(errno))
    }

    /// Creates an error about an invalid argument.
    pub(crate) fn invalid(
        operation: &'static str,
        object: impl Into<String>,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(operation, object, Cause::Invalid(why.into()))
    }

    /// Creates an error about an invalid answer.
    pub(crate) fn bad_answer(
        operation: &'static str,
        object: impl Into<String>,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(operation, object, Cause::BadAnswer(why.into()))
    }

    /// Adds a hint at the likely fix, unless the error has one already.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint.get_or_insert(hint.into());
        self
    }

    /// Returns the verb or step that failed, such as `create_qp`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// Returns the object of the operation, such as a device name or a path; empty if there is none.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.0.object
    }

    /// Returns the category of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self.0.cause {
            Cause::Os(_) => ErrorKind::Os,
            Cause::NotFound(_) => ErrorKind::NotFound,
            Cause::Unsupported(_) => ErrorKind::Unsupported,
            Cause::Invalid(_) => ErrorKind::InvalidInput,
            Cause::BadAnswer(_) => ErrorKind::InvalidData,
            Cause::Refused(_) => ErrorKind::ConnectionRefused,
        }
    }

    /// Returns the kernel's errno, or `None` if the error did not come from the kernel.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.errno().map(|errno| errno as i32)
    }

    /// Returns the cause in words, without operation, object and hint.
    #[must_use]
    pub fn reason(&self) -> String {
        self.0.cause.to_string()
    }

    /// Returns the hint at the likely fix, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Returns the kernel's errno, or `None` if the error did not come from the kernel.
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self.0.cause {
            Cause::Os(errno) => Some(errno),
            _ => None,
        }
    }

    /// Returns the cause.
    pub(crate) fn cause(&self) -> &Cause {
        &self.0.cause
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, object, cause, hint } = &*self.0;
        f.write_str(operation)?;
        if !object.is_empty() {
            write!(f, " on {object}")?;
        }
        write!(f, ": {cause}")?;
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

/// Keeps the whole error as the source; the kind is that of the errno or the nearest one of std.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.0.cause {
            Cause::Os(errno) => Self::from_raw_os_error(errno as i32).kind(),
            Cause::NotFound(_) => Io::NotFound,
            Cause::Unsupported(_) => Io::Unsupported,
            Cause::Invalid(_) => Io::InvalidInput,
            Cause::BadAnswer(_) => Io::InvalidData,
            Cause::Refused(_) => Io::ConnectionRefused,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_operation_object_errno_and_fix() {
        let e = Error::os("open", "/dev/infiniband/uverbs0", Errno::EACCES).with_hint("try root");
        assert_eq!(e.to_string(), "open on /dev/infiniband/uverbs0: Permission denied (EACCES); try root");
        assert_eq!((e.kind(), e.raw_os_error()), (ErrorKind::Os, Some(13)));
        assert_eq!((e.reason(), e.hint()), ("Permission denied (EACCES)".to_owned(), Some("try root")));
        assert_eq!(e.with_hint("another").hint(), Some("try root"), "the first hint stays");
    }

    #[test]
    fn errors_stay_apart() {
        let os = |errno| Error::os("open", "node", errno);
        let absent =
            Error::new("find device", "rxe9", Cause::NotFound("no RDMA device has that name".into()));
        let all = [os(Errno::EACCES), os(Errno::EPERM), os(Errno::ENOENT), absent];
        let told = all.each_ref().map(|e| (e.kind(), e.raw_os_error()));
        assert_eq!(
            told,
            [
                (ErrorKind::Os, Some(libc::EACCES)),
                (ErrorKind::Os, Some(libc::EPERM)),
                (ErrorKind::Os, Some(libc::ENOENT)),
                (ErrorKind::NotFound, None)
            ]
        );
        let [denied, _, missing, absent] = all.map(std::io::Error::from);
        assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
        assert_eq!(absent.to_string(), "find device on rxe9: no RDMA device has that name");
    }
}
