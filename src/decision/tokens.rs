//! Counting the tokens of a text that has not been sent yet. Exact for models whose vocabulary is public, a close estimate for others.
//!
//! The vocabularies are inside the program: nothing is fetched. They are unpacked at first use.

use super::catalogue::Model;

/// What chat formats add to each message, and to the whole, in OpenAI's published counting rule
/// (OpenAI cookbook, "How to count tokens with tiktoken").
const TOKENS_PER_MESSAGE: i64 = 3;
const TOKENS_PER_CONVERSATION: i64 = 3;
/// What a part that is no text (an image, a sound) is taken for. Providers count these by size, which is not known here.
const TOKENS_PER_OTHER_PART: i64 = 1_000;
/// A tokenizer's worst case is not linear: longer runs without a break are counted in pieces of this many bytes.
const PIECE_BYTES: usize = 4_096;

/// A text or a conversation, as callers give it to be counted.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    Text(String),
    Messages(Vec<Message>),
}

impl Input {
    /// All that is said in it.
    pub fn text(&self) -> String {
        match self {
            Input::Text(text) => text.clone(),
            Input::Messages(messages) => {
                let texts: Vec<&str> = messages.iter().flat_map(|message| &message.texts).map(String::as_str).collect();
                texts.join("\n")
            }
        }
    }
}

/// One message of a conversation: its texts, and how many parts are no text.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Message {
    pub texts: Vec<String>,
    pub other_parts: i64,
}

/// The tokens of `input` for `model`; `None`: the model is not known, so the common vocabulary counts.
pub fn count(input: &Input, model: Option<&Model>) -> i64 {
    let older = model.is_some_and(|model| {
        let id = model.id.as_str();
        id.starts_with("gpt-4-") || id == "gpt-4" || id.starts_with("gpt-3.5") || id.starts_with("text-embedding")
    });
    let vocabulary = if older {
        tiktoken_rs::cl100k_base_singleton()
    } else {
        tiktoken_rs::o200k_base_singleton()
    };
    let of_text = |text: &str| -> i64 { pieces(text).map(|piece| vocabulary.count_ordinary(piece) as i64).sum() };
    match input {
        Input::Text(text) => of_text(text),
        Input::Messages(messages) => {
            let of_message = |message: &Message| {
                let texts: i64 = message.texts.iter().map(|text| of_text(text)).sum();
                texts + message.other_parts * TOKENS_PER_OTHER_PART + TOKENS_PER_MESSAGE
            };
            messages.iter().map(of_message).sum::<i64>() + TOKENS_PER_CONVERSATION
        }
    }
}

/// Cuts a text at blanks, near [`PIECE_BYTES`], or anywhere between characters where there are none.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if rest.len() <= PIECE_BYTES {
            return Some(std::mem::take(&mut rest));
        }
        let edge = (0..=PIECE_BYTES).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
        let cut = rest[..edge].rfind(char::is_whitespace).filter(|at| *at > 0).unwrap_or(edge);
        let (piece, after) = rest.split_at(cut);
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_texts_have_their_known_counts() {
        for (text, tokens) in [("", 0), ("hello world", 2), ("antidisestablishmentarianism", 6)] {
            assert_eq!(count(&Input::Text(text.to_owned()), None), tokens, "{text}");
        }
    }

    #[test]
    fn a_conversation_costs_more_than_its_texts() {
        let message = Message {
            texts: vec!["hello world".to_owned()],
            other_parts: 0,
        };
        assert_eq!(count(&Input::Messages(vec![message.clone(), message]), None), 2 * (2 + 3) + 3);
    }

    #[test]
    fn pieces_lose_nothing() {
        for text in ["a ".repeat(10_000), "ä".repeat(9_001), "x".repeat(5_000), String::new()] {
            assert_eq!(pieces(&text).collect::<String>(), text);
            assert!(pieces(&text).all(|piece| piece.len() <= PIECE_BYTES));
        }
    }
}
