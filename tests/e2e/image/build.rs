//! Does what a Dockerfile says, without a container engine: each stage in a directory of its own. What a base image or
//! a package brings is this machine's own.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::dockerfile::{Instruction, parse};

/// With this in `FANFARE_IMAGE` the release is built as the image would, which takes some minutes; without, the program
/// that is tested goes into the image.
const RELEASE: &str = "release";

/// What `docker build` makes, and what it has in store for a container.
pub(crate) struct Image {
    /// Its files, but for those of its base.
    pub(crate) root: TempDir,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) user: (u32, u32),
    /// Directories that were made, by their paths.
    pub(crate) directories: BTreeMap<String, Directory>,
    pub(crate) volumes: Vec<String>,
    pub(crate) port: u16,
    pub(crate) healthcheck: Vec<String>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    /// Asked of the system's package manager.
    pub(crate) packages: Vec<String>,
    name: Option<String>,
    workdir: String,
}

/// Whose it is, and what he and others may do there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Directory {
    pub(crate) owner: (u32, u32),
    pub(crate) mode: u32,
}

impl Image {
    fn new(name: Option<String>) -> Self {
        Self {
            root: tempfile::tempdir().expect("there is room for a temporary directory"),
            environment: BTreeMap::new(),
            user: (0, 0),
            directories: BTreeMap::new(),
            volumes: Vec::new(),
            port: 0,
            healthcheck: Vec::new(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            packages: Vec::new(),
            name,
            workdir: "/".to_owned(),
        }
    }

    /// The last stage of the workspace's Dockerfile, and those before it.
    pub(crate) fn build() -> (Self, Vec<Self>) {
        let text = fs::read_to_string(workspace().join("Dockerfile")).expect("the workspace has one");
        let mut stages: Vec<Self> = Vec::new();
        for instruction in parse(&text).expect("all of it is understood") {
            if let Instruction::From { image, name } = instruction {
                assert!(image.contains(':'), "{image}: a base without a version changes by itself");
                stages.push(Self::new(name));
                continue;
            }
            let (stage, before) = stages.split_last_mut().expect("FROM comes first");
            stage.take(instruction, before);
        }
        let last = stages.pop().expect("there is a stage");
        (last, stages)
    }

    fn take(&mut self, instruction: Instruction, before: &[Self]) {
        match instruction {
            Instruction::From { .. } => unreachable!("it begins a stage"),
            Instruction::Workdir(path) => {
                fs::create_dir_all(self.path(&path)).unwrap();
                self.workdir = path;
            }
            Instruction::Copy { from: None, source, to } => {
                assert_eq!((&*source, &*to), (".", "."), "all of the context, to where we are");
                copy_context(&workspace(), &self.path(&self.workdir));
            }
            Instruction::Copy { from: Some(from), source, to } => {
                let from = before.iter().find(|stage| stage.name.as_ref() == Some(&from));
                let from = from.expect("a stage of that name comes before").path(&source);
                fs::create_dir_all(self.path(&to).parent().unwrap()).unwrap();
                fs::copy(&from, self.path(&to)).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            }
            Instruction::Run(commands) => commands.iter().for_each(|command| self.run(command)),
            Instruction::User { user, group } => self.user = (user, group),
            Instruction::Env(pairs) => self.environment.extend(pairs),
            Instruction::Volume(path) => self.volumes.push(path),
            Instruction::Expose(port) => self.port = port,
            Instruction::Healthcheck(command) => self.healthcheck = command,
            Instruction::Entrypoint(words) => self.entrypoint = words,
            Instruction::Cmd(words) => self.command = words,
        }
    }

    fn run(&mut self, command: &[String]) {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["apt-get", "update"] | ["rm", "-rf", "/var/lib/apt/lists/*"] => {}
            ["apt-get", "install", "--yes", "--no-install-recommends", packages @ ..] => {
                self.packages.extend(packages.iter().map(|package| (*package).to_owned()));
            }
            ["cargo", "xtask", "dist"] => self.dist(),
            ["install", "--directory", options @ .., path] => self.make_directory(options, path),
            _ => panic!("no way to do without a container: {command:?}"),
        }
    }

    fn make_directory(&mut self, options: &[&str], path: &str) {
        // As `install` does it unless it is told otherwise.
        let mut directory = Directory { owner: self.user, mode: 0o755 };
        let id = |text: &str| -> u32 {
            text.parse().unwrap_or_else(|_| panic!("{text}: the base may not know that name"))
        };
        for option in options {
            match option.split_once('=') {
                Some(("--owner", user)) => directory.owner.0 = id(user),
                Some(("--group", group)) => directory.owner.1 = id(group),
                Some(("--mode", mode)) => directory.mode = u32::from_str_radix(mode, 8).expect("it is octal"),
                _ => panic!("{option}: no way to understand it"),
            }
        }
        // Nobody but root may give files away: here it stays ours.
        let mut install = Command::new("install");
        install.arg("--directory").arg(format!("--mode={:o}", directory.mode)).arg(self.path(path));
        succeed(&mut install);
        self.directories.insert(path.to_owned(), directory);
    }

    fn dist(&self) {
        let copied = self.path(&self.workdir);
        let cargo = || Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // What was copied is a whole workspace.
        let mut metadata = cargo();
        metadata.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
        succeed(metadata.current_dir(&copied).stdout(std::process::Stdio::null()));
        assert!(copied.join("Cargo.lock").exists());
        let mut dist = cargo();
        dist.args(["xtask", "dist"]);
        if env::var("FANFARE_IMAGE").is_ok_and(|form| form == RELEASE) {
            succeed(dist.current_dir(&copied).env_remove("CARGO_TARGET_DIR"));
            return;
        }
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target directory");
        dist.current_dir(workspace()).env("CARGO_TARGET_DIR", target);
        dist.arg("--program").arg(env!("CARGO_BIN_EXE_fanfare"));
        succeed(dist.arg("--out").arg(copied.join("target/dist")));
    }

    /// Where a path of the image is on this machine.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }
}

pub(crate) fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All but what `.dockerignore` names.
fn copy_context(from: &Path, to: &Path) {
    let ignored = fs::read_to_string(from.join(".dockerignore")).expect("the workspace has one");
    let ignored: Vec<&str> =
        ignored.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    for pattern in &ignored {
        let plain = pattern.strip_prefix("*.").unwrap_or(pattern);
        assert!(!plain.contains(['*', '?', '!', '/', '[']), "{pattern}: no way to understand it");
    }
    let is_ignored = |name: &str| {
        ignored.iter().any(|pattern| match pattern.strip_prefix('*') {
            Some(end) => name.ends_with(end),
            None => name == *pattern,
        })
    };
    for name in ["target", ".git"] {
        assert!(is_ignored(name), "{name} would be sent to the engine");
    }
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if !is_ignored(&entry.file_name().to_string_lossy()) {
            succeed(Command::new("cp").args(["--recursive", "--"]).arg(entry.path()).arg(to));
        }
    }
}

#[track_caller]
fn succeed(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
