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

/// Keeps the kernel from backing the process's memory with huge pages, for which the allocator asks: one touched byte would
/// count as two megabytes, and a sidecar is as large as its pages, not as what is in them.
///
/// # Errors
/// Those of prctl(2).
pub fn refuse_huge_pages() -> std::io::Result<()> {
    // SAFETY: this operation takes integers only and touches no memory of ours.
    match unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
