//! A walk over all groups of counters, by the names of their keys: the ledger may not know of some, if it was set back.

use super::call::CallError;
use super::keys::{counter_named, group_named};
use super::link::Node;
use super::reply::Unexpected;
use super::{RedisCounters, failed};
use crate::counters::{CountersError, KnownGroup};
use crate::decision::counter::Whose;
use crate::decision::id::{UserId, WorkspaceId};
use futures_util::stream::{self, Stream, TryStreamExt};
use std::collections::VecDeque;

/// How many groups are looked at at once.
const AT_ONCE: usize = 16;

/// What is left of a walk: the servers, of which none is left out when another takes its place, and where it is at the first one.
struct Left {
    servers: VecDeque<Option<Node>>,
    cursor: u64,
}

impl RedisCounters {
    /// All groups, each by its workspace and its column.
    pub(super) fn groups(&self) -> impl Stream<Item = Result<(WorkspaceId, String), CallError>> + Send + '_ {
        let pages = stream::try_unfold(None, async |left: Option<Left>| {
            let mut left = match left {
                Some(left) => left,
                None => Left {
                    servers: self.link.primaries().await?.into(),
                    cursor: 0,
                },
            };
            let Some(server) = left.servers.front() else {
                return Ok::<_, CallError>(None);
            };
            let (cursor, keys) = self.link.scan(server.as_ref(), left.cursor, &self.keys.groups_pattern()).await?;
            if cursor == 0 {
                left.servers.pop_front();
            }
            left.cursor = cursor;
            Ok(Some((stream::iter(keys.into_iter().filter_map(named)), Some(left))))
        });
        pages.try_flatten()
    }

    pub(super) fn known_groups(&self) -> impl Stream<Item = Result<KnownGroup, CountersError>> + Send + '_ {
        let known = self.groups().map_ok(|(workspace, column)| self.known_group(workspace, column));
        known.try_buffered(AT_ONCE).map_err(failed("name the counters that it knows"))
    }

    async fn known_group(&self, workspace: WorkspaceId, column: String) -> Result<KnownGroup, CallError> {
        let whose = match column.as_str() {
            "*" => Whose::Workspace,
            "" => Whose::User(None),
            user => Whose::User(Some(UserId::parse(user).map_err(|_| Unexpected::of("the id of a user", user))?)),
        };
        let mut names = ::redis::cmd("HKEYS");
        names.arg(self.keys.group(&workspace, &column));
        let names: Vec<String> = ::redis::from_redis_value(self.link.send_after_moves(&names).await?).map_err(::redis::RedisError::from)?;
        let counters = names.iter().filter_map(|name| counter_named(&whose, name)).collect();
        Ok(KnownGroup {
            workspace,
            whose,
            counters,
        })
    }
}

/// The workspace and the column of a group's key.
fn named(key: String) -> Option<Result<(WorkspaceId, String), CallError>> {
    let (workspace, column) = group_named(&key)?;
    let group = WorkspaceId::parse(workspace).map(|workspace| (workspace, column.to_owned()));
    Some(group.map_err(|_| Unexpected::of("the id of a workspace", workspace).into()))
}
