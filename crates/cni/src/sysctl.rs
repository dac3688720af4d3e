//! Settings of the kernel's network.

use std::io;

/// Writes a setting if it is not so: where the value is right already, a read-only /proc/sys does no harm.
///
/// # Errors
/// When the kernel has no such setting, or does not let it be changed.
pub fn set(path: &str, value: &str) -> io::Result<()> {
    if std::fs::read_to_string(path)?.trim() == value {
        return Ok(());
    }
    std::fs::write(path, value)
}
