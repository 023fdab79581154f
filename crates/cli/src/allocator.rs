//! The allocator, and what it keeps of what a burst left.

/// Blocks are made on one thread and freed on another all the time, and a few that stay must not hold the many around them:
/// jemalloc's pages for small blocks are a tenth the size of those of others that are made for many threads.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Two arenas, because a third would hold pages of its own and their locks are short; threads keep small blocks only; and what
/// nobody uses for a second goes back to the system, also while everything rests.
#[expect(unsafe_code, reason = "the allocator reads its options before anything of ours runs, under this name")]
#[cfg_attr(target_os = "linux", unsafe(export_name = "malloc_conf"))]
#[cfg_attr(not(target_os = "linux"), unsafe(export_name = "_rjem_malloc_conf"))]
pub(crate) static OPTIONS: &[u8; 86] =
    b"narenas:2,tcache_max:1024,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true\0";
