//! Holds: the short script for nearly all of them, the long one for what is out of the ordinary, and what either answers.

use super::call::{Call, CallError};
use super::keys::Columns;
use super::reply::Reply;
use super::request::pack_hold;
use super::{RedisCounters, Script, plain, script, unknown_word};
use crate::counters::{HoldOutcome, HoldRequest};
use crate::decision::counter::Whose;
use crate::decision::rung::Taken;
use crate::decision::standing::End;

impl RedisCounters {
    fn of_hold<'a>(&self, script: &'a Script, request: &HoldRequest, columns: &Columns<'_>) -> Call<'a> {
        let mut call = self.of_workspace(script, &request.workspace, request.now);
        call.keys.push(self.keys.reservation(request.reservation));
        if !columns.has_workspace() {
            call.keys.push(self.keys.group(&request.workspace, Whose::Workspace.column()));
        }
        self.with_groups(&mut call, &request.workspace, columns);
        call
    }

    /// `nonce` is of this call: sent again with the same one, it is answered as it was, not as a replay.
    pub(super) async fn try_hold(&self, request: &HoldRequest, nonce: u64) -> Result<HoldOutcome, CallError> {
        let columns = Columns::of(request.counters.iter());
        if plain::is_plain(request) {
            let call = self.plain_hold_call(request, &columns, nonce);
            let (word, mut reply) = self.send(&call).await?;
            if let Some(outcome) = plain_outcome(&word, &mut reply, &columns, request)? {
                return Ok(outcome);
            }
        }
        let call = self.hold_call(request, &columns, nonce);
        let (word, reply) = self.send(&call).await?;
        hold_outcome(&word, reply, &columns, request)
    }

    /// What the short script is asked.
    pub(super) fn plain_hold_call(&self, request: &HoldRequest, columns: &Columns<'_>, nonce: u64) -> Call<'static> {
        let mut call = self.of_hold(&script::PLAIN_HOLD, request, columns);
        plain::pack_plain(&mut call, request, columns, nonce);
        call
    }

    pub(super) fn hold_call(&self, request: &HoldRequest, columns: &Columns<'_>, nonce: u64) -> Call<'static> {
        let mut call = self.of_hold(&script::HOLD, request, columns);
        pack_hold(&mut call.pack, request, columns, nonce);
        call
    }
}

/// What the short script answered; `None`: it is not for it to decide.
pub(super) fn plain_outcome(
    word: &str,
    reply: &mut Reply,
    columns: &Columns<'_>,
    request: &HoldRequest,
) -> Result<Option<HoldOutcome>, CallError> {
    match word {
        "held" => plain::held(request, columns, reply).map(Some),
        "short" => Ok(Some(HoldOutcome::Short {
            balances: reply.granted_balances(&columns.places(&request.counters))?,
        })),
        "else" => Ok(None),
        other => Err(unknown_word(other)),
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
