use std::{
    io::IoSlice,
    path::{Path, PathBuf},
};

use super::*;

fn path(name: &str) -> PathBuf {
    Path::new("/d").join(name)
}

fn write(file: &dyn DiskFile, position: u64, bytes: &[u8]) {
    file.write_at(position, &[IoSlice::new(bytes)]).unwrap();
}

#[test]
fn synced_bytes_under_a_synced_name_survive() {
    for seed in 0..50 {
        let disk = FaultyDisk::new(seed);
        let file = disk.create(&path("a")).unwrap();
        write(&*file, 0, &[1; 3_000]);
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        write(&*file, 1_000, &[2; 4_000]);
        disk.power_cut();
        let bytes = disk.contents(&path("a")).unwrap();
        assert_eq!(bytes[..1_000], [1; 1_000], "what was synced and not touched is there");
        assert!(bytes[1_000..].iter().all(|byte| *byte <= 2));
    }
}

#[test]
fn unsynced_bytes_tear_and_unsynced_names_vanish_for_some_seed() {
    let (mut torn, mut lost, mut nameless) = (0, 0, 0);
    for seed in 0..50 {
        let disk = FaultyDisk::new(seed);
        let file = disk.create(&path("a")).unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        write(&*file, 0, &[2; 2_048]);
        disk.create(&path("b")).unwrap();
        disk.power_cut();
        let bytes = disk.contents(&path("a")).unwrap();
        torn += u32::from(bytes.contains(&2) && bytes != [2; 2_048]);
        lost += u32::from(!bytes.contains(&2));
        nameless += u32::from(disk.contents(&path("b")).is_err());
    }
    assert!(torn > 5 && lost > 0 && nameless > 5, "torn {torn}, lost {lost}, nameless {nameless}");
}

#[test]
fn failed_sync_forgets_what_it_did_not_write() {
    let mut forgotten = 0;
    for seed in 0..20 {
        let disk = FaultyDisk::new(seed);
        let file = disk.create(&path("a")).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        write(&*file, 0, &[3; 2_048]);
        disk.fail_sync(1);
        file.sync().unwrap_err();
        file.sync().unwrap();
        assert_eq!(disk.contents(&path("a")).unwrap(), [3; 2_048], "readers still see it");
        disk.power_cut();
        forgotten += u32::from(disk.contents(&path("a")).unwrap() != [3; 2_048]);
    }
    assert!(forgotten > 10, "a later good sync does not write what the failed one forgot");
}

#[test]
fn old_handles_are_dead_after_a_kill() {
    let disk = FaultyDisk::new(1);
    let file = disk.create(&path("a")).unwrap();
    write(&*file, 0, b"written");
    let _lock = disk.lock(&path("lock")).unwrap();
    disk.kill();
    assert!(file.sync().is_err() && disk.create(&path("b")).is_err());
    let next = disk.reopened();
    next.lock(&path("lock")).map(drop).unwrap();
    assert_eq!(next.contents(&path("a")).unwrap(), b"written", "the page cache outlives the process");
}

#[test]
fn it_fills_up() {
    let disk = FaultyDisk::new(1);
    disk.set_capacity(100);
    let file = disk.create(&path("a")).unwrap();
    write(&*file, 0, &[0; 90]);
    let error = file.write_at(90, &[IoSlice::new(&[0; 20])]).unwrap_err();
    assert!(crate::disk::is_full(&error));
    assert_eq!(disk.free_bytes(Path::new("/d")).unwrap(), 10);
    disk.unlink(&path("a")).unwrap();
    assert_eq!(disk.free_bytes(Path::new("/d")).unwrap(), 100);
}
