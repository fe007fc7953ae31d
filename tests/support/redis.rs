//! Real Redis servers of the tests' own: on free ports, with data in a temporary folder, ended with the test or with its process.
//!
//! Depends on the standard library and tempfile alone, so that the library's own tests and those beside it can both include it.

#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to start, and a cluster to agree.
const START_SECONDS: u64 = 20;
/// Waits until its input ends, be it by our death, and clears up; a server that is to run again keeps its folder.
const GUARD: &str = "read word; kill -9 \"$0\" 2> /dev/null; test \"$word\" = keep || rm -rf \"$1\"";
/// How many free ports are tried, since another program may take one first.
const PORTS_TRIED: usize = 5;

/// Whether there are Redis binaries here. Says so if not, and fails where nothing may be skipped.
pub fn is_there() -> bool {
    let found = Command::new("redis-server").arg("--version").output().is_ok();
    if !found {
        assert!(
            std::env::var_os("WEIR_TEST_NO_SKIPS").is_none(),
            "redis-server is not installed, and WEIR_TEST_NO_SKIPS forbids to skip its tests"
        );
        eprintln!("skipped: redis-server is not installed");
    }
    found
}

/// A server. It ends when this is dropped.
pub struct Server {
    pub port: u16,
    folder: tempfile::TempDir,
    options: Vec<String>,
    running: Option<Running>,
}

/// A process, and another one that kills it when this one closes its standard input, be it by dying.
struct Running {
    server: Child,
    guard: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        let _ = self.server.wait();
    }
}

fn text_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn is_root() -> bool {
    text_of(Command::new("id").arg("-u")) == "0"
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// A folder that the unprivileged user may write to, if we are root.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    if is_root() {
        let nobody = text_of(Command::new("id").args(["-u", "nobody"])).parse().expect("a user id");
        std::os::unix::fs::chown(folder.path(), Some(nobody), None).expect("chown");
    }
    folder
}

fn launch(folder: &Path, port: u16, options: &[String]) -> Running {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "redis-server"]);
        command
    } else {
        Command::new("redis-server")
    };
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(folder);
    command.args(["--loglevel", "notice", "--logfile", "log", "--enable-debug-command", "local"]);
    // A primary sends its data to a replica at once instead of waiting five seconds for others.
    command.args(["--repl-diskless-sync-delay", "0"]);
    let server = command
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let guard = Command::new("sh")
        .args(["-c", GUARD, &server.id().to_string()])
        .arg(folder)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a guard");
    Running { server, guard }
}

/// One command in the inline form, and the beginning of its answer.
fn ask(port: u16, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
}

/// Waits until something is true.
pub fn until(what: &str, is_true: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_true() {
        assert!(
            started.elapsed() < Duration::from_secs(START_SECONDS),
            "waited too long until {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with these options of `redis-server`.
    pub fn start_with(options: &[&str]) -> Self {
        for _ in 0..PORTS_TRIED {
            let mut server = Self {
                port: free_port(),
                folder: folder(),
                options: options.iter().map(|option| (*option).to_owned()).collect(),
                running: None,
            };
            if server.try_run() {
                return server;
            }
        }
        panic!("redis-server does not start");
    }

    fn try_run(&mut self) -> bool {
        self.try_run_with(&[], "+PONG")
    }

    /// Starts it with more options, until it answers so.
    fn try_run_with(&mut self, more: &[&str], is_up: &str) -> bool {
        let more = more.iter().map(|option| (*option).to_owned());
        let options: Vec<String> = self.options.iter().cloned().chain(more).collect();
        let mut running = launch(self.folder.path(), self.port, &options);
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(START_SECONDS) {
            if running.server.try_wait().is_ok_and(|status| status.is_some()) {
                return false;
            }
            if ask(self.port, "PING").is_ok_and(|answer| answer.starts_with(is_up)) {
                self.running = Some(running);
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Has it speak TLS too, with certificate and key of these files. Returns the port.
    pub fn speak_tls(&self, (certificate, key): (&Path, &Path)) -> u16 {
        let port = free_port();
        let text = |path: &Path| path.to_str().expect("text").to_owned();
        let (certificate, key, port_text) = (text(certificate), text(key), port.to_string());
        let mut arguments = vec!["CONFIG", "SET", "tls-cert-file", &certificate, "tls-key-file", &key];
        // A cluster wants to know by whom other nodes' certificates are; there are none.
        arguments.extend(["tls-ca-cert-file", &certificate, "tls-auth-clients", "no", "tls-port", &port_text]);
        assert_eq!(self.cli(&arguments), "OK");
        port
    }

    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("it runs").server.id()
    }

    /// The folder in which it keeps its dump.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            let input = running.guard.stdin.as_mut().expect("the guard listens");
            input.write_all(b"keep\n").expect("the guard listens");
        }
    }

    /// Starts it again after it was killed, with what it finds in its folder.
    pub fn run(&mut self) {
        assert!(self.try_run(), "redis-server starts again");
    }

    /// Keeps in its folder what it has, and as much besides that loading it takes long; then it is killed and started again, and loads.
    pub fn run_loading(&mut self) {
        self.cli(&["DEBUG", "POPULATE", "200000", "filler", "100"]);
        self.cli(&["SAVE"]);
        self.kill();
        // A millisecond a key. Others are answered after each so many bytes.
        let slowly = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"];
        assert!(self.try_run_with(&slowly, "-LOADING"), "redis-server loads");
    }

    /// How many commands it has refused because it loads.
    pub fn refused_while_loading(&self) -> u64 {
        let told = self.cli(&["INFO", "errorstats"]);
        let count = told.lines().find_map(|line| line.strip_prefix("errorstat_LOADING:count="));
        count.map_or(0, |count| count.trim().parse().expect("a number"))
    }

    /// Ends its loading.
    pub fn load_the_rest(&self) {
        self.cli(&["CONFIG", "SET", "key-load-delay", "0"]);
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.pid().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {name}");
    }

    /// Stops the process where it stands, until it is resumed.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    pub fn try_cli(&self, arguments: &[&str]) -> Output {
        let port = self.port.to_string();
        let mut command = Command::new("redis-cli");
        command.args(["-p", &port]).args(arguments);
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// What `redis-cli` prints.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = self.try_cli(arguments);
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(output.status.success(), "redis-cli {arguments:?}: {text}");
        text
    }

    /// Starts a replica and waits until it follows.
    pub fn replica(&self) -> Server {
        let port = self.port.to_string();
        let replica = Server::start_with(&["--replicaof", &format!("127.0.0.1 {port}")]);
        until("the replica follows", || {
            replica.cli(&["INFO", "replication"]).contains("master_link_status:up")
        });
        replica
    }

    /// Waits until a replica has all that was written here. (WAIT would only wait for what its own connection wrote.)
    pub fn reach(&self, replica: &Server) {
        let offset = |server: &Server| {
            let info = server.cli(&["INFO", "replication"]);
            let line = info.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
            line.and_then(|line| line.trim().parse::<u64>().ok()).expect("an offset")
        };
        let written = offset(self);
        until("the replica has caught up", || offset(replica) >= written);
    }
}

/// Three primaries; with replicas behind them, three of those.
pub struct Cluster {
    pub servers: Vec<Server>,
}

impl Cluster {
    pub fn start() -> Self {
        Self::of(3, &["--cluster-node-timeout", "5000"], "0")
    }

    /// Each primary has a replica that takes its place when it is away for a second.
    pub fn with_replicas() -> Self {
        let cluster = Self::of(
            6,
            &["--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0"],
            "1",
        );
        until("the replicas follow", || {
            let follows = |server: &Server| {
                let info = server.cli(&["INFO", "replication"]);
                info.contains("role:master") || info.contains("master_link_status:up")
            };
            cluster.servers.iter().all(follows)
        });
        cluster
    }

    /// A node more, which the others know and which has no slots.
    pub fn another(&self) -> Server {
        let bus = free_port().to_string();
        let server = Server::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
        self.servers[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &server.port.to_string(), &bus]);
        let known = format!("cluster_known_nodes:{}", self.servers.len() + 1);
        let knows_all = |server: &Server| {
            let info = server.cli(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains(&known)
        };
        until("the cluster knows it", || self.servers.iter().all(knows_all) && knows_all(&server));
        server
    }

    fn of(count: usize, options: &[&str], replicas: &str) -> Self {
        let server = |_| {
            let bus = free_port().to_string();
            Server::start_with(&[&["--cluster-enabled", "yes", "--cluster-port", &bus], options].concat())
        };
        let servers: Vec<Server> = (0..count).map(server).collect();
        let mut arguments = vec!["--cluster".to_owned(), "create".to_owned()];
        arguments.extend(servers.iter().map(|server| format!("127.0.0.1:{}", server.port)));
        arguments.extend(["--cluster-replicas", replicas, "--cluster-yes"].map(str::to_owned));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        servers[0].cli(&arguments);
        let cluster = Self { servers };
        until("the cluster agrees", || (0..count).all(|place| cluster.is_whole(place)));
        cluster
    }

    /// Whether a server knows all others and serves.
    pub fn is_whole(&self, place: usize) -> bool {
        let info = self.servers[place].cli(&["CLUSTER", "INFO"]);
        let known = format!("cluster_known_nodes:{}", self.servers.len());
        info.contains("cluster_state:ok") && info.contains(&known)
    }

    pub fn is_primary(&self, place: usize) -> bool {
        self.servers[place].cli(&["INFO", "replication"]).contains("role:master")
    }

    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }
}
