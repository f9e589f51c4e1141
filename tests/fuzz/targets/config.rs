//! The parser of the configuration file: any text is taken, or refused with one line that says where.
#![no_main]

use gre_user::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = Config::from_str(text, "fuzz") {
        let line = error.to_string();
        assert!(line.starts_with("fuzz") && line.len() > "fuzz: ".len(), "{line:?}");
        assert_eq!(line.lines().count(), 1, "{line:?}");
    }
});
