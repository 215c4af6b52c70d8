//! `RLIMIT_NOFILE`: how many descriptors the process may have.

use std::io;

/// The soft limit, which the kernel enforces, and the hard one, up to which the process may raise it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimit {
    pub soft: u64,
    pub hard: u64,
}

/// # Errors
/// Those of getrlimit(2).
pub fn file_limit() -> io::Result<FileLimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, writable rlimit for the duration of the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(FileLimit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

/// Raises the soft limit to the hard one, as a proxy needs two descriptors a connection. Gives back the limit that is now
/// in force.
///
/// # Errors
/// Those of getrlimit(2) and setrlimit(2).
pub fn raise_file_limit() -> io::Result<FileLimit> {
    let FileLimit { soft, hard } = file_limit()?;
    if soft < hard {
        let limit = libc::rlimit { rlim_cur: hard, rlim_max: hard };
        // SAFETY: `limit` is a valid rlimit that the call only reads.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    file_limit()
}
