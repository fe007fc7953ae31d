//! What a shard says of its counters: balances, with what purses add to them, and when holds that expire make room.

use super::group::is_sticky;
use super::hold::Remembered;
use super::shard::Shard;
use crate::counters::FREE_AT_HOLDS_MAX;
use crate::decision::counter::{Balance, Counter, Whose};
use crate::decision::grant::PurseUse;
use crate::decision::id::WorkspaceId;
use crate::decision::time::Timestamp;

impl Shard {
    pub(super) fn balances(
        &mut self,
        workspace: &WorkspaceId,
        counters: &[Counter],
        purses: &[PurseUse],
        named_since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Balance>, Vec<Whose>> {
        self.expire(workspace, now);
        self.read(workspace, counters, purses, named_since, now)
    }

    /// The balances as they stand, or the groups that do not know all of them.
    pub(super) fn read(
        &mut self,
        workspace: &WorkspaceId,
        counters: &[Counter],
        purses: &[PurseUse],
        named_since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Balance>, Vec<Whose>> {
        let mut groups = self.workspaces.get_mut(workspace).map(|workspace| &mut workspace.groups);
        let mut balances = Vec::with_capacity(counters.len());
        let mut unready: Vec<Whose> = Vec::new();
        for counter in counters {
            let group = groups.as_mut().and_then(|groups| groups.get_mut(&counter.whose));
            let known = group.and_then(|group| {
                group.touch(now);
                group.balance(counter, named_since, now)
            });
            match known {
                Some(balance) => balances.push(balance),
                None if unready.contains(&counter.whose) => {}
                None => unready.push(counter.whose.clone()),
            }
        }
        let own = || unready.contains(&Whose::Workspace);
        if !purses.is_empty() && !own() && self.raise(workspace, counters, purses, &mut balances, now).is_none() {
            unready.push(Whose::Workspace);
        }
        if unready.is_empty() { Ok(balances) } else { Err(unready) }
    }

    /// Adds what purses have left to the balances that they raise, as far as these are known. `None`: one of them is not known.
    fn raise(
        &mut self,
        workspace: &WorkspaceId,
        counters: &[Counter],
        purses: &[PurseUse],
        balances: &mut [Balance],
        now: Timestamp,
    ) -> Option<()> {
        let workspace = self.workspaces.get_mut(workspace)?;
        workspace.groups.get_mut(&Whose::Workspace)?.touch(now);
        for used in purses {
            let left = workspace.left(used, &counters[used.counter], now)?;
            if let Some(balance) = balances.get_mut(used.counter) {
                balance.granted = workspace.paid(&counters[used.counter]).saturating_add(left);
            }
        }
        Some(())
    }

    pub(super) fn free_at(
        &mut self,
        workspace: &WorkspaceId,
        counter: &Counter,
        ceiling: i64,
        room: i64,
        now: Timestamp,
    ) -> Option<Timestamp> {
        self.expire(workspace, now);
        let workspace = self.workspaces.get(workspace)?;
        let balance = workspace.groups.get(&counter.whose)?.balance(counter, Timestamp::MIN, now)?;
        let mut excess = i128::from(balance.spent) + i128::from(balance.held) + i128::from(room) - i128::from(ceiling);
        if excess <= 0 {
            return Some(now);
        }
        if is_sticky(counter) {
            return None;
        }
        let mut looked_until = None;
        for (place, (at, id)) in workspace.expiring.iter().enumerate() {
            if place == FREE_AT_HOLDS_MAX {
                return looked_until;
            }
            looked_until = Some(*at);
            let Some(Remembered::Hold(hold)) = self.records.get(id) else {
                continue;
            };
            if hold.counters.iter().any(|(held_on, _)| **held_on == *counter) {
                excess -= i128::from(self.freed_by_expiry(hold).of(counter.unit));
            }
            if excess <= 0 {
                return Some(*at);
            }
        }
        None
    }
}
