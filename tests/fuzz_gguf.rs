//! The GGUF fuzz target under a deterministic mutation fuzzer. `KINGLET_SOAK=1`: a million executions.

#[path = "common/alloc.rs"]
mod alloc;
#[path = "../fuzz/bodies/gguf.rs"]
mod body;
#[path = "common/gguf.rs"]
mod gguf;

use std::path::Path;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

const SEED: u64 = 0x6b69_6e67_6c65_7401;

/// SplitMix64: any seed will do, so that execution i can be run again alone.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// Numbers that break parsers: around zero, powers of two, the file's length, all ones.
    fn hostile(&mut self, len: usize) -> u64 {
        let base = match self.below(5) {
            0 => 0,
            1 => 1u64 << self.below(64),
            2 => len as u64,
            3 => u64::MAX,
            _ => self.next() >> self.below(64),
        };
        base.wrapping_add(self.below(5) as u64).wrapping_sub(2)
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let len = bytes.len();
    // Headers are at the front: half of all mutations go into the first KiB.
    let at = if random.below(2) == 0 { random.below(len.min(1024)) } else { random.below(len) };
    let width = random.below(32).min(len - at);
    match random.below(9) {
        0 if len > 0 => bytes[at] ^= 1 << random.below(8),
        1 if len > 0 => bytes[at] = random.next() as u8,
        2 if len >= at + 4 => bytes[at..at + 4].copy_from_slice(&(random.hostile(len) as u32).to_le_bytes()),
        3 if len >= at + 8 => bytes[at..at + 8].copy_from_slice(&random.hostile(len).to_le_bytes()),
        4 if len >= at + 4 => bytes[at..at + 4].copy_from_slice(&(random.below(16) as u32).to_le_bytes()),
        5 => drop(bytes.drain(at..at + width)),
        6 => {
            let inserted: Vec<u8> = (0..width).map(|_| random.next() as u8).collect();
            bytes.splice(at..at, inserted);
        }
        7 => {
            let (copy, to) = (bytes[at..at + width].to_vec(), random.below(len - width + 1));
            bytes[to..to + width].copy_from_slice(&copy);
        }
        _ => bytes.truncate(at.max(random.below(len))),
    }
}

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
    let soak = std::env::var_os("KINGLET_SOAK").is_some_and(|value| value == "1");
    let executions = if soak { 1_000_000 } else { 20_000 };
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut seeds = vec![gguf::small(2).build(), gguf::small(3).build()];
    seeds.extend((1..=3).map(|i| std::fs::read(fixtures.join(format!("split-{i:05}-of-00003.gguf"))).unwrap()));
    seeds.push(std::fs::read(fixtures.join("formats.gguf")).unwrap());
    let mut accepted = 0;
    for i in 0..executions {
        let mut random = Random(SEED ^ i);
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
