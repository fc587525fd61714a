//! Counts what a piece of code allocates, on its own thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts. A test file that measures makes it its global allocator.
pub struct Counting;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allocated {
    pub calls: usize,
    /// What was asked for, whether freed since or not.
    pub bytes: usize,
}

thread_local! {
    static ALLOCATED: Cell<Allocated> = const { Cell::new(Allocated { calls: 0, bytes: 0 }) };
}

/// What `work` allocates.
pub fn allocated<T>(work: impl FnOnce() -> T) -> (T, Allocated) {
    let before = ALLOCATED.get();
    let result = work();
    let after = ALLOCATED.get();
    let allocated = Allocated {
        calls: after.calls - before.calls,
        bytes: after.bytes - before.bytes,
    };
    (result, allocated)
}

fn count(bytes: usize) {
    // A thread that is ending has nothing left to count into.
    let _ = ALLOCATED.try_with(|cell| {
        let Allocated { calls, bytes: sum } = cell.get();
        cell.set(Allocated {
            calls: calls + 1,
            bytes: sum.saturating_add(bytes),
        });
    });
}

// SAFETY: every call goes to the system's allocator as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps what `alloc` demands.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps what `dealloc` demands, and the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: the caller keeps what `realloc` demands, and the pointer came from `System`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}
