//! Certificates of an authority of the tests' own, made by `openssl`, for servers that speak TLS.
//!
//! Depends on the standard library and tempfile alone, so that the library's own tests and those beside it can both include it.

#![allow(dead_code, reason = "each suite uses what it needs")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes what a TLS server needs: an authority that nobody knows, and a certificate by it for one host.
const MAKE: &str = r#"
set -eu
cd "$1"
new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
cat >request <<END
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
subjectAltName = $2
END
new_key ca.key
openssl req -x509 -new -config request -extensions authority -key ca.key -days 2 -subj "/CN=tests of Weir $$" -out ca.pem
new_key server.key
openssl req -new -config request -key server.key -subj "/CN=a server of the tests" -out server.csr
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile request -extensions server -out server.pem
chmod 600 server.key
"#;

/// An authority and a certificate by it, in a folder that goes with this value.
pub struct Certificates {
    folder: tempfile::TempDir,
}

/// Whether there is `openssl` here. Says so if not, and fails where nothing may be skipped.
pub fn can_be_made() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok();
    if !found {
        assert!(
            std::env::var_os("WEIR_TEST_NO_SKIPS").is_none(),
            "openssl is not installed, and WEIR_TEST_NO_SKIPS forbids to skip its tests"
        );
        eprintln!("skipped: openssl is not installed");
    }
    found
}

impl Certificates {
    /// For servers that are asked for by this name.
    pub fn for_host(name: &str) -> Self {
        Self::of(&format!("DNS:{name}"))
    }

    /// For servers that are asked for by this address.
    pub fn for_address(address: &str) -> Self {
        Self::of(&format!("IP:{address}"))
    }

    fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("sh");
        command.args(["-c", MAKE, "make"]).arg(folder.path()).arg(name);
        let made = command.output().expect("a shell");
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The certificate of the authority, which clients are to trust.
    pub fn authority(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// Puts certificate and key where a server may read them, owned by whoever owns that folder.
    pub fn put_into(&self, folder: &Path) -> (PathBuf, PathBuf) {
        use std::os::unix::fs::MetadataExt;
        let owner = std::fs::metadata(folder).expect("the server's folder");
        let put = |from: &str, to: &str| {
            let to = folder.join(to);
            std::fs::copy(self.file(from), &to).expect("a copy");
            std::os::unix::fs::chown(&to, Some(owner.uid()), Some(owner.gid())).expect("its owner");
            to
        };
        (put("server.pem", "server.crt"), put("server.key", "server.key"))
    }
}
