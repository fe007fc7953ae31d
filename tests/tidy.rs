//! Who may import whom, and what is forbidden where. Each rule says what to do instead.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders and single files of `src/` with the parts of the crate that they may import. What is not listed may import everything.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("decision", &["decision"]),
    ("clock", &["decision"]),
    ("policy", &["decision", "policy"]),
    ("counters", &["decision", "counters"]),
    // Exact answers lie beside the counters: the same connections, the same slots.
    ("cache", &["decision", "cache", "counters"]),
    // A ledger's answer carries the rows that counters copy.
    ("ledger", &["decision", "ledger", "counters"]),
    ("billing", &["decision", "ledger", "clock", "config", "billing"]),
    (
        "flow",
        &["decision", "cache", "counters", "ledger", "policy", "flow", "clock", "router"],
    ),
    ("router", &["decision", "config"]),
    ("api", &["decision", "flow", "policy", "api", "telemetry", "clock"]),
    ("webhooks", &["decision", "ledger", "clock", "webhooks"]),
    ("telemetry", &["decision", "config"]),
    ("config", &["decision", "config", "clock"]),
];

/// Text that must not stand in code (comments and tests apart), where, and what to do instead.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    (
        "decision/",
        "sqlx",
        "rules know no database: let the ledger read, and pass the value",
    ),
    (
        "decision/",
        "redis",
        "rules know no store: let the counters answer, and pass the balances",
    ),
    ("decision/", "async fn", "rules do no I/O: let the flow fetch, and pass the value"),
    ("api/", "sqlx", "handlers touch no store: add a flow"),
    ("api/", ".ledger.", "handlers touch no store: add a flow"),
    ("api/", ".counters.", "handlers touch no store: add a flow"),
    ("cache/", "sqlx", "what is kept in the database is a matter of the ledger's trait"),
    ("billing/", "sqlx", "senders speak no SQL: add a method to the ledger's trait"),
    ("flow/", "actix", "flows speak no HTTP: let the handler unwrap and wrap"),
    ("flow/", "sqlx", "flows speak no SQL: add a method to the ledger's trait"),
    ("webhooks/", "sqlx", "the queue is the ledger's: add a method to its trait"),
    ("", "SystemTime::now", "ask the clock, so that tests can move it"),
    ("", "Timestamp::now", "ask the clock, so that tests can move it"),
    ("", "unsafe ", "this crate has no unsafe code"),
];

/// Who may read a clock: the clock, and what measures durations for people.
const MAY_READ_CLOCKS: &[&str] = &["clock.rs"];

/// Files in which a float may stand: none of them multiplies money by it.
const MAY_USE_FLOATS: &[&str] = &[
    "decision/amount.rs",
    "decision/canonical.rs",
    "decision/estimate.rs",
    "decision/value.rs",
    "decision/route.rs",
    "decision/route/",
    // Probabilities of a classifier; what it leads to is a model, which has a price of its own.
    "decision/classifier/",
];

const LINES_MAX: usize = 450;

struct Source {
    /// Below `src/`, with `/`.
    name: String,
    /// Code up to the tests, comments taken out.
    code: String,
    whole: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    assert!(found.len() > 30, "only {} files found: the walk is wrong", found.len());
    let read = |path: PathBuf| {
        let whole = fs::read_to_string(&path).expect("a source file is text");
        let before_tests = whole.split("\n#[cfg(test)]").next().unwrap_or_default();
        let code = before_tests
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        let name = path.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/");
        Source { name, code, whole }
    };
    found.into_iter().map(read).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn is_test(source: &Source) -> bool {
    source.name.ends_with("tests.rs")
        || source.name.contains("/tests/")
        || source.name.ends_with("contract.rs")
        || source.name.contains("/contract/")
}

#[test]
fn folders_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !is_test(source)) {
        let folder = source.name.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == folder) else {
            continue;
        };
        for part in source.code.split("crate::").skip(1) {
            let imported: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !allowed.contains(&imported.as_str()) {
                wrong.push(format!(
                    "{} imports crate::{imported}; {folder} may import {allowed:?}. See the map in src/lib.rs.",
                    source.name
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn forbidden_things_stand_nowhere() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !is_test(source)) {
        for (place, text, instead) in FORBIDDEN {
            let clock = text.contains("::now") && MAY_READ_CLOCKS.contains(&source.name.as_str());
            if source.name.starts_with(place) && source.code.contains(text) && !clock {
                wrong.push(format!("{}: {text:?}: {instead}", source.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_float_stands_beside_money() {
    let decides = |source: &&Source| source.name.starts_with("decision/") && !is_test(source);
    let allowed = |name: &str| {
        MAY_USE_FLOATS
            .iter()
            .any(|place| name == *place || (place.ends_with('/') && name.starts_with(place)))
    };
    let wrong: Vec<String> = sources()
        .iter()
        .filter(decides)
        .filter(|source| (source.code.contains("f64") || source.code.contains("f32")) && !allowed(&source.name))
        .map(|source| format!("{} uses a float: money is Usd, shares are Ratio", source.name))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_and_fits_a_reader() {
    let mut wrong = Vec::new();
    for source in sources() {
        if !source.whole.starts_with("//!") {
            wrong.push(format!("{} does not begin with //!: say what it does and never does", source.name));
        }
        let lines = source.whole.lines().count();
        // A suite of cases is one list, and is read as one.
        if lines > LINES_MAX && !is_test(&source) {
            wrong.push(format!("{} has {lines} lines: does it hold two things?", source.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_open() {
    let marks = ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!(", "#[ignore"];
    let wrong: Vec<String> = sources()
        .iter()
        .flat_map(|source| {
            marks
                .iter()
                .filter(|mark| source.whole.contains(**mark))
                .map(|mark| format!("{}: {mark}", source.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
