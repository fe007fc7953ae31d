//! Secrets that are planted in the settings, credentials and bodies of a running service show in nothing that it writes: not in its logs at
//! their most talkative, not in answers, not in metrics, not in the listing of its settings.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Part of every planted secret.
const MARK: &str = "planted-0123456789";

fn weir(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.current_dir(data).env_clear().env("WEIR_LOG", "trace");
    for (name, value) in [
        ("WEIR_JWT_SECRET", format!("jwt-{MARK}-long-enough-for-a-key")),
        ("WEIR_SECRET_KEY", format!("hash-{MARK}-long-enough-for-a-key")),
        ("WEIR_STRIPE_SECRET_KEY", format!("sk_{MARK}")),
        ("WEIR_STRIPE_WEBHOOK_SECRET", format!("whsec_{MARK}")),
        ("WEIR_EMBEDDINGS_API_KEY", format!("key_{MARK}")),
    ] {
        command.env(name, value);
    }
    command
}

/// One request over a connection of its own; the whole answer.
fn ask(address: &str, method: &str, path: &str, token: &str, body: &str) -> String {
    ask_with(address, method, path, token, "", body)
}

/// The same with more header lines.
fn ask_with(address: &str, method: &str, path: &str, token: &str, headers: &str, body: &str) -> String {
    let mut connection = TcpStream::connect(address).expect("a connection");
    connection.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The address in the first line that the service prints, once it does.
fn address(printed: &Path) -> String {
    let began = Instant::now();
    loop {
        let text = std::fs::read_to_string(printed).unwrap_or_default();
        if let Some((address, _)) = text.split_once("http://").and_then(|(_, rest)| rest.split_once('/')) {
            return address.to_owned();
        }
        assert!(began.elapsed() < Duration::from_secs(30), "it does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Has credentials made, used, refused and replaced, and adds every answer but those that show one to `shown`. What is secret of them.
fn made_here(address: &str, token: &str, shown: &mut Vec<String>) -> Vec<String> {
    let member = |answer: &str, name: &str| {
        let (_, after) = answer.split_once(&format!("\"{name}\":\"")).expect(answer);
        after.split('"').next().expect("a text").to_owned()
    };
    let once = "Idempotency-Key: once\r\n";
    let body = r#"{"scopes": ["admin"], "name": "planted"}"#;
    let made = ask_with(address, "POST", "/v1/admin/api-keys", token, once, body);
    let (id, first) = (member(&made, "key_id"), member(&made, "secret"));
    let key = format!("/v1/admin/api-keys/{id}");
    let rotated = ask_with(address, "POST", &format!("{key}/rotate"), token, once, r#"{"overlap_seconds": 60}"#);
    let second = member(&rotated, "secret");
    let used = ask(address, "PUT", "/v1/admin/workspaces/ws", &second, "{}");
    assert!(used.starts_with("HTTP/1.1 201"), "{used}");
    let portal = member(
        &ask(address, "POST", "/v1/admin/portal-tokens", &second, r#"{"workspace_id": "ws"}"#),
        "token",
    );
    let wrong = format!("{}A", &second[..second.len() - 1]);
    shown.extend([
        used,
        ask_with(address, "POST", "/v1/admin/api-keys", token, once, body),
        ask(address, "GET", "/v1/admin/api-keys", &first, ""),
        ask(address, "GET", &key, &second, ""),
        ask(address, "GET", "/v1/workspaces/ws/usage", &portal, ""),
        ask(address, "GET", "/v1/admin/plans", &portal, ""),
        ask(address, "GET", "/v1/admin/plans", &wrong, ""),
        ask(address, "GET", &format!("/v1/admin/api-keys/{first}"), token, ""),
        ask(address, "DELETE", &key, &second, ""),
        ask(address, "GET", "/v1/admin/plans", &second, ""),
        ask(address, "GET", "/metrics", token, ""),
    ]);
    assert!(
        shown
            .iter()
            .any(|text| text.contains("Idempotency-Replayed") || text.contains("idempotency-replayed")),
        "{shown:?}"
    );
    // The chance of a key, without its id, which is no secret.
    let chance = |key: &String| key[key.len() - 43..].to_owned();
    vec![
        chance(&first),
        chance(&second),
        portal.rsplit_once('.').expect("a token").1.to_owned(),
    ]
}

#[test]
fn planted_secrets_show_nowhere() {
    let data = tempfile::tempdir().expect("a directory");
    let (printed, logged) = (data.path().join("printed"), data.path().join("logged"));
    let into = |path: &Path| Stdio::from(std::fs::File::create(path).expect("a file"));
    let mut service = weir(data.path())
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdout(into(&printed))
        .stderr(into(&logged))
        .spawn()
        .expect("it starts");
    let address = address(&printed);

    let output = weir(data.path()).args(["token", "--scope", "admin"]).output().expect("a token");
    let token = String::from_utf8(output.stdout).expect("text").trim().to_owned();
    assert_eq!(token.lines().count(), 1, "the credential stands alone");
    let body = format!(r#"{{"workspace_id": "ws", "feature": "f", "model": "{MARK} {MARK}", "api_key": "{MARK}"}}"#);
    let mut shown = vec![
        ask(&address, "GET", "/v1/admin/plans", &token, ""),
        ask(&address, "GET", "/v1/admin/plans", MARK, ""),
        ask(
            &address,
            "GET",
            "/v1/admin/plans",
            &format!("eyJhbGciOiJIUzI1NiJ9.{MARK}.{MARK}"),
            "",
        ),
        ask(&address, "POST", "/v1/authorize", &token, &body),
        ask(&address, "GET", "/v1/nowhere", MARK, ""),
        ask(&address, "GET", "/metrics", MARK, ""),
        ask(&address, "GET", "/openapi.json", MARK, ""),
    ];
    assert!(
        shown[0].starts_with("HTTP/1.1 200") && shown[1].starts_with("HTTP/1.1 401"),
        "{shown:?}"
    );
    let secrets = made_here(&address, &token, &mut shown);
    service.kill().expect("it is stopped");
    service.wait().expect("it ends");

    let listed = weir(data.path()).arg("config").output().expect("a listing");
    shown.push(String::from_utf8(listed.stdout).expect("text"));
    assert!(shown.last().is_some_and(|text| text.contains("jwt_secret = (hidden)")), "{shown:?}");
    shown.push(String::from_utf8(listed.stderr).expect("text"));
    let logs = std::fs::read_to_string(logged).expect("logs");
    assert!(
        logs.contains("TRACE") && logs.contains("listening"),
        "the logs are not the talkative ones"
    );
    let (_, signature) = token.rsplit_once('.').expect("a token");
    assert!(!logs.contains(signature), "a credential stands in the logs");
    shown.extend([logs, std::fs::read_to_string(printed).expect("what it printed")]);
    for secret in &secrets {
        for text in &shown {
            assert!(!text.contains(secret), "a secret that was made here is shown again");
        }
        for file in ["weir.db", "weir.db-wal"] {
            let bytes = std::fs::read(data.path().join("weir-data").join(file)).unwrap_or_default();
            let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_there, "a secret that was made here is kept in {file}");
        }
    }
    assert!(
        std::fs::metadata(data.path().join("weir-data/weir.db")).is_ok_and(|file| file.len() > 0),
        "the ledger is in that file"
    );
    for text in shown {
        let at = text
            .find(MARK)
            .map(|at| text[at.saturating_sub(300)..].chars().take(400).collect::<String>());
        assert_eq!(at, None, "a secret is shown");
    }
}
