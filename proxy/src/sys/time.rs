/// How far the local time is ahead of UTC at a moment (seconds since 1970), and what it is called then (`CET`).
pub fn local_time(at: i64) -> (i32, String) {
    // SAFETY: `tm` is plain data for which zeros are valid; localtime_r fills it, or returns null and leaves it.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of ours.
    let filled = unsafe { !libc::localtime_r(&raw const at, &raw mut tm).is_null() };
    if !filled || tm.tm_zone.is_null() {
        return (0, "UTC".into());
    }
    // SAFETY: tm_zone points to a string that ends with NUL and that libc keeps.
    let zone = unsafe { std::ffi::CStr::from_ptr(tm.tm_zone) };
    (i32::try_from(tm.tm_gmtoff).unwrap_or(0), zone.to_string_lossy().into_owned())
}
