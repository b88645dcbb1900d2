//! Who may open a data directory.

use super::*;

#[tokio::test(start_paused = true)]
async fn one_process_at_a_time() {
    let disk = FaultyDisk::new(1);
    let log = open(&disk).unwrap();
    let error = open(&disk).err().unwrap();
    assert_eq!(error.to_string(), "data directory /data is in use by another process");
    log.close().await;
    open(&disk).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_at_a_time_on_the_machine() {
    let directory = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(Options::new(directory.path(), 1, 1)).unwrap();
    assert!(matches!(EmbeddedLog::open(Options::new(directory.path(), 1, 1)), Err(OpenError::Locked(_))));
    log.close().await;
    EmbeddedLog::open(Options::new(directory.path(), 1, 1)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn other_formats_and_partitions_are_refused_in_one_line() {
    let disk = FaultyDisk::new(1);
    open(&disk).unwrap().close().await;
    let other = Options { message_partitions: 4, ..options(&disk) };
    let error = EmbeddedLog::open(other).err().unwrap().to_string();
    assert!(error.contains("3 message and 3 delivery partitions, not with 4 message"), "{error}");
    for (text, shown) in
        [("fanfare 2\nmessages 3\n", "2"), ("fanfare 1\nmess", "1 (damaged)"), ("", "unknown")]
    {
        disk.edit(Path::new("/data/FORMAT"), |bytes| *bytes = text.as_bytes().to_vec()).unwrap();
        let error = open(&disk).err().unwrap().to_string();
        assert_eq!(error, format!("data directory /data has format {shown}; this program reads format 1"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_sees_what_is_there_and_changes_nothing() {
    let disk = FaultyDisk::new(1);
    let reader = || Options { read_only: true, message_partitions: 99, ..options(&disk) };
    assert!(matches!(EmbeddedLog::open(reader()), Err(OpenError::Missing(_))));
    let log = open(&disk).unwrap();
    let key = Bytes::from_static(b"key");
    for number in 0..100 {
        append(&log, Topic::Messages, number, 1_000).await;
        append(&log, Topic::Control, number, 10).await;
    }
    log.put(crate::contract::Table::Lanes, P0, vec![(key.clone(), Some(key.clone()))]).await.unwrap();
    for running in [true, false] {
        if !running {
            log.close().await;
        }
        let before: Vec<_> = disk.paths().iter().map(|path| disk.contents(path).unwrap()).collect();
        let view = EmbeddedLog::open(reader()).unwrap();
        assert_eq!(view.partitions(Topic::Messages), PARTITIONS, "the directory's own number");
        assert_eq!(numbers(&*view, Topic::Messages, P0).await, (0..100).collect::<Vec<_>>());
        assert_eq!(numbers(&*view, Topic::Control, P0).await, (0..100).collect::<Vec<_>>());
        let lanes = view.scan(crate::contract::Table::Lanes, P0).await.unwrap();
        assert_eq!(lanes, [(key.clone(), key.clone())]);
        assert!(view.append(Topic::Messages, P0, vec![record(1, 1)], Sync::Now).await.is_err());
        drop(view);
        let after: Vec<_> = disk.paths().iter().map(|path| disk.contents(path).unwrap()).collect();
        assert!(before == after, "nothing was written");
    }
}
