//! Forgetting what was copied from the ledger, for the day on which the ledger itself was set back: by a backup, or by a standby that had not
//! followed to the end. Its rows then bear lower versions than those that are here, which are thrown away by rights at any other time.
//!
//! Groups are found by the names of their keys, since the ledger may not know any more of whom some of them are.

use super::RedisCounters;
use super::call::{Call, CallError, unknown_word};
use super::keys::group_named;
use super::reply::Unexpected;
use super::script;
use crate::decision::id::{WorkspaceId, slot};
use crate::decision::time::Timestamp;
use futures_util::future::join_all;

/// How many groups are asked about at once.
const AT_ONCE: usize = 64;

impl RedisCounters {
    pub(super) async fn try_forget_rows(&self, now: Timestamp) -> Result<u64, CallError> {
        let mut groups = 0;
        let pattern = self.keys.groups_pattern();
        for node in self.link.primaries().await? {
            let mut cursor = 0;
            loop {
                let (next, names) = self.link.scan(node.as_ref(), cursor, &pattern).await?;
                let mut answers: Vec<Result<(), CallError>> = Vec::new();
                for some in names.chunks(AT_ONCE) {
                    let named: Vec<_> = some.iter().filter_map(|name| group_named(name)).collect();
                    answers.extend(join_all(named.into_iter().map(|(workspace, column)| self.forget(workspace, column, now))).await);
                }
                groups += answers.len() as u64;
                answers.into_iter().collect::<Result<(), _>>()?;
                if next == 0 {
                    break;
                }
                cursor = next;
            }
        }
        Ok(groups)
    }

    async fn forget(&self, workspace: &str, column: &str, now: Timestamp) -> Result<(), CallError> {
        let workspace = WorkspaceId::parse(workspace).map_err(|_| Unexpected::of("the id of a workspace", workspace))?;
        let number = slot(&workspace);
        let mut call = Call::new(&script::FORGET, number, now);
        call.keys = vec![self.keys.index(call.tag), self.keys.group(&workspace, column)];
        call.pack.text(workspace.as_str().as_bytes()).text(column.as_bytes());
        let (word, _) = self.send(&call).await?;
        match word.as_str() {
            "forgotten" => Ok(()),
            other => Err(unknown_word(other)),
        }
    }
}
