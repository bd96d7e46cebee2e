//! The CPU backend: wasm SIMD128 and, natively, the same kernels over portable vectors.
