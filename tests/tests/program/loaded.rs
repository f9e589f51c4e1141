//! What the kernel says about the loaded program.

use anyhow::{Context, Result};
use gre_user::settings::LogLevel;

use crate::kernel::{Kernel, load_or_return};
use crate::support::frames::CONFIGS;
use crate::support::split::CONFIG;

/// Instructions that the verifier may walk: a fifth of what it gives up at, so that growth shows early.
const MOST_VERIFIED: u32 = 200_000;

#[test]
fn verifies_with_room_to_spare() -> Result<()> {
    load_or_return!();
    for config in CONFIGS.iter().chain([&CONFIG]) {
        let verified = Kernel::load(config)?.info()?.verified_instruction_count();
        let verified = verified.context("the kernel does not tell how much it verified (before 5.16)")?;
        assert!(
            verified < MOST_VERIFIED,
            "{verified} instructions verified, for{config}"
        );
    }
    Ok(())
}

/// What is not logged is not even code.
#[test]
fn log_level_decides_on_what_is_loaded() -> Result<()> {
    load_or_return!();
    let size = |level| {
        let info = Kernel::load_logging(CONFIG, level)?.info()?;
        info.size_translated()
            .context("the kernel does not tell the program's size")
    };
    let (off, info, debug) = (size(LogLevel::Off)?, size(LogLevel::Info)?, size(LogLevel::Debug)?);
    assert_eq!(off, info, "only debugging logs packets");
    assert!(off < debug, "{off} bytes without logging, {debug} with");
    Ok(())
}
