//! mimalloc as the process's allocator, called for what is asked: the `mimalloc` crate calls for every allocation what serves
//! those that want more than the usual alignment, which takes longer, by far above a kilobyte.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;

// The allocator is linked through this crate.
use mimalloc as _;

unsafe extern "C" {
    fn mi_malloc(size: usize) -> *mut c_void;
    fn mi_malloc_aligned(size: usize, alignment: usize) -> *mut c_void;
    fn mi_zalloc(size: usize) -> *mut c_void;
    fn mi_zalloc_aligned(size: usize, alignment: usize) -> *mut c_void;
    fn mi_realloc(block: *mut c_void, size: usize) -> *mut c_void;
    fn mi_realloc_aligned(block: *mut c_void, size: usize, alignment: usize) -> *mut c_void;
    fn mi_free(block: *mut c_void);
    fn mi_collect(force: bool);
}

/// `#[global_allocator]` of the binaries.
pub struct Allocator;

/// `MI_MAX_ALIGN_SIZE`: every block of at least so many bytes is aligned to it, and smaller ones to their size.
const ALIGNED_ANYWAY: usize = 16;

fn is_usual(size: usize, alignment: usize) -> bool {
    alignment <= ALIGNED_ANYWAY && alignment <= size
}

// SAFETY: mimalloc's functions are malloc, calloc, realloc and free for each other's blocks; blocks are aligned as asked, by
// `is_usual` or by the functions that take the alignment; none of them unwinds.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        // SAFETY: any size, and an alignment that is a power of two.
        unsafe { if is_usual(size, alignment) { mi_malloc(size) } else { mi_malloc_aligned(size, alignment) } }.cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        // SAFETY: any size, and an alignment that is a power of two.
        unsafe { if is_usual(size, alignment) { mi_zalloc(size) } else { mi_zalloc_aligned(size, alignment) } }.cast()
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let alignment = layout.align();
        let block = block.cast();
        // SAFETY: the caller's block is one of ours.
        let moved = unsafe {
            if is_usual(size, alignment) { mi_realloc(block, size) } else { mi_realloc_aligned(block, size, alignment) }
        };
        moved.cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller's block is one of ours.
        unsafe { mi_free(block.cast()) }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_as_asked_and_keep_their_bytes() {
        for alignment in [1, 2, 4, 8, 16, 32, 64, 128, 4096] {
            for size in [1, 3, 8, 15, 16, 17, 24, 40, 100, 1000, 1025, 3000, 5000, 20_000, 200_000] {
                let layout = Layout::from_size_align(size, alignment).unwrap();
                // SAFETY: the layouts are not empty, and each block is used within its size and given back once.
                unsafe {
                    let block = Allocator.alloc(layout);
                    assert!(!block.is_null() && block.addr().is_multiple_of(alignment), "{layout:?}");
                    block.write_bytes(7, size);
                    let block = Allocator.realloc(block, layout, 2 * size);
                    assert!(!block.is_null() && block.addr().is_multiple_of(alignment), "{layout:?}");
                    assert!(std::slice::from_raw_parts(block, size).iter().all(|byte| *byte == 7), "{layout:?}");
                    Allocator.dealloc(block, Layout::from_size_align(2 * size, alignment).unwrap());
                    let block = Allocator.alloc_zeroed(layout);
                    assert!(block.addr().is_multiple_of(alignment), "{layout:?}");
                    assert!(std::slice::from_raw_parts(block, size).iter().all(|byte| *byte == 0), "{layout:?}");
                    Allocator.dealloc(block, layout);
                }
            }
        }
    }
}
