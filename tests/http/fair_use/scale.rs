//! What a round costs where very many workspaces are busy at once. `WEIR_FAIR_USE_WORKSPACES=50000 cargo test --test http -- --ignored
//! fair_use::scale --nocapture` prints it, on the profile that is asked for.

use super::rule;
use crate::support::TestApp;
use serde_json::json;
use std::time::Instant;
use weir::clock::Clock;
use weir::decision::amount::Amounts;
use weir::decision::counter::Whose;
use weir::decision::id::{PlanId, WorkspaceId};
use weir::decision::time::Timestamp;
use weir::flow::fair_use::evaluate::Evaluator;
use weir::ledger::fair_use::{HOUR, MINUTE, Used};

/// Of so many hours before what each of them used is known.
const HOURS: i64 = 12;

#[tokio::test]
#[ignore = "it measures, for some minutes"]
async fn a_round_over_many_workspaces() {
    let asked = std::env::var("WEIR_FAIR_USE_WORKSPACES").ok();
    let workspaces: usize = asked.map_or(20_000, |number| number.parse().expect("WEIR_FAIR_USE_WORKSPACES is a number"));
    let app = TestApp::start().await;
    // The plan of whoever comes.
    let watched = json!({"name": "open", "unlimited": true, "fair_use": rule(json!({"act": "event"}))});
    app.put("/v1/admin/plans/open", watched).await.expect(200);
    let now = app.clock.now();
    let used = |number: usize, width_seconds: i64, back: i64, tokens: i64| Used {
        workspace: WorkspaceId::parse(&format!("busy{number}")).expect("a name"),
        whose: Whose::Workspace,
        width_seconds,
        starts_at: Timestamp::from_micros((now.micros() / (width_seconds * 1_000_000) - back) * width_seconds * 1_000_000),
        plan: PlanId::parse("open").expect("a name"),
        amounts: Amounts { tokens, ..Amounts::ZERO },
    };
    // One of a thousand uses twenty times as much as ever.
    let lately = |number: usize| if number % 1_000 == 7 { 100_000 } else { 5_000 };
    let rows = (0..workspaces).flat_map(|number| {
        let before = (1..=HOURS).map(move |back| used(number, HOUR, back, 20_000));
        before.chain(Some(used(number, MINUTE, 0, lately(number))))
    });
    for rows in rows.collect::<Vec<_>>().chunks(5_000) {
        app.service.ledger.add_usage(rows.to_vec()).await.expect("usage is written");
    }
    for number in 0..workspaces {
        let id = WorkspaceId::parse(&format!("busy{number}")).expect("a name");
        weir::flow::workspace::find_or_create(&app.service, &id).await.expect("it is there");
    }
    let mut evaluator = Evaluator::default();
    let mut all = 0;
    for round in 1..=workspaces.div_ceil(5_000) {
        let begun_at = Instant::now();
        let begun = evaluator.round(&app.service).await.expect("a round");
        all += begun;
        println!("round {round}: {begun} began, {} ms", begun_at.elapsed().as_millis());
    }
    assert_eq!(all, workspaces.div_ceil(1_000), "each of them, and nobody else");
}
