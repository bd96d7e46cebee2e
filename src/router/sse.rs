//! Server-sent events out of bytes that arrive in any pieces; sse-core does the parsing.

use sse_core::{SseDecoder, SseEvent};
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Bytes of one event; a whole answer in one event has to fit.
const LARGEST_EVENT: NonZeroUsize = NonZeroUsize::new(8 << 20).unwrap();

/// One dispatched event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// "message" unless the stream names it.
    pub name: String,
    /// Lines joined by LF; what is not UTF-8 has become U+FFFD.
    pub data: String,
    /// The last `id` that the stream gave: it stays until another one comes.
    pub id: Option<Arc<str>>,
}

/// An event had more than [`LARGEST_EVENT`] bytes and was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// The same events for the same bytes, however they are cut.
#[derive(Clone)]
pub struct EventStream {
    decoder: SseDecoder,
}

impl Default for EventStream {
    fn default() -> Self {
        Self { decoder: SseDecoder::with_limit(LARGEST_EVENT) }
    }
}

impl EventStream {
    /// The events that `bytes` complete.
    pub fn push(&mut self, mut bytes: &[u8]) -> Vec<Result<Message, TooLarge>> {
        let mut messages = Vec::new();
        while let Some(event) = self.decoder.next(&mut bytes) {
            match event {
                Ok(SseEvent::Message(event)) => messages.push(Ok(Message {
                    name: event.event.into_owned(),
                    data: event.data,
                    id: event.last_event_id,
                })),
                // Reconnecting is not for answers: half of one is never continued.
                Ok(SseEvent::Retry(_)) => {}
                Err(_) => messages.push(Err(TooLarge)),
            }
        }
        messages
    }

    /// The event that a clean end of the body leaves without its blank line. The standard drops it; servers send it.
    pub fn finish(&mut self) -> Option<Message> {
        self.push(b"\n\n").pop().and_then(Result::ok)
    }
}
