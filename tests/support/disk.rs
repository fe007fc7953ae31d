//! A small disk of the test's own: memory that is mounted where only this test sees it, gone with the test, however that ends.

#![allow(dead_code, reason = "each suite uses what it needs")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells the test that it runs again, and where the disk is.
const INSIDE: &str = "WEIR_TEST_DISK";
/// How a shell says that nothing can be mounted here.
const CANNOT_MOUNT: i32 = 77;
/// What `unshare` ends with if it is not allowed to.
const CANNOT_UNSHARE: i32 = 1;
const SHELL: &str = r#"mount -t tmpfs -o "size=$1m,mode=1777" tmpfs "$0" || exit 77; exec "$2" --exact "$3" --nocapture"#;

pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Has this test, by its full name, run again in a process that sees such a disk: there it is returned, and here there is nothing left to
    /// do. Where only root may mount and we are not, it says so, and that is no failure.
    pub fn of(mebibytes: u32, test: &str) -> Option<Self> {
        if let Some(path) = std::env::var_os(INSIDE) {
            return Some(Self { path: path.into() });
        }
        let folder = tempfile::tempdir().expect("a folder");
        let program = std::env::current_exe().expect("this program");
        let status = Command::new("unshare")
            .args(["--mount", "sh", "-c", SHELL])
            .arg(folder.path())
            .arg(mebibytes.to_string())
            .arg(program)
            .arg(test)
            .env(INSIDE, folder.path())
            .status();
        match status.map(|status| status.code()) {
            Ok(Some(0)) => {}
            Ok(Some(CANNOT_MOUNT | CANNOT_UNSHARE)) | Err(_) => {
                eprintln!("skipped {test}: a small disk can only be mounted by root, where the system lets it");
            }
            Ok(code) => panic!("{test} failed on its small disk: {code:?}"),
        }
        None
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn filling(&self) -> PathBuf {
        self.path.join("filling")
    }

    /// Takes all that is free, to the last byte.
    pub fn fill(&self) {
        let file = std::fs::File::options().create(true).append(true).open(self.filling());
        let mut file = file.expect("a file");
        for piece in [vec![0; 1 << 20], vec![0; 1 << 12], vec![0; 1]] {
            while file.write(&piece).is_ok_and(|written| written > 0) {}
        }
    }

    pub fn free(&self) {
        std::fs::remove_file(self.filling()).expect("it was filled");
    }
}
