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

fn count(bytes: usize, align: usize) {
    #[cfg(feature = "engine")]
    watched::count(align);
    // A thread that is ending has nothing left to count into.
    let _ = ALLOCATED.try_with(|cell| {
        let Allocated { calls, bytes: sum } = cell.get();
        cell.set(Allocated {
            calls: calls + 1,
            bytes: sum.saturating_add(bytes),
        });
    });
}

/// What another thread of this process allocates.
#[cfg(feature = "engine")]
#[allow(dead_code)] // Not every test has other threads.
pub mod watched {
    use std::cell::Cell;
    use std::num::NonZeroI32;
    use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed};

    /// The thread's id for the system; 0 where none is watched.
    static WATCHED: AtomicI32 = AtomicI32::new(0);
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    static BUFFERS: AtomicUsize = AtomicUsize::new(0);

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Calls {
        pub all: usize,
        /// Those for bytes, which stand anywhere.
        pub buffers: usize,
    }

    thread_local! {
        static OWN: Cell<Option<NonZeroI32>> = const { Cell::new(None) };
    }

    pub(super) fn count(align: usize) {
        let watched = WATCHED.load(Relaxed);
        if watched == 0 {
            return;
        }
        let _ = OWN.try_with(|own| {
            let id = own.get().unwrap_or_else(|| rustix::thread::gettid().as_raw_nonzero());
            own.set(Some(id));
            if id.get() == watched {
                CALLS.fetch_add(1, Relaxed);
                BUFFERS.fetch_add(usize::from(align == 1), Relaxed);
            }
        });
    }

    /// How often the thread whose name begins so allocates while `work` goes on. One at a time may be watched.
    pub fn calls_of(thread: &str, work: impl FnOnce()) -> Calls {
        let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
        let mut ids = tasks.filter_map(|task| {
            let task = task.expect("a thread");
            // It may have ended meanwhile.
            let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
            name.starts_with(thread)
                .then(|| task.file_name().into_string().expect("a number"))
        });
        let id = ids.next().expect("there is such a thread").parse().expect("a number");
        CALLS.store(0, Relaxed);
        BUFFERS.store(0, Relaxed);
        assert_eq!(WATCHED.swap(id, Relaxed), 0, "one is watched already");
        work();
        WATCHED.store(0, Relaxed);
        Calls {
            all: CALLS.load(Relaxed),
            buffers: BUFFERS.load(Relaxed),
        }
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), layout.align());
        // SAFETY: the caller keeps what `alloc` demands.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps what `dealloc` demands, and the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size, layout.align());
        // SAFETY: the caller keeps what `realloc` demands, and the pointer came from `System`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}
