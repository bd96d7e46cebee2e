//! The pool of a binary with threads. Its statics lie in the shared memory, so that they are the same ones in the engine's
//! worker and in those of the pool (`pkg/src/pool.ts`).

use crate::backend::cpu::pool::{Pool, Shared};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock};
use wasm_bindgen::prelude::*;

static SHARED: LazyLock<Arc<Shared>> = LazyLock::new(Default::default);
static THREADS: AtomicUsize = AtomicUsize::new(1);

/// Of the engine's CPU backend.
pub fn pool() -> Pool {
    Pool::of(SHARED.clone(), THREADS.load(SeqCst))
}

/// The threads 1 to `threads - 1` are about to come in by [`help`].
#[wasm_bindgen]
pub fn use_threads(threads: usize) {
    THREADS.store(threads, SeqCst);
}

/// A worker of the pool ends here: it returns no more.
#[wasm_bindgen]
pub fn help(thread: usize) {
    SHARED.help(thread);
}

/// The address of [`Shared`], whose first words the page and the pool's workers write.
#[wasm_bindgen]
pub fn shared() -> usize {
    &raw const **SHARED as usize
}

/// A real trap in another thread of the pool, for tests of what follows one.
#[wasm_bindgen]
pub fn trap_helper() {
    let trapped = AtomicBool::new(false);
    pool().divide(2, usize::MAX, |_, thread| {
        if thread > 0 {
            trapped.store(true, SeqCst);
            super::wasm::trap();
        }
        while !trapped.load(SeqCst) {
            std::hint::spin_loop();
        }
    });
}
