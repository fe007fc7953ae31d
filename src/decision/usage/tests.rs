//! The table of usage objects, and what must hold for any object.

use super::*;
use crate::decision::amount::COUNT_MAX;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::LazyLock;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    note: String,
    format: Option<UsageFormat>,
    usage: Map<String, Value>,
    /// Pools that are not zero, nothing taken out.
    pools: Option<Map<String, Value>>,
    named: Option<Vec<String>>,
    /// Pools that are not zero, with what is `named` taken out.
    carved: Option<Map<String, Value>>,
    error: Option<String>,
    pointer: Option<String>,
}

fn cases() -> impl Iterator<Item = Case> {
    let table = include_str!("../../../tests/data/usage_cases.jsonl");
    table.lines().map(|line| serde_json::from_str(line).expect("a case"))
}

const EVERYTHING: Named = Named {
    audio_input: true,
    audio_output: true,
    image_input: true,
};

#[test]
fn the_table_of_usage_objects_is_read_as_it_says() {
    for case in cases() {
        let note = &case.note;
        match (read(&case.usage, case.format), &case.pools) {
            (Ok(usage), Some(pools)) => {
                assert_eq!(not_zero(&usage.pools(Named::default())), *pools, "{note}");
                if let Some(carved) = &case.carved {
                    let named = case.named.as_deref().expect("what is carved is named");
                    assert_eq!(not_zero(&usage.pools(named_by(named))), *carved, "{note}");
                } else {
                    // The same in Weir's words is the same use, so that a settle may be repeated in either.
                    let in_our_words = if pools.is_empty() {
                        Ok(Usage::default())
                    } else {
                        read(pools, None)
                    };
                    assert_eq!(in_our_words.map(|usage| usage.canonical()), Ok(usage.canonical()), "{note}");
                }
            }
            (Err(unreadable), None) => {
                assert_eq!(Some(kind(&unreadable)), case.error.as_deref(), "{note}: {unreadable}");
                assert_eq!(unreadable.pointer(), case.pointer.as_deref(), "{note}");
            }
            (read, _) => panic!("{note}: {read:?}"),
        }
    }
    assert!(cases().count() > 100, "cases are missing");
}

fn not_zero(pools: &Pools) -> Map<String, Value> {
    let Value::Object(mut pools) = json!(pools) else {
        unreachable!("pools are an object")
    };
    pools.retain(|_, count| *count != json!(0));
    pools
}

fn named_by(names: &[String]) -> Named {
    let named = |pool: &str| names.iter().any(|name| name == pool);
    Named {
        audio_input: named("audio_input_tokens"),
        audio_output: named("audio_output_tokens"),
        image_input: named("image_input_tokens"),
    }
}

fn kind(unreadable: &Unreadable) -> &'static str {
    match unreadable {
        Unreadable::NoCount { .. } => "no_count",
        Unreadable::Ambiguous { .. } => "ambiguous",
        Unreadable::UnknownCount { .. } => "unknown_count",
        Unreadable::LessThanParts { .. } => "less_than_parts",
        Unreadable::OtherTotal { .. } => "other_total",
        Unreadable::TooMany => "too_many",
        Unreadable::BadField { fault, .. } => match fault {
            Fault::Negative => "negative",
            Fault::TooLarge => "too_large",
            Fault::NotWhole => "not_whole",
            Fault::NotANumber => "not_a_number",
            Fault::NotAnObject => "not_an_object",
            Fault::NotAList => "not_a_list",
        },
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

#[test]
fn a_refusal_says_what_to_do() {
    for (usage, text) in [
        (json!({}), "Send the provider's usage object as it came"),
        (
            json!({"billed_units": {"search_units": 1}}),
            "Read as cohere, the usage object does not say",
        ),
        (
            json!({"prompt_tokens": -1}),
            "/prompt_tokens must be an integer from 0 to 68719476736, but it is negative.",
        ),
        (
            json!({"input_tokens": 1, "ouput_tokens": 1}),
            "/ouput_tokens looks like a count, but is not one of Weir's pools.",
        ),
        (
            json!({"promptTokenCount": 1, "cachedContentTokenCount": 2}),
            "/promptTokenCount is 1, less than the 2 tokens",
        ),
        (
            json!({"completion_tokens": 1, "cached_tokens": 2}),
            "/prompt_tokens is absent, but 2 tokens",
        ),
        (
            json!({"inputTokens": 1, "promptTokenCount": 1}),
            "fields of gemini and of bedrock, which count differently",
        ),
        (
            json!({"input_tokens": 1, "cache_read_tokens": 1, "total_tokens": 1}),
            "/total_tokens is 1, but the pools together are 2.",
        ),
    ] {
        let told = read(&object(usage), None).expect_err("unreadable").to_string();
        assert!(told.contains(text), "{told}");
    }
}

#[test]
fn formats_have_one_name_everywhere() {
    for format in UsageFormat::ALL {
        assert_eq!(json!(format), json!(format.as_str()));
        assert_eq!(
            serde_json::from_value::<UsageFormat>(json!(format.as_str())).expect("a name"),
            format
        );
    }
}

#[test]
fn the_same_use_in_other_words_is_the_same_to_the_byte() {
    let words = [
        json!({"input_tokens": 51, "cache_read_tokens": 512, "output_tokens": 116, "reasoning_tokens": 60}),
        json!({"prompt_tokens": 563, "completion_tokens": 116, "prompt_cache_hit_tokens": 512, "prompt_cache_miss_tokens": 51,
            "completion_tokens_details": {"reasoning_tokens": 60}}),
        json!({"input_tokens": 51, "cache_read_input_tokens": 512, "output_tokens": 116, "output_tokens_details": {"thinking_tokens": 60}}),
        json!({"promptTokenCount": 563, "cachedContentTokenCount": 512, "candidatesTokenCount": 56, "thoughtsTokenCount": 60}),
    ];
    let [first, others @ ..] = words.map(|words| read(&object(words), None).expect("readable").canonical());
    assert!(others.iter().all(|other| *other == first));
    let longer = read(&object(json!({"input_tokens": 51, "output_tokens": 117})), None).expect("readable");
    assert_ne!(longer.canonical(), first);
}

#[test]
fn checkpoints_count_the_most_of_each_pool_and_corrections_the_difference() {
    let early = Pools {
        input_tokens: 100,
        output_tokens: 7,
        ..Pools::default()
    };
    let late = Pools {
        input_tokens: 90,
        output_tokens: 40,
        reasoning_tokens: 5,
        ..Pools::default()
    };
    let most = Pools {
        input_tokens: 100,
        output_tokens: 40,
        reasoning_tokens: 5,
        ..Pools::default()
    };
    assert_eq!((early.max(&late), late.max(&early), most.max(&early)), (most, most, most));
    let difference = Pools {
        input_tokens: -10,
        output_tokens: 33,
        reasoning_tokens: 5,
        ..Pools::default()
    };
    assert_eq!(late.checked_sub(&early), Some(difference));
    assert_eq!(difference.total(), late.total() - early.total());
    assert_eq!(
        Pools {
            input_tokens: i64::MIN,
            ..early
        }
        .checked_sub(&early),
        None
    );
    assert!(Pools::default().is_empty() && !difference.is_empty());
}

#[test]
fn without_a_cache_the_same_tokens_are_plain_input() {
    let pools = Pools {
        input_tokens: 1,
        cache_read_tokens: 20,
        cache_write_tokens: 300,
        cache_write_1h_tokens: 4_000,
        output_tokens: 50_000,
        reasoning_tokens: 49_000,
        audio_input_tokens: 600_000,
        audio_output_tokens: 7_000_000,
        image_input_tokens: 80_000_000,
    };
    let plain = pools.uncached();
    assert_eq!((plain.input_tokens, plain.total()), (4_321, 87_654_321));
    assert_eq!(
        (pools.input_side(), pools.output_side(), pools.total()),
        (80_604_321, 7_050_000, 87_654_321)
    );
}

fn count() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0i64..2_000, 1 => 0..=COUNT_MAX]
}

/// What a field of a hostile or broken report may hold.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        8 => count().prop_map(|n| json!(n)),
        1 => any::<i64>().prop_map(|n| json!(n)),
        1 => any::<u64>().prop_map(|n| json!(n)),
        1 => any::<f64>().prop_map(|n| json!(n)),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => ".{0,4}".prop_map(Value::String),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((any_name(), inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// All names that mean something to a reader, and some that do not.
fn any_name() -> impl Strategy<Value = String> {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let mut names = BTreeSet::new();
        cases().for_each(|case| collect_names(&Value::Object(case.usage), &mut names));
        names.into_iter().collect()
    });
    prop::sample::select(&**NAMES)
}

fn collect_names(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| {
            names.insert(name.clone());
            collect_names(value, names);
        }),
        Value::Array(items) => items.iter().for_each(|item| collect_names(item, names)),
        _ => {}
    }
}

fn numbers(pools: &Pools) -> Vec<i64> {
    object(json!(pools))
        .values()
        .map(|count| count.as_i64().expect("an integer"))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_object_makes_a_negative_or_boundless_pool(
        fields in prop::collection::vec((any_name(), any_value()), 0..10),
        format in prop::option::of(prop::sample::select(UsageFormat::ALL.to_vec())),
        named in any::<[bool; 3]>(),
    ) {
        let Ok(usage) = read(&fields.into_iter().collect(), format) else { return Ok(()) };
        let named = Named { audio_input: named[0], audio_output: named[1], image_input: named[2] };
        let (whole, carved) = (usage.pools(Named::default()), usage.pools(named));
        for pools in [whole, carved] {
            prop_assert!(numbers(&pools).iter().all(|count| (0..=COUNT_MAX).contains(count)), "{pools:?}");
            prop_assert!(pools.reasoning_tokens <= pools.output_tokens, "{pools:?}");
        }
        prop_assert_eq!(whole.total(), carved.total());
        prop_assert_eq!(whole.input_side(), carved.input_side());
        prop_assert!(named.audio_input || carved.audio_input_tokens == 0);
    }

    #[test]
    fn the_total_is_the_providers_own([input, read_part, write_part, output, reasoning] in prop::array::uniform5(0i64..1_000_000), beside: bool) {
        // Inside: parts of the input and of the output.
        let cached = read_part.min(input);
        let written = write_part.min(input - cached);
        let thought = reasoning.min(output);
        let completion = if beside { output - thought } else { output };
        let openai = |whole: &str, answer: &str| json!({
            whole: input, format!("{whole}_details"): {"cached_tokens": cached, "cache_write_tokens": written},
            answer: completion, format!("{answer}_details"): {"reasoning_tokens": thought}, "total_tokens": input + output,
        });
        let gemini = json!({
            "promptTokenCount": cached, "toolUsePromptTokenCount": input - cached, "cachedContentTokenCount": cached,
            "candidatesTokenCount": output - thought, "thoughtsTokenCount": thought, "totalTokenCount": input + output,
        });
        for (object_of, write) in [(openai("prompt_tokens", "completion_tokens"), written), (openai("input_tokens", "output_tokens"), written), (gemini, 0)] {
            let pools = read(&object(object_of), None).expect("readable").pools(EVERYTHING);
            prop_assert_eq!(pools.total(), input + output);
            prop_assert_eq!(pools.output_side(), output);
            prop_assert_eq!((pools.cache_read_tokens, pools.cache_write_tokens, pools.reasoning_tokens), (cached, write, thought));
        }
        let bedrock = json!({"inputTokens": input, "outputTokens": output, "cacheReadInputTokens": read_part,
            "cacheWriteInputTokens": write_part, "totalTokens": input + output + read_part + write_part});
        let pools = read(&object(bedrock), None).expect("readable").pools(EVERYTHING);
        prop_assert_eq!(pools.total(), input + output + read_part + write_part);
    }

    #[test]
    fn what_was_read_reads_as_itself(counts in prop::array::uniform9(0i64..1_000_000), named in any::<[bool; 3]>()) {
        let pools = Pools {
            input_tokens: counts[0], cache_read_tokens: counts[1], cache_write_tokens: counts[2], cache_write_1h_tokens: counts[3],
            output_tokens: counts[4], reasoning_tokens: counts[5].min(counts[4]),
            audio_input_tokens: counts[6], audio_output_tokens: counts[7], image_input_tokens: counts[8],
        };
        let usage = read(&object(json!(pools)), None).expect("readable");
        prop_assert_eq!(usage.pools(EVERYTHING), pools);
        prop_assert_eq!(Usage::from(pools), usage);
        let named = Named { audio_input: named[0], audio_output: named[1], image_input: named[2] };
        let carved = usage.pools(named);
        prop_assert_eq!(carved.total(), pools.total());
        // Carved, stored and shown, it is still the same use.
        prop_assert_eq!(read(&object(json!(carved)), None).expect("readable").pools(named), carved);
        let stored = postcard::to_stdvec(&carved).expect("plain data");
        prop_assert_eq!(postcard::from_bytes::<Pools>(&stored).expect("what was stored"), carved);
    }
}
