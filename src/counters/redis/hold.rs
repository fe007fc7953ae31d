//! Holds: the short script for nearly all of them, the long one for what is out of the ordinary, and what either answers.

use super::call::{Call, CallError};
use super::gather::PlainHold;
use super::keys::{Columns, tag_of};
use super::reply::Reply;
use super::request::pack_hold;
use super::{RedisCounters, plain, script, unknown_word};
use crate::counters::{HoldOutcome, HoldRequest};
use crate::decision::counter::Whose;
use crate::decision::rung::Taken;
use crate::decision::standing::End;

impl RedisCounters {
    /// A reservation's id bears the slot of its workspace.
    fn keys_of_hold(&self, request: &HoldRequest, columns: &Columns<'_>) -> Vec<String> {
        let tag = tag_of(request.reservation.slot());
        let group = |column: &str| self.keys.group_of_tag(tag, &request.workspace, column);
        let mut keys = Vec::with_capacity(3 + columns.groups.len());
        keys.extend([self.keys.index(tag), self.keys.reservation(request.reservation)]);
        // The workspace's own group is read in any case.
        if !columns.has_workspace() {
            keys.push(group(Whose::Workspace.column()));
        }
        keys.extend(columns.texts().map(group));
        keys
    }

    /// `nonce` is of this call: sent again with the same one, it is answered as it was, not as a replay.
    pub(super) async fn try_hold(&self, request: &HoldRequest, nonce: u64) -> Result<HoldOutcome, CallError> {
        let columns = Columns::of(request.counters.iter());
        if plain::is_plain(request) {
            let answer = self.gather.hold(self.plain_hold(request, &columns, nonce)).await?;
            if let Some(outcome) = plain::outcome(request, &columns, &answer)? {
                return Ok(outcome);
            }
        }
        let call = self.hold_call(request, &columns, nonce);
        // Boxed for what few holds need, as in `Gather::hold`.
        let (word, reply) = Box::pin(self.send(&call)).await?;
        hold_outcome(&word, reply, &columns, request)
    }

    /// What the short script is asked.
    pub(super) fn plain_hold(&self, request: &HoldRequest, columns: &Columns<'_>, nonce: u64) -> PlainHold {
        PlainHold {
            slot: request.reservation.slot(),
            keys: self.keys_of_hold(request, columns),
            plain: plain::plain(request, columns, nonce),
            balances_bytes: plain::balances_bytes(request),
        }
    }

    pub(super) fn hold_call(&self, request: &HoldRequest, columns: &Columns<'_>, nonce: u64) -> Call<'static> {
        let mut call = Call::new(&script::HOLD, request.reservation.slot(), request.now);
        call.keys = self.keys_of_hold(request, columns);
        pack_hold(&mut call.pack, request, columns, nonce);
        call
    }
}

/// What a script of holding answered.
pub(super) fn hold_outcome(word: &str, mut reply: Reply, columns: &Columns<'_>, request: &HoldRequest) -> Result<HoldOutcome, CallError> {
    let places = columns.places(&request.counters);
    Ok(match word {
        "held" => HoldOutcome::Held {
            taken: Taken {
                rung: reply.place()?,
                output: reply.int()?,
                amounts: reply.list()?.amounts()?,
            },
            before: reply.granted_balances(&places)?,
        },
        "replayed" => HoldOutcome::Replayed(Box::new(reply.record(request.reservation)?)),
        "mismatch" => HoldOutcome::Mismatch,
        "ended" => HoldOutcome::Ended(reply.end()?.unwrap_or(End::Expired)),
        "short" => HoldOutcome::Short {
            balances: reply.granted_balances(&places)?,
        },
        "open" => HoldOutcome::TooManyOpen {
            balances: reply.granted_balances(&places)?,
        },
        "unready" => HoldOutcome::Unready(columns.named(&reply.texts()?)),
        other => return Err(unknown_word(other)),
    })
}
