//! The server over real connections: what is refused before a handler runs, and what hostile callers cost.

use super::*;
use crate::api::json::{self, OpenObject};
use crate::clock::MovableClock;
use crate::decision::time::Timestamp;
use actix_web::HttpResponse;
use actix_web::web::Payload;
use std::io::{Read, Write};
use std::net::TcpStream as Blocking;

const LIMIT: usize = 1_000;

async fn echo(request: HttpRequest, payload: Payload) -> HttpResponse {
    let read = async {
        let body = json::read_payload(&request, payload, LIMIT).await?;
        json::read::<OpenObject>(&request, &body)
    };
    match read.await {
        Ok(object) => HttpResponse::Ok().json(object),
        Err(problem) => problem.response(&request),
    }
}

/// Runs `talk` against a server, on a thread of its own.
async fn with_server<T: Send + 'static>(talk: impl FnOnce(SocketAddr) -> T + Send + 'static) -> T {
    let patience = Patience {
        head: Duration::from_secs(HEAD_SECONDS_MAX),
        request: Duration::from_secs(REQUEST_SECONDS_MAX),
    };
    with_impatient_server(patience, talk).await
}

async fn with_impatient_server<T: Send + 'static>(patience: Patience, talk: impl FnOnce(SocketAddr) -> T + Send + 'static) -> T {
    let listeners = bind("127.0.0.1:0").expect("a free port");
    let address = listeners[0].local_addr().expect("an address");
    let clock = Arc::new(MovableClock::at(Timestamp::from_micros(1_767_225_600_000_000)));
    let routes = |config: &mut ServiceConfig| {
        config.service(web::resource("/echo").route(web::post().to(echo)));
    };
    let server = start_with(listeners, clock, routes, patience).expect("it starts");
    let handle = server.handle();
    let running = actix_web::rt::spawn(server);
    let said = tokio::task::spawn_blocking(move || talk(address)).await.expect("the talk ends");
    handle.stop(false).await;
    running.await.expect("it ends").expect("without an error");
    said
}

fn connect(address: SocketAddr) -> Blocking {
    let connection = Blocking::connect(address).expect("a connection");
    connection.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    connection
}

/// Everything that is answered until the connection ends.
fn rest(mut connection: Blocking) -> String {
    let mut answer = Vec::new();
    // A connection that is reset has been ended as well.
    let _ = connection.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut connection = connect(address);
    connection.write_all(request.as_bytes()).expect("sent");
    rest(connection)
}

#[actix_web::test]
async fn a_request_is_answered_and_an_unknown_path_is_a_problem_with_a_request_id() {
    with_server(|address| {
        let echoed = ask(
            address,
            "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 7\r\nConnection: close\r\n\r\n{\"a\":1}",
        );
        assert!(echoed.starts_with("HTTP/1.1 200") && echoed.ends_with("{\"a\":1}"), "{echoed}");
        let unknown = ask(
            address,
            "GET /nowhere HTTP/1.1\r\nHost: x\r\nX-Request-Id: abc\r\nConnection: close\r\n\r\n",
        );
        assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
        assert!(
            unknown.contains("x-request-id: abc") && unknown.contains("application/problem+json"),
            "{unknown}"
        );
        assert!(
            unknown.contains("\"instance\":\"abc\"") && unknown.contains("\"code\":\"not_found\""),
            "{unknown}"
        );
    })
    .await;
}

#[actix_web::test]
async fn a_body_that_is_too_long_is_refused_without_reading_it() {
    with_server(|address| {
        // A gigabyte is announced, and never sent.
        let announced = ask(
            address,
            "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n",
        );
        assert!(
            announced.starts_with("HTTP/1.1 413") && announced.contains("body_too_large"),
            "{announced}"
        );

        // Chunks without end: the answer comes all the same, and the server hangs up.
        let mut connection = connect(address);
        let head = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection.write_all(head.as_bytes()).expect("sent");
        let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
        let began = std::time::Instant::now();
        while connection.write_all(chunk.as_bytes()).is_ok() {
            assert!(began.elapsed() < Duration::from_secs(15), "it goes on reading");
        }
    })
    .await;
}

#[actix_web::test]
async fn a_refused_caller_that_goes_on_sending_reads_its_answer() {
    with_server(|address| {
        let mut connection = connect(address);
        let head = "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n";
        connection.write_all(head.as_bytes()).expect("sent");
        let mut beginning = [0; 12];
        connection.read_exact(&mut beginning).expect("an answer, though the body goes on");
        assert_eq!(&beginning, b"HTTP/1.1 404");
        let answer = rest(connection);
        assert!(answer.contains("connection: close") && answer.contains("not_found"), "{answer}");
    })
    .await;
}

#[actix_web::test]
async fn requests_that_proxies_and_services_read_differently_are_refused() {
    with_server(|address| {
        for (headers, body) in [
            ("Content-Length: 7\r\nTransfer-Encoding: chunked\r\n", "7\r\n{\"a\":1}\r\n0\r\n\r\n"),
            ("Content-Length: 7\r\nContent-Length: 8\r\n", "{\"a\":1}"),
            ("Content-Length: +7\r\n", "{\"a\":1}"),
            ("Transfer-Encoding: xchunked\r\n", "7\r\n{\"a\":1}\r\n0\r\n\r\n"),
            ("Content-Length : 7\r\n", "{\"a\":1}"),
            ("Content-Length: 7\r\nContent-Encoding: gzip\r\n", "{\"a\":1}"),
        ] {
            let answer = ask(
                address,
                &format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n{headers}\r\n{body}"),
            );
            assert!(answer.starts_with("HTTP/1.1 4"), "{headers:?}: {answer}");
            assert_eq!(
                answer.matches("HTTP/1.1").count(),
                1,
                "{headers:?} was taken for two requests: {answer}"
            );
        }
    })
    .await;
}

#[actix_web::test]
async fn http_2_is_spoken_on_the_same_port() {
    with_server(|address| {
        let mut connection = connect(address);
        connection
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .expect("sent");
        let mut frame = [0; 9];
        connection.read_exact(&mut frame).expect("a frame");
        // The server's preface is a SETTINGS frame: type 4, on stream 0.
        assert_eq!((frame[3], &frame[5..]), (4, &[0, 0, 0, 0][..]), "{frame:?}");
    })
    .await;
}

#[actix_web::test]
async fn a_connection_that_says_nothing_or_half_a_head_is_closed() {
    // Not shorter: actix reads its clock twice a second, and misses a deadline that is past when it is set.
    let patience = Patience {
        head: Duration::from_secs(1),
        request: Duration::from_secs(REQUEST_SECONDS_MAX),
    };
    with_impatient_server(patience, |address| {
        assert_eq!(rest(connect(address)), "");
        let half = ask(address, "POST /echo HTTP/1.1\r\nHost: ");
        assert!(half.starts_with("HTTP/1.1 408"), "{half}");
    })
    .await;
}

#[actix_web::test]
async fn a_later_request_that_drips_without_end_is_cut_off() {
    let patience = Patience {
        head: Duration::from_secs(HEAD_SECONDS_MAX),
        request: Duration::from_secs(2),
    };
    with_impatient_server(patience, |address| {
        let mut connection = connect(address);
        let request = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
        let mut answer = [0; 1_024];
        for _ in 0..2 {
            // Between requests it may be silent for longer than one of them may take.
            std::thread::sleep(Duration::from_millis(2_500));
            connection.write_all(request.as_bytes()).expect("sent");
            let read = connection.read(&mut answer).expect("an answer");
            assert!(
                answer[..read].starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&answer[..read])
            );
        }
        let began = std::time::Instant::now();
        connection.write_all(b"POST /echo HTTP/1.1\r\nX: ").expect("sent");
        while connection.write_all(b"x").is_ok() {
            assert!(began.elapsed() < Duration::from_secs(10), "it goes on waiting for the head");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(began.elapsed() >= Duration::from_millis(1_900), "{:?}", began.elapsed());
    })
    .await;
}

#[test]
fn a_host_that_cannot_be_opened_is_an_error_that_says_why() {
    let taken = bind("127.0.0.1:0").expect("a free port");
    let address = taken[0].local_addr().expect("an address").to_string();
    assert_eq!(bind(&address).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
    assert!(bind("no such host:1").is_err());
    assert_eq!(bind("localhost:0").expect("a free port").len(), 1);
}
