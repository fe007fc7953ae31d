//! The life of a policy: the commands of `weir policy` beside a service that runs, prices that begin by the clock, prices of others' tables,
//! golden cases, and thousands of plans that a node follows while it serves.

use crate::support;
use crate::support::{TestApp, stores};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use weir::app;
use weir::clock::MovableClock;
use weir::decision::time::Timestamp;
use weir::flow::Options;
use weir::flow::policy::By;
use weir::flow::policy::lifecycle::{self, Wanted};
use weir::flow::workspace::Told;
use weir::ledger::Ledger;
use weir::ledger::audit::AuditLedger;
use weir::ledger::sqlite::SqliteLedger;
use weir::policy::object::{Change, ObjectId};

/// A data directory and policy files, both of a test's own.
struct Place(TempDir);

/// What a command said.
struct Said {
    good: bool,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a directory"));
        std::fs::create_dir(place.policies()).expect("a directory");
        for file in ["models.yaml", "plans.yaml", "routing.yaml"] {
            std::fs::copy(support::policies().join(file), place.policies().join(file)).expect(file);
        }
        place
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn policies(&self) -> PathBuf {
        self.0.path().join("policies")
    }

    fn weir(&self, arguments: &[&str]) -> Said {
        weir(self.0.path(), &self.data(), &self.policies(), arguments)
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.policies().join(file);
        let text = std::fs::read_to_string(&path).expect(file);
        assert!(text.contains(from), "{file} has no {from:?}:\n{text}");
        std::fs::write(&path, text.replacen(from, to, 1)).expect(file);
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.0.path().join(path)).expect(path)
    }
}

fn weir(here: &Path, data: &Path, policies: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.current_dir(here).env_clear().env("USER", "ada");
    command.env("WEIR_DATA_DIR", data).env("WEIR_POLICIES", policies);
    let output = command.args(arguments).output().expect("weir runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Said {
        good: output.status.success(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

impl Said {
    #[track_caller]
    fn good(self) -> String {
        assert!(self.good, "{}{}", self.out, self.err);
        self.out
    }

    #[track_caller]
    fn refused(self) -> String {
        assert!(!self.good, "{}", self.out);
        format!("{}{}", self.out, self.err)
    }

    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.good()).expect("JSON")
    }
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

/// What the ledger of a place holds; nobody else may have it open.
async fn put_workspaces(place: &Place, plans: &[Option<&str>]) {
    let clock = Arc::new(MovableClock::at(Timestamp::parse(support::BEGIN).expect("a moment")));
    let service = app::embedded(&place.data(), &place.policies(), clock, Options::default())
        .await
        .expect("a service");
    let by = By {
        actor: "tests".to_owned(),
        reason: String::new(),
        request_id: None,
    };
    for (number, plan) in plans.iter().enumerate() {
        let id = weir::decision::id::WorkspaceId::parse(&format!("ws_{number}")).expect("an id");
        let plan = plan.map(|plan| weir::decision::id::PlanId::parse(plan).expect(plan));
        let told = Told {
            by: &by,
            action: "workspace.put",
            document: &|_| Value::Null,
        };
        weir::flow::workspace::change(&service, &id, &Default::default(), told, |workspace, _| {
            workspace.plan_id.clone_from(&plan);
            Ok(())
        })
        .await
        .expect("a workspace");
    }
    service.ledger.close().await;
}

const PRO: &str = "  - {id: pro, budgets: [{id: tokens, unit: tokens, period: month, hard: 5}]}\n";

#[tokio::test]
async fn a_policy_goes_from_files_to_the_ledger_and_back() {
    let place = Place::new();
    has(&place.weir(&["policy", "diff"]).refused(), &["there is no ledger", "--data-dir"]);
    has(
        &place.weir(&["policy", "apply", "--reason", "the beginning"]).good(),
        &["policy version 1 is in force"],
    );
    has(&place.weir(&["policy", "apply"]).good(), &["nothing changes"]);
    put_workspaces(&place, &[None, None]).await;

    place.edit("plans.yaml", "plans:\n", &format!("plans:\n{PRO}"));
    has(
        &place.weir(&["policy", "diff"]).good(),
        &["+ plan pro (0 workspaces)", "policy version 1"],
    );
    has(&place.weir(&["policy", "apply", "--dry-run"]).good(), &["+ plan pro"]);
    assert_eq!(place.weir(&["policy", "diff", "--json"]).json()["objects"][0]["change"], "added");
    has(
        &place.weir(&["policy", "apply", "--expected-version", "7"]).refused(),
        &["version 1 and no longer at 7"],
    );
    place
        .weir(&["policy", "apply", "--expected-version", "1", "--reason", "pro is new"])
        .good();

    place.edit("plans.yaml", "hard: 5}", "soft: 3, hard: 6}");
    let diff = place.weir(&["policy", "diff"]).good();
    has(
        &diff,
        &[
            "~ plan pro (0 workspaces)",
            "/budgets/0/hard: 5 → 6",
            "/budgets/0/soft: nothing → 3",
        ],
    );
    place.weir(&["policy", "apply"]).good();

    let history = place.weir(&["policy", "history", "--object", "plan/pro"]).good();
    has(&history, &["    3  ", "    2  ", "cli:ada  pro is new", "plan pro (2)"]);
    assert!(!history.contains("the beginning"), "{history}");
    let history = place.weir(&["policy", "history", "--json", "--limit", "1"]).json();
    assert_eq!((&history[0]["version"], history.as_array().map(Vec::len)), (&json!(3), Some(1)));

    has(
        &place.weir(&["policy", "rollback", "2", "--reason", "too soon"]).good(),
        &["/budgets/0/hard: 6 → 5", "policy version 4 is in force"],
    );
    has(
        &place.weir(&["policy", "rollback", "9"]).refused(),
        &["there never was a policy version 9"],
    );
    has(&place.weir(&["policy", "rollback", "2"]).good(), &["nothing changes"]);

    place.weir(&["policy", "export", "exported"]).good();
    has(
        &place.weir(&["policy", "export", "exported"]).refused(),
        &["is there already", "--force"],
    );
    has(&place.read("exported/plans.yaml"), &["hard: 5"]);
    has(
        &place.weir(&["policy", "apply", "exported"]).good(),
        &["nothing changes", "notes that these files were applied"],
    );
    has(
        &place.weir(&["policy", "history", "--limit", "1"]).good(),
        &["nothing: these files were applied"],
    );
    place.weir(&["policy", "export", "of-3", "--version", "3"]).good();
    has(&place.read("of-3/plans.yaml"), &["hard: 6"]);
    // Each change of an object has its record, in the name of whoever ran the command.
    let ledger = SqliteLedger::open(&place.data()).await.expect("the ledger");
    let audit = ledger
        .audit_log(&weir::ledger::audit::AuditQuery {
            limit: 100,
            ..Default::default()
        })
        .await
        .expect("records");
    let told: Vec<(&str, &str)> = audit
        .iter()
        .filter(|record| record.subject.id == "pro")
        .map(|record| (&*record.by.actor, &*record.by.reason))
        .collect();
    assert_eq!(told.first(), Some(&("cli:ada", "too soon")), "{told:?}");
    ledger.close().await;
}

#[tokio::test]
async fn nothing_takes_the_plan_of_a_workspace_away() {
    let place = Place::new();
    place.edit("plans.yaml", "plans:\n", &format!("plans:\n{PRO}"));
    place.weir(&["policy", "apply"]).good();
    put_workspaces(&place, &[Some("pro"), Some("pro"), None]).await;
    let with_pro = place.read("policies/plans.yaml");

    place.edit("plans.yaml", PRO, "");
    let told = place.weir(&["policy", "diff"]).good();
    has(
        &told,
        &[
            "- plan pro (2 workspaces)",
            "plan pro would go, and 2 workspaces are on it",
            "plan_id",
        ],
    );
    has(
        &place.weir(&["policy", "apply"]).refused(),
        &["nothing was changed", "2 workspaces"],
    );
    assert!(
        !place.weir(&["policy", "apply", "--dry-run"]).good,
        "a rehearsal fails as the real thing would"
    );
    // A service that starts with such files says what to do, and leaves what is in force.
    let clock = Arc::new(MovableClock::at(Timestamp::parse(support::BEGIN).expect("a moment")));
    let refused = match app::embedded(&place.data(), &place.policies(), clock.clone(), Options::default()).await {
        Ok(_) => panic!("the service starts"),
        Err(error) => error.to_string(),
    };
    has(
        &refused,
        &[
            "plan pro would go",
            "2 workspaces are on it",
            "start with the files as they were and move the workspaces",
        ],
    );

    // The default plan is the plan of whoever has none.
    let default = with_pro
        .lines()
        .find(|line| line.starts_with("default_plan:"))
        .expect("a default plan")
        .to_owned();
    std::fs::write(
        place.policies().join("plans.yaml"),
        with_pro.replace(&default, "default_plan: null"),
    )
    .expect("written");
    has(
        &place.weir(&["policy", "apply"]).refused(),
        &["default_plan would go, and 1 workspace is on it"],
    );
    std::fs::write(place.policies().join("plans.yaml"), with_pro.replace(&default, "default_plan: pro")).expect("written");
    has(&place.weir(&["policy", "diff"]).good(), &["default_plan (1 workspace)"]);
    place.weir(&["policy", "apply"]).good();
    // Nor does going back to a version that knew no such plan.
    let first = place.weir(&["policy", "history", "--json"]).json();
    assert_eq!(first.as_array().map(Vec::len), Some(2), "what was refused made no version");
    app::embedded(&place.data(), &place.policies(), clock, Options::default())
        .await
        .expect("a service");
}

#[tokio::test]
async fn a_running_node_follows_what_the_command_line_changes() {
    let place = Place::new();
    let clock = Arc::new(MovableClock::at(Timestamp::parse(support::BEGIN).expect("a moment")));
    let service = app::embedded(&place.data(), &place.policies(), clock, Options::default())
        .await
        .expect("a service");
    app::background(&service, Duration::from_secs(1));
    place.edit("plans.yaml", "plans:\n", &format!("plans:\n{PRO}"));
    place.weir(&["policy", "apply"]).good();
    let begun = Instant::now();
    while service.policy.load().version < 2 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the node does not follow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("followed after {:?}", begun.elapsed());
    assert!(service.policy.load().object(&ObjectId::plan("pro")).is_some());
}

#[tokio::test]
async fn a_price_begins_by_the_clock_and_what_was_authorized_before_keeps_the_old_one() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000_000).await;
    let price = |from: &str, input: &str| json!({"effective_from": from, "input": input, "output": "1"});
    let model = json!({"provider": "acme", "tier": "mid", "prices": [price("2025-01-01", "1"), price("2025-12-01", "2"), price("2025-12-01T12:00:00Z", "4")]});
    app.put("/v1/admin/models/dated", model).await.expect(201);
    let ask = |id: &str| app.authorize("ws").id(id).model("dated").tokens(1_000_000 / 10, 0);
    let settled = async |reservation: &Value| {
        let id = reservation["reservation_id"].as_str().expect("a reservation");
        app.settle(id, 100_000, 0).await.expect(200)["entry"].clone()
    };
    let before = ask("before").with("hold_seconds", 604_800).allowed().await;
    assert_eq!(before["held"]["usd"], "0.100000000");
    let version = app.service.policy.load().version;
    // The last moment before, and the first one of each price: no restart, and no new version of the policy.
    for (moment, usd, from) in [
        ("2025-11-25T00:00:00Z", "0.100000000", "2025-01-01."),
        ("2025-11-30T23:59:59Z", "0.100000000", "2025-01-01."),
        ("2025-12-01T00:00:00Z", "0.200000000", "2025-12-01."),
        ("2025-12-01T11:59:59Z", "0.200000000", "2025-12-01."),
        ("2025-12-01T12:00:00Z", "0.400000000", "2025-12-01T12:00:00"),
    ] {
        if moment == "2025-11-25T00:00:00Z" {
            app.set_clock(moment);
            let kept = ask("kept").with("hold_seconds", 604_800).allowed().await;
            app.set_clock("2025-12-01T06:00:00Z");
            let entry = settled(&kept).await;
            assert_eq!(
                (&entry["cost_usd"], entry["occurred_at"].as_str()),
                (&json!("0.100000000"), Some("2025-11-25T00:00:00Z"))
            );
            assert!(
                entry["price_version"]
                    .as_str()
                    .is_some_and(|version| version.starts_with("2025-01-01.")),
                "{entry}"
            );
        }
        app.set_clock(moment);
        let allowed = ask(moment).allowed().await;
        assert_eq!(allowed["held"]["usd"], usd, "{moment}");
        let entry = settled(&allowed).await;
        assert_eq!(entry["cost_usd"], usd, "{moment}");
        assert_eq!(entry["price_version"], allowed["price_version"]);
        assert!(
            entry["price_version"].as_str().is_some_and(|version| version.starts_with(from)),
            "{moment}: {entry}"
        );
    }
    assert_eq!(app.service.policy.load().version, version);
}

#[test]
fn the_golden_cases_of_the_sample_policies_hold() {
    let scratch = tempfile::tempdir().expect("a directory");
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let told = weir(
        scratch.path(),
        &scratch.path().join("data"),
        &samples,
        &["policy", "test", "--verbose"],
    )
    .good();
    has(&told, &[" cases, 0 failed"]);
    assert!(!scratch.path().join("data").exists(), "the cases have stores of their own");
}

#[test]
fn a_golden_case_that_fails_says_how() {
    let place = Place::new();
    has(&place.weir(&["policy", "test"]).refused(), &["tests cannot be read"]);
    let case = "cases:\n  - name: it is free\n    at: \"2025-11-21T10:00:00Z\"\n    request: {feature: chat, model: big, input_tokens: 10, max_output_tokens: 5}\n    expect: {decision: deny, held: {tokens: 15, usd: \"0\"}}\n";
    let file = place.policies().join("case.yaml");
    std::fs::write(&file, case).expect("written");
    let name = file.to_str().expect("text");
    let told = place.weir(&["policy", "test", name]).refused();
    has(
        &told,
        &[
            "case.yaml:2:5: it is free",
            "decision: expected \"deny\", got \"allow\"",
            "held.usd: expected \"0\", got",
            "1 cases, 1 failed",
        ],
    );
    assert!(!told.contains("held.tokens"), "{told}");
    std::fs::write(&file, case.replace("feature: chat", "feture: chat")).expect("written");
    has(
        &place.weir(&["policy", "test", name]).refused(),
        &["status: expected 200, got 400", "feture"],
    );
    std::fs::write(&file, "cases: []\n").expect("written");
    has(&place.weir(&["policy", "test", name]).refused(), &["no cases"]);
    std::fs::write(&file, case.replace("expect:", "expects:")).expect("written");
    has(
        &place.weir(&["policy", "test", name]).refused(),
        &["case.yaml:5:5: unknown field `expects`"],
    );
}

/// A table as LiteLLM writes it, of our own making.
fn table(input_of_big: &str) -> String {
    let model = |name: &str, input: &str, output: &str| {
        format!(
            r#""{name}": {{"litellm_provider": "acme", "mode": "chat", "input_cost_per_token": {input}, "output_cost_per_token": {output}}}"#
        )
    };
    let others = r#""pictures": {"litellm_provider": "acme", "mode": "image_generation"}, "gift": {"litellm_provider": "acme", "mode": "chat",
        "input_cost_per_token": 0, "output_cost_per_token": 0}"#;
    format!(
        "{{{}, {}, {others}}}",
        model("big", input_of_big, "1.5e-05"),
        model("fresh", "1e-7", "4E-07")
    )
}

#[test]
fn prices_of_a_table_are_imported_and_nothing_is_silent() {
    let place = Place::new();
    let file = place.0.path().join("table.json");
    let name = file.to_str().expect("text");
    let write = |input: &str| std::fs::write(&file, table(input)).expect("written");
    let before = place.read("policies/models.yaml");
    write("4e-06");
    let import = |more: &[&str]| place.weir(&[&["prices", "import", name, "--effective-from", "2026-11-24"], more].concat());
    has(&import(&[]).refused(), &["1 new models need a tier", "fresh", "--tier auto"]);
    let told = import(&["--tier", "auto"]).refused();
    has(
        &told,
        &[
            "+ model fresh (acme, fast) from 2026-11-24",
            "~ model big from 2026-11-24",
            "/input: ",
            "→ \"4.000000000\"",
            "--accept-changes",
        ],
    );
    has(
        &told,
        &[
            "refused, 1: is not for chat or completion\n    pictures (image_generation)",
            "costs nothing",
            "gift (Input)",
            "1 added, 1 changed",
        ],
    );
    has(
        &import(&["--tier", "auto", "--accept-changes", "--dry-run"]).good(),
        &["1 added, 1 changed"],
    );
    assert_eq!(place.read("policies/models.yaml"), before, "none of these wrote anything");

    // One model is accepted, the other is new; then there is nothing left to do.
    let source = "https://example.com/table.json";
    import(&["--tier", "auto", "--accept", "b*", "--source", source]).good();
    let after = place.read("policies/models.yaml");
    has(&after, &["\"4\"", "id: \"fresh\"", source, "sha256", "imported_on"]);
    before.lines().for_each(|line| assert!(after.contains(line), "{line} is gone"));
    has(&place.weir(&["policy", "check"]).good(), &["good"]);
    has(
        &import(&["--tier", "auto"]).good(),
        &["0 added, 0 changed, 2 unchanged", "there is nothing to write"],
    );
    place.weir(&["policy", "apply"]).good();
    place.weir(&["policy", "export", "exported"]).good();
    has(&place.read("exported/models.yaml"), &[source, "imported_on"]);

    // Straight into the ledger, from another day on.
    write("5e-06");
    let again = ["prices", "import", name, "--effective-from", "2026-12-01", "--apply"];
    has(&place.weir(&again).refused(), &["1 prices would change, so nothing was written"]);
    has(
        &place.weir(&[&again[..], &["--accept-changes"]].concat()).good(),
        &["policy version 2 is in force"],
    );
    has(
        &place.weir(&["policy", "history", "--limit", "1"]).good(),
        &["prices of litellm from table.json", "model big (2)"],
    );
    let same_day = place.weir(&["policy", "diff"]).good();
    has(&same_day, &["~ model big"]);
}

/// A thousand plans and five thousand models, as one change.
fn large() -> Vec<Change> {
    let price = json!({"effective_from": "2025-01-01", "input": "3", "output": "15", "cache_read": "0.3",
        "above": {"tokens": 200000, "input": "6", "output": "22.50"}});
    let model = |n: usize| {
        let next = format!("model-{}", (n + 1) % 5_000);
        json!({"id": format!("model-{n}"), "provider": "p", "tier": format!("t{}", n % 5), "aliases": [format!("alias-{n}")],
               "downgrades": [next], "prices": [price]})
    };
    let budget = |n: usize| {
        json!({"id": format!("b{n}"), "unit": "tokens", "period": "month", "feature": format!("f{n}"), "soft": 100, "hard": 1000,
               "at_soft": ["warn", "downgrade"], "downgrade_to": format!("model-{n}")})
    };
    let plan = |n: usize| json!({"id": format!("plan-{n}"), "budgets": (0..5).map(budget).collect::<Vec<_>>()});
    let models = (0..5_000).map(|n| (ObjectId::model(&format!("model-{n}")), Some(model(n))));
    let plans = (0..1_000).map(|n| (ObjectId::plan(&format!("plan-{n}")), Some(plan(n))));
    models.chain(plans).collect()
}

/// How long a node may take on a machine that compiles other things meanwhile, and without optimisation.
const FOLLOW_SECONDS_MAX: u64 = if cfg!(debug_assertions) { 90 } else { 10 };

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_follows_thousands_of_plans_and_models_while_it_serves() {
    if !stores::can_be_production() {
        return;
    }
    let mut nodes = TestApp::nodes(2).await;
    nodes[0].workspace_with_tokens("ws", 1_000_000_000).await;
    nodes[1].follow().await;
    let second = Arc::new(nodes.remove(1));
    app::background(&second.service, Duration::from_secs(1));
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let client = |number: usize| {
        let (second, stop, answered) = (second.clone(), stop.clone(), answered.clone());
        tokio::spawn(async move {
            let mut slowest = Duration::ZERO;
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let reply = second.authorize("ws").id(&format!("{number}-{n}")).tokens(1, 0).send_once().await;
                slowest = slowest.max(begun.elapsed());
                let answer = reply.json();
                assert_eq!(answer["decision"], "allow", "{}", reply.text);
                let path = format!(
                    "/v1/reservations/{}/settle",
                    answer["reservation_id"].as_str().expect("a reservation")
                );
                let usage = json!({"usage": {"input_tokens": 1, "output_tokens": 0}});
                second.post_once(&path, usage).await.expect(200);
                answered.fetch_add(1, Ordering::Relaxed);
                n += 1;
            }
            slowest
        })
    };
    let clients: Vec<_> = (0..4).map(client).collect();
    let first = &nodes[0].service;
    let by = By {
        actor: "tests".to_owned(),
        reason: "many".to_owned(),
        request_id: None,
    };
    let begun = Instant::now();
    let changes = large();
    let (_, version) = lifecycle::apply(&*first.ledger, &Wanted::Changes(&changes), &by, None, &*first.clock)
        .await
        .expect("applied");
    let written = Instant::now();
    while second.service.policy.load().version < version {
        assert!(
            written.elapsed() < Duration::from_secs(FOLLOW_SECONDS_MAX),
            "the second node does not follow"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let followed = written.elapsed();
    stop.store(true, Ordering::Relaxed);
    let mut slowest = Duration::ZERO;
    for client in clients {
        slowest = slowest.max(client.await.expect("no request failed"));
    }
    assert!(answered.load(Ordering::Relaxed) > 0);
    assert!(second.service.policy.load().object(&ObjectId::plan("plan-999")).is_some());
    println!(
        "decided and written in {:?}, followed {followed:?} after; {} requests answered meanwhile, the slowest in {slowest:?}",
        written - begun,
        answered.load(Ordering::Relaxed)
    );
}
