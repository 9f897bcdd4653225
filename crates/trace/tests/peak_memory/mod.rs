//! How much memory this process has had.

/// Asserts that it was less than any reader may take.
///
/// # Panics
/// If it was more, or the system does not say.
pub(crate) fn assert_small() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    let kib: u64 = number.unwrap();
    assert!(kib < 256 << 10, "{kib} KiB");
}
