//! Gemini's `usageMetadata`, as its REST API and its Python library spell it: cached tokens are inside the prompt, the prompts of
//! tools beside it, and thoughts beside the candidates.

use super::counts::{Counts, fill_up, fresh, sum_of, take_out};
use super::fields::Fields;
use super::unreadable::Unreadable;

/// Embeddings say `promptTokenDetails`, everything else `promptTokensDetails`.
const PROMPT_DETAILS: [&str; 3] = ["promptTokensDetails", "prompt_tokens_details", "promptTokenDetails"];
const TOOL_DETAILS: [&str; 2] = ["toolUsePromptTokensDetails", "tool_use_prompt_tokens_details"];
const CACHE_DETAILS: [&str; 2] = ["cacheTokensDetails", "cache_tokens_details"];
/// The Live API answers with a response where the others have candidates.
const CANDIDATES: [&str; 4] = [
    "candidatesTokenCount",
    "candidates_token_count",
    "responseTokenCount",
    "response_token_count",
];
const CANDIDATES_DETAILS: [&str; 4] = [
    "candidatesTokensDetails",
    "candidates_tokens_details",
    "responseTokensDetails",
    "response_tokens_details",
];

pub(super) fn read(fields: &Fields<'_>) -> Result<Counts, Unreadable> {
    let prompt = fields.largest(&["promptTokenCount", "prompt_token_count"])?;
    let tools = fields.largest(&["toolUsePromptTokenCount", "tool_use_prompt_token_count"])?;
    let cache_read = fields.largest(&["cachedContentTokenCount", "cached_content_token_count"])?;
    let candidates = fields.largest(&CANDIDATES)?;
    let thoughts = fields.largest(&["thoughtsTokenCount", "thoughts_token_count"])?;
    let total = fields.largest(&["totalTokenCount", "total_token_count"])?;

    let input = sum_of([prompt, tools]);
    // Some versions on Vertex AI count thoughts among the candidates; their total shows it.
    let thoughts_inside = input.is_some() && candidates.is_some() && total == sum_of([input, candidates]);
    let output = if thoughts_inside {
        candidates
    } else {
        sum_of([candidates, thoughts])
    };
    let (input, output) = fill_up(input, output, total);

    let asked = by_modality(fields, &PROMPT_DETAILS)?.plus(by_modality(fields, &TOOL_DETAILS)?);
    let cached = by_modality(fields, &CACHE_DETAILS)?;
    Ok(Counts {
        input: take_out([cache_read, None], input, fields, "promptTokenCount")?,
        cache_read,
        output,
        reasoning: thoughts,
        audio_input: fresh(asked.audio, cached.audio),
        audio_output: by_modality(fields, &CANDIDATES_DETAILS)?.audio,
        image_input: fresh(asked.image, cached.image),
        ..Counts::default()
    })
}

/// The modalities that a price can name. Text, video and documents are what remains.
#[derive(Clone, Copy, Default)]
struct Modalities {
    audio: Option<i64>,
    image: Option<i64>,
}

impl Modalities {
    fn plus(self, other: Self) -> Self {
        Self {
            audio: sum_of([self.audio, other.audio]),
            image: sum_of([self.image, other.image]),
        }
    }
}

fn by_modality(fields: &Fields<'_>, lists: &[&str]) -> Result<Modalities, Unreadable> {
    let mut found = Modalities::default();
    for list in lists {
        fields.each(list, |item| {
            let count = item.largest(&["tokenCount", "token_count"])?;
            match item.text("modality") {
                Some("AUDIO") => found.audio = sum_of([found.audio, count]),
                Some("IMAGE") => found.image = sum_of([found.image, count]),
                _ => {}
            }
            Ok(())
        })?;
    }
    Ok(found)
}
