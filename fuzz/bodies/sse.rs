//! One execution of the event stream's fuzz target, shared by `fuzz_targets/sse.rs` and `tests/fuzz_sse.rs`: whatever the
//! bytes are, every way to cut them gives the same, an end comes once, and nothing panics.

use kinglet::router::reader::{Item, Reader};
use kinglet::router::sse::EventStream;

/// Whether it was an answer.
pub fn run(bytes: &[u8]) -> bool {
    // The first byte says how the rest is cut.
    let (cut, body) = bytes.split_first().map_or((1, bytes), |(first, rest)| (usize::from(*first), rest));
    let size = 1 + cut % 23;
    assert_eq!(events(body, body.len().max(1)), events(body, size));
    assert_eq!(events(body, body.len().max(1)), events(body, 1));
    let clean = cut % 3 > 0;
    let whole = read(body, body.len().max(1), clean);
    assert_eq!(whole, read(body, size, clean));
    assert_eq!(whole, read(body, 1, clean));
    whole.last() == Some(&Item::Done)
}

fn events(bytes: &[u8], size: usize) -> Vec<String> {
    let mut stream = EventStream::default();
    let mut all: Vec<String> =
        bytes.chunks(size).flat_map(|piece| stream.push(piece)).map(|event| format!("{event:?}")).collect();
    all.extend(stream.finish().map(|event| format!("{event:?}")));
    all
}

fn read(bytes: &[u8], size: usize, clean: bool) -> Vec<Item> {
    let Ok(mut reader) = Reader::new(200, None) else { return Vec::new() };
    let mut items: Vec<Item> = bytes.chunks(size).flat_map(|piece| reader.push(piece)).collect();
    items.extend(reader.end(!clean));
    let ends = items.iter().filter(|item| matches!(item, Item::Done | Item::Fault(_))).count();
    assert_eq!(ends, 1, "{items:?}");
    assert!(matches!(items.last(), Some(Item::Done | Item::Fault(_))), "something follows the end");
    items
}
