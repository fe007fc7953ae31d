//! Periods, zones and settings as values, and the tiling of time in zones and at moments that nobody thought of.

mod edges;
mod history;

use super::*;
use PeriodKind::*;
use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;

/// The kinds that follow a workspace's setting.
const LOCAL: [PeriodKind; 5] = [Day, Week, Month, Year, Billing];

/// Zones whose clocks do what few expect: changes at midnight or around it, by half an hour, whole days left out, four changes a year.
const PECULIAR_ZONES: [&str; 22] = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Asuncion",
    "America/Havana",
    "America/New_York",
    "America/Nuuk",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/Scoresbysund",
    "America/St_Johns",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
];

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect(text)
}

fn period(start: &str, end: &str) -> Period {
    Period {
        start: at(start),
        end: at(end),
    }
}

fn setting(timezone: &str, anchor: u8) -> Setting {
    Setting {
        timezone: Zone::parse(timezone).expect(timezone),
        billing_anchor_day: AnchorDay::new(anchor).expect("an anchor day"),
    }
}

#[test]
fn a_lifetime_contains_every_moment_and_is_written_without_bounds() {
    let lifetime = setting("Europe/Berlin", 31).period(Lifetime, at("2025-11-21T09:30:00Z"));
    assert_eq!(lifetime, Period::LIFETIME);
    assert!(lifetime.contains(Timestamp::MIN) && lifetime.contains(at("2525-01-01T00:00:00Z")));
    assert_eq!(lifetime.seconds(), None);
    assert_eq!(serde_json::to_string(&lifetime).expect("json"), r#"{"start":null,"end":null}"#);
}

#[test]
fn a_period_is_written_with_its_bounds_and_read_only_if_it_can_be_one() {
    let day = period("2025-03-29T23:00:00Z", "2025-03-30T22:00:00Z");
    let text = r#"{"start":"2025-03-29T23:00:00Z","end":"2025-03-30T22:00:00Z"}"#;
    assert_eq!(serde_json::to_string(&day).expect("json"), text);
    assert_eq!(day.seconds(), Some(23 * 3600));
    for period in [day, Period::LIFETIME] {
        let json = serde_json::to_vec(&period).expect("json");
        assert_eq!(serde_json::from_slice::<Period>(&json).expect("json"), period);
        let bytes = postcard::to_allocvec(&period).expect("postcard");
        assert_eq!(postcard::from_bytes::<Period>(&bytes).expect("postcard"), period);
    }
    let empty = r#"{"start":"2025-03-30T22:00:00Z","end":"2025-03-30T22:00:00Z"}"#;
    let error = serde_json::from_str::<Period>(empty).expect_err("an empty period").to_string();
    assert!(error.contains("must end after it starts"), "{error}");
}

#[test]
fn kinds_have_one_name_everywhere() {
    for kind in PeriodKind::ALL {
        assert_eq!(PeriodKind::parse(kind.as_str()), Some(kind));
        assert_eq!(serde_json::to_value(kind).expect("json"), kind.as_str());
        assert_eq!(kind.is_rate(), matches!(kind.as_str(), "minute" | "hour"));
    }
    assert_eq!(PeriodKind::parse("fortnight"), None);
    assert_eq!(PeriodKind::parse("Day"), None);
}

#[test]
fn moments_that_no_clock_shows_are_counted_with_the_nearest_that_one_could() {
    for zone in ["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "Europe/Berlin"] {
        for kind in LOCAL.into_iter().chain([Minute, Hour]) {
            let calendar = setting(zone, 31);
            let (first, last) = (calendar.period(kind, Timestamp::MIN), calendar.period(kind, Timestamp::MAX));
            assert!(first.contains(at("0001-01-01T00:00:00Z")), "{kind:?} in {zone}: {first:?}");
            assert!(last.contains(at("9998-12-31T00:00:00Z")), "{kind:?} in {zone}: {last:?}");
        }
    }
}

#[test]
fn zones_are_names_of_the_database_in_its_own_spelling() {
    for (given, name) in [
        ("UTC", "UTC"),
        ("utc", "UTC"),
        ("europe/BERLIN", "Europe/Berlin"),
        ("Etc/UTC", "Etc/UTC"),
    ] {
        assert_eq!(Zone::parse(given).expect(given).name(), name);
    }
    for bad in [
        "",
        "Mars/Olympus",
        "Berlin",
        "+02:00",
        "CET-1CEST",
        "Etc/Unknown",
        "Factory",
        "../etc/passwd",
        "Europe/Berlin\0",
    ] {
        let error = Zone::parse(bad).expect_err(bad);
        assert!(error.contains("IANA time zone database, such as \"Europe/Berlin\""), "{error}");
    }
    let error = Zone::parse(&"x".repeat(ZONE_CHARS_MAX + 1)).expect_err("too long");
    assert_eq!(error, "must have at most 64 characters");
}

#[test]
fn what_callers_set_wrongly_is_refused_as_a_value_or_as_a_shape() {
    let read = |timezone: &str, anchor: &str| {
        let json = format!(r#"{{"timezone":{timezone},"billing_anchor_day":{anchor}}}"#);
        serde_json::from_str::<Setting>(&json).map_err(|error| error.to_string())
    };
    assert_eq!(read(r#""Asia/Tokyo""#, "31").expect("a setting"), setting("Asia/Tokyo", 31));
    for (timezone, anchor) in [
        (r#""Mars/Olympus""#, "1"),
        (r#""UTC""#, "0"),
        (r#""UTC""#, "32"),
        (r#""UTC""#, "257"),
        (r#""UTC""#, "-1"),
    ] {
        let error = read(timezone, anchor).expect_err(anchor);
        assert!(error.starts_with("unacceptable value: "), "{error}");
    }
    for (timezone, anchor) in [("1", "1"), (r#""UTC""#, "1.5"), (r#""UTC""#, r#""1""#), ("null", "1")] {
        let error = read(timezone, anchor).expect_err(anchor);
        assert!(!error.starts_with("unacceptable value: "), "{error}");
    }
    assert_eq!(AnchorDay::new(0), AnchorDay::new(32));
}

fn zones() -> impl Strategy<Value = Zone> {
    let all: Vec<String> = TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect();
    let zones: Vec<Zone> = all.iter().filter_map(|name| Zone::parse(name).ok()).collect();
    let peculiar = PECULIAR_ZONES.map(|name| Zone::parse(name).expect(name)).to_vec();
    prop_oneof![proptest::sample::select(zones), proptest::sample::select(peculiar)]
}

fn settings() -> impl Strategy<Value = Setting> {
    (zones(), 1u8..=31).prop_map(|(timezone, anchor)| Setting {
        timezone,
        billing_anchor_day: AnchorDay::new(anchor).expect("an anchor day"),
    })
}

fn moments() -> impl Strategy<Value = Timestamp> {
    (at("1990-01-01T00:00:00Z").micros()..at("2100-01-01T00:00:00Z").micros()).prop_map(Timestamp::from_micros)
}

/// The moment itself, or one within hours of the next clock change, where mistakes live.
fn near_a_clock_change(zone: &Zone, moment: Timestamp, minutes: Option<i64>) -> Timestamp {
    let rules = TimeZoneDatabase::bundled().get(zone.name()).expect("a zone");
    match (minutes, rules.following(moment.to_jiff()).next()) {
        (Some(minutes), Some(change)) => Timestamp::from_jiff(change.timestamp()).plus_seconds(minutes * 60),
        _ => moment,
    }
}

proptest! {
    #[test]
    fn periods_of_a_kind_tile_time(
        setting in settings(),
        moment in moments(),
        minutes in proptest::option::of(-180i64..=180),
        micros in -1i64..=1,
    ) {
        let at = near_a_clock_change(&setting.timezone, moment, minutes).plus_micros(micros);
        for kind in PeriodKind::ALL.into_iter().filter(|kind| *kind != Lifetime) {
            let period = setting.period(kind, at);
            prop_assert!(period.contains(at), "{kind:?}: {period:?} without {at}");
            prop_assert_eq!(setting.period(kind, period.start), period);
            prop_assert_eq!(setting.period(kind, period.end.plus_micros(-1)), period);
            prop_assert_eq!(setting.period(kind, period.end).start, period.end);
            prop_assert_eq!(setting.period(kind, period.start.plus_micros(-1)).end, period.start);
        }
        for kind in LOCAL {
            let start = setting.period(kind, at).start;
            let day = |at| setting.timezone.day_at(at);
            prop_assert!(day(start.plus_micros(-1)) < day(start), "{kind:?}: no day begins at {start}");
        }
    }
}
