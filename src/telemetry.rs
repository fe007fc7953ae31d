//! Logs and metrics of the process. Logs go to standard error, so that what a command prints stays its own.
//!
//! Invariants: nobody can write a line into the logs by putting one into a name or header; a label of a metric has a bounded number of
//! values, whatever callers send.

use crate::config::LogFormat;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::collections::HashSet;
use std::fmt::{self, Write};
use std::io::IsTerminal;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt as layer, registry};

/// How often samples that nobody has fetched are folded into histograms.
const FOLD_EVERY: Duration = Duration::from_secs(5);
/// Seconds: from half a millisecond, about what a decision takes, to what a caller gives up on.
const LATENCY_SECONDS_BUCKETS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Ratios of what was used to what was expected.
const RATIO_BUCKETS: &[f64] = &[0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0];

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("WEIR_LOG is not a filter such as info or weir=debug,actix=warn")]
    Filter(#[from] ParseError),
    #[error("logging was started twice in one process")]
    Logs(#[from] TryInitError),
    #[error("the thread that folds metrics could not be started")]
    Metrics(#[from] std::io::Error),
}

/// Starts logs and metrics of this process: events that pass `filter` are written as text for people or as JSON for machines.
pub fn init(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(directives(filter))?;
    let layer = match format {
        LogFormat::Text => text_layer(std::io::stderr, std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
    };
    registry().with(layer.with_filter(filter)).try_init()?;
    Ok(fold_samples(recorder())?)
}

/// The HTTP library tells each bad request as an error of the service; anybody could fill the log with them. They are answered, and that
/// is all; who names the library in the filter sees them.
fn directives(filter: &str) -> String {
    match filter.contains("actix") {
        true => filter.to_owned(),
        false => format!("actix_http=off,actix_server=warn,{filter}"),
    }
}

/// Lines for people: whatever a value holds, it stays on its line.
fn text_layer<S, W>(writer: W, is_terminal: bool) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'span> registry::LookupSpan<'span>,
    W: for<'writer> layer::MakeWriter<'writer> + Send + Sync + 'static,
{
    let fields = debug_fn(|to: &mut Writer<'_>, field, value| match field.name() {
        "message" => write!(OneLine(to), "{value:?}"),
        name => {
            write!(to, " {name}=")?;
            write!(OneLine(to), "{value:?}")
        }
    });
    layer::layer().with_ansi(is_terminal).fmt_fields(fields).with_writer(writer)
}

/// Escapes control characters, and what reverses the direction of text, on their way to a log.
struct OneLine<'a, W>(&'a mut W);

impl<W: Write> Write for OneLine<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| match c {
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => write!(self.0, "{}", c.escape_unicode()),
            c if c.is_control() => write!(self.0, "{}", c.escape_default()),
            c => self.0.write_char(c),
        })
    }
}

/// The metrics in the text format of Prometheus.
pub fn render() -> String {
    recorder().render()
}

/// The recorder of this process, made at first use. One that somebody else has installed keeps its place; then nothing is shown here.
fn recorder() -> &'static PrometheusHandle {
    METRICS.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), LATENCY_SECONDS_BUCKETS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_ratio".to_owned()), RATIO_BUCKETS))
            .expect("neither list of buckets is empty");
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("metrics are recorded elsewhere, so /metrics is empty");
        }
        describe();
        handle
    })
}

/// Folds samples into their histograms now and then, even if nobody ever fetches them: they would fill the memory.
fn fold_samples(recorder: &'static PrometheusHandle) -> std::io::Result<()> {
    let fold = move || {
        loop {
            std::thread::sleep(FOLD_EVERY);
            recorder.run_upkeep();
        }
    };
    std::thread::Builder::new().name("metrics".to_owned()).spawn(fold).map(drop)
}

fn describe() {
    metrics::describe_counter!(
        "weir_authorize_degraded_total",
        "Requests allowed without counters, as their plan says."
    );
    metrics::describe_counter!(
        "weir_apply_failed_total",
        "Commits that could not be copied into the counters; the next settle heals them."
    );
    metrics::describe_counter!(
        "weir_store_failed_total",
        "Requests that were told to come again, because a store was away or too busy."
    );
    metrics::describe_counter!(
        "weir_rebuilds_total",
        "Groups of counters that were read from the ledger: new ones, lost ones, and those of an old copy."
    );
    metrics::describe_counter!(
        "weir_late_total",
        "Settlements whose hold was gone: it had expired, or died with its store."
    );
    metrics::describe_counter!(
        "weir_swept_rows_total",
        "Sums that were copied to the counters once more, in case a copy was lost."
    );
    metrics::describe_counter!(
        "weir_expire_failed_total",
        "Reservations that could not be ended and are tried again."
    );
    metrics::describe_gauge!(
        "weir_billing_unexplained_far",
        "Lines of the daily reconcile, over 36 days, that have a difference without an explanation."
    );
    metrics::describe_counter!(
        "weir_clock_ahead_total",
        "Questions to the counter store that came with a time too far ahead of its clock, which then counted instead."
    );
    metrics::describe_gauge!(
        "weir_expire_oldest_due_seconds",
        "How far past its expiry the oldest reservation is that waits for the ledger to end it."
    );
    metrics::describe_gauge!("weir_policy_version", "The policy by which this node decides.");
    metrics::describe_counter!("weir_reservations_expired_total", "Reservations that the ledger ended.");
    metrics::describe_counter!(
        "weir_jwks_fetches_total",
        "Fetches of the issuer's keys, by whether they succeeded."
    );
    metrics::describe_counter!(
        "weir_routing_rule_failed_total",
        "Routing rules that could not be told for a request."
    );
    metrics::describe_histogram!(
        "weir_estimate_ratio",
        "Actual by estimated output length, where the request named none."
    );
    metrics::describe_counter!(
        "weir_cache_requests_total",
        "Requests that asked the cache, by feature and what became of it: exact, semantic, replayed, miss or error."
    );
    metrics::describe_counter!(
        "weir_cache_ledger_late_total",
        "Looks that ended in a miss because the ledger took longer than an answer from cache waits for it."
    );
    metrics::describe_counter!(
        "weir_cache_vetoes_total",
        "Answers to similar prompts that a detail kept from being given, by what differed."
    );
    metrics::describe_counter!(
        "weir_embeddings_total",
        "Vectors that were asked for, by what became of it; whatever is not made is a miss."
    );
    metrics::describe_counter!("weir_cache_feedback_total", "Answers that callers called right or wrong.");
    metrics::describe_gauge!(
        "weir_billing_batches",
        "Batches for the billing provider that it does not have, by state; on the node that leads."
    );
    metrics::describe_gauge!(
        "weir_billing_oldest_unsent_seconds",
        "How old the oldest batch is that waits to be sent."
    );
    metrics::describe_gauge!(
        "weir_billing_owed",
        "Workspaces and meters that are owed something back which no later use has been set off against yet."
    );
    metrics::describe_gauge!("weir_billing_provider_down", "1 while the billing provider does not answer.");
    metrics::describe_counter!("weir_billing_calls_total", "Calls to the billing provider, by outcome.");
    metrics::describe_counter!(
        "weir_billing_set_aside_total",
        "Batches that were not billed and need an eye, by state."
    );
    metrics::describe_counter!(
        "weir_billing_adjustments_total",
        "Batches that take back from what the provider was told what a correction owes."
    );
    metrics::describe_counter!("weir_billing_sealed_total", "Batches whose value was fixed.");
    metrics::describe_counter!("weir_billing_entries_total", "Entries that became members of a batch.");
    metrics::describe_gauge!("weir_reservations_open", "Reservations that are held.");
}

/// The value of a label whose values callers choose: the first few as they are, all later ones as `other`.
pub struct BoundedLabel {
    values_max: usize,
    seen: RwLock<HashSet<Arc<str>>>,
}

impl BoundedLabel {
    pub fn new(values_max: usize) -> Self {
        Self {
            values_max,
            seen: RwLock::default(),
        }
    }

    /// `value`, if it is among the first `values_max` that were ever asked for, else `other`.
    pub fn of(&self, value: &str) -> Arc<str> {
        if let Some(known) = self.seen.read().unwrap_or_else(PoisonError::into_inner).get(value) {
            return known.clone();
        }
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= self.values_max && !seen.contains(value) {
            return "other".into();
        }
        let value: Arc<str> = value.into();
        seen.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` writes as text.
    fn logged(log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let into = sink.clone();
        let subscriber = registry().with(text_layer(move || into.clone(), false));
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(sink.0.lock().expect("no panic").clone()).expect("UTF-8")
    }

    #[test]
    fn nobody_writes_a_line_into_the_logs() {
        let evil = "ws\n2026-01-01T00:00:00Z ERROR paid in full\r\x1b[2K\u{9b}31m\u{202e}\u{2028}x\0";
        let lines = [
            logged(|| tracing::info!(workspace = evil, "a request")),
            logged(|| tracing::info!(workspace = %evil, "a request")),
            logged(|| tracing::info!(workspace = ?evil, "a request")),
            logged(|| tracing::info!("a request of {evil}")),
            logged(|| tracing::info!(error = &io::Error::other(evil) as &dyn std::error::Error, "failed")),
            logged(|| tracing::info_span!("call", workspace = %evil).in_scope(|| tracing::info!("inside"))),
        ];
        for line in lines {
            assert!(line.contains("paid in full"), "{line}");
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            assert!(line.ends_with('\n'), "{line:?}");
            let rest = line.trim_end_matches('\n');
            assert!(
                !rest.chars().any(|c| c.is_control() || c == '\u{202e}' || c == '\u{2028}'),
                "{line:?}"
            );
        }
    }

    #[test]
    fn fields_stand_after_the_message() {
        let line = logged(|| tracing::warn!(workspace = %"ws_1", n = 7, "held too long"));
        assert!(
            line.contains("WARN") && line.ends_with(": held too long workspace=ws_1 n=7\n"),
            "{line:?}"
        );
    }

    #[test]
    fn a_label_has_at_most_so_many_values_and_other() {
        let label = BoundedLabel::new(3);
        let values: HashSet<Arc<str>> = (0..10_000).map(|n| label.of(&format!("feature-{n}"))).collect();
        assert_eq!(values.len(), 4);
        assert_eq!(&*label.of("feature-0"), "feature-0");
        assert_eq!(&*label.of("feature-9999"), "other");
    }

    #[test]
    fn what_anybody_can_send_is_no_line_of_the_log_unless_it_is_asked_for() {
        for (filter, expected) in [
            ("info", "actix_http=off,actix_server=warn,info"),
            ("warn,weir=debug", "actix_http=off,actix_server=warn,warn,weir=debug"),
            ("info,actix_http=trace", "info,actix_http=trace"),
        ] {
            assert_eq!(directives(filter), expected);
            assert!(EnvFilter::try_new(directives(filter)).is_ok());
        }
    }

    #[test]
    fn what_is_counted_is_rendered() {
        recorder();
        metrics::counter!("weir_test_total", "kind" => "a").increment(2);
        metrics::histogram!("weir_test_seconds").record(0.003);
        let text = render();
        assert!(text.contains("weir_test_total{kind=\"a\"} 2"), "{text}");
        assert!(text.contains("weir_test_seconds_bucket{le=\"0.005\"} 1"), "{text}");
    }
}
