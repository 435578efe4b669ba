//! What `show info`, `show servers state`, `show stat` and `show proc` print in, the worker and its servers out. Pure.
//!
//! Columns are found by the name in the header line, for every version adds some (Management Guide, section 9).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::model::{
    Admin, AgentCheck, Check, DownBackends, RunningServer, RunningServers, ServerStat, State,
    Version, Worker,
};
use crate::stamp::Stamp;

/// Why a reply cannot be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReplyError {
    /// A field or column is not there.
    #[error("haproxy's reply to {command:?} has no {field:?}")]
    Missing {
        /// The command.
        command: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field is not what it should be.
    #[error("haproxy's reply to {command:?} has {value:?} as {field:?}")]
    Odd {
        /// The command.
        command: &'static str,
        /// The field.
        field: &'static str,
        /// What stands there, its first 100 characters.
        value: String,
    },
    /// The reply ends in the middle.
    #[error("haproxy's reply to {command:?} is cut short")]
    Truncated {
        /// The command.
        command: &'static str,
    },
}

/// Reads the joined reply to `show info;show servers state`, and `;show stat` where `with_stat`.
///
/// The first two cannot hold an empty line, which ends them; the third is CSV up to the end.
///
/// # Errors
/// [`ReplyError`] as for each of the three, and when one is cut short.
pub fn state(text: &str, with_stat: bool) -> Result<State, ReplyError> {
    let truncated = |command| move || ReplyError::Truncated { command };
    let (info_text, rest) = text.split_once("\n\n").ok_or_else(truncated("show info"))?;
    let worker = info(info_text)?;
    let (servers_text, rest) = rest
        .split_once("\n\n")
        .ok_or_else(truncated("show servers state"))?;
    let mut running = servers(servers_text)?;
    let mut down = DownBackends::new();
    if with_stat {
        let stat_text = rest.strip_suffix('\n').filter(|text| text.ends_with('\n'));
        let mut stats = stat(stat_text.ok_or_else(truncated("show stat"))?)?;
        down = stats.down;
        for (backend, servers) in &mut running {
            let Some(stats) = stats.servers.get_mut(backend) else {
                continue;
            };
            for (name, server) in servers {
                server.stat = stats.remove(name);
            }
        }
    }
    Ok(State {
        worker,
        servers: running,
        down,
    })
}

/// Reads `CurrConns` of `show info`: the connections of clients; those to the Runtime API do not count.
///
/// # Errors
/// [`ReplyError`] when it is missing or odd.
pub fn connections(text: &str) -> Result<u64, ReplyError> {
    let (command, name) = ("show info", "CurrConns");
    number(command, name, info_field(text, name)?)
}

/// Reads `show info`.
///
/// # Errors
/// [`ReplyError`] when `Pid`, `Uptime_sec` or `Version` is missing, or one of them or `Start_time_sec` is odd.
pub fn info(text: &str) -> Result<Worker, ReplyError> {
    let command = "show info";
    let field = |name| info_field(text, name);
    let version = field("Version")?;
    Ok(Worker {
        pid: number(command, "Pid", field("Pid")?)?,
        uptime: Duration::from_secs(number(command, "Uptime_sec", field("Uptime_sec")?)?),
        start: match field("Start_time_sec") {
            Ok(start) => Some(number(command, "Start_time_sec", start)?),
            Err(_) => None,
        },
        version: Version::parse(version).ok_or_else(|| odd(command, "Version", version))?,
        stamp: field("description").ok().and_then(Stamp::from_description),
    })
}

fn info_field<'a>(text: &'a str, field: &'static str) -> Result<&'a str, ReplyError> {
    let mut values = text
        .lines()
        .filter_map(|line| line.split_once(':').filter(|(key, _)| *key == field));
    let missing = ReplyError::Missing {
        command: "show info",
        field,
    };
    values.next().map(|(_, value)| value.trim()).ok_or(missing)
}

/// Reads `show servers state`, of one backend or of all.
///
/// # Errors
/// [`ReplyError`] for another format than 1, a missing column, an odd value or a line cut short.
pub fn servers(text: &str) -> Result<RunningServers, ReplyError> {
    let command = "show servers state";
    let mut lines = text.lines();
    match lines.next() {
        Some("1") => {}
        None => return Err(ReplyError::Truncated { command }),
        Some(other) => return Err(odd(command, "format", other)),
    }
    let header = lines
        .next()
        .and_then(|line| line.strip_prefix("# "))
        .ok_or(ReplyError::Truncated { command })?;
    let width = header.split_ascii_whitespace().count();
    let index = |name: &'static str| {
        let mut names = header.split_ascii_whitespace();
        names
            .position(|found| found == name)
            .ok_or(ReplyError::Missing {
                command,
                field: name,
            })
    };
    let [backend, server] = [index("be_name")?, index("srv_name")?];
    let [addr, port] = [index("srv_addr")?, index("srv_port")?];
    let [admin, weight] = [index("srv_admin_state")?, index("srv_uweight")?];
    let agent = AgentColumns::of(header);
    let mut servers = RunningServers::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if words.len() != width {
            return Err(ReplyError::Truncated { command });
        }
        let word = |index: usize| words.get(index).copied().unwrap_or_default();
        let ip: Option<IpAddr> = word(addr).parse().ok();
        let port: u16 = number(command, "srv_port", word(port))?;
        let bits = number(command, "srv_admin_state", word(admin))?;
        let running = RunningServer {
            addr: ip.map(|ip| SocketAddr::new(ip, port)),
            weight: number(command, "srv_uweight", word(weight))?,
            admin: admin_state(bits),
            agent: agent.check(&words, bits),
            stat: None,
        };
        servers
            .entry(word(backend).to_owned())
            .or_default()
            .insert(word(server).to_owned(), running);
    }
    Ok(servers)
}

/// Where the columns about the agent check are.
struct AgentColumns {
    agent_state: Option<usize>,
    initial_weight: Option<usize>,
    op_state: Option<usize>,
    check_result: Option<usize>,
}

impl AgentColumns {
    fn of(header: &str) -> Self {
        let index = |name| {
            let mut names = header.split_ascii_whitespace();
            names.position(|found| found == name)
        };
        Self {
            agent_state: index("srv_agent_state"),
            initial_weight: index("srv_iweight"),
            op_state: index("srv_op_state"),
            check_result: index("srv_check_result"),
        }
    }

    /// Of the agent's state bit 2 says that there is one, and bit 4 that it is asked.
    fn check(&self, words: &[&str], admin_bits: u32) -> Option<AgentCheck> {
        let field = |index: Option<usize>| words.get(index?)?.parse::<u32>().ok();
        let state = field(self.agent_state)?;
        let asked = state & 4 != 0;
        let stopped = field(self.op_state) == Some(0) && admin_bits & 1 == 0;
        (state & 2 != 0).then(|| AgentCheck {
            asked,
            initial_weight: field(self.initial_weight)
                .and_then(|weight| u16::try_from(weight).ok())
                .unwrap_or_default(),
            by_file: admin_bits & 4 != 0,
            // 2 is a check that failed
            down: asked && stopped && field(self.check_result) != Some(2),
        })
    }
}

/// Bit 1 is forced maint, bit 8 forced drain; 4 only tells what the file said once.
fn admin_state(bits: u32) -> Admin {
    match (bits & 1, bits & 8) {
        (1, _) => Admin::Maint,
        (_, 8) => Admin::Drain,
        _ => Admin::Ready,
    }
}

/// What `show stat` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Of the servers, by backend, then by name.
    pub servers: BTreeMap<String, BTreeMap<String, ServerStat>>,
    /// Of the backends.
    pub down: DownBackends,
}

/// Reads `show stat`, the lines of servers and backends.
///
/// # Errors
/// [`ReplyError`] for a missing column, an odd number, a line or a quoted field cut short.
pub fn stat(text: &str) -> Result<Stats, ReplyError> {
    let command = "show stat";
    let mut records = Records { rest: text };
    let header = records.next().ok_or(ReplyError::Truncated { command })??;
    let names: HashMap<&str, usize> = header
        .iter()
        .enumerate()
        .map(|(index, name)| (name.as_ref(), index))
        .collect();
    let index = |name: &'static str| {
        names.get(name).copied().ok_or(ReplyError::Missing {
            command,
            field: name,
        })
    };
    let [backend, server, kind] = [index("# pxname")?, index("svname")?, index("type")?];
    let [status, check] = [index("status")?, index("check_status")?];
    let [qcur, scur, slim, stot] = [
        index("qcur")?,
        index("scur")?,
        index("slim")?,
        index("stot")?,
    ];
    let cookie = names.get("cookie").copied();
    let code = names.get("check_code").copied();
    let mut stats = Stats::default();
    for record in records {
        let record = record?;
        if record.len() != header.len() {
            return Err(ReplyError::Truncated { command });
        }
        let word = |index: usize| record.get(index).map_or("", |field| field.as_ref());
        if word(kind) == "1" && word(status).starts_with("DOWN") {
            stats.down.insert(word(backend).to_owned());
        }
        if word(kind) != "2" {
            continue;
        }
        let [running, waiting]: [u64; 2] = [
            number(command, "scur", word(scur))?,
            number(command, "qcur", word(qcur))?,
        ];
        let maxconn = match word(slim) {
            "" => None,
            limit => Some(number(command, "slim", limit)?),
        };
        let check_says = check_of(word(status), word(check));
        let bad = matches!(check_says, Check::Down | Check::Falling);
        let stat = ServerStat {
            check: check_says,
            said: bad.then(|| said(word(status), word(check), code.map_or("", word))),
            in_flight: running.saturating_add(waiting),
            maxconn,
            total: number(command, "stot", word(stot))?,
            cookie: cookie
                .map(|cookie| word(cookie).to_owned())
                .filter(|it| !it.is_empty()),
        };
        stats
            .servers
            .entry(word(backend).to_owned())
            .or_default()
            .insert(word(server).to_owned(), stat);
    }
    Ok(stats)
}

/// `status` reads `UP`, `UP 1/3`, even `UP -2/5`, `DOWN (agent)`, `no check`; `check_status` reads `L4OK`, or `* L4OK` while
/// the next check runs, `INI` before the first, nothing where no check runs.
fn check_of(status: &str, check_status: &str) -> Check {
    let word = status.split(' ').next().unwrap_or_default();
    let last = check_status.trim_start_matches("* ");
    match (word, last) {
        ("MAINT" | "no", _) => Check::None,
        ("DOWN", _) => Check::Down,
        (_, "") => Check::None,
        (_, "INI" | "UNK" | "SOCKOK") => Check::Pending,
        (_, "L4OK" | "L6OK" | "L7OK" | "L7OKC" | "PROCOK") => Check::Up,
        _ => Check::Falling,
    }
}

/// What went wrong with a check, by HAProxy's code for it. The text beside it comes from the server and is not taken.
fn said(status: &str, check_status: &str, code: &str) -> String {
    let last = check_status.trim_start_matches("* ");
    let words = match last {
        _ if status.starts_with("DOWN (agent)") => return "its agent says so".to_owned(),
        "L4CON" => "connection failed",
        "L4TOUT" => "no connection in time",
        "L6RSP" => "TLS failed",
        "L6TOUT" => "no TLS in time",
        "L7RSP" => "no valid answer",
        "L7TOUT" => "no answer in time",
        "L7STS" if is_number(code) => return format!("L7STS: status {code}"),
        "L7STS" => "a bad answer",
        "SOCKERR" => "socket error",
        "L4OK" | "L6OK" | "L7OK" | "L7OKC" => return format!("{last}: rising again"),
        _ if last.bytes().all(|b| b.is_ascii_alphanumeric()) && !last.is_empty() => {
            return last.to_owned();
        }
        _ => return "no result yet".to_owned(),
    };
    format!("{last}: {words}")
}

fn is_number(code: &str) -> bool {
    !code.is_empty() && code.bytes().all(|b| b.is_ascii_digit())
}

/// HAProxy's master, as `show proc` on its socket tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// Its process id.
    pub pid: u32,
    /// How many reloads failed in a row; 3.2 counts no further than one.
    pub failed: u32,
    /// The process ids of workers of earlier reloads that still finish what they had begun.
    pub old_workers: Vec<u32>,
}

/// Reads `show proc`.
///
/// # Errors
/// [`ReplyError`] when there is no line of the master or not what it should have.
pub fn master(proc: &str) -> Result<Master, ReplyError> {
    let (command, field) = ("show proc", "failed");
    let is = |line: &&str, kind| line.split_ascii_whitespace().nth(1) == Some(kind);
    let master = proc.lines().find(|line| is(line, "master"));
    let missing = ReplyError::Missing { command, field };
    let (_, rest) = master
        .and_then(|line| line.split_once("[failed: "))
        .ok_or(missing)?;
    let (failed, _) = rest
        .split_once(']')
        .ok_or(ReplyError::Truncated { command })?;
    let column = |line: &str, place, name| {
        let word = line.split_ascii_whitespace().nth(place);
        number(command, name, word.unwrap_or_default())
    };
    let pid = |line: &str| column(line, 0, "PID");
    let reloads = |line: &str| column(line, 2, "reloads");
    let (current, old) = proc.split_once("# old workers").unwrap_or((proc, ""));
    let rows = old
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('#'));
    let mut old_workers = rows
        .filter(|line| is(line, "worker"))
        .map(|line| Ok((reloads(line)?, pid(line)?)))
        .collect::<Result<Vec<(u32, u32)>, _>>()?;
    if !current.lines().any(|line| is(&line, "worker")) {
        // 3.2 counts the one that serves among the old once a reload has failed: the one that has seen the fewest
        let serving = old_workers.iter().min().copied();
        old_workers.retain(|worker| Some(*worker) != serving);
    }
    Ok(Master {
        pid: pid(master.unwrap_or_default())?,
        failed: number(command, field, failed)?,
        old_workers: old_workers.into_iter().map(|(_, pid)| pid).collect(),
    })
}

/// The records of HAProxy's CSV: fields with a quote, comma or line end in them are quoted, `"` is doubled.
struct Records<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Vec<Cow<'a, str>>, ReplyError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest = self.rest.trim_start_matches('\n');
        if self.rest.is_empty() {
            return None;
        }
        let mut record = Vec::new();
        loop {
            let Some((field, end, rest)) = field(self.rest) else {
                self.rest = "";
                return Some(Err(ReplyError::Truncated {
                    command: "show stat",
                }));
            };
            record.push(field);
            self.rest = rest;
            if end == '\n' {
                return Some(Ok(record));
            }
        }
    }
}

/// One field, what ended it, and what follows; none when the text ends first.
fn field(text: &str) -> Option<(Cow<'_, str>, char, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (field, rest) = text.split_at_checked(text.find([',', '\n'])?)?;
        let end = rest.chars().next()?;
        return Some((Cow::Borrowed(field), end, rest.get(1..)?));
    };
    let mut value = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('"')?;
        value.push_str(part);
        match after.chars().next()? {
            '"' => value.push('"'),
            end @ (',' | '\n') => return Some((Cow::Owned(value), end, after.get(1..)?)),
            _ => return None,
        }
        rest = after.get(1..)?;
    }
}

fn number<T: std::str::FromStr>(
    command: &'static str,
    field: &'static str,
    value: &str,
) -> Result<T, ReplyError> {
    value.parse().map_err(|_| odd(command, field, value))
}

fn odd(command: &'static str, field: &'static str, value: &str) -> ReplyError {
    ReplyError::Odd {
        command,
        field,
        value: value.chars().take(100).collect(),
    }
}

#[cfg(test)]
mod tests;
