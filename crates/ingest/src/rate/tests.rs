#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use fanfare_control::{ApplicationSettings, default_organization};
use fanfare_core::{Partition, Timestamp};
use proptest::{collection::vec, prelude::*};

use super::*;

fn application(number: u8, publish_rate: Option<u32>) -> Application {
    Application {
        id: ApplicationId::from_bytes([number; 20]),
        organization: default_organization(),
        settings: ApplicationSettings { publish_rate, ..ApplicationSettings::default() },
        partition: Partition(0),
        created_at: Timestamp::ZERO,
        updated_at: Timestamp::ZERO,
        revision: 1,
    }
}

fn key(number: u8) -> Credential {
    Credential::Key(ApiKeyId::from_bytes([number; 20]))
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers[name].to_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_second_takes_what_it_may_and_no_more() {
    let rates = Rates::new(None, None);
    let shop = application(1, Some(4));
    let admitted = || rates.admit(&key(1), Some(&shop));
    for left in (0..4).rev() {
        let mut headers = HeaderMap::new();
        admitted().unwrap().write(&mut headers);
        assert_eq!(text(&headers, "ratelimit-policy"), r#""application";q=4;w=1"#);
        assert_eq!(text(&headers, "ratelimit"), format!(r#""application";r={left};t=1"#));
    }
    let refused = admitted().unwrap_err();
    assert_eq!((refused.status().as_u16(), refused.code()), (429, "rate_limited"));
    // A quarter of a second later there is room for one, ...
    tokio::time::advance(Duration::from_millis(250)).await;
    admitted().unwrap();
    admitted().unwrap_err();
    // ... and after a rest for a second's worth, however long it was.
    tokio::time::advance(Duration::from_mins(1)).await;
    assert_eq!((0..10).filter(|_| admitted().is_ok()).count(), 4);
}

#[tokio::test(start_paused = true)]
async fn each_limit_holds_and_neither_counts_what_the_other_refused() {
    let rates = Rates::new(Some(3), Some(2));
    let (shop, bank, free) = (application(1, None), application(2, None), application(3, Some(100)));
    let admitted = |key, application| rates.admit(&key, Some(application)).is_ok();
    assert!(admitted(key(1), &shop) && admitted(key(1), &shop));
    assert!(!admitted(key(1), &shop), "the application's own");
    assert!(admitted(key(1), &bank), "the refused one took nothing from the token");
    assert!(!admitted(key(1), &free), "the token's, whatever the application may");
    assert!(admitted(key(2), &free), "another token has its own");
    let refused = rates.admit(&key(1), Some(&shop)).unwrap_err().problem();
    assert_eq!(refused["violated-policies"], serde_json::json!(["token", "application"]));
    assert_eq!(refused["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    let unlimited = Rates::new(None, None);
    assert!((0..1_000).all(|_| unlimited.admit(&key(1), Some(&shop)).is_ok()));
    let mut headers = HeaderMap::new();
    unlimited.admit(&key(1), None).unwrap().write(&mut headers);
    assert!(headers.is_empty(), "nothing is said where there is no limit");
}

#[tokio::test(start_paused = true)]
async fn many_at_once_count_for_as_many() {
    let rates = Rates::new(None, Some(10));
    let shop = application(1, None);
    rates.admit(&key(1), Some(&shop)).unwrap();
    let standing = rates.charge(&key(1), &shop, 99);
    assert_eq!((standing.0[0].left, standing.0[0].full_in), (0, Duration::from_secs(10)));
    tokio::time::advance(Duration::from_millis(8_999)).await;
    rates.admit(&key(1), Some(&shop)).unwrap_err();
    tokio::time::advance(Duration::from_millis(101)).await;
    rates.admit(&key(1), Some(&shop)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let rates = Rates::new(Some(1), None);
    for number in 0..limits::RATES_REMEMBERED + 10 {
        let id = u64::try_from(number).unwrap().to_be_bytes();
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&id);
        rates.admit(&Credential::Key(ApiKeyId::from_bytes(bytes)), None).unwrap();
    }
    assert!(rates.full_at.lock().len() <= limits::RATES_REMEMBERED);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However requests come, in no window of time is more let in than the rate and one second's worth beside.
    #[test]
    fn the_rate_is_kept(rate in 1_u32..50, pauses_ms in vec(0_u64..400, 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let admitted: Vec<Duration> = runtime.block_on(async {
            let rates = Rates::new(None, Some(rate));
            let (shop, began) = (application(1, None), Instant::now());
            let mut admitted = Vec::new();
            for pause in pauses_ms {
                tokio::time::advance(Duration::from_millis(pause)).await;
                if rates.admit(&key(1), Some(&shop)).is_ok() {
                    admitted.push(began.elapsed());
                }
            }
            admitted
        });
        for (first, from) in admitted.iter().enumerate() {
            for (last, to) in admitted.iter().enumerate().skip(first) {
                let count = u128::try_from(last - first + 1).unwrap();
                let most = (to.saturating_sub(*from) + WINDOW).as_micros() * u128::from(rate) / 1_000_000 + 1;
                prop_assert!(count <= most, "{} from {:?} to {:?}", count, from, to);
            }
        }
    }
}
