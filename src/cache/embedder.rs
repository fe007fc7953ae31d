//! The client of an endpoint that makes vectors of texts, in OpenAI's protocol.
//!
//! A decision waits for a vector no longer than the budget of the settings; whatever goes wrong or takes longer is a miss, and counted.
//! Concurrent texts go in one request: while as many requests are on their way as may be, the next texts gather. An endpoint that fails
//! many times in a row is left alone for a while; then one request tries it again.
//!
//! Texts of many tenants share a request, so a text that the endpoint refuses must not fail the others: what it refuses together it is asked text
//! by text, once. A refusal says something of the text and nothing of the endpoint, so it is not counted as a failure of the endpoint.

use super::breaker::Breaker;
use super::vector::{DIMENSIONS_MAX, Vector};
use futures_util::StreamExt;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Texts beyond this are not sent: models cut them off, and what is cut off is not compared.
pub const TEXT_BYTES_MAX: usize = 8 << 10;
/// How many texts one request has at most.
const TEXTS_MAX: usize = 32;
/// How many texts wait at most.
const WAITING_MAX: usize = 1_024;
/// How many requests are on their way at once.
const REQUESTS_MAX: usize = 4;
/// How many texts of a refused request are asked alone at once.
const ALONE_AT_ONCE: usize = 8;
/// The longest answer that is read: all vectors of a request, each number in thirty characters.
const ANSWER_BYTES_MAX: usize = TEXTS_MAX * DIMENSIONS_MAX * 30;

/// Where vectors come from.
#[derive(Clone)]
pub struct EmbeddingSettings {
    /// The endpoint, or what `/embeddings` is below of: `https://api.example.com/v1`.
    pub url: String,
    pub api_key: Option<String>,
    pub model: String,
    /// How long a decision waits.
    pub timeout: Duration,
}

impl std::fmt::Debug for EmbeddingSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddingSettings")
            .field("host", &self.host())
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

impl EmbeddingSettings {
    /// What may be shown of the address, whose other parts may hold a key.
    pub fn host(&self) -> String {
        let url = Url::parse(&self.url).ok();
        url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// Why there is no vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EmbedError {
    #[error("the endpoint took longer than a decision waits")]
    Late,
    #[error("the endpoint failed, or answered what cannot be used")]
    Failed,
    #[error("the endpoint failed too often of late, and is left alone for a while")]
    Open,
    #[error("too many texts wait already")]
    Busy,
    #[error("the text is too long")]
    TooLong,
    #[error("the text says nothing")]
    Blank,
    #[error("the endpoint refuses the text")]
    Refused,
}

impl EmbedError {
    const fn as_str(self) -> &'static str {
        match self {
            EmbedError::Late => "late",
            EmbedError::Failed => "failed",
            EmbedError::Open => "open",
            EmbedError::Busy => "busy",
            EmbedError::TooLong => "too_long",
            EmbedError::Blank => "blank",
            EmbedError::Refused => "refused",
        }
    }
}

/// A text that waits for its vector.
struct Waiting {
    text: Arc<str>,
    answer: oneshot::Sender<Result<Vector, EmbedError>>,
}

/// The client.
pub struct Embedder {
    inner: Arc<Inner>,
    queue: mpsc::Sender<Waiting>,
    /// Taken by the task that sends. It begins at once where there is a runtime, which then lives as long as the service does; else with the
    /// first text.
    waiting: Mutex<Option<mpsc::Receiver<Waiting>>>,
}

struct Inner {
    client: Option<Client>,
    url: Option<Url>,
    key: Option<HeaderValue>,
    model: String,
    timeout: Duration,
    breaker: Breaker,
}

impl Embedder {
    pub fn new(settings: &EmbeddingSettings) -> Self {
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(settings.timeout)
            .timeout(settings.timeout)
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")));
        let client = client
            .build()
            .inspect_err(|error| tracing::warn!(%error, "there is no client for embeddings"))
            .ok();
        let key = settings.api_key.as_ref().and_then(|key| {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let embedder = Self {
            inner: Arc::new(Inner {
                client,
                url: endpoint(&settings.url),
                key,
                model: settings.model.clone(),
                timeout: settings.timeout,
                breaker: Breaker::default(),
            }),
            queue,
            waiting: Mutex::new(Some(waiting)),
        };
        if tokio::runtime::Handle::try_current().is_ok() {
            embedder.begin();
        }
        embedder
    }

    /// Which model makes the vectors.
    pub fn model(&self) -> &str {
        &self.inner.model
    }

    /// The vector of a text, within the budget of a decision.
    pub async fn embed(&self, text: &Arc<str>) -> Result<Vector, EmbedError> {
        let made = self.try_embed(text).await;
        let outcome = made.as_ref().map_or_else(|error| error.as_str(), |_| "made");
        metrics::counter!("weir_embeddings_total", "outcome" => outcome).increment(1);
        made
    }

    async fn try_embed(&self, text: &Arc<str>) -> Result<Vector, EmbedError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(EmbedError::TooLong);
        }
        // Endpoints refuse it, and it is like nothing.
        if text.trim().is_empty() {
            return Err(EmbedError::Blank);
        }
        if !self.inner.breaker.admits() {
            return Err(EmbedError::Open);
        }
        self.begin();
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            text: text.clone(),
            answer,
        };
        match self.queue.try_send(waiting) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(EmbedError::Busy),
            Err(TrySendError::Closed(_)) => return Err(EmbedError::Failed),
        }
        match tokio::time::timeout(self.inner.timeout, answered).await {
            Ok(Ok(made)) => made,
            Ok(Err(_)) => Err(EmbedError::Failed),
            Err(_) => Err(EmbedError::Late),
        }
    }

    fn begin(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = waiting.take() {
            tokio::spawn(send_all(self.inner.clone(), waiting));
        }
    }
}

/// The address of the endpoint: as it is where it names one, else below what is given.
fn endpoint(url: &str) -> Option<Url> {
    let mut url = Url::parse(url).ok()?;
    let path = url.path().trim_end_matches('/').to_owned();
    match path.as_str() {
        path if path.ends_with("/embeddings") => {}
        "" => url.set_path("/v1/embeddings"),
        path => url.set_path(&format!("{path}/embeddings")),
    }
    Some(url)
}

/// Sends what waits, many texts in a request, until nobody can ask any more.
async fn send_all(inner: Arc<Inner>, mut waiting: mpsc::Receiver<Waiting>) {
    let requests = Arc::new(Semaphore::new(REQUESTS_MAX));
    loop {
        let Ok(place) = requests.clone().acquire_owned().await else {
            return;
        };
        let Some(first) = waiting.recv().await else { return };
        let mut texts = vec![first];
        while texts.len() < TEXTS_MAX
            && let Ok(next) = waiting.try_recv()
        {
            texts.push(next);
        }
        // Nobody waits any more for those that had to wait too long here.
        texts.retain(|waiting| !waiting.answer.is_closed());
        if texts.is_empty() {
            continue;
        }
        let inner = inner.clone();
        tokio::spawn(async move {
            inner.answer_all(texts).await;
            drop(place);
        });
    }
}

#[derive(Serialize)]
struct Asked<'a> {
    model: &'a str,
    input: &'a [&'a str],
}

#[derive(Deserialize)]
struct Answered {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    index: usize,
    embedding: Vec<f64>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The endpoint answers, and will not have what it was sent.
#[derive(Debug, thiserror::Error)]
#[error("the endpoint refuses what it was sent with {0}")]
struct Refused(StatusCode);

impl Refused {
    /// What is about the texts, and not about who asks, where, or how often: a wrong address is the endpoint's failure.
    fn of(status: StatusCode) -> Option<Self> {
        let is_of_the_texts = matches!(
            status,
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
        );
        is_of_the_texts.then_some(Self(status))
    }
}

impl Inner {
    /// Tells everybody who waits for one of these texts.
    async fn answer_all(&self, texts: Vec<Waiting>) {
        match self.ask(&texts).await {
            Err(EmbedError::Refused) if texts.len() > 1 => {
                let alone = futures_util::stream::iter(texts).for_each_concurrent(ALONE_AT_ONCE, async |waiting| {
                    // Whoever had to wait too long has gone by now.
                    if waiting.answer.is_closed() {
                        return;
                    }
                    let texts = [waiting];
                    let made = self.ask(&texts).await;
                    tell(texts, made);
                });
                alone.await;
            }
            made => tell(texts, made),
        }
    }

    /// One request, and what it says of the endpoint.
    async fn ask(&self, texts: &[Waiting]) -> Result<Vec<Vector>, EmbedError> {
        let asked: Vec<&str> = texts.iter().map(|waiting| &*waiting.text).collect();
        let made = self.request(&asked).await;
        let is_refused = made.as_ref().is_err_and(|error| error.is::<Refused>());
        if !is_refused {
            self.breaker.note(made.is_ok());
        }
        made.map_err(|error| {
            tracing::debug!(error = &*error, texts = asked.len(), "no vectors were made");
            match is_refused {
                true => EmbedError::Refused,
                false => EmbedError::Failed,
            }
        })
    }

    async fn request(&self, texts: &[&str]) -> Result<Vec<Vector>, Failure> {
        let (Some(client), Some(url)) = (&self.client, &self.url) else {
            return Err("the endpoint's address cannot be used".into());
        };
        let mut request = client.post(url.clone()).json(&Asked {
            model: &self.model,
            input: texts,
        });
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key);
        }
        // A URL may hold a key of its own, so it stays out of errors.
        let mut response = request.send().await.map_err(reqwest::Error::without_url)?;
        if let Some(refused) = Refused::of(response.status()) {
            return Err(refused.into());
        }
        if response.status() != StatusCode::OK {
            return Err(format!("the endpoint answered {}", response.status()).into());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err("the endpoint's answer is too long".into());
            }
            body.extend_from_slice(&chunk);
        }
        let mut answered: Answered = serde_json::from_slice(&body)?;
        answered.data.sort_unstable_by_key(|made| made.index);
        let in_order = answered.data.iter().map(|made| made.index).eq(0..texts.len());
        if !in_order {
            return Err("the endpoint did not answer each text once".into());
        }
        let vector = |made: &Embedding| Vector::of(&made.embedding).ok_or_else(|| "a vector has no direction, or too many numbers".into());
        answered.data.iter().map(vector).collect()
    }
}

fn tell(texts: impl IntoIterator<Item = Waiting>, made: Result<Vec<Vector>, EmbedError>) {
    // Whoever waited may have gone.
    match made {
        Ok(vectors) => texts
            .into_iter()
            .zip(vectors)
            .for_each(|(waiting, vector)| drop(waiting.answer.send(Ok(vector)))),
        Err(error) => texts.into_iter().for_each(|waiting| drop(waiting.answer.send(Err(error)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leads_to_the_endpoint() {
        for (given, expected) in [
            ("http://h:1", "http://h:1/v1/embeddings"),
            ("http://h:1/", "http://h:1/v1/embeddings"),
            ("https://h/v1", "https://h/v1/embeddings"),
            ("https://h/v1/", "https://h/v1/embeddings"),
            ("https://h/openai/embeddings", "https://h/openai/embeddings"),
            ("https://h/v1/embeddings?api-version=1", "https://h/v1/embeddings?api-version=1"),
        ] {
            assert_eq!(endpoint(given).map(String::from).as_deref(), Some(expected), "{given}");
        }
        assert_eq!(endpoint("no address"), None);
    }

    #[test]
    fn what_is_refused_is_told_from_who_may_not_ask() {
        for (status, is_refused) in [
            (400, true),
            (413, true),
            (422, true),
            (401, false),
            (403, false),
            (404, false),
            (408, false),
            (429, false),
            (500, false),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(Refused::of(status).is_some(), is_refused, "{status}");
        }
    }

    /// Also one that stands in the address, as some gateways want it.
    #[tokio::test]
    async fn a_key_is_not_shown() {
        let port = {
            let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            nobody.local_addr().expect("an address").port()
        };
        let settings = EmbeddingSettings {
            url: format!("http://user:secret@127.0.0.1:{port}/secret/embeddings?api-key=secret"),
            api_key: Some("sk-secret".to_owned()),
            model: "m".to_owned(),
            timeout: Duration::from_millis(500),
        };
        let shown = format!("{settings:?}");
        assert!(!shown.contains("secret") && shown.contains("127.0.0.1"), "{shown}");
        let embedder = Embedder::new(&settings);
        let error = embedder.inner.request(&["text"]).await.expect_err("nobody listens");
        let (mut told, mut cause) = (format!("{error:?}"), Some(&*error as &dyn std::error::Error));
        while let Some(error) = cause {
            told.push_str(&format!(" | {error}"));
            cause = error.source();
        }
        assert!(!told.contains("secret"), "{told}");
    }
}
