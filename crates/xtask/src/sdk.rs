//! The official SDKs that the tours of `tests/sdk` are made with: from their registries, pinned, into `target/tools/sdk`.
//!
//! ```text
//! node/bin/node                      Node.js of the age that the JavaScript SDK wants, from the Python package index
//! javascript-newest, -previous       with `node_modules/svix`
//! python-newest, -previous           virtual environments with `svix`
//! go/tour                            tests/sdk/go, built with the SDK that its go.mod names
//! rust/debug/tour                    tests/sdk/rust, likewise
//! ```

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{command, report::Report, system, tools, workspace::Workspace};

/// The two newest majors.
const JAVASCRIPT: [(&str, &str); 2] = [("newest", "svix@2.5.0"), ("previous", "svix@1.99.1")];
const PYTHON: [(&str, &str); 2] = [("newest", "svix==2.9.1"), ("previous", "svix==1.99.1")];

/// Installs what is missing; builds the tours in Go and Rust, which takes a second where nothing changed.
pub(crate) fn install(workspace: &Workspace, report: &mut Report) -> Result<()> {
    system::for_sdks(report)?;
    report.step("install official SDKs", || {
        let sdks = workspace.tools().join("sdk");
        fs::create_dir_all(&sdks).with_context(|| format!("cannot create {}", sdks.display()))?;
        let node = sdks.join("node");
        tools::once(&node, tools::NODE_WHEEL, |node| tools::python_with(node, tools::NODE_WHEEL))?;
        for (age, library) in JAVASCRIPT {
            let directory = sdks.join(format!("javascript-{age}"));
            tools::once(&directory, library, |directory| {
                tools::npm_install(&node.join("bin"), directory, library)
            })?;
        }
        for (age, library) in PYTHON {
            let directory = sdks.join(format!("python-{age}"));
            tools::once(&directory, library, |directory| tools::python_with(directory, library))?;
        }
        let sources = workspace.root.join("tests/sdk");
        go(&sources.join("go"), &sdks.join("go/tour"))?;
        rust(&sources.join("rust"), &sdks.join("rust"))
    })
}

fn go(source: &Path, program: &Path) -> Result<()> {
    let mut build = Command::new("go");
    build.args(["build", "-mod=readonly", "-trimpath", "-o"]).arg(program).arg(".");
    // No other toolchain than the machine's, and no version control to ask.
    build.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-buildvcs=false").env("GOWORK", "off");
    command::run(build.current_dir(source)).context("the tour with the Go SDK cannot be built")
}

fn rust(source: &Path, target: &Path) -> Result<()> {
    let mut build = command::cargo(source);
    build.args(["build", "--locked", "--target-dir"]).arg(target);
    command::run(&mut build).context("the tour with the Rust SDK cannot be built")
}
