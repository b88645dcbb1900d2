//! What a process printed.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Mutex, PoisonError},
};

/// The lines of a process's stdout and stderr, as they come.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Follows a stream until it ends, on a thread of its own.
    pub(crate) fn follow(&self, stream: impl Read + Send + 'static) -> std::thread::JoinHandle<()> {
        let lines = Arc::clone(&self.0);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        })
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What stands behind `prefix` in the first line that begins with it.
    pub(crate) fn after(&self, prefix: &str) -> Option<String> {
        self.lines().iter().find_map(|line| line.strip_prefix(prefix).map(str::to_owned))
    }

    /// Lines that say somebody must act, and panics.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| is_error(line)).collect()
    }

    pub(crate) fn tail(&self, count: usize) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

fn is_error(line: &str) -> bool {
    line.contains(r#""level":"ERROR""#) || line.contains(" ERROR ") || line.contains("panicked at")
}

#[test]
fn error_lines_are_told_apart() {
    assert!(is_error(r#"{"timestamp":"2026-11-22T00:00:00Z","level":"ERROR","message":"cannot sync"}"#));
    assert!(is_error("2026-11-22T00:00:00Z ERROR fanfare_log: cannot sync"));
    assert!(is_error("thread 'main' panicked at src/main.rs:1:1:"));
    assert!(!is_error(r#"{"level":"WARN","message":"endpoint answered ERROR"}"#));
}
