//! How a command ends when it does not succeed.

use std::fmt;

use crate::config::ConfigError;

/// Why a command stopped. Displayed as one line: what, where, and the remedy.
#[derive(Debug)]
pub enum Error {
    /// Wrong arguments: exit status 2.
    Usage(String),
    /// Wrong configuration: exit status 2.
    Config(ConfigError),
    /// Everything else: exit status 1.
    Failed(anyhow::Error),
    /// Whoever read standard output has gone, so nobody is left to tell: exit status 0.
    ClosedPipe,
}

impl Error {
    /// The process's exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => 2,
            Self::Failed(_) => 1,
            Self::ClosedPipe => 0,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) => f.write_str(message),
            Self::Config(error) => error.fmt(f),
            // The alternate form has the causes on the same line.
            Self::Failed(error) => write!(f, "{error:#}"),
            Self::ClosedPipe => f.write_str("standard output was closed"),
        }
    }
}

impl std::error::Error for Error {}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}
