//! One execution of the adapters' fuzz target, shared by `fuzz_targets/lora.rs` and `tests/bad_adapters.rs`: whatever the
//! bytes are, a file and a stream tell the same story, what is refused is refused as an adapter, and nothing panics.

use kinglet::ErrorCode;
use kinglet::formats::lora::{AdapterFile, read};
use kinglet::source::MemorySource;
use pollster::block_on;

#[path = "../../tests/common/sources.rs"]
mod sources;

/// Whether the adapter was taken.
pub fn run(bytes: &[u8], config: Option<&str>) -> bool {
    let from_memory = block_on(read(&mut MemorySource(bytes), config));
    let from_stream = block_on(read(&mut sources::Stream::new(bytes), config));
    match (from_memory, from_stream) {
        (Ok(a), Ok(b)) => {
            let bits = |file: &AdapterFile| file.pairs.iter().map(|pair| pair.scale.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&a), bits(&b));
            for pair in &a.pairs {
                assert_eq!(pair.a.rows, pair.b.cols);
                assert_eq!(
                    [pair.a.values().len(), pair.b.values().len()],
                    [pair.a.rows * pair.a.cols, pair.b.rows * pair.b.cols]
                );
            }
            true
        }
        (Err(a), Err(b)) => {
            assert_eq!([a.code(), b.code()], [ErrorCode::BadAdapter; 2], "{a} | {b}");
            false
        }
        (a, b) => panic!("a file and a stream differ: {:?} | {:?}", a.err(), b.err()),
    }
}
