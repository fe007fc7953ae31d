//! The kinds of values that settings have: how each is read from text, what it expects, and how it is shown.

use super::secret::{PLACEHOLDER, Secret};
use crate::decision::nearest::nearest;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use tracing_subscriber::EnvFilter;

/// A kind of value. Every source gives text: a variable and a flag by nature, a file by being written out again.
pub(super) trait Setting: Sized {
    const IS_SECRET: bool = false;

    /// `Err` goes on from "must be", or tells otherwise what is expected; it never quotes the text, which may be a secret.
    fn read(text: &str) -> Result<Self, String>;

    /// The value of a setting that nobody gave; `None`: one is required.
    fn absent() -> Option<Self> {
        None
    }

    /// The value as TOML; `None`: it is not set.
    fn show(&self) -> Option<String>;
}

impl<T: Setting> Setting for Option<T> {
    const IS_SECRET: bool = T::IS_SECRET;

    fn read(text: &str) -> Result<Self, String> {
        T::read(text).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(T::show)
    }
}

impl<T: Setting> Setting for Secret<T> {
    const IS_SECRET: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        T::read(text).map(Secret::new)
    }

    fn show(&self) -> Option<String> {
        Some(PLACEHOLDER.to_owned())
    }
}

impl Setting for PathBuf {
    fn read(text: &str) -> Result<Self, String> {
        Ok(PathBuf::from(text))
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string_lossy()))
    }
}

/// TOML's basic string, whose escapes are those of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident $check:path;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Setting for $name {
            fn read(text: &str) -> Result<Self, String> {
                $check(text).map(|()| Self(text.to_owned()))
            }

            fn show(&self) -> Option<String> {
                Some(quoted(&self.0))
            }
        }
    )* };
}

texts! {
    /// An address to listen on.
    Listen check_listen;
    /// A name, or another text of one line.
    Text check_text;
    /// The address of another service.
    Url check_url;
    /// Which events are logged.
    LogFilter check_filter;
    /// The key of HS256 and of other hashes.
    SigningKey check_signing_key;
    /// Where Postgres is.
    DatabaseUrl check_database_url;
    /// Where Redis is: one server, or the nodes of a cluster.
    RedisUrl check_redis_url;
}

impl RedisUrl {
    pub fn is_tls(&self) -> bool {
        self.0.starts_with("rediss")
    }
}

impl Url {
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// Whether its host is this machine, by name or by address.
    pub fn is_loopback(&self) -> bool {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let place = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        let host = match place.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => place.split(':').next().unwrap_or_default(),
        };
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl SigningKey {
    /// A key that was made here, and is long enough.
    pub(super) fn made(text: String) -> Result<Self, String> {
        check_signing_key(&text).map(|()| Self(text))
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Shorter secrets can be guessed (RFC 7518, 3.2).
pub(super) const SIGNING_KEY_BYTES_MIN: usize = 32;

fn check_signing_key(text: &str) -> Result<(), String> {
    match text.len() {
        SIGNING_KEY_BYTES_MIN.. => Ok(()),
        short => Err(format!(
            "must have at least {SIGNING_KEY_BYTES_MIN} bytes, and has {short} (openssl rand -base64 48 makes a good one)"
        )),
    }
}

fn check_listen(text: &str) -> Result<(), String> {
    let parts = text.rsplit_once(':');
    let well_formed = parts.is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        !host.is_empty() && (bracketed || !host.contains(':')) && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok()
    });
    if well_formed {
        Ok(())
    } else {
        Err("must be HOST:PORT, for example 127.0.0.1:8080; port 0 takes any free one".to_owned())
    }
}

fn check_text(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        Err("must be one line of printable text".to_owned())
    } else {
        Ok(())
    }
}

fn check_url(text: &str) -> Result<(), String> {
    let expected = || "must be a URL such as https://example.com/path, without a user or password in it".to_owned();
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .ok_or_else(expected)?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let good = !host.is_empty() && !host.contains('@') && text.bytes().all(|b| b.is_ascii_graphic());
    if good { Ok(()) } else { Err(expected()) }
}

fn check_database_url(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    match rest {
        Some(rest) if !rest.is_empty() => Ok(()),
        _ => Err("must be postgres://USER:PASSWORD@HOST:PORT/DATABASE".to_owned()),
    }
}

fn check_redis_url(text: &str) -> Result<(), String> {
    let single = text.strip_prefix("redis://").or_else(|| text.strip_prefix("rediss://"));
    let cluster = text
        .strip_prefix("redis+cluster://")
        .or_else(|| text.strip_prefix("rediss+cluster://"));
    let cluster = cluster.map(|rest| {
        let nodes = rest.rsplit_once('@').map_or(rest, |(_, nodes)| nodes).trim_end_matches('/');
        nodes.split(',').all(|node| check_listen(node).is_ok())
    });
    if single.is_some_and(|rest| !rest.is_empty()) || cluster == Some(true) {
        return Ok(());
    }
    Err("must be redis://HOST:PORT, or redis+cluster://HOST:PORT,HOST:PORT for a cluster; rediss for TLS".to_owned())
}

fn check_filter(text: &str) -> Result<(), String> {
    let expected = |_| "must be a level (error, warn, info, debug, trace), or such as info,weir=debug".to_owned();
    EnvFilter::try_new(text).map(drop).map_err(expected)
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Whole<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Whole<MIN, MAX> {
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl<const MIN: u64, const MAX: u64> Setting for Whole<MIN, MAX> {
    fn read(text: &str) -> Result<Self, String> {
        let read = text.parse().ok().filter(|n| (MIN..=MAX).contains(n));
        read.map(Self).ok_or_else(|| format!("must be a whole number from {MIN} to {MAX}"))
    }

    fn show(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($choice:ident $text:literal),* })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name { $($choice),* }

        impl $name {
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$choice => $text),* }
            }
        }

        impl Setting for $name {
            fn read(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$choice),)*
                    other => {
                        let all = [$($text),*];
                        let hint = nearest(other, all).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
                        Err(format!("must be one of {}{hint}", all.join(", ")))
                    }
                }
            }

            fn show(&self) -> Option<String> {
                Some(quoted(self.as_str()))
            }
        }
    )* };
}

choices! {
    /// How logs are written.
    LogFormat { Text "text", Json "json" }
    /// Who is told what to bill.
    BillingProvider { None "none", Stripe "stripe", Cloudevents "cloudevents" }
}

/// Values between commas.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct List<T>(Vec<T>);

impl<T> List<T> {
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }
}

/// The most items of a list.
const ITEMS_MAX: usize = 64;

impl<T: Setting> Setting for List<T> {
    fn read(text: &str) -> Result<Self, String> {
        let items: Vec<&str> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
        if items.len() > ITEMS_MAX {
            return Err(format!("must have at most {ITEMS_MAX} items"));
        }
        let item = |item: &&str| T::read(item).map_err(|why| format!("is a list between commas, each of which {why}"));
        items.iter().map(item).collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> Option<String> {
        Some(format!("[{}]", self.0.iter().filter_map(T::show).collect::<Vec<_>>().join(", ")))
    }
}

/// A range of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix_bits: u8,
}

impl Setting for Cidr {
    fn read(text: &str) -> Result<Self, String> {
        let read = || {
            let (address, bits) = text.split_once('/')?;
            let (address, prefix_bits) = (address.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?);
            let bits_max = if address.is_ipv4() { 32 } else { 128 };
            (prefix_bits <= bits_max).then_some(Self { address, prefix_bits })
        };
        read().ok_or_else(|| "must be a range such as 10.0.0.0/8 or fd00::/8".to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&format!("{}/{}", self.address, self.prefix_bits)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Setting>(good: &[(&str, &str)], bad: &[&str]) {
        for (text, shown) in good {
            assert_eq!(T::read(text).expect(text).show().as_deref(), Some(*shown), "{text}");
        }
        for text in bad {
            let why = T::read(text).map(|_| ()).expect_err(text);
            assert!(why.contains("must"), "{text}: {why}");
        }
    }

    #[test]
    fn each_kind_of_value_is_read_strictly_and_shown_as_toml() {
        check::<Listen>(
            &[
                ("127.0.0.1:8080", "\"127.0.0.1:8080\""),
                ("[::1]:0", "\"[::1]:0\""),
                ("weir.internal:80", "\"weir.internal:80\""),
            ],
            &[
                "",
                "nonsense",
                ":8080",
                "127.0.0.1",
                "127.0.0.1:",
                "127.0.0.1:65536",
                "::1:80",
                "a b:1",
                "http://a:1",
            ],
        );
        check::<Whole<1, 100>>(
            &[("1", "1"), ("100", "100")],
            &["", "0", "101", "-1", "1.5", "1e2", " 1", "ten", "99999999999999999999"],
        );
        check::<LogFormat>(&[("text", "\"text\""), ("json", "\"json\"")], &["", "JSON", "xml"]);
        check::<LogFilter>(
            &[("info", "\"info\""), ("info,weir=debug", "\"info,weir=debug\"")],
            &["weir=loud", "a=b=c"],
        );
        check::<Url>(
            &[
                ("https://api.stripe.com", "\"https://api.stripe.com\""),
                ("http://127.0.0.1:9/x?y", "\"http://127.0.0.1:9/x?y\""),
            ],
            &[
                "",
                "api.stripe.com",
                "ftp://x",
                "https://",
                "https:///x",
                "https://user:pw@x/",
                "https://x y/",
                "https://ä/",
            ],
        );
        check::<Cidr>(
            &[("10.0.0.0/8", "\"10.0.0.0/8\""), ("fd00::/8", "\"fd00::/8\"")],
            &["10.0.0.0", "10.0.0.0/33", "fd00::/129", "x/8", "10.0.0/8"],
        );
        check::<List<Whole<0, 9>>>(&[("0,5, 9", "[0, 5, 9]"), ("", "[]")], &["0,x", "0,10"]);
        check::<Secret<SigningKey>>(&[(&"k".repeat(32), "(hidden)")], &["", &"k".repeat(31)]);
        check::<Secret<DatabaseUrl>>(&[("postgres://u:p@h/d", "(hidden)")], &["mysql://h/d", "postgres://", "h"]);
        check::<Secret<RedisUrl>>(
            &[
                ("redis://h:1", "(hidden)"),
                ("redis+cluster://h:1,h:2", "(hidden)"),
                ("rediss+cluster://u:p@h:1,h:2/", "(hidden)"),
            ],
            &["redis://", "redis+cluster://", "redis+cluster://h:1,h", "h:1"],
        );
    }

    #[test]
    fn this_machine_is_told_from_names_that_look_like_it() {
        for (url, expected) in [
            ("http://127.0.0.1:9/keys", true),
            ("http://127.8.8.8", true),
            ("http://[::1]:9/keys", true),
            ("http://LOCALHOST?x", true),
            ("http://localhost.example.com/", false),
            ("http://127.0.0.1.example.com/", false),
            ("http://example.com/127.0.0.1", false),
            ("http://example.com\\127.0.0.1", false),
            ("http://10.0.0.1/", false),
            ("http://[fd00::1]/", false),
        ] {
            assert_eq!(Url::read(url).expect(url).is_loopback(), expected, "{url}");
        }
    }

    #[test]
    fn a_refused_value_is_not_quoted() {
        for why in [
            Secret::<SigningKey>::read("planted").expect_err("short"),
            Secret::<DatabaseUrl>::read("planted").expect_err("no URL"),
            Secret::<RedisUrl>::read("planted").expect_err("no URL"),
            Url::read("https://planted@x").expect_err("a user in it"),
        ] {
            assert!(!why.contains("planted"), "{why}");
        }
    }
}
