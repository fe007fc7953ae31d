//! `GET /v1/workspaces/{id}/events`: what happens to a workspace, as server-sent events for a live meter, or as a list for who asks for JSON.
//!
//! A stream follows what any node writes within two seconds. Each event has its id, so a reader that was cut off goes on after the last one
//! that it saw (`Last-Event-ID`); `usage` frames have none, since the next one says all. It ends when its credential does, and when the
//! service stops. Its bytes are made when its reader takes them, so a slow one holds nothing up.

use super::auth::{Access, Scope, Verifier};
use super::call::{Answer, Call, ok};
use super::page;
use super::problem::Problem;
use super::routes::part;
use super::workspace_usage::{ForecastOut, forecast_out};
use crate::decision::amount::Unit;
use crate::decision::event::{Audience, Body, Event, EventType};
use crate::decision::id::{EventId, WorkspaceId};
use crate::decision::limits::BudgetView;
use crate::decision::time::Timestamp;
use crate::flow;
use crate::flow::meter::{Beat, WatchError, Watching};
use crate::flow::{EventQuery, Service};
use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap};
use actix_web::web::{Bytes, Data};
use futures_util::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};
use utoipa::{IntoParams, ToSchema};

/// How often a comment is sent, so that nobody on the way takes the stream for dead.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// How often it is looked whether the credential still is one.
const ADMIT_EVERY: Duration = Duration::from_secs(5);
/// When a reader that was cut off should come back.
const RETRY_MILLIS: u32 = 2_000;
/// When one may try again that found all places taken.
const RETRY_AFTER_SECONDS: u32 = 10;

/// Resolves when the service begins to stop.
#[derive(Clone)]
pub struct Stopping(Rc<dyn Fn() -> LocalBoxFuture<'static, ()>>);

impl Stopping {
    pub fn new(wait: impl Fn() -> LocalBoxFuture<'static, ()> + 'static) -> Self {
        Self(Rc::new(wait))
    }
}

/// Who may read it.
pub fn access() -> Access {
    Access::scope(Scope::Read).or(Scope::Portal)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Of a list.
    #[serde(default, deserialize_with = "page::read_limit")]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// Of a list.
    cursor: Option<String>,
}

/// An event in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventOut<'a> {
    #[schema(value_type = String)]
    id: EventId,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct EventsAnswer<'a> {
    data: Vec<EventOut<'a>>,
    next_cursor: Option<String>,
}

/// Budgets as they stand, in a stream: a frame of type `usage`.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageFrame<'a> {
    budgets: Vec<ForecastOut<'a>>,
}

/// What happens to a workspace, live: server-sent events with the types that webhooks have, and `usage` with the budgets whenever they
/// changed, once a second at most. With `Accept: application/json` a list, newest first.
#[utoipa::path(get, path = "/v1/workspaces/{id}/events", tag = "reading",
    params(("id" = String, Path), EventsQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The last event that the reader saw; the stream goes on after it.")),
    responses((status = 200, description = "A stream, or a list.",
        content((EventsAnswer = "application/json"), (String = "text/event-stream")))))]
pub async fn events(call: Call) -> Answer {
    let workspace = call.path_workspace()?;
    let query: EventsQuery = call.query()?;
    if wants_list(call.request.headers()) {
        return list(&call, workspace, query).await;
    }
    if query.limit.is_some() || query.cursor.is_some() {
        return Err(Problem::malformed(
            "",
            "limit and cursor are of the list; ask for it with Accept: application/json",
        ));
    }
    let stream = Stream::open(&call, workspace).await?;
    let frames = futures_util::stream::unfold(stream, Stream::next);
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        // Proxies that hold answers back until they are whole would hold this one back for ever.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(frames))
}

fn wants_list(headers: &HeaderMap) -> bool {
    let accept = headers.get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let names = |wanted: &str| {
        accept
            .split(',')
            .any(|kind| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted))
    };
    names("application/json") && !names("text/event-stream")
}

fn audience(call: &Call) -> Option<Audience> {
    call.identity.sees_no_costs().then_some(Audience::Customer)
}

async fn list(call: &Call, workspace: WorkspaceId, query: EventsQuery) -> Answer {
    flow::workspace::find(&call.service, &workspace)
        .await?
        .ok_or_else(Problem::not_found)?;
    let limit = page::limit(query.limit)?;
    let asked = EventQuery {
        workspace: Some(workspace),
        audience: audience(call),
        after: page::place(query.cursor.as_deref(), read_place)?,
        limit: limit + 1,
        ..EventQuery::default()
    };
    let mut events = flow::meter::list(&call.service, &asked).await?;
    let next_cursor = page::cut(&mut events, limit, |last| format!("{} {}", last.recorded_at.micros(), last.id));
    let data = events.iter().map(|event| EventOut {
        id: event.id,
        body: event.body(),
    });
    ok(&EventsAnswer {
        data: data.collect(),
        next_cursor,
    })
}

fn read_place(text: &str) -> Option<(Timestamp, EventId)> {
    let (at, id) = text.split_once(' ')?;
    Some((Timestamp::from_micros(at.parse().ok()?), EventId::parse(id).ok()?))
}

/// A stream and how far its reader has come.
struct Stream {
    service: Data<Service>,
    verifier: Data<Verifier>,
    /// As they came with the request: the credential is among them.
    headers: HeaderMap,
    stopping: Option<Stopping>,
    workspace: WorkspaceId,
    watching: Watching,
    audience: Option<Audience>,
    /// Of the last event that was told.
    number: i64,
    /// The budgets that were told last.
    told: Option<Vec<BudgetView>>,
    frames: VecDeque<Bytes>,
    heartbeat: Interval,
    admission: Interval,
}

impl Stream {
    async fn open(call: &Call, workspace: WorkspaceId) -> Result<Self, Problem> {
        let service = call.service.clone();
        let mut watching = flow::meter::watch(&service.clone().into_inner(), &workspace)
            .await
            .map_err(|error| match error {
                WatchError::TooManyOfWorkspace(_) => Problem::too_many_requests(RETRY_AFTER_SECONDS),
                WatchError::TooMany => Problem::overloaded(),
                WatchError::Flow(error) => error.into(),
            })?;
        let newest = watching.beats.borrow().number;
        let number = match call.request.headers().get("last-event-id") {
            None => newest,
            Some(seen) => {
                let seen = seen.to_str().ok().and_then(|text| EventId::parse(text).ok());
                flow::meter::resume(&service, &workspace, seen, newest).await?
            }
        };
        watching.beats.mark_changed();
        Ok(Self {
            verifier: part::<Verifier>(&call.request)?.clone(),
            headers: call.request.headers().clone(),
            stopping: call.request.app_data::<Stopping>().cloned(),
            audience: audience(call),
            service,
            workspace,
            watching,
            number,
            told: None,
            frames: VecDeque::from([Bytes::from(format!("retry: {RETRY_MILLIS}\n\n"))]),
            heartbeat: calm(HEARTBEAT_EVERY),
            admission: calm(ADMIT_EVERY),
        })
    }

    /// The next frame, once its reader wants it; `None`: the stream ends.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some((Ok(frame), self));
            }
            let stopping = self.stopping.clone();
            let stopped = async {
                match stopping {
                    Some(stopping) => (stopping.0)().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stopped => return None,
                _ = self.admission.tick() => {
                    self.verifier.admit(&self.service, &self.headers, access()).await.ok()?;
                }
                beat = self.watching.beats.changed() => {
                    beat.ok()?;
                    self.catch_up().await?;
                }
                _ = self.heartbeat.tick() => self.frames.push_back(Bytes::from_static(b":\n\n")),
            }
        }
    }

    /// Tells what is new. `None`: it could not be read, and the reader comes back for it.
    async fn catch_up(&mut self) -> Option<()> {
        let beat = self.watching.beats.borrow_and_update().clone();
        if beat.number > self.number {
            let read = flow::meter::next(&self.service, &self.workspace, self.number).await;
            let events = read
                .inspect_err(|error| {
                    let error = error as &dyn std::error::Error;
                    tracing::debug!(workspace = %self.workspace, error, "a stream of events ends");
                })
                .ok()?;
            let is_page_full = events.len() == flow::meter::PAGE_EVENTS;
            for (number, event) in &events {
                self.number = *number;
                if self.audience.is_none_or(|audience| audience == event.audience) {
                    self.frames.push_back(frame(event));
                }
            }
            if is_page_full {
                // The rest comes when the reader has taken these.
                self.watching.beats.mark_changed();
                return Some(());
            }
            self.number = self.number.max(beat.number);
        }
        self.tell_usage(&beat);
        Some(())
    }

    fn tell_usage(&mut self, beat: &Beat) {
        let shown: Vec<_> = beat
            .budgets
            .iter()
            .filter(|forecast| self.audience.is_none() || forecast.budget.unit != Unit::Usd)
            .collect();
        let views: Vec<BudgetView> = shown.iter().map(|forecast| forecast.budget.clone()).collect();
        if self.told.as_ref() == Some(&views) {
            return;
        }
        let usage = UsageFrame {
            budgets: shown.into_iter().map(forecast_out).collect(),
        };
        self.frames.push_back(written("event: usage\ndata: ", &usage));
        self.told = Some(views);
    }
}

/// Begins with its first pause, and is never made up for.
fn calm(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.reset();
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn frame(event: &Event) -> Bytes {
    let kind: EventType = event.kind;
    written(&format!("id: {}\nevent: {}\ndata: ", event.id, kind.as_str()), &event.body())
}

/// JSON has no line ends but those in its strings, which are escaped: one line of data is enough.
fn written(head: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_default();
    Bytes::from(format!("{head}{data}\n\n"))
}
