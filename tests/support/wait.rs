//! Waiting with a deadline.

use std::time::Duration;

use tokio::time::Instant;

/// How long anything may take that normally takes milliseconds: generous, because other tests run beside.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(10);

/// Asks again and again until there is an answer; panics with `what` when there is none within `patience`.
pub(crate) async fn until<T>(what: &str, patience: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "after {patience:?} still not: {what}");
        tokio::time::sleep(POLL).await;
    }
}
