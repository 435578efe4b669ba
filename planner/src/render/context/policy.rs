//! What a template sees of a backend's policy: its config in, values without nulls out. Pure.

use std::time::Duration;

use serde::Serialize;

use super::observe;
use crate::config::policy::{
    Breaker, Overload, Page, PageForm, Proto, SameSite, Secure, ServerNameSent, Sticky, Tls, Verify,
};
use crate::config::{BackendConfig, Timeouts};
use crate::model::BackendName;
use crate::syntax::time::span;

/// The part of a backend that says how its traffic is treated.
#[derive(Serialize)]
pub(super) struct PolicyView<'a> {
    retries: u8,
    retry: RetryView,
    #[serde(skip_serializing_if = "Option::is_none")]
    observe: Option<&'static str>,
    error_limit: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    maxconn: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maxqueue: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_start: Option<String>,
    timeouts: BackendTimeoutsView,
    #[serde(skip_serializing_if = "Option::is_none")]
    sticky: Option<StickyView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<BreakerView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overload: Option<OverloadView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maintenance_page: Option<PageView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsView<'a>>,
    proto: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    compress: Option<String>,
}

#[derive(Serialize)]
struct RetryView {
    on: String,
    methods: String,
}

#[derive(Serialize)]
struct BackendTimeoutsView {
    connect: String,
    queue: String,
    server: String,
    tunnel: String,
}

#[derive(Serialize)]
struct StickyView<'a> {
    cookie: &'a str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_idle: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_life: Option<String>,
    same_site: &'static str,
    secure: &'static str,
}

#[derive(Serialize)]
struct BreakerView {
    ratio: u8,
    min_requests: u32,
    window: String,
    expire: String,
    status: u16,
    retry_after: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<PageView>,
}

#[derive(Serialize)]
struct OverloadView {
    queue: u32,
    status: u16,
    retry_after: u64,
}

/// A page; without a media type it is a whole response.
#[derive(Serialize)]
struct PageView {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'static str>,
}

#[derive(Serialize)]
struct TlsView<'a> {
    verify: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verify_host: Option<&'a str>,
}

pub(super) fn policy<'a>(backend: &'a BackendConfig, all: &Timeouts) -> PolicyView<'a> {
    let retry = backend.retrying();
    let ejection = backend.ejection();
    let timeouts = backend.timeouts_over(all);
    PolicyView {
        retries: retry.attempts,
        retry: RetryView {
            on: retry.on.join(" "),
            methods: retry.methods.join(" "),
        },
        observe: ejection.map(|(on, _)| observe(on)),
        error_limit: ejection.map_or(backend.error_limit, |(_, errors)| errors),
        maxconn: backend.server_limit(),
        maxqueue: backend.max_queue,
        slow_start: backend.slow_start.map(span),
        timeouts: BackendTimeoutsView {
            connect: span(timeouts.connect),
            queue: span(timeouts.queue),
            server: span(timeouts.server),
            tunnel: span(timeouts.tunnel),
        },
        sticky: backend.sticky.as_ref().map(|it| sticky(it, &backend.name)),
        breaker: backend.breaker.as_ref().map(breaker),
        overload: backend.overload.as_ref().map(overload),
        maintenance_page: backend.maintenance_page.as_ref().map(page),
        tls: backend.tls.as_ref().map(tls),
        proto: match backend.proto {
            Proto::H1 => "h1",
            Proto::H2 => "h2",
        },
        compress: (!backend.compress.is_empty()).then(|| backend.compress.join(" ")),
    }
}

fn sticky<'a>(sticky: &'a Sticky, backend: &BackendName) -> StickyView<'a> {
    StickyView {
        cookie: &sticky.cookie,
        key: sticky.key_of(backend),
        max_idle: sticky.max_idle.map(span),
        max_life: sticky.max_life.map(span),
        same_site: match sticky.same_site {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        },
        secure: match sticky.secure {
            Secure::Auto => "auto",
            Secure::Always => "always",
            Secure::Never => "never",
        },
    }
}

fn breaker(breaker: &Breaker) -> BreakerView {
    BreakerView {
        ratio: breaker.ratio_percent,
        min_requests: breaker.min_requests,
        window: span(breaker.window),
        // An entry that goes before its rates have aged would forget failures.
        expire: span(breaker.window * 2),
        status: breaker.status,
        retry_after: seconds(breaker.retry_after),
        page: breaker.page.as_ref().map(page),
    }
}

fn overload(overload: &Overload) -> OverloadView {
    OverloadView {
        queue: overload.queue,
        status: overload.status,
        retry_after: seconds(overload.retry_after),
    }
}

/// Whole seconds, as `Retry-After` has them, not less than meant.
fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

fn page(page: &Page) -> PageView {
    PageView {
        path: page.path.display().to_string(),
        media_type: match page.form {
            PageForm::Response => None,
            PageForm::Body(media_type) => Some(media_type),
        },
    }
}

/// With the system's authorities where none are named, and the name as HAProxy's expression for it.
fn tls(tls: &Tls) -> TlsView<'_> {
    let is_verified = tls.verify == Verify::Required;
    let named = tls.ca_file.as_ref().map(|file| file.display().to_string());
    TlsView {
        verify: if is_verified { "required" } else { "none" },
        ca_file: is_verified.then(|| named.unwrap_or_else(|| "@system-ca".to_owned())),
        sni: tls.sni.as_ref().map(|name| match name {
            ServerNameSent::Host => "req.hdr(host),host_only".to_owned(),
            ServerNameSent::Name(name) => format!("str({name})"),
        }),
        verify_host: tls.verify_host.as_deref(),
    }
}
