//! splice(2) through a pipe: bytes go from socket to socket without a copy into the process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// A non-blocking pipe with the number of bytes inside it.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
    len: usize,
}

/// Why a splice moved nothing.
#[derive(Debug)]
pub enum SpliceError {
    WouldBlock,
    Io(io::Error),
}

impl Pipe {
    /// A pipe that holds `capacity` bytes, or what the system allows.
    ///
    /// # Errors
    /// Those of pipe2(2): most often that the process is out of descriptors.
    pub fn new(capacity: usize) -> io::Result<Self> {
        let mut fds = [0; 2];
        // SAFETY: `fds` has room for the two descriptors the call writes.
        if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both are open, and nobody else owns them.
        let (read, write) = unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) };
        let wanted = libc::c_int::try_from(capacity).unwrap_or(libc::c_int::MAX);
        // SAFETY: an fcntl with an integer argument. When it fails (`pipe-max-size`, pages per user) the pipe stays as it is.
        unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, wanted) };
        // SAFETY: an fcntl without argument.
        let capacity = unsafe { libc::fcntl(write.as_raw_fd(), libc::F_GETPIPE_SZ) };
        let capacity = usize::try_from(capacity).unwrap_or(65_536);
        Ok(Pipe { read, write, capacity, len: 0 })
    }

    /// Bytes in the pipe.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Moves bytes that wait in `from` into the pipe. 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when `from` has nothing, or the pipe no free slot: a pipe holds a number of segments, not of bytes, so
    /// it may be full long before its capacity. The caller tells the two apart by [`Pipe::is_empty`].
    pub fn fill(&mut self, from: impl AsFd, limit: usize) -> Result<usize, SpliceError> {
        let n = splice(from.as_fd(), self.write.as_fd(), limit)?;
        self.len += n;
        Ok(n)
    }

    /// Moves bytes from the pipe into `to`.
    ///
    /// # Errors
    /// `WouldBlock` when `to` takes nothing now.
    pub fn drain(&mut self, to: impl AsFd) -> Result<usize, SpliceError> {
        if self.len == 0 {
            return Ok(0);
        }
        let n = splice(self.read.as_fd(), to.as_fd(), self.len)?;
        self.len = self.len.saturating_sub(n);
        Ok(n)
    }
}

fn splice(from: impl AsFd, to: impl AsFd, len: usize) -> Result<usize, SpliceError> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    loop {
        // SAFETY: both descriptors are open while they are borrowed; null offsets are what a pipe and a socket require.
        let n = unsafe { libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), len, flags) };
        if let Ok(n) = usize::try_from(n) {
            return Ok(n);
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => return Err(SpliceError::WouldBlock),
            _ => return Err(SpliceError::Io(error)),
        }
    }
}
