//! Ways into nodes to which slots of a cluster move. Each has a connection of its own, since a cluster's client knows only nodes that have slots
//! already, and lets a command in by another one that counts for whatever comes next on a connection that all share.

use super::link::{Node, node_of, unreadable};
use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, RedisError, RedisResult, TlsCertificates, Value};
use std::collections::HashMap;
use tokio::sync::Mutex;

/// To be opened when first needed.
pub(super) struct Doors {
    /// Of any node; the others differ in their addresses.
    pub(super) node: ConnectionInfo,
    pub(super) authorities: Option<TlsCertificates>,
    pub(super) config: AsyncConnectionConfig,
    pub(super) open: Mutex<HashMap<Node, MultiplexedConnection>>,
}

impl Doors {
    /// Sends a command to where its slot moves, as the node says that has nothing of what it names any more. It is written in one piece with
    /// what lets it in.
    pub(super) async fn send(&self, command: &Cmd, refused: RedisError) -> RedisResult<Value> {
        let Some(node) = refused.redirect_node().and_then(|(address, _)| node_of(address)) else {
            return Err(refused);
        };
        let mut together = ::redis::pipe();
        together.cmd("ASKING").add_command(command.clone());
        let mut connection = self.connection(&node).await?;
        let answers = connection.req_packed_commands(&together, 1, 1).await;
        // Whatever happened to it, the next one opens another.
        if answers.is_err() {
            self.open.lock().await.remove(&node);
        }
        let [answer] = <[Value; 1]>::try_from(answers?).map_err(|_| unreadable("the answer to one command"))?;
        Ok(answer)
    }

    /// Slots move to one node at a time, as a rule: who wants to another one waits until this one's connection is there.
    async fn connection(&self, node: &Node) -> RedisResult<MultiplexedConnection> {
        let mut open = self.open.lock().await;
        if let Some(connection) = open.get(node) {
            return Ok(connection.clone());
        }
        let (host, port) = node.clone();
        let address = match self.node.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host, port),
        };
        let info = self.node.clone().set_addr(address);
        let client = match &self.authorities {
            Some(authorities) => Client::build_with_tls(info, authorities.clone())?,
            None => Client::open(info)?,
        };
        let connection = client.get_multiplexed_async_connection_with_config(&self.config).await?;
        open.insert(node.clone(), connection.clone());
        Ok(connection)
    }
}
