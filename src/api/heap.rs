//! The allocator, which says so when the heap cannot grow: where nobody handles that, a trap follows that says nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// The worker's. Takes a number, because nothing can be allocated any more.
    #[wasm_bindgen(js_name = kingletHeapFull)]
    fn report_full(bytes: f64);
}

struct Heap;

#[global_allocator]
static HEAP: Heap = Heap;

/// Safety: all work is the system's.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        told(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        told(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        told(unsafe { System.realloc(at, layout, size) }, size)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

fn told(at: *mut u8, size: usize) -> *mut u8 {
    if at.is_null() {
        report_full(size as f64);
    }
    at
}
