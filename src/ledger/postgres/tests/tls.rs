//! A server that speaks TLS with a certificate of a private authority: `sslmode=verify-full` takes it where that is named, and refuses it
//! with a word on what to do everywhere else.

use super::*;
use crate::counters::certificates::{self, Certificates};
use crate::ledger::contract::book::settle;

/// Waits until the server has read its configuration again and says what it was told.
async fn set_ssl(url: &str, on: &str) {
    let mut stranger = stranger(url).await;
    execute(&mut stranger, &format!("ALTER SYSTEM SET ssl = '{on}'"))
        .await
        .expect("set");
    execute(&mut stranger, "SELECT pg_reload_conf()").await.expect("read again");
    // A new connection is served by what was read.
    until("it has read it", async || {
        let mut fresh = super::stranger(url).await;
        sqlx::query_scalar::<_, String>("SHOW ssl")
            .fetch_one(&mut fresh)
            .await
            .expect("shown")
            == on
    })
    .await;
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_it_is_named_and_nowhere_else() {
    if !certificates::can_be_made() {
        return;
    }
    let Some(server) = TestServer::start() else { return };
    let url = new_schema(&server).await;
    let full = |host: &str, authority: Option<&std::path::Path>| {
        let url = url.replace("127.0.0.1", host);
        let root = authority.map_or_else(String::new, |file| format!("&sslrootcert={}", file.display()));
        format!("{url}&sslmode=verify-full{root}")
    };
    let (ours, other) = (Certificates::for_host("localhost"), Certificates::for_host("localhost"));
    let refused = async |url: String| told(&PostgresLedger::open(&url).await.err().expect("refused"));
    let without = refused(full("localhost", Some(&ours.authority()))).await;
    assert!(without.contains("speaks no TLS") && without.contains("ssl = on"), "{without}");

    ours.put_into(&server.data());
    set_ssl(&url, "on").await;
    let ledger = open(&full("localhost", Some(&ours.authority()))).await;
    assert!(matches!(ledger.post(settle("r").post()).await, Ok(Posted::Done { .. })));
    let mut stranger = stranger(&url).await;
    let sealed = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'weir'";
    let sealed: i64 = sqlx::query_scalar(sealed).fetch_one(&mut stranger).await.expect("counted");
    assert!(sealed > 0, "its connections are encrypted");
    for (url, part) in [
        (full("localhost", None), "sslrootcert"),
        (full("localhost", Some(&other.authority())), "sslrootcert"),
        (full("127.0.0.1", Some(&ours.authority())), "another host"),
    ] {
        let told = refused(url).await;
        assert!(told.contains(part), "{told}");
    }
    ledger.close().await;
}
