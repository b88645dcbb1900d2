//! Many attempts, generated through the projection, and questions about them: how fast they go in, and how soon answers
//! come.
//!
//! `FANFARE_ATTEMPTS=10000000 cargo test --release -p fanfare-history --test scale -- --nocapture` is the long form, on a
//! machine that does nothing else: there, half of the answers have to come within 50 ms and 99 of 100 within 250 ms.
//! Without the variable there are fewer attempts, and no time is required.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::needless_range_loop,
    clippy::too_many_lines,
    clippy::unused_self,
    reason = "numbers of a made-up past are small, and a test fails by panicking"
)]

mod questions;
mod world;

use std::{env, sync::Arc, time::Duration};

use fanfare_core::{Clock, EndpointNumber, InstallationId, SystemClock};
use fanfare_history::{AttemptFilter, EndpointAt, History, Options, Place, Reach, StatusClass, Window};
use fanfare_log::embedded::EmbeddedLog;
use fanfare_testkit::postgres::{Server, Settings};
use tempfile::TempDir;
use tokio::{task::spawn_blocking, time::Instant};
use tokio_util::sync::CancellationToken;

use self::{
    questions::Kind,
    world::{SPAN_SECS, Teller},
};

const ATTEMPTS: u64 = 200_000;
/// Of each kind; in the long form four times as many.
const QUESTIONS: u64 = 50;
/// In the long form.
const MEDIAN: Duration = Duration::from_millis(50);
const NEARLY_ALL: Duration = Duration::from_millis(250);

/// A past that is written down, and how many attempts there are in it.
struct Past {
    log: Arc<EmbeddedLog>,
    teller: Teller,
    attempts: u64,
    _directory: TempDir,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_about_many_attempts_are_answered_on_sqlite_and_on_postgres() {
    let long = env::var("FANFARE_ATTEMPTS").ok().map(|attempts| attempts.parse().expect("a number"));
    let past = past(long.unwrap_or(ATTEMPTS)).await;
    let directory = TempDir::new().unwrap();
    let sqlite = Place::Sqlite(directory.path().join("history.db"));
    let mut times = project_and_ask("sqlite", sqlite, &past, long.is_some()).await;
    drop(directory);
    // As much memory as a small server of its own would be given; the rest of what it reads is in that of the system.
    let parameters = [("shared_buffers", "512MB"), ("max_wal_size", "4GB")];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let server = spawn_blocking(|| Server::start(&Settings { parameters })).await.unwrap().unwrap();
    let postgres = Place::Postgres(server.url("postgres"));
    times.extend(project_and_ask("postgres", postgres, &past, long.is_some()).await);
    drop(spawn_blocking(move || drop(server)).await);

    if long.is_some() {
        let slow: Vec<_> =
            times.iter().filter(|time| time.median > MEDIAN || time.nearly_all > NEARLY_ALL).collect();
        assert!(slow.is_empty(), "too slow: {slow:?}");
    }
}

async fn past(attempts: u64) -> Past {
    let directory = TempDir::new().unwrap();
    let log = world::open(directory.path());
    let begun = SystemClock.now() - Duration::from_secs(SPAN_SECS);
    let teller = Teller { begun, total: world::messages_for(attempts) };
    let since = Instant::now();
    let attempts = world::write(&log, &teller).await;
    println!("{attempts} attempts of {} messages written in {:.1?}", teller.total, since.elapsed());
    Past { log, teller, attempts, _directory: directory }
}

/// How soon answers to one kind of question came.
#[derive(Debug)]
#[allow(dead_code, reason = "shown where one is too slow")]
struct Times {
    store: &'static str,
    kind: Kind,
    median: Duration,
    nearly_all: Duration,
    worst: Duration,
}

async fn project_and_ask(store: &'static str, place: Place, past: &Past, long: bool) -> Vec<Times> {
    let options = Options {
        log: past.log.clone(),
        clock: Arc::new(SystemClock),
        place,
        installation: InstallationId::from_bytes([1; 20]),
        retention: Duration::from_hours(90 * 24),
    };
    let (history, service) = fanfare_history::open(options).await.unwrap();
    let stop = CancellationToken::new();
    let since = Instant::now();
    let thread = service.start(stop.clone()).unwrap();
    while !history.passed(Reach::Everything).await {}
    let rate = past.attempts as f64 / since.elapsed().as_secs_f64();
    println!("{store}: projected in {:.1?}, {rate:.0} attempts/s", since.elapsed());

    rare_attempts_are_all_there(&history, past).await;
    let mut times = Vec::new();
    for kind in Kind::ALL {
        let time = measure(store, kind, &history, past, if long { QUESTIONS * 4 } else { QUESTIONS }).await;
        println!(
            "{store}: {kind:?}: half within {:.1?}, 99 of 100 within {:.1?}, all within {:.1?}",
            time.median, time.nearly_all, time.worst
        );
        times.push(time);
    }
    stop.cancel();
    spawn_blocking(move || thread.join().unwrap()).await.unwrap();
    times
}

async fn measure(store: &'static str, kind: Kind, history: &History, past: &Past, questions: u64) -> Times {
    let mut times = Vec::new();
    let mut found = 0;
    for number in 0..questions {
        let since = Instant::now();
        found += questions::ask(history, &past.teller, kind, number).await.unwrap();
        times.push(since.elapsed());
    }
    assert!(found > 0, "{kind:?} finds nothing");
    times.sort();
    let of = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    Times { store, kind, median: of(50), nearly_all: of(99), worst: of(100) }
}

/// Page by page, in both directions.
async fn rare_attempts_are_all_there(history: &History, past: &Past) {
    let mut expected = 0_usize;
    let hot = EndpointNumber(0);
    for n in 0..past.teller.total {
        let told = past.teller.tell(n);
        if told.endpoints.iter().any(|at| at.number == hot) {
            let fate = past.teller.fate(n, hot);
            expected += fate.failures.iter().filter(|status| **status / 100 == 3).count();
        }
    }
    let at: EndpointAt = world::endpoints(0).next().expect("one of them");
    let filter = AttemptFilter { class: StatusClass::new(300), ..AttemptFilter::default() };
    for descending in [true, false] {
        let mut found = 0;
        let mut iterator = None;
        loop {
            let window = Window::new(7, iterator.as_deref(), descending);
            let page = history.attempts_of_endpoint(at, &filter, &window).await.unwrap();
            found += page.items.len();
            assert!(page.items.iter().all(|attempt| attempt.http_status / 100 == 3));
            if page.done {
                break;
            }
            iterator = page.iterator;
        }
        assert_eq!(found, expected, "descending: {descending}");
    }
}
