//! One execution of the GGUF fuzz target, shared by `fuzz_targets/gguf.rs` and `tests/fuzz_gguf.rs`: whatever the bytes
//! are, a file and a stream tell the same story, and nothing panics.

use kinglet::formats::{Checkpoint, Value};
use kinglet::model::inspect::{Question, inspect};
use kinglet::source::{ByteSource, MemorySource};
use kinglet::{Error, ErrorCode};
use pollster::block_on;

#[path = "../../tests/common/sources.rs"]
mod sources;

/// Whether the header was accepted.
pub fn run(bytes: &[u8]) -> bool {
    let mut memory = [MemorySource(bytes)];
    let mut stream = [sources::Stream::new(bytes)];
    let from_memory = block_on(Checkpoint::open(&mut memory));
    let from_stream = block_on(Checkpoint::open(&mut stream));
    match (from_memory, from_stream) {
        (Ok(a), Ok(b)) => {
            assert_eq!(a.tensors, b.tensors);
            assert_eq!(a.metadata.iter().count(), b.metadata.iter().count());
            use_values(&a);
            for tensor in &a.tensors {
                let (a, b) = (
                    read(&a, &mut memory, tensor.bytes, &tensor.name),
                    read(&b, &mut stream, tensor.bytes, &tensor.name),
                );
                assert_eq!(a.expect("within the file"), b.expect("within the stream"));
            }
            true
        }
        // A stream's end is not known before its tensors are read.
        (Err(Error::Truncated { .. }), Ok(_)) => false,
        (Err(a), Err(b)) => {
            let not_models = [a.code(), b.code()].map(|code| code == ErrorCode::NotAModel);
            assert_eq!(not_models[0], not_models[1], "{a} | {b}");
            false
        }
        (Ok(_), Err(b)) => panic!("only the stream fails: {b}"),
        (Err(a), Ok(_)) => panic!("the stream does not fail: {a}"),
    }
}

fn read<S: ByteSource>(checkpoint: &Checkpoint, shards: &mut [S], bytes: u64, name: &str) -> kinglet::Result<Vec<u8>> {
    let tensor = checkpoint.tensor(name).expect("a tensor of the list");
    // The header has shown that the file holds this many.
    let mut data = vec![0; bytes as usize];
    block_on(checkpoint.read(shards, tensor, 0, &mut data))?;
    if let Ok(format) = tensor.format() {
        let blocks = (data.len() / format.block_bytes()).min(4);
        let mut out = vec![0.0; blocks * format.block_len()];
        format.dequantize(&data[..blocks * format.block_bytes()], &mut out);
    }
    Ok(data)
}

fn use_values(checkpoint: &Checkpoint) {
    let metadata = &checkpoint.metadata;
    for (key, value) in metadata.iter() {
        let gets = [
            metadata.string(key).is_ok(),
            metadata.bool(key).is_ok(),
            metadata.f32(key).is_ok(),
            metadata.strings(key).is_ok(),
            metadata.ints(key).is_ok(),
            metadata.floats(key).is_ok(),
        ];
        let fits = gets.iter().filter(|ok| **ok).count();
        assert_eq!(fits, usize::from(!matches!(value, Value::Bools(_))), "{key}");
        if let Value::Strings(strings) = value {
            assert_eq!(strings.iter().count(), strings.len());
        }
        assert!(metadata.u32(key).is_err() || metadata.f32(key).is_ok());
    }
    let question = Question { context_length: Some(usize::MAX), ..Question::default() };
    assert!(inspect(checkpoint, &question).to_string().contains("supported"));
}
