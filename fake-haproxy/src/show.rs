//! What a worker prints of itself: `show info`, `show servers state`, `show stat`.
//!
//! Only the lines of `show info` and the columns of `show stat` that there is something to say in; whoever reads them
//! goes by their names, for every version adds some.

use std::fmt::Write as _;

use crate::config::Backend;
use crate::server::{LastCheck, Server};
use crate::worker::Worker;

const STATE_HEADER: &str = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
    srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state \
    bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr \
    srv_agent_port";

const STAT_HEADER: &str =
    "# pxname,svname,qcur,scur,slim,stot,status,weight,type,check_status,check_code,addr,cookie,";

/// When the fake starts, in seconds since 1970.
const START: u64 = 1_800_000_000;

impl Worker {
    pub(crate) fn show_info(&self) -> String {
        let version = self.version.text();
        let uptime = (self.now - self.started).as_secs();
        let start = START + self.started.as_secs();
        let description = match &self.config.description {
            Some(description) => format!("description: {description}\n"),
            None => String::new(),
        };
        format!(
            "Name: HAProxy\nVersion: {version}\nPid: {pid}\nUptime: 0d 0h{minutes:02}m{seconds:02}s\n\
             Uptime_sec: {uptime}\nCurrConns: {connections}\nnode: fake\n{description}Stopping: {stopping}\n\
             Build info: {version}\nStart_time_sec: {start}\n",
            pid = self.pid,
            minutes = uptime / 60,
            seconds = uptime % 60,
            connections = self.in_flight(),
            stopping = u8::from(self.is_leaving),
        )
    }

    pub(crate) fn show_state(&self, only: Option<&str>) -> String {
        if only.is_some_and(|name| self.backend(name).is_none()) {
            return "Can't find backend.\n".to_owned();
        }
        let mut text = format!("1\n{STATE_HEADER}\n");
        for (id, backend) in (2..).zip(&self.config.backends) {
            if only.is_none_or(|name| backend.name == name) {
                for server in &backend.servers {
                    self.state_line(&mut text, id, backend, server);
                }
            }
        }
        text
    }

    fn state_line(&self, text: &mut String, id: u32, backend: &Backend, server: &Server) {
        let ip = server.ip.map_or("-".to_owned(), |ip| ip.to_string());
        let up = if server.up && !server.is_maint() {
            2
        } else {
            0
        };
        let (status, result) = match (server.check.last, backend.checks_http) {
            (LastCheck::Initial, _) => (1, 0),
            (LastCheck::Passed, false) => (6, 3),
            (LastCheck::Passed, true) => (15, 3),
            (LastCheck::Refused, _) => (8, 2),
        };
        let bits = |configured: bool, enabled: bool, paused: bool| {
            u8::from(configured) * 2 + u8::from(enabled) * 4 + u8::from(enabled && paused) * 8
        };
        let maint = server.is_maint();
        let _ = writeln!(
            text,
            "{id} {} {} {} {ip} {up} {} {} {} {} {status} {result} {} {} {} 0 0 - {} - 0 0 - - 0",
            backend.name,
            server.id,
            server.name,
            server.admin,
            server.weight,
            server.settings.weight,
            (self.now - server.changed).as_secs(),
            server.check.health,
            bits(server.settings.check, server.check.enabled, maint),
            bits(server.settings.agent, server.agent.enabled, maint),
            server.port,
        );
    }

    /// The lines of servers and backends.
    pub(crate) fn show_stat(&self) -> String {
        let mut text = format!("{STAT_HEADER}\n");
        for backend in &self.config.backends {
            for server in &backend.servers {
                stat_line(&mut text, backend, server);
            }
            let serves = backend.servers.is_empty() || backend.servers.iter().any(Server::serves);
            let status = if serves { "UP" } else { "DOWN" };
            let in_flight: u64 = backend.servers.iter().map(|server| server.in_flight).sum();
            let _ = writeln!(
                text,
                "{},BACKEND,0,{in_flight},,0,{status},0,1,,,,,",
                backend.name
            );
        }
        text
    }
}

fn stat_line(text: &mut String, backend: &Backend, server: &Server) {
    let limit = match server.maxconn {
        0 => String::new(),
        limit => limit.to_string(),
    };
    let check = match (server.is_checked(), server.check.last, backend.checks_http) {
        (false, ..) => "",
        (_, LastCheck::Initial, _) => "INI",
        (_, LastCheck::Passed, false) => "L4OK",
        (_, LastCheck::Passed, true) => "L7OK",
        (_, LastCheck::Refused, _) => "L4CON",
    };
    let addr = match server.ip {
        Some(ip) => std::net::SocketAddr::new(ip, server.port).to_string(),
        None => String::new(),
    };
    let _ = writeln!(
        text,
        "{},{},0,{},{limit},{},{},{},2,{check},,{addr},{},",
        backend.name,
        server.name,
        server.in_flight,
        server.total,
        server.status(),
        server.weight,
        server.settings.cookie,
    );
}
