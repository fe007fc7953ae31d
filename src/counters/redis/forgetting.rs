//! Forgetting what was copied from the ledger, for the day on which the ledger itself was set back: by a backup, or by a standby that had not
//! followed to the end. Its rows then bear lower versions than those that are here, which are thrown away by rights at any other time.

use super::RedisCounters;
use super::call::{Call, CallError, unknown_word};
use super::script;
use crate::decision::id::{WorkspaceId, slot};
use crate::decision::time::Timestamp;
use futures_util::stream::TryStreamExt;

/// How many groups are asked about at once.
const AT_ONCE: usize = 64;

impl RedisCounters {
    pub(super) async fn try_forget_rows(&self, now: Timestamp) -> Result<u64, CallError> {
        let forgotten = self.groups().map_ok(|(workspace, column)| self.forget(workspace, column, now));
        let forgotten = forgotten.try_buffer_unordered(AT_ONCE);
        forgotten.try_fold(0, async |groups, ()| Ok(groups + 1)).await
    }

    async fn forget(&self, workspace: WorkspaceId, column: String, now: Timestamp) -> Result<(), CallError> {
        let number = slot(&workspace);
        let mut call = Call::new(&script::FORGET, number, now);
        call.keys = vec![self.keys.index(call.tag), self.keys.group(&workspace, &column)];
        call.pack.text(workspace.as_str().as_bytes()).text(column.as_bytes());
        let (word, _) = self.send(&call).await?;
        match word.as_str() {
            "forgotten" => Ok(()),
            other => Err(unknown_word(other)),
        }
    }
}
