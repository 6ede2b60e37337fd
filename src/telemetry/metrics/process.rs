//! Figures of the process that the operating system reports in `/proc`.

use std::fs;

/// Returns the memory that the process holds, in KiB.
pub(super) fn resident_kib() -> Option<u32> {
    resident(&fs::read_to_string("/proc/self/status").ok()?)
}

/// Returns the number of files and connections that the process has open.
pub(super) fn open_files() -> Option<u32> {
    let files = fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is the folder that was just read.
    u32::try_from(files.saturating_sub(1)).ok()
}

fn resident(status: &str) -> Option<u32> {
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_memory_is_read_from_its_line() {
        let status = "Name:\tbridge\nVmHWM:\t   99 kB\nVmRSS:\t   61440 kB\n";

        assert_eq!(resident(status), Some(61440));
        assert_eq!(resident("Name:\tbridge\n"), None);
        assert_eq!(resident("VmRSS:\t much\n"), None);
    }
}
