//! Exchange: what nodes tell each other once a second, because it is worth nothing a minute later: what they counted of failing models, and of
//! calls that come too fast. A crash loses what nobody needs any more half a minute later; a node that starts learns within a second what the
//! others know.

use super::fair_use::FastCalls;
use super::{FlowError, Service, health};
use crate::decision::health::Told;
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub const EXCHANGE_EVERY: Duration = Duration::from_secs(1);
/// What a node told longer ago than so many windows of the breakers is not listened to.
const WINDOWS_HEARD: i64 = 2;
/// The first byte of each report; another layout gets another number.
const LAYOUT: u8 = 1;

/// How this node takes part.
#[derive(Default)]
pub struct Exchange {
    /// Under which name it tells the others.
    node: OnceLock<String>,
    /// It told something last time, so it must say when there is nothing any more.
    told: AtomicBool,
}

/// What one node tells: all of it each time.
#[derive(Serialize, Deserialize)]
struct Report {
    health: Vec<Told>,
    calls: Vec<FastCalls>,
}

impl Report {
    fn encode(&self) -> Vec<u8> {
        // Plain data into memory cannot fail; nothing at all would not be understood.
        postcard::to_extend(self, vec![LAYOUT]).unwrap_or_default()
    }

    /// `None`: another version wrote it.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (layout, rest) = bytes.split_first()?;
        (*layout == LAYOUT).then(|| postcard::from_bytes(rest).ok())?
    }
}

/// Tells the other nodes what this one counted, and takes over what they did.
pub async fn exchange(service: &Service) -> Result<(), FlowError> {
    let (now, own) = (service.clock.now(), &service.exchange);
    let report = Report {
        health: health::told(service, now),
        calls: service.fair_use.told(now),
    };
    let node = own.node.get_or_init(|| service.clock.uuid().to_string());
    let has_news = !report.health.is_empty() || !report.calls.is_empty();
    let tells = has_news || own.told.load(Ordering::Relaxed);
    let report = tells.then(|| report.encode());
    let since = now.plus_seconds(-WINDOWS_HEARD * service.policy.load().health.window_seconds);
    let others = service.ledger.exchange_reports(node, report, now, since).await?;
    own.told.store(has_news, Ordering::Relaxed);
    let heard: Vec<Report> = others.iter().filter_map(|bytes| Report::decode(bytes)).collect();
    let (models, calls): (Vec<_>, Vec<_>) = heard.into_iter().map(|report| (report.health, report.calls)).unzip();
    health::hear(service, &models, now);
    service.fair_use.hear(calls);
    Ok(())
}
