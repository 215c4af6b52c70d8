/// Asks a process to end (SIGTERM). One that is gone already is no error.
pub fn terminate(process: u32) {
    if let Ok(process) = i32::try_from(process)
        && process > 0
    {
        // SAFETY: kill takes two integers and touches no memory of ours.
        unsafe { libc::kill(process, libc::SIGTERM) };
    }
}
