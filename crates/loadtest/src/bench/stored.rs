//! What brokers on this machine store.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// Bytes of records by topic, of topics that begin with `prefix`, which is cut off. `data`: the brokers' data
/// directories; every copy counts; where none are known, nothing is told. Indexes do not: they are laid out in full before they are used.
pub(super) fn by_topic(data: &[PathBuf], prefix: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut stored = BTreeMap::new();
    for directory in data {
        let entries =
            fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // A folder is called by topic and partition: `fanfare.messages-3`.
            let topic = name.strip_prefix(prefix).and_then(|name| Some(name.rsplit_once('-')?.0));
            if let Some(topic) = topic {
                *stored.entry(topic.to_owned()).or_default() += segments(&entry.path())?;
            }
        }
    }
    anyhow::ensure!(
        data.is_empty() || !stored.is_empty(),
        "no topic of this run lies in the brokers' data directories"
    );
    Ok(stored)
}

fn segments(partition: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(partition)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            bytes += path.metadata()?.len();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn segments_of_all_partitions_and_brokers() {
        let brokers = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let write = |broker: usize, partition: &str, file: &str, bytes: usize| {
            let partition = brokers[broker].path().join(partition);
            fs::create_dir_all(&partition).unwrap();
            fs::write(partition.join(file), vec![0; bytes]).unwrap();
        };
        write(0, "x.messages-0", "00000000000000000000.log", 10);
        write(0, "x.messages-0", "00000000000000000020.log", 5);
        write(0, "x.messages-0", "00000000000000000000.index", 1_000);
        write(0, "x.messages-11", "00000000000000000000.log", 1);
        write(1, "x.messages-0", "00000000000000000000.log", 100);
        write(1, "x.control-0", "00000000000000000000.log", 7);
        write(1, "other.control-0", "00000000000000000000.log", 7);
        let data = brokers.each_ref().map(|broker| broker.path().to_owned());
        let stored = by_topic(&data, "x.").unwrap();
        assert_eq!(stored, BTreeMap::from([("control".to_owned(), 7), ("messages".to_owned(), 116)]));
        assert!(by_topic(&[data[0].join("none")], "x.").is_err());
    }
}
