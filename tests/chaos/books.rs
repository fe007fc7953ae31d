//! What PostgreSQL has, read by statements of our own and added up by ourselves.

use super::record::Micros;
use sqlx::{Connection, FromRow, PgConnection};
use std::collections::HashMap;

/// An entry of the ledger, or a checkpoint that has not become one.
#[derive(Clone, FromRow, Debug)]
pub struct Entry {
    pub entry_id: String,
    pub kind: String,
    pub corrects: Option<String>,
    pub reservation_id: Option<String>,
    pub workspace_id: String,
    pub user_id: String,
    pub feature: String,
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub counted_tokens: i64,
    pub counted_usd: i64,
    pub counted_requests: i64,
    pub counted_credits: i64,
    pub late: bool,
    pub outcome: String,
    pub occurred_at: Micros,
}

impl Entry {
    pub fn counted(&self, unit: &str) -> i64 {
        match unit {
            "tokens" => self.counted_tokens,
            "usd" => self.counted_usd,
            "requests" => self.counted_requests,
            "credits" => self.counted_credits,
            other => panic!("the unit {other}"),
        }
    }
}

#[derive(Clone, FromRow, Debug)]
pub struct Sum {
    pub workspace_id: String,
    /// `*`: everybody.
    pub user_id: String,
    /// `*`: every feature.
    pub feature: String,
    pub unit: String,
    pub period_start: Micros,
    pub period_end: Micros,
    pub spent: i64,
}

#[derive(Clone, FromRow, Debug)]
pub struct End {
    pub reservation_id: String,
    pub end: Option<String>,
    pub entry_id: Option<String>,
}

/// Something that was told.
#[derive(Clone, FromRow, Debug)]
pub struct Told {
    pub event_id: String,
    pub workspace_id: String,
    pub r#type: String,
    pub body: String,
}

/// Everything in it.
pub struct Books {
    entries: HashMap<String, Vec<Entry>>,
    checkpoints: HashMap<String, Vec<Entry>>,
    by_reservation: HashMap<String, Vec<Entry>>,
    pub sums: Vec<Sum>,
    pub ends: HashMap<String, End>,
    pub told: Vec<Told>,
}

/// Which entries a counter counts.
pub struct Which<'a> {
    pub workspace: &'a str,
    pub user: Option<&'a str>,
    pub feature: Option<&'a str>,
    pub unit: &'a str,
    pub from: Micros,
    pub to: Micros,
}

const ENTRIES: &str = "SELECT entry_id, kind, corrects, reservation_id, workspace_id, user_id, feature, input_tokens, output_tokens,
    counted_tokens, counted_usd, counted_requests, counted_credits, late, outcome, occurred_at FROM entry
    ORDER BY recorded_at, entry_id";
const CHECKPOINTS: &str = "SELECT '' AS entry_id, 'checkpoint' AS kind, NULL AS corrects, reservation_id, workspace_id, user_id, feature,
    0::bigint AS input_tokens, 0::bigint AS output_tokens, counted_tokens, counted_usd, counted_requests, counted_credits,
    false AS late, '' AS outcome, occurred_at FROM checkpoint";
const SUMS: &str = "SELECT workspace_id, user_id, feature, unit, period_start, period_end, spent FROM counter_sum";
const TOLD: &str = "SELECT event_id, workspace_id, type, body FROM event";
const ENDS: &str = "SELECT reservation_id, \"end\", entry_id FROM reservation_end";

fn grouped(entries: &[Entry], key: impl Fn(&Entry) -> Option<String>) -> HashMap<String, Vec<Entry>> {
    let mut groups: HashMap<String, Vec<Entry>> = HashMap::new();
    for entry in entries {
        if let Some(key) = key(entry) {
            groups.entry(key).or_default().push(entry.clone());
        }
    }
    groups
}

impl Books {
    /// Reads all of it as it is at one moment.
    pub async fn read(url: &str) -> sqlx::Result<Self> {
        let mut connection = PgConnection::connect(url).await?;
        sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .execute(&mut connection)
            .await?;
        let entries: Vec<Entry> = sqlx::query_as(ENTRIES).fetch_all(&mut connection).await?;
        let checkpoints: Vec<Entry> = sqlx::query_as(CHECKPOINTS).fetch_all(&mut connection).await?;
        let sums = sqlx::query_as(SUMS).fetch_all(&mut connection).await?;
        let ends: Vec<End> = sqlx::query_as(ENDS).fetch_all(&mut connection).await?;
        let told = sqlx::query_as(TOLD).fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok(Self {
            told,
            by_reservation: grouped(&entries, |entry| entry.reservation_id.clone()),
            entries: grouped(&entries, |entry| Some(entry.workspace_id.clone())),
            checkpoints: grouped(&checkpoints, |entry| Some(entry.workspace_id.clone())),
            sums,
            ends: ends.into_iter().map(|end| (end.reservation_id.clone(), end)).collect(),
        })
    }

    pub fn of(&self, reservation: &str) -> &[Entry] {
        self.by_reservation.get(reservation).map_or(&[], Vec::as_slice)
    }

    pub fn checkpoint(&self, workspace: &str, reservation: &str) -> Option<&Entry> {
        let mut checkpoints = self.checkpoints.get(workspace)?.iter();
        checkpoints.find(|checkpoint| checkpoint.reservation_id.as_deref() == Some(reservation))
    }

    pub fn all_entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().flatten()
    }

    pub fn open_checkpoints(&self) -> usize {
        self.checkpoints.values().map(Vec::len).sum()
    }

    pub fn workspaces(&self) -> Vec<String> {
        let both = self.entries.keys().chain(self.checkpoints.keys());
        let mut all: Vec<String> = both.cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// What is spent by definition: the sum over entries, and over checkpoints that have not become entries.
    pub fn spent(&self, which: &Which<'_>) -> i64 {
        let both = [&self.entries, &self.checkpoints];
        let all = both.into_iter().filter_map(|some| some.get(which.workspace)).flatten();
        let counts = |entry: &&Entry| {
            which.user.is_none_or(|user| user == entry.user_id)
                && which.feature.is_none_or(|feature| feature == entry.feature)
                && (which.from..which.to).contains(&entry.occurred_at)
        };
        all.filter(counts).map(|entry| entry.counted(which.unit)).sum()
    }
}
