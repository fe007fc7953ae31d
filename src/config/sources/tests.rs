//! Which source wins, what is told when a value is wrong, and that no secret is ever told.

use super::*;
use crate::config::{BillingProvider, LogFormat};
use std::os::unix::ffi::OsStringExt;

const KEY: &str = "planted-key-of-more-than-32-bytes";

fn variables(given: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    given
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)))
        .collect()
}

fn load(given: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    Loaded::load(Given {
        variables: variables(given),
        ..Given::default()
    })
}

/// A file of settings, with the directory that keeps it.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("weir.toml");
    fs::write(&path, text).expect("written");
    (dir, path)
}

fn load_file(text: &str) -> Result<Loaded, ConfigError> {
    let (_dir, path) = file(text);
    Loaded::load(Given {
        file: Some(path),
        ..Given::default()
    })
}

#[test]
fn without_anything_the_embedded_profile_starts() {
    let loaded = load(&[("HOME", "/root"), ("WEIRD", "x")]).expect("defaults are good");
    loaded.check().expect("and go together");
    let settings = &loaded.settings;
    assert_eq!(settings.listen.as_str(), "127.0.0.1:8080");
    assert_eq!(
        (settings.data_dir.as_path(), settings.policies.as_path()),
        (Path::new("./weir-data"), Path::new("./policies"))
    );
    assert_eq!((settings.jwt_issuer.as_str(), settings.jwt_audience.as_str()), ("weir", "weir"));
    assert_eq!(
        (settings.billing_provider, settings.log_format),
        (BillingProvider::None, LogFormat::Text)
    );
    assert_eq!(
        (settings.billing_window_seconds.get(), settings.embeddings_timeout_ms.get()),
        (3_600, 50)
    );
    assert_eq!(settings.webhook_retry_schedule.as_slice().len(), 10);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.origin("listen"), &Origin::Default);
}

#[test]
fn flags_beat_variables_beat_the_file_beat_defaults() {
    let (_dir, path) = file("listen = \"1.1.1.1:1\"\ndata_dir = \"file\"\npolicies = \"file\"\nbilling_window_seconds = 7\n");
    let given = Given {
        flags: vec![("listen", "3.3.3.3:3".to_owned())],
        variables: variables(&[("WEIR_LISTEN", "2.2.2.2:2"), ("WEIR_DATA_DIR", "variable"), ("WEIR_POLICIES", "")]),
        file: Some(path.clone()),
    };
    let loaded = Loaded::load(given).expect("all good");
    for (name, shown, origin) in [
        ("listen", "\"3.3.3.3:3\"", Origin::Flag("listen")),
        ("data_dir", "\"variable\"", Origin::Variable("WEIR_DATA_DIR".to_owned())),
        // A variable that is set to nothing says nothing.
        ("policies", "\"file\"", Origin::File(path.clone())),
        ("billing_window_seconds", "7", Origin::File(path)),
        ("policy_poll_seconds", "1", Origin::Default),
    ] {
        let found = loaded
            .settings
            .shown()
            .into_iter()
            .find(|(setting, _)| *setting == name)
            .expect("a setting")
            .1;
        assert_eq!((found.as_deref(), loaded.origin(name)), (Some(shown), &origin), "{name}");
    }
}

#[test]
fn what_is_wrong_is_told_with_setting_source_and_what_is_expected() {
    for (given, parts) in [
        (&[("WEIR_LISTEN", "nonsense")][..], &["listen (from WEIR_LISTEN)", "HOST:PORT"][..]),
        (
            &[("WEIR_JWT_SECRET", "planted")],
            &["jwt_secret (from WEIR_JWT_SECRET)", "at least 32 bytes, and has 7"],
        ),
        (&[("WEIR_LOG_FORMAT", "jsn")], &["log_format", "text, json", "did you mean json?"]),
        (
            &[("WEIR_BILLING_WINDOW_SECONDS", "1h")],
            &["billing_window_seconds", "whole number from 1 to 86400"],
        ),
        (&[("WEIR_DATABASE_URL", "mysql://planted@x")], &["database_url", "postgres://"]),
        (
            &[("WEIR_WEBHOOK_ALLOW_CIDRS", "10.0.0.0/8,x")],
            &["webhook_allow_cidrs", "10.0.0.0/8 or fd00::/8"],
        ),
        (
            &[("WEIR_JWT_SECRET", KEY), ("WEIR_JWT_SECRET_FILE", "/x")],
            &["jwt_secret is given twice", "WEIR_JWT_SECRET_FILE"],
        ),
        (
            &[("WEIR_JWT_SECRET_FILE", "/nonexistent")],
            &["jwt_secret (from /nonexistent, named by WEIR_JWT_SECRET_FILE)", "cannot be read"],
        ),
        (
            &[("WEIR_LISTEN", "x"), ("WEIR_LOG", "a=b=c")],
            &["listen (from WEIR_LISTEN)", "\nlog (from WEIR_LOG)"],
        ),
    ] {
        let told = load(given).expect_err("refused").to_string();
        for part in parts {
            assert!(told.contains(part), "{given:?}: {told}");
        }
        assert!(!told.contains("planted"), "{told}");
    }
    let bad = vec![(OsString::from("WEIR_LISTEN"), OsString::from_vec(vec![0xff]))];
    let told = Loaded::load(Given {
        variables: bad,
        ..Given::default()
    })
    .expect_err("refused")
    .to_string();
    assert!(told.contains("WEIR_LISTEN is not UTF-8"), "{told}");
}

#[test]
fn an_unknown_key_of_the_file_is_an_error_and_an_unknown_variable_a_warning() {
    for (text, parts) in [
        (
            "lisen = \"x:1\"",
            &["weir.toml: lisen is not a setting", "did you mean listen?"][..],
        ),
        ("Listen = \"x:1\"", &["did you mean listen?"]),
        ("zzz = 1", &["zzz is not a setting", "weir config"]),
        ("listen_file = \"x\"", &["listen_file is not a setting"]),
        ("[listen]\nhost = 1", &["listen (from", "must be a text, a number or a list"]),
        ("listen = ", &["it is not TOML"]),
        ("listen = \"a:1\"\nlisten = \"b:2\"", &["it is not TOML"]),
        ("jwt_secret = 12345", &["jwt_secret (from", "at least 32 bytes"]),
    ] {
        let told = load_file(text).expect_err(text).to_string();
        for part in parts {
            assert!(told.contains(part), "{text}: {told}");
        }
        assert!(!told.contains("12345"), "{told}");
    }
    let loaded = load(&[("WEIR_LISTNE", "x"), ("WEIR_ZZZ", "x"), ("WEIR_listen", "x")]).expect("warnings only");
    assert_eq!(loaded.warnings.len(), 3, "{:?}", loaded.warnings);
    assert!(
        loaded.warnings[0].contains("WEIR_LISTNE is not a setting; did you mean WEIR_LISTEN?"),
        "{:?}",
        loaded.warnings
    );
    let missing = Loaded::load(Given {
        file: Some("/nonexistent.toml".into()),
        ..Given::default()
    })
    .expect_err("no file")
    .to_string();
    assert!(missing.contains("/nonexistent.toml"), "{missing}");
}

#[test]
fn lists_and_numbers_of_the_file_are_read_as_such() {
    let loaded = load_file("webhook_retry_schedule = [0, 60]\nwebhook_allow_cidrs = [\"10.0.0.0/8\"]\nbilling_seal_after_seconds = 5")
        .expect("good");
    assert_eq!(
        loaded
            .settings
            .webhook_retry_schedule
            .as_slice()
            .iter()
            .map(|n| n.get())
            .collect::<Vec<_>>(),
        [0, 60]
    );
    assert_eq!(loaded.settings.webhook_allow_cidrs.as_slice().len(), 1);
    for text in [
        "billing_seal_after_seconds = 5.5",
        "billing_seal_after_seconds = true",
        "billing_seal_after_seconds = [1, 2]",
    ] {
        assert!(load_file(text).is_err(), "{text}");
    }
}

#[test]
fn a_secret_may_come_from_a_file_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("secret");
    for (content, good) in [
        (format!("{KEY}\n"), true),
        (format!("{KEY}\r\n"), true),
        (KEY.to_owned(), true),
        ("\n".to_owned(), false),
        ("short".to_owned(), false),
    ] {
        fs::write(&path, &content).expect("written");
        let loaded = load(&[("WEIR_JWT_SECRET_FILE", path.to_str().expect("text"))]);
        assert_eq!(loaded.is_ok(), good, "{content:?}");
        if let Ok(loaded) = loaded {
            assert_eq!(
                loaded.settings.jwt_secret.as_ref().map(|secret| secret.expose().as_str()),
                Some(KEY)
            );
            assert!(loaded.origin("jwt_secret").to_string().contains("WEIR_JWT_SECRET_FILE"));
        }
    }
    // A stronger source wins, whether it names the secret or its file.
    fs::write(&path, KEY).expect("written");
    let (_dir, config) = file(&format!("jwt_secret_file = {:?}", path.to_str().expect("text")));
    let other = "another-key-of-more-than-32-bytes";
    let given = Given {
        variables: variables(&[("WEIR_JWT_SECRET", other)]),
        file: Some(config),
        ..Given::default()
    };
    let loaded = Loaded::load(given).expect("good");
    assert_eq!(loaded.settings.jwt_secret.expect("set").expose().as_str(), other);
}

#[test]
fn settings_that_do_not_go_together_stop_the_start_and_say_what_would_help() {
    let production = [
        ("WEIR_DATABASE_URL", "postgres://planted@h/d"),
        ("WEIR_REDIS_URL", "redis://planted@h:1"),
    ];
    let with_secret = [production[0], production[1], ("WEIR_JWT_SECRET", KEY)];
    let whole = load(&with_secret).expect("good");
    whole.check().expect("these go together");
    assert_eq!(whole.settings.production(), Some((production[0].1, production[1].1)));
    for (given, parts) in [
        (&production[..1], &["WEIR_DATABASE_URL and WEIR_REDIS_URL"][..]),
        (&production[1..], &["WEIR_DATABASE_URL and WEIR_REDIS_URL"]),
        (&production[..], &["WEIR_JWT_SECRET"]),
        (
            &[production[0], production[1], ("WEIR_REDIS_CA_FILE", "/ca.pem")][..],
            &["WEIR_REDIS_CA_FILE", "rediss://"],
        ),
        (&[("WEIR_BILLING_PROVIDER", "stripe")][..], &["WEIR_STRIPE_SECRET_KEY"]),
        (&[("WEIR_BILLING_PROVIDER", "cloudevents")][..], &["WEIR_CLOUDEVENTS_URL"]),
        (&[("WEIR_EMBEDDINGS_URL", "http://x")][..], &["WEIR_EMBEDDINGS_MODEL"]),
        (&[("WEIR_JWT_JWKS_URL", "http://x/keys")][..], &["https", "WEIR_JWT_JWKS_URL"]),
        (&[("WEIR_WEBHOOK_RETRY_SCHEDULE", ",")][..], &["WEIR_WEBHOOK_RETRY_SCHEDULE"]),
    ] {
        let told = load(given)
            .expect("each is good by itself")
            .check()
            .expect_err("refused")
            .to_string();
        for part in parts {
            assert!(told.contains(part), "{given:?}: {told}");
        }
        assert!(!told.contains("planted"), "{told}");
    }
}

#[test]
fn the_listing_is_toml_hides_secrets_and_tells_every_origin() {
    let loaded = load(&[
        ("WEIR_JWT_SECRET", KEY),
        ("WEIR_STRIPE_SECRET_KEY", "sk_planted"),
        ("WEIR_EMBEDDINGS_API_KEY", "planted"),
        ("WEIR_LISTEN", "[::1]:9"),
    ])
    .expect("good");
    let shown = loaded.to_toml();
    assert!(shown.contains("listen = \"[::1]:9\"") && shown.contains("# WEIR_LISTEN"), "{shown}");
    assert!(
        shown.contains("# jwt_secret = (hidden)") && shown.contains("# WEIR_JWT_SECRET"),
        "{shown}"
    );
    assert!(shown.contains("# database_url is not set"), "{shown}");
    assert_eq!(shown.lines().count(), TABLE.len());
    for text in [shown.clone(), format!("{loaded:?}")] {
        assert!(!text.contains("planted"), "{text}");
    }
    // What is shown can be used as a file again, and gives the same.
    let again = load_file(&shown).expect("it is a file of settings");
    let plain = |loaded: &Loaded| {
        loaded
            .settings
            .shown()
            .into_iter()
            .filter(|(_, value)| value.as_deref() != Some(PLACEHOLDER))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        plain(&again).iter().filter(|(_, value)| value.is_some()).count(),
        plain(&loaded).iter().filter(|(_, value)| value.is_some()).count()
    );
}
