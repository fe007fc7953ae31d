//! Webhooks from an event to somebody's endpoint: signed, tried again by the schedule, bounded whatever the receiver does, and never dialled
//! where they must not go.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod delivery;
mod misbehaviour;
mod receiver;
mod scale;

use receiver::{Receiver, Seen};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use support::TestApp;
use weir::app;
use weir::clock::Clock;
use weir::decision::event::{Event, EventType};
use weir::decision::id::{EventId, WorkspaceId};
use weir::webhooks::Worker;
use weir::webhooks::client::Limits;
use weir::webhooks::dial::{Names, SystemNames};

const ENDPOINTS: &str = "/v1/admin/webhook-endpoints";
const DELIVERIES: &str = "/v1/admin/webhook-deliveries";

/// Tries that end soon.
pub fn soon() -> Limits {
    Limits {
        whole: Duration::from_millis(1_500),
        connect: Duration::from_millis(1_000),
    }
}

pub fn worker_of(app: &TestApp) -> Worker {
    worker_with(app, Arc::new(SystemNames))
}

pub fn worker_with(app: &TestApp, names: Arc<dyn Names>) -> Worker {
    app::webhooks::worker(&app.service, names, soon()).expect("a client")
}

impl TestApp {
    /// A new endpoint, with its secret.
    pub async fn endpoint(&self, url: &str, workspace: Option<&str>) -> Value {
        self.post(ENDPOINTS, json!({"url": url, "workspace_id": workspace}))
            .await
            .expect(201)
    }

    /// Something happens in a workspace.
    pub async fn happen(&self, workspace: &str) -> EventId {
        let (id, now) = (EventId::from_uuid(self.clock.uuid()), self.clock.now());
        let workspace = WorkspaceId::parse(workspace).expect("a name");
        let data = json!({"workspace_id": workspace, "message": "naïve \"配额\""});
        let event = Event::new(id, Some(workspace), EventType::BudgetExhausted, id.to_string(), now, data);
        let written = self.service.ledger.append_events(vec![event]).await.expect("the ledger answers");
        assert_eq!(written, [id]);
        id
    }

    /// The deliveries of an endpoint, newest first.
    pub async fn deliveries(&self, endpoint: &Value) -> Vec<Value> {
        let id = endpoint["endpoint_id"].as_str().expect("an id");
        let page = self.get(&format!("{DELIVERIES}?endpoint_id={id}")).await.expect(200);
        page["data"].as_array().expect("data").clone()
    }

    pub async fn endpoint_now(&self, endpoint: &Value) -> Value {
        self.get(&path(endpoint, "")).await.expect(200)
    }

    pub async fn patch_endpoint(&self, endpoint: &Value, body: Value) -> support::Reply {
        self.call(Method::PATCH, &path(endpoint, ""), Some(body)).await
    }
}

/// The path of an endpoint, or of what can be done with it.
pub fn path(endpoint: &Value, verb: &str) -> String {
    format!("{ENDPOINTS}/{}{verb}", endpoint["endpoint_id"].as_str().expect("an id"))
}

/// Whether one of the signatures of a request is by this secret, by the official library.
pub fn is_signed(seen: &Seen, secret: &Value) -> bool {
    let library = standardwebhooks::Webhook::new(secret.as_str().expect("a secret")).expect("a secret");
    let moment = seen.header("webhook-timestamp").parse().expect("seconds");
    let expected = library
        .sign(seen.header("webhook-id"), moment, seen.body.as_bytes())
        .expect("a signature");
    seen.header("webhook-signature").split(' ').any(|signature| signature == expected)
}

/// All that was sent is one event: one id and one body, whatever else differs.
pub fn is_one_event(seen: &[Seen], event: EventId) -> bool {
    let bodies: HashSet<&str> = seen.iter().map(|seen| seen.body.as_str()).collect();
    bodies.len() == 1 && seen.iter().all(|seen| seen.header("webhook-id") == event.to_string())
}
