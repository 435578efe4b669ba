//! docs/reference/metrics.md and http.md, from what is really answered.

use std::path::Path;

use axum::http::header::{ALLOW, CONTENT_TYPE, WWW_AUTHENTICATE};

use super::super::answers::routes;
use super::*;

/// The table of docs/reference/metrics.md.
#[tokio::test]
async fn every_metric_is_documented_and_nothing_else() {
    let (_, _, text) = Stage::new(full()).get("/metrics").await;
    let mut rows: Vec<[String; 4]> = Vec::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        let words = (words.next(), words.next(), words.next(), words.next());
        match words {
            (Some("#"), Some("HELP"), Some(name), Some(help)) => {
                rows.push([name, "", "", help.trim_end_matches('.')].map(str::to_owned));
            }
            (Some("#"), Some("TYPE"), Some(_), Some(kind)) => {
                rows.last_mut().unwrap()[1] = kind.to_owned()
            }
            _ => {
                let labels = line.split_once('{').map_or("", |(_, rest)| rest);
                let labels = labels.split(',').filter_map(|label| label.split_once('='));
                let names: Vec<_> = labels
                    .map(|(name, _)| name)
                    .filter(|name| *name != "le")
                    .collect();
                rows.last_mut().unwrap()[2] = names.join(", ");
            }
        }
    }
    rows.sort();
    let rows = rows
        .into_iter()
        .map(|[name, kind, labels, help]| [format!("`{name}`"), kind, labels, help]);
    let table = reference::table(["name", "type", "labels", "what"], rows);
    reference::hold("metrics.md", &table);
}

/// An answer that stands for a kind of them, without its body: events go on for ever.
async fn head(stage: &Stage, request: Request<Body>) -> (StatusCode, HeaderMap) {
    let response = stage.router.clone().oneshot(request).await.unwrap();
    (response.status(), response.headers().clone())
}

fn value(headers: &HeaderMap, name: impl axum::http::header::AsHeaderName) -> String {
    let value = headers.get(name).map(|value| value.to_str().unwrap());
    value.unwrap_or_default().to_owned()
}

/// What every one of these answers has, with the same value.
fn of_all(answers: &[HeaderMap]) -> Vec<[String; 2]> {
    let (first, others) = answers.split_first().unwrap();
    let everywhere =
        |name: &&axum::http::HeaderName| others.iter().all(|it| it.get(*name) == first.get(*name));
    let mut names: Vec<_> = first.keys().filter(everywhere).collect();
    names.sort_by_key(|name| name.as_str());
    names
        .into_iter()
        .map(|name| [format!("`{name}`"), format!("`{}`", value(first, name))])
        .collect()
}

/// A stage whose token nobody gives.
fn guarded(dir: &Path) -> Stage {
    let path = dir.join("token");
    std::fs::write(&path, "0123456789abcdef").unwrap();
    let settings = config::Http {
        token_file: Some(path),
        ..config::Http::default()
    };
    Stage::with(full(), &settings)
}

/// The tables of docs/reference/http.md.
#[tokio::test]
async fn every_path_is_documented_and_nothing_else() {
    let stage = Stage::new(full());
    stage.meters.turned();
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for (path, _, what) in routes() {
        let (status, headers) = head(&stage, request("GET", path, "localhost")).await;
        assert_ne!(status, StatusCode::NOT_FOUND, "{path}");
        rows.push([
            format!("`{path}`"),
            value(&headers, CONTENT_TYPE),
            what.to_owned(),
        ]);
        all.push(headers);
    }
    let paths = reference::table(["path", "type", "what"], rows);
    let dir = tempfile::tempdir().unwrap();
    let guarded = guarded(dir.path());
    let mut refusals = Vec::new();
    for (stage, request, when, more) in [
        (
            &guarded,
            request("GET", "/", "localhost"),
            "no token, or a wrong one, where `token_file` is set",
            Some(WWW_AUTHENTICATE),
        ),
        (
            &stage,
            request("GET", "/nothing", "localhost"),
            "any other path",
            None,
        ),
        (
            &stage,
            request("POST", "/", "localhost"),
            "any method but GET and HEAD",
            Some(ALLOW),
        ),
        (
            &stage,
            request("GET", "/", "evil.example"),
            "`Host` is none of `hosts`, or of what `listen` has, or there are two",
            None,
        ),
    ] {
        let (status, headers) = head(stage, request).await;
        let more = more.map(|name| format!("`{name}: {}`", value(&headers, &name)));
        refusals.push([
            status.as_u16().to_string(),
            when.to_owned(),
            more.unwrap_or_default(),
        ]);
        all.push(headers);
    }
    let (not_ready, _) = head(&stage, request("GET", "/readyz", "localhost")).await;
    stage.meters.applied();
    let (ready, _) = head(&stage, request("GET", "/readyz", "localhost")).await;
    assert_eq!((not_ready.as_u16(), ready.as_u16()), (503, 200));
    let refusals = reference::table(["status", "when", "header"], refusals);
    let headers = reference::table(["header", "value"], of_all(&all));
    reference::hold(
        "http.md",
        &format!(
            "{paths}\n## Who is not answered\n\n{refusals}\n## Headers of every answer\n\n{headers}"
        ),
    );
}
