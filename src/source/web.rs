//! A source that JavaScript provides: Blob, ranged HTTP or a one-shot stream (`pkg/src/source.ts`).

use super::ByteSource;
use crate::{Error, Result};
use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// `{ size?: number, read(offset: number, length: number): Promise<Uint8Array> }`; fewer bytes than asked for only at the end.
    pub type JsSource;

    #[wasm_bindgen(method, getter)]
    fn size(this: &JsSource) -> Option<f64>;

    #[wasm_bindgen(method, catch)]
    async fn read(this: &JsSource, offset: f64, length: f64) -> std::result::Result<JsValue, JsValue>;
}

pub struct WebSource(pub JsSource);

impl ByteSource for WebSource {
    fn len(&self) -> Option<u64> {
        self.0.size().map(|n| n as u64)
    }

    async fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let read = self.read_up_to(offset, buf).await?;
        if read != buf.len() {
            let (need, have) = (offset + buf.len() as u64, offset + read as u64);
            return Err(Error::Truncated { what: "a read".into(), need, have });
        }
        Ok(())
    }

    async fn read_up_to(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let chunk = self.0.read(offset as f64, buf.len() as f64).await.map_err(failed)?;
        let chunk: Uint8Array = chunk.dyn_into().map_err(|_| Error::Source("the source returned no bytes".into()))?;
        let n = chunk.length() as usize;
        let part =
            buf.get_mut(..n).ok_or_else(|| Error::Source("the source returned more bytes than asked for".into()))?;
        chunk.copy_to(part);
        Ok(n)
    }
}

fn failed(e: JsValue) -> Error {
    let e = e.dyn_into::<js_sys::Error>().map_or_else(|e| format!("{e:?}"), |e| String::from(e.message()));
    Error::Source(e)
}
