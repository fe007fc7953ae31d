//! Calls of a run, as `hold_child_v3.lua` takes them and answers.

use super::call::{CallError, unknown_word};
use super::keys;
use super::pack::Pack;
use super::request::{on_expiry, pack_cap};
use super::{RedisCounters, script};
use crate::counters::run::{ChildOutcome, ChildRequest, Unfit};
use crate::decision::counter::Whose;
use crate::decision::id::{ReservationId, slot};
use crate::decision::standing::End;

impl RedisCounters {
    /// `nonce` is of this call: sent again with the same one, it is answered as it was, not as a replay.
    pub(super) async fn try_hold_child(&self, request: &ChildRequest, nonce: u64) -> Result<ChildOutcome, CallError> {
        // One of another workspace lies under other keys.
        let parent = Some(request.parent).filter(|parent| parent.slot() == slot(&request.workspace));
        let mut call = self.of_workspace(&script::HOLD_CHILD, &request.workspace, request.now);
        call.keys.push(self.keys.reservation(request.reservation));
        call.keys.push(self.keys.reservation(parent.unwrap_or(request.reservation)));
        call.keys.push(self.keys.group(&request.workspace, Whose::Workspace.column()));
        pack_child(&mut call.pack, request, parent, nonce);
        let (word, mut reply) = self.send(&call).await?;
        Ok(match word.as_str() {
            "held" => ChildOutcome::Held(Box::new(reply.record(request.reservation)?)),
            "replayed" => ChildOutcome::Replayed(Box::new(reply.record(request.reservation)?)),
            "mismatch" => ChildOutcome::Mismatch,
            "ended" => ChildOutcome::Ended(reply.end()?.unwrap_or(End::Expired)),
            "no_parent" => ChildOutcome::NoParent,
            "parent_ended" => ChildOutcome::ParentEnded(reply.end()?.unwrap_or(End::Expired)),
            "child" => ChildOutcome::Unfit(Unfit::Child),
            "reported" => ChildOutcome::Unfit(Unfit::Reported),
            "open" => ChildOutcome::TooManyOpen,
            "exhausted" => ChildOutcome::Exhausted(Box::new(reply.record(request.parent)?)),
            "unready" => ChildOutcome::Unready(vec![Whose::Workspace]),
            other => return Err(unknown_word(other)),
        })
    }
}

fn pack_child(pack: &mut Pack, request: &ChildRequest, parent: Option<ReservationId>, nonce: u64) {
    pack.text(request.workspace.as_str().as_bytes());
    pack.text(keys::hex(request.reservation).as_bytes());
    pack.text(&request.fingerprint.to_be_bytes());
    pack.int(on_expiry(request.charge_on_expiry, request.tell_on_expiry));
    match parent {
        Some(parent) => pack.text(keys::hex(parent).as_bytes()),
        None => pack.no(),
    };
    pack.moment(request.parent_held_at);
    match request.calls_max {
        Some(most) => pack.int(most),
        None => pack.no(),
    };
    pack.int(i64::from(request.open_max))
        .text(&nonce.to_be_bytes())
        .text(&request.context);
    pack.list(|list| {
        for rung in &request.rungs {
            list.list(|list| {
                let needs = rung.needs;
                list.int(needs.tokens).int(needs.usd).int(needs.requests).int(needs.credits);
                list.int(rung.output).moment(rung.expires_at);
                pack_cap(list, rung.cap.as_ref());
            });
        }
    });
}
