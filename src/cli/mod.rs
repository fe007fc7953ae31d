//! The command line: parses, calls, prints. Failures end with one message on stderr that says what to do, and with exit code 1.

mod billing;
mod cache;
mod doctor;
mod explain;
mod ledger;
mod policy;
mod prices;
pub mod replay;
mod router;
mod running;
mod serve;
mod token;

use crate::config::{ConfigError, Given, Loaded};
use clap::{Args, Parser, Subcommand};
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Quota and billing metering for AI products.
#[derive(Parser)]
#[command(name = "weir", version, arg_required_else_help = false)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Settings that are flags too.
#[derive(Args, Clone, Debug)]
struct Common {
    /// Where to listen: HOST:PORT, port 0 for any.
    #[arg(long, global = true, help_heading = "Settings")]
    listen: Option<String>,
    /// Where the ledger and the keys are kept.
    #[arg(long, global = true, help_heading = "Settings")]
    data_dir: Option<String>,
    /// The directory of the policy files.
    #[arg(long, global = true, help_heading = "Settings")]
    policies: Option<String>,
    /// A file of settings.
    #[arg(long, global = true, env = "WEIR_CONFIG", help_heading = "Settings")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (the default).
    Serve,
    /// Print a credential, alone on the last line.
    Token(token::TokenArgs),
    /// Print the settings in force and where each comes from; secrets are hidden.
    Config,
    /// Work with policies.
    Policy {
        #[command(subcommand)]
        command: policy::PolicyCommand,
    },
    /// Work with prices.
    Prices {
        #[command(subcommand)]
        command: prices::PricesCommand,
    },
    /// Measure the cache of answers.
    Cache {
        #[command(subcommand)]
        command: cache::CacheCommand,
    },
    /// Train and judge the routing of requests by their difficulty, and report second tries.
    Router {
        #[command(subcommand)]
        command: router::RouterCommand,
    },
    /// Prove the ledger.
    Ledger {
        #[command(subcommand)]
        command: ledger::LedgerCommand,
    },
    /// Look after what a billing provider is told.
    Billing {
        #[command(subcommand)]
        command: billing::BillingCommand,
    },
    /// Read all counters from the ledger again.
    RebuildCounters,
    /// Bring the schema of the ledger up to date; `serve` does it by itself.
    Migrate,
    /// Look whether the stores are reachable and in good order.
    Doctor,
    /// Explain a decision or a reservation: the questions, the rungs, and why.
    Explain(explain::ExplainArgs),
    /// Replay a recorded trace against a service.
    Replay(replay::ReplayArgs),
}

impl Common {
    fn load(&self) -> Result<Loaded, ConfigError> {
        let flags = [("listen", &self.listen), ("data_dir", &self.data_dir), ("policies", &self.policies)];
        let flags = flags.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
        Loaded::load(Given::of_process(flags, self.config.clone()))
    }
}

/// Prints a line. Whoever read it may have gone away (`weir serve | head -1`): that is no error, and ends no service.
fn say(line: impl Display) -> io::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        said => said,
    }
}

/// Tells a person something beside what a command prints. Nobody who reads it is no error either.
fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Anything that ends a command, told as it is.
type Failure = Box<dyn std::error::Error>;

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    match dispatch(Cli::parse()) {
        Ok(code) => code,
        Err(failure) => {
            tell(format_args!("weir: {failure}"));
            let mut cause = failure.source();
            while let Some(inner) = cause {
                tell(format_args!("  because {inner}"));
                cause = inner.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let loaded = cli.common.load()?;
    for warning in &loaded.warnings {
        tell(format_args!("weir: warning: {warning}"));
    }
    let settings = &loaded.settings;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => {
            loaded.check()?;
            serve::serve(settings)
        }
        Command::Token(args) => token::token(settings, &args),
        Command::Config => {
            say(loaded.to_toml().trim_end())?;
            loaded.check()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Policy { command } => {
            if command.needs_ledger() {
                loaded.check()?;
            }
            policy::policy(settings, &command)
        }
        Command::Prices { command } => {
            loaded.check()?;
            prices::prices(settings, &command)
        }
        Command::Cache { command } => {
            loaded.check()?;
            cache::cache(settings, &command)
        }
        Command::Router { command } => {
            if command.needs_ledger() {
                loaded.check()?;
            }
            router::router(settings, &command)
        }
        Command::Ledger { command } => {
            loaded.check()?;
            ledger::ledger(settings, &command)
        }
        Command::Billing { command } => {
            loaded.check()?;
            billing::billing(settings, &command)
        }
        Command::RebuildCounters => {
            loaded.check()?;
            ledger::rebuild_counters(settings)
        }
        Command::Migrate => {
            loaded.check()?;
            ledger::migrate(settings)
        }
        Command::Doctor => {
            loaded.check()?;
            doctor::doctor(settings)
        }
        Command::Explain(args) => {
            loaded.check()?;
            explain::explain(settings, &args)
        }
        Command::Replay(args) => {
            loaded.check()?;
            serve::replay(settings, &args)
        }
    }
}
