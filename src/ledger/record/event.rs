//! `event`: what must be told.

use super::{Unreadable, json, parse, parse_some, read_json, unreadable};
use crate::decision::event::{Audience, Event, EventType};
use crate::decision::id::{EventId, WorkspaceId};
use crate::decision::time::Timestamp;

record! {
    /// A row of `event`.
    struct EventRecord of "event" {
        event_id: String,
        workspace_id: String,
        number: i64,
        r#type: String,
        audience: String,
        once: String,
        occurred_at: i64,
        recorded_at: i64,
        body: String,
        renews_at: Option<i64>,
        kept_until: i64,
        relayed_at: Option<i64>,
    }
}

/// Empty for none, which is no name that a caller may choose.
pub(in crate::ledger) fn workspace_column(workspace: Option<&WorkspaceId>) -> &str {
    workspace.map_or("", WorkspaceId::as_str)
}

impl EventRecord {
    /// Not relayed yet.
    pub(in crate::ledger) fn new(event: &Event, number: i64) -> Self {
        Self {
            event_id: event.id.to_string(),
            workspace_id: workspace_column(event.workspace.as_ref()).to_owned(),
            number,
            r#type: event.kind.as_str().to_owned(),
            audience: event.audience.as_str().to_owned(),
            once: event.once.clone(),
            occurred_at: event.occurred_at.micros(),
            recorded_at: event.recorded_at.micros(),
            body: json(&event.data),
            renews_at: event.renews_at.map(Timestamp::micros),
            kept_until: event.kept_until.micros(),
            relayed_at: None,
        }
    }

    /// The event and its number.
    pub(in crate::ledger) fn read(self) -> Result<(i64, Event), Unreadable> {
        let workspace = Some(self.workspace_id.as_str()).filter(|id| !id.is_empty());
        let kind = EventType::parse(&self.r#type).ok_or_else(|| unreadable("type", &self.r#type, "is no type of event"))?;
        let audience = Audience::parse(&self.audience).ok_or_else(|| unreadable("audience", &self.audience, "is no audience"))?;
        let event = Event {
            id: parse("event_id", &self.event_id, EventId::parse)?,
            workspace: parse_some("workspace_id", workspace, WorkspaceId::parse)?,
            kind,
            audience,
            once: self.once,
            occurred_at: Timestamp::from_micros(self.occurred_at),
            recorded_at: Timestamp::from_micros(self.recorded_at),
            data: read_json("body", &self.body)?,
            renews_at: self.renews_at.map(Timestamp::from_micros),
            kept_until: Timestamp::from_micros(self.kept_until),
        };
        Ok((self.number, event))
    }
}
