//! The GGUF fuzz target under a deterministic mutation fuzzer. `KINGLET_SOAK=1`: a million executions.

#[path = "common/alloc.rs"]
mod alloc;
#[path = "../fuzz/bodies/gguf.rs"]
mod body;
#[path = "common/gguf.rs"]
mod gguf;
#[path = "common/mutate.rs"]
mod mutate;

use mutate::{Random, mutate};
use std::path::Path;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

const SEED: u64 = 0x6b69_6e67_6c65_7401;

/// A file of random entries and tensors, mostly honest, so that deeper checks are reached.
fn generate(random: &mut Random) -> Vec<u8> {
    let mut file = gguf::Gguf::new(2 + random.below(2) as u32);
    for i in 0..random.below(6) {
        let key = ["general.alignment", "general.architecture", "split.count", "split.no", "x", "y"][random.below(6)];
        let key = if random.below(4) == 0 { key.to_string() } else { format!("{key}.{i}") };
        let (kind, count) = (random.below(14) as u32, random.below(40));
        let content: Vec<u8> = (0..random.below(80)).map(|_| random.next() as u8).collect();
        file = match random.below(5) {
            0 => file.u32(&key, 1 << random.below(24)),
            1 => file.string(&key, &"ä".repeat(count)),
            2 => file.strings(&key, &vec!["token"; count]),
            3 => file.array(&key, kind, count as u64, content),
            _ => file.entry(&key, kind, content),
        };
    }
    for i in 0..random.below(6) {
        let kind = [0, 1, 2, 3, 6, 7, 8, 10, 12, 13, 14, 30, 40, 99][random.below(14)];
        let columns = [1, 32, 64, 256, 512, 100][random.below(6)];
        let dims = [columns, 1 + random.below(3) as u64, 1, 1];
        let data = vec![random.next() as u8; random.below(3000)];
        file = file.tensor(&format!("t{i}"), &dims[..1 + random.below(4)], kind, data);
    }
    file.build()
}

#[test]
fn mutated_files_do_no_harm() {
    let soak = std::env::var_os("KINGLET_SOAK").is_some();
    let executions = if soak { 1_000_000 } else { 20_000 };
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut seeds = vec![gguf::small(2).build(), gguf::small(3).build()];
    seeds.extend((1..=3).map(|i| std::fs::read(fixtures.join(format!("split-{i:05}-of-00003.gguf"))).unwrap()));
    seeds.push(std::fs::read(fixtures.join("formats.gguf")).unwrap());
    let mut accepted = 0;
    for i in 0..executions {
        let mut random = Random::new(SEED ^ i);
        let mut bytes =
            if random.below(4) == 0 { generate(&mut random) } else { seeds[random.below(seeds.len())].clone() };
        for _ in 0..random.below(4) {
            mutate(&mut bytes, &mut random);
        }
        let (result, peak) = alloc::peak_of(|| std::panic::catch_unwind(|| body::run(&bytes)));
        let hex = || bytes.iter().take(4096).map(|byte| format!("{byte:02x}")).collect::<String>();
        // The reader's pieces, and a few times what the file really has.
        assert!(peak < (320 << 10) + 24 * bytes.len(), "execution {i} held {peak} bytes of {}: {}", bytes.len(), hex());
        match result {
            Ok(ok) => accepted += u64::from(ok),
            Err(_) => panic!("execution {i} panicked: {}", hex()),
        }
    }
    // Some must pass the header, or the checks behind it were never reached.
    assert!(accepted > executions / 20, "only {accepted} of {executions} files were accepted");
    println!("{executions} executions, {accepted} accepted");
}
