//! `gre-decap`: loads and controls the XDP program that decapsulates GRE.

use std::process::ExitCode;

fn main() -> ExitCode {
    gre_user::cli::main(std::env::args_os())
}
