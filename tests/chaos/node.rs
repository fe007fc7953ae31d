//! Nodes: processes of the real program, killed with the test, however that ends.

use super::support;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a node may take to start while its stores come back.
const START_SECONDS_MAX: u64 = 45;

/// What all nodes are given.
pub struct Settings {
    /// Where their logs are, and where they run.
    pub folder: PathBuf,
    pub policies: PathBuf,
    pub database_url: String,
    pub redis_url: String,
    /// Variables beside these.
    pub more: Vec<(&'static str, String)>,
}

/// A node that is killed and started again; its address changes with that.
pub struct Node {
    number: usize,
    settings: Settings,
    running: Mutex<Option<Running>>,
    url: Mutex<String>,
}

/// A process, and another one that kills it when this one closes its standard input, be it by dying.
struct Running {
    node: Child,
    guard: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        let _ = self.node.wait();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    pub fn start(number: usize, settings: Settings) -> Self {
        let node = Self {
            number,
            settings,
            running: Mutex::new(None),
            url: Mutex::new(String::new()),
        };
        node.run();
        node
    }

    pub fn url(&self) -> String {
        lock(&self.url).clone()
    }

    pub fn log(&self) -> PathBuf {
        self.settings.folder.join(format!("node-{}.log", self.number))
    }

    /// Kills it, as a power cut would.
    pub fn kill(&self) {
        drop(lock(&self.running).take());
    }

    /// Starts it, as often as it takes while the stores are coming back.
    pub fn run(&self) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(START_SECONDS_MAX) {
            if let Some((running, url)) = self.try_run() {
                *lock(&self.url) = url;
                *lock(&self.running) = Some(running);
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("node {} does not start; its log is {}", self.number, self.log().display());
    }

    fn try_run(&self) -> Option<(Running, String)> {
        let Settings {
            folder,
            policies,
            database_url,
            redis_url,
            more,
        } = &self.settings;
        let log = OpenOptions::new().create(true).append(true).open(self.log()).expect("a log");
        let mut node = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["serve", "--listen", "127.0.0.1:0", "--policies"])
            .arg(policies)
            .current_dir(folder)
            .env_clear()
            .envs([("WEIR_DATABASE_URL", database_url.as_str()), ("WEIR_REDIS_URL", redis_url)])
            .envs([("WEIR_JWT_SECRET", support::SECRET), ("WEIR_LOG", "info")])
            .envs(more.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("weir starts");
        let guard = Command::new("sh")
            .args(["-c", "cat > /dev/null; kill -9 \"$0\" 2> /dev/null", &node.id().to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a guard");
        let lines = BufReader::new(node.stdout.take().expect("its output")).lines();
        let mut lines = lines.map_while(Result::ok);
        let running = Running { node, guard };
        let address = lines.find_map(|line| {
            let rest = line.split("http://").nth(1)?;
            Some(format!("http://{}", rest.split(['/', ' ']).next()?))
        })?;
        std::thread::spawn(move || lines.for_each(drop));
        Some((running, address))
    }

    /// Stops the process where it stands, until it is resumed.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// The most memory that the running process has had, in kilobytes, where the system tells.
    pub fn memory_most(&self) -> Option<u64> {
        let pid = lock(&self.running).as_ref()?.node.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    fn signal(&self, name: &str) {
        let running = lock(&self.running);
        let pid = running.as_ref().expect("it runs").node.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {name}");
    }
}

/// Policies of one plan: a hard limit of tokens for ever, and counters of other kinds beside it that never stop anybody.
pub fn policies(folder: &Path, hard: i64) -> PathBuf {
    let policies = folder.join("policies");
    std::fs::create_dir(&policies).expect("a folder");
    for file in ["models.yaml", "routing.yaml"] {
        std::fs::copy(support::policies().join(file), policies.join(file)).expect("a copy");
    }
    let plans = format!(
        "default_plan: chaos
plans:
  - id: chaos
    name: Chaos
    pricing: {{model: flat, base_usd: \"0\", seat_usd: \"0\", interval: month}}
    budgets:
      - {{id: tokens, unit: tokens, period: lifetime, hard: {hard}}}
      - {{id: money, unit: usd, period: month}}
      - {{id: mine, scope: user, unit: tokens, period: day, hard: 1000000000}}
      - {{id: summaries, feature: summary, unit: requests, period: month, hard: 1000000000}}
"
    );
    std::fs::write(policies.join("plans.yaml"), plans).expect("written");
    policies
}
