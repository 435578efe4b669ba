//! `route`: a request in, the route that it takes and why out.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use controller::config;
use controller::control::{Answer, ControlError, Request as Asked, ask};
use planner::config::Config;
use planner::route::{Report, Request, Route, Routes, ServiceRoute, Url, clash};

use super::{Exit, Format, FormatArgs, SocketArgs, environment, print, print_json, runtime, tell};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serf-haproxy route GET https://shop.example.com/api/orders
      where does it go?
  serf-haproxy route GET https://shop.example.com/api --header 'X-Canary: 1' --from 192.0.2.7
      and with this header, from this client?")]
pub(super) struct RouteArgs {
    /// Its method, as in GET
    method: String,
    /// Its URL; the scheme may be left out, and of one that begins with `/` the host, which then is that of a header Host
    url: String,
    /// A header of it; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The client's address
    #[arg(long, value_name = "IP")]
    from: Option<IpAddr>,
    /// The front end that it comes to
    #[arg(long, value_name = "NAME", default_value = "main")]
    frontend: String,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    socket: SocketArgs,
}

/// `NAME: VALUE`.
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    if name.trim().is_empty() {
        return Err("expected NAME: VALUE".to_owned());
    }
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

pub(super) fn route(path: &Path, args: &RouteArgs) -> anyhow::Result<Exit> {
    let config = config::load(path, environment())?;
    let url = Url::parse(&args.url);
    let url = url.with_context(|| format!("{:?} is no URL; write https://host/path", args.url))?;
    let given = |name: &str| {
        let mut headers = args.headers.iter();
        let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    };
    let host = given("host").or(url.authority);
    let mut request = Request::new(&args.method, host, url.path);
    request.headers.clone_from(&args.headers);
    request.from = args.from;
    request.frontend.clone_from(&args.frontend);
    let routes = with_services(&config, &args.socket, path)?;
    let default = config
        .frontend
        .as_ref()
        .map(|frontend| frontend.default_backend.as_str());
    let report = Report::of(&routes, &request, default);
    match args.format.format {
        Format::Text => print(&report.to_string()),
        Format::Json => print_json(&report),
    }
}

/// The routes of the config, and those of services where a controller runs that has some.
fn with_services(config: &Config, socket: &SocketArgs, path: &Path) -> anyhow::Result<Routes> {
    let named = socket.socket.is_some();
    let socket = socket.find(path);
    let services = match runtime()?.block_on(ask(&socket, Asked::Status)) {
        Ok(Answer::Status(status)) => status.routes,
        Ok(_) => Vec::new(),
        Err(ControlError::NotRunning { .. }) if !named => Vec::new(),
        Err(error) if named => return Err(error.into()),
        Err(error) => {
            let error = anyhow::Error::new(error);
            tell(&format!(
                "note: {error:#}; these are the routes of the config alone"
            ));
            Vec::new()
        }
    };
    let mut routes: Vec<Route> = config.routing.iter().cloned().collect();
    for route in services.iter().filter_map(ServiceRoute::route) {
        if routes.iter().any(|known| clash(known, &route).is_some()) {
            tell(&format!(
                "note: {} is left out, as another route has what it has",
                route.origin
            ));
            continue;
        }
        routes.push(route);
    }
    Ok(Routes::new(routes).unwrap_or_default())
}
