//! Runs an image's program where it would run in a container: its own root, its own user without rights, its volumes.
//! Only the network is this machine's.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use super::build::Image;

/// What the base image would bring; `/usr/local` and all else is the image's own.
const BASE: [&str; 11] =
    ["bin", "sbin", "lib", "lib64", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "dev", "proc"];
/// Arguments: root, whether it is read-only, user, group; number of binds, from, to and mode of each; the command.
const ENTER: &str = r#"
set -e
root=$1 read_only=$2 user=$3 group=$4 binds=$5
shift 5
flags() { findmnt --noheadings --output VFS-OPTIONS --target "$1" | sed 's/^rw/ro/'; }
mount --bind "$root" "$root"
while [ "$binds" -gt 0 ]; do
    mount --rbind "$1" "$root$2"
    [ "$3" = rw ] || mount -o "remount,bind,$(flags "$root$2")" "$root$2"
    binds=$((binds - 1))
    shift 3
done
[ "$read_only" = false ] || mount -o "remount,bind,$(flags "$root")" "$root"
exec unshare --user --map-user="$user" --map-group="$group" --root="$root" --wd=/ -- "$@"
"#;

#[derive(Clone)]
pub(crate) struct Container<'a> {
    pub(crate) image: &'a Image,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) volumes: Vec<Volume>,
}

#[derive(Clone, Debug)]
pub(crate) struct Volume {
    /// On this machine.
    pub(crate) directory: PathBuf,
    /// In the container.
    pub(crate) path: String,
    pub(crate) is_read_only: bool,
}

impl<'a> Container<'a> {
    pub(crate) fn new(image: &'a Image) -> Self {
        Self { image, environment: image.environment.clone(), volumes: Vec::new() }
    }

    /// A command in the container, on a root that cannot be written to.
    pub(crate) fn command(&self, words: &[String]) -> Command {
        let root = self.image.root.path();
        let mut binds = Vec::new();
        for name in BASE {
            let (host, inside) = (Path::new("/").join(name), root.join(name));
            match fs::read_link(&host) {
                Ok(target) if fs::symlink_metadata(&inside).is_err() => symlink(target, &inside).unwrap(),
                Err(_) if host.is_dir() => {
                    fs::create_dir_all(&inside).unwrap();
                    binds.push((host, format!("/{name}"), "rw"));
                }
                _ => {}
            }
        }
        for volume in &self.volumes {
            // An engine makes a new volume of what the image has there: it is whose that was.
            let directory = self.image.directories.get(&volume.path);
            let may_write = directory.is_some_and(|directory| {
                directory.owner == self.image.user && directory.mode & 0o700 == 0o700
            });
            assert!(volume.is_read_only || may_write, "no right to write to {}: {directory:?}", volume.path);
            fs::create_dir_all(self.image.path(&volume.path)).unwrap();
            let mode = if volume.is_read_only { "ro" } else { "rw" };
            binds.push((volume.directory.clone(), volume.path.clone(), mode));
        }
        let (user, group) = self.image.user;
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", ENTER, "sh"]);
        command.arg(root).arg("true").args([user, group].map(|id| id.to_string()));
        command.arg(binds.len().to_string());
        for (from, to, mode) in binds {
            command.arg(from).arg(to).arg(mode);
        }
        command.args(words).env_clear().envs(&self.environment);
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        command
    }
}
