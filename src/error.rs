//! The one error type, and how it maps to exit codes.
//!
//! Every message says what went wrong, where, what was expected and what to do about it; it is one paragraph without a trailing full stop
//! requirement and without the word "error", because the command line adds that.

/// What can go wrong, sorted by who can mend it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input is at fault: a flag, a file, a field. Exit code 2.
    #[error("{0}")]
    Input(String),
    /// The machine is at fault: no adapter, out of memory, device lost, disk full. Exit code 3.
    #[error("{0}")]
    Environment(String),
    /// Training produced a non-finite number. Exit code 4.
    #[error("{0}")]
    Diverged(String),
    /// A self-test found a wrong result. Exit code 1.
    #[error("{0}")]
    SelfTest(String),
    /// The run was stopped by Ctrl-C or SIGTERM, after its checkpoint was written. Exit code 130.
    #[error("{0}")]
    Interrupted(String),
    /// A defect in Ganymede itself: an op without a gradient rule, a plan that breaks its own invariants. Exit code 1.
    #[error("{0} (this is a defect in ganymede; please report it)")]
    Internal(String),
}

impl Error {
    /// The process exit code for this error.
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::SelfTest(_) | Error::Internal(_) => 1,
            Error::Input(_) => 2,
            Error::Environment(_) => 3,
            Error::Diverged(_) => 4,
            Error::Interrupted(_) => 130,
        }
    }

    /// Shorthand for [`Error::Input`].
    pub fn input(message: impl Into<String>) -> Self {
        Error::Input(message.into())
    }

    /// Shorthand for [`Error::Environment`].
    pub fn environment(message: impl Into<String>) -> Self {
        Error::Environment(message.into())
    }

    /// Shorthand for [`Error::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Error::Internal(message.into())
    }
}

/// `std::result::Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
