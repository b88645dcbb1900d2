//! The directory of one partition's runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Error,
    format::Owner,
    run::{Run, numbers_in},
};

/// A file, and the numbers of the first and last seal in its name.
type Named = (PathBuf, (u64, u64));

/// Where a table keeps its runs, and whose they are.
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) owner: Owner,
}

impl Directory {
    pub(super) fn create(path: &Path, owner: Owner) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), owner })
    }

    /// The runs, newest first. Files that a crash left behind are removed. An error says that something is
    /// missing or damaged: then none of them may be used.
    pub(super) fn load(&self) -> Result<Vec<Arc<Run>>, Error> {
        let mut found = self.list()?;
        // Newest first; of those that end alike the widest first: it was merged from the others.
        found.sort_by_key(|&(_, (first, last))| (std::cmp::Reverse(last), first));
        let mut runs: Vec<Arc<Run>> = Vec::new();
        let mut oldest = 0;
        for (path, (first, last)) in found {
            let wanted = runs.last().map(|run| run.header.first);
            if wanted.is_some_and(|below| below <= oldest || last >= below) {
                // Dropped, or merged into another; a crash came before it was removed.
                remove(&path);
                continue;
            }
            let run = Run::open(path)?;
            let damaged = |what| Error::Damaged { path: run.path.clone(), what };
            if run.header.owner != self.owner {
                return Err(damaged("it belongs to another installation or partition"));
            }
            if (run.header.first, run.header.last) != (first, last) || first > last {
                return Err(damaged("its name is not its own"));
            }
            if wanted.is_some_and(|below| below != last + 1) {
                return Err(damaged("the run after it is missing"));
            }
            oldest = runs.first().map_or(run.header.oldest, |newest: &Arc<Run>| newest.header.oldest);
            runs.push(Arc::new(run));
        }
        match runs.last() {
            Some(last) if last.header.first > oldest => {
                Err(Error::Damaged { path: last.path.clone(), what: "the run before it is missing" })
            }
            Some(_) | None => Ok(runs),
        }
    }

    /// Removes all runs.
    pub(super) fn clear(&self) -> Result<(), Error> {
        for (path, _) in self.list()? {
            remove(&path);
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<Named>, Error> {
        let list = || -> io::Result<Vec<_>> {
            let mut runs = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "tmp") {
                    remove(&path);
                } else if let Some(numbers) = numbers_in(&path) {
                    runs.push((path, numbers));
                }
            }
            Ok(runs)
        };
        list().map_err(|source| Error::Io { path: self.path.clone(), source })
    }
}

pub(super) fn remove_runs(runs: &[Arc<Run>]) {
    for run in runs {
        remove(&run.path);
    }
}

/// A file that cannot be removed now is found again at the next start.
pub(super) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a file of claims that is no longer needed");
    }
}
