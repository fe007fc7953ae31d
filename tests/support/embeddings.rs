//! An endpoint that makes vectors in OpenAI's protocol, in this process: what a text is about is taken to be the threes of its letters. It can be
//! slow, and it can fail.

use actix_web::web::{Data, Json};
use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use weir::flow::{EmbeddingSettings, Options};

const DIMENSIONS: usize = 256;
/// A text that says this is refused.
pub const REFUSED: &str = "unreadable";

/// What a test sees of the endpoint, and does to it.
#[derive(Default)]
pub struct Seen {
    pub requests: AtomicUsize,
    pub texts: AtomicUsize,
    pub is_failing: AtomicBool,
    pub delay_millis: AtomicU64,
}

pub struct Embeddings {
    pub seen: Arc<Seen>,
    url: String,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Embeddings {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Embeddings {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let seen = Arc::new(Seen::default());
        let data = Data::from(seen.clone());
        let server = HttpServer::new(move || App::new().app_data(data.clone()).route("/v1/embeddings", web::post().to(embed)));
        let server = server.workers(1).disable_signals().listen(listener).expect("it listens").run();
        let server = tokio::spawn(async move { server.await.expect("it runs") });
        Self { seen, url, server }
    }

    /// Settings that ask it, with a budget for a busy machine.
    pub fn options(&self) -> Options {
        self.options_within(5_000)
    }

    pub fn options_within(&self, millis: u64) -> Options {
        Options {
            embeddings: Some(EmbeddingSettings {
                url: self.url.clone(),
                api_key: Some("sk-test".to_owned()),
                model: "threes".to_owned(),
                timeout: Duration::from_millis(millis),
            }),
            ..Options::default()
        }
    }
}

async fn embed(seen: Data<Seen>, request: actix_web::HttpRequest, Json(asked): Json<Value>) -> HttpResponse {
    seen.requests.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(seen.delay_millis.load(Ordering::Relaxed))).await;
    let bearer = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    if bearer != Some("Bearer sk-test") || asked["model"] != "threes" || seen.is_failing.load(Ordering::Relaxed) {
        return HttpResponse::InternalServerError().json(json!({"error": {"message": "no"}}));
    }
    let texts: Vec<&str> = asked["input"].as_array().expect("texts").iter().filter_map(Value::as_str).collect();
    // As endpoints do with what they cannot read: all that came with it is refused.
    if texts.iter().any(|text| text.contains(REFUSED)) {
        return HttpResponse::BadRequest().json(json!({"error": {"message": "no"}}));
    }
    seen.texts.fetch_add(texts.len(), Ordering::Relaxed);
    // Backwards: the index says which is which.
    let data = texts.iter().enumerate().rev();
    let data: Vec<Value> = data
        .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": vector(text)}))
        .collect();
    HttpResponse::Ok().json(json!({"object": "list", "model": "threes", "data": data}))
}

/// How often each three of letters stands in a text.
pub fn vector(text: &str) -> Vec<f64> {
    let letters: Vec<char> = format!("  {} ", text.to_lowercase()).chars().collect();
    let mut vector = vec![0.0; DIMENSIONS];
    for three in letters.windows(3) {
        let place = three
            .iter()
            .fold(7usize, |place, c| place.wrapping_mul(31).wrapping_add(*c as usize));
        vector[place % DIMENSIONS] += 1.0;
    }
    vector
}
