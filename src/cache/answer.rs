//! A kept answer and how it is written: what it took, since when and until when it is kept, and the response, compressed where that pays.

use crate::decision::cache::bill::Made;
use crate::decision::id::{CacheEntryId, ModelId};
use crate::decision::time::Timestamp;
use crate::decision::usage::Pools;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};

/// The longest response that is kept, as JSON.
pub const RESPONSE_BYTES_MAX: usize = 1 << 20;
/// The most that an answer may take where it is kept.
pub const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Responses above it are compressed.
const PLAIN_BYTES_MAX: usize = 1 << 10;
/// The first byte of each answer; another layout gets another number.
const LAYOUT: u8 = 3;
/// As version 0.1 kept them until they also said what they had cost; still read, since such answers may live for months.
const LAYOUT_WITHOUT_COST: u8 = 2;
const PLAIN: u8 = 0;
const DEFLATED: u8 = 1;
/// The layout, how the response is written, and the id.
const HEAD_BYTES: usize = 2 + size_of::<u128>();

/// An answer that may be given again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub id: CacheEntryId,
    pub stored_at: Timestamp,
    pub expires_at: Timestamp,
    pub made: Made,
    /// It ended at this limit of its request, so it may not be whole.
    pub cut_at: Option<i64>,
    /// The caller's own JSON object.
    pub response: String,
}

#[derive(Serialize, Deserialize)]
struct Rest {
    stored_at: Timestamp,
    expires_at: Timestamp,
    made: Made,
    cut_at: Option<i64>,
    response_bytes: usize,
}

/// What [`Rest`] was in [`LAYOUT_WITHOUT_COST`].
#[derive(Serialize, Deserialize)]
struct RestWithoutCost {
    stored_at: Timestamp,
    expires_at: Timestamp,
    made: (ModelId, Pools),
    cut_at: Option<i64>,
    response_bytes: usize,
}

impl From<RestWithoutCost> for Rest {
    fn from(rest: RestWithoutCost) -> Self {
        let (model, pools) = rest.made;
        Self {
            stored_at: rest.stored_at,
            expires_at: rest.expires_at,
            made: Made { model, pools, cost: None },
            cut_at: rest.cut_at,
            response_bytes: rest.response_bytes,
        }
    }
}

/// Reads what stands before the response, whichever layout it is of.
fn read_rest(layout: u8, bytes: &[u8]) -> Option<(Rest, &[u8])> {
    match layout {
        LAYOUT => postcard::take_from_bytes(bytes).ok(),
        LAYOUT_WITHOUT_COST => {
            let (rest, body) = postcard::take_from_bytes::<RestWithoutCost>(bytes).ok()?;
            Some((rest.into(), body))
        }
        _ => None,
    }
}

impl Answer {
    /// As it is kept; `None`: it is too large.
    pub fn encode(&self) -> Option<Vec<u8>> {
        if self.response.len() > RESPONSE_BYTES_MAX {
            return None;
        }
        let is_plain = self.response.len() <= PLAIN_BYTES_MAX;
        let mut bytes = vec![LAYOUT, if is_plain { PLAIN } else { DEFLATED }];
        // Plain data into memory cannot fail; nothing at all would be read back as unreadable.
        bytes.extend(self.id.to_bytes());
        let rest = Rest {
            stored_at: self.stored_at,
            expires_at: self.expires_at,
            made: self.made.clone(),
            cut_at: self.cut_at,
            response_bytes: self.response.len(),
        };
        let mut bytes = postcard::to_extend(&rest, bytes).ok()?;
        if is_plain {
            bytes.extend(self.response.as_bytes());
        } else {
            let mut encoder = DeflateEncoder::new(bytes, Compression::fast());
            encoder.write_all(self.response.as_bytes()).ok()?;
            bytes = encoder.finish().ok()?;
        }
        Some(bytes).filter(|bytes| bytes.len() <= ANSWER_BYTES_MAX)
    }

    /// What [`Answer::encode`] wrote; `None`: it is of another version, or not whole. It never takes more memory than a response may have.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
        let [layout, written, id @ ..] = head else { return None };
        let id = CacheEntryId::from_bytes(id.try_into().ok()?);
        let (rest, body) = read_rest(*layout, rest)?;
        if rest.response_bytes > RESPONSE_BYTES_MAX {
            return None;
        }
        let response = match *written {
            PLAIN => String::from_utf8(body.to_vec()).ok()?,
            DEFLATED => {
                let mut response = String::with_capacity(rest.response_bytes);
                let most = rest.response_bytes as u64 + 1;
                DeflateDecoder::new(body).take(most).read_to_string(&mut response).ok()?;
                response
            }
            _ => return None,
        };
        (response.len() == rest.response_bytes).then_some(Self {
            id,
            stored_at: rest.stored_at,
            expires_at: rest.expires_at,
            made: rest.made,
            cut_at: rest.cut_at,
            response,
        })
    }

    pub fn is_good_at(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }

    /// Whether it is enough for a request with this limit: a whole one is for everybody, at no cost, one that was cut off not for who wants more.
    pub fn is_enough(&self, max_output_tokens: Option<i64>) -> bool {
        let enough = |limit| max_output_tokens.is_some_and(|most| most <= limit);
        self.cut_at.is_none_or(enough)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::decision::id::WorkspaceId;
    use crate::decision::money::Usd;
    use uuid::Uuid;

    pub(crate) fn answer(number: u128, response: &str) -> Answer {
        let workspace = WorkspaceId::parse("ws").expect("a name");
        Answer {
            id: CacheEntryId::of(&workspace, Uuid::from_u128(number << 32)),
            stored_at: Timestamp::from_micros(1_000_000),
            expires_at: Timestamp::from_micros(61_000_000),
            made: Made {
                model: ModelId::parse("big").expect("a name"),
                pools: Pools {
                    input_tokens: 100,
                    output_tokens: 50,
                    ..Pools::default()
                },
                cost: Some(Usd::from_nanos(1_500)),
            },
            cut_at: None,
            response: response.to_owned(),
        }
    }

    #[test]
    fn one_that_was_cut_off_is_enough_for_who_wants_no_more() {
        let whole = answer(7, "{}");
        let cut = Answer {
            cut_at: Some(50),
            ..whole.clone()
        };
        for (limit, is_enough) in [(None, false), (Some(51), false), (Some(50), true), (Some(49), true)] {
            assert!(whole.is_enough(limit));
            assert_eq!(cut.is_enough(limit), is_enough, "{limit:?}");
        }
        assert_eq!(cut.encode().and_then(|bytes| Answer::decode(&bytes)), Some(cut));
    }

    #[test]
    fn an_answer_comes_back_as_it_was_written_and_long_ones_are_compressed() {
        for (response, less_than) in [("{}", 200), (&*format!("{{\"text\":\"{}\"}}", "long ".repeat(20_000)), 2_000)] {
            let answer = answer(7, response);
            let bytes = answer.encode().expect("small enough");
            assert!(bytes.len() < less_than, "{} for {}", bytes.len(), response.len());
            assert_eq!(Answer::decode(&bytes), Some(answer));
            assert_eq!(Answer::decode(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn one_that_was_kept_before_costs_were_is_read_and_says_none() {
        let now = answer(7, "{}");
        let rest = RestWithoutCost {
            stored_at: now.stored_at,
            expires_at: now.expires_at,
            made: (now.made.model.clone(), now.made.pools),
            cut_at: None,
            response_bytes: now.response.len(),
        };
        let mut bytes = vec![LAYOUT_WITHOUT_COST, PLAIN];
        bytes.extend(now.id.to_bytes());
        let mut bytes = postcard::to_extend(&rest, bytes).expect("plain data");
        bytes.extend(now.response.as_bytes());
        let read = Answer::decode(&bytes).expect("it is read");
        assert_eq!(read.made.cost, None);
        let with_cost = Made {
            cost: now.made.cost,
            ..read.made.clone()
        };
        assert_eq!(Answer { made: with_cost, ..read }, now);
        bytes[0] = LAYOUT + 1;
        assert_eq!(Answer::decode(&bytes), None);
    }

    #[test]
    fn what_is_too_large_is_not_kept_and_what_claims_to_be_is_not_read() {
        assert_eq!(answer(7, &"x".repeat(RESPONSE_BYTES_MAX + 1)).encode(), None);
        // A response that says that it is small, and unpacks to more than it says.
        let mut bomb = answer(7, &"y".repeat(2_000)).encode().expect("small enough");
        let honest = answer(7, &"y".repeat(1_900)).encode().expect("small enough");
        let (_, body): (Rest, &[u8]) = postcard::take_from_bytes(&bomb[HEAD_BYTES..]).expect("a rest");
        let body = body.to_vec();
        let (_, honest_body): (Rest, &[u8]) = postcard::take_from_bytes(&honest[HEAD_BYTES..]).expect("a rest");
        bomb = [&honest[..honest.len() - honest_body.len()], &body].concat();
        assert_eq!(Answer::decode(&bomb), None);
    }
}
