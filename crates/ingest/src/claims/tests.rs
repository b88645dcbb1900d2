#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::{future::Future, pin::Pin, sync::atomic::AtomicU64, time::Duration};

use super::*;

const PARTITION: Partition = Partition(0);
const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

/// A router's table as the test wants it.
#[derive(Default)]
struct Known {
    entries: Mutex<HashMap<Fingerprint, ClaimEntry>>,
    routed: AtomicU64,
}

impl KnownClaims for Known {
    fn caught_up<'a>(&'a self, _: Partition, _: Offset) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(std::future::ready(()))
    }

    fn lookup(&self, _: Partition, claim: Fingerprint, now: Timestamp) -> Option<ClaimEntry> {
        self.entries.lock().get(&claim).copied().filter(|entry| entry.expires_at > now)
    }

    fn routed(&self, _: Partition) -> Offset {
        Offset(self.routed.load(Ordering::Relaxed))
    }

    fn held(&self, _: Partition) -> usize {
        0
    }
}

fn print(text: &str) -> Fingerprint {
    Fingerprint::of(&[text.as_bytes()])
}

fn id(number: u8) -> MessageId {
    MessageId::from_bytes([number; 20])
}

fn identity(key: Option<&str>, event_id: Option<&str>, body: &str) -> Identity {
    Identity {
        key: key.map(print),
        event_id: event_id.map(print),
        body: print(body),
        short_window: key.is_some_and(|key| key.starts_with("auto_")),
    }
}

fn claims() -> (Arc<Claims>, Arc<Known>) {
    let known = Arc::new(Known::default());
    (Arc::new(Claims::new(1, Some(Arc::clone(&known) as _))), known)
}

/// What the verdict was, in short; a new one's claims are given up.
#[allow(clippy::needless_pass_by_value, reason = "dropping it gives the claims up")]
fn short(verdict: Verdict) -> String {
    match verdict {
        Verdict::New(_) => "new".into(),
        Verdict::Repeat(first) => format!("repeat {}", first.id.as_bytes()[0]),
        Verdict::Conflict(Conflict::Key(id)) => format!("key {}", id.as_bytes()[0]),
        Verdict::Conflict(Conflict::EventId(id)) => format!("event {}", id.as_bytes()[0]),
        Verdict::Conflict(Conflict::Both { key, event_id }) => {
            format!("both {} {}", key.as_bytes()[0], event_id.as_bytes()[0])
        }
    }
}

async fn take(claims: &Arc<Claims>, identity: &Identity, number: u8) -> Reservation {
    match claims.claim(PARTITION, identity, id(number), NOW).await.unwrap() {
        Verdict::New(reservation) => reservation,
        other => panic!("{}", short(other)),
    }
}

async fn ask(claims: &Arc<Claims>, identity: &Identity) -> String {
    short(claims.claim(PARTITION, identity, id(99), NOW).await.unwrap())
}

/// The rule of the design, whether the first is still here or with the router already.
#[tokio::test]
async fn key_and_event_id_are_two_claims() {
    let first = identity(Some("k"), Some("e"), "body");
    let second = identity(Some("k2"), Some("e2"), "body 2");
    for routed in [false, true] {
        let (claims, known) = claims();
        for (number, identity) in [(1, first), (2, second)] {
            take(&claims, &identity, number).await.durable(Offset(u64::from(number)));
            let entry = ClaimEntry {
                claim: identity.key.unwrap(),
                body: identity.body,
                id: id(number),
                offset: Offset(u64::from(number)),
                expires_at: NOW + limits::DEDUP_WINDOW,
            };
            if routed {
                let event_id = ClaimEntry { claim: identity.event_id.unwrap(), ..entry };
                known.entries.lock().extend([(entry.claim, entry), (event_id.claim, event_id)]);
            }
        }
        if routed {
            known.routed.store(3, Ordering::Relaxed);
        }
        for (identity, expected) in [
            (first, "repeat 1"),
            (second, "repeat 2"),
            (identity(Some("k"), Some("e"), "other"), "key 1"),
            (identity(Some("k"), None, "other"), "key 1"),
            (identity(Some("k3"), Some("e"), "body"), "event 1"),
            (identity(None, Some("e"), "body"), "repeat 1"),
            (identity(None, Some("e"), "other"), "event 1"),
            (identity(Some("k"), Some("e2"), "body"), "both 1 2"),
            (identity(Some("k3"), Some("e3"), "body"), "new"),
        ] {
            assert_eq!(ask(&claims, &identity).await, expected, "routed: {routed}");
        }
        let left = if routed { 0 } else { 4 };
        assert_eq!(claims.count.load(Ordering::Relaxed), left);
        assert_eq!(claims.partitions[0].lock().slots.len(), left);
    }
}

/// A twin waits for the first one's fate: the same id if it is durable, its place if not.
#[tokio::test]
async fn a_twin_waits() {
    let (claims, _) = claims();
    let identity = identity(Some("k"), None, "body");
    for durable in [false, true] {
        let reservation = take(&claims, &identity, 1).await;
        let mut twin = tokio::spawn({
            let claims = Arc::clone(&claims);
            async move { ask(&claims, &identity).await }
        });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!twin.is_finished());
        if durable {
            reservation.durable(Offset(5));
        } else {
            drop(reservation);
        }
        let answer = tokio::time::timeout(Duration::from_secs(5), &mut twin).await.unwrap().unwrap();
        assert_eq!(answer, if durable { "repeat 1" } else { "new" });
    }
}

/// A claim lives until the router has passed its offset, not until it is durable.
#[tokio::test]
async fn a_claim_lives_until_it_was_routed() {
    let (claims, known) = claims();
    let identity = identity(Some("k"), None, "body");
    take(&claims, &identity, 1).await.durable(Offset(7));
    known.routed.store(7, Ordering::Relaxed);
    assert_eq!(ask(&claims, &identity).await, "repeat 1");
    known.routed.store(8, Ordering::Relaxed);
    assert_eq!(ask(&claims, &identity).await, "new");
    assert_eq!(claims.count.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_lapsed_claim_gives_way() {
    let (claims, known) = claims();
    let identity = identity(Some("auto_1"), None, "body");
    take(&claims, &identity, 1).await.durable(Offset(1));
    let later = NOW + limits::DEDUP_WINDOW_SHORT;
    let Verdict::New(second) = claims.claim(PARTITION, &identity, id(2), later).await.unwrap() else {
        panic!()
    };
    second.durable(Offset(2));
    // The first one's end does not take the second one's claim with it.
    known.routed.store(2, Ordering::Relaxed);
    assert_eq!(ask(&claims, &identity).await, "repeat 2");
}

#[tokio::test]
async fn claims_are_bounded() {
    let (claims, _) = claims();
    claims.count.store(limits::CLAIMS_IN_FLIGHT - 1, Ordering::Relaxed);
    let verdict = claims.claim(PARTITION, &identity(Some("k"), Some("e"), "b"), id(1), NOW).await;
    assert!(matches!(verdict, Err(TooMany)));

    let alone = Arc::new(Claims::new(1, None));
    for number in 0..KEPT_WITHOUT_ROUTER * 2 {
        let identity = identity(Some(&format!("k{number}")), None, "b");
        take(&alone, &identity, 1).await.durable(Offset(number as u64));
    }
    assert!(alone.count.load(Ordering::Relaxed) <= KEPT_WITHOUT_ROUTER + 1);
}
