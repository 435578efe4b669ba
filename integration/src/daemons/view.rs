//! How HAProxy itself sees its servers, in words that two configurations can be compared by: `show servers state` and
//! `show stat` in, a line for each server out.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::daemons::haproxy::Haproxy;

/// Columns of `show servers state` that say what a server is, and not since when or under which number.
const STATE: [&str; 12] = [
    "srv_addr",
    "srv_port",
    "srv_op_state",
    "srv_uweight",
    "srv_iweight",
    "srv_fqdn",
    "srvrecord",
    "srv_use_ssl",
    "srv_check_port",
    "srv_check_addr",
    "srv_agent_addr",
    "srv_agent_port",
];

/// Those of `show stat`.
const STAT: [&str; 7] = [
    "cookie",
    "act",
    "bck",
    "slim",
    "qlimit",
    "check_rise",
    "check_fall",
];

/// What a server looks like from outside, by column.
pub type Seen = BTreeMap<String, String>;

/// Every server of all backends, as `backend/server`, with what HAProxy says of it.
///
/// # Errors
/// When it does not answer.
pub async fn servers(haproxy: &Haproxy) -> Result<BTreeMap<String, Seen>> {
    let state = haproxy.command("show servers state").await?;
    let mut view = table(&state, "srv_name", &STATE);
    ensure!(!view.is_empty(), "no servers in {state:?}");
    for seen in view.values_mut() {
        // of the bits those that say what is wanted: maint and drain (`admin_state` of HAProxy's Management Guide)
        let admin = seen.remove("srv_admin_state").unwrap_or_default();
        let admin: u32 = admin.parse().unwrap_or_default();
        seen.insert("admin".to_owned(), (admin & 0b1001).to_string());
    }
    for line in haproxy.stat().await? {
        let key = format!("{}/{}", line.get("pxname"), line.get("svname"));
        if let Some(seen) = view.get_mut(&key) {
            seen.extend(STAT.map(|column| (column.to_owned(), line.get(column).to_owned())));
        }
    }
    Ok(view)
}

/// A table with a header line that starts with `# `: some columns of each row, by `backend/server`.
#[must_use]
pub fn table(text: &str, name: &str, columns: &[&str]) -> BTreeMap<String, Seen> {
    let mut names: Vec<&str> = Vec::new();
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        if let Some(header) = line.strip_prefix("# ") {
            names = header.split(' ').collect();
            continue;
        }
        let words: Vec<&str> = line.split(' ').collect();
        let word = |column: &str| {
            let at = names.iter().position(|name| *name == column)?;
            words.get(at).map(|word| (*word).to_owned())
        };
        let Some(key) = word(name) else { continue };
        let key = if key.contains('/') {
            key
        } else {
            format!("{}/{key}", word("be_name").unwrap_or_default())
        };
        let columns = columns.iter().chain(&["srv_admin_state"]);
        let row = columns.filter_map(|column| Some(((*column).to_owned(), word(column)?)));
        rows.insert(key, row.collect());
    }
    rows
}
