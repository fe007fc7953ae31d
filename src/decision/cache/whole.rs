//! Whether a response says of itself that it was cut off: the model reached a limit of tokens before it had ended. Such an answer is half of
//! one, so it is never given to another request. The words are those of the wire: of each provider's own protocol, as its client hands it over.
//!
//! Never looked at is what the model wrote, nor what a caller keeps beside the response under names of its own.

use serde_json::Value;

/// Where a response says why it ended.
const REASONS: [&str; 5] = ["finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason"];
/// Lists, each item of which may say it by itself: choices of OpenAI, candidates of Gemini, generations of Cohere, results of Titan.
const LISTS: [&str; 5] = ["choices", "candidates", "generations", "results", "outputs"];
/// What they say, in small letters.
const CUT_OFF: [&str; 6] = [
    "length",
    "max_tokens",
    "max_output_tokens",
    "max_length",
    "model_length",
    "model_context_window_exceeded",
];

/// Whether it was cut off. One with several choices is, if any of them is.
pub fn is_cut_off(response: &Value) -> bool {
    let in_a_list = LISTS
        .iter()
        .filter_map(|list| response.get(list)?.as_array())
        .flatten()
        .any(says_so);
    says_so(response) || in_a_list || is_incomplete(response)
}

fn says_so(part: &Value) -> bool {
    let reasons = REASONS.iter().filter_map(|name| part.get(name)?.as_str());
    let mut details = part
        .get("details")
        .into_iter()
        .filter_map(|details| details.get("finish_reason")?.as_str());
    reasons.into_iter().any(is_cut) || details.any(is_cut)
}

fn is_cut(reason: &str) -> bool {
    CUT_OFF.iter().any(|cut| reason.eq_ignore_ascii_case(cut))
}

/// As OpenAI's Responses tell it. Whatever made one incomplete, it is not whole.
fn is_incomplete(response: &Value) -> bool {
    response.get("status").and_then(Value::as_str) == Some("incomplete")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_protocol_tells_whether_an_answer_is_whole() {
        for (whole, cut) in [
            (
                json!({"choices": [{"finish_reason": "stop"}]}),
                json!({"choices": [{"finish_reason": "stop"}, {"finish_reason": "length"}]}),
            ),
            (
                json!({"status": "completed", "output": []}),
                json!({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}),
            ),
            (json!({"stop_reason": "end_turn"}), json!({"stop_reason": "max_tokens"})),
            (json!({"stopReason": "tool_use"}), json!({"stopReason": "max_tokens"})),
            (
                json!({"candidates": [{"finishReason": "STOP"}]}),
                json!({"candidates": [{"finishReason": "MAX_TOKENS"}]}),
            ),
            (json!({"finish_reason": "COMPLETE"}), json!({"finish_reason": "MAX_TOKENS"})),
            (
                json!({"generations": [{"finish_reason": "COMPLETE"}]}),
                json!({"generations": [{"finish_reason": "MAX_TOKENS"}]}),
            ),
            (json!({"done_reason": "stop"}), json!({"done_reason": "length"})),
            (
                json!({"details": {"finish_reason": "eos_token"}}),
                json!({"details": {"finish_reason": "length"}}),
            ),
        ] {
            assert!(!is_cut_off(&whole), "{whole}");
            assert!(is_cut_off(&cut), "{cut}");
        }
    }

    #[test]
    fn what_says_nothing_or_something_else_is_whole() {
        for response in [
            json!({}),
            json!({"n": 1}),
            json!({"choices": "length", "stop_reason": null, "finish_reason": 5}),
            json!({"text": "length", "length": 7, "usage": {"stop_reason": "length"}}),
            json!({"content": [{"type": "tool_use", "input": {"finish_reason": "length"}}], "stop_reason": "tool_use"}),
        ] {
            assert!(!is_cut_off(&response), "{response}");
        }
    }
}
