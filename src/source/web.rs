//! A source that JavaScript provides: HTTP, Blob, memory of the page or a one-shot stream (`pkg/src/source.ts`).

use super::ByteSource;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// The bytes of one file, in order.
    pub type JsSource;

    /// `undefined` while a stream does not know.
    #[wasm_bindgen(method, getter)]
    fn size(this: &JsSource) -> Option<f64>;

    /// The digest that the whole file must have, 64 lower-case hexadecimal digits.
    #[wasm_bindgen(method, getter)]
    fn sha256(this: &JsSource) -> Option<String>;

    /// Writes the next `length` bytes to `address` of this module's memory, so that they are copied once only. Resolves
    /// to their number: fewer than asked for only at the end.
    #[wasm_bindgen(method, catch, js_name = readInto)]
    async fn read_into(this: &JsSource, address: usize, length: usize) -> std::result::Result<JsValue, JsValue>;
}

pub struct WebSource {
    js: JsSource,
    position: u64,
    hash: Option<Sha256>,
}

/// What lies between two reads goes through a buffer of this size.
const SKIP_BYTES: u64 = 256 << 10;

impl WebSource {
    pub fn new(js: JsSource) -> Self {
        let hash = js.sha256().map(|_| Sha256::new());
        Self { js, position: 0, hash }
    }

    /// Reads what is left where a digest was given, and compares. Errors: [`Error::Integrity`].
    pub async fn verify(&mut self) -> Result<()> {
        let Some(expected) = self.js.sha256() else { return Ok(()) };
        self.skip_to(u64::MAX).await?;
        let digest = self.hash.take().expect("verified once").finalize();
        let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        if found == expected { Ok(()) } else { Err(Error::Integrity { expected, found }) }
    }

    async fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let read = self.js.read_into(buf.as_mut_ptr() as usize, buf.len()).await.map_err(failed)?;
        let n = read.as_f64().map(|n| n as usize).filter(|n| *n <= buf.len());
        let n = n.ok_or_else(|| Error::Source("the source returned no number of bytes".into()))?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buf[..n]);
        }
        self.position += n as u64;
        Ok(n)
    }

    /// Stops at the end of the file.
    async fn skip_to(&mut self, offset: u64) -> Result<()> {
        let mut skipped = vec![0; SKIP_BYTES.min(offset - self.position) as usize];
        while self.position < offset {
            let n = SKIP_BYTES.min(offset - self.position) as usize;
            if self.read(&mut skipped[..n]).await? < n {
                break;
            }
        }
        Ok(())
    }
}

impl ByteSource for WebSource {
    fn len(&self) -> Option<u64> {
        self.js.size().map(|n| n as u64)
    }

    async fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let read = self.read_up_to(offset, buf).await?;
        if read != buf.len() {
            let (need, have) = (offset + buf.len() as u64, self.position);
            return Err(Error::Truncated { what: "a read".into(), need, have });
        }
        Ok(())
    }

    async fn read_up_to(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        if offset < self.position {
            return Err(Error::Source(format!("byte {offset} was passed already; a stream cannot go back")));
        }
        self.skip_to(offset).await?;
        if self.position < offset { Ok(0) } else { self.read(buf).await }
    }
}

fn failed(e: JsValue) -> Error {
    let e = e.dyn_into::<js_sys::Error>().map_or_else(|e| format!("{e:?}"), |e| String::from(e.message()));
    Error::Source(e)
}
