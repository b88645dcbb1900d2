//! Payloads that are overwritten, and crashes while they are.

use super::*;
use crate::contract::AppendError;

/// Found nowhere else.
fn secret(number: u64) -> Vec<u8> {
    format!("a secret that nobody else has, number {number:06}, ").repeat(3).into_bytes()
}

async fn append_secret(log: &EmbeddedLog, number: u64) -> Offset {
    let record = NewRecord { head: Bytes::from(number.to_string()), payload: Bytes::from(secret(number)) };
    let pending = log.append(Topic::Messages, P0, vec![record], Sync::Now).await.unwrap();
    pending.await.unwrap().start
}

fn is_on_disk(disk: &FaultyDisk, number: u64) -> bool {
    let wanted = secret(number);
    let holds = |path: &std::path::PathBuf| {
        disk.contents(path).unwrap().windows(wanted.len()).any(|window| window == wanted)
    };
    disk.paths().iter().any(holds)
}

/// Every record is there; a payload is whole, or it was to be wiped. Gives which are gone.
async fn gone(log: &EmbeddedLog, records: u64, wiped: &[Offset]) -> Vec<Offset> {
    let found = read_all(log, Topic::Messages, P0).await;
    assert_eq!(found.len() as u64, records, "no record is lost");
    let mut gone = Vec::new();
    for (number, record) in (0..).zip(found) {
        assert_eq!(record.head, number.to_string());
        match record.payload {
            Some(payload) => assert_eq!(payload, secret(number)),
            None => gone.push(record.offset),
        }
    }
    assert!(gone.iter().all(|offset| wiped.contains(offset)), "{gone:?} of {wiped:?}");
    gone
}

/// In sealed segments, in the one that is written to, and in memory.
#[tokio::test(start_paused = true)]
async fn what_is_wiped_is_nowhere_and_the_rest_stays() {
    let disk = FaultyDisk::new(1);
    let log = open(&disk).unwrap();
    for number in 0..400 {
        append_secret(&log, number).await;
    }
    assert!(log.stats().segments > 2);
    let wiped = [0, 7, 150, 398, 399].map(Offset);
    assert_eq!(log.wipe(Topic::Messages, P0, wiped.to_vec()).await, Ok(true));
    assert_eq!(gone(&log, 400, &wiped).await, wiped);
    for number in 0..400 {
        assert_eq!(is_on_disk(&disk, number), !wiped.contains(&Offset(number)), "{number}");
    }
    // Again, and where nothing stands: no harm.
    assert_eq!(log.wipe(Topic::Messages, P0, vec![Offset(7), Offset(4_000)]).await, Ok(true));
    append_secret(&log, 400).await;
    for close in [true, false] {
        if close {
            log.close().await;
        } else {
            disk.power_cut();
            log.kill().await;
        }
        let log = open(&disk).unwrap();
        assert_eq!(gone(&log, 401, &wiped).await, wiped);
        log.kill().await;
        disk.kill();
    }
}

/// The process dies at every change of the disk while two payloads are overwritten, one of them in the last commit group,
/// and then the power goes.
#[tokio::test(start_paused = true)]
async fn a_crash_while_wiping_loses_nothing_and_finishes_what_was_begun() {
    let mut outcomes = [0, 0];
    for changes in 0..60 {
        for seed in 0..4 {
            let disk = FaultyDisk::new(seed);
            let log = open(&disk).unwrap();
            for number in 0..150 {
                append_secret(&log, number).await;
            }
            let wiped = [3, 149].map(Offset);
            disk.kill_after(changes);
            let answer = log.wipe(Topic::Messages, P0, wiped.to_vec()).await;
            assert!(
                matches!(answer, Ok(true) | Err(AppendError::Unavailable(_) | AppendError::Closed(_))),
                "{answer:?}"
            );
            disk.power_cut();
            log.kill().await;

            let log = open(&disk).unwrap();
            let gone = gone(&log, 150, &wiped).await;
            assert!(
                answer.is_err() || gone == wiped,
                "after {changes} changes {answer:?}, and {gone:?} are gone"
            );
            assert!(gone.is_empty() || gone == wiped, "noted together");
            for offset in &gone {
                assert!(!is_on_disk(&disk, offset.0), "a start finishes what was begun");
            }
            outcomes[usize::from(!gone.is_empty())] += 1;
            // And it stays so, however often it starts.
            disk.power_cut();
            log.kill().await;
            let log = open(&disk).unwrap();
            assert_eq!(self::gone(&log, 150, &wiped).await, gone);
            log.kill().await;
        }
    }
    assert!(outcomes.iter().all(|count| *count > 0), "both came: {outcomes:?}");
}

/// Nobody knows what the file holds then: the writer goes on in another one, and nothing is lost.
#[tokio::test(start_paused = true)]
async fn a_sync_that_fails_while_wiping_harms_nothing() {
    for nth in 1..8 {
        let disk = FaultyDisk::new(nth);
        let log = open(&disk).unwrap();
        for number in 0..20 {
            append_secret(&log, number).await;
        }
        disk.fail_sync(nth);
        let first = log.wipe(Topic::Messages, P0, vec![Offset(19)]).await;
        let again = log.wipe(Topic::Messages, P0, vec![Offset(19)]).await;
        assert!(first.is_ok() || again.is_ok(), "{first:?} {again:?}");
        for number in 20..30 {
            append_secret(&log, number).await;
        }
        disk.power_cut();
        log.kill().await;
        let log = open(&disk).unwrap();
        assert_eq!(gone(&log, 30, &[Offset(19)]).await, [Offset(19)]);
        assert!(!is_on_disk(&disk, 19));
        log.kill().await;
    }
}

/// While one of them is overwritten its bytes are neither what they were nor zeros.
#[tokio::test(start_paused = true)]
async fn readers_beside_the_wiping_see_all_or_none() {
    let disk = FaultyDisk::new(1);
    let log = open(&disk).unwrap();
    for number in 0..200 {
        append_secret(&log, number).await;
    }
    let slot = log.main.layout.slot(Topic::Messages, P0).unwrap();
    let (segment, span) = log.main.find_payload(slot, Offset(5)).unwrap().unwrap();
    log.tables.note_wiping(&[super::super::wiped::key(&log.main.layout, slot, Offset(5))], &[]).unwrap();
    log.main.hide(slot, &[Offset(5)]);
    segment.file.write_at(span.at, &[std::io::IoSlice::new(&vec![0; span.length / 2])]).unwrap();
    assert_eq!(gone(&log, 200, &[Offset(5)]).await, [Offset(5)]);
    disk.kill();
    log.kill().await;
    let log = open(&disk).unwrap();
    assert_eq!(gone(&log, 200, &[Offset(5)]).await, [Offset(5)]);
    assert!(!is_on_disk(&disk, 5));
}
