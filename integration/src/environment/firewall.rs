//! Packets that get lost: addresses go in, and nothing reaches or leaves them any more (nftables).

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::environment::TestEnv;

/// Rules of one test's own, gone when dropped. They hold for loopback as for any network: a packet is lost without a
/// word, unlike one to a closed port.
#[derive(Debug)]
pub struct Firewall {
    table: String,
}

impl Firewall {
    /// Lets everything pass yet.
    ///
    /// # Errors
    /// Without the right to set rules.
    pub fn new(lab: &TestEnv) -> Result<Self> {
        let [_, second, third, _] = lab.net().ip(1).octets();
        let firewall = Self {
            table: format!("lab_{second}_{third}"),
        };
        firewall.heal()?;
        Ok(firewall)
    }

    /// Whether rules can be set here; why not, if not.
    #[must_use]
    pub fn missing() -> Option<String> {
        let list = Command::new("nft").args(["list", "tables"]).output();
        match list {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(format!(
                "nft: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
            Err(_) => Some("nft not found".to_owned()),
        }
    }

    /// Loses everything to and from these addresses.
    ///
    /// # Errors
    /// When the rules are refused.
    pub fn isolate(&self, these: &[Ipv4Addr]) -> Result<()> {
        let these = set(these);
        // On their way in: a packet that is dropped on its way out is an error to its sender.
        let lost = format!("ip saddr {these} drop\nip daddr {these} drop\n");
        self.rules("input", &lost)
    }

    /// Loses everything to and from these addresses, and counts the connections that processes of this group try to
    /// open to them.
    ///
    /// # Errors
    /// When the rules are refused.
    pub fn isolate_counting(&self, these: &[Ipv4Addr], group: u32) -> Result<()> {
        let these = set(these);
        let lost = format!("ip saddr {these} drop\nip daddr {these} drop\n");
        let syn = "tcp flags & (syn | ack) == syn";
        let counted = format!("meta skgid {group} ip daddr {these} {syn} counter\n");
        self.chains(&[("input", &lost), ("output", &counted)])
    }

    /// How many connections [`Firewall::isolate_counting`] has counted; a packet that is sent again counts again.
    ///
    /// # Errors
    /// When the rules cannot be read.
    pub fn counted(&self) -> Result<u64> {
        let chain = ["list", "chain", "inet", &self.table, "output"];
        let output = Command::new("nft").args(chain).output()?;
        let text = String::from_utf8(output.stdout)?;
        let count = text.split_once("packets ");
        let count = count.and_then(|(_, rest)| rest.split_whitespace().next());
        count
            .and_then(|count| count.parse().ok())
            .with_context(|| text.clone())
    }

    /// Loses what processes of this group send to this port.
    ///
    /// # Errors
    /// When the rules are refused.
    pub fn silence_group(&self, group: u32, port: u16) -> Result<()> {
        self.rules(
            "output",
            &format!("meta skgid {group} tcp dport {port} drop\n"),
        )
    }

    /// Lets everything pass again.
    ///
    /// # Errors
    /// When the rules are refused.
    pub fn heal(&self) -> Result<()> {
        self.rules("input", "")
    }

    fn rules(&self, hook: &str, rules: &str) -> Result<()> {
        self.chains(&[(hook, rules)])
    }

    fn chains(&self, chains: &[(&str, &str)]) -> Result<()> {
        let table = &self.table;
        let chain = |(hook, rules): &(&str, &str)| {
            format!("chain {hook} {{ type filter hook {hook} priority 0\n{rules}}}\n")
        };
        let chains: String = chains.iter().map(chain).collect();
        nft(&format!(
            "table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n{chains}}}\n"
        ))
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        // Without it the table stays, and catches nobody: the next test on this network replaces it.
        let _ = nft(&format!("delete table inet {}\n", self.table));
    }
}

fn set(addresses: &[Ipv4Addr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!("{{ {} }}", addresses.join(", "))
}

fn nft(script: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("nft")?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    stdin.write_all(script.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft: {complaint}\n{script}");
    Ok(())
}
