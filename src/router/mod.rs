//! Asks a language model which tier of models a request needs: an OpenAI-compatible chat endpoint, off unless one is configured.
//!
//! - A decision waits for it no longer than its budget; then it goes on without an answer. The call itself goes on for
//!   [`CALL_SECONDS_MAX`], so that what it costs is known and its answer serves the next request of the same text.
//! - Answers are kept by a hash of the workspace, the tiers and the text, so no workspace learns anything of another's. A text is kept
//!   nowhere, and goes nowhere but to the endpoint, cut to [`TEXT_BYTES_MAX`].
//! - After [`FAILURES_MAX`] failures in a row nothing is asked for [`REST_SECONDS`]. Too many calls at once are not made.
//! - What a text says to the model can bend its answer, but only to one of the tiers: what may serve is still the plan's matter.

mod kept;
mod wire;

use crate::config::Secret;
use crate::decision::id::{ModelId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::decision::usage::Usage;
use kept::Kept;
use reqwest::Client;
use reqwest::redirect::Policy;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How much of a text is told, half of its beginning and half of its end.
pub const TEXT_BYTES_MAX: usize = 2_048;
/// How long a call may take at most, whoever still waits for it.
pub const CALL_SECONDS_MAX: u64 = 10;
/// How many calls run at once.
const CALLS_MAX: usize = 128;
/// So many failures in a row, and it is left alone for a while.
pub const FAILURES_MAX: u32 = 5;
pub const REST_SECONDS: i64 = 10;
/// How many calls may wait to be recorded.
const SPENT_MAX: usize = 4_096;
const MICROS_PER_SECOND: i64 = 1_000_000;

/// Where the language model is, and how long a decision waits for it.
#[derive(Clone)]
pub struct RouterSettings {
    /// The base of the API, such as `https://api.openai.com/v1`, or the whole path of its chat endpoint.
    pub url: String,
    pub model: ModelId,
    pub api_key: Option<Secret<String>>,
    pub timeout: Duration,
}

impl std::fmt::Debug for RouterSettings {
    /// Of the address only the host: its other parts may hold a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = reqwest::Url::parse(&self.url).ok();
        f.debug_struct("RouterSettings")
            .field("host", &url.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default())
            .field("model", &self.model)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What a call used.
#[derive(Clone, Debug)]
pub struct Spent {
    pub id: String,
    pub workspace: WorkspaceId,
    pub model: ModelId,
    pub usage: Usage,
    pub latency_ms: i64,
    pub at: Timestamp,
}

/// The language model as router; without settings there is none.
#[derive(Debug, Default)]
pub struct Router(Option<Arc<Asker>>);

#[derive(Debug)]
struct Asker {
    settings: RouterSettings,
    client: OnceLock<Client>,
    calls: Semaphore,
    kept: Mutex<Kept>,
    failures: AtomicU32,
    /// Microseconds; nothing is asked before.
    rests_until: AtomicI64,
    spent: Mutex<VecDeque<Spent>>,
}

/// One question.
struct Asking {
    id: String,
    workspace: WorkspaceId,
    text: String,
    tiers: Vec<String>,
    key: [u8; 32],
    now: Timestamp,
    /// It came to nothing in time, and was counted: whoever waits may see that before the call does.
    has_failed: Arc<AtomicBool>,
}

impl Router {
    pub fn new(settings: Option<RouterSettings>) -> Self {
        let asker = |settings| {
            Arc::new(Asker {
                settings,
                client: OnceLock::new(),
                calls: Semaphore::new(CALLS_MAX),
                kept: Mutex::default(),
                failures: AtomicU32::new(0),
                rests_until: AtomicI64::new(i64::MIN),
                spent: Mutex::default(),
            })
        };
        Self(settings.map(asker))
    }

    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// The model that is asked, if one is.
    pub fn model(&self) -> Option<&ModelId> {
        self.0.as_ref().map(|asker| &asker.settings.model)
    }

    /// The tier that `text` needs, one of `tiers`; `None`: it is not known in time.
    /// `id` names the call, if there has to be one.
    pub async fn tier(
        &self,
        workspace: &WorkspaceId,
        text: &str,
        tiers: Vec<String>,
        id: impl FnOnce() -> String,
        now: Timestamp,
    ) -> Option<String> {
        let asker = self.0.as_ref()?;
        let text = excerpt(text);
        let key = key(workspace, &tiers, &text);
        if let Some(tier) = asker.kept().get(&key, now) {
            told("kept");
            return Some(tier);
        }
        if now.micros() < asker.rests_until.load(Ordering::Relaxed) {
            told("resting");
            return None;
        }
        let has_failed = Arc::new(AtomicBool::new(false));
        let asking = Asking {
            id: id(),
            workspace: workspace.clone(),
            text,
            tiers,
            key,
            now,
            has_failed: has_failed.clone(),
        };
        let call = asker.clone().call(asking);
        // In a task of its own, which goes on when nobody waits any more.
        match tokio::time::timeout(asker.settings.timeout, tokio::spawn(call)).await {
            Ok(Ok(tier)) => {
                told(if tier.is_some() { "answered" } else { "failed" });
                tier
            }
            Ok(Err(_)) => {
                told("failed");
                None
            }
            Err(_) => {
                told("late");
                asker.failed(&has_failed, now);
                None
            }
        }
    }

    /// The next call that is to be recorded.
    pub fn next_spent(&self) -> Option<Spent> {
        self.0.as_ref()?.spent().pop_front()
    }

    /// Puts back one that could not be recorded.
    pub fn keep_spent(&self, spent: Spent) {
        if let Some(asker) = &self.0 {
            asker.spent().push_front(spent);
        }
    }
}

fn told(outcome: &'static str) {
    metrics::counter!("weir_router_asked_total", "outcome" => outcome).increment(1);
}

impl Asker {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spent(&self) -> MutexGuard<'_, VecDeque<Spent>> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call that came to nothing in time, once.
    fn failed(&self, has_failed: &AtomicBool, now: Timestamp) {
        if has_failed.swap(true, Ordering::Relaxed) {
            return;
        }
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX {
            let until = now.micros() + REST_SECONDS * MICROS_PER_SECOND;
            if self.rests_until.fetch_max(until, Ordering::Relaxed) < now.micros() {
                tracing::warn!(
                    failures = FAILURES_MAX,
                    "the language model that routes does not answer in time; it is left alone for {REST_SECONDS} s at a time"
                );
            }
            // One more failure after the rest is enough.
            self.failures.store(FAILURES_MAX - 1, Ordering::Relaxed);
        }
    }

    async fn call(self: Arc<Self>, asking: Asking) -> Option<String> {
        let now = asking.now;
        let _place = self.calls.try_acquire().ok()?;
        let begun = Instant::now();
        let asked = wire::ask(self.client()?, &self.settings, &asking.text, &asking.tiers).await;
        let latency = begun.elapsed();
        match asked {
            Ok(answer) => {
                self.note(&asking, answer.usage, latency);
                if let Some(tier) = &answer.tier {
                    self.kept().put(asking.key, tier.clone(), now);
                }
                match answer.tier.is_some() && latency <= self.settings.timeout {
                    true => self.failures.store(0, Ordering::Relaxed),
                    false => self.failed(&asking.has_failed, now),
                }
                answer.tier
            }
            Err(error) => {
                if let wire::AskError::Status { used: Some(used), .. } = &error {
                    self.note(&asking, Some(*used), latency);
                }
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the language model that routes gave no answer"
                );
                self.failed(&asking.has_failed, now);
                None
            }
        }
    }

    fn note(&self, asking: &Asking, used: Option<Usage>, latency: Duration) {
        let Some(usage) = used else {
            metrics::counter!("weir_router_unrecorded_total").increment(1);
            return;
        };
        let mut spent = self.spent();
        if spent.len() >= SPENT_MAX {
            metrics::counter!("weir_router_unrecorded_total").increment(1);
            return;
        }
        spent.push_back(Spent {
            id: asking.id.clone(),
            workspace: asking.workspace.clone(),
            model: self.settings.model.clone(),
            usage,
            latency_ms: i64::try_from(latency.as_millis()).unwrap_or(i64::MAX),
            at: asking.now,
        });
    }

    fn client(&self) -> Option<&Client> {
        if self.client.get().is_none() {
            let client = Client::builder()
                .redirect(Policy::none())
                .timeout(Duration::from_secs(CALL_SECONDS_MAX))
                .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
                .build();
            let _ = self.client.set(client.ok()?);
        }
        self.client.get()
    }
}

/// The beginning and the end of a text.
fn excerpt(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let half = TEXT_BYTES_MAX / 2;
    let (head, tail) = (text.floor_char_boundary(half), text.ceil_char_boundary(text.len() - half));
    format!("{}\n…\n{}", &text[..head], &text[tail..])
}

fn key(workspace: &WorkspaceId, tiers: &[String], text: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in std::iter::once(workspace.as_str()).chain(tiers.iter().map(String::as_str)) {
        hash.update(part);
        hash.update([0]);
    }
    hash.update([1]);
    hash.update(text);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::usage::Named;

    #[test]
    fn a_key_tells_workspaces_tiers_and_texts_apart() {
        let workspace = |id: &str| WorkspaceId::parse(id).expect("a name");
        let tiers = |list: &[&str]| list.iter().map(|tier| (*tier).to_owned()).collect::<Vec<_>>();
        let first = key(&workspace("a"), &tiers(&["fast", "mid"]), "text");
        assert_eq!(first, key(&workspace("a"), &tiers(&["fast", "mid"]), "text"));
        for other in [
            key(&workspace("b"), &tiers(&["fast", "mid"]), "text"),
            key(&workspace("a"), &tiers(&["fast"]), "text"),
            key(&workspace("a"), &tiers(&["fast", "mid"]), "text "),
            key(&workspace("a"), &tiers(&["fast", "mid", "text"]), ""),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "ä".repeat(TEXT_BYTES_MAX);
        let cut = excerpt(&text);
        assert!(cut.len() <= TEXT_BYTES_MAX + 8 && cut.starts_with('ä') && cut.ends_with('ä'));
        assert_eq!(excerpt("short"), "short");
    }

    /// Answers each of its connections with an error, after a while.
    async fn a_failing_endpoint(after: Duration, body: &'static str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let _ = stream.read(&mut [0; 4_096]).await;
                    tokio::time::sleep(after).await;
                    let length = body.len();
                    let answer =
                        format!("HTTP/1.1 500 Internal Server Error\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        format!("http://{address}/v1?key=secret")
    }

    #[tokio::test]
    async fn a_call_that_is_late_and_fails_counts_once() {
        let settings = RouterSettings {
            url: a_failing_endpoint(Duration::from_millis(60), "").await,
            model: ModelId::parse("m").expect("a name"),
            api_key: None,
            timeout: Duration::from_millis(20),
        };
        assert!(!format!("{settings:?}").contains("secret"), "{settings:?}");
        let router = Router::new(Some(settings));
        let (workspace, now) = (WorkspaceId::parse("ws").expect("a name"), Timestamp::from_micros(0));
        let asker = router.0.clone().expect("it is configured");
        for asked in 1..FAILURES_MAX {
            let tiers = vec!["fast".to_owned(), "mid".to_owned()];
            let tier = router
                .tier(&workspace, &format!("text {asked}"), tiers, || "id".to_owned(), now)
                .await;
            assert_eq!(tier, None);
            // Until its call has failed too.
            while asker.calls.available_permits() < CALLS_MAX {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(asker.failures.load(Ordering::Relaxed), asked);
        }
        assert_eq!(
            asker.rests_until.load(Ordering::Relaxed),
            i64::MIN,
            "one more may fail before it rests"
        );
    }

    #[tokio::test]
    async fn what_an_error_says_that_it_used_is_spent_and_what_it_does_not_say_is_not() {
        let used = r#"{"error": {"code": "content_filter"}, "usage": {"prompt_tokens": 60, "completion_tokens": 3, "total_tokens": 63}}"#;
        let workspace = WorkspaceId::parse("ws").expect("a name");
        for (body, expected) in [(used, Some((60, 3))), (r#"{"error": {}}"#, None), ("<html>", None), ("", None)] {
            let router = Router::new(Some(RouterSettings {
                url: a_failing_endpoint(Duration::ZERO, body).await,
                model: ModelId::parse("m").expect("a name"),
                api_key: None,
                timeout: Duration::from_secs(CALL_SECONDS_MAX),
            }));
            let (tiers, now) = (vec!["fast".to_owned()], Timestamp::from_micros(0));
            assert_eq!(router.tier(&workspace, "text", tiers, || "id".to_owned(), now).await, None);
            let pools = router.next_spent().map(|spent| spent.usage.pools(Named::default()));
            assert_eq!(pools.map(|pools| (pools.input_tokens, pools.output_tokens)), expected, "{body}");
            let asker = router.0.as_ref().expect("it is configured");
            assert_eq!(asker.failures.load(Ordering::Relaxed), 1, "an error fails, whatever it cost");
        }
    }
}
