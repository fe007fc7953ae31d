//! The directory of the embedded profile: made for its owner alone, and used by one service at a time.
//!
//! The lock is the operating system's, on a file that says who holds it; it ends with the process, however that ends. What the file says
//! is for people and for `weir replay`; only the lock decides.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOCK_FILE: &str = "serve.lock";
/// [`running`] holds the lock for a moment to find out who does; whoever starts meanwhile tries again.
const LOCK_TRIES: u32 = 10;
const LOCK_TRY_EVERY: Duration = Duration::from_millis(20);
/// A lock file is never longer, whatever somebody wrote into it.
const LOCK_FILE_BYTES_MAX: u64 = 1_024;

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("the data directory {path} could not be {act}: {cause}")]
    File {
        act: &'static str,
        path: PathBuf,
        cause: io::Error,
    },
    #[error("the data directory {path} is in use by {by}; stop it, or choose another directory with --data-dir")]
    InUse { path: PathBuf, by: String },
}

/// A service that runs on a data directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Running {
    pub pid: Option<u32>,
    /// Where it listens, such as `http://127.0.0.1:8080`; `None` while it starts.
    pub address: Option<String>,
}

impl Running {
    fn words(&self) -> String {
        let process = self
            .pid
            .map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
        match &self.address {
            Some(address) => format!("{process}, which listens on {address}"),
            None => process,
        }
    }
}

/// Makes the directory if it is not there, for its owner alone.
pub fn create(path: &Path) -> Result<(), DataDirError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|cause| DataDirError::File {
        act: "created",
        path: path.to_owned(),
        cause,
    })
}

/// The right to use a data directory, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of a directory that exists.
    pub fn take(data_dir: &Path) -> Result<Self, DataDirError> {
        let path = data_dir.to_owned();
        let failed = |cause| DataDirError::File {
            act: "locked",
            path: path.clone(),
            cause,
        };
        let mut file = open(data_dir, true).map_err(failed)?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => {
                    let mut lock = Self { file, path };
                    lock.write(&format!("{}\n", std::process::id()))?;
                    return Ok(lock);
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_TRY_EVERY),
                Err(TryLockError::Error(cause)) => return Err(failed(cause)),
            }
        }
        let by = read(&mut file).map_err(failed)?.words();
        Err(DataDirError::InUse { path, by })
    }

    /// Writes down where the service listens.
    pub fn announce(&mut self, address: &str) -> Result<(), DataDirError> {
        self.write(&format!("{}\n{address}\n", std::process::id()))
    }

    fn write(&mut self, text: &str) -> Result<(), DataDirError> {
        let written = self
            .file
            .rewind()
            .and_then(|()| self.file.set_len(0))
            .and_then(|()| self.file.write_all(text.as_bytes()));
        written.map_err(|cause| DataDirError::File {
            act: "locked",
            path: self.path.clone(),
            cause,
        })
    }
}

/// The service that runs on a data directory, if there is one.
pub fn running(data_dir: &Path) -> Option<Running> {
    let mut file = open(data_dir, false).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => read(&mut file).ok(),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

fn open(data_dir: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(create)
        .create(create)
        .mode(0o600)
        .open(data_dir.join(LOCK_FILE))
}

fn read(file: &mut File) -> io::Result<Running> {
    let mut text = String::new();
    file.rewind()?;
    file.take(LOCK_FILE_BYTES_MAX).read_to_string(&mut text)?;
    let mut lines = text.lines();
    let pid = lines.next().and_then(|line| line.parse().ok());
    let address = lines.next().filter(|line| line.starts_with("http://")).map(str::to_owned);
    Ok(Running { pid, address })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_directory_is_for_its_owner_alone_and_may_be_there_already() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b");
        create(&path).expect("made");
        create(&path).expect("there already");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o700);
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("written");
        let told = create(&file.join("x")).expect_err("below a file").to_string();
        assert!(told.contains("could not be created"), "{told}");
    }

    #[test]
    fn a_second_service_is_told_who_uses_the_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(running(dir.path()), None);
        let mut first = Lock::take(dir.path()).expect("free");
        let pid = Some(std::process::id());
        assert_eq!(running(dir.path()), Some(Running { pid, address: None }));
        first.announce("http://127.0.0.1:4321").expect("written");
        assert_eq!(
            running(dir.path()).and_then(|running| running.address).as_deref(),
            Some("http://127.0.0.1:4321")
        );
        let told = Lock::take(dir.path()).expect_err("in use").to_string();
        for part in [std::process::id().to_string().as_str(), "http://127.0.0.1:4321", "--data-dir"] {
            assert!(told.contains(part), "{told}");
        }
        drop(first);
        assert_eq!(running(dir.path()), None);
        Lock::take(dir.path()).expect("free again");
    }

    #[test]
    fn what_somebody_wrote_into_the_lock_file_harms_nobody() {
        let dir = tempfile::tempdir().expect("a directory");
        let _lock = Lock::take(dir.path()).expect("free");
        std::fs::write(dir.path().join(LOCK_FILE), "not a pid\nftp://elsewhere\n").expect("written");
        assert_eq!(running(dir.path()), Some(Running { pid: None, address: None }));
    }
}
