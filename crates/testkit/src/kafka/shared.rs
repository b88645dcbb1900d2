//! One broker for all tests of a run.

use std::{
    env,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::{Cluster, Settings};

/// Where the broker of this run listens; set by `cargo xtask test`.
pub const ADDRESS_VARIABLE: &str = "FANFARE_TEST_KAFKA";
/// Where tools beside Rust are kept; set by `cargo xtask`.
pub const TOOLS_VARIABLE: &str = "FANFARE_TOOLS";

/// The address of the broker that tests share: the one of the run, or else one of this process, started at the first
/// call and gone with the process. Panics, and so fails the test, if there is none to be had.
///
/// Tests keep apart by prefixes of their own. Who stops, kills or freezes brokers starts a [`Cluster`] instead.
pub fn shared() -> &'static str {
    static SHARED: OnceLock<(String, Option<Cluster>)> = OnceLock::new();
    let (address, _) = SHARED.get_or_init(|| {
        if let Ok(address) = env::var(ADDRESS_VARIABLE) {
            return (address, None);
        }
        let cluster = Cluster::start(&Settings::new(1)).unwrap_or_else(|error| panic!("{error:#}"));
        (cluster.bootstrap(), Some(cluster))
    });
    address
}

/// Where Apache Kafka is kept between runs.
pub fn tools() -> PathBuf {
    if let Some(tools) = env::var_os(TOOLS_VARIABLE) {
        return tools.into();
    }
    // TARGET/PROFILE/deps/test-123abc
    let program = env::current_exe().unwrap_or_default();
    let deps = program.ancestors().find(|directory| directory.ends_with("deps"));
    let target = deps.and_then(|deps| deps.ancestors().nth(2));
    let workspace = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    target.map_or_else(workspace, Path::to_path_buf).join("tools")
}
