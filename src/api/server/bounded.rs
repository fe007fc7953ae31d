//! A connection on which a request comes to its answer in time, or ends.
//!
//! actix bounds the head of the first request of a connection, and the time between requests; not the head of a later one, which could
//! drip for ever. Here the clock starts with the first byte that is read after an answer and stops with the first byte that is written, so
//! it bounds every request whole, on HTTP/2 too. It costs a look at the clock for each request, and one timer for each connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// A connection, and since when it owes its caller an answer.
pub(super) struct Bounded {
    io: TcpStream,
    within: Duration,
    asked_at: Option<Instant>,
    /// When to look again whether it has taken too long.
    look: Pin<Box<Sleep>>,
}

impl Bounded {
    pub(super) fn new(io: TcpStream, within: Duration) -> Self {
        Self {
            io,
            within,
            asked_at: None,
            look: Box::pin(sleep_until(Instant::now() + within)),
        }
    }

    /// Ready once a request has taken too long; before that it has the task woken when that may be so.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.look.as_mut().poll(context));
            let now = Instant::now();
            let next = self.asked_at.unwrap_or(now) + self.within;
            if next <= now {
                return Poll::Ready(());
            }
            self.look.as_mut().reset(next);
        }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, into);
        if into.filled().len() > before {
            self.asked_at.get_or_insert_with(Instant::now);
        }
        if read.is_pending() && self.poll_late(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl Bounded {
    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.asked_at = None;
        }
        written
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, parts);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
