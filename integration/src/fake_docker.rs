//! A Docker that is told what runs in it: `GET /version`, `/events` and `/containers/json` over a unix socket.
//!
//! For what a real one cannot be made to do at will: events that are lost, lists that are old, two hundred containers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

/// Events that it remembers, as Docker does.
const REMEMBERED: usize = 256;

/// The running fake; its socket goes when it does.
#[derive(Debug)]
pub struct FakeDocker {
    path: PathBuf,
    inner: Arc<Mutex<Inner>>,
    listening: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Inner {
    containers: BTreeMap<String, Value>,
    past: Vec<Value>,
    live: broadcast::Sender<Option<Value>>,
    is_mute: bool,
    lists: u64,
    refuses: Vec<String>,
}

impl FakeDocker {
    /// Listens there.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(path: &Path) -> Result<Self> {
        let inner = Inner {
            containers: BTreeMap::new(),
            past: Vec::new(),
            live: broadcast::channel(4096).0,
            is_mute: false,
            lists: 0,
            refuses: Vec::new(),
        };
        let mut docker = Self {
            path: path.to_owned(),
            inner: Arc::new(Mutex::new(inner)),
            listening: None,
        };
        docker.comes_back()?;
        Ok(docker)
    }

    /// Its socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a container with these labels, its port 80 published at `port` of all addresses.
    pub fn run(&self, name: &str, labels: &[(&str, &str)], port: u16) {
        let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
        let container = json!({
            "Id": id(name), "Names": [format!("/{name}")], "Image": "web", "ImageID": "", "Command": "web",
            "Created": 1_700_000_000 + i64::from(port), "Labels": labels, "State": "running", "Status": "Up 1 second",
            "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": port, "Type": "tcp"}],
            "HostConfig": {"NetworkMode": "default"},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}}, "Mounts": [],
        });
        self.lock().containers.insert(id(name), container);
        self.event(name, "start", &[]);
    }

    /// Changes what is listed of a container.
    pub fn set(&self, name: &str, key: &str, value: &str) {
        if let Some(container) = self.lock().containers.get_mut(&id(name)) {
            container[key] = json!(value);
        }
    }

    /// Sends it a signal, as `docker stop` does first.
    pub fn signal(&self, name: &str, signal: u8) {
        self.event(name, "kill", &[("signal", &signal.to_string())]);
    }

    /// It ends.
    pub fn ends(&self, name: &str) {
        self.lock().containers.remove(&id(name));
        self.event(name, "die", &[]);
    }

    /// Its check has come to something.
    pub fn health(&self, name: &str, health: &str) {
        self.set(name, "Status", &format!("Up 1 second ({health})"));
        self.event(name, &format!("health_status: {health}"), &[]);
    }

    /// Something happens to a container.
    pub fn event(&self, name: &str, action: &str, attributes: &[(&str, &str)]) {
        let mut inner = self.lock();
        let attributes: BTreeMap<&str, &str> = attributes.iter().copied().collect();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let event = json!({
            "Type": "container", "Action": action, "Actor": {"ID": id(name), "Attributes": attributes},
            "scope": "local", "time": now.as_secs(), "timeNano": u64::try_from(now.as_nanos()).unwrap_or_default(),
        });
        if inner.is_mute {
            return;
        }
        inner.past.push(event.clone());
        if inner.past.len() > REMEMBERED {
            inner.past.remove(0);
        }
        // Nobody may be listening.
        let _ = inner.live.send(Some(event));
    }

    /// Events are lost from now on, or not any more.
    pub fn is_mute(&self, is_mute: bool) {
        self.lock().is_mute = is_mute;
    }

    /// Answers these paths with 403, as a proxy does.
    pub fn refuses(&self, paths: &[&str]) {
        self.lock().refuses = paths.iter().map(ToString::to_string).collect();
    }

    /// How often its containers were listed.
    #[must_use]
    pub fn lists(&self) -> u64 {
        self.lock().lists
    }

    /// Its socket goes, and every connection with it.
    pub fn goes_away(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
        let _ = fs::remove_file(&self.path);
        let _ = self.lock().live.send(None);
    }

    /// Its socket is there again.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn comes_back(&mut self) -> Result<()> {
        let listener = UnixListener::bind(&self.path)?;
        let inner = Arc::clone(&self.inner);
        self.listening = Some(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let inner = Arc::clone(&inner);
                tokio::spawn(async move { answer(stream, &inner).await });
            }
        }));
        Ok(())
    }
}

impl Drop for FakeDocker {
    fn drop(&mut self) {
        self.goes_away();
    }
}

/// 64 digits, as Docker has them.
fn id(name: &str) -> String {
    let mut id = String::new();
    for byte in name.bytes() {
        let _ = write!(id, "{byte:02x}");
    }
    format!("{id:0<64.64}")
}

async fn answer(mut stream: UnixStream, inner: &Mutex<Inner>) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    // `/v1.41/events`
    let path = path
        .trim_start_matches('/')
        .split_once('/')
        .map_or(
            path,
            |(first, rest)| {
                if first.starts_with('v') { rest } else { path }
            },
        );
    let lock = || inner.lock().unwrap_or_else(PoisonError::into_inner);
    let path = path.trim_start_matches('/');
    if lock().refuses.iter().any(|refused| refused == path) {
        return reply(&mut stream, "403 Forbidden", "{\"message\":\"refused\"}").await;
    }
    match path {
        "version" => {
            reply(
                &mut stream,
                "200 OK",
                "{\"ApiVersion\":\"1.41\",\"MinAPIVersion\":\"1.12\"}",
            )
            .await
        }
        "containers/json" => {
            let body = {
                let mut inner = lock();
                inner.lists += 1;
                serde_json::to_string(&inner.containers.values().collect::<Vec<_>>())?
            };
            reply(&mut stream, "200 OK", &body).await
        }
        "events" => {
            let number = |name: &str| {
                let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                let mut values = pairs
                    .filter(|(key, _)| *key == name)
                    .map(|(_, value)| value);
                values.next().and_then(|value| value.parse::<u64>().ok())
            };
            let (past, live) = {
                let inner = lock();
                (inner.past.clone(), inner.live.subscribe())
            };
            let (since, until) = (number("since").unwrap_or(u64::MAX), number("until"));
            let at = |event: &Value| event["time"].as_u64().unwrap_or_default();
            let past = past.into_iter().filter(|event| at(event) >= since);
            let past = past.filter(|event| until.is_none_or(|until| at(event) <= until));
            events(stream, past.collect(), live, until.is_some()).await
        }
        _ => {
            reply(
                &mut stream,
                "404 Not Found",
                "{\"message\":\"page not found\"}",
            )
            .await
        }
    }
}

async fn reply(stream: &mut UnixStream, status: &str, body: &str) -> Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

async fn events(
    mut stream: UnixStream,
    past: Vec<Value>,
    mut live: broadcast::Receiver<Option<Value>>,
    ends: bool,
) -> Result<()> {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    for event in past {
        chunk(&mut stream, &event).await?;
    }
    if !ends {
        let mut gone = [0];
        loop {
            tokio::select! {
                event = live.recv() => match event? {
                    Some(event) => chunk(&mut stream, &event).await?,
                    // It goes away in the midst of it.
                    None => return Ok(()),
                },
                _ = stream.read(&mut gone) => return Ok(()),
            }
        }
    }
    stream.write_all(b"0\r\n\r\n").await?;
    Ok(stream.shutdown().await?)
}

async fn chunk(stream: &mut UnixStream, event: &Value) -> Result<()> {
    let line = format!("{event}\n");
    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
    Ok(stream.write_all(chunk.as_bytes()).await?)
}
