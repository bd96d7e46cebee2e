//! Numbers as the shortest digits that are read back as the same number.

/// `number` is finite.
#[cfg(not(all(target_arch = "wasm32", feature = "router-web")))]
pub fn shortest(number: f64) -> String {
    zmij::Buffer::new().format_finite(number).to_string()
}

#[cfg(all(target_arch = "wasm32", feature = "router-web"))]
pub use page::shortest;

/// A page's JavaScript has them as well, and our own take 2 kB.
#[cfg(all(target_arch = "wasm32", feature = "router-web"))]
mod page {
    use wasm_bindgen::prelude::wasm_bindgen;

    #[wasm_bindgen]
    extern "C" {
        #[wasm_bindgen(js_name = String)]
        pub fn shortest(number: f64) -> String;
    }
}
