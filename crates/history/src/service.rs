//! The thread that projects, and how tables are made ready.

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use fanfare_core::InstallationId;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    OpenError, Place, QueryError, StoreError, expiry, projector,
    shared::Shared,
    store::{self, SCHEMA_VERSION, Statement, Store, TABLES, Value},
};

/// So much less than others, who deliver.
const NICE: i32 = 10;
/// After the tables could not be read or written.
const RETRY: Duration = Duration::from_secs(1);
/// Where another process projects, its positions are read this often.
const FOLLOW: Duration = Duration::from_millis(250);

/// Projects the log into the tables, on a thread of its own.
pub struct Service {
    pub(crate) shared: Arc<Shared>,
    pub(crate) place: Place,
    pub(crate) installation: InstallationId,
}

impl Service {
    /// Begins, until `stop`. The thread ends soon after; nobody has to wait for it, since what it had not written is
    /// projected by the next start.
    pub fn start(self, stop: CancellationToken) -> Result<JoinHandle<()>, OpenError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(OpenError::Thread)?;
        let run = move || {
            // Of this thread, and of those that the database driver starts from it.
            if let Err(error) = rustix::process::nice(NICE) {
                tracing::debug!(%error, "history runs at the priority of everybody");
            }
            runtime.block_on(self.run(stop));
        };
        std::thread::Builder::new().name("history".to_owned()).spawn(run).map_err(OpenError::Thread)
    }

    async fn run(self, stop: CancellationToken) {
        let mut trouble = Trouble::default();
        // One for all tries: who leads still leads after a failure that was short.
        let store = match store::open(&self.place) {
            Ok(store) => store,
            Err(error) => return trouble.tell(&error.into()),
        };
        while !stop.is_cancelled() {
            let Err(error) = self.project(&*store, &mut trouble, &stop).await else { break };
            self.shared.meters.failures.add(1);
            trouble.tell(&error);
            drop(timeout(RETRY, stop.cancelled()).await);
        }
        store.close().await;
    }

    /// Until `stop`, or something goes wrong.
    async fn project(
        &self,
        store: &dyn Store,
        trouble: &mut Trouble,
        stop: &CancellationToken,
    ) -> Result<(), OpenError> {
        while !store.lead().await? {
            trouble.over();
            // It may be that the other one is just making them.
            if check(store, self.installation).await? {
                self.shared.follow(store).await.map_err(OpenError::from)?;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(FOLLOW) => {}
            }
        }
        prepare(store, self.installation).await?;
        trouble.over();
        tokio::select! {
            ended = projector::run(&self.shared, store, stop) => Ok(ended?),
            never = expiry::run(&self.shared) => match never {},
        }
    }
}

/// Says what is wrong once, and once that it is over.
#[derive(Default)]
struct Trouble {
    told: Option<String>,
}

impl Trouble {
    fn tell(&mut self, error: &OpenError) {
        let text = error.to_string();
        if self.told.as_ref() == Some(&text) {
            return;
        }
        if let OpenError::Store(StoreError::Unavailable(_)) = error {
            tracing::warn!("{text}; deliveries go on, and history will catch up");
        } else {
            tracing::error!("{text}; deliveries go on without history");
        }
        self.told = Some(text);
    }

    fn over(&mut self) {
        if self.told.take().is_some() {
            tracing::info!("history goes on");
        }
    }
}

/// Makes the tables where there are none, or those of an older program, and looks whose they are.
pub(crate) async fn prepare(store: &dyn Store, installation: InstallationId) -> Result<(), OpenError> {
    if !check(store, installation).await? && store.lead().await? {
        store.write(fresh(store, installation)).await?;
    }
    Ok(())
}

/// Whether there are tables that this program understands.
pub(crate) async fn check(store: &dyn Store, installation: InstallationId) -> Result<bool, OpenError> {
    if !store.has_tables().await? {
        return Ok(false);
    }
    let about = store.rows("SELECT name, value FROM about", Vec::new()).await?;
    let find = |wanted: &str| {
        about.iter().find(|row| row.text(0) == Ok(Some(wanted))).and_then(|row| row.text(1).ok().flatten())
    };
    let theirs = find("installation").unwrap_or("none").to_owned();
    let ours = installation.to_string();
    if theirs != ours {
        return Err(OpenError::Foreign { theirs, ours });
    }
    let found = find("version").and_then(|text| text.parse().ok()).unwrap_or(0);
    if found > SCHEMA_VERSION {
        return Err(OpenError::Newer { found, known: SCHEMA_VERSION });
    }
    if found < SCHEMA_VERSION {
        tracing::info!(
            found,
            "the tables of history are of an older version: they are made again from the log"
        );
    }
    Ok(found == SCHEMA_VERSION)
}

/// Statements that leave nothing but empty tables.
pub(crate) fn fresh(store: &dyn Store, installation: InstallationId) -> Vec<Statement> {
    let plain = |sql: String| Statement::Run { sql, values: Vec::new() };
    let mut all: Vec<_> = TABLES.iter().map(|table| plain(format!("DROP TABLE IF EXISTS {table}"))).collect();
    let schema = store.schema();
    // A comment may hold what ends a statement.
    let lines: Vec<&str> = schema.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let statements = lines.join("\n");
    let statements = statements.split(';').map(str::trim).filter(|sql| !sql.is_empty());
    all.extend(statements.map(|sql| plain(sql.to_owned())));
    for (name, value) in [("installation", installation.to_string()), ("version", SCHEMA_VERSION.to_string())]
    {
        all.push(Statement::Run {
            sql: "INSERT INTO about (name, value) VALUES ($1, $2)".to_owned(),
            values: vec![Value::Text(name.to_owned()), Value::Text(value)],
        });
    }
    all
}

impl From<QueryError> for OpenError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Store(error) => Self::Store(error),
            QueryError::Log(error) => Self::Log(error),
            other => Self::Store(StoreError::Refused(other.to_string())),
        }
    }
}
