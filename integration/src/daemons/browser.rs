//! A browser, Debian's Chromium without a window: a page in, what a person would see of it out.
//!
//! It is spoken to by the DevTools protocol over two named pipes (`--remote-debugging-pipe`): JSON, each message ended by a
//! zero byte.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::environment::TestEnv;
use crate::environment::process::Process;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nothing is looked for beyond the loopback.
const ARGS: &str = "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
                    --disable-component-update --disable-default-apps --disable-sync --disable-extensions --hide-scrollbars \
                    --disable-dev-shm-usage --remote-debugging-pipe";

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    _process: Process,
    commands: pipe::Sender,
    answers: BufReader<pipe::Receiver>,
    session: Option<String>,
    last: u64,
    /// What the console was told to be wrong, and what scripts have thrown.
    complaints: Vec<String>,
}

impl Browser {
    /// Starts one with an empty page.
    ///
    /// # Errors
    /// When there is none, or it does not answer.
    pub async fn start(lab: &TestEnv) -> Result<Self> {
        let (to, from) = (lab.path("browser.in"), lab.path("browser.out"));
        for path in [&to, &from] {
            ensure!(Command::new("mkfifo").arg(path).status()?.success());
        }
        // Both ways at once, as nobody has the other end yet.
        let commands = pipe::OpenOptions::new().read_write(true).open_sender(&to)?;
        let answers = pipe::OpenOptions::new()
            .read_write(true)
            .open_receiver(&from)?;
        let mut command = Command::new("sh");
        let profile = lab.path("browser");
        command.args([
            "-c",
            &format!("exec chromium {ARGS} --user-data-dir=\"$1\" about:blank 3<\"$2\" 4>\"$3\""),
            "sh",
        ]);
        command.arg(&profile).arg(&to).arg(&from);
        command.env("HOME", lab.dir());
        let process = Process::start("chromium", &command, lab.path("browser.log"))?;
        let mut browser = Self {
            _process: process,
            commands,
            answers: BufReader::new(answers),
            session: None,
            last: 0,
            complaints: Vec::new(),
        };
        let target = json!({"url": "about:blank"});
        let target = browser.call("Target.createTarget", target).await?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach).await?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({})).await?;
        }
        Ok(browser)
    }

    /// Sends a command of the protocol, and gives what comes back.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.commands.write_all(&bytes).await?;
        let answer = timeout(PATIENCE, self.answer());
        let answer = answer.await.with_context(|| format!("{method} hangs"))??;
        if let Some(error) = answer.get("error") {
            bail!("{method}: {error}");
        }
        Ok(answer["result"].clone())
    }

    async fn answer(&mut self) -> Result<Value> {
        loop {
            let mut bytes = Vec::new();
            self.answers.read_until(0, &mut bytes).await?;
            bytes.pop();
            let message: Value = serde_json::from_slice(&bytes)?;
            if message["id"] == self.last {
                return Ok(message);
            }
            let params = &message["params"];
            let is_bad = match message["method"].as_str() {
                Some("Runtime.exceptionThrown") => true,
                Some("Runtime.consoleAPICalled") => params["type"] == "error",
                Some("Log.entryAdded") => params["entry"]["level"] == "error",
                Some("Page.javascriptDialogOpening") => true,
                _ => false,
            };
            if is_bad {
                self.complaints.push(params.to_string());
            }
        }
    }

    /// What the console was told to be wrong since this was asked for last.
    pub fn complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.complaints)
    }

    /// Loads a page.
    ///
    /// # Errors
    /// When it does not load.
    pub async fn open(&mut self, url: &str) -> Result<()> {
        let opened = self.call("Page.navigate", json!({ "url": url })).await?;
        ensure!(opened.get("errorText").is_none(), "{url}: {opened}");
        let loaded = async {
            while self.value("document.readyState").await? != "complete" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, loaded).await.context("does not load")?
    }

    /// The value of an expression in the page.
    ///
    /// # Errors
    /// When it throws.
    pub async fn value(&mut self, expression: &str) -> Result<Value> {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let found = self.call("Runtime.evaluate", params).await?;
        let thrown = found.get("exceptionDetails");
        ensure!(thrown.is_none(), "{expression}: {thrown:?}");
        Ok(found["result"]["value"].clone())
    }

    /// Waits until an expression in the page is true.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn shows(&mut self, expression: &str) -> Result<()> {
        let shown = async {
            while self.value(expression).await? != true {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            anyhow::Ok(())
        };
        let shown = timeout(PATIENCE, shown).await;
        shown.with_context(|| format!("never: {expression}"))?
    }

    /// Presses a key: `Tab`, `Enter`.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn press(&mut self, key: &str) -> Result<()> {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            _ => bail!("no key {key}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut params =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                params["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", params).await?;
        }
        Ok(())
    }

    /// Looks at it in a window of this size, or on a phone; and dark or light.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn look(
        &mut self,
        width: u32,
        height: u32,
        is_phone: bool,
        is_dark: bool,
    ) -> Result<()> {
        let params = json!({"width": width, "height": height, "deviceScaleFactor": if is_phone {2} else {1}, "mobile": is_phone});
        self.call("Emulation.setDeviceMetricsOverride", params)
            .await?;
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )
        .await
        .map(drop)
    }

    /// Lets no script of pages run, or lets them again; for pages that are opened from now on.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn without_scripts(&mut self, yes: bool) -> Result<()> {
        let params = json!({ "value": yes });
        let done = self.call("Emulation.setScriptExecutionDisabled", params);
        done.await.map(drop)
    }

    /// Takes a picture of what is in the window, as PNG where the path says so, else as WebP.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn picture(&mut self, path: &Path) -> Result<()> {
        let params = if path.extension().is_some_and(|it| it == "png") {
            json!({"format": "png"})
        } else {
            json!({"format": "webp", "quality": 60})
        };
        let taken = self.call("Page.captureScreenshot", params).await?;
        let data = taken["data"].as_str().context("no picture")?;
        fs::write(
            path,
            base64::Engine::decode(&base64::prelude::BASE64_STANDARD, data)?,
        )?;
        Ok(())
    }
}
