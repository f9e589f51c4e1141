//! The configuration file's bytes, never more than any configuration has.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::{ConfigError, MAX_TUNNELS};

/// The longest file that is read, in bytes: 256 for each tunnel of the most that there may be, about twice what one needs.
/// `/dev/zero` or a file named by mistake ends here, and not where memory does.
const LARGEST: u64 = 256 * MAX_TUNNELS as u64;

/// Reads a file, or what comes out of a pipe.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let unreadable = |error: io::Error| ConfigError::unreadable(path, &error);
    let file = File::open(path).map_err(unreadable)?;
    // A regular file's length is known; it may still grow, and others have none.
    if file.metadata().map_err(unreadable)?.len() > LARGEST {
        return Err(too_long(path));
    }
    read_at_most(file, LARGEST)
        .map_err(unreadable)?
        .ok_or_else(|| too_long(path))
}

/// Refuses what holds nothing any more once it was read, as a pipe does: read again, it would be the configuration of an empty file.
///
/// # Errors
///
/// If the path leads to something that is no regular file. That there is nothing is for [`read`] to say.
pub fn check_lasting(path: &Path) -> Result<(), ConfigError> {
    match path.metadata() {
        Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => Err(ConfigError::about(
            path,
            "is no regular file, which can be read again at SIGHUP; name one with --config",
        )),
        _ => Ok(()),
    }
}

/// All that there is, or nothing if that is more than so many bytes.
fn read_at_most(from: impl Read, bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let mut all = Vec::new();
    from.take(bytes + 1).read_to_end(&mut all)?;
    Ok((all.len() as u64 <= bytes).then_some(all))
}

fn too_long(path: &Path) -> ConfigError {
    ConfigError::about(
        path,
        &format!(
            "is longer than {} MiB, which no configuration of at most {MAX_TUNNELS} tunnels needs; name another file with --config",
            LARGEST >> 20
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_as_may_be_and_no_more() {
        let read = |bytes| read_at_most(&b"12345"[..], bytes).expect("memory can be read");
        assert_eq!(read(5), Some(b"12345".to_vec()));
        assert_eq!(read(4), None);
        assert!(matches!(read_at_most(io::repeat(0), 1 << 16), Ok(None)));
    }
}
