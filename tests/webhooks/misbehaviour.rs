//! Receivers that hang, drip, flood and lead astray, and names that lead elsewhere than they did: bounded in time and size, and never dialled
//! where they must not go.

use super::receiver::{Manner, answers};
use super::*;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_receiver_does_a_try_is_bounded() {
    let (app, receiver) = (TestApp::alone().await, Receiver::start().await);
    let closed = Receiver::start().await;
    let refusing = closed.url("/refused");
    drop(closed);
    let noisy = Manner::Answers(400, "", format!("\u{1b}[2J\0{}", "é".repeat(5_000)));
    let redirect = Manner::Answers(302, "Location: http://169.254.169.254/latest/meta-data/\r\n", String::new());
    let cases = [
        ("/hang", Manner::Hangs, "pending", "no answer within 1.5 s"),
        ("/drip", Manner::Drips, "delivered", ""),
        ("/flood", Manner::Floods, "delivered", ""),
        ("/redirect", redirect, "pending", "redirects are not followed"),
        ("/hangup", Manner::HangsUp, "pending", "could not be"),
        ("/noisy", noisy, "pending", "it answered 400"),
    ];
    let mut endpoints = Vec::new();
    for (place, manner, status, error) in &cases {
        receiver.on(place, manner.clone());
        endpoints.push((app.endpoint(&receiver.url(place), Some("ws_a")).await, *place, *status, *error));
    }
    endpoints.push((
        app.endpoint(&refusing, Some("ws_a")).await,
        "/refused",
        "pending",
        "could not be connected to",
    ));
    app.happen("ws_a").await;
    let began = Instant::now();
    let tries = worker_of(&app).deliver_due().await.expect("the ledger answers");
    assert_eq!(tries, endpoints.len());
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    for (endpoint, place, status, error) in &endpoints {
        let delivery = &app.deliveries(endpoint).await[0];
        assert_eq!(delivery["status"], *status, "{place}: {delivery}");
        let told = delivery["last_try"]["error"].as_str().unwrap_or_default();
        assert!(told.contains(error), "{place}: {told}");
        let body = delivery["last_try"]["response_body"].as_str().expect("text");
        assert!(
            body.chars().count() <= 1_024 && !body.chars().any(char::is_control),
            "{place}: {body}"
        );
    }
    // What the kernel takes between both ends is some megabytes; what is read is not.
    assert!(
        receiver.written() < 64 * 1_024 * 1_024,
        "{} bytes of a flood were taken",
        receiver.written()
    );
    assert!(receiver.seen("/redirect").len() == 1 && receiver.seen("/latest/meta-data/").is_empty());
}

/// A name that leads to one address after the other.
struct Rebinding(Mutex<Vec<Vec<&'static str>>>);

impl Names for Rebinding {
    fn resolve(&self, _: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        let ips = next.iter().map(|ip| ip.parse().expect("an address")).collect();
        Box::pin(async move { Ok(ips) })
    }
}

/// Names, all of which lead there.
pub fn leads_to(address: &'static str) -> Arc<dyn Names> {
    Arc::new(Rebinding(Mutex::new(vec![vec![address]])))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_elsewhere_at_the_try_is_judged_by_where_it_leads_then() {
    let (app, open) = (TestApp::alone().await, Receiver::start().await);
    // The same port on an address that is not open: whoever connects to it is seen.
    let port = open.address.port();
    let closed = Receiver::start_on(SocketAddr::new("127.0.0.2".parse().expect("an address"), port)).await;
    let endpoint = app.endpoint(&format!("http://hooks.example:{port}/hook"), Some("ws_a")).await;
    let secure = app.endpoint("https://hooks.example/hook", Some("ws_b")).await;
    let names = Arc::new(Rebinding(Mutex::new(vec![
        vec!["127.0.0.1"],
        vec!["127.0.0.2"],
        vec!["::ffff:127.0.0.2"],
        vec!["127.0.0.2", "127.0.0.1"],
    ])));
    let worker = worker_with(&app, names);
    let last = |delivery: &Value| delivery["last_try"]["error"].as_str().unwrap_or_default().to_owned();
    for (is_delivered, why) in [
        (true, ""),
        (false, "only be reached by https"),
        (false, "only be reached by https"),
        (true, ""),
    ] {
        // So that the newest one is known by its id.
        app.clock.advance_micros(2_000);
        app.happen("ws_a").await;
        worker.deliver_due().await.expect("the ledger answers");
        let delivery = app.deliveries(&endpoint).await.remove(0);
        assert_eq!(delivery["status"] == "delivered", is_delivered, "{delivery}");
        assert!(last(&delivery).contains(why), "{delivery}");
    }
    for (address, why) in [
        ("10.1.2.3", "a private address"),
        ("169.254.169.254", "a link-local address"),
        ("100.64.0.1", "an address of a carrier's own network"),
        ("64:ff9b::a9fe:a9fe", "a link-local address"),
        ("fd00::1", "a private address"),
        ("127.0.0.2", "a loopback address"),
    ] {
        let worker = worker_with(&app, Arc::new(Rebinding(Mutex::new(vec![vec![address]]))));
        app.clock.advance_micros(2_000);
        app.happen("ws_b").await;
        worker.deliver_due().await.expect("the ledger answers");
        let delivery = app.deliveries(&secure).await.remove(0);
        assert_eq!(delivery["status"], "pending");
        assert_eq!(last(&delivery), format!("its host leads to {why}"));
    }
    assert_eq!((open.seen("/hook").len(), closed.seen("/hook").len()), (2, 0));
}

/// Who answers has to prove to be who was meant: a certificate that nobody vouches for is as good as none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_to_a_server_whose_certificate_nobody_vouches_for() {
    if !support::certificates::can_be_made() {
        return;
    }
    let app = TestApp::alone().await;
    let certificates = support::certificates::Certificates::for_address("127.0.0.1");
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = certificates.put_into(folder.path());
    let port = support::redis::free_port();
    let mut server = std::process::Command::new("openssl")
        .args(["s_server", "-quiet", "-www", "-accept", &format!("127.0.0.1:{port}"), "-cert"])
        .arg(certificate)
        .arg("-key")
        .arg(key)
        .spawn()
        .expect("openssl");
    for _ in 0..200 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let endpoint = app.endpoint(&format!("https://127.0.0.1:{port}/hook"), Some("ws_a")).await;
    app.happen("ws_a").await;
    worker_of(&app).deliver_due().await.expect("the ledger answers");
    server.kill().expect("it runs still");
    server.wait().expect("it ends");
    let delivery = app.deliveries(&endpoint).await.remove(0);
    assert_eq!(
        (&delivery["status"], &delivery["last_try"]["status"]),
        (&json!("pending"), &Value::Null),
        "{delivery}"
    );
    let told = delivery["last_try"]["error"].as_str().unwrap_or_default();
    assert!(told.contains("certificate"), "{told}");
}

/// An operator closes what was open: the endpoint stays, and is not dialled any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_no_longer_open_is_not_dialled() {
    let (app, receiver) = (TestApp::alone().await, Receiver::start().await);
    let endpoint = app.endpoint(&receiver.url("/hook"), Some("ws_a")).await;
    app.happen("ws_a").await;
    let client = weir::webhooks::client::Client::new(Arc::new(SystemNames), &[], soon()).expect("a client");
    let (ledger, webhooks) = (app.service.ledger.clone(), &app.service.options.webhooks);
    let worker = Worker::new(
        ledger,
        app.clock.clone(),
        Arc::new(client),
        webhooks.schedule.clone(),
        webhooks.seal.clone(),
        app::webhooks::words(&app.service),
    );
    worker.deliver_due().await.expect("the ledger answers");
    assert!(receiver.seen("/hook").is_empty());
    let delivery = &app.deliveries(&endpoint).await[0];
    assert_eq!(
        delivery["last_try"]["error"],
        "its host leads to an address that may only be reached by https"
    );
}

/// TLS is spoken and verified: a plain server behind https gets no request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_is_not_spoken_to_whoever_cannot_prove_who_it_is() {
    let (app, receiver) = (TestApp::alone().await, Receiver::start().await);
    receiver.on("/hook", answers(200));
    let url = receiver.url("/hook").replace("http:", "https:");
    let endpoint = app.endpoint(&url, Some("ws_a")).await;
    app.happen("ws_a").await;
    worker_of(&app).deliver_due().await.expect("the ledger answers");
    assert!(receiver.seen("/hook").is_empty());
    let delivery = &app.deliveries(&endpoint).await[0];
    assert_eq!(delivery["status"], "pending", "{delivery}");
}
