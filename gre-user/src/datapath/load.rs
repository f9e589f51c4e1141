//! Programs given to the kernel's verifier, which gives up when a signal comes: with a long way to verify it happens.

use aya::programs::ProgramError;

/// How often the verifier may be interrupted: libbpf tries 5 times.
const ATTEMPTS: usize = 20;

/// Loads a program, and again where a signal to this process, such as SIGHUP, has interrupted the verifier (`EAGAIN` of `do_check`
/// in the kernel's `verifier.c`).
///
/// # Errors
///
/// If the kernel refuses it, or is interrupted each time.
pub(crate) fn load_patiently<P>(
    program: &mut P,
    load: impl Fn(&mut P) -> Result<(), ProgramError>,
) -> Result<(), ProgramError> {
    again_if(is_interrupted, || load(program))
}

fn is_interrupted(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, .. } if io_error.raw_os_error() == Some(libc::EAGAIN))
}

fn again_if<E>(interrupted: impl Fn(&E) -> bool, mut attempt: impl FnMut() -> Result<(), E>) -> Result<(), E> {
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(error) if interrupted(&error) => {}
            result => return result,
        }
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often it is tried if the first times fail so, and what comes of it.
    fn tries(failures: usize, error: &'static str) -> (usize, Result<(), &'static str>) {
        let mut tried = 0;
        let done = again_if(
            |error| *error == "interrupted",
            || {
                tried += 1;
                if tried > failures { Ok(()) } else { Err(error) }
            },
        );
        (tried, done)
    }

    #[test]
    fn only_what_was_interrupted_is_tried_again() {
        assert_eq!(tries(0, "interrupted"), (1, Ok(())));
        assert_eq!(tries(3, "interrupted"), (4, Ok(())));
        assert_eq!(tries(usize::MAX, "interrupted"), (ATTEMPTS, Err("interrupted")));
        assert_eq!(tries(1, "refused"), (1, Err("refused")));
    }
}
