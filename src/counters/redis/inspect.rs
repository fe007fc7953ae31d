//! What a look at a server finds, of what it says about itself in `INFO`. Pure.

use crate::decision::finding::Finding;
use crate::decision::time::Timestamp;

/// How far the clocks of node and server may be apart before somebody should know.
const CLOCKS_APART_MILLIS_MAX: i64 = 500;
/// From this share of its memory on, in hundredths, a server is nearly full.
const MEMORY_PERCENT_MAX: u64 = 80;

/// One server's findings.
pub(super) fn findings(info: &str, now: Timestamp) -> Vec<Finding> {
    let value = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).unwrap_or_default()
    };
    let number = |name: &str| value(name).parse::<u64>().unwrap_or(0);
    let place = format!(
        "Redis {} on port {}, {}, eviction policy {}",
        value("redis_version"),
        value("tcp_port"),
        value("role"),
        value("maxmemory_policy")
    );
    let server_clock = value("server_time_usec").parse::<i64>().map(Timestamp::from_micros);
    let mut found = vec![
        Finding::fine("counters", place),
        memory(number("used_memory"), number("maxmemory")),
        persistence(value("aof_enabled") == "1", value("rdb_last_bgsave_status")),
        replicas(number("connected_slaves")),
    ];
    if let Ok(server_clock) = server_clock {
        found.push(Finding::clock("counters clock", now, server_clock, CLOCKS_APART_MILLIS_MAX));
    }
    found
}

fn memory(used: u64, max: u64) -> Finding {
    let mebibytes = used >> 20;
    match max {
        0 => Finding::fine("memory", format!("{mebibytes} MiB used, no maxmemory")),
        max if used.saturating_mul(100) / max > MEMORY_PERCENT_MAX => Finding::warning(
            "memory",
            format!(
                "{mebibytes} of {} MiB used: when it is full, holds are refused with 503; raise maxmemory",
                max >> 20
            ),
        ),
        max => Finding::fine("memory", format!("{mebibytes} of {} MiB used", max >> 20)),
    }
}

fn persistence(appends: bool, last_save: &str) -> Finding {
    match (appends, last_save) {
        (_, "err") => Finding::warning(
            "persistence",
            "the last save failed: see the server's log; MISCONF would refuse every hold",
        ),
        (true, _) => Finding::fine("persistence", "an append-only file is kept: a restart keeps most holds"),
        (false, _) => Finding::warning(
            "persistence",
            "no append-only file: a restart forgets what is held (never what is spent, which the ledger has); set appendonly yes to keep holds",
        ),
    }
}

fn replicas(connected: u64) -> Finding {
    match connected {
        0 => Finding::warning(
            "replicas",
            "none: while the server is away plans answer by on_store_unavailable; a replica and a supervisor shorten that",
        ),
        1 => Finding::fine(
            "replicas",
            "1 connected; min-replicas-to-write 1 keeps a primary that is cut off from admitting on its own",
        ),
        more => Finding::fine("replicas", format!("{more} connected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::finding::Gravity;

    fn info(lines: &[&str]) -> String {
        let usual = [
            "# Server",
            "redis_version:7.0.15",
            "tcp_port:6379",
            "server_time_usec:1767225600000000",
            "role:master",
            "maxmemory_policy:noeviction",
        ];
        [lines, &usual].concat().join("\r\n")
    }

    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_100_000);

    #[test]
    fn what_could_be_lost_or_refused_is_a_warning_that_says_what_to_do() {
        for (lines, what, gravity, says) in [
            (
                ["aof_enabled:0", "used_memory:1048576"],
                "persistence",
                Gravity::Warning,
                "appendonly yes",
            ),
            (
                ["aof_enabled:1", "used_memory:1048576"],
                "persistence",
                Gravity::Fine,
                "append-only",
            ),
            (
                ["connected_slaves:0", "used_memory:1048576"],
                "replicas",
                Gravity::Warning,
                "replica",
            ),
            (
                ["connected_slaves:2", "used_memory:1048576"],
                "replicas",
                Gravity::Fine,
                "2 connected",
            ),
            (
                ["maxmemory:10485760", "used_memory:9437184"],
                "memory",
                Gravity::Warning,
                "raise maxmemory",
            ),
            (
                ["maxmemory:10485760", "used_memory:1048576"],
                "memory",
                Gravity::Fine,
                "1 of 10 MiB",
            ),
        ] {
            let found = findings(&info(&lines), NOW);
            let finding = found.iter().find(|finding| finding.what == what).expect(what);
            assert_eq!(finding.gravity, gravity, "{finding:?}");
            assert!(finding.detail.contains(says), "{finding:?}");
        }
    }

    #[test]
    fn clocks_that_differ_are_named() {
        let gravity = |now| {
            let found = findings(&info(&[]), now);
            found
                .into_iter()
                .find(|finding| finding.what == "counters clock")
                .map(|finding| finding.gravity)
        };
        assert_eq!(gravity(NOW), Some(Gravity::Fine));
        assert_eq!(gravity(NOW.plus_seconds(5)), Some(Gravity::Warning));
        assert_eq!(gravity(NOW.plus_seconds(-5)), Some(Gravity::Warning));
    }
}
