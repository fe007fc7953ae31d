//! Many holds of one workspace in one round trip, one behind the other: plain ones several to a call of the short script, and if any is not
//! plain, the long script for each. The server runs them in their order, and what another caller asks may come in between two calls.
//!
//! What has no answer then (a script that is not loaded, a connection that broke) or is out of the ordinary is asked again by itself, in
//! order and with its own nonce, by which a hold that was taken already is told as it was.

use super::call::{Call, CallError, Turns};
use super::gather::{self, PlainHold, TOGETHER_MAX};
use super::hold::hold_outcome;
use super::keys::Columns;
use super::plain::Answer;
use super::reply::Reply;
use super::{RedisCounters, call, failed, plain, refused, request};
use crate::counters::{CountersError, HoldOutcome, HoldRequest};
use ::redis::{ErrorKind, RedisError, ServerErrorKind};

impl RedisCounters {
    pub(super) async fn holds_together(&self, requests: &[HoldRequest]) -> Vec<Result<HoldOutcome, CountersError>> {
        // One script for all, so that nobody is asked again behind somebody who came after him: the short one hands over all that comes
        // behind one that it hands over.
        let is_whole = |wanted: &HoldRequest| wanted.rungs.iter().all(|rung| rung.cap.is_none());
        let are_plain = requests.iter().all(|wanted| plain::is_plain(wanted) && is_whole(wanted));
        let asked: Vec<_> = requests
            .iter()
            .map(|wanted| (wanted, rand::random::<u64>(), request::check(wanted)))
            .collect();
        let columns: Vec<Columns<'_>> = requests.iter().map(|wanted| Columns::of(wanted.counters.iter())).collect();
        let good = asked.iter().zip(&columns).filter(|((_, _, checked), _)| checked.is_ok());
        let mut holds = Vec::new();
        let mut calls = Vec::new();
        for ((wanted, nonce, _), columns) in good {
            match are_plain {
                true => holds.push(self.plain_hold(wanted, columns, *nonce)),
                false => calls.push(self.hold_call(wanted, columns, *nonce)),
            }
        }
        calls.extend(self.in_order(&holds));
        let answers = call::send_together(&calls, &self.link, &self.clocks, self.settings.response_timeout).await;
        let (of_plain, of_calls) = match are_plain {
            true => (one_by_one(answers, &holds), Vec::new()),
            false => (Vec::new(), answers),
        };
        let (mut of_plain, mut of_calls) = (of_plain.into_iter(), of_calls.into_iter());
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut is_away = false;
        for ((wanted, nonce, checked), columns) in asked.into_iter().zip(&columns) {
            if let Err(why) = checked {
                outcomes.push(Err(refused("hold", why)));
                continue;
            }
            let told = match of_plain.next().flatten() {
                Some(answer) => plain::outcome(wanted, columns, &answer).transpose(),
                None => of_calls
                    .next()
                    .flatten()
                    .map(|(word, reply)| hold_outcome(&word, reply, columns, wanted)),
            };
            outcomes.push(match told {
                Some(outcome) => outcome.map_err(failed("hold")),
                // A hundred time-outs, one after the other, would tell nobody more than the first.
                _ if is_away => Err(refused("hold", "the store was away for one that was asked together with it")),
                _ => {
                    let outcome = self.try_hold(wanted, nonce).await;
                    is_away = matches!(&outcome, Err(CallError::Redis(error)) if is_away_after(error));
                    outcome.map_err(failed("hold"))
                }
            });
        }
        outcomes
    }

    /// Calls of holds of which none is decided before one that came before it, though the short script may not decide that one.
    fn in_order<'a>(&self, holds: &'a [PlainHold]) -> Vec<Call<'a>> {
        let mut calls: Vec<Call<'a>> = holds.chunks(TOGETHER_MAX).map(gather::together).collect();
        let several = calls.len() > 1;
        let order = rand::random::<u64>();
        for call in &mut calls {
            call.turns = if several { Turns::OfCalls } else { Turns::InOrder };
            if several {
                call.keys.push(self.keys.order(call.tag, order));
            }
        }
        calls
    }
}

/// Whether who comes next would wait as long, for nothing. Not while a slot moves: what is refused then depends on the keys of each.
fn is_away_after(error: &RedisError) -> bool {
    let of_all = [
        ServerErrorKind::BusyLoading,
        ServerErrorKind::ClusterDown,
        ServerErrorKind::MasterDown,
    ];
    let refuses_all = of_all.iter().any(|kind| error.kind() == ErrorKind::Server(*kind));
    error.is_timeout() || error.is_io_error() || refuses_all
}

/// What calls of plain holds answered to each of those.
fn one_by_one(answers: Vec<Option<(String, Reply)>>, holds: &[PlainHold]) -> Vec<Option<Answer>> {
    let calls = holds.chunks(TOGETHER_MAX).zip(answers);
    let each = calls.flat_map(|(holds, answer)| {
        let mut answers = answer.and_then(|(word, reply)| gather::answers(&word, reply).ok());
        holds.iter().map(move |hold| answers.as_mut()?.next(hold.balances_bytes).ok())
    });
    each.collect()
}
