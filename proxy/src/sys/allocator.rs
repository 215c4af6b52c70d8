// The allocator is linked through this crate.
use mimalloc as _;

unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// Returns memory that was freed to the system. For the end of the start: reading the configuration of a large mesh takes
/// several times what is kept of it, and a process that then waits for work would hold that for good.
pub fn give_back_memory() {
    // SAFETY: mi_collect touches only the allocator's own state, for which it may be called by any thread at any time.
    unsafe { mi_collect(true) }
}
