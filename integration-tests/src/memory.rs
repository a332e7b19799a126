//! What memory a process has, as the kernel tells it.

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident: u64,
    /// The most that was resident.
    pub(crate) peak: u64,
}

impl Memory {
    /// Of this process.
    pub(crate) fn own() -> Self {
        Self::of(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    /// Of the process with this status in `/proc`; zeros where it does not say.
    pub(crate) fn of(status: &str) -> Self {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
            Some(kibibytes * 1024)
        };
        Self {
            resident: bytes("VmRSS:").unwrap_or(0),
            peak: bytes("VmHWM:").unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let status = "Name:\tfleet\nVmHWM:\t   24 kB\nVmRSS:\t   20 kB\nThreads:\t4\n";
        let (resident, peak) = (20_480, 24_576);
        assert_eq!(Memory::of(status), Memory { resident, peak });
    }
}
