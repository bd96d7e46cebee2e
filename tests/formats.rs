//! GGUF headers and dequantization against candle and gguf-py (`fixtures/make_formats.py`).

#[path = "common/gguf.rs"]
mod gguf;
#[path = "common/sources.rs"]
mod sources;

use candle_core::Device;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use candle_core::quantized::{GgmlDType, gguf_file};
use kinglet::formats::gguf::shard_names;
use kinglet::formats::{Checkpoint, Format, Value};
use kinglet::num::half::f16_to_f32;
use kinglet::source::{ByteSource, FileSource, MemorySource};
use kinglet::{Error, Result};
use pollster::block_on;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn open(path: &Path) -> (Checkpoint, [FileSource; 1]) {
    let mut shards = [FileSource::open(path).unwrap()];
    (block_on(Checkpoint::open(&mut shards)).unwrap(), shards)
}

/// A tensor's bytes, read in pieces of `step`.
fn read<S: ByteSource>(checkpoint: &Checkpoint, shards: &mut [S], name: &str, step: usize) -> Result<Vec<u8>> {
    let tensor = checkpoint.tensor(name).unwrap();
    let mut bytes = vec![0; tensor.bytes as usize];
    for (i, piece) in bytes.chunks_mut(step).enumerate() {
        block_on(checkpoint.read(shards, tensor, (i * step) as u64, piece))?;
    }
    Ok(bytes)
}

fn dequantized(format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![f32::NAN; bytes.len() / format.block_bytes() * format.block_len()];
    format.dequantize(bytes, &mut out);
    out
}

fn candle_type(format: Format) -> GgmlDType {
    match format {
        Format::F32 => GgmlDType::F32,
        Format::F16 => GgmlDType::F16,
        Format::BF16 => GgmlDType::BF16,
        Format::Q4_0 => GgmlDType::Q4_0,
        Format::Q4_1 => GgmlDType::Q4_1,
        Format::Q5_0 => GgmlDType::Q5_0,
        Format::Q5_1 => GgmlDType::Q5_1,
        Format::Q8_0 => GgmlDType::Q8_0,
        Format::Q4_K => GgmlDType::Q4K,
        Format::Q5_K => GgmlDType::Q5K,
        Format::Q6_K => GgmlDType::Q6K,
    }
}

fn by_candle(format: Format, bytes: &[u8]) -> Vec<f32> {
    let elements = bytes.len() / format.block_bytes() * format.block_len();
    let tensor = qtensor_from_ggml(candle_type(format), bytes, vec![elements], &Device::Cpu).unwrap();
    tensor.dequantize(&Device::Cpu).unwrap().to_vec1().unwrap()
}

/// Equal bits, but any NaN equals any other and 0 equals -0.
fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(f == e || f.is_nan() && e.is_nan(), "{what}, element {i}: {f:e}, expected {e:e}");
    }
}

#[test]
fn dequantizes_as_gguf_py_does() {
    let (checkpoint, mut shards) = open(&fixture("formats.gguf"));
    for format in Format::ALL {
        let bytes = read(&checkpoint, &mut shards, format.name(), 1000).unwrap();
        let expected = read(&checkpoint, &mut shards, &format!("{}.f32", format.name()), usize::MAX).unwrap();
        assert_eq!(checkpoint.tensor(format.name()).unwrap().format(), Ok(format));
        assert_same(&dequantized(format, &bytes), &dequantized(Format::F32, &expected), format.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Random blocks: any bits, infinite and NaN scales included.
    #[test]
    fn dequantizes_as_candle_does(random in prop::collection::vec(any::<u8>(), 4 * 210)) {
        for format in Format::ALL {
            let bytes = &random[..random.len() / format.block_bytes() * format.block_bytes()];
            assert_same(&dequantized(format, bytes), &by_candle(format, bytes), format.name());
        }
    }
}

#[test]
fn every_half_is_candles() {
    let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for format in [Format::F16, Format::BF16] {
        assert_same(&dequantized(format, &bytes), &by_candle(format, &bytes), format.name());
    }
    assert!((0..=u16::MAX).all(|h| f16_to_f32(h).is_sign_negative() == (h >> 15 == 1)));
}

#[test]
fn sizes_are_those_of_candle() {
    for format in Format::ALL {
        let theirs = candle_type(format);
        assert_eq!((format.block_len(), format.block_bytes()), (theirs.block_size(), theirs.type_size()));
        assert_eq!(Format::from_ggml(format as u32), Some(format));
        assert_eq!(format.row_bytes(512), 512 / theirs.block_size() * theirs.type_size());
    }
}

#[test]
fn reads_every_kind_of_value() {
    let (checkpoint, _) = open(&fixture("formats.gguf"));
    let metadata = &checkpoint.metadata;
    let expected = [
        ("general.architecture", Value::String("llama".into())),
        ("general.name", Value::String("Every format and every kind of value: ä 🐦".into())),
        ("test.u8", Value::Int(255)),
        ("test.i8", Value::Int(-128)),
        ("test.u16", Value::Int(65535)),
        ("test.i16", Value::Int(-32768)),
        ("test.u32", Value::Int(4_294_967_295)),
        ("test.i32", Value::Int(-2_147_483_648)),
        ("test.u64", Value::Uint(u64::MAX)),
        ("test.i64", Value::Int(i64::MIN)),
        ("test.f32", Value::Float(0.15625)),
        ("test.f64", Value::Float(0.1)),
        ("test.true", Value::Bool(true)),
        ("test.false", Value::Bool(false)),
        ("test.ints", Value::Ints(vec![-1, 0, 70000])),
        ("test.floats", Value::Floats(vec![0.5, -2.0])),
        ("test.bools", Value::Bools(vec![true, false, true])),
    ];
    for (key, value) in expected {
        assert_eq!(metadata.get(key), Some(&value), "{key}");
    }
    let strings: Vec<_> = metadata.strings("test.strings").unwrap().unwrap().iter().collect();
    assert_eq!(strings, ["".as_bytes(), "Zaunkönig".as_bytes(), "goldcrest".as_bytes()]);
}

#[test]
fn getters_say_what_does_not_fit() {
    let (checkpoint, _) = open(&fixture("formats.gguf"));
    let metadata = &checkpoint.metadata;
    assert_eq!(metadata.u32("test.u32"), Ok(Some(u32::MAX)));
    assert_eq!(metadata.usize("test.u8"), Ok(Some(255)));
    assert_eq!(metadata.f32("test.f64"), Ok(Some(0.1)));
    assert_eq!(metadata.f32("test.i16"), Ok(Some(-32768.0)));
    assert_eq!(metadata.bool("test.true"), Ok(Some(true)));
    assert_eq!(metadata.ints("test.ints"), Ok(Some(&[-1, 0, 70000][..])));
    assert_eq!(metadata.floats("test.floats"), Ok(Some(&[0.5, -2.0][..])));
    assert_eq!(metadata.string("test.absent"), Ok(None));
    let message = |result: Result<Option<u32>>| result.unwrap_err().to_string();
    assert_eq!(message(metadata.u32("test.i8")), "the file's metadata: test.i8 is -128, expected 0 to 4294967295");
    assert_eq!(
        message(metadata.u32("test.u64")),
        "the file's metadata: test.u64 is 18446744073709551615, expected 0 to 4294967295"
    );
    assert_eq!(
        message(metadata.u32("general.name")),
        "the file's metadata: general.name is a string, expected an integer"
    );
    assert!(matches!(metadata.strings("test.ints"), Err(Error::Metadata { .. })));
    assert!(matches!(metadata.bool("test.u8"), Err(Error::Metadata { .. })));
}

#[test]
fn an_unsupported_type_is_named_when_it_is_loaded() {
    let (checkpoint, mut shards) = open(&fixture("formats.gguf"));
    let tensor = checkpoint.tensor("Q3_K").unwrap();
    assert_eq!((tensor.shape.as_slice(), tensor.bytes), (&[2, 512][..], 440));
    let error = tensor.format().unwrap_err();
    assert_eq!(error, Error::UnsupportedType { tensor: "Q3_K".into(), format: "Q3_K".into() });
    // Its neighbours are not affected.
    assert_eq!(read(&checkpoint, &mut shards, "Q3_K.f32", 64).unwrap().len(), 4096);
    let unknown = gguf::small(3).tensor("x", &[8, 2], 77, [0; 4]).build();
    let checkpoint = block_on(Checkpoint::open(&mut [MemorySource(unknown)])).unwrap();
    assert!(checkpoint.tensor("x").unwrap().format().unwrap_err().to_string().contains("the type number 77"));
}

/// The header as candle reads it.
fn assert_as_candle(path: &Path) {
    let (checkpoint, _) = open(path);
    let theirs = gguf_file::Content::read(&mut std::fs::File::open(path).unwrap()).unwrap();
    assert_eq!(checkpoint.metadata.iter().count(), theirs.metadata.len());
    for (key, value) in checkpoint.metadata.iter() {
        assert_value(value, &theirs.metadata[key], key);
    }
    assert_eq!(checkpoint.tensors.len(), theirs.tensor_infos.len());
    assert!(checkpoint.tensors.windows(2).all(|pair| pair[0].offset + pair[0].bytes <= pair[1].offset));
    for tensor in &checkpoint.tensors {
        let other = &theirs.tensor_infos[&tensor.name];
        assert_eq!(tensor.shape, other.shape.dims(), "{}", tensor.name);
        assert_eq!(tensor.offset, theirs.tensor_data_offset + other.offset, "{}", tensor.name);
        assert_eq!(candle_type(tensor.format().unwrap()), other.ggml_dtype, "{}", tensor.name);
    }
    assert_eq!(checkpoint.file_bytes, std::fs::metadata(path).unwrap().len());
}

fn assert_value(ours: &Value, theirs: &gguf_file::Value, key: &str) {
    use gguf_file::Value as V;
    let all = |len: usize, same: &dyn Fn(usize, &V) -> bool| {
        let theirs = theirs.to_vec().unwrap();
        theirs.len() == len && theirs.iter().enumerate().all(|(i, v)| same(i, v))
    };
    let integer = |v: &V| match *v {
        V::U8(v) => i64::from(v),
        V::I8(v) => i64::from(v),
        V::U16(v) => i64::from(v),
        V::I16(v) => i64::from(v),
        V::U32(v) => i64::from(v),
        V::I32(v) => i64::from(v),
        V::U64(v) => v as i64,
        V::I64(v) => v,
        ref other => panic!("{key}: {other:?}"),
    };
    let same = match ours {
        Value::Bool(b) => theirs.to_bool().unwrap() == *b,
        Value::Int(i) => integer(theirs) == *i,
        Value::Uint(u) => integer(theirs) == *u as i64,
        Value::Float(f) => theirs.to_f32().map_or_else(|_| theirs.to_f64().unwrap(), f64::from) == *f,
        Value::String(s) => theirs.to_string().unwrap() == s,
        Value::Bools(bools) => all(bools.len(), &|i, v| v.to_bool().unwrap() == bools[i]),
        Value::Ints(ints) => all(ints.len(), &|i, v| integer(v) == ints[i]),
        Value::Floats(floats) => all(floats.len(), &|i, v| v.to_f32().unwrap() == floats[i]),
        Value::Strings(strings) => {
            all(strings.len(), &|i, v| v.to_string().unwrap() == &*String::from_utf8_lossy(strings.get(i).unwrap()))
        }
    };
    assert!(same, "{key}");
}

#[test]
fn headers_are_those_of_candle() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    if !data.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", data.display());
        eprintln!("SKIPPED: {} is missing", data.display());
        return;
    }
    let mut seen = 0;
    for folder in ["vocab", "stories260K"] {
        for entry in std::fs::read_dir(data.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "gguf") {
                assert_as_candle(&path);
                seen += 1;
            }
        }
    }
    assert!(seen >= 5, "{seen} files");
}

#[test]
fn versions_2_and_3_are_read_from_memory_file_and_stream() {
    for version in [2, 3] {
        let bytes = gguf::small(version).build();
        let path = std::env::temp_dir().join(format!("kinglet-formats-{}-{version}.gguf", std::process::id()));
        std::fs::write(&path, &bytes).unwrap();
        let (expected, mut file) = open(&path);
        let mut memory = [MemorySource(&bytes)];
        let from_memory = block_on(Checkpoint::open(&mut memory)).unwrap();
        let mut stream = [sources::Stream::new(&bytes)];
        let from_stream = block_on(Checkpoint::open(&mut stream)).unwrap();
        std::fs::remove_file(&path).unwrap();
        for other in [&from_memory, &from_stream] {
            assert_eq!(other.tensors, expected.tensors);
            assert!(other.metadata.iter().eq(expected.metadata.iter()));
            assert_eq!(other.file_bytes, bytes.len() as u64);
        }
        for tensor in &expected.tensors {
            let whole = &bytes[tensor.offset as usize..][..tensor.bytes as usize];
            assert_eq!(read(&expected, &mut file, &tensor.name, 7).unwrap(), whole);
            assert_eq!(read(&from_memory, &mut memory, &tensor.name, 7).unwrap(), whole);
            assert_eq!(read(&from_stream, &mut stream, &tensor.name, 7).unwrap(), whole);
        }
    }
}

/// Larger than a piece of the header's reader: what it read too much of comes from memory, the rest from the stream.
#[test]
fn a_stream_gives_every_byte_once() {
    let tensors: Vec<Vec<u8>> = (0..4u8).map(|i| (0..400_000u32).map(|j| (j % 251) as u8 ^ i).collect()).collect();
    let vocabulary: Vec<String> = (0..9000).map(|i| format!("token number {i}")).collect();
    let vocabulary: Vec<&str> = vocabulary.iter().map(String::as_str).collect();
    let mut file = gguf::small(3).strings("test.vocabulary", &vocabulary);
    for (i, data) in tensors.iter().enumerate() {
        file = file.tensor(&format!("large.{i}"), &[100_000], 0, data);
    }
    let bytes = file.build();
    let mut stream = [sources::Stream::new(&bytes)];
    let checkpoint = block_on(Checkpoint::open(&mut stream)).unwrap();
    assert_eq!(
        checkpoint.metadata.strings("test.vocabulary").unwrap().unwrap().iter().last(),
        Some(&b"token number 8999"[..])
    );
    for (i, data) in tensors.iter().enumerate() {
        assert!(read(&checkpoint, &mut stream, &format!("large.{i}"), 65_521).unwrap() == *data, "tensor {i}");
    }
}

#[test]
fn a_split_model_is_one_checkpoint() {
    let names = shard_names("split-00002-of-00003.gguf").unwrap();
    assert_eq!(names, ["split-00001-of-00003.gguf", "split-00002-of-00003.gguf", "split-00003-of-00003.gguf"]);
    let mut shards: Vec<_> = names.iter().map(|name| FileSource::open(fixture(name)).unwrap()).collect();
    let checkpoint = block_on(Checkpoint::open(&mut shards)).unwrap();
    assert_eq!(checkpoint.metadata.string("general.name"), Ok(Some("split")));
    let all: u64 = names.iter().map(|name| std::fs::metadata(fixture(name)).unwrap().len()).sum();
    assert_eq!(checkpoint.file_bytes, all);
    for i in 0..5 {
        let bytes = read(&checkpoint, &mut shards, &format!("tensor.{i}"), 10).unwrap();
        assert_eq!(dequantized(Format::F32, &bytes), [i as f32; 16]);
        assert_eq!(checkpoint.tensors[i].shard, i / 2);
    }
}

#[test]
fn missing_and_swapped_parts_are_named() {
    let open = |numbers: &[usize]| {
        let part = |i| FileSource::open(fixture(&format!("split-{i:05}-of-00003.gguf"))).unwrap();
        let mut shards: Vec<_> = numbers.iter().map(|&i| part(i)).collect();
        block_on(Checkpoint::open(&mut shards)).err().unwrap().to_string()
    };
    assert_eq!(open(&[2]), "this is part 2 of 3 of a split model; load all 3 files together");
    assert_eq!(open(&[1, 2]), "the model is split into 3 files, but 2 were given");
    assert_eq!(open(&[1, 3, 2]), "file 2 is part 3 of 3; give the parts in the order of their numbers");
    let whole = || MemorySource(gguf::small(3).build());
    let error = block_on(Checkpoint::open(&mut [whole(), whole()])).err().unwrap().to_string();
    assert_eq!(error, "file 1 of 2 is a whole model, not a part of a split one");
    let part = |number: u16, tensor: &str, count: i32| {
        let part = gguf::Gguf::new(3).entry("split.no", 2, number.to_le_bytes()).entry("split.count", 2, [2, 0]);
        let part = part.entry("split.tensors.count", 5, count.to_le_bytes());
        MemorySource(part.tensor(tensor, &[8], 0, [0; 32]).build())
    };
    assert!(block_on(Checkpoint::open(&mut [part(0, "a", 2), part(1, "b", 2)])).is_ok());
    let error = block_on(Checkpoint::open(&mut [part(0, "a", 3), part(1, "b", 3)])).err().unwrap().to_string();
    assert_eq!(error, "the file's metadata: split.tensors.count is 3, but the 2 files have 2 tensors");
    let error = block_on(Checkpoint::open(&mut [part(0, "a", 2), part(1, "a", 2)])).err().unwrap();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[test]
fn shard_names_need_the_exact_pattern() {
    for name in
        ["model.gguf", "m-00000-of-00002.gguf", "m-00003-of-00002.gguf", "m-1-of-2.gguf", "m-00001-of-00002.bin"]
    {
        assert_eq!(shard_names(name), None, "{name}");
    }
    assert_eq!(shard_names("a/b-00001-of-00001.gguf"), Some(vec!["a/b-00001-of-00001.gguf".into()]));
}
