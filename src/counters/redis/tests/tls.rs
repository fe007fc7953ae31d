//! A server that speaks TLS with a certificate of a private authority: trusted where that is named, and refused with a word on what to do
//! everywhere else. Never is anything said to a server that was not recognised.

use super::shared::settings;
use crate::counters::certificates::{self, Certificates};
use crate::counters::contract::desk::{Desk, daily};
use crate::counters::redis::{RedisCounters, RedisSettings};
use crate::counters::redis_server::{Server, is_there};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a server may take that is reached.
const PATIENT: Duration = Duration::from_secs(10);

async fn connected(url: &str, authority: Option<&Path>, patience: Duration) -> Result<RedisCounters, String> {
    let settings = RedisSettings {
        connect_timeout: patience,
        ..settings(url).trusting(authority)
    };
    RedisCounters::connect(settings).await.map_err(|error| error.cause.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_is_trusted_where_it_is_named_and_nowhere_else() {
    if !is_there() || !certificates::can_be_made() {
        return;
    }
    let server = Server::start();
    let (ours, other) = (Certificates::for_host("localhost"), Certificates::for_host("localhost"));
    let (certificate, key) = ours.put_into(server.folder());
    let port = server.speak_tls((&certificate, &key));
    let (url, authority) = (format!("rediss://localhost:{port}"), ours.authority());

    let store = connected(&url, Some(&authority), PATIENT).await.expect("it is trusted");
    let day = daily();
    let desk = Desk::open(Arc::new(store), &[&day]).await;
    desk.held("a", 60, &[(&day, 100)]).await;
    assert_eq!(desk.balance(&day).await, (0, 60));

    let no_file = Path::new("/nowhere/ca.pem");
    let key_for_file = server.folder().join("server.key");
    for (url, authority, parts) in [
        (&url, None, &["WEIR_REDIS_CA_FILE", "public authorities"][..]),
        (&url, Some(&*other.authority()), &["WEIR_REDIS_CA_FILE", "nobody in", "ca.pem"]),
        (
            &format!("rediss://127.0.0.1:{port}"),
            Some(&*authority),
            &["another host", "WEIR_REDIS_URL"],
        ),
        (&url, Some(no_file), &["WEIR_REDIS_CA_FILE", "/nowhere/ca.pem"]),
        (&url, Some(&*key_for_file), &["PEM", "there is none in it"]),
    ] {
        let told = connected(url, authority, PATIENT).await.err().expect("refused");
        for part in parts {
            assert!(told.contains(part), "{url} with {authority:?}: {told}");
        }
    }
    let plain = format!("rediss://localhost:{}", server.port);
    let told = connected(&plain, Some(&authority), Duration::from_millis(300))
        .await
        .err()
        .expect("refused");
    assert!(told.contains("no TLS at that port"), "{told}");
}

/// A cluster's nodes name each other by address, so that is what its certificates are for.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_a_private_authority_is_trusted_where_that_is_named() {
    if !is_there() || !certificates::can_be_made() {
        return;
    }
    let bus = crate::counters::redis_server::free_port().to_string();
    let server = Server::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "5000"]);
    let ours = Certificates::for_address("127.0.0.1");
    let (certificate, key) = ours.put_into(server.folder());
    let port = server.speak_tls((&certificate, &key));
    let port_text = port.to_string();
    for set in [
        &["tls-cluster", "yes"][..],
        &["cluster-announce-tls-port", &port_text, "cluster-announce-ip", "127.0.0.1"],
    ] {
        assert_eq!(server.cli(&[&["CONFIG", "SET"], set].concat()), "OK");
    }
    server.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    crate::counters::redis_server::until("it is whole", || server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));

    let url = format!("rediss+cluster://127.0.0.1:{port}");
    let store = connected(&url, Some(&ours.authority()), PATIENT).await.expect("it is trusted");
    let day = daily();
    let desk = Desk::open(Arc::new(store), &[&day]).await;
    desk.held("a", 60, &[(&day, 100)]).await;
    assert_eq!(desk.balance(&day).await, (0, 60));
    let told = connected(&url, None, PATIENT).await.err().expect("refused");
    assert!(told.contains("WEIR_REDIS_CA_FILE"), "{told}");
}
