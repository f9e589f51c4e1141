//! Where `run` listens for those who want its metrics.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// What `--listen` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere: no metrics are served.
    Off,
    /// An address and port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Where metrics are served unless `--listen` says otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9470";

const UNIX: &str = "unix:";

impl Listen {
    /// Understands `ADDRESS:PORT`, `[ADDRESS]:PORT`, `unix:/PATH` and `off`.
    ///
    /// # Errors
    ///
    /// If it is none of them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wanted = "expected an address and port such as 127.0.0.1:9470 or [::1]:9470, unix:/PATH, or off";
        if text == "off" {
            return Ok(Self::Off);
        }
        match text.strip_prefix(UNIX) {
            Some(path) if Path::new(path).is_absolute() => Ok(Self::Unix(path.into())),
            Some(_) => Err(wanted.to_owned()),
            None => text.parse().map(Self::Tcp).map_err(|_| wanted.to_owned()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// A socket that is listened on. A socket in the file system goes with it.
#[derive(Debug)]
pub(crate) enum Listener {
    /// On an address and port.
    Tcp(TcpListener),
    /// In the file system.
    Unix(UnixListener, Socket),
}

/// Someone who has connected.
pub(crate) enum Connection {
    /// Over IP.
    Tcp(TcpStream),
    /// Over the file system.
    Unix(UnixStream),
}

/// A socket's file, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        // Nothing is lost if it stays: the next to listen there sees that nobody does.
        fs::remove_file(&self.0).ok();
    }
}

impl Listener {
    /// Begins to listen, in the event loop that this is called in; nowhere if that was asked for.
    ///
    /// # Errors
    ///
    /// If the address is in use, is none of this host's, or the caller may not.
    pub(crate) fn bind(listen: &Listen) -> Result<Option<Self>> {
        let listener = match listen {
            Listen::Off => return Ok(None),
            Listen::Tcp(address) => {
                let listener = bind_tcp(*address).map_err(|error| refusal(listen, &error))?;
                Self::Tcp(listener)
            }
            Listen::Unix(path) => {
                remove_if_dead(listen, path)?;
                let listener = UnixListener::bind(path).map_err(|error| refusal(listen, &error))?;
                Self::Unix(listener, Socket(path.clone()))
            }
        };
        Ok(Some(listener))
    }

    /// Where it listens, as a URL of the metrics. A port that was left to the kernel is the one that it chose.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub(crate) fn url(&self) -> Result<String> {
        Ok(match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr().context("the metrics' address cannot be read")?;
                format!("http://{address}/metrics")
            }
            Self::Unix(_, socket) => format!("{UNIX}{}, path /metrics", socket.0.display()),
        })
    }

    /// Waits for the next to connect.
    pub(crate) async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Connection::Tcp(stream)),
            Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Connection::Unix(stream)),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Removes a socket that nobody listens on any more, as a killed process leaves it; nothing else.
fn remove_if_dead(listen: &Listen, path: &Path) -> Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refusal(listen, &error)),
    };
    if !file.file_type().is_socket() {
        bail!("--listen {listen}: something else is there; choose another path");
    }
    match StdUnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| refusal(listen, &error))
        }
        // Whoever listens there, or may not be asked, is told apart by bind(2).
        _ => Ok(()),
    }
}

fn refusal(listen: &Listen, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::AddrInUse => anyhow!(
            "--listen {listen}: is in use by another process, perhaps another gre-decap; choose another address, or \
             `--listen off`"
        ),
        ErrorKind::AddrNotAvailable => anyhow!("--listen {listen}: is no address of this host; choose one that is"),
        ErrorKind::PermissionDenied => anyhow!("--listen {listen}: permission denied; choose another, or run as root"),
        ErrorKind::NotFound => anyhow!("--listen {listen}: there is no such folder; make it, or choose another path"),
        _ => anyhow!("--listen {listen}: cannot be listened on: {error}; choose another, or `--listen off`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood() {
        for text in [
            "off",
            "127.0.0.1:9470",
            "[::1]:9470",
            "[::]:0",
            "unix:/run/gre-decap/metrics",
        ] {
            assert_eq!(Listen::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "9470",
            "localhost:9470",
            "::1:9470",
            "127.0.0.1",
            "unix:",
            "unix:here",
            "tcp:1.2.3.4:5",
        ] {
            assert!(
                Listen::parse(text).unwrap_err().starts_with("expected an address"),
                "{text}"
            );
        }
    }
}
