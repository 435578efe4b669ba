//! Requests in, answers out; what the application is told to be like is kept between them.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    sync::{Arc, Mutex, Once, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{ConnectInfo, State, connect_info::Connected},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::IncomingStream,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::session::{COOKIE, Sessions, id_of};

/// No answer waits longer.
const DELAY_MAX: u64 = 60_000;

/// The address that a connection came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local(Option<SocketAddr>);

impl Connected<IncomingStream<'_, TcpListener>> for Local {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self(stream.io().local_addr().ok())
    }
}

/// The application.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    host: String,
    tag: String,
    greeted: Once,
    state: Mutex<Mutable>,
}

#[derive(Debug, Default)]
struct Mutable {
    delay: Duration,
    error_percent: u8,
    sessions: Sessions,
}

#[derive(Debug, Serialize)]
struct Greeting<'a> {
    hello: &'static str,
    host: &'a str,
    address: Option<String>,
    tag: &'a str,
    session: String,
    views: u64,
}

/// `{"ms": 250}`: how long every answer waits, 0 to 60000.
#[derive(Debug, Deserialize)]
struct Delay {
    ms: u64,
}

/// `{"percent": 10}`: how many of the answers are errors (500), 0 to 100.
#[derive(Debug, Deserialize)]
struct Errors {
    percent: u8,
}

impl App {
    pub(crate) fn new(host: String, tag: String) -> Self {
        Self(Arc::new(Shared {
            host,
            tag,
            greeted: Once::new(),
            state: Mutex::default(),
        }))
    }

    /// `GET /`, `GET /health`, `POST /delay`, `POST /errors`.
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/", get(greet))
            .route("/health", get(|| async { "ok\n" }))
            .route("/delay", post(delay))
            .route("/errors", post(errors))
            .with_state(self)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Mutable) -> T) -> T {
        // Nothing is left half done where it panicked.
        work(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn greet(
    State(app): State<App>,
    ConnectInfo(local): ConnectInfo<Local>,
    headers: HeaderMap,
) -> Response {
    let given = headers
        .get(header::COOKIE)
        .and_then(|cookies| id_of(cookies.to_str().ok()?));
    let (delay, fails) =
        app.with(|state| (state.delay, fastrand::u8(0..100) < state.error_percent));
    tokio::time::sleep(delay).await;
    if fails {
        return (StatusCode::INTERNAL_SERVER_ERROR, "told to fail\n").into_response();
    }
    let (id, views) = app.with(|state| state.sessions.view(given, fastrand::u64(..)));
    let session = format!("{id:016x}");
    let cookie = format!("{COOKIE}={session}; Path=/; HttpOnly; SameSite=Lax");
    let greeting = Greeting {
        hello: "world",
        host: &app.0.host,
        address: local.0.map(|addr| addr.ip().to_string()),
        tag: &app.0.tag,
        session,
        views,
    };
    app.0.greeted.call_once(|| {
        // The log tells how long after the start that was; nothing depends on it.
        writeln!(io::stderr(), "first request served").unwrap_or_default();
    });
    ([(header::SET_COOKIE, cookie)], Json(greeting)).into_response()
}

async fn delay(State(app): State<App>, Json(delay): Json<Delay>) -> Response {
    if delay.ms > DELAY_MAX {
        return refused("ms is 0 to 60000\n");
    }
    app.with(|state| state.delay = Duration::from_millis(delay.ms));
    StatusCode::NO_CONTENT.into_response()
}

async fn errors(State(app): State<App>, Json(errors): Json<Errors>) -> Response {
    if errors.percent > 100 {
        return refused("percent is 0 to 100\n");
    }
    app.with(|state| state.error_percent = errors.percent);
    StatusCode::NO_CONTENT.into_response()
}

fn refused(why: &'static str) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, why).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::{
        body::{Body, to_bytes},
        extract::connect_info::MockConnectInfo,
        http::Request,
    };
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;

    fn router() -> Router {
        let local = Local(Some(SocketAddr::from(([10, 0, 0, 7], 3000))));
        App::new("web-1".into(), "v1".into())
            .router()
            .layer(MockConnectInfo(local))
    }

    async fn get(router: &Router, cookie: &str) -> (StatusCode, Value) {
        let request = Request::get("/").header("cookie", cookie);
        let request = request.body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn post(router: &Router, path: &str, body: &'static str) -> StatusCode {
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.body(Body::from(body)).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn a_session_is_counted_where_it_began() {
        let router = router();
        let (status, first) = get(&router, "").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(first["host"], "web-1");
        assert_eq!(first["address"], "10.0.0.7");
        assert_eq!((&first["tag"], &first["views"]), (&"v1".into(), &1.into()));
        let cookie = format!("{COOKIE}={}", first["session"].as_str().unwrap());
        let (_, second) = get(&router, &cookie).await;
        assert_eq!(second["session"], first["session"]);
        assert_eq!(second["views"], 2);
    }

    #[tokio::test]
    async fn it_is_as_slow_and_as_faulty_as_it_is_told_to_be() {
        let router = router();
        assert_eq!(post(&router, "/delay", r#"{"ms": 50}"#).await, 204);
        let started = Instant::now();
        assert_eq!(get(&router, "").await.0, StatusCode::OK);
        assert!(started.elapsed() >= Duration::from_millis(50));
        assert_eq!(post(&router, "/errors", r#"{"percent": 100}"#).await, 204);
        assert_eq!(get(&router, "").await.0, 500);
        assert_eq!(post(&router, "/errors", r#"{"percent": 101}"#).await, 422);
        assert_eq!(post(&router, "/delay", r#"{"ms": 60001}"#).await, 422);
    }
}
