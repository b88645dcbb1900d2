//! What the machine must have beside Rust, from its own packages: installed where that is ours to do.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{command, report::Report};

/// Something that is needed, how to see that it is there, and the packages of Debian and its kin that bring it.
struct Need {
    what: &'static str,
    seen_by: &'static [&'static str],
    packages: &'static [&'static str],
}

/// To build the Kafka client, the allocator, and what is written in C of TLS and SQLite.
const C_TOOLS: Need = Need {
    what: "a C and a C++ compiler, make and CMake",
    seen_by: &["sh", "-c", "cc --version && c++ --version && make --version && cmake --version"],
    packages: &["build-essential", "cmake"],
};
/// To build the Kafka client.
const OPENSSL: Need = Need {
    what: "OpenSSL 3 with its headers",
    seen_by: &["pkg-config", "--exists", "openssl >= 3"],
    packages: &["libssl-dev", "pkg-config"],
};
/// To run Apache Kafka in tests.
const JAVA: Need = Need {
    what: "Java 17 or later",
    // The oldest that knows this option is 16; there is no release of 16 in any distribution any more.
    seen_by: &["java", "--enable-native-access=ALL-UNNAMED", "--version"],
    packages: &["default-jre-headless"],
};
/// To fetch it.
const MAVEN: Need = Need { what: "Maven", seen_by: &["mvn", "--version"], packages: &["maven"] };
/// To tie it to the program that started it.
const SETPRIV: Need =
    Need { what: "setpriv of util-linux", seen_by: &["setpriv", "--version"], packages: &["util-linux"] };

/// To build the tour of the Go SDK.
const GO: Need = Need { what: "Go", seen_by: &["go", "version"], packages: &["golang-go"] };
/// To install the Python SDK where other packages do not get in its way.
const VENV: Need = Need {
    what: "Python 3 with venv",
    seen_by: &["python3", "-c", "import ensurepip, venv"],
    packages: &["python3", "python3-venv"],
};
/// To keep history in during tests.
const POSTGRES: Need = Need {
    what: "PostgreSQL with its server",
    seen_by: &["sh", "-c", "ls /usr/lib/postgresql/*/bin/postgres || command -v postgres"],
    packages: &["postgresql"],
};
/// Its packages read this directory before they make, and start, a database of their own, which nobody needs here.
const POSTGRES_SETTINGS: &str = "/etc/postgresql-common/createcluster.d";

/// What building needs.
pub(crate) fn for_build(report: &mut Report) -> Result<()> {
    report.step("packages for building", || ensure(&[C_TOOLS, OPENSSL]))
}

/// What the official SDKs need.
pub(crate) fn for_sdks(report: &mut Report) -> Result<()> {
    report.step("packages for the SDKs", || ensure(&[GO, VENV]))
}

/// What running Apache Kafka needs.
pub(crate) fn for_kafka(report: &mut Report) -> Result<()> {
    report.step("packages for Apache Kafka", || ensure(&[JAVA, MAVEN, SETPRIV]))
}

/// What running PostgreSQL needs.
pub(crate) fn for_postgres(report: &mut Report) -> Result<()> {
    report.step("packages for PostgreSQL", || ensure(&[POSTGRES, SETPRIV]))
}

fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !is_there(need)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    let what: Vec<&str> = missing.iter().map(|need| need.what).collect();
    if !(rustix::process::geteuid().is_root() && Path::new("/usr/bin/apt-get").exists()) {
        bail!(
            "{} needed: on Debian and its kin `apt-get install {}`",
            what.join(" and "),
            packages.join(" ")
        );
    }
    let mut update = Command::new("apt-get");
    update.args(["update", "--quiet"]);
    command::run(&mut update)?;
    let quiet = if packages.contains(&"postgresql") { Some(without_cluster()?) } else { None };
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(&packages);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    let installed = command::run(&mut install);
    if let Some(settings) = quiet {
        fs::remove_file(&settings).with_context(|| format!("cannot remove {}", settings.display()))?;
    }
    installed?;
    match missing.iter().find(|need| !is_there(need)) {
        Some(need) => bail!("the packages {} did not bring {}", need.packages.join(" "), need.what),
        None => Ok(()),
    }
}

/// Says that an installation of PostgreSQL begins without a database that runs; gives the file to remove afterwards.
fn without_cluster() -> Result<PathBuf> {
    let directory = Path::new(POSTGRES_SETTINGS);
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let file = directory.join("fanfare.conf");
    fs::write(&file, "create_main_cluster = false\n")
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn is_there(need: &Need) -> bool {
    let (program, arguments) = need.seen_by.split_first().expect("a program is named");
    let mut ask = Command::new(program);
    ask.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    ask.status().is_ok_and(|status| status.success())
}
