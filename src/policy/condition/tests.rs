//! Conditions that compile, conditions that are refused and where, and texts made to take the parser or the evaluation down.

use super::*;
use cel::Context;
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn refused(text: &str) -> String {
    match compile(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(Refusal {
            character: Some(n),
            detail,
        }) => format!("{n}: {detail}"),
        Err(Refusal { character: None, detail }) => detail,
    }
}

#[test]
fn what_rules_need_compiles() {
    for text in [
        "true",
        "request.feature == 'faq'",
        "request.attributes.complexity < 0.3 && request.input_tokens <= 4000",
        "has(request.attributes.complexity) && !(request.attributes.complexity > 0.5)",
        "request.feature in ['a', 'b', \"c\"] ? request.mode == 'batch' : workspace.seats > 3",
        "plan.id.startsWith('ent') || request.user_id.endsWith('@example.com') || request.tags.team.contains('x')",
        "request.tags.exists(name, name == 'urgent') || ['a', 'b'].all(x, x != request.feature)",
        "request.feature.matches('^doc_[a-z]+$') || request.feature.matches('^a[.]b|c\\\\.d$')",
        "size(request.tags) > 2 && int(request.attributes.level) % 2 == 0 && -request.input_tokens < -5",
        "budgets.monthly_tokens.share > 0.8 && now.weekday <= 5 && now.hour >= 9",
        "request.attributes['complexity'] > 1.0 // what follows is a comment (((",
        "request.feature == '(((((((((((((((((((((((((((((((((((((((' || request.feature == r'\\'",
        "request.feature == '''it's''' || request.feature == \"a\\\"[\"",
    ] {
        compile(text).unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"));
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_place() {
    for (text, expected) in [
        ("", "0: not a CEL expression: mismatched input '<EOF>'"),
        ("request.feature ==", "18: not a CEL expression: mismatched input '<EOF>'"),
        ("true &&\nfalse ||", "16: not a CEL expression: mismatched input '<EOF>'"),
        ("(true", "0: this `(` is never closed"),
        ("[true)", "5: this `)` closes nothing"),
        ("true)", "4: this `)` closes nothing"),
        ("request.feature == 'faq", "19: this text is never closed"),
        ("requst.feature == 'faq'", "0: unknown name `requst`; did you mean `request`?"),
        ("foo", "0: unknown name `foo`"),
        (
            "request.featur == 'faq'",
            "7: request has no field `featur`; did you mean `feature`?",
        ),
        (
            "has(request.sum)",
            "3: request has no field `sum`; it has feature, model, input_tokens, max_output_tokens, mode, user_id, requests, attributes, tags, allow_batch, max_delay_seconds, weak_suffices, complexity, llm_tier",
        ),
        (
            "now.day_of_week == 1",
            "3: now has no field `day_of_week`; it has year, month, day, weekday, hour, minute, unix",
        ),
        (
            "budgets.monthly_tokens.shar > 0.5",
            "22: a budget has no field `shar`; did you mean `share`?",
        ),
        (
            "request.feature.startWith('a')",
            "25: conditions have no function `startWith`; did you mean `startsWith`?",
        ),
        ("request.feature.format(['a'])", "22: conditions have no function `format`"),
        ("1 + 1", "2: a condition must be true or false"),
        ("'yes'", "0: a condition must be true or false"),
        ("[true]", "0: a condition must be true or false"),
        ("size(request.tags)", "4: a condition must be true or false"),
        ("Message{field: 1} == 2", "7: a condition makes no messages"),
        ("request.?feature == 'a'", "7: not a CEL expression: unsupported syntax '.?'"),
        (
            "request.feature.matches(request.model)",
            "23: the pattern of `matches` must be written out",
        ),
        (
            "request.feature.matches(r'\\pL')",
            "23: a pattern of `matches` has at most 64 bytes, no `{n}` and no classes such as `\\w`; write [a-z0-9]",
        ),
        (
            "request.feature.matches('a{9}')",
            "23: a pattern of `matches` has at most 64 bytes, no `{n}` and no classes such as `\\w`; write [a-z0-9]",
        ),
        ("request.feature.matches('(a')", "23: \"(a\" is not a regular expression"),
        (
            "[1, 2].exists(x, [3].exists(y, x == y))",
            "27: a macro inside of a macro is refused: its work would multiply",
        ),
        (
            "[1].map(x, x + x).exists(x, x == 2)",
            "24: a macro runs over a variable or a list that is written out",
        ),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn size_and_depth_are_bounded_before_the_parser_sees_the_text() {
    let long = format!("request.feature == '{}'", "x".repeat(CONDITION_BYTES_MAX));
    assert_eq!(
        refused(&long),
        format!("a condition has at most 1024 bytes, this one has {}", long.len())
    );
    let nested = |open: &str, inner: &str, close: &str, n: usize| format!("{}{inner}{}", open.repeat(n), close.repeat(n));
    let at_most = "a condition nests at most 32 deep";
    for (open, inner, close) in [
        ("(", "true", ")"),
        ("[", "1", "]"),
        ("{1: ", "1", "}"),
        ("!", "true", ""),
        ("! ", "true", ""),
        ("-", "1", ""),
        ("!(", "true", ")"),
        ("true ? true : ", "true", ""),
        ("(true ? ", "true", " : false)"),
        ("size(", "1", ")"),
        ("request[", "1", "]"),
        ("[1].exists(x, ", "true", ")"),
        ("A{a: ", "1", "}"),
        ("(", "", ""),
        ("[", "", ""),
        ("{", "", ""),
        ("'a'.contains(", "'a'", ")"),
    ] {
        for n in [CONDITION_DEPTH_MAX + 1, 60] {
            let text = nested(open, inner, close, n);
            assert!(refused(&text).ends_with(at_most), "{text}");
        }
    }
    assert!(
        compile(&nested("(", "true", ")", CONDITION_DEPTH_MAX)).is_ok(),
        "the depth that is promised is there"
    );
    let sum = format!("0{} > 1", " + 1".repeat(40));
    assert!(
        refused(&sum).ends_with(at_most),
        "operators nest in the tree although the text does not"
    );
    let many = (0..36)
        .map(|n| format!("request.feature == 'f{n}'"))
        .collect::<Vec<_>>()
        .join(" || ");
    assert!(compile(&many).is_ok(), "a chain of alternatives is balanced and no depth");
}

#[test]
fn texts_at_every_bound_at_once_are_parsed_without_harm() {
    let deepest = CONDITION_DEPTH_MAX;
    for text in [
        "(".repeat(deepest),
        "[".repeat(deepest),
        "{1:".repeat(deepest),
        "f(".repeat(deepest),
        "a.b(".repeat(deepest),
        format!("{}1{}", "[".repeat(deepest), "]".repeat(deepest)),
        format!("{}1{}", "{1:".repeat(deepest), "}".repeat(deepest)),
        format!("{}1{}", "f(".repeat(deepest), ")".repeat(deepest)),
        format!("{}1{}", "[1].map(x,".repeat(deepest), ")".repeat(deepest)),
        format!("{}true", "!".repeat(deepest)),
        format!("a{}", ".b".repeat(500)),
        format!("a{}", "[0]".repeat(300)),
        format!("a{}", ".f()".repeat(250)),
        format!("1{}", "+1".repeat(500)),
        format!("1{}", "==1".repeat(300)),
        format!("a{}", "&&a".repeat(300)),
        "a b ".repeat(250),
        "&& || ".repeat(150),
        "? : ".repeat(8),
        format!("[{}]", "1,".repeat(500)),
        "\u{2028}\u{0}é".repeat(100),
    ] {
        let begun = Instant::now();
        let _ = compile(&text);
        assert!(begun.elapsed() < Duration::from_secs(5), "{text}");
    }
}

#[test]
fn a_panic_of_the_parser_is_an_error_like_others() {
    let refusal = guarded("true", |_| panic!("as a parser might")).map(|_| ()).expect_err("a panic");
    assert_eq!(refusal, Refusal::whole("the condition cannot be parsed"));
}

#[test]
fn evaluation_cannot_be_made_to_explode() {
    for text in [
        "['aaaa'].map(a, a+a).map(a, a+a).map(a, a+a).map(a, a+a).map(a, a+a).map(a, a+a).map(a, a+a).map(a, a+a) == []",
        "[1,2,3,4,5,6,7,8].map(a, [1,2,3,4,5,6,7,8].map(b, [1,2,3,4,5,6,7,8].map(c, [1,2,3,4,5,6,7,8].map(d, a)))) == []",
        "request.tags.all(a, request.tags.all(b, request.tags.all(c, true)))",
        "[1].all(x, [x].map(y, y).exists(z, true))",
    ] {
        assert!(refused(text).contains("a macro"), "{text}");
    }
    let wide = format!(
        "[{}].all(x, x > 0 && x < 9 && x != 5 && x + 1 > 0 && x + 2 > 0)",
        "1,".repeat(399) + "1"
    );
    assert!(refused(&wide).contains("takes at most 4096 steps"), "{wide}");
    let patterns = (0..20)
        .map(|n| format!("request.feature.matches('a{n}+$')"))
        .collect::<Vec<_>>()
        .join(" || ");
    assert!(refused(&patterns).contains("takes at most 4096 steps"), "{patterns}");
}

#[test]
fn the_costliest_condition_that_is_accepted_ends_soon() {
    let body = "x > 0 && x < 99 && x != 5 && x + 1 > 0 && x + 2 > 0 && x * 3 != 7";
    let longest = (1..200)
        .map(|n| format!("[{}].all(x, {body})", vec!["1"; n].join(",")))
        .rfind(|text| compile(text).is_ok())
        .expect("one is accepted");
    let program = Program::compile(&longest).expect("it was accepted");
    let begun = Instant::now();
    assert_eq!(program.execute(&Context::default()), Ok(true.into()));
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?} for {longest}", begun.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever an operator writes is answered; the parser's stack and memory hold.
    #[test]
    fn any_text_of_tokens_is_answered(tokens in proptest::collection::vec(proptest::sample::select(vec![
        "(", ")", "[", "]", "{", "}", ":", ",", "?", ".", "!", "-", "+", "*", "/", "%", "==", "<", "&&", "||", " in ", "a", "b", "1", "2u",
        "1.5", "'s'", "\"q", "b'x'", "r'", "has(", "a.map(x,", ".exists(y,", " ", "true", "null", "A{", "f(", "`x`", "//", "\n", "\\", "é", "for",
        "..", "0x1", "1e", "[?", "request.", "request.feature", "budgets.", ".matches(", "@", "$", "|",
    ]), 0..60)) {
        let _ = compile(&tokens.concat());
    }
}
