//! A walk over all groups of counters, by the names of their keys: the ledger may not know of some, if it was set back.

use super::RedisCounters;
use super::call::CallError;
use super::keys::{counter_named, group_named};
use super::reply::Unexpected;
use crate::counters::{Known, KnownPlace};
use crate::decision::counter::{Counter, Whose};
use crate::decision::id::{UserId, WorkspaceId};

impl RedisCounters {
    /// Some groups, each by its workspace and its column, and where the next ones are.
    pub(super) async fn groups_from(&self, place: KnownPlace) -> Result<(Vec<(WorkspaceId, String)>, Option<KnownPlace>), CallError> {
        let mut servers = match place.servers {
            Some(servers) => servers,
            None => self.link.all_primaries().await?,
        };
        let Some(server) = servers.first() else {
            return Ok((Vec::new(), None));
        };
        let (cursor, keys) = self.link.scan(server.as_ref(), place.cursor, &self.keys.groups_pattern()).await?;
        let named = keys.iter().filter_map(|key| group_named(key)).map(|(workspace, column)| {
            let workspace = WorkspaceId::parse(workspace).map_err(|_| Unexpected::of("the id of a workspace", workspace))?;
            Ok((workspace, column.to_owned()))
        });
        if cursor == 0 {
            servers.remove(0);
        }
        let next = (!servers.is_empty()).then_some(KnownPlace {
            servers: Some(servers),
            cursor,
        });
        Ok((named.collect::<Result<_, CallError>>()?, next))
    }

    pub(super) async fn try_known(&self, place: KnownPlace) -> Result<Known, CallError> {
        let (named, next) = self.groups_from(place).await?;
        let mut groups = Vec::with_capacity(named.len());
        for (workspace, column) in named {
            let whose = match column.as_str() {
                "*" => Whose::Workspace,
                "" => Whose::User(None),
                user => Whose::User(Some(UserId::parse(user).map_err(|_| Unexpected::of("the id of a user", user))?)),
            };
            let mut names = ::redis::cmd("HKEYS");
            names.arg(self.keys.group(&workspace, &column));
            let names: Vec<String> =
                ::redis::from_redis_value(self.link.send_after_moves(&names).await?).map_err(::redis::RedisError::from)?;
            let counters: Vec<Counter> = names.iter().filter_map(|name| counter_named(&whose, name)).collect();
            groups.push((workspace, whose, counters));
        }
        Ok(Known { groups, next })
    }
}
