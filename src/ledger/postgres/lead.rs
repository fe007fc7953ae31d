//! Leads among nodes: an advisory lock, held by a connection of its own. A node that dies gives it up with its connection.

use super::fault::Fault;
use super::server::Server;
use super::sql;
use crate::ledger::Lead;
use async_trait::async_trait;
use sqlx::{Connection, PgConnection};
use std::time::Duration;

/// How long the connection may take to say that it is there.
const ANSWER_SECONDS_MAX: u64 = 5;

struct Held {
    connection: PgConnection,
}

pub(super) async fn try_lead(server: &Server, what: &str) -> Result<Option<Box<dyn Lead>>, Fault> {
    let mut connection = server.connect().await?;
    let is_taken: bool = sqlx::query_scalar(sql::TRY_LEAD).bind(what).fetch_one(&mut connection).await?;
    if is_taken {
        return Ok(Some(Box::new(Held { connection })));
    }
    connection.close().await?;
    Ok(None)
}

#[async_trait]
impl Lead for Held {
    async fn is_held(&mut self) -> bool {
        let answer = tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS_MAX), self.connection.ping());
        matches!(answer.await, Ok(Ok(())))
    }
}
