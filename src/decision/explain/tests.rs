//! Explanations over small policies: what they say must be what the rules decide.

use super::*;
use crate::decision::ask::Ask;
use crate::decision::counter::Balance;
use crate::decision::id::{Feature, ModelId, RequestId, WorkspaceId};
use crate::decision::limits::Limits;
use crate::decision::price::Mode;
use crate::decision::refusal::Refusal;
use crate::decision::rung::first_fit;
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use crate::policy::Policy;
use crate::policy::files::{Files, Sources};
use crate::policy::object::ObjectId;
use serde_json::{Value, json};
use std::path::Path;

fn now() -> Timestamp {
    Timestamp::parse("2025-11-21T10:00:00Z").expect("a moment")
}

/// The models of the tests, and a plan.
struct World {
    plan: Arc<Plan>,
    catalogue: Catalogue,
}

impl World {
    fn of(plan: Value) -> Self {
        let mut plan = plan;
        plan["id"] = json!("p");
        plan["name"] = json!("P");
        plan["pricing"] = json!({"model": "flat", "base_usd": "0"});
        let sources = Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies")).expect("the policies of the tests");
        let policy: Policy = Files::load(&sources).expect("good policies").policy;
        let policy = policy.with(&[(ObjectId::plan("p"), Some(plan))]).expect("a good plan");
        Self {
            plan: policy.plans["p"].clone(),
            catalogue: policy.catalogue.clone(),
        }
    }

    fn limits(&self, ask: &Ask) -> Arc<Limits> {
        let workspace = Workspace::unknown(ask.workspace.clone(), now());
        Arc::new(Limits::of_request(&self.plan, &workspace, &ask.feature, None, now()))
    }

    fn facts(&self, ask: Ask, outcome: Outcome, before: Vec<Balance>) -> Facts {
        Facts {
            limits: self.limits(&ask),
            chosen: Some(ask.model.clone()),
            ask: Arc::new(ask),
            decided_at: now(),
            policy_version: 4,
            workspace_version: 2,
            plan: Some(self.plan.id.clone()),
            routed: None,
            shadow_routes: Vec::new(),
            expected_output: 0,
            before,
            run: None,
            outcome,
            detour: None,
            fair_use: Vec::new(),
        }
    }

    fn explain(&self, facts: Facts) -> Explanation {
        explain(facts, Some(&self.plan), &self.catalogue, Voice::english()).expect("a ladder")
    }

    /// As a store would have decided with these balances, (spent, held) for each counter.
    fn decided(&self, ask: Ask, balances: &[(i64, i64)]) -> Explanation {
        let before: Vec<Balance> = balances
            .iter()
            .map(|(spent, held)| Balance {
                spent: *spent,
                held: *held,
                granted: 0,
            })
            .collect();
        let facts = self.facts(ask.clone(), Outcome::Short, before.clone());
        let way = questions::model_for(&ask, &ask.model, &self.plan, &self.catalogue, now()).expect("a model");
        let ladder = Ladder::build(&ask, way, self.plan.clone(), &self.catalogue, facts.limits.clone(), 0, now()).expect("a ladder");
        let taken = first_fit(&ladder.rungs, &ladder.limits.units(), &before);
        self.explain(Facts {
            outcome: taken.map_or(Outcome::Short, Outcome::Held),
            ..facts
        })
    }
}

/// 100 tokens of input and 50 of output for model `big`.
fn ask() -> Ask {
    Ask {
        workspace: WorkspaceId::parse("ws").expect("a name"),
        user: None,
        feature: Feature::parse("chat").expect("a name"),
        model: ModelId::parse("big").expect("a name"),
        request_id: RequestId::parse("r1").expect("a name"),
        input_tokens: 100,
        input_tokens_estimated: false,
        max_output_tokens: Some(50),
        min_output_tokens: None,
        mode: Mode::Interactive,
        allow_batch: false,
        requests: 1,
        hold_seconds: None,
        exclude_providers: Vec::new(),
        tags: Default::default(),
    }
}

fn tokens(more: Value) -> Value {
    let mut budget = json!({"id": "tokens", "unit": "tokens", "period": "month"});
    budget
        .as_object_mut()
        .expect("an object")
        .extend(more.as_object().expect("an object").clone());
    json!({"budgets": [budget]})
}

fn steps(explanation: &Explanation) -> Vec<(Step, &str)> {
    explanation
        .rungs
        .iter()
        .map(|rung| (rung.step, rung.offer.model.id.as_str()))
        .collect()
}

fn whys(explanation: &Explanation) -> Vec<(Step, Option<&str>, Why)> {
    let told = |skipped: &'_ Skipped| (skipped.step, skipped.why);
    let models = explanation
        .skipped
        .iter()
        .map(|skipped| skipped.model.as_ref().map(|model| model.as_str()));
    explanation
        .skipped
        .iter()
        .map(told)
        .zip(models)
        .map(|((step, why), model)| (step, model, why))
        .collect()
}

#[test]
fn a_plain_allow_passes_every_question_and_takes_the_first_rung() {
    let world = World::of(tokens(json!({"hard": 1000})));
    let explained = world.decided(ask(), &[(700, 100)]);
    assert_eq!(explained.code, None);
    let answers: Vec<_> = explained
        .questions
        .iter()
        .map(|question| (question.code, question.answer))
        .collect();
    let expected: Vec<_> = [
        Code::WorkspaceSuspended,
        Code::NoPlan,
        Code::FeatureDisabled,
        Code::ModelNotAllowed,
        Code::ModelUnpriced,
        Code::ContextTooLong,
        Code::NoBudget,
        Code::FairUsePause,
        Code::TooManyOpenReservations,
    ]
    .map(|code| (code, Answer::Passed))
    .to_vec();
    assert_eq!(answers[..9], expected[..]);
    assert_eq!(
        answers[9..],
        [
            (Code::ParentExhausted, Answer::NotAsked),
            (Code::NeverFits, Answer::Passed),
            (Code::HardLimitReached, Answer::Passed)
        ]
    );
    let rung = &explained.rungs[0];
    let ceiling = &rung.ceilings[0];
    assert!(rung.taken && rung.fits.is_some() && ceiling.because.is_none());
    assert_eq!((ceiling.need, ceiling.ceiling, ceiling.room), (150, Some(1000), Some(200)));
    assert_eq!(
        (ceiling.spent, ceiling.held, ceiling.granted, ceiling.open_below),
        (700, 100, 0, None)
    );
    assert_eq!(
        whys(&explained),
        [
            (Step::Downgrade, None, Why::NoBudgetDowngrades),
            (Step::Batch, None, Why::CannotWait),
            (Step::AskedPastSoft, None, Why::NoSoftGate),
            (Step::Overage, None, Why::NoOverage),
            (Step::Capped, None, Why::NoShorterAnswer),
        ]
    );
}

#[test]
fn a_denial_says_at_which_rung_which_budget_was_short_and_why() {
    for (balances, because, code, expected) in [
        (
            (900, 0),
            Because::Spent,
            Code::HardLimitReached,
            "left of 1,000 tokens: 900 tokens are spent",
        ),
        ((0, 900), Because::Held, Code::HardLimitReached, "900 tokens are held"),
    ] {
        let world = World::of(tokens(json!({"hard": 1000})));
        let explained = world.decided(ask(), &[balances]);
        assert_eq!(explained.code, Some(code), "{balances:?}");
        assert_eq!(explained.rungs[0].ceilings[0].because, Some(because), "{balances:?}");
        let sentence = explained.rungs[0].sentence();
        assert!(
            sentence.contains(expected) && sentence.starts_with("Closed by tokens: "),
            "{sentence}"
        );
        let last = explained.questions.last().expect("questions");
        assert_eq!((last.code, last.answer), (Code::HardLimitReached, Answer::Refused));
        assert!(!last.detail.is_empty());
    }
    let never = World::of(tokens(json!({"hard": 100}))).decided(ask(), &[(0, 0)]);
    assert_eq!(
        (never.code, never.rungs[0].ceilings[0].because),
        (Some(Code::NeverFits), Some(Because::NeverFits))
    );
    let last = never.questions.last().expect("questions");
    assert_eq!((last.code, last.answer), (Code::HardLimitReached, Answer::NotAsked));
}

#[test]
fn a_downgrade_says_why_the_asked_model_was_passed_over_and_why_others_do_not_serve() {
    let world = World::of(tokens(json!({"soft": 500, "hard": 1000, "at_soft": ["downgrade"]})));
    let explained = world.decided(ask(), &[(500, 0)]);
    assert_eq!(
        steps(&explained),
        [
            (Step::Asked, "big"),
            (Step::Downgrade, "mid"),
            (Step::Downgrade, "small"),
            (Step::AskedPastSoft, "big")
        ]
    );
    let taken: Vec<bool> = explained.rungs.iter().map(|rung| rung.taken).collect();
    assert_eq!(taken, [false, true, false, false]);
    assert_eq!(explained.rungs[0].ceilings[0].because, Some(Because::SoftLimitReached));
    assert_eq!(explained.rungs[0].ceilings[0].open_below, Some(500));
    assert!(explained.rungs[2].fits.is_some(), "a later one would have fitted too");
    assert!(explained.rungs[2].sentence().contains("would fit too"));
    let never = json!({"chat": {"never_downgrade": true}});
    for (change, expected) in [
        (json!({"features": never}), vec![(Step::Downgrade, None, Why::NeverDowngrade)]),
        (
            json!({"allowed_models": ["big", "mid"]}),
            vec![(Step::Downgrade, Some("small"), Why::ModelNotAllowed)],
        ),
    ] {
        let mut plan = tokens(json!({"soft": 500, "hard": 1000, "at_soft": ["downgrade"]}));
        plan.as_object_mut()
            .expect("an object")
            .extend(change.as_object().expect("an object").clone());
        let world = World::of(plan);
        let explained = world.decided(ask(), &[(500, 0)]);
        let downgrades: Vec<_> = whys(&explained).into_iter().filter(|(step, ..)| *step == Step::Downgrade).collect();
        assert_eq!(downgrades, expected, "{change}");
    }
}

#[test]
fn each_model_that_does_not_serve_is_named_with_its_reason() {
    for (target, input, expected) in [
        // The asked model's own downgrade of the tier comes before any other of it.
        ("fast", 100, vec![(Some("future"), Why::ModelUnpriced)]),
        ("exotic", 100, vec![]),
        (
            "frontier",
            100,
            vec![(Some("other"), Why::NotCheaper), (Some("big"), Why::NotCheaper)],
        ),
        ("small", 150_000, vec![(Some("small"), Why::ContextTooLong)]),
        ("big", 100, vec![(Some("big"), Why::NotCheaper)]),
    ] {
        let world = World::of(tokens(
            json!({"soft": 1, "hard": 900_000, "at_soft": ["downgrade"], "downgrade_to": target}),
        ));
        let asked = Ask {
            input_tokens: input,
            ..ask()
        };
        let explained = world.decided(asked, &[(0, 0)]);
        let mut told: Vec<_> = whys(&explained)
            .into_iter()
            .filter(|(step, ..)| *step == Step::Downgrade)
            .map(|(_, model, why)| (model, why))
            .collect();
        let mut expected = expected;
        told.sort_by_key(|(model, _)| model.map(str::to_owned));
        expected.sort_by_key(|(model, _)| model.map(str::to_owned));
        assert_eq!(told, expected, "{target}");
    }
}

#[test]
fn a_cap_shows_its_arithmetic() {
    let world = World::of(tokens(json!({"hard": 1000})));
    let asked = Ask {
        max_output_tokens: Some(500),
        min_output_tokens: Some(10),
        ..ask()
    };
    let explained = world.decided(asked.clone(), &[(600, 200)]);
    let rung = explained.rungs.last().expect("a rung");
    let cap = rung.cap.as_ref().expect("a cap");
    assert!(rung.taken && rung.step == Step::Capped);
    assert_eq!((cap.least, cap.longest), (10, 100), "100 of input and 100 of output fit into 200");
    assert_eq!(
        (cap.lines[0].line.base, cap.lines[0].line.per_output, cap.lines[0].room),
        (100, 1, 200)
    );
    assert_eq!(rung.fits.map(|(output, _)| output), Some(100));
    assert_eq!(rung.sentence(), "Taken, with at most 100 output tokens.");
    let denied = world.decided(asked, &[(895, 0)]);
    assert_eq!(
        denied.rungs.last().and_then(|rung| rung.cap.as_ref()).map(|cap| cap.longest),
        Some(5)
    );
    assert_eq!(denied.code, Some(Code::HardLimitReached));
}

#[test]
fn overage_is_told_with_what_it_comes_to() {
    let world = World::of(tokens(json!({"hard": 1000, "at_hard": "overage", "overage_hard": 2000})));
    let explained = world.decided(ask(), &[(950, 0)]);
    assert_eq!(explained.rungs.iter().map(|rung| rung.taken).collect::<Vec<_>>(), [false, true]);
    let overage = &explained.overage[0];
    assert_eq!((overage.hard, overage.overage_hard, overage.beyond), (Some(1000), Some(2000), 100));
}

#[test]
fn a_refusal_ends_the_questions_and_has_no_rungs() {
    let world = World::of(tokens(json!({"hard": 1000, "id": "t"})));
    let refusal = Refusal::ModelUnpriced {
        model: ModelId::parse("future").expect("a name"),
    };
    let asked = Ask {
        model: ModelId::parse("future").expect("a name"),
        ..ask()
    };
    let explained = world.explain(world.facts(asked, Outcome::Refused(refusal), Vec::new()));
    assert_eq!(explained.code, Some(Code::ModelUnpriced));
    assert!(explained.rungs.is_empty() && explained.skipped.is_empty());
    let answers: Vec<Answer> = explained.questions.iter().map(|question| question.answer).collect();
    assert_eq!(answers[..4], [Answer::Passed; 4]);
    assert_eq!(answers[4], Answer::Refused);
    assert_eq!(answers[5..], [Answer::NotAsked; 7]);
    let nobody = Refusal::NoPlan(WorkspaceId::parse("ws").expect("a name"));
    let facts = Facts {
        plan: None,
        chosen: None,
        ..world.facts(ask(), Outcome::Refused(nobody), Vec::new())
    };
    let explained = explain(facts, None, &world.catalogue, Voice::english()).expect("no ladder is needed");
    assert_eq!(
        (explained.plan_version, explained.questions[0].answer, explained.questions[1].answer),
        (None, Answer::Passed, Answer::Refused)
    );
}

#[test]
fn a_degraded_answer_asked_no_counter() {
    let world = World::of(tokens(json!({"hard": 1000})));
    let explained = world.explain(world.facts(ask(), Outcome::Degraded, Vec::new()));
    assert_eq!(explained.code, None);
    assert!(explained.rungs[0].taken && explained.rungs[0].ceilings.is_empty());
    assert_eq!(explained.questions[8].answer, Answer::NotAsked);
    let last = explained.questions.last().expect("questions");
    assert_eq!((last.answer, last.detail.as_str()), (Answer::NotAsked, words::COUNTERS_AWAY));
}

/// Two enforced budgets with all that a limit can do, and a shadow one.
static ALL: std::sync::LazyLock<World> = std::sync::LazyLock::new(|| {
    World::of(json!({"budgets": [
        {"id": "tokens", "unit": "tokens", "period": "month", "soft": 500, "hard": 1000, "at_soft": ["downgrade", "warn"]},
        {"id": "usd", "unit": "usd", "period": "month", "hard": "0.005", "at_hard": "overage", "overage_hard": "0.01"},
        {"id": "shadow", "unit": "requests", "period": "day", "hard": 0, "shadow": true}]}))
});

proptest::proptest! {
    /// Whatever the balances and the request are: a whole answer fits exactly where no budget says why not, the first that fits is taken,
    /// and a budget that closes a rung is short by its own figures.
    #[test]
    fn an_explanation_agrees_with_what_the_store_decides(
        spent in 0i64..1_200, held in 0i64..1_200, usd in 0i64..4_000_000, output in 1i64..400, least in proptest::option::of(1i64..400),
    ) {
        let asked = Ask { max_output_tokens: Some(output), min_output_tokens: least, allow_batch: true, ..ask() };
        let explained = ALL.decided(asked, &[(spent, held), (usd, 0), (0, 0)]);
        let first = explained.rungs.iter().position(|rung| rung.fits.is_some());
        proptest::prop_assert_eq!(explained.rungs.iter().position(|rung| rung.taken), first);
        proptest::prop_assert_eq!(explained.code.is_none(), first.is_some());
        for rung in &explained.rungs {
            let whole = rung.ceilings.iter().all(|ceiling| ceiling.because.is_none());
            proptest::prop_assert!(!whole || rung.fits.is_some_and(|(fitting, _)| fitting == rung.output));
            proptest::prop_assert!(rung.cap.is_some() || whole == rung.fits.is_some());
            proptest::prop_assert_eq!(rung.ceilings.len(), 2, "shadow budgets close nothing");
            if let (Some(cap), Some((fitting, _))) = (&rung.cap, rung.fits) {
                proptest::prop_assert_eq!(fitting, cap.longest);
            }
            for ceiling in &rung.ceilings {
                let taken = ceiling.spent + ceiling.held;
                match ceiling.because {
                    None => proptest::prop_assert!(ceiling.ceiling.is_none_or(|line| taken + ceiling.need <= line)),
                    Some(Because::SoftLimitReached) => proptest::prop_assert!(taken >= ceiling.open_below.expect("a soft line")),
                    Some(_) => proptest::prop_assert!(taken + ceiling.need > ceiling.ceiling.expect("a ceiling")),
                }
            }
        }
        let has = |step: Step| explained.rungs.iter().any(|rung| rung.step == step);
        for step in [Step::Batch, Step::AskedPastSoft, Step::Overage, Step::Capped] {
            let told = explained.skipped.iter().any(|skipped| skipped.step == step);
            proptest::prop_assert!(has(step) != told, "{:?} is there, or it is said why not", step);
        }
    }
}
