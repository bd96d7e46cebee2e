//! The grammar's face to JavaScript, a binary of its own: what a vocabulary says, and a guide for each answer. Errors: the
//! message, as a string.

use crate::Error;
use crate::generate::{Constraint, Mask};
use crate::grammar::{Guide as Inner, Spec, Vocabulary as Tokens};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;
}

/// What crate `instant` asks the time of where there is no system: milliseconds.
#[unsafe(no_mangle)]
extern "C" fn now() -> f64 {
    performance_now()
}

fn failure(error: Error) -> JsValue {
    error.to_string().into()
}

/// One for each model.
#[wasm_bindgen]
pub struct Vocabulary(Tokens);

#[wasm_bindgen]
impl Vocabulary {
    /// `packed`: `Engine::vocabulary`; `ends`: `Engine::end_ids`.
    #[wasm_bindgen(constructor)]
    pub fn new(packed: &[u8], ends: &[u32]) -> Result<Vocabulary, JsValue> {
        Tokens::new(packed, ends).map(Vocabulary).map_err(failure)
    }

    /// `spec`: a [`Spec`] as JSON.
    pub fn guide(&self, spec: &str) -> Result<Guide, JsValue> {
        let spec: Spec = serde_json::from_str(spec)
            .map_err(|error| failure(Error::BadRequest(format!("the form cannot be read: {error}"))))?;
        let inner = Inner::new(&self.0, &spec).map_err(failure)?;
        Ok(Guide { inner, forced: Vec::new() })
    }
}

/// Follows one answer: see [`Constraint`].
#[wasm_bindgen]
pub struct Guide {
    inner: Inner,
    forced: Vec<u8>,
}

#[wasm_bindgen]
impl Guide {
    pub fn mask(&mut self, left: u32) -> Result<Option<Vec<u32>>, JsValue> {
        let mask = self.inner.mask(left as usize).map_err(failure)?;
        let Mask { bits, forced } = match mask {
            Some(mask) => mask,
            None => return Ok(None),
        };
        self.forced = forced;
        Ok(Some(bits))
    }

    pub fn forced(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.forced)
    }

    pub fn commit(&mut self, token: u32, left: u32) -> Result<u32, JsValue> {
        self.inner.commit(token, left as usize).map_err(failure)
    }
}
