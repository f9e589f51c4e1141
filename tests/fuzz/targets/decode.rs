//! The decoder of sampled packets: any bytes are decoded as far as they go, and shown.
#![no_main]

use gre_user::decode::Decoded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    let _shown = Decoded::of(frame).to_string();
});
