//! Where the store is and how long it may take, and which servers are refused.

use crate::counters::CLOCK_AHEAD_MILLIS_MAX;
use crate::decision::certificate::Refusal;
use ::redis::{ErrorKind, RedisError, RedisResult, TlsCertificates};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How to reach a store.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// `redis://host:port/db`, `rediss://` for TLS; `redis+cluster://host:port,host:port` or `rediss+cluster://` for a cluster.
    pub url: String,
    /// PEM: who may have signed the server's certificate, instead of the public authorities.
    pub ca_file: Option<PathBuf>,
    /// What all keys begin with. Two services may share a server by it.
    pub prefix: String,
    /// How many connections there are for each node. Best is one for each worker thread and one for upkeep: a connection is driven by the
    /// thread that opened it, and an answer that has to wake another thread costs more than the question.
    pub connections: usize,
    /// After this, what was asked is unknown. The store refuses commands that reach it later than that.
    pub response_timeout: Duration,
    pub connect_timeout: Duration,
    /// How far this process's clock may be ahead of the store's before the store's counts; `None`: any distance, for clocks that tests move.
    pub ahead_max: Option<Duration>,
}

/// Of what is kept below the prefix. Another layout has keys of its own, so what an earlier one left is rebuilt from the ledger, not misread.
const LAYOUT: u32 = 2;

impl RedisSettings {
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ca_file: None,
            prefix: format!("weir:{LAYOUT}:"),
            connections: std::thread::available_parallelism().map_or(2, usize::from) + 1,
            response_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_millis(1_000),
            ahead_max: None,
        }
    }

    /// For a process whose clock is the machine's.
    pub fn bounded(mut self) -> Self {
        self.ahead_max = Some(Duration::from_millis(CLOCK_AHEAD_MILLIS_MAX));
        self
    }

    /// Trusts the authorities of this file, if there is one, and no others.
    pub fn trusting(mut self, ca_file: Option<&Path>) -> Self {
        self.ca_file = ca_file.map(Path::to_owned);
        self
    }

    /// The certificates of the file.
    pub(super) fn authorities(&self) -> RedisResult<Option<TlsCertificates>> {
        let Some(file) = &self.ca_file else { return Ok(None) };
        let told = |why: &str| {
            let what = "the file of WEIR_REDIS_CA_FILE must hold certificates in PEM";
            RedisError::from((ErrorKind::InvalidClientConfig, what, format!("{}: {why}", file.display())))
        };
        let read = std::fs::read(file).map_err(|error| told(&error.to_string()))?;
        if !read.windows(PEM_MARK.len()).any(|some| some == PEM_MARK) {
            return Err(told("there is none in it"));
        }
        Ok(Some(TlsCertificates {
            client_tls: None,
            root_cert: Some(read),
        }))
    }

    /// A failure to connect, with what to do about it where that is known.
    pub(super) fn explain(&self, error: RedisError) -> Box<dyn Error + Send + Sync> {
        let trusted = match &self.ca_file {
            Some(file) => format!("nobody in {}", file.display()),
            None => "none of the public authorities".to_owned(),
        };
        let what = match Refusal::read(&error.to_string()) {
            Some(Refusal::Stranger) => {
                format!("{trusted} has signed the certificate of Redis: name the certificate of who did, in PEM, in WEIR_REDIS_CA_FILE")
            }
            Some(Refusal::OtherName) => {
                "the certificate of Redis is for another host: name it in WEIR_REDIS_URL as its certificate does".to_owned()
            }
            Some(Refusal::OtherTime) => "the certificate of Redis has expired or is not valid yet: renew it, or set the clock".to_owned(),
            Some(Refusal::NoTls) => {
                "Redis speaks no TLS at that port: name the one where it does, or begin WEIR_REDIS_URL with redis".to_owned()
            }
            // Redis takes the first words of TLS for a command that is not complete yet, and waits for the rest.
            None if self.url.starts_with("rediss") && error.is_timeout() => {
                "Redis did not answer in time: it may speak no TLS at that port, or not be reachable from here".to_owned()
            }
            None => return error.into(),
        };
        Unfit::Distrusted { what, cause: error }.into()
    }
}

const PEM_MARK: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Where a URL leads.
#[derive(PartialEq, Debug)]
pub(super) enum Place {
    Server(String),
    Cluster(Vec<String>),
}

fn wrong(message: &'static str) -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, message))
}

impl RedisSettings {
    pub(super) fn place(&self) -> RedisResult<Place> {
        if self.prefix.contains(['{', '}']) {
            return Err(wrong("the prefix of keys must not contain braces, by which a cluster divides keys"));
        }
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return Err(wrong(
                "the URL of Redis must begin with redis://, rediss://, redis+cluster:// or rediss+cluster://",
            ));
        };
        match scheme {
            "redis" | "rediss" => Ok(Place::Server(self.url.clone())),
            "redis+cluster" | "rediss+cluster" => {
                let scheme = scheme.trim_end_matches("+cluster");
                let (user, hosts) = match rest.rsplit_once('@') {
                    Some((user, hosts)) => (format!("{user}@"), hosts),
                    None => (String::new(), rest),
                };
                let hosts = hosts.trim_end_matches('/').split(',').filter(|host| !host.is_empty());
                let urls: Vec<String> = hosts.map(|host| format!("{scheme}://{user}{host}")).collect();
                if urls.is_empty() {
                    return Err(wrong("the URL of a Redis cluster must name at least one host:port"));
                }
                Ok(Place::Cluster(urls))
            }
            _ => Err(wrong(
                "the URL of Redis must begin with redis://, rediss://, redis+cluster:// or rediss+cluster://",
            )),
        }
    }
}

/// Why a server cannot be used.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Unfit {
    #[error("Redis has maxmemory-policy {0}, under which counters vanish while they count; set it to noeviction")]
    Evicts(String),
    #[error("this is Redis {0}, whose scripts cannot be refused as a whole when memory runs out; Redis 7.0 or later is needed")]
    TooOld(String),
    #[error("INFO does not tell {0}; the user that Weir connects with must be allowed to read it")]
    Silent(&'static str),
    #[error("{what}")]
    Distrusted {
        what: String,
        #[source]
        cause: RedisError,
    },
}

/// Whether a server whose `INFO` is this may keep counters.
pub(super) fn check(info: &str) -> Result<(), Unfit> {
    let value = |name: &'static str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).ok_or(Unfit::Silent(name))
    };
    let version = value("redis_version")?;
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < 7) {
        return Err(Unfit::TooOld(version.to_owned()));
    }
    match value("maxmemory_policy")? {
        "noeviction" => Ok(()),
        policy => Err(Unfit::Evicts(policy.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_to_a_server_or_to_a_cluster() {
        let place = |url: &str| RedisSettings::new(url).place().ok();
        let cluster = |urls: &[&str]| Some(Place::Cluster(urls.iter().map(|url| (*url).to_owned()).collect()));
        assert_eq!(place("redis://h:1/2"), Some(Place::Server("redis://h:1/2".to_owned())));
        assert_eq!(place("rediss://h"), Some(Place::Server("rediss://h".to_owned())));
        assert_eq!(place("redis+cluster://h:1,i:2"), cluster(&["redis://h:1", "redis://i:2"]));
        assert_eq!(
            place("rediss+cluster://u:p@h:1,i:2/"),
            cluster(&["rediss://u:p@h:1", "rediss://u:p@i:2"])
        );
        for wrong in ["redis+cluster://", "http://h", "h:6379", ""] {
            assert_eq!(place(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn only_servers_that_keep_what_they_are_given_are_fit() {
        let info = |version: &str, policy: &str| format!("# Server\r\nredis_version:{version}\r\nmaxmemory_policy:{policy}\r\n");
        assert_eq!(check(&info("7.0.15", "noeviction")), Ok(()));
        assert_eq!(check(&info("8.2.0", "allkeys-lru")), Err(Unfit::Evicts("allkeys-lru".to_owned())));
        assert_eq!(check(&info("6.2.1", "noeviction")), Err(Unfit::TooOld("6.2.1".to_owned())));
        assert_eq!(check("redis_version:7.2.0\r\n"), Err(Unfit::Silent("maxmemory_policy")));
    }
}
