//! What rules see and choose. How their conditions are bounded is tested where they are compiled, in `policy`.

use super::super::ask::AUTO;
use super::super::id::{Feature, RequestId, UserId, WorkspaceId};
use super::*;
use serde_json::json;
use std::collections::BTreeMap;

/// A request for `model` by feature faq, with what a test changes in it.
fn ask(model: &str, change: impl FnOnce(&mut Ask)) -> Ask {
    let mut ask = Ask {
        workspace: WorkspaceId::parse("ws_1").expect("an id"),
        user: None,
        feature: Feature::parse("faq").expect("an id"),
        model: ModelId::parse(model).expect("an id"),
        request_id: RequestId::parse("r1").expect("an id"),
        input_tokens: 4_521,
        input_tokens_estimated: false,
        max_output_tokens: None,
        min_output_tokens: None,
        mode: Mode::Interactive,
        allow_batch: false,
        requests: 1,
        hold_seconds: None,
        exclude_providers: Vec::new(),
        tags: BTreeMap::from([("team".to_owned(), "search".to_owned())]),
    };
    change(&mut ask);
    ask
}

fn model(id: &str) -> ModelId {
    ModelId::parse(id).expect("an id")
}

/// Compiled as it is: the bounds of conditions are tested where they are checked.
fn rule(name: &str, when: &str, target: Target) -> RouteRule {
    RouteRule {
        name: name.into(),
        when: Condition::new(Program::compile(when).expect(when), mentions(when)),
        target,
        overrides_named: false,
        shadow: false,
        escalation: None,
    }
}

fn mentions(when: &str) -> Mentions {
    Mentions {
        budgets: when.contains("budgets"),
        difficulty: when.contains(WEAK_SUFFICES) || when.contains("request.complexity"),
        llm_tier: when.contains(LLM_TIER),
    }
}

struct Scene {
    ask: Ask,
    attributes: serde_json::Value,
    budgets: Vec<(BudgetId, Unit, Balance, Option<i64>)>,
    tags: BTreeMap<String, String>,
    may_defer: bool,
    weak_suffices: Option<f64>,
    llm: LlmTier<'static>,
}

impl Scene {
    fn new(ask: Ask) -> Self {
        Self {
            ask,
            attributes: json!({}),
            budgets: Vec::new(),
            tags: BTreeMap::from([("segment".to_owned(), "trial".to_owned())]),
            may_defer: true,
            weak_suffices: None,
            llm: LlmTier::Unknown,
        }
    }

    fn attributes(mut self, attributes: serde_json::Value) -> Self {
        self.attributes = attributes;
        self
    }

    fn budget(mut self, id: &str, unit: Unit, spent: i64, held: i64, hard: Option<i64>) -> Self {
        self.budgets
            .push((BudgetId::parse(id).expect("an id"), unit, Balance { spent, held, granted: 0 }, hard));
        self
    }

    /// On a Friday, at 21:30 UTC.
    fn route(&self, routing: &Routing) -> Routed {
        let plan = PlanId::parse("pro").expect("an id");
        let budgets: Vec<BudgetFacts<'_>> = self
            .budgets
            .iter()
            .map(|(id, unit, balance, hard)| BudgetFacts {
                id,
                unit: *unit,
                balance: *balance,
                soft: None,
                hard: *hard,
            })
            .collect();
        let facts = RouteFacts {
            ask: &self.ask,
            attributes: self.attributes.as_object().expect("an object"),
            seats: 5,
            tags: &self.tags,
            plan: &plan,
            may_defer: self.may_defer,
            max_delay_seconds: Some(3_600),
            weak_suffices: self.weak_suffices,
            llm: self.llm,
            budgets: &budgets,
            now: Timestamp::parse("2025-11-21T21:30:00Z").expect("a time"),
        };
        let asked = (self.ask.model.as_str() != AUTO).then_some(&self.ask.model);
        routing.route(&facts, asked)
    }

    fn holds(&self, when: &str) -> Option<bool> {
        let routed = self.route(&Routing {
            rules: vec![rule("r", when, Target::Mode(Mode::Batch))],
            default_model: None,
        });
        match (routed.mode, routed.failed.is_empty()) {
            (Some(_), _) => Some(true),
            (None, true) => Some(false),
            (None, false) => None,
        }
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let routing = Routing {
        rules: vec![
            rule("no", "request.feature == 'other'", Target::Model(model("a"))),
            rule(
                "yes",
                "request.feature == 'faq'",
                Target::Tier(Tier::parse("fast").expect("a tier")),
            ),
            rule("also", "true", Target::Model(model("b"))),
        ],
        default_model: Some(model("c")),
    };
    let routed = Scene::new(ask("auto", |_| {})).route(&routing);
    assert_eq!(routed.tier.as_ref().map(Tier::as_str), Some("fast"));
    assert_eq!((routed.model, routed.rule.as_deref()), (None, Some("yes")));
}

#[test]
fn without_a_match_the_default_model_serves_auto_and_the_asked_one_itself() {
    let routing = Routing {
        rules: vec![rule("never", "false", Target::Model(model("a")))],
        default_model: Some(model("c")),
    };
    let routed = Scene::new(ask("auto", |_| {})).route(&routing);
    assert_eq!((routed.model, routed.rule.as_deref()), (Some(model("c")), Some(BY_DEFAULT_MODEL)));
    let routed = Scene::new(ask("named", |_| {})).route(&routing);
    assert_eq!((routed.model, routed.rule), (Some(model("named")), None));
    assert_eq!(Scene::new(ask("auto", |_| {})).route(&Routing::default()), Routed::default());
}

#[test]
fn a_mode_leaves_the_model_as_it_is() {
    let routing = Routing {
        rules: vec![RouteRule {
            overrides_named: true,
            ..rule("wait", "true", Target::Mode(Mode::Batch))
        }],
        default_model: Some(model("c")),
    };
    for (asked, expected) in [("auto", "c"), ("named", "named")] {
        let routed = Scene::new(ask(asked, |_| {})).route(&routing);
        assert_eq!((routed.mode, routed.model), (Some(Mode::Batch), Some(model(expected))), "{asked}");
        assert_eq!(routed.rule.as_deref(), Some("wait"), "{asked}");
    }
}

#[test]
fn a_named_model_meets_only_the_rules_that_override() {
    let plain = rule("plain", "true", Target::Model(model("a")));
    let overriding = RouteRule {
        overrides_named: true,
        ..rule("over", "budgets.x.share > 0.5", Target::Model(model("b")))
    };
    let routing = Routing {
        rules: vec![plain, overriding],
        default_model: None,
    };
    assert!(routing.needs_budgets(Some(&model("named"))));
    let routed = Scene::new(ask("named", |_| {}))
        .budget("x", Unit::Tokens, 6, 0, Some(10))
        .route(&routing);
    assert_eq!(routed.model, Some(model("b")));
    let without = Routing {
        rules: vec![rule("auto", "budgets.x.share > 0.5", Target::Model(model("b")))],
        default_model: None,
    };
    assert!(
        !without.needs_budgets(Some(&model("named"))),
        "budgets are not fetched for rules that are not asked"
    );
    assert!(without.needs_budgets(None));
}

#[test]
fn shadow_rules_say_what_they_would_do_and_do_nothing() {
    let shadow = |name: &str, when: &str| RouteRule {
        shadow: true,
        ..rule(name, when, Target::Model(model("s")))
    };
    let routing = Routing {
        rules: vec![
            shadow("before", "true"),
            rule("real", "true", Target::Model(model("a"))),
            shadow("after", "true"),
            shadow("not", "false"),
        ],
        default_model: None,
    };
    let routed = Scene::new(ask("auto", |_| {})).route(&routing);
    assert_eq!(routed.model, Some(model("a")));
    assert_eq!(routed.shadow_hits, ["before".into(), "after".into()] as [Arc<str>; 2]);
}

#[test]
fn a_rule_that_cannot_be_told_does_not_match_and_is_named() {
    let routing = Routing {
        rules: vec![
            rule("missing", "request.attributes.complexity < 0.3", Target::Model(model("a"))),
            rule("no truth", "request.feature", Target::Model(model("a"))),
            rule("types", "request.feature > 3", Target::Model(model("a"))),
            rule("zero", "1 / (request.requests - 1) == 1", Target::Model(model("a"))),
        ],
        default_model: Some(model("c")),
    };
    let routed = Scene::new(ask("auto", |_| {})).route(&routing);
    assert_eq!(routed.model, Some(model("c")));
    assert_eq!(routed.failed.len(), 4);
}

#[test]
fn conditions_see_the_request_as_it_was_made() {
    let scene = Scene::new(ask("auto", |ask| {
        ask.user = UserId::parse("usr_1").ok();
        ask.max_output_tokens = Some(1_024);
    }))
    .attributes(json!({"complexity": 0.3, "level": 2, "vip": true, "lang": "de", "odd": [1], "large": 18_446_744_073_709_551_615u64}))
    .budget("cost", Unit::Usd, 1_500_000_000, 500_000_000, Some(4_000_000_000))
    .budget("used", Unit::Tokens, 30, 3, Some(0))
    .budget("metered", Unit::Tokens, 7, 0, None);
    for (when, expected) in [
        (
            "request.model == 'auto' && request.feature == 'faq' && request.mode == 'interactive'",
            Some(true),
        ),
        (
            "request.input_tokens == 4521 && request.max_output_tokens == 1024 && request.requests == 1",
            Some(true),
        ),
        ("request.user_id == 'usr_1' && request.tags.team == 'search'", Some(true)),
        (
            "request.attributes.complexity <= 0.3 && request.attributes.complexity < 1",
            Some(true),
        ),
        (
            "request.attributes.level >= 1.5 && request.attributes.vip && request.attributes.lang in ['de', 'fr']",
            Some(true),
        ),
        ("request.attributes.large > 9.0", Some(true)),
        ("has(request.attributes.odd) || has(request.attributes.none)", Some(false)),
        ("request.attributes.none == 1", None),
        ("request.attributes.none == 1 || request.attributes.vip", Some(true)),
        (
            "workspace.id == 'ws_1' && workspace.plan == 'pro' && workspace.seats == 5 && plan.id == 'pro'",
            Some(true),
        ),
        (
            "budgets.cost.spent == 1500000 && budgets.cost.hard == 4000000 && budgets.cost.share == 0.5",
            Some(true),
        ),
        (
            "budgets.used.share == 1.0 && budgets.metered.spent == 7 && !has(budgets.metered.share)",
            Some(true),
        ),
        ("'cost' in budgets && !('other' in budgets)", Some(true)),
        (
            "now.year == 2025 && now.month == 11 && now.day == 21 && now.weekday == 5",
            Some(true),
        ),
        ("now.hour == 21 && now.minute == 30 && now.unix == 1763760600", Some(true)),
    ] {
        // The first part mentions budgets, so that they are there.
        let when = format!("(size(budgets) == 3) && ({when})");
        assert_eq!(scene.holds(&when), expected, "{when}");
    }
    let bare = Scene::new(ask("auto", |_| {}));
    assert_eq!(bare.holds("has(request.user_id) || has(request.max_output_tokens)"), Some(false));
}

#[test]
fn a_rule_may_slow_a_request_down_and_offer_a_second_try() {
    let mut slow = rule("slow", "request.feature == 'faq'", Target::Throttle(750));
    let escalation = Escalation {
        model: model("best"),
        min_quality_score: Ratio::from_ten_thousandths(7_000).expect("a share"),
    };
    slow.escalation = Some(escalation.clone());
    let routing = Routing {
        rules: vec![slow],
        default_model: Some(model("usual")),
    };
    let routed = Scene::new(ask(AUTO, |_| {})).route(&routing);
    assert_eq!(
        (routed.delay_ms, routed.model, routed.escalation),
        (750, Some(model("usual")), Some(escalation))
    );
}

#[test]
fn nothing_that_cannot_wait_is_made_a_batch() {
    let routing = Routing {
        rules: vec![
            rule("wait", "true", Target::Mode(Mode::Batch)),
            rule("next", "true", Target::Model(model("a"))),
        ],
        default_model: None,
    };
    let mut scene = Scene::new(ask(AUTO, |_| {}));
    assert_eq!(scene.route(&routing).mode, Some(Mode::Batch));
    scene.may_defer = false;
    let routed = scene.route(&routing);
    assert_eq!(
        (routed.mode, routed.model),
        (None, Some(model("a"))),
        "it is as if the rule were not there"
    );
}

#[test]
fn rules_see_tags_of_the_workspace_delays_and_what_the_classifier_says() {
    let mut scene = Scene::new(ask(AUTO, |_| {}));
    for when in [
        "workspace.tags.segment == 'trial'",
        "request.max_delay_seconds >= 3600",
        "!request.allow_batch",
        "!has(request.weak_suffices) && !has(request.complexity)",
    ] {
        assert_eq!(scene.holds(when), Some(true), "{when}");
    }
    assert_eq!(
        scene.holds("request.weak_suffices > 0.5"),
        None,
        "without a classifier it cannot be told"
    );
    scene.weak_suffices = Some(0.8);
    assert_eq!(scene.holds("request.weak_suffices > 0.79 && request.complexity < 0.21"), Some(true));
}

#[test]
fn a_language_model_is_asked_only_for_a_rule_that_is_reached() {
    let routing = Routing {
        rules: vec![
            rule("long", "request.input_tokens > 10000", Target::Model(model("long"))),
            rule(
                "ask",
                "request.llm_tier == 'fast'",
                Target::Tier(Tier::parse("fast").expect("a tier")),
            ),
        ],
        default_model: Some(model("usual")),
    };
    let mut scene = Scene::new(ask(AUTO, |ask| ask.input_tokens = 20_000));
    scene.llm = LlmTier::NotAsked;
    assert!(!scene.route(&routing).asks_llm, "an earlier rule decided");
    scene.ask.input_tokens = 10;
    assert!(scene.route(&routing).asks_llm);
    let mut shadow = routing.clone();
    shadow.rules[1].shadow = true;
    assert!(!scene.route(&shadow).asks_llm, "a rule that decides nothing is not paid for");
    scene.llm = LlmTier::Told("fast");
    assert_eq!(
        scene.route(&shadow).shadow_hits,
        [Arc::<str>::from("ask")],
        "where it is known all the same it is told"
    );
    for (llm, tier, chosen) in [
        (LlmTier::Told("fast"), Some("fast"), None),
        (LlmTier::Told("frontier"), None, Some("usual")),
        (LlmTier::Unknown, None, Some("usual")),
    ] {
        scene.llm = llm;
        let routed = scene.route(&routing);
        assert_eq!((routed.asks_llm, routed.tier.as_ref().map(Tier::as_str)), (false, tier), "{llm:?}");
        assert_eq!(routed.model.as_ref().map(ModelId::as_str), chosen);
    }
}
