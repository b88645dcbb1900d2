//! Starting a tour, and judging how it ended.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{process::Command, time::timeout};

use crate::{
    dropping::Proxy,
    fields::{Field, fields},
    support::{Client, Installation},
};

/// A tour that goes well takes some seconds.
const PATIENCE: Duration = Duration::from_mins(2);
/// Fewer checks than this are no tour.
const CHECKS_MIN: u32 = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    JavaScript,
    Python,
    Go,
    Rust,
}

/// The server, as a tour comes to it.
struct Visit {
    url: String,
    token: String,
    /// Begins all names of the tour.
    name: String,
}

/// The tour of one SDK.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tour {
    pub(crate) language: Language,
    /// Of the SDK's two majors, the newer one that its registry has.
    pub(crate) is_newest: bool,
}

impl Tour {
    pub(crate) const JAVASCRIPT: Self = Self { language: Language::JavaScript, is_newest: true };
    pub(crate) const JAVASCRIPT_PREVIOUS: Self = Self { language: Language::JavaScript, is_newest: false };
    pub(crate) const PYTHON: Self = Self { language: Language::Python, is_newest: true };
    pub(crate) const PYTHON_PREVIOUS: Self = Self { language: Language::Python, is_newest: false };
    /// Its registry has one major only.
    pub(crate) const GO: Self = Self { language: Language::Go, is_newest: false };
    pub(crate) const RUST: Self = Self { language: Language::Rust, is_newest: true };
    pub(crate) const RUST_PREVIOUS: Self = Self { language: Language::Rust, is_newest: false };

    /// How many checks were made, if all went well.
    async fn make(self, visit: Visit) -> Result<u32> {
        let tools = tools();
        let age = if self.is_newest { "newest" } else { "previous" };
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
        let mut command = match self.language {
            Language::JavaScript => {
                let mut command = Command::new(tools.join("node/bin/node"));
                command.arg(scripts.join("javascript/tour.mjs"));
                command.env("TOUR_SDK", tools.join(format!("javascript-{age}")));
                command
            }
            Language::Python => {
                let mut command = Command::new(tools.join(format!("python-{age}/bin/python")));
                // Without writing what it compiled beside the script.
                command.arg("-B").arg(scripts.join("python/tour.py"));
                command
            }
            Language::Go => Command::new(tools.join("go/tour")),
            Language::Rust => {
                let mut command = Command::new(tools.join("rust/debug/tour"));
                command.arg(age);
                command
            }
        };
        command.env("TOUR_URL", &visit.url).env("TOUR_TOKEN", &visit.token).env("TOUR_NAME", &visit.name);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(PATIENCE, command.output()).await.context("it takes too long")?;
        let output = output.context("it cannot be started: run `cargo xtask sdk`")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("{}: {said}{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        checks_of(&said).with_context(|| format!("it ended without a word: {said}"))
    }
}

/// Reads `svix 2.9.1: 123 checks`.
fn checks_of(said: &str) -> Option<u32> {
    said.trim().strip_suffix(" checks")?.rsplit_once(": ")?.1.parse().ok()
}

pub(crate) async fn makes_the_tour(tour: Tour) {
    let installation = Installation::new();
    let server = installation.start().await;
    let visit = visit(&installation, &installation.url(), 0).await;
    let checks = tour.make(visit).await.unwrap_or_else(|error| panic!("{tour:?}: {error:#}"));
    assert!(checks >= CHECKS_MIN, "{tour:?} made {checks} checks");
    server.terminate().await;
}

/// The tour goes well through a proxy that changes nothing, and fails through one that takes a field away. Two languages
/// share the fields, and the other two do; with `FANFARE_FIELDS=all` each has all of them taken away.
pub(crate) async fn notices_missing_fields(tour: Tour) {
    let installation = Installation::new();
    let server = installation.start().await;
    let client = installation.client().await;
    let honest = Proxy::start(installation.address(), None).await;
    let visit_of = async |proxy: &Proxy, number| visit(&installation, &proxy.url(), number).await;
    tour.make(visit_of(&honest, 0).await).await.expect("nothing is missing");

    let mut unnoticed = Vec::new();
    let all = env::var("FANFARE_FIELDS").is_ok_and(|which| which == "all");
    let is_its = |number: usize| all || number % 2 == tour.language as usize % 2;
    for (number, field) in fields(tour.language).enumerate().filter(|(number, _)| is_its(*number)) {
        let proxy = Proxy::start(installation.address(), Some(field)).await;
        let made = tour.make(visit_of(&proxy, number + 1).await).await;
        if let Err(reason) = judge(field, &proxy, made) {
            unnoticed.push(format!("{field:?}: {reason:#}"));
        }
        tidy(&client).await;
    }
    assert!(unnoticed.is_empty(), "{tour:?}:\n{}", unnoticed.join("\n"));
    server.terminate().await;
}

fn judge(field: Field, proxy: &Proxy, made: Result<u32>) -> Result<()> {
    ensure!(proxy.taken() > 0, "no answer had it: {made:?}");
    match made {
        Ok(checks) => bail!("{} is missing, and {checks} checks go well", field.name),
        Err(error) if format!("{error:#}").contains("too long") => bail!("it waited: {error:#}"),
        Err(_) => Ok(()),
    }
}

async fn visit(installation: &Installation, url: &str, number: usize) -> Visit {
    let token = installation.token(&[]).await;
    Visit { url: url.to_owned(), token, name: format!("tour{number}") }
}

/// Removes what a tour left: the lists of the next one are short again, and nobody is told of it who is gone.
async fn tidy(client: &Client) {
    for all in ["/api/v1/operational-webhook/endpoint", "/api/v1/app"] {
        let list = client.get(&format!("{all}?limit=250")).await.json(200);
        for one in list["data"].as_array().unwrap() {
            let id = one["id"].as_str().unwrap();
            assert_eq!(client.delete(&format!("{all}/{id}")).await.status, 204);
        }
    }
}

fn tools() -> PathBuf {
    let tools = env::var_os("FANFARE_TOOLS");
    let tools = tools.expect("FANFARE_TOOLS is not set: run `cargo xtask sdk`, which installs the SDKs");
    PathBuf::from(tools).join("sdk")
}
