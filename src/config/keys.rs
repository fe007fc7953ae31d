//! The key that the embedded profile makes for itself at its first start, so that `weir token` and `weir serve` agree without being told.
//!
//! Invariant: of several processes that start at once all end up with the same key, and no reader ever sees half of one: it is written
//! whole under another name, and then takes its place only if the place is free.

use super::secret::Secret;
use super::value::SigningKey;
use crate::clock::{self, NoRandomness};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Below the data directory.
pub const FILE: &str = "signing.key";
/// Random bytes of a key; as text they are 64 characters.
const RANDOM_BYTES: usize = 48;
/// What others may do with a file or directory of mode 0600 or 0700.
const OTHERS: u32 = 0o077;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the key file {path} could not be {act}: {cause}")]
    File {
        act: &'static str,
        path: PathBuf,
        cause: io::Error,
    },
    #[error("the key file {0} may be read by others; run: chmod 600 {0}")]
    Open(PathBuf),
    #[error("the key file {path} {why}; if it is not yours to repair, move it away: a new key is made, and credentials of the old one end")]
    Broken { path: PathBuf, why: String },
    #[error(transparent)]
    Chance(#[from] NoRandomness),
}

/// The key of this data directory, which must exist; made if it is not there yet.
pub fn load_or_create(data_dir: &Path) -> Result<Secret<SigningKey>, KeyError> {
    let path = data_dir.join(FILE);
    match load(&path) {
        Err(KeyError::File { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
            create(data_dir, &path)?;
            load(&path)
        }
        loaded => loaded,
    }
}

fn load(path: &Path) -> Result<Secret<SigningKey>, KeyError> {
    let failed = |cause| KeyError::File {
        act: "read",
        path: path.to_owned(),
        cause,
    };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & OTHERS != 0 {
        return Err(KeyError::Open(path.to_owned()));
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let made = SigningKey::made(text.trim_end().to_owned());
    made.map(Secret::new).map_err(|why| KeyError::Broken {
        path: path.to_owned(),
        why,
    })
}

fn create(data_dir: &Path, path: &Path) -> Result<(), KeyError> {
    let text = URL_SAFE_NO_PAD.encode(clock::secret_bytes::<RANDOM_BYTES>()?) + "\n";
    let own = URL_SAFE_NO_PAD.encode(clock::secret_bytes::<12>()?);
    let draft = data_dir.join(format!(".{FILE}.{own}"));
    let placed = write_whole(&draft, &text).and_then(|()| match fs::hard_link(&draft, path) {
        // Another process was faster; its key is the key.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    // A draft that stays behind is never read, and only its owner could.
    let _ = fs::remove_file(&draft);
    let durable = placed.and_then(|()| File::open(data_dir)?.sync_all());
    durable.map_err(|cause| KeyError::File {
        act: "written",
        path: path.to_owned(),
        cause,
    })
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Barrier;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = load_or_create(dir.path()).expect("made");
        assert_eq!(first.expose().as_bytes().len(), 64);
        assert_eq!(load_or_create(dir.path()).expect("read"), first);
        let mode = fs::metadata(dir.path().join(FILE)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1, "a draft stayed behind");
    }

    #[test]
    fn all_who_start_at_once_agree() {
        for _ in 0..20 {
            let dir = tempfile::tempdir().expect("a directory");
            let start = Barrier::new(8);
            let run = || {
                start.wait();
                load_or_create(dir.path()).expect("a key").expose().as_str().to_owned()
            };
            let keys: HashSet<String> = std::thread::scope(|scope| {
                let all: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
                all.into_iter().map(|one| one.join().expect("no panic")).collect()
            });
            assert_eq!(keys.len(), 1);
        }
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_cut_off_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE);
        load_or_create(dir.path()).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
        let told = load_or_create(dir.path()).expect_err("open to others").to_string();
        assert!(told.contains("chmod 600"), "{told}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
        fs::write(&path, "planted-and-short\n").expect("written");
        let told = load_or_create(dir.path()).expect_err("too short").to_string();
        assert!(told.contains("32 bytes") && !told.contains("planted"), "{told}");
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_the_file() {
        let told = load_or_create(Path::new("/nonexistent/weir")).expect_err("nowhere").to_string();
        assert!(told.contains("/nonexistent/weir/signing.key"), "{told}");
    }
}
