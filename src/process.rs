//! What the process asks of the operating system.

use std::time::Duration;

use anyhow::Context as _;
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};
use tokio::signal::unix::{SignalKind, signal};

/// Connections in and out each take a file descriptor: allow as many as the system lets us.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if setrlimit(Resource::Nofile, raised).is_err() {
        tracing::warn!(limit = ?limit.current, "the limit of open files could not be raised");
    }
}

/// Processor time that all threads of the process have used.
pub(crate) fn processor_time() -> Duration {
    // It fails only on systems that do not have this clock.
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// The allocator reads its settings before `main`: the process starts itself anew, once, with those that a server wants.
/// What an operator has set stays.
#[cfg(feature = "mimalloc")]
pub(crate) fn with_allocator_settings() {
    use std::os::unix::process::CommandExt as _;

    /// Memory that is free goes back to the system at once: what a burst took is not kept.
    const PURGE_DELAY: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "0");

    if std::env::var_os(PURGE_DELAY.0).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_else(|| program.clone().into());
        let error = std::process::Command::new(program)
            .arg0(name)
            .args(arguments)
            .env(PURGE_DELAY.0, PURGE_DELAY.1)
            .exec();
        tracing::debug!(%error, "goes on with the allocator's own settings");
    }
}

/// Takes a guard out of this process, as `FANFARE_PLANTED` says: tests see whether they notice.
#[cfg(feature = "planted")]
pub(crate) fn plant() {
    use fanfare_core::planted::{Fault, plant};

    if let Ok(name) = std::env::var("FANFARE_PLANTED") {
        plant(Some(
            Fault::named(&name).unwrap_or_else(|| panic!("FANFARE_PLANTED: there is no fault {name}")),
        ));
    }
}

/// Resolves on SIGTERM or SIGINT. They count from this call on, whenever it is waited for.
pub(crate) fn asked_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let heard = |kind| signal(kind).context("cannot listen for signals");
    let mut terminate = heard(SignalKind::terminate())?;
    let mut interrupt = heard(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
