//! The event stream's fuzz target under a deterministic mutation fuzzer. `KINGLET_SOAK=1`: a million executions.

#[path = "common/alloc.rs"]
mod alloc;
#[path = "../fuzz/bodies/sse.rs"]
mod body;
#[path = "common/mutate.rs"]
mod mutate;

use mutate::Random;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// What streams are made of, and what breaks them.
const PIECES: [&[u8]; 28] = [
    b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"h\xc3\xa9 \"}}]}\n\n",
    b"data: {\"choices\":[{\"delta\":{\"content\":\"[EMAIL_1]\"},\"finish_reason\":null}]}\r\n\r\n",
    b"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    b"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"banana\"}]}\n\n",
    b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n",
    b"data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]}}]}\n\n",
    b"data: [DONE]\n\n",
    b"data:[DONE] \r\r",
    b"data: {\"error\":{\"code\":500}}\n\n",
    b"event: error\ndata: x\n\n",
    b"id: 7\n",
    b"retry: 99999999999999\n",
    b": comment\n\n",
    b"\xef\xbb\xbf",
    b"data: {",
    b"data",
    b":",
    b"\r",
    b"\n",
    b"\r\n\r\n",
    b"data: \xf0\x9f\x97",
    b"<html>",
    b"{\"choices\":[{\"message\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}",
    b"[",
    b"null",
    b"data: null\n\n",
    b"data: {\"choices\":{\"0\":1},\"usage\":[]}\n\n",
    b"\0\xff\xfe",
];

fn generate(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![random.next() as u8];
    // Mostly streams as they should be.
    let honest = random.below(3) > 0;
    for _ in 0..random.below(12) {
        let piece = if honest { PIECES[random.below(7)] } else { PIECES[random.below(PIECES.len())] };
        bytes.extend_from_slice(piece);
    }
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => drop(bytes.drain(at..(at + random.below(20)).min(bytes.len()))),
            3 => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
            _ => bytes.truncate(at.max(1)),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

#[test]
fn mutated_streams_do_no_harm() {
    let soak = std::env::var_os("KINGLET_SOAK").is_some();
    let executions = if soak { 1_000_000 } else { 20_000 };
    let mut answers = 0;
    for i in 0..executions {
        let bytes = generate(&mut Random::new(0x6b69_6e67_6c65_7402 ^ i));
        let (result, peak) = alloc::peak_of(|| std::panic::catch_unwind(|| body::run(&bytes)));
        // Events as text, twice, and the JSON of each.
        assert!(peak < (64 << 10) + 64 * bytes.len(), "execution {i} held {peak} bytes: {}", bytes.escape_ascii());
        match result {
            Ok(is_answer) => answers += u64::from(is_answer),
            Err(_) => panic!("execution {i} panicked: {}", bytes.escape_ascii()),
        }
    }
    assert!(answers > executions / 10, "only {answers} of {executions} were answers");
    println!("{executions} executions, {answers} answers");
}
