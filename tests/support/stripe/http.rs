//! The fake's HTTP: who may call, idempotency, one call at a time, faults. What is asked is done by the book.

use super::book::{Refusal, duplicate};
use super::faults::Fault;
use super::form::Form;
use super::{KEY, Shared, locked};
use actix_web::body::SizedStream;
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde_json::Value;
use std::time::Duration;

/// How long an ordinary call takes, so that calls about one customer and meter can meet.
const WORK: Duration = Duration::from_micros(500);

/// The first answer under an idempotency key, and to what.
#[derive(Clone)]
pub struct Remembered {
    request: (String, Vec<(String, String)>),
    /// `None`: it is still running.
    answer: Option<(u16, Value)>,
}

/// Answers any request.
pub async fn answer(shared: Data<Shared>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let key = format!("Bearer {KEY}");
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    if header("authorization") != Some(&key) {
        let refusal = Refusal {
            status: 401,
            ..Refusal::invalid(None, None, "Invalid API Key provided: sk_test_****")
        };
        return told(&shared, refusal.status, &refusal.body(), false);
    }
    let writes = request.method() == Method::POST;
    let fields = match std::str::from_utf8(&body) {
        Ok(text) if writes => text,
        _ => request.query_string(),
    };
    let is_form = header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    let Some(form) = Form::parse(fields).filter(|_| !writes || body.is_empty() || is_form) else {
        let refusal = Refusal::invalid(None, None, "Invalid request: the body must be a form.");
        return told(&shared, refusal.status, &refusal.body(), false);
    };
    let is_second_version = request.path().starts_with("/v2/");
    if is_second_version && header("stripe-version").is_none() {
        let refusal = Refusal::invalid(None, None, "Please provide a valid API version in the Stripe-Version header.");
        return told(&shared, refusal.status, &refusal.body(), false);
    }
    let fault = match is_second_version {
        true => locked(&shared.plan).draw_event(),
        false => locked(&shared.plan).draw(writes),
    };
    if is_second_version {
        shared.count("event");
    }
    if let Some(fault) = fault {
        shared.count(format!("{fault:?}"));
    }
    let idempotency = header("idempotency-key").filter(|_| writes).map(str::to_owned);
    let call = Call {
        path: request.path().to_owned(),
        writes,
        form,
    };
    let response = run(&shared, &call, idempotency, fault).await;
    response.unwrap_or_else(hang_up)
}

struct Call {
    path: String,
    writes: bool,
    form: Form,
}

/// `None`: the connection ends without an answer.
async fn run(shared: &Data<Shared>, call: &Call, key: Option<String>, fault: Option<Fault>) -> Option<HttpResponse> {
    match fault {
        Some(Fault::RateLimited) => {
            let refusal = Refusal {
                status: 429,
                ..Refusal::invalid(Some("rate_limit"), None, "Request rate limit exceeded.")
            };
            return Some(told(shared, 429, &refusal.body(), false));
        }
        Some(Fault::DropsBefore) => return None,
        Some(Fault::Fails) => return Some(told(shared, 500, &broken().body(), false)),
        _ => {}
    }
    let request = (call.path.clone(), call.form.sorted());
    if let Some(key) = &key {
        let mut remembered = locked(&shared.remembered);
        match remembered.get(key) {
            Some(first) if first.request != request => {
                let message = format!(
                    "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '{key}' if you meant to execute a different request."
                );
                let refusal = Refusal {
                    kind: "idempotency_error",
                    ..Refusal::invalid(None, None, message)
                };
                return Some(told(shared, 400, &refusal.body(), false));
            }
            Some(Remembered { answer: None, .. }) => {
                let message = "There is currently another in-progress request using this Idempotent Key.";
                let refusal = Refusal {
                    status: 409,
                    kind: "idempotency_error",
                    ..Refusal::invalid(Some("idempotency_key_in_use"), None, message)
                };
                return Some(told(shared, 409, &refusal.body(), false));
            }
            Some(Remembered {
                answer: Some((status, body)),
                ..
            }) => return Some(told(shared, *status, body, true)),
            None => {
                let first = Remembered { request, answer: None };
                remembered.insert(key.clone(), first);
            }
        }
    }
    let lock = (call.path == "/v1/billing/meter_events")
        .then(|| locked(&shared.book).locked_by(&call.form))
        .flatten();
    if let Some(lock) = &lock
        && !locked(&shared.running).insert(lock.clone())
    {
        forget(shared, key.as_deref());
        let message = "This object cannot be accessed right now because another API request or Stripe process is currently accessing it.";
        let refusal = Refusal {
            status: 429,
            ..Refusal::invalid(Some("lock_timeout"), None, message)
        };
        return Some(told(shared, 429, &refusal.body(), false));
    }
    let patience = match fault {
        Some(Fault::Slow) => locked(&shared.plan).slow,
        _ => WORK,
    };
    tokio::time::sleep(patience).await;
    let done = act(shared, call);
    if let Some(lock) = &lock {
        locked(&shared.running).remove(lock);
    }
    let (status, body) = match (&done, fault) {
        (Ok(_), Some(Fault::FailsAfter)) => (500, broken().body()),
        (Ok(_), Some(Fault::SaysDuplicate)) => {
            let refusal = duplicate(call.form.get("identifier").unwrap_or("?"));
            (refusal.status, refusal.body())
        }
        (Ok(body), _) => (200, body.clone()),
        (Err(refusal), _) => (refusal.status, refusal.body()),
    };
    match &key {
        // What does not pass the checks is not remembered.
        Some(key) if done.is_err() => forget(shared, Some(key)),
        Some(key) => {
            if let Some(first) = locked(&shared.remembered).get_mut(key) {
                first.answer = Some((status, body.clone()));
            }
        }
        None => {}
    }
    match fault {
        Some(Fault::Drops) => None,
        Some(Fault::Hangs) => {
            let hang = locked(&shared.plan).hang;
            tokio::time::sleep(hang).await;
            None
        }
        _ => Some(told(shared, status, &body, false)),
    }
}

fn forget(shared: &Data<Shared>, key: Option<&str>) {
    if let Some(key) = key {
        locked(&shared.remembered).remove(key);
    }
}

fn broken() -> Refusal {
    Refusal {
        status: 500,
        kind: "api_error",
        ..Refusal::invalid(None, None, "Sorry! There was an error while talking to Stripe.")
    }
}

/// What the book says to a call.
fn act(shared: &Data<Shared>, call: &Call) -> Result<Value, Refusal> {
    let now = shared.now();
    let mut book = locked(&shared.book);
    let form = &call.form;
    let segments: Vec<&str> = call.path.trim_matches('/').split('/').collect();
    match (call.writes, segments.as_slice()) {
        (true, ["v1", "billing", "meter_events"]) => book.meter_event(now, form),
        (true, ["v1", "billing", "meter_event_adjustments"]) => book.adjustment(now, form),
        (true, ["v1", "billing", "meters"]) => book.create_meter(now, form),
        (true, ["v1", "billing", "meters", id, "deactivate"]) => book.set_meter(id, false),
        (true, ["v1", "billing", "meters", id, "reactivate"]) => book.set_meter(id, true),
        (false, ["v1", "billing", "meters"]) => book.meters(form),
        (false, ["v1", "billing", "meters", id]) => book.meter(id),
        (false, ["v1", "billing", "meters", id, "event_summaries"]) => book.summaries(now, id, form),
        (true, ["v1", "billing", "credit_grants"]) => book.create_grant(now, form),
        (true, ["v1", "billing", "credit_grants", id, "void"]) => book.end_grant(now, id, true),
        (true, ["v1", "billing", "credit_grants", id, "expire"]) => book.end_grant(now, id, false),
        (false, ["v1", "billing", "credit_grants"]) => book.grants(form),
        (false, ["v1", "billing", "credit_grants", id]) => book.grant(id),
        (false, ["v2", "core", "events", id]) => book.event(id),
        _ => Err(Refusal {
            status: 404,
            ..Refusal::invalid(None, None, format!("Unrecognized request URL ({}).", call.path))
        }),
    }
}

fn told(shared: &Shared, status: u16, body: &Value, is_replayed: bool) -> HttpResponse {
    let code = body["error"]["code"].as_str().unwrap_or_default();
    shared.count(format!("{status} {code}").trim_end());
    let mut response = HttpResponseBuilder::new(StatusCode::from_u16(status).expect("a status"));
    response.insert_header(("request-id", "req_fake"));
    if is_replayed {
        response.insert_header(("idempotent-replayed", "true"));
    }
    if status == 429 || status >= 500 {
        // Asked by clients that try again by themselves.
        response.insert_header(("stripe-should-retry", "true"));
    }
    response.json(body)
}

/// An answer that breaks off at once, with the connection.
fn hang_up() -> HttpResponse {
    let broken = futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("the connection drops")) });
    HttpResponse::Ok().body(SizedStream::new(4_096, broken))
}
