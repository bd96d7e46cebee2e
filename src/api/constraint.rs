//! The form of an answer, followed by another binary: JavaScript hands its objects over.

use crate::generate::{Constraint, Mask};
use crate::{Error, Result};
use js_sys::{Reflect, Uint8Array, Uint32Array};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// A `Guide` of src/api/grammar.rs, or something that wraps one.
    pub type JsConstraint;

    /// The bits; undefined: anything may come.
    #[wasm_bindgen(method, catch)]
    fn mask(this: &JsConstraint, left: u32) -> std::result::Result<Option<Uint32Array>, JsValue>;

    /// What the last mask forces.
    #[wasm_bindgen(method, catch)]
    fn forced(this: &JsConstraint) -> std::result::Result<Uint8Array, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn commit(this: &JsConstraint, token: u32, left: u32) -> std::result::Result<u32, JsValue>;
}

impl Constraint for JsConstraint {
    fn mask(&mut self, left: usize) -> Result<Option<Mask>> {
        let Some(bits) = JsConstraint::mask(self, short(left)).map_err(failure)? else { return Ok(None) };
        let forced = JsConstraint::forced(self).map_err(failure)?.to_vec();
        Ok(Some(Mask { bits: bits.to_vec(), forced }))
    }

    fn commit(&mut self, token: u32, left: usize) -> Result<u32> {
        JsConstraint::commit(self, token, short(left)).map_err(failure)
    }
}

fn short(left: usize) -> u32 {
    left.try_into().unwrap_or(u32::MAX)
}

/// What it throws is `{ message }`; a trap in it is told apart by whoever wraps it.
fn failure(thrown: JsValue) -> Error {
    let message = Reflect::get(&thrown, &"message".into()).ok().and_then(|message| message.as_string());
    Error::BadRequest(message.unwrap_or_else(|| "the form of the answer could not be followed".into()))
}
