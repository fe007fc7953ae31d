//! The list of all settings: name, kind, default. A row here is a variable `WEIR_NAME`, a key `name` of the file and a line of
//! `weir config`; for a secret also `WEIR_NAME_FILE`, the path of a file that holds it.

use super::secret::Secret;
use super::sources::Values;
use super::value::{
    BillingProvider, Cidr, DatabaseUrl, List, Listen, LogFilter, LogFormat, RedisUrl, Setting, SigningKey, Text, Url, Whole,
};
use crate::decision::id::ModelId;
use std::path::PathBuf;

/// What the table tells about one setting.
pub(super) struct Row {
    pub name: &'static str,
    /// At most one.
    pub default: &'static [&'static str],
    pub is_secret: bool,
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $kind:ty $(= $default:literal)?;)*) => {
        /// The effective settings, each checked by itself; [`Settings::check`] looks at them together.
        #[derive(Clone, PartialEq, Debug)]
        pub struct Settings { $($(#[$doc])* pub $name: $kind),* }

        pub(super) const TABLE: &[Row] = &[$(Row {
            name: stringify!($name),
            default: &[$($default)?],
            is_secret: <$kind as Setting>::IS_SECRET,
        }),*];

        impl Settings {
            /// Reads every setting, so that all that is wrong is told at once; `None`: `values` has been told.
            pub(super) fn read(values: &mut Values) -> Option<Self> {
                $(let $name = values.read::<$kind>(stringify!($name));)*
                Some(Self { $($name: $name?),* })
            }

            /// Each setting's name and value as TOML; `None`: not set.
            pub(super) fn shown(&self) -> Vec<(&'static str, Option<String>)> {
                vec![$((stringify!($name), self.$name.show())),*]
            }
        }
    };
}

settings! {
    /// HOST:PORT.
    listen: Listen = "127.0.0.1:8080";
    data_dir: PathBuf = "./weir-data";
    /// A directory of policy files. Where nobody names one and there is none, a new ledger begins with the samples inside the program.
    policies: PathBuf = "./policies";

    /// With `redis_url` the production profile.
    database_url: Option<Secret<DatabaseUrl>>;
    redis_url: Option<Secret<RedisUrl>>;
    /// PEM: who may have signed the certificate of a Redis that speaks TLS, instead of the public authorities.
    redis_ca_file: Option<PathBuf>;

    /// For HS256; also seals API keys and portal tokens unless `secret_key` is set.
    jwt_secret: Option<Secret<SigningKey>>;
    /// PEM or a JSON Web Key Set, for RS256, ES256, ES384 and EdDSA.
    jwt_public_key_file: Option<PathBuf>;
    /// Where the issuer publishes its keys as a JSON Web Key Set.
    jwt_jwks_url: Option<Url>;
    jwt_issuer: Text = "weir";
    jwt_audience: Text = "weir";
    /// Seals API keys and portal tokens: with another one, all of them end.
    secret_key: Option<Secret<SigningKey>>;

    billing_provider: BillingProvider = "none";
    stripe_secret_key: Option<Secret<Text>>;
    stripe_api_base: Url = "https://api.stripe.com";
    stripe_webhook_secret: Option<Secret<Text>>;
    cloudevents_url: Option<Url>;
    billing_window_seconds: Whole<1, 86_400> = "3600";
    billing_seal_after_seconds: Whole<0, 86_400> = "60";
    billing_late_after_seconds: Whole<0, 3_024_000> = "3000";

    /// Addresses that webhooks may reach although they are private.
    webhook_allow_cidrs: List<Cidr> = "";
    /// Seconds before each try.
    webhook_retry_schedule: List<Whole<0, 604_800>> = "0,5,300,1800,7200,18000,36000,50400,72000,86400";

    embeddings_url: Option<Url>;
    embeddings_api_key: Option<Secret<Text>>;
    embeddings_model: Option<Text>;
    embeddings_timeout_ms: Whole<1, 60_000> = "50";

    /// A chat endpoint that routing rules may ask for a tier; needs `router_model`.
    router_url: Option<Url>;
    router_api_key: Option<Secret<Text>>;
    router_model: Option<Text>;
    router_timeout_ms: Whole<1, 60_000> = "300";

    policy_poll_seconds: Whole<1, 60> = "1";
    log: LogFilter = "info";
    log_format: LogFormat = "text";
}

impl Settings {
    /// Redis and PostgreSQL instead of this process and a file.
    pub fn is_production(&self) -> bool {
        self.production().is_some()
    }

    /// The database and the Redis of the production profile, if that is the profile.
    pub fn production(&self) -> Option<(&str, &str)> {
        let (database, redis) = (self.database_url.as_ref()?, self.redis_url.as_ref()?);
        Some((database.expose().as_str(), redis.expose().as_str()))
    }

    /// What does not go together, each with what to do about it.
    pub(super) fn conflicts(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut tell = |wrong: bool, what: &str| {
            if wrong {
                found.push(what.to_owned());
            }
        };
        let (database, redis) = (self.database_url.is_some(), self.redis_url.is_some());
        let one_alone =
            "WEIR_DATABASE_URL and WEIR_REDIS_URL choose the production profile together; set both, or neither for the embedded one";
        tell(database != redis, one_alone);
        let has_tls = self.redis_url.as_ref().is_some_and(|url| url.expose().is_tls());
        tell(
            self.redis_ca_file.is_some() && !has_tls,
            "WEIR_REDIS_CA_FILE is for TLS, and WEIR_REDIS_URL is without it: begin it with rediss:// or rediss+cluster://",
        );
        let has_jwt = self.jwt_secret.is_some() || self.jwt_public_key_file.is_some() || self.jwt_jwks_url.is_some();
        let no_jwt = "the production profile makes no keys of its own; set WEIR_JWT_SECRET, WEIR_JWT_PUBLIC_KEY_FILE or WEIR_JWT_JWKS_URL";
        tell(database && redis && !has_jwt, no_jwt);
        let open_jwks = self.jwt_jwks_url.as_ref().is_some_and(|url| !url.is_https() && !url.is_loopback());
        tell(
            open_jwks,
            "WEIR_JWT_JWKS_URL must be https, or http on this machine: whoever can change what it answers can make credentials",
        );
        let no_stripe_key = self.billing_provider == BillingProvider::Stripe && self.stripe_secret_key.is_none();
        tell(no_stripe_key, "WEIR_BILLING_PROVIDER=stripe needs WEIR_STRIPE_SECRET_KEY");
        let no_sink = self.billing_provider == BillingProvider::Cloudevents && self.cloudevents_url.is_none();
        tell(no_sink, "WEIR_BILLING_PROVIDER=cloudevents needs WEIR_CLOUDEVENTS_URL");
        tell(
            self.embeddings_url.is_some() && self.embeddings_model.is_none(),
            "WEIR_EMBEDDINGS_URL needs WEIR_EMBEDDINGS_MODEL",
        );
        tell(
            self.router_url.is_some() && self.router_model.is_none(),
            "WEIR_ROUTER_URL needs WEIR_ROUTER_MODEL",
        );
        let bad_model = |model: &Text| ModelId::parse(model.as_str()).is_err();
        tell(
            self.router_model.as_ref().is_some_and(bad_model),
            "WEIR_ROUTER_MODEL must be the id of a model, as models.yaml has it",
        );
        tell(
            self.webhook_retry_schedule.as_slice().is_empty(),
            "WEIR_WEBHOOK_RETRY_SCHEDULE needs at least one try, such as 0",
        );
        found
    }
}
