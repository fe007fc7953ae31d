//! Names into addresses, each time that one is dialled: only those that may be dialled come out. So a name that led elsewhere when it was
//! registered, or at the try before, is judged by where it leads now, and what is judged is what the connection is made to.

use crate::decision::address::{self, Range};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

/// The most addresses of a name that are looked at.
const ADDRESSES_MAX: usize = 16;

/// What resolves names: the system, or a test.
pub trait Names: Send + Sync {
    fn resolve(&self, name: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
}

/// The resolver of this machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemNames;

impl Names for SystemNames {
    fn resolve(&self, name: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        let name = name.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Which addresses a connection may be made to.
#[derive(Clone, Debug)]
pub(super) struct Doors {
    pub(super) allowed: Arc<[Range]>,
    /// Without TLS only what an operator has opened is dialled.
    pub(super) is_tls: bool,
}

impl Doors {
    /// For those to whom nothing was opened.
    pub(super) fn closed(&self) -> Self {
        Self {
            allowed: Arc::new([]),
            ..self.clone()
        }
    }

    pub(super) fn check(&self, ip: IpAddr) -> Result<(), Refused> {
        if !self.is_tls && !address::is_in(ip, &self.allowed) {
            return Err(Refused("an address that may only be reached by https"));
        }
        address::check_dialled(ip, &self.allowed).map_err(|why| Refused(why.0))
    }
}

/// None of the addresses of a name may be dialled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refused(pub(super) &'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its host leads to {}", self.0)
    }
}

impl std::error::Error for Refused {}

/// The resolver of one HTTP client.
pub(super) struct Dial {
    pub(super) names: Arc<dyn Names>,
    pub(super) doors: Doors,
}

impl Resolve for Dial {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolving, doors) = (self.names.resolve(name.as_str()), self.doors.clone());
        Box::pin(async move {
            let mut refused = None;
            let mut open = Vec::new();
            for ip in resolving.await?.into_iter().take(ADDRESSES_MAX) {
                match doors.check(ip) {
                    // The port is the URL's.
                    Ok(()) => open.push(SocketAddr::new(ip, 0)),
                    Err(why) => refused = Some(why),
                }
            }
            match refused {
                Some(why) if open.is_empty() => Err(why.into()),
                _ => Ok(Box::new(open.into_iter()) as Addrs),
            }
        })
    }
}
