//! What is answered where: a request that may be asked in, an answer with its headers out.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use tokio::sync::watch;

use super::access::{Access, Refusal};
use super::shown::Shown;
use super::{Feed, HttpError, events, metrics, page};

/// What of a page may be loaded: what comes from here.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Says what is not as new as it should be.
const STALE: HeaderName = HeaderName::from_static("serf-haproxy-stale");
const SCHEMES: &str =
    "Bearer realm=\"serf-haproxy\", Basic realm=\"serf-haproxy\", charset=\"UTF-8\"";
const PATHS: &str = "there is /, /status, /events, /metrics, /healthz and /readyz\n";

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// What answers are made from.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) shown: Shown,
    pub(super) access: watch::Receiver<Arc<Access>>,
}

type Of = State<Arc<Served>>;

/// A path, how it is answered, and what is there.
type Route = (&'static str, MethodRouter<Arc<Served>>, &'static str);

/// All paths; docs/reference/http.md has them, and a request for another is told of those that are for people and programs.
pub(super) fn routes() -> [Route; 10] {
    let slots = events::Slots::default();
    let events = async move |State(served): Of, request: Request| {
        let of_page = request.uri().query() == Some("page");
        events::answer(served, of_page, &slots)
    };
    [
        ("/", get(whole_page), "the page, for people"),
        (
            "/status",
            get(status),
            "how everything stands, at most a second old: what `serf-haproxy status --format json` prints",
        ),
        (
            "/events",
            get(events),
            "the same as server-sent events (`event: status`), one whenever anything is otherwise, four a second at most; who reads \
             slowly gets the latest. After 5 s without one a comment, `:`. With `?page` what the page itself takes: no interface",
        ),
        (
            "/metrics",
            get(all_metrics),
            "[metrics](metrics.md) in Prometheus' text format",
        ),
        (
            "/healthz",
            get(healthz),
            "whether the loop turns, which it does every two seconds",
        ),
        (
            "/readyz",
            get(readyz),
            "whether HAProxy and its file have been as they should be, once; so it stays where there is no agent, as HAProxy goes on \
             with what is known",
        ),
        (
            "/body",
            get(body),
            "of the page, what changes: no interface",
        ),
        (
            "/page.css",
            get(async || of(page::STYLE, "text/css")),
            "of the page",
        ),
        (
            "/page.js",
            get(async || of(page::SCRIPT, "text/javascript")),
            "of the page",
        ),
        (
            "/icon.svg",
            get(async || of(page::ICON, "image/svg+xml")),
            "of the page",
        ),
    ]
}

/// All paths, made of what is fed.
///
/// # Errors
/// [`HttpError::Begin`], where the page's template is none.
pub(super) fn of_feed(
    feed: Feed,
    access: watch::Receiver<Arc<Access>>,
) -> Result<Router, HttpError> {
    let shown = Shown::new(feed).map_err(|error| HttpError::Begin(io::Error::other(error)))?;
    Ok(router(Arc::new(Served { shown, access })))
}

/// Puts answers behind the rules: who may ask, and what the answer is to be taken for.
pub fn guarded(router: Router, access: watch::Receiver<Arc<Access>>) -> Router {
    router.layer(from_fn_with_state(access, guard))
}

/// All paths, behind the rules.
pub(super) fn router(served: Arc<Served>) -> Router {
    let routes = routes().into_iter();
    let access = served.access.clone();
    let router = routes
        .fold(Router::new(), |router, (path, answer, _)| {
            router.route(path, answer)
        })
        .fallback(async || (StatusCode::NOT_FOUND, of(PATHS, TEXT)))
        .with_state(served);
    guarded(router, access)
}

/// Whoever may not ask gets nothing but the reason, and nothing is kept or taken for what it is not.
async fn guard(
    State(access): State<watch::Receiver<Arc<Access>>>,
    request: Request,
    next: Next,
) -> Response {
    let access = Arc::clone(&access.borrow());
    let refusal = access.refuses(request.method(), request.uri(), request.headers());
    let mut response = match refusal {
        None => next.run(request).await,
        Some(refusal) => refuse(refusal),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refuse(refusal: Refusal) -> Response {
    let mut response = (refusal.status(), of(refusal.text(), TEXT)).into_response();
    let (name, value) = match refusal {
        Refusal::Method => (ALLOW, "GET, HEAD"),
        Refusal::Token => (WWW_AUTHENTICATE, SCHEMES),
        Refusal::Host => return response,
    };
    let headers = response.headers_mut();
    headers.insert(name, HeaderValue::from_static(value));
    response
}

/// An answer of this type.
fn of(content: impl Into<Bytes>, content_type: &'static str) -> Response {
    let body = Body::from(content.into());
    ([(CONTENT_TYPE, content_type)], body).into_response()
}

async fn whole_page(State(served): Of) -> Response {
    of(served.shown.page(), HTML)
}

async fn body(State(served): Of) -> Response {
    of(served.shown.body(), HTML)
}

async fn status(State(served): Of) -> Response {
    of(served.shown.status(), JSON)
}

async fn all_metrics(State(served): Of) -> Response {
    of(served.shown.metrics(), metrics::CONTENT_TYPE)
}

/// Whether the loop turns.
async fn healthz(State(served): Of) -> Response {
    let meters = &served.shown.feed().meters;
    let age = meters.turn_age().as_secs();
    let said = format!("the loop turned {age} s ago\n");
    let status = if meters.is_turning() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, of(said, TEXT)).into_response()
}

/// Whether HAProxy has been brought to what it is to run, once. Without an agent it goes on with what is known, which is
/// what it is there for.
async fn readyz(State(served): Of) -> Response {
    let feed = served.shown.feed();
    if !feed.meters.has_applied() {
        let said = "HAProxy and its file have not been as they should be yet\n";
        return (StatusCode::SERVICE_UNAVAILABLE, of(said, TEXT)).into_response();
    }
    let mut response = of("HAProxy was brought to what it is to run\n", TEXT);
    let agent = &feed.published.borrow().status.agent.state;
    if agent != "connected"
        && let Ok(value) = HeaderValue::try_from(format!("agent {agent}"))
    {
        response.headers_mut().insert(STALE, value);
    }
    response
}
