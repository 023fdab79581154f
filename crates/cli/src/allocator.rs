//! The allocator, and what a thread gives back to the system when it rests.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// Blocks are made on one thread and freed on another all the time: glibc's allocator takes a lock for each.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A thread keeps what a burst left on it until it allocates again, and an idle one does not.
const EVERY: Duration = Duration::from_secs(1);

/// For threads that have nothing to do; most calls do nothing.
pub(crate) fn give_back() {
    thread_local!(static LAST: Cell<Option<Instant>> = const { Cell::new(None) });
    let now = Instant::now();
    if LAST.get().is_none_or(|last| now - last > EVERY) {
        LAST.set(Some(now));
        // SAFETY: takes no pointers, and works on the heap of the calling thread and on what no thread owns.
        #[expect(unsafe_code, reason = "the allocator offers it to C only")]
        unsafe {
            libmimalloc_sys::mi_collect(true);
        }
    }
}
