//! Forgetting what was copied from the ledger, for the day on which the ledger itself was set back: by a backup, or by a standby that had not
//! followed to the end. Its rows then bear lower versions than those that are here, which are thrown away by rights at any other time.

use super::RedisCounters;
use super::call::{Call, CallError, unknown_word};
use super::script;
use crate::counters::KnownPlace;
use crate::decision::id::{WorkspaceId, slot};
use crate::decision::time::Timestamp;
use futures_util::future::join_all;

/// How many groups are asked about at once.
const AT_ONCE: usize = 64;

impl RedisCounters {
    pub(super) async fn try_forget_rows(&self, now: Timestamp) -> Result<u64, CallError> {
        let mut groups = 0;
        let mut place = Some(KnownPlace::default());
        while let Some(some) = place {
            let (named, next) = self.groups_from(some).await?;
            let mut answers: Vec<Result<(), CallError>> = Vec::new();
            for some in named.chunks(AT_ONCE) {
                answers.extend(join_all(some.iter().map(|(workspace, column)| self.forget(workspace, column, now))).await);
            }
            groups += answers.len() as u64;
            answers.into_iter().collect::<Result<(), _>>()?;
            place = next;
        }
        Ok(groups)
    }

    async fn forget(&self, workspace: &WorkspaceId, column: &str, now: Timestamp) -> Result<(), CallError> {
        let number = slot(workspace);
        let mut call = Call::new(&script::FORGET, number, now);
        call.keys = vec![self.keys.index(call.tag), self.keys.group(workspace, column)];
        call.pack.text(workspace.as_str().as_bytes()).text(column.as_bytes());
        let (word, _) = self.send(&call).await?;
        match word.as_str() {
            "forgotten" => Ok(()),
            other => Err(unknown_word(other)),
        }
    }
}
