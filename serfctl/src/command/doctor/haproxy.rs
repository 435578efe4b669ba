//! A socket of HAProxy and the members in, how its servers and the members fit together out. It only asks; what comes
//! back is bounded in size and time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use serde::Serialize;
use serf_rpc::{Member, MemberStatus};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use super::{Finding, name, names};
use crate::terminal::escape;

/// An answer is not read beyond this: some 50,000 servers.
const ANSWER_MAX: u64 = 32 << 20;
/// From so many old workers on they pile up.
const OLD_MANY: usize = 3;
/// The tag that tells what a member is for, as `serf-haproxy` is mostly set.
const ROLE: &str = "role";
/// The tag by which a member is taken out on purpose.
const STATE: &str = "state";

/// What HAProxy has.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Summary {
    socket: String,
    version: String,
    servers: usize,
    up: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_workers: Option<usize>,
}

/// A server as `show stat` has it.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    backend: String,
    name: String,
    addr: Option<IpAddr>,
    status: String,
    check: String,
}

/// Looks there, and says what is found; a socket that does not answer is a finding too.
pub(super) async fn look(
    path: &Path,
    within: Duration,
    members: &[Member],
) -> (Option<Summary>, Vec<Finding>) {
    let asked = async {
        let old_workers = old_workers(&ask(path, "show proc").await?);
        let at = if old_workers.is_some() { "@1 " } else { "" };
        let info = ask(path, &format!("{at}show info")).await?;
        let version = figure(&info, "Version: ").ok_or_else(|| refused(&info))?;
        let stat = ask(path, &format!("{at}show stat -1 4 -1")).await?;
        let servers = servers(&stat).ok_or_else(|| refused(&stat))?;
        Ok((version.to_owned(), servers, old_workers))
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {within:?}"));
    let asked = timeout(within, asked).await;
    match asked.unwrap_or_else(|_| Err(late())) {
        Ok((version, servers, old_workers)) => {
            let mut findings = of(&servers, members);
            findings.extend(old_workers.and_then(piling_up));
            let summary = Summary {
                socket: path.display().to_string(),
                version,
                servers: servers.len(),
                up: servers.iter().filter(|server| server.is_up()).count(),
                old_workers,
            };
            (Some(summary), findings)
        }
        Err(error) => (None, vec![unread(path, &error)]),
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (version, socket) = (
            escape(self.version.as_bytes()),
            escape(self.socket.as_bytes()),
        );
        write!(
            f,
            "HAProxy {version} at {socket}: {} servers, {} up",
            self.servers, self.up
        )?;
        match self.old_workers {
            Some(count) => write!(f, ", {count} old workers"),
            None => Ok(()),
        }
    }
}

/// One command, one answer; without `quit` a master keeps the connection open.
async fn ask(path: &Path, command: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(path).await?;
    stream
        .write_all(format!("{command};quit\n").as_bytes())
        .await?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    if u64::try_from(read).is_ok_and(|read| read >= ANSWER_MAX) {
        return Err(io::Error::other("its answer has no end"));
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn refused(answer: &str) -> io::Error {
    let line = answer.lines().find(|line| !line.trim().is_empty());
    io::Error::other(format!(
        "that is no answer of HAProxy's: {}",
        line.unwrap_or("nothing")
    ))
}

fn unread(path: &Path, error: &io::Error) -> Finding {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "root may read it, and the group that `stats socket … group` names, often haproxy"
        }
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "does HAProxy run? `stats socket` in its configuration, or `-S` of its command line, says where it listens"
        }
        _ => "is that the stats socket of HAProxy, or its master's, and does it answer others?",
    };
    let (path, error) = (path.display().to_string(), error.to_string());
    Finding::new(
        format!(
            "HAProxy's socket {} is not read: {}",
            escape(path.as_bytes()),
            escape(error.as_bytes())
        ),
        advice,
    )
}

/// How many workers of before a reload still run; none where it is no master that has answered.
fn old_workers(answer: &str) -> Option<usize> {
    let old = |line: &&str| line.split_whitespace().nth(1) == Some("worker");
    answer.starts_with("#<PID>").then(|| {
        let rest = answer.lines().skip_while(|line| *line != "# old workers");
        rest.filter(old).count()
    })
}

fn piling_up(old_workers: usize) -> Option<Finding> {
    (old_workers >= OLD_MANY).then(|| {
        Finding::new(
            format!("{old_workers} old workers of HAProxy have not ended"),
            "they hold sessions from before reloads: `hard-stop-after` in `global` bounds that; who reloads so often?",
        )
    })
}

fn figure<'a>(info: &'a str, key: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(key))
}

/// The servers of `show stat`; none where it is no such table.
fn servers(stat: &str) -> Option<Vec<Server>> {
    let mut lines = stat.trim_start().lines();
    let head = fields(lines.next()?.strip_prefix("# ")?);
    let column = |name: &str| head.iter().position(|head| head == name);
    let [backend, name, status] = ["pxname", "svname", "status"].map(column);
    let (backend, name, status) = (backend?, name?, status?);
    let (addr, check) = (column("addr"), column("check_status"));
    let server = |line: &str| {
        let fields = fields(line);
        let at = |column: usize| fields.get(column).cloned();
        let addr = addr.and_then(at).and_then(|addr| addr.parse().ok());
        Some(Server {
            backend: at(backend)?,
            name: at(name)?,
            addr: addr.map(|addr: SocketAddr| addr.ip().to_canonical()),
            status: at(status)?,
            check: check.and_then(at).unwrap_or_default(),
        })
    };
    Some(lines.filter_map(server).collect())
}

/// The fields of a line of CSV, some of them in quotes.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

impl Server {
    fn is_up(&self) -> bool {
        self.status.starts_with("UP") || self.status == "no check"
    }

    fn is_in_maintenance(&self) -> bool {
        self.status.starts_with("MAINT")
    }

    fn has_name_of(&self, member: &Member) -> bool {
        self.name.as_bytes() == name(member)
    }

    fn is_at(&self, member: &Member) -> bool {
        self.addr.is_some() && self.addr == member.addr().map(|addr| addr.to_canonical())
    }
}

/// How servers and members fit together. A member is a server's by its name, or by its address.
fn of(servers: &[Server], members: &[Member]) -> Vec<Finding> {
    let is_alive = |member: &&Member| member.status() == MemberStatus::Alive;
    let alive: Vec<&Member> = members.iter().filter(is_alive).collect();
    let mut findings = Vec::new();
    findings.extend(without_server(servers, &alive));
    let mut backends: BTreeMap<&str, Vec<&Server>> = BTreeMap::new();
    for server in servers {
        backends.entry(&server.backend).or_default().push(server);
    }
    for (backend, servers) in backends {
        let backend = escape(backend.as_bytes()).into_owned();
        findings.extend(without_member(&backend, &servers, members, &alive));
        findings.extend(not_up(&backend, &servers, &alive));
    }
    findings
}

/// Living members that no backend has though others of their role are there.
fn without_server(servers: &[Server], alive: &[&Member]) -> Option<Finding> {
    let serves = |member: &&&Member| {
        servers
            .iter()
            .any(|s| s.has_name_of(member) || s.is_at(member))
    };
    let (served, rest): (Vec<&Member>, Vec<&Member>) = alive.iter().partition(serves);
    if served.is_empty() {
        let others = alive.len() > 1;
        return others.then(|| {
            Finding::new(
                format!("none of HAProxy's {} servers is a living member", servers.len()),
                "is it the HAProxy that this cluster feeds? `serf-haproxy status` says who is left out and why",
            )
        });
    }
    let roles: BTreeSet<_> = served
        .iter()
        .filter_map(|m: &&Member| m.tag(ROLE))
        .collect();
    let wanted = |member: &&&Member| member.tag(ROLE).is_some_and(|role| roles.contains(role));
    let missing: Vec<&[u8]> = rest
        .iter()
        .filter(wanted)
        .map(|member| name(member))
        .collect();
    (!missing.is_empty()).then(|| {
        Finding::new(
            format!("alive, and no server of HAProxy: {}", names(missing)),
            "`serf-haproxy status` says who is left out or waits, and why",
        )
    })
}

/// Servers of a backend that has members which are no living member's. Those in maintenance take nothing.
fn without_member(
    backend: &str,
    servers: &[&Server],
    members: &[Member],
    alive: &[&Member],
) -> Option<Finding> {
    let knows = |server: &&&Server| {
        members
            .iter()
            .any(|m| server.has_name_of(m) || server.is_at(m))
    };
    let lives = |server: &Server| {
        alive
            .iter()
            .any(|m| server.has_name_of(m) || server.is_at(m))
    };
    let fed = servers.iter().any(|server| knows(&server));
    let dead = |server: &&&Server| !server.is_in_maintenance() && !lives(server);
    let dead: Vec<&[u8]> = servers
        .iter()
        .filter(dead)
        .map(|server| server.name.as_bytes())
        .collect();
    (fed && !dead.is_empty()).then(|| {
        Finding::new(
            format!("servers of backend {backend} that no living member has: {}", names(dead)),
            "`serf-haproxy status` says why they stay; those of no member at all are lines of another hand",
        )
    })
}

/// Living members whose server takes no requests, for HAProxy's check or for maintenance.
fn not_up(backend: &str, servers: &[&Server], alive: &[&Member]) -> Vec<Finding> {
    let by_name = |server: &Server| alive.iter().find(|m| server.has_name_of(m));
    let by_addr = |server: &Server| alive.iter().find(|m| server.is_at(m));
    let mut findings = Vec::new();
    let down: Vec<String> = servers
        .iter()
        .filter(|server| server.status.starts_with("DOWN"))
        .filter(|server| by_name(server).or_else(|| by_addr(server)).is_some())
        .map(|server| match &*server.check {
            "" => server.name.clone(),
            check => format!("{} ({check})", server.name),
        })
        .collect();
    if !down.is_empty() {
        let all = if servers.iter().any(|server| server.is_up()) {
            ""
        } else {
            ", and nobody else is up there"
        };
        findings.push(Finding::new(
            format!(
                "alive, but down in backend {backend}{all}: {}",
                names(down.iter().map(String::as_bytes))
            ),
            "HAProxy's check fails where Serf's agent answers: look at the web server itself, from this host, and at \
             firewalls between them",
        ));
    }
    let held: Vec<&[u8]> = servers
        .iter()
        .filter(|server| server.is_in_maintenance())
        .filter(|server| by_name(server).is_some_and(|member| member.tag(STATE).is_none()))
        .map(|server| server.name.as_bytes())
        .collect();
    if !held.is_empty() {
        findings.push(Finding::new(
            format!(
                "alive, but in maintenance in backend {backend}: {}",
                names(held)
            ),
            "`serf-haproxy status` says what they wait for, or who took them out",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROC: &str = "#<PID>          <type>          <reloads>       <uptime>        <version>       \n\
        39              master          2 [failed: 0]   0d00h00m03s     3.0.11-1\n# workers\n\
        50              worker          0               0d00h00m03s     3.0.11-1\n# old workers\n\
        48              worker          1               0d00h00m03s     3.0.11-1\n# programs\n\n";

    fn table(rows: &str) -> String {
        format!("# pxname,svname,status,check_status,check_desc,addr,\n{rows}\n")
    }

    fn member(name: &str, last: u8, status: MemberStatus) -> Member {
        let member = Member::builder(name).addr([10, 0, 0, last].into(), 7946);
        member.status(status).tag(ROLE, "web").build()
    }

    #[test]
    fn the_master_tells_of_old_workers_and_nobody_else() {
        assert_eq!(old_workers(PROC), Some(1));
        assert_eq!(old_workers("Unknown command: 'show proc'"), None);
        assert_eq!(piling_up(1), None);
        assert!(piling_up(3).is_some());
    }

    #[test]
    fn a_table_is_read_by_its_head_and_quotes_hold_commas() {
        let stat = table(
            "web,a,UP,L7OK,\"OK, really\",10.0.0.1:80,\nweb,b,DOWN 1/2,L4CON,,[2001:db8::1]:80,",
        );
        let servers = servers(&stat).unwrap();
        assert_eq!(servers[0].addr, Some([10, 0, 0, 1].into()));
        assert!(servers[0].is_up() && !servers[1].is_up());
        assert_eq!(servers[1].addr, Some("2001:db8::1".parse().unwrap()));
        assert_eq!(super::servers("Permission denied\n"), None);
        assert_eq!(super::servers(""), None);
    }

    #[test]
    fn what_does_not_fit_together_is_told() {
        use MemberStatus::{Alive, Failed};
        let members = [
            member("a", 1, Alive),
            member("b", 2, Alive),
            member("c", 3, Failed),
            member("new", 4, Alive),
            member("held", 5, Alive),
            Member::builder("db").tag(ROLE, "db").build(),
        ];
        let stat = table(
            "web,a,UP,L7OK,,10.0.0.1:80,\nweb,b,DOWN,L4CON,,10.0.0.2:80,\nweb,c,no check,,,10.0.0.3:80,\n\
             web,held,MAINT,,,10.0.0.5:80,\nweb,gone,MAINT,,,10.0.0.9:80,\nsorry,page,UP,,,10.9.9.9:80,",
        );
        let texts: Vec<String> = of(&servers(&stat).unwrap(), &members)
            .into_iter()
            .map(|finding| finding.0)
            .collect();
        assert_eq!(
            texts,
            [
                "alive, and no server of HAProxy: new",
                "servers of backend web that no living member has: c",
                "alive, but down in backend web: b (L4CON)",
                "alive, but in maintenance in backend web: held",
            ]
        );
    }

    #[test]
    fn what_fits_together_is_not_spoken_of() {
        use MemberStatus::{Alive, Left};
        let members = [member("a", 1, Alive), member("gone", 9, Left)];
        // Under another name at the same address it is the same web server.
        let stat = table("web,old,UP,,,10.0.0.1:80,\nweb,gone,MAINT,,,10.0.0.9:80,");
        assert_eq!(of(&servers(&stat).unwrap(), &members), []);
    }

    #[test]
    fn a_haproxy_of_others_is_told_and_nobody_up_too() {
        use MemberStatus::Alive;
        let members = [member("a", 1, Alive), member("b", 2, Alive)];
        let others = of(&servers(&table("x,y,UP,,,10.9.9.9:80,")).unwrap(), &members);
        assert!(
            others[0].0.starts_with("none of HAProxy's 1 servers"),
            "{others:?}"
        );
        let down = table("web,a,DOWN,L4TOUT,,10.0.0.1:80,\nweb,b,DOWN,L4TOUT,,10.0.0.2:80,");
        let down = of(&servers(&down).unwrap(), &members);
        assert!(
            down[0].0.contains("nobody else is up there: a (L4TOUT), b"),
            "{down:?}"
        );
    }

    #[tokio::test]
    async fn a_socket_that_does_not_answer_is_told() {
        let dir = std::env::temp_dir().join(format!("serfctl-{}", std::process::id()));
        let (summary, findings) = look(&dir, Duration::from_secs(1), &[]).await;
        assert_eq!(summary, None);
        assert!(
            findings[0].0.contains("is not read: No such file"),
            "{findings:?}"
        );
    }
}
