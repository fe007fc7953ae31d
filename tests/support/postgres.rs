//! A real PostgreSQL for tests: a cluster of its own in a temporary directory, gone with the process that asked for it, however that ends.
//!
//! A shell stands guard over it: it starts the server, does what it is told through its standard input, and when that closes it ends the
//! server and removes the directory. Servers refuse to run as root, so then the shell becomes an unprivileged user first.

#![allow(dead_code, reason = "each suite uses what it needs")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// With this variable a test that would be skipped fails.
const NO_SKIPS: &str = "WEIR_TEST_NO_SKIPS";
/// How long a server may take to answer.
const START_SECONDS_MAX: u64 = 60;

/// Guards one cluster. `$1` the directory of the programs, `$2` the port, `$3` that of the server that it follows, if any. It says one line
/// for each thing that it has done.
const GUARD: &str = r#"
set -u
trap '' INT TERM HUP
dir=$(mktemp -d "${TMPDIR:-/tmp}/weir-postgres-XXXXXX") || exit 1
bin=$1 port=$2 primary=$3
initdb() { "$bin/initdb" --pgdata="$dir/data" --username=weir --auth=trust --encoding=UTF8 --no-sync "$@" >>"$dir/log" 2>&1; }
# A locale that does not sort by bytes shows who relies on one that does. Before version 15 there was no such choice.
if [ -n "$primary" ]; then
    from="host=127.0.0.1 port=$primary user=weir application_name=standby"
    "$bin/pg_basebackup" -d "$from" -D "$dir/data" --write-recovery-conf --checkpoint=fast --no-sync >>"$dir/log" 2>&1 || exit 1
else
    initdb --locale=C --locale-provider=icu --icu-locale=en-US || { rm -rf "$dir/data"; initdb --locale=C; }
fi
cat >>"$dir/data/postgresql.conf" <<END
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$dir'
shared_buffers = 64MB
max_connections = 300
fsync = on
synchronous_commit = on
deadlock_timeout = 200ms
END
start() { "$bin/postgres" -D "$dir/data" >>"$dir/log" 2>&1 & pid=$!; }
start
echo "$dir"
while read -r word; do
    case $word in
    stop) kill -QUIT $pid; wait $pid; echo stopped ;;
    start) start; echo started ;;
    # As a supervisor would. A child that has ended is there until the shell has waited for some other one.
    revive) sleep 0.1; kill -0 $pid 2>/dev/null && echo runs || { start; echo started; } ;;
    promote) "$bin/pg_ctl" -D "$dir/data" promote --wait >>"$dir/log" 2>&1; echo promoted ;;
    esac
done
kill -QUIT $pid 2>/dev/null
wait $pid
rm -rf "$dir"
"#;

/// A running PostgreSQL.
pub struct Postgres {
    port: u16,
    programs: PathBuf,
    directory: PathBuf,
    guard: Mutex<(Child, BufReader<ChildStdout>)>,
}

/// The server that all cases of this process share, each in a schema of its own; `None`: there is no PostgreSQL here, and it was said.
pub fn shared() -> Option<&'static Postgres> {
    static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
    SHARED.get_or_init(Postgres::start).as_ref()
}

impl Postgres {
    /// A server of its own; `None`: there is no PostgreSQL here, and it was said.
    pub fn start() -> Option<Self> {
        Self::start_in(&std::env::temp_dir())
    }

    /// The same, with its data in this folder.
    pub fn start_in(folder: &Path) -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(
                std::env::var_os(NO_SKIPS).is_none(),
                "there is no PostgreSQL here, and {NO_SKIPS} is set"
            );
            eprintln!("skipped: there is no PostgreSQL here (Debian: apt-get install postgresql)");
            return None;
        };
        // Another process may take the port between its choice and the server's start.
        (0..5)
            .find_map(|_| Self::start_on(free_port(), &programs, None, folder))
            .or_else(|| panic!("PostgreSQL does not start"))
    }

    /// A server that follows this one, under the name `standby`, and is asked by nobody until it is promoted.
    pub fn standby(&self) -> Self {
        let folder = std::env::temp_dir();
        let standby = (0..5).find_map(|_| Self::start_on(free_port(), &self.programs, Some(self.port), &folder));
        standby.expect("a standby starts")
    }

    fn start_on(port: u16, programs: &Path, primary: Option<u16>, folder: &Path) -> Option<Self> {
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh"]);
                command
            }
            false => Command::new("sh"),
        };
        command.env("TMPDIR", folder);
        let port_text = port.to_string();
        let primary = primary.map(|port| port.to_string()).unwrap_or_default();
        command.args(["-c", GUARD, "guard"]).arg(programs).args([port_text, primary]);
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut guard = command.spawn().expect("a shell");
        let mut said = BufReader::new(guard.stdout.take().expect("a pipe"));
        let mut directory = String::new();
        said.read_line(&mut directory).expect("the guard speaks");
        let server = Self {
            port,
            programs: programs.to_owned(),
            directory: PathBuf::from(directory.trim()),
            guard: Mutex::new((guard, said)),
        };
        server.answers().then_some(server)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of its database, in which names are found in `schema`; whoever uses it creates that.
    pub fn url(&self, schema: &str) -> String {
        self.url_at(self.port, schema)
    }

    /// The same, through another port: of a proxy.
    pub fn url_at(&self, port: u16, schema: &str) -> String {
        format!("postgres://weir@127.0.0.1:{port}/postgres?options[search_path]={schema}")
    }

    /// Where its data is.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Ends it as a power cut would: nothing is finished, nothing is said to anyone.
    pub fn stop_immediately(&self) {
        self.tell("stop");
    }

    pub fn start_again(&self) {
        self.tell("start");
        assert!(
            self.answers(),
            "PostgreSQL does not start again; its log is in {}",
            self.directory.display()
        );
    }

    /// Starts it as often as it has ended by itself, until it answers.
    pub fn revive(&self) {
        let give_up = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        while Instant::now() < give_up {
            self.tell("revive");
            if self.is_ready() {
                return;
            }
        }
        panic!("PostgreSQL does not run again; its log is in {}", self.directory.display());
    }

    fn is_ready(&self) -> bool {
        let port = self.port.to_string();
        let asked = Command::new(self.programs.join("pg_isready"))
            .args(["-q", "-h", "127.0.0.1", "-p", &port])
            .status();
        asked.expect("pg_isready").success()
    }

    /// Makes a primary of a standby.
    pub fn promote(&self) {
        self.tell("promote");
    }

    fn tell(&self, word: &str) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let (child, said) = &mut *guard;
        writeln!(child.stdin.as_mut().expect("a pipe"), "{word}").expect("the guard listens");
        let mut answer = String::new();
        said.read_line(&mut answer).expect("the guard speaks");
        assert!(!answer.is_empty(), "the guard is gone");
    }

    fn answers(&self) -> bool {
        let give_up = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        while Instant::now() < give_up {
            if self.is_ready() {
                return true;
            }
            if !self.is_running() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// Whether the server, or one that is about to start, has left its mark in the directory.
    fn is_running(&self) -> bool {
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        !log.contains("could not bind") && !log.contains("could not create any TCP/IP sockets")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        // The guard ends when nobody can tell it anything any more.
        drop(guard.0.stdin.take());
        let _ = guard.0.wait();
    }
}

/// Where the programs of the server are.
fn programs() -> Option<PathBuf> {
    let has_all = |folder: &PathBuf| {
        ["postgres", "initdb", "pg_isready"]
            .iter()
            .all(|program| folder.join(program).exists())
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut packaged: Vec<PathBuf> = packaged.map(|version| version.path().join("bin")).collect();
    packaged.sort();
    let mut folders = std::env::split_paths(&path).chain(packaged.into_iter().rev());
    folders.find(has_all)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    id.stdout.trim_ascii() == b"0"
}
