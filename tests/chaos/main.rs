//! The production profile under fire: nodes, clients that go on whatever happens, and faults. In the end all is quiet, and what clients were
//! told is compared with what is in the stores. `all` is the long one, so it comes first; beside it are scenes of one fault each, where it
//! takes other stores or a look at what goes through: a Redis Cluster, a standby of PostgreSQL, small disks, a node that dies at a named point.
//!
//! `WEIR_CHAOS_SECONDS` makes it longer, and then stores are away for minutes; `WEIR_CHAOS_SEED` does a schedule again.

#[path = "../support/mod.rs"]
mod support;

mod all;
mod books;
mod check;
mod clients;
mod cluster;
mod disk;
mod faults;
mod killed;
mod node;
mod partition;
mod points;
mod reads;
mod record;
mod scene;
mod standby;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

/// What decides of chance, and how long faults go on if the environment asks for more than this.
fn seed_and_seconds(seconds: u64) -> (u64, u64) {
    let seed = number("WEIR_CHAOS_SEED").unwrap_or_else(|| u64::from(rand::random::<u16>()));
    let seconds = number("WEIR_CHAOS_SECONDS").unwrap_or(seconds);
    println!("chaos for {seconds} s by WEIR_CHAOS_SEED={seed}");
    (seed, seconds)
}
