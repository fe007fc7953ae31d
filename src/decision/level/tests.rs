//! Levels as tables, and whatever happens to use and limits as a property.

use super::*;
use crate::decision::id::{BudgetId, PlanId};
use crate::decision::period::PeriodKind;
use crate::decision::plan::{AtHard, OnExpiry, OnStoreUnavailable, Scope, SoftActions, UnknownFeatures};
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};

fn ratio(hundredths: u16) -> Ratio {
    Ratio::from_ten_thousandths(hundredths * 100).expect("a ratio")
}

pub(crate) fn watch(soft: Option<i64>, hard: Option<i64>, alerts: &[u16]) -> Watch {
    let budget = Budget {
        id: BudgetId::parse("monthly").expect("a name"),
        scope: Scope::Workspace,
        feature: None,
        unit: Unit::Tokens,
        period: PeriodKind::Month,
        soft,
        hard,
        per_seat: false,
        at_soft: SoftActions::default(),
        downgrade_to: None,
        throttle_ms: 1_000,
        at_hard: AtHard::Deny,
        overage_hard: None,
        alerts: alerts.iter().map(|share| ratio(*share)).collect(),
        shadow: false,
    };
    let plan = Plan {
        id: PlanId::parse("pro").expect("a name"),
        version: 3,
        name: "Pro".to_owned(),
        upgrade_url: Some("https://x.example/?ws={workspace_id}".to_owned()),
        allowed_models: Vec::new(),
        unlimited: false,
        unknown_features: UnknownFeatures::Allow,
        require_user: false,
        budgets: vec![budget],
        features: HashMap::new(),
        max_open_reservations: 10,
        min_hold_seconds: 1,
        on_expiry: OnExpiry::Release,
        on_store_unavailable: OnStoreUnavailable::Deny,
        pricing: None,
        base_usd_per_month: None,
        target_gross_margin: None,
    };
    Watch {
        plan: Arc::new(plan),
        limited: Limited {
            budget: 0,
            counter: 0,
            soft,
            hard,
            has_grants: true,
            granted: 0,
            overage_hard: None,
        },
        counter: Counter {
            whose: Whose::Workspace,
            feature: None,
            unit: Unit::Tokens,
            kind: PeriodKind::Month,
            period: Period {
                start: Timestamp::from_micros(0),
                end: Timestamp::from_micros(0).plus_seconds(30 * 24 * 3600),
            },
        },
        floor: 0,
        known: None,
        seed: Uuid::from_u128(7 << 80),
    }
}

fn words(levels: &[Level]) -> Vec<(String, i64)> {
    levels.iter().map(|level| (level.name.word(), level.at)).collect()
}

#[test]
fn levels_are_shares_of_the_limit_the_soft_limit_and_the_limit() {
    let plain = watch(Some(60), Some(100), &[50, 80, 100]);
    let of = |watch: &Watch, granted| words(&levels(&watch.granted(granted), watch.budget()));
    let named = |levels: &[(&str, i64)]| levels.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect::<Vec<_>>();
    assert_eq!(
        of(&plain, 0),
        named(&[("5000", 50), ("soft", 60), ("8000", 80), ("10000", 100), ("hard", 100)])
    );
    assert_eq!(
        of(&plain, 100),
        named(&[("5000", 100), ("8000", 160), ("soft", 160), ("10000", 200), ("hard", 200)])
    );
    assert_eq!(
        of(&watch(None, Some(3), &[50]), 0),
        named(&[("5000", 2), ("hard", 3)]),
        "a share is never less than it says"
    );
    assert_eq!(
        of(&watch(Some(5), None, &[50]), 0),
        named(&[("soft", 5)]),
        "without a limit there is no share of it"
    );
    assert_eq!(of(&watch(None, Some(0), &[50]), 0), []);
    assert_eq!(
        of(&watch(None, Some(i64::MAX), &[100]), 0),
        named(&[("10000", i64::MAX), ("hard", i64::MAX)])
    );
}

#[test]
fn the_lowest_level_above_what_was_told_is_one_of_the_levels() {
    let plain = watch(Some(60), Some(100), &[50, 80, 100]);
    for (told, expected) in [
        (-5, Some(50)),
        (0, Some(50)),
        (49, Some(50)),
        (50, Some(60)),
        (60, Some(80)),
        (80, Some(100)),
        (100, None),
    ] {
        assert_eq!(lowest_above(&plain.limited, plain.budget(), told), expected, "{told}");
    }
}

#[test]
fn a_level_says_what_a_system_needs_to_act() {
    let watch = watch(Some(60), Some(100), &[80]);
    let workspace = WorkspaceId::parse("ws_a").expect("a name");
    let now = Timestamp::from_micros(0).plus_seconds(3600);
    let level = Level {
        name: LevelName::Hard,
        at: 150,
    };
    let told = event(&watch, &workspace, level, 50, 151, now);
    assert_eq!(
        (told.kind, told.audience, told.renews_at),
        (EventType::BudgetExhausted, Audience::Customer, Some(watch.counter.period.end))
    );
    assert_eq!(told.once, "level monthly tokens * 0 hard 150");
    assert_eq!(
        told.data,
        serde_json::json!({"workspace_id": "ws_a", "plan_id": "pro", "plan_version": 3, "upgrade_url": "https://x.example/?ws=ws_a",
            "message": "Workspace ws_a has used its 150 tokens for January. Further requests are denied. They renew on 31 January.",
            "budget_id": "monthly", "scope": "workspace", "feature": null, "unit": "tokens",
            "period": {"start": "1970-01-01T00:00:00Z", "end": "1970-01-31T00:00:00Z"},
            "threshold": 1, "level": 150, "soft": 60, "hard": 100, "granted": 50, "spent": 151, "remaining": 0})
    );
}

/// What happens to a budget.
#[derive(Clone, Debug)]
enum Step {
    Use(i64),
    Correct(i64),
    Grant(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..40_i64).prop_map(Step::Use),
        1 => (0..30_i64).prop_map(Step::Correct),
        1 => (0..200_i64).prop_map(Step::Grant),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    /// Whatever is used, corrected and granted: a level is told once under its amount; each name that use reached was told; and one that was
    /// told before at another amount only because use passed it from below.
    #[test]
    fn what_is_told_is_what_was_reached(steps in steps(), soft in proptest::option::of(1..100_i64), alerts in proptest::collection::btree_set(1..=100_u16, 0..5)) {
        let alerts: Vec<u16> = alerts.into_iter().collect();
        let watch = watch(soft, Some(100), &alerts);
        let workspace = WorkspaceId::parse("ws_a").expect("a name");
        let (mut spent, mut granted, mut told) = (0_i64, 0_i64, Vec::<String>::new());
        let mut names_reached = BTreeSet::new();
        for step in steps {
            let before = spent;
            match step {
                Step::Use(by) => spent += by,
                Step::Correct(by) => spent -= by.min(spent),
                Step::Grant(to) => granted = to,
            }
            let due = due(&watch, granted, before, spent, &told);
            for level in levels(&watch.granted(granted), watch.budget()).iter().filter(|level| level.at <= spent) {
                names_reached.insert(level.name.word());
            }
            for level in due {
                prop_assert!(level.at <= spent, "{level:?} at {spent}");
                let event = event(&watch, &workspace, level, granted, spent, Timestamp::from_micros(1));
                prop_assert!(!told.contains(&event.once), "{} is told twice", event.once);
                let prefix = format!("{}{} ", watch.prefix(), level.name.word());
                let was_told = told.iter().any(|once| once.starts_with(&prefix));
                prop_assert!(!was_told || before < level.at, "{level:?} was not passed from below");
                told.push(event.once);
            }
        }
        let names_told: BTreeSet<String> = told
            .iter()
            .filter_map(|once| Some(once.strip_prefix(&watch.prefix())?.split_once(' ')?.0.to_owned()))
            .collect();
        prop_assert_eq!(names_told, names_reached);
    }
}
