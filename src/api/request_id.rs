//! Every answer bears `X-Request-Id`: the caller's own, if it is valid, else one that is made here. Handlers and problems read it from
//! the request; it is also what an operator searches the logs for.

use crate::clock::Clock;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{Error, HttpMessage, HttpRequest};
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Longer ones are replaced.
pub const REQUEST_ID_CHARS_MAX: usize = 255;

/// The id under which a call is known, in the request's extensions.
#[derive(Clone)]
struct Stamp(HeaderValue);

/// The id of a call; `None` where the middleware is not mounted.
pub fn of(request: &HttpRequest) -> Option<String> {
    let extensions = request.extensions();
    let Stamp(value) = extensions.get::<Stamp>()?;
    value.to_str().ok().map(str::to_owned)
}

/// The caller's id, unless it is absent, doubled, too long or not all visible ASCII.
fn given(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut all = headers.get_all(HEADER);
    let (value, None) = (all.next()?, all.next()) else { return None };
    let valid = (1..=REQUEST_ID_CHARS_MAX).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    valid.then_some(value)
}

fn made(clock: &dyn Clock) -> HeaderValue {
    const PREFIX: &[u8] = b"req_";
    let mut text = [0u8; PREFIX.len() + uuid::fmt::Simple::LENGTH];
    text[..PREFIX.len()].copy_from_slice(PREFIX);
    clock.uuid().simple().encode_lower(&mut text[PREFIX.len()..]);
    HeaderValue::from_bytes(&text).expect("a prefix and hex digits are visible ASCII")
}

/// The middleware; mount it outermost, so that refusals of the others bear the id too.
#[derive(Clone)]
pub struct RequestIds {
    clock: Arc<dyn Clock>,
}

impl RequestIds {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }
}

impl<S, B> Transform<S, ServiceRequest> for RequestIds
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: 'static,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Transform = Stamping<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        let clock = self.clock.clone();
        ready(Ok(Stamping { inner, clock }))
    }
}

pub struct Stamping<S> {
    inner: S,
    clock: Arc<dyn Clock>,
}

impl<S, B> Service<ServiceRequest> for Stamping<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: 'static,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>>>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let value = given(request.headers()).cloned().unwrap_or_else(|| made(&*self.clock));
        request.extensions_mut().insert(Stamp(value.clone()));
        let answered = self.inner.call(request);
        Box::pin(async move {
            let mut response = answered.await?;
            response.headers_mut().insert(HEADER, value);
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MovableClock;
    use crate::decision::time::Timestamp;
    use actix_web::{App, HttpResponse, test, web};

    async fn echoed(ids: &[&[u8]]) -> (String, String) {
        let clock = Arc::new(MovableClock::at(Timestamp::from_micros(1_767_225_600_000_000)));
        let show = |request: HttpRequest| async move { HttpResponse::Ok().body(of(&request).unwrap_or_default()) };
        let app = test::init_service(App::new().wrap(RequestIds::new(clock)).default_service(web::to(show))).await;
        let mut request = test::TestRequest::get();
        for id in ids {
            request = request.append_header((HEADER, HeaderValue::from_bytes(id).expect("a header")));
        }
        let response = test::call_service(&app, request.to_request()).await;
        let header = response
            .headers()
            .get(HEADER)
            .expect("every answer has one")
            .to_str()
            .expect("ASCII")
            .to_owned();
        (header, String::from_utf8(test::read_body(response).await.to_vec()).expect("text"))
    }

    #[actix_web::test]
    async fn a_valid_id_is_taken_over() {
        for id in ["7f3c", "a/b:c~!", &"x".repeat(REQUEST_ID_CHARS_MAX)] {
            assert_eq!(echoed(&[id.as_bytes()]).await, (id.to_owned(), id.to_owned()));
        }
    }

    #[actix_web::test]
    async fn anything_else_is_replaced_by_a_new_one() {
        let long = "x".repeat(REQUEST_ID_CHARS_MAX + 1);
        let bad: [&[&[u8]]; 6] = [&[], &[b""], &[b"with space"], &[b"a\tb"], &[b"\xc3\xa4"], &[b"one", b"two"]];
        for ids in bad.into_iter().chain([&[long.as_bytes()] as &[&[u8]]]) {
            let (header, seen) = echoed(ids).await;
            assert_eq!(header, seen);
            assert!(header.starts_with("req_") && header.len() == 36, "{header}");
        }
    }
}
