//! What stands on the disk.

use std::{fs, path::Path};

/// Whether a file below a directory holds these bytes. One that is removed meanwhile holds nothing.
pub fn hold(directory: &Path, wanted: &[u8]) -> bool {
    fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return hold(&path, wanted);
        }
        fs::read(&path).unwrap_or_default().windows(wanted.len()).any(|window| window == wanted)
    })
}
