//! A thousand endpoints of which a hundred hang, measured: how long the others wait from the event to their answer, and what it takes of
//! memory. Runs with `WEIR_WEBHOOK_SCALE=1`, and prints its figures.

use super::receiver::Manner;
use super::*;
use std::collections::BTreeMap;
use std::time::Instant;
use weir::clock::SystemClock;
use weir::decision::webhook::{Endpoint, filter::Filter, sign::Secret};
use weir::ledger::audit::{Audited, By, Subject};
use weir::webhooks;

const ENDPOINTS_COUNT: usize = 1_000;
const HANG_EVERY: usize = 10;
const ROUNDS: usize = 5;
/// Events of one round come over so long.
const ROUND: Duration = Duration::from_secs(10);

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// Each workspace has one endpoint; all of them are told of one event in each round, a few milliseconds apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_endpoints_a_hundred_hang_and_the_others_do_not_wait() {
    if std::env::var_os("WEIR_WEBHOOK_SCALE").is_none() {
        eprintln!("skipped: set WEIR_WEBHOOK_SCALE=1 to measure");
        return;
    }
    let (app, receiver) = (TestApp::alone().await, Receiver::start().await);
    let seal = app.service.options.webhooks.seal.clone().expect("a key");
    for number in 0..ENDPOINTS_COUNT {
        let place = format!("/{number}");
        if number % HANG_EVERY == 0 {
            receiver.on(&place, Manner::Hangs);
        }
        let id = weir::decision::id::WebhookEndpointId::from_uuid(app.clock.uuid());
        let endpoint = Endpoint {
            id,
            workspace: WorkspaceId::parse(&format!("ws_{number}")).ok(),
            url: receiver.url(&place),
            events: vec![Filter::parse("*").expect("a filter")],
            description: None,
            enabled: true,
            disabled: None,
            secret: seal.seal(id, &Secret::new([1; 32]), [1; 12]),
            replaced: Vec::new(),
            created_by: "scale".to_owned(),
            created_at: app.clock.now(),
            reaches_opened: true,
            version: 1,
        };
        let audited = Audited {
            id: weir::decision::id::AuditId::from_uuid(app.clock.uuid()),
            changed_at: app.clock.now(),
            by: By {
                actor: "scale".to_owned(),
                reason: String::new(),
                request_id: None,
            },
            action: "webhook_endpoint.create".to_owned(),
            subject: Subject::shared("webhook_endpoint", id.to_string()),
            before: None,
            after: None,
        };
        app.service
            .ledger
            .put_webhook_endpoint(&endpoint, 0, 32, audited)
            .await
            .expect("the ledger answers");
    }
    // Time is the machine's here, and a try lasts as long as it does in production.
    let client = webhooks::client::Client::new(Arc::new(SystemNames), &app.service.options.webhooks.allowed, Limits::default());
    let client = Arc::new(client.expect("a client"));
    let options = &app.service.options.webhooks;
    let worker = Worker::new(
        app.service.ledger.clone(),
        Arc::new(SystemClock),
        client,
        options.schedule.clone(),
        options.seal.clone(),
        app::webhooks::words(&app.service),
    );
    let before = resident_kib();
    let running = webhooks::start(Arc::new(worker));
    let mut began: BTreeMap<String, (usize, Instant)> = BTreeMap::new();
    let mut peak = before;
    for _ in 0..ROUNDS {
        for number in 0..ENDPOINTS_COUNT {
            let workspace = WorkspaceId::parse(&format!("ws_{number}")).expect("a name");
            let (id, now) = (EventId::from_uuid(SystemClock.uuid()), SystemClock.now());
            let event = Event::new(
                id,
                Some(workspace),
                EventType::BudgetExhausted,
                id.to_string(),
                now,
                json!({"message": "x".repeat(300)}),
            );
            began.insert(id.to_string(), (number, Instant::now()));
            app.service.ledger.append_events(vec![event]).await.expect("the ledger answers");
            tokio::time::sleep(ROUND / ENDPOINTS_COUNT as u32).await;
        }
        peak = peak.max(resident_kib());
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    running.stop().await;
    let mut waits: Vec<Duration> = Vec::new();
    let mut missing = 0;
    for (event, (number, began)) in &began {
        if number % HANG_EVERY == 0 {
            continue;
        }
        match receiver.at(event) {
            Some(at) => waits.push(at.duration_since(*began)),
            None => missing += 1,
        }
    }
    waits.sort_unstable();
    let place = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    eprintln!(
        "{} events to endpoints that answer, {missing} missing: p50 {:?}, p99 {:?}, longest {:?}; {} tries at endpoints that hang; resident {before} → {peak} KiB",
        waits.len(),
        place(0.5),
        place(0.99),
        place(1.0),
        (0..ENDPOINTS_COUNT)
            .step_by(HANG_EVERY)
            .map(|number| receiver.seen(&format!("/{number}")).len())
            .sum::<usize>(),
    );
    assert_eq!(missing, 0);
    assert!(place(0.99) < Duration::from_secs(1), "p99 {:?}", place(0.99));
    assert!(peak - before < 200 * 1_024, "{} KiB more", peak - before);
}
