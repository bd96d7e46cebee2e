//! Bad GGUF files: each kind has its own error, says where, and allocates no more than the file's size class.

#[path = "common/alloc.rs"]
mod alloc;
#[path = "common/gguf.rs"]
mod gguf;
#[path = "common/sources.rs"]
mod sources;

use gguf::{ARRAY, Gguf, STRING, U32, small};
use kinglet::formats::Checkpoint;
use kinglet::source::MemorySource;
use kinglet::{Error, ErrorCode};
use pollster::block_on;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// The error from a source that knows its length and from a stream that does not: both are of one kind.
fn error(bytes: &[u8]) -> Error {
    let (error, peak) = alloc::peak_of(|| block_on(Checkpoint::open(&mut [MemorySource(bytes)])).err());
    let error = error.expect("a bad file was accepted");
    // A piece of 64 KiB, its growth, and a few times what was read of a file this small.
    assert!(peak < (256 << 10) + 16 * bytes.len(), "{error}: {peak} bytes for a file of {}", bytes.len());
    let (streamed, peak) = alloc::peak_of(|| block_on(Checkpoint::open(&mut [sources::Stream::new(bytes)])).err());
    assert!(peak < (256 << 10) + 16 * bytes.len(), "{error}: {peak} bytes for a stream of {}", bytes.len());
    if let Some(streamed) = streamed {
        assert_eq!(streamed.code(), error.code(), "{streamed} | {error}");
    }
    error
}

#[track_caller]
fn assert_not_a_model(bytes: &[u8], words: &str) {
    let error = error(bytes);
    assert_eq!(error.code(), ErrorCode::NotAModel, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[track_caller]
fn assert_corrupt(file: Gguf, words: &str) {
    let error = error(&file.build());
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains(words), "{error}");
}

#[track_caller]
fn assert_truncated(file: &[u8], section: &str) {
    match error(file) {
        Error::Truncated { what, need, have } => {
            assert!(what.contains(section), "{what}");
            assert!(need > have && have == file.len() as u64, "{need} {have}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn other_files_are_called_by_their_name() {
    assert_not_a_model(b"", "it is empty");
    assert_not_a_model(b"<!DOCTYPE html><html><head><title>404</title>", "HTML page");
    assert_not_a_model(b"\n  <html lang=\"en\">", "HTML page");
    assert_not_a_model(b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", "XML or HTML");
    assert_not_a_model(b"{\"error\":\"Repository not found\"}", "Repository not found");
    assert_not_a_model(b"Entry not found", "\"Entry not found\"");
    assert_not_a_model(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git-lfs pointer");
    assert_not_a_model(b"PK\x03\x04\x00\x00\x08\x08archive/data.pkl", "zip archive");
    assert_not_a_model(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "pickle");
    assert_not_a_model(b"\x58\x02\0\0\0\0\0\0{\"__metadata__\":{}}", "safetensors");
    assert_not_a_model(b"tjgg\x03\0\0\0", "GGJT");
    assert_not_a_model(b"fmgg\x01\0\0\0", "GGMF");
    assert_not_a_model(b"lmgg\0\x7d\0\0", "ggml");
    assert_not_a_model(b"algg\x01\0\0\0", "adapter");
    assert_not_a_model(b"\x1f\x8b\x08\0", "gzip");
    assert_not_a_model(&[0xde, 0xad, 0xbe, 0xef, 0, 1, 2, 3], "de ad be ef 00 01 02 03");
    assert_not_a_model(&[0; 4096], "00 00 00 00");
    assert_not_a_model(b"GGML", "text");
}

#[test]
fn other_versions_and_byte_orders_are_named() {
    assert_not_a_model(&small(1).build(), "version 1");
    assert_not_a_model(&small(0).build(), "version is 0");
    assert_not_a_model(&small(4).build(), "version is 4");
    assert_not_a_model(&small(3u32.swap_bytes()).build(), "big-endian");
    assert_not_a_model(b"FUGG\0\0\0\x03", "big-endian");
}

/// At every byte of the header and of the data: never a panic, never a success; the section is named.
#[test]
fn truncation_at_every_byte_is_an_error() {
    for version in [2, 3] {
        let (header, whole) = (small(version).header(), small(version).build());
        assert!(block_on(Checkpoint::open(&mut [MemorySource(&whole)])).is_ok());
        for end in 1..whole.len() {
            let Error::Truncated { what, need, have } = error(&whole[..end]) else {
                panic!("{:?}", error(&whole[..end]))
            };
            assert!(have == end as u64 && need > have && need <= whole.len() as u64, "{what} {need} {have}");
            let section = if end < 24 {
                "the start"
            } else if end < header.len() {
                "the metadata|the tensor list|a list of"
            } else {
                "tensor "
            };
            assert!(
                section.split('|').any(|section| what.contains(section)) || what.contains("metadata of"),
                "{end}: {what}"
            );
        }
    }
}

/// A stream does not know that its tensors are cut off until they are read.
#[test]
fn a_cut_stream_is_truncated_when_the_tensor_is_read() {
    let whole = small(3).build();
    let cut = &whole[..whole.len() - 1];
    let mut stream = [sources::Stream::new(cut)];
    let checkpoint = block_on(Checkpoint::open(&mut stream)).unwrap();
    let last = checkpoint.tensors.last().unwrap();
    let mut bytes = vec![0; last.bytes as usize];
    let error = block_on(checkpoint.read(&mut stream, last, 0, &mut bytes)).unwrap_err();
    let expected = Error::Truncated {
        what: "tensor blk.0.attn_q.weight".into(),
        need: whole.len() as u64,
        have: cut.len() as u64,
    };
    assert_eq!(error, expected);
}

#[test]
fn each_section_is_named() {
    let file = small(3);
    let header = file.header();
    assert_truncated(&header[..10], "the start of the header");
    assert_truncated(&header[..40], "metadata");
    let tokens = header.windows(22).position(|window| window == b"tokenizer.ggml.tokens\x09").unwrap();
    assert_truncated(&header[..tokens + 60], "the metadata value tokenizer.ggml.tokens");
    assert_truncated(&header[..header.len() - 4], "the tensor list");
    assert_truncated(&file.build()[..header.len() + 40], "tensor token_embd.weight");
}

#[test]
fn hostile_counts_are_refused() {
    for count in [1 << 20, 1 << 40, u64::MAX / 13, u64::MAX] {
        assert_truncated(&Gguf { entry_count: Some(count), ..small(3) }.build(), "metadata");
        assert_truncated(&Gguf { tensor_count: Some(count), ..small(3) }.build(), "tensors");
    }
}

#[test]
fn hostile_lengths_are_refused() {
    for len in [1 << 20, 1 << 32, 1 << 62, u64::MAX] {
        let key = Gguf::new(3).entry("x", STRING, len.to_le_bytes()).build();
        assert_truncated(&key, "the metadata value x");
        for kind in [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, STRING] {
            assert_truncated(&Gguf::new(3).array("x", kind, len, [0; 64]).build(), "the metadata value x");
        }
        let inner = [len.to_le_bytes(), [0; 8]].concat();
        assert_truncated(&Gguf::new(3).array("x", STRING, 1, inner).build(), "the metadata value x");
        let mut name = small(3).header();
        let at = name.windows(17).position(|window| window == b"token_embd.weight").unwrap() - 8;
        name[at..at + 8].copy_from_slice(&len.to_le_bytes());
        assert!(matches!(error(&name), Error::Corrupt { what, .. } if what.contains("a tensor name of")));
    }
}

/// A hostile length in a large file that really has many bytes: memory stays within a few times the file.
#[test]
fn large_files_stay_in_their_size_class() {
    let many = vec![0; 4 << 20];
    let bytes = Gguf::new(3).array("x", STRING, u64::from(u32::MAX), &many).build();
    for peak in [
        alloc::peak_of(|| block_on(Checkpoint::open(&mut [MemorySource(&bytes)])).err().unwrap()).1,
        alloc::peak_of(|| block_on(Checkpoint::open(&mut [sources::Stream::new(&bytes)])).err().unwrap()).1,
    ] {
        assert!(peak < 2 * bytes.len(), "{peak} bytes for a file of {}", bytes.len());
    }
}

#[test]
fn bad_values_are_corrupt() {
    assert_corrupt(small(3).entry("x", 13, [0; 8]), "unknown value type 13");
    assert_corrupt(small(3).array("x", 99, 2, [0; 8]), "unknown value type 99");
    let inner = [&4u32.to_le_bytes()[..], &1u64.to_le_bytes(), &[0; 4]].concat();
    assert_corrupt(small(3).array("x", ARRAY, 1, inner), "array of arrays");
    assert_corrupt(small(3).array("x", 10, 1, [255; 8]), "beyond 63 bits");
    assert_corrupt(small(3).u32("llama.block_count", 2), "llama.block_count is there twice");
    let mut key = small(3).build();
    let at = key.windows(7).position(|window| window == b"general").unwrap();
    key[at] = 0xff;
    assert!(matches!(error(&key), Error::Corrupt { what, .. } if what.contains("not UTF-8")));
}

/// Scalar strings that are not UTF-8 do no harm: they are shown with replacement characters.
#[test]
fn a_string_value_may_have_any_bytes() {
    let bytes = small(3).entry("x", STRING, gguf::string(b"a\xffb")).build();
    let checkpoint = block_on(Checkpoint::open(&mut [MemorySource(bytes)])).unwrap();
    assert_eq!(checkpoint.metadata.string("x"), Ok(Some("a\u{fffd}b")));
}

#[test]
fn bad_alignments_are_refused() {
    for alignment in [0, 3, 48, 1 << 21, u32::MAX] {
        let error = error(&Gguf::new(3).u32("general.alignment", alignment).build());
        assert!(matches!(&error, Error::Metadata { key, .. } if key == "general.alignment"), "{error:?}");
    }
    let text = error(&Gguf::new(3).string("general.alignment", "32").build());
    assert!(matches!(text, Error::Metadata { .. }));
    let aligned = Gguf { alignment: 4096, ..Gguf::new(3) }.u32("general.alignment", 4096);
    let aligned = aligned.tensor("a", &[1], 0, [7; 4]).tensor("b", &[1], 0, [8; 4]).build();
    let checkpoint = block_on(Checkpoint::open(&mut [MemorySource(&aligned)])).unwrap();
    assert_eq!(checkpoint.tensor("b").unwrap().offset, 8192);
}

#[test]
fn bad_shapes_are_corrupt() {
    assert_corrupt(small(3).tensor("x", &[], 0, []), "0 dimensions");
    assert_corrupt(small(3).tensor("x", &[1; 5], 0, []), "5 dimensions");
    assert_corrupt(small(3).tensor("x", &[8, 0], 0, []), "a dimension of 0");
    assert_corrupt(small(3).tensor("x", &[1 << 40, 1 << 40], 0, []), "too many elements");
    assert_corrupt(small(3).tensor("x", &[u64::MAX], 0, []), "too many elements");
    assert_corrupt(small(3).tensor("x", &[1 << 62], 0, []), "too many bytes");
    assert_corrupt(small(3).tensor("x", &[33, 2], 2, []), "33 columns are not whole Q4_0 blocks of 32");
    assert_corrupt(small(3).tensor("x", &[128, 2], 12, []), "128 columns are not whole Q4_K blocks of 256");
    assert_corrupt(small(3).tensor("x", &[128, 2], 11, []), "128 columns are not whole Q3_K blocks of 256");
}

#[test]
fn bad_offsets_are_refused() {
    assert_corrupt(small(3).tensor_at("x", &[8], 0, 33, [0; 32]), "no multiple of 32");
    assert_corrupt(small(3).tensor_at("x", &[8], 0, u64::MAX - 31, []), "its offset is too large");
    assert_truncated(&small(3).tensor_at("x", &[8], 0, (i64::MAX as u64) & !31, []).build(), "tensor x");
    assert_corrupt(small(3).tensor_at("x", &[8], 0, 64, [0; 32]), "overlaps");
    assert_corrupt(
        small(3).tensor_at("output_norm.weight", &[8], 0, 4096, [0; 32]),
        "output_norm.weight is there twice",
    );
    assert_truncated(&small(3).tensor_at("x", &[8], 0, 1 << 30, []).build(), "tensor x");
    assert_truncated(&small(3).tensor_at("x", &[1 << 40], 0, 4096, []).build(), "tensor x");
    let wide = small(3).entry("y", U32, [0; 4]).tensor_at("x", &[8], 0, 1 << 62, []).build();
    assert_truncated(&wide, "tensor x");
}
