//! What becomes of a body that nobody reads to its end: the connection closes with the answer. actix would go on reading a chunked one,
//! however long, to keep the connection; so a refused gigabyte, or a drip without end, would still be taken in.
//!
//! The request's body is shared between the handler and the answer. As long as the answer holds it, actix sees that it is wanted and not
//! read, says `Connection: close`, and hangs up once the answer is sent.

use actix_http::error::PayloadError;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse};
use actix_web::web::Bytes;
use actix_web::{Error, HttpMessage};
use futures_util::Stream;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A request's body, and whether its end was reached.
#[derive(Clone)]
struct Shared(Rc<RefCell<(Payload, bool)>>);

impl Stream for Shared {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let (payload, ended) = &mut *self.0.borrow_mut();
        let polled = Pin::new(payload).poll_next(context);
        *ended |= matches!(polled, Poll::Ready(None));
        polled
    }
}

/// An answer that holds the body of its request.
struct Holding {
    body: BoxBody,
    _unread: Shared,
}

impl MessageBody for Holding {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

/// The middleware.
pub(super) fn close_when_unread<S, B>(
    mut request: ServiceRequest,
    next: &S,
) -> impl Future<Output = Result<ServiceResponse<BoxBody>, Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    let shared = match request.take_payload() {
        Payload::None => None,
        payload => {
            let shared = Shared(Rc::new(RefCell::new((payload, false))));
            request.set_payload(Payload::Stream {
                payload: Box::pin(shared.clone()),
            });
            Some(shared)
        }
    };
    let answered = next.call(request);
    async move {
        let response = answered.await?.map_into_boxed_body();
        Ok(match shared {
            Some(unread) if !unread.0.borrow().1 => response.map_body(|_, body| BoxBody::new(Holding { body, _unread: unread })),
            _ => response,
        })
    }
}
