#![no_main]

#[path = "../bodies/sse.rs"]
mod sse;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sse::run(bytes);
});
