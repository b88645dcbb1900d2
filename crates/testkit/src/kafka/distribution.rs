//! Apache Kafka itself: its artifacts and what they need, fetched once with the ordinary Maven client.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{Cluster, Settings};

/// The release of Apache Kafka that tests run against.
pub const VERSION: &str = "4.3.1";
/// What Kafka says through SLF4J goes to the Log4j that it brings; to be of one version with it.
const LOG4J: &str = "2.25.4";
const COPY_DEPENDENCIES: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.9.0:copy-dependencies";

/// Where an installed Apache Kafka stands.
#[derive(Clone, Debug)]
pub struct Distribution {
    directory: PathBuf,
}

impl Distribution {
    /// The one below `tools`; fetched first if it is not there. Processes that ask at once wait for the first.
    pub fn fetch(tools: &Path) -> Result<Self> {
        fs::create_dir_all(tools).with_context(|| format!("cannot create {}", tools.display()))?;
        let lock = tools.join("kafka.lock");
        let lock = File::create(&lock).with_context(|| format!("cannot create {}", lock.display()))?;
        lock.lock().context("cannot lock the directory of tools")?;
        let directory = tools.join("kafka");
        let marker = directory.join("installed");
        let wanted = project();
        if fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
            return Ok(Self { directory });
        }
        if directory.exists() {
            fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        download(&directory, &wanted)?;
        let distribution = Self { directory };
        distribution.archive_classes(tools)?;
        fs::write(&marker, wanted).with_context(|| format!("cannot write {}", marker.display()))?;
        Ok(distribution)
    }

    /// What Java is given to find Kafka, and to find it read and checked already.
    pub(super) fn class_options(&self) -> Vec<OsString> {
        let mut options = vec!["-cp".into(), self.directory.join("libs/*").into()];
        let archive = self.archive();
        if archive.exists() {
            // A Java of another version says that it cannot use it, and does without.
            options.push(option("-XX:SharedArchiveFile=", &archive));
        }
        options
    }

    /// The same; the first broker makes the archive when it stops.
    pub(super) fn class_options_of_a_broker(&self) -> Vec<OsString> {
        let mut options = self.class_options();
        let archive = self.archive();
        if !archive.exists() {
            options.push(option("-XX:ArchiveClassesAtExit=", &archive));
        }
        options
    }

    /// With its classes in an archive of Java's own a broker starts in half the time. Running one makes it.
    fn archive_classes(&self, tools: &Path) -> Result<()> {
        let settings = Settings { tools: tools.to_path_buf(), ..Settings::new(1) };
        Cluster::start_from(self, &settings)?.stop()
    }

    fn archive(&self) -> PathBuf {
        self.directory.join("classes.jsa")
    }
}

fn download(directory: &Path, project: &str) -> Result<()> {
    ensure!(
        is_installed("java", "-version") && is_installed("mvn", "-version"),
        "Apache Kafka needs Java 17 or later, and Maven to be fetched with: `cargo xtask tools` installs both where \
         it may"
    );
    eprintln!("Apache Kafka {VERSION} is fetched once");
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let file = directory.join("pom.xml");
    fs::write(&file, project).with_context(|| format!("cannot write {}", file.display()))?;
    // What Maven fetches for itself does not stay.
    let repository = directory.join("repository");
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "-Dstyle.color=never", "--file"]).arg(&file);
    maven.arg(option("-Dmaven.repo.local=", &repository));
    maven.arg(COPY_DEPENDENCIES).arg(option("-DoutputDirectory=", &directory.join("libs")));
    // Maven tells on stdout; a caller's stdout may be read by a program.
    let output = maven.stderr(Stdio::inherit()).output().context("cannot start mvn")?;
    ensure!(
        output.status.success(),
        "mvn cannot fetch Apache Kafka: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    fs::remove_dir_all(&repository).with_context(|| format!("cannot remove {}", repository.display()))
}

fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(value);
    option
}

fn is_installed(program: &str, argument: &str) -> bool {
    let mut ask = Command::new(program);
    ask.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    ask.status().is_ok_and(|status| status.success())
}

/// A project that needs nothing but the broker and something to write its log with.
fn project() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>\
             </dependency>"
        )
    };
    let kafka = dependency("org.apache.kafka", "kafka_2.13", VERSION);
    let log = dependency("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J);
    format!(
        r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>fanfare</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    {kafka}
    {log}
  </dependencies>
</project>
"#
    )
}
