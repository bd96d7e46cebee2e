#![no_main]

#[path = "../bodies/calibration.rs"]
mod calibration;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    calibration::run(bytes);
});
