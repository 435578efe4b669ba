//! A line of the Runtime API in, what the worker does and answers out.

use std::net::IpAddr;

use crate::config::{address, words};
use crate::keyword::{Place, Settings};
use crate::server::Server;
use crate::version::Version;
use crate::worker::Worker;

/// How long a new address takes to come into force from 3.0 on.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(1);

const DENIED: &str = "Permission denied\n";
const NO_BACKEND: &str = "No such backend.\n";
const NO_SERVER: &str = "No such server.\n";
const NO_TARGET: &str = "Require 'backend/server'.\n";

/// `Ok` and `Err` are both what is answered; `Err` says that nothing was done.
type Answer = Result<String, String>;

impl Worker {
    /// Does one command, as who has this level; says what is printed before the end of a reply.
    pub(crate) fn command(&mut self, line: &str, level: &str) -> String {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let answer = match words.as_slice() {
            ["show", "info", ..] => return self.show_info(),
            ["show", "servers", "state", rest @ ..] => {
                return self.show_state(rest.first().copied());
            }
            ["show", "stat", ..] => return self.show_stat(),
            ["show", "cli", "level"] => return format!("{level}\n"),
            ["add" | "del", "server", ..]
            | ["set", "server", ..]
            | ["set", "maxconn", "server", ..]
            | ["enable" | "disable", "health" | "agent" | "server", ..]
            | ["shutdown", "sessions", "server", ..] => {
                if level != "admin" {
                    return DENIED.to_owned();
                }
                self.change(&words, line)
            }
            [] if self.version.is_3() => return String::new(),
            [] => return self.unknown(""),
            [first, ..] => return self.unknown(first),
        };
        answer.unwrap_or_else(|refusal| refusal)
    }

    fn unknown(&self, word: &str) -> String {
        let commands = "\n  help [<command>]                        : list matching or all commands\n  \
            prompt                                  : toggle interactive mode with prompt\n  \
            quit                                    : disconnect\n";
        let start = match (self.version, word) {
            (Version::V2_6, "") => {
                "Unknown command. Please enter one of the following commands only:".to_owned()
            }
            (Version::V2_6, _) => {
                "Unknown command, but maybe one of the following ones is a better match:".to_owned()
            }
            _ => format!(
                "Unknown command: '{word}', but maybe one of the following ones is a better match:"
            ),
        };
        start + commands
    }

    fn change(&mut self, words: &[&str], line: &str) -> Answer {
        match words {
            ["add", "server", target, ..] => self.add(target, line),
            ["del", "server", target, ..] => self.delete(target),
            ["set", "server", target, what @ ..] => self.set(target, what),
            ["set", "maxconn", "server", target, limit] => {
                self.target(target)?.maxconn = limit
                    .parse()
                    .map_err(|_| "maxconn string empty or preceded by garbage\n")?;
                Ok(String::new())
            }
            ["enable", "server", target] => self.set(target, &["state", "ready"]),
            ["disable", "server", target] => self.set(target, &["state", "maint"]),
            [switch, "health", target] => self.switch_health(target, *switch == "enable"),
            [switch, "agent", target] => self.switch_agent(target, *switch == "enable"),
            ["shutdown", "sessions", "server", target] => {
                self.target(target)?.in_flight = 0;
                Ok(String::new())
            }
            _ => Err(NO_TARGET.to_owned()),
        }
    }

    /// The server that a command names, for all commands but `add` and `del`.
    fn target(&mut self, target: &str) -> Result<&mut Server, String> {
        let (backend, server) = target.split_once('/').ok_or(NO_TARGET)?;
        if self.is_leaving {
            return Err("Proxy is disabled.\n".to_owned());
        }
        let backend = self.backend_mut(backend).ok_or(NO_BACKEND)?;
        let mut servers = backend.servers.iter_mut();
        let server = servers.find(|found| found.name == server);
        server.ok_or_else(|| NO_SERVER.to_owned())
    }

    fn switch_health(&mut self, target: &str, on: bool) -> Answer {
        let server = self.target(target)?;
        if on && !server.settings.check {
            return Err(
                "Health check was not configured on this server, cannot enable.\n".to_owned(),
            );
        }
        server.check.enabled = on;
        Ok(String::new())
    }

    fn switch_agent(&mut self, target: &str, on: bool) -> Answer {
        let server = self.target(target)?;
        if on && !server.settings.agent {
            return Err("Agent was not configured on this server, cannot enable.\n".to_owned());
        }
        server.agent.enabled = on;
        Ok(String::new())
    }

    fn set(&mut self, target: &str, what: &[&str]) -> Answer {
        let (now, version, holds) = (self.now, self.version, self.holds_addresses);
        let is_dynamic = target
            .split_once('/')
            .and_then(|(backend, _)| self.backend(backend))
            .is_some_and(|backend| backend.is_dynamic);
        let server = self.target(target)?;
        match what {
            ["state", state] => {
                match *state {
                    "ready" => server.set_ready(),
                    "drain" => server.set_drain(),
                    "maint" => server.set_maint(),
                    _ => {
                        let expected =
                            "'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n";
                        return Err(expected.to_owned());
                    }
                }
                server.changed = now;
            }
            ["health", health] => match *health {
                "up" => server.set_health(true),
                "down" => server.set_health(false),
                _ => {
                    let expected =
                        "'set server <srv> health' expects 'up', 'stopping', or 'down'.\n";
                    return Err(expected.to_owned());
                }
            },
            ["weight", weight] => set_weight(server, weight, is_dynamic)?,
            ["addr", ip, rest @ ..] => {
                let port = match rest {
                    ["port", port] => port.parse().ok(),
                    _ => None,
                };
                let ip = ip.parse().map_err(|_| match version {
                    Version::V2_6 => format!("Invalid addr '{ip}' by 'stats socket command'\n"),
                    _ => format!("Invalid addr '{ip}'\n"),
                })?;
                let answer = moved(server, ip, port, version);
                let due = if holds {
                    std::time::Duration::MAX
                } else {
                    now + SETTLE
                };
                let port = port.unwrap_or(server.port);
                if version.is_3() {
                    server.moving = Some((due, ip, port));
                } else if !holds {
                    (server.ip, server.port) = (Some(ip), port);
                }
                return Ok(answer);
            }
            _ => {
                return Err("usage: set server <backend>/<server> addr | agent | fqdn | health | ssl | state | weight\n"
                    .to_owned());
            }
        }
        Ok(String::new())
    }

    fn add(&mut self, target: &str, line: &str) -> Answer {
        let (version, now) = (self.version, self.now);
        let say = |text: &str| match version {
            Version::V2_6 => text.to_owned(),
            _ => format!("{text}\n"),
        };
        let (backend, name) = target
            .split_once('/')
            .ok_or_else(|| say("Require 'backend/server'."))?;
        let dynamic_servers = self.dynamic_servers(backend);
        let found = self.backend_mut(backend);
        let backend = found.ok_or_else(|| say("No such backend."))?;
        if !backend.is_dynamic {
            let text = "Backend must use a dynamic load balancing to support dynamic servers.";
            return Err(say(text));
        }
        let said = |text: String| text + "\n";
        let bad = |c: &char| !(c.is_ascii_alphanumeric() || "_.:-".contains(*c));
        if let Some(c) = name.chars().find(bad) {
            let text = format!("character '{c}' is not permitted in server name '{name}'.");
            return Err(said(text));
        }
        let given = words(line);
        let [_, _, _, addr, options @ ..] = given.as_slice() else {
            let text = "'server' expects <name> and <addr>[:<port>] as arguments.";
            return Err(said(text.to_owned()));
        };
        let addr = address(addr).map_err(said)?;
        let mut settings = Settings::default();
        settings
            .take(options, version, Place::Command)
            .map_err(said)?;
        settings.finish(name).map_err(said)?;
        if let Some(tracked) = &settings.track
            && dynamic_servers.contains(tracked)
        {
            let text = format!(
                "unable to use {}/{tracked} for tracking as it is a dynamic server.",
                backend.name
            );
            return Err(said(text));
        }
        if backend.servers.iter().any(|server| server.name == name) {
            let text = "Already exists a server with the same name in backend.";
            return Err(said(text.to_owned()));
        }
        backend.insert(Server::added(name, addr, settings, now));
        Ok(said("New server registered.".to_owned()))
    }

    fn delete(&mut self, target: &str) -> Answer {
        let end = if self.version.is_3() { "\n" } else { "" };
        let refuse = |text: &str| Err(format!("{text}{end}"));
        let Some((backend, name)) = target.split_once('/') else {
            return refuse("Require 'backend/server'.");
        };
        let named = self.config.named.contains(target);
        let Some(backend) = self.backend_mut(backend) else {
            return refuse("No such backend.");
        };
        let Some(place) = backend.servers.iter().position(|s| s.name == name) else {
            return refuse("No such server.");
        };
        let Some(server) = backend.servers.get(place) else {
            return refuse("No such server.");
        };
        if named {
            return refuse(
                "This server cannot be removed at runtime due to other configuration elements pointing to it.",
            );
        }
        if !server.is_maint() {
            return refuse("Only servers in maintenance mode can be deleted.");
        }
        if server.in_flight > 0 {
            return refuse("Server still has connections attached to it, cannot remove it.");
        }
        backend.servers.remove(place);
        Ok(format!("Server deleted.{end}"))
    }

    fn dynamic_servers(&self, backend: &str) -> Vec<String> {
        let servers = self.backend(backend).into_iter().flat_map(|b| &b.servers);
        let dynamic = servers.filter(|server| server.is_dynamic);
        dynamic.map(|server| server.name.clone()).collect()
    }
}

fn set_weight(server: &mut Server, text: &str, is_dynamic: bool) -> Result<(), String> {
    let initial = server.settings.weight;
    let digits = text.strip_suffix('%').unwrap_or(text);
    let number: i64 = digits
        .parse()
        .map_err(|_| "Empty weight string empty or preceded by garbage\n")?;
    let weight = if text.ends_with('%') {
        (i64::from(initial) * number / 100).min(256)
    } else {
        number
    };
    let weight = u16::try_from(weight).ok().filter(|weight| *weight <= 256);
    let weight = weight.ok_or("Absolute weight can only be between 0 and 256 inclusive.\n")?;
    if !is_dynamic && weight != 0 && weight != initial {
        return Err(
            "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'.\n"
                .to_owned(),
        );
    }
    server.weight = weight;
    Ok(())
}

/// What is answered to a new address.
fn moved(server: &Server, ip: IpAddr, port: Option<u16>, version: Version) -> String {
    let old_ip = server.ip.map_or("-".to_owned(), |ip| ip.to_string());
    let new_ip = server.ip != Some(ip);
    let new_port = port.filter(|port| *port != server.port);
    let mut parts = Vec::new();
    if new_ip {
        parts.push(format!("IP changed from '{old_ip}' to '{ip}'"));
    } else if version == Version::V2_6 {
        parts.push("no need to change the addr".to_owned());
    }
    if let Some(new) = new_port {
        parts.push(format!("port changed from '{}' to '{new}'", server.port));
    } else if version == Version::V2_6 && port.is_some() {
        parts.push("no need to change the port".to_owned());
    }
    if parts.is_empty() {
        return "nothing changed\n".to_owned();
    }
    parts.join(", ") + " by 'stats socket command'\n"
}
